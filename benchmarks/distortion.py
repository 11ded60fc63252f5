"""Accuracy of the distortion recogniser on drawings it was not trained on, and on pictures that a GAN made.

    python benchmarks/distortion.py anime-faces-96.zip --prefix-from 8 --generated generated-faces-96.zip

The drawings whose file names sort from the prefix on (the built-in recogniser was trained on the others) become the
test set: half of them are distorted, each with its own stored seed. Prints the accuracy and, for each distortion, the
mean of the share that is detected and the share of undistorted pictures that pass. With --generated, also the area
under the ROC curve of undistorted drawings against generated pictures, which the recogniser was never trained on. With
--of, the same for pictures of a generator against the same ones broken from inside (`kyara.nn.corruption`).
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
from kyara.models.distortion import BROKEN, frozen_set
from kyara.models.distortion import Model as Distortion
from kyara.nn.seeding import fixed_seed

EACH = 8  # pictures that are broken in the same way


def measure(
    drawings: tyro.conf.Positional[Path],
    prefix_from: str = "",
    generated: Path | None = None,
    model: str = "builtin:distortion",
    limit: int | None = None,
    of: str | None = None,
) -> None:
    """Prints the shares as JSON.

    Args:
        drawings: Undistorted drawings.
        prefix_from: File names of the test set sort from here on.
        generated: Pictures that a GAN made.
        model: The recogniser.
        limit: Pictures of each set, at most.
        of: Generators, with commas between them, that are broken from inside.
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
    for name in filter(None, (of or "").split(",")):
        whole, broken = (scores(pictures) for pictures in broken_pairs(name, limit or 256))
        found |= {f"{name} auroc": auroc(whole, broken), f"{name} whole passed": float((whole >= 0.5).mean())}
        found |= {f"{name} broken passed": float((broken >= 0.5).mean())}
    print(json.dumps({key: round(value, 4) for key, value in found.items()}, indent=1))


def broken_pairs(name: str, count: int) -> tuple[Tensor, Tensor]:
    """About `count` whole pictures of a generator and the same ones, visibly broken from inside, from a fixed seed."""
    settings = Distortion.default_config().replace(augment={"jitter": 0.0}, **Distortion.describe_source(name, "auto"))
    model, groups = Distortion(settings), []
    with fixed_seed(0), torch.inference_mode():
        for _ in range(-(-count // EACH)):
            pictures, classes = model.generated_pairs(
                EACH, torch.zeros(1, 3, settings.data.height, settings.data.width)
            )
            groups.append(pictures.unflatten(0, (2, EACH))[:, classes[EACH:] == BROKEN])
    whole, broken = torch.cat(groups, 1)
    return whole, broken


def auroc(higher: np.ndarray, lower: np.ndarray) -> float:
    """Probability that one of `higher` is above one of `lower`; ties count half (Mann and Whitney)."""
    ordered = np.sort(lower)
    below = np.searchsorted(ordered, higher, "left") + np.searchsorted(ordered, higher, "right")
    return float(below.mean() / 2 / len(lower))


def main(arguments: list[str] | None = None) -> None:
    run(measure, arguments)


if __name__ == "__main__":
    main()
