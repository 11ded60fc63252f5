"""Accuracy of the distortion recogniser on drawings it was not trained on, and on pictures that a GAN made.

    python benchmarks/distortion.py anime-faces-96.zip --prefix-from 8 --generated generated-faces-96.zip

The drawings whose file names sort from the prefix on (the built-in recogniser was trained on the others) become the
test set: half of them are distorted, each with its own stored seed. Prints the accuracy and, for each distortion, the
mean of the share that is detected and the share of undistorted pictures that pass. With --generated, also the area
under the ROC curve of undistorted drawings against generated pictures, which the recogniser was never trained on.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import tyro
from common import held_out, run
from torch import Tensor

from kyara import models
from kyara.curation.scoring import score
from kyara.data.distortions import DISTORTIONS
from kyara.files.dataset import Dataset, open_dataset
from kyara.files.pictures import to_float
from kyara.models.distortion import frozen_set


def measure(
    drawings: tyro.conf.Positional[Path],
    prefix_from: str = "",
    generated: Path | None = None,
    model: str = "builtin:distortion",
    limit: int | None = None,
) -> None:
    """Prints the shares as JSON.

    Args:
        drawings: Undistorted drawings.
        prefix_from: File names of the test set sort from here on.
        generated: Pictures that a GAN made.
        model: The recogniser.
        limit: Pictures of each set, at most.
    """
    recogniser = models.load(model)

    def scores(pictures: Tensor) -> np.ndarray:
        return torch.cat([score(part, recogniser) for part in pictures.split(64)]).numpy()

    def read(dataset: Dataset) -> Tensor:
        size = recogniser.config.data.width, recogniser.config.data.height
        chosen = range(len(dataset))[:limit]
        return torch.cat([to_float(picture[None]) for picture in dataset.decode(chosen, *size, workers=2)])

    everything = open_dataset(drawings)
    real = read(everything.subset(held_out(everything, prefix_from)[1]))
    pictures, distorted = frozen_set(real)
    passes, kinds = scores(pictures) >= 0.5, distorted.numpy()
    passed = passes[kinds < 0].mean()
    found = {"pictures": len(real), "accuracy": float((passes == (kinds < 0)).mean()), "whole passed": float(passed)}
    for kind, name in enumerate(DISTORTIONS):
        if (kinds == kind).any():
            detected = 1 - passes[kinds == kind].mean()
            found |= {f"{name} detected": float(detected), f"{name} accuracy": float((detected + passed) / 2)}
    if generated:
        made = read(open_dataset(generated))
        found |= {"generated": len(made), "auroc": auroc(scores(real), scores(made))}
    print(json.dumps({key: round(value, 4) for key, value in found.items()}, indent=1))


def auroc(higher: np.ndarray, lower: np.ndarray) -> float:
    """Probability that one of `higher` is above one of `lower`; ties count half (Mann and Whitney)."""
    ordered = np.sort(lower)
    below = np.searchsorted(ordered, higher, "left") + np.searchsorted(ordered, higher, "right")
    return float(below.mean() / 2 / len(lower))


def main(arguments: list[str] | None = None) -> None:
    run(measure, arguments)


if __name__ == "__main__":
    main()
