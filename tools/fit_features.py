"""Fits the constants of the default features of scores: src/kyara/perception/features.safetensors.

    python tools/fit_features.py anime.zip tagged.zip busts.zip characters.zip photos.zip bodies.zip

Every dataset is one kind of pictures. Run it again whenever builtin:tagger or builtin:distortion changes; all scores
change with it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import tyro
from safetensors.torch import save_file
from tqdm import tqdm

from kyara.files.dataset import open_dataset
from kyara.files.pictures import to_float
from kyara.perception.features import CONSTANTS, Summaries

BATCH = 50


def fit(
    data: tyro.conf.Positional[tuple[Path, ...]], count: int = 500, dimension: int = 256, out: Path = CONSTANTS
) -> None:
    """Fits the constants.

    Args:
        data: A dataset for each kind of pictures.
        count: Number of pictures of each.
        dimension: Number of principal components.
        out: The file to write.
    """
    torch.manual_seed(0)
    network = Summaries(torch.device("cpu"))
    height, width = network.size
    kinds = []
    for path in data:
        dataset = open_dataset(path)
        chosen = np.random.RandomState(0).permutation(len(dataset))[:count]
        pictures = tqdm(dataset.decode(chosen.tolist(), width, height), desc=path.name, total=len(chosen))
        floats = to_float(np.stack(list(pictures)))
        with torch.inference_mode():
            kinds.append(torch.cat([network(part) for part in floats.split(BATCH)]).double())
    mean = torch.cat(kinds).mean(0)
    centred = torch.cat([kind - kind.mean(0) for kind in kinds])  # differences between kinds do not count
    deviation = centred.std(0) + 1e-6
    values, vectors = torch.linalg.eigh(torch.cov((centred / deviation).T))  # ascending
    projection = vectors[:, -dimension:].flip(1) / deviation[:, None]
    print(f"{len(centred)} pictures; {dimension} of {len(values)} components have "
          f"{values[-dimension:].sum() / values.sum():.1%} of the variance")  # fmt: skip
    save_file({"mean": mean.float(), "projection": projection.half().contiguous()}, out)


if __name__ == "__main__":
    tyro.cli(fit)
