"""How good is the distortion recogniser? On drawings it never saw, and on pictures that a GAN made.

    python benchmarks/distortion.py anime-faces-96.zip --prefix-from 8 --generated generated-faces-96.zip

Of the first archive, the pictures whose file names sort at or after the prefix (the built-in recogniser was trained on
the others) become the frozen test set: half of them distorted, each by its own stored seed. Prints the accuracy,
and of each distortion the mean of what is caught and of whole pictures passed. With --generated, the area under the
ROC curve of whole drawings against pictures that a GAN made, which the recogniser was never shown.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kyara import models
from kyara.curation.rank import score
from kyara.data.distortions import DISTORTIONS
from kyara.files.dataset import Dataset, open_dataset
from kyara.files.pictures import to_float
from kyara.models.distortion import frozen_set


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("drawings", type=Path)
    parser.add_argument("--prefix-from", default="")
    parser.add_argument("--generated", type=Path)
    parser.add_argument("--model", default="builtin:distortion")
    parser.add_argument("--limit", type=int, default=10**9)
    options = parser.parse_args()
    model = models.load(options.model)

    def scores(pictures: Tensor) -> np.ndarray:
        return torch.cat([score(part, model) for part in pictures.split(64)]).numpy()

    def read(dataset: Dataset) -> Tensor:
        size = model.config.data.width, model.config.data.height
        chosen = range(min(len(dataset), options.limit))
        return torch.cat([to_float(picture[None]) for picture in dataset.decode(chosen, *size, workers=2)])

    everything = open_dataset(options.drawings)
    held = [i for i, name in enumerate(everything.names) if Path(name).name >= options.prefix_from]
    real = read(everything.subset(held))
    pictures, kinds = frozen_set(real)
    whole = scores(pictures) >= 0.5
    kinds_ = kinds.numpy()
    passed = whole[kinds_ < 0].mean()
    found = {"pictures": len(real), "accuracy": float((whole == (kinds_ < 0)).mean()), "whole passed": float(passed)}
    for kind, name in enumerate(DISTORTIONS):
        caught = 1 - whole[kinds_ == kind].mean()
        found |= {f"{name} caught": float(caught), f"{name} accuracy": float((caught + passed) / 2)}
    if options.generated:
        made = read(open_dataset(options.generated))
        found |= {"generated": len(made), "auroc": auroc(scores(real), scores(made))}
    print(json.dumps({key: round(value, 4) for key, value in found.items()}, indent=1))


def auroc(higher: np.ndarray, lower: np.ndarray) -> float:
    """Probability that one of `higher` is above one of `lower`, ties counting half (Mann and Whitney)."""
    ordered = np.sort(lower)
    below = np.searchsorted(ordered, higher, "left") + np.searchsorted(ordered, higher, "right")
    return float(below.mean() / 2 / len(lower))


if __name__ == "__main__":
    main()
