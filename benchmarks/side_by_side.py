"""Faces by a generator beside drawings of people by a translator, as Wang, Sun and Cui set out to show.

    python benchmarks/side_by_side.py runs/dcgan builtin:cartoon --drawings held-out.zip --out side-by-side.png

The people are of `builtin:photo`'s making, so that the picture can be published. Prints how far the generator's faces,
the people and the drawings of them are from `drawings` (Fréchet distance of VGG16 features, frechet.py, and of what
builtin:tagger sees), all at 64 pixels and as many of each, and what either was trained for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from frechet import features
from measure import machine
from torch import Tensor
from vgg16 import archive

from kyara import models
from kyara.evaluation import metrics
from kyara.files import checkpoint
from kyara.files.dataset import open_dataset
from kyara.files.pictures import sheet, to_float, to_uint8, write_png
from kyara.generation.sampler import load_generator
from kyara.models.base import Generator, Translator, latents
from kyara.perception.vgg16 import VGG16, read_weights

SIDE, LARGE = 64, 256
"""Pixels at which sets are compared, and at which people are drawn."""
TRUNCATION = 0.85
COLUMNS, ROWS = 8, 2
BATCH = 16
CPU = torch.device("cpu")


@torch.inference_mode()
def main(
    generator: tyro.conf.Positional[str],
    translator: tyro.conf.Positional[str],
    *,
    drawings: Path,
    count: int = 1000,
    out: Path | None = None,
) -> None:
    """Prints a row for each; writes the picture: people above, drawings of them, the generator's faces below."""
    made = torch.cat([*sampled(load_generator(generator, CPU), count, 1.0)])
    people = torch.cat([*sampled(load_generator("builtin:photo", CPU), count, TRUNCATION)])
    artist = models.load(translator)
    assert isinstance(artist, Translator)
    drawn = torch.cat([artist.translate(larger(part)).clamp(-1, 1) for part in people.split(BATCH)])
    art = open_dataset(drawings)
    chosen = np.random.RandomState(0).permutation(len(art))[:count].tolist()
    real = to_float(np.stack([*art.decode(chosen, SIDE, SIDE)]))
    sets = {
        "the people": people,
        f"{translator}, of the people": F.interpolate(drawn, SIDE, mode="bilinear", antialias=True),
        generator: made,
    }
    print(machine())
    table(sets, real, {name: effort(name) for name in (generator, translator)})
    if out:
        shown = COLUMNS * ROWS
        rows = zip(*(x.split(COLUMNS) for x in (larger(people[:shown]), drawn[:shown])), strict=True)
        pictures = torch.cat([*(x for pair in rows for x in pair), larger(made[:shown])])
        write_png(out, sheet(to_uint8(F.interpolate(pictures, LARGE // 2, mode="bilinear", antialias=True)), COLUMNS))


def sampled(network: Generator, count: int, truncation: float) -> Iterator[Tensor]:
    """Seeds 0 to `count`, (N, 3, SIDE, SIDE); what is asked for is as common as in the data."""
    for begin in range(0, count, BATCH):
        seeds = range(begin, min(begin + BATCH, count))
        yield network.sample(latents(seeds, network.z_dim), truncation=truncation, labels=network.draw(seeds))


def larger(pictures: Tensor) -> Tensor:
    return F.interpolate(pictures, LARGE, mode="bicubic").clamp(-1, 1)


def table(sets: dict[str, Tensor], real: Tensor, trained: dict[str, str]) -> None:
    vgg16, tagger = VGG16(read_weights(archive())), models.load("builtin:tagger")

    def see(pictures: Tensor) -> list[tuple[np.ndarray, np.ndarray]]:
        embedded = torch.cat([tagger.embed(part) for part in pictures.split(BATCH)]).numpy()
        return [metrics.statistics(found) for found in (features(iter(to_uint8(pictures)), vgg16), embedded)]

    wanted = see(real)
    print("| | Fréchet, VGG16 | Fréchet, embedding of builtin:tagger | trained for |\n|---|---|---|---|")
    for name, pictures in sets.items():
        distances = [metrics.frechet(a, b) for a, b in zip(see(pictures), wanted, strict=True)]
        print(f"| {name} | {distances[0]:.4g} | {distances[1]:.3g} | {trained.get(name.split(',')[0], '')} |")


def effort(name: str) -> str:
    """What a checkpoint says of its training."""
    found = checkpoint.read(name).about
    return f"{found['kimg']:g} thousand pictures of {found['data']['name']}"


if __name__ == "__main__":
    tyro.cli(main)
