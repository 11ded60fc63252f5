r"""Six ways to turn the same people into drawings: how much of a person each keeps, and how drawn the result is.

    kyara translate builtin:cartoon people.zip --side 512 --out drawn/cartoon
    kyara translate runs/munit people.zip --out drawn/munit                        (and so on)
    kyara avatar people.zip --aligned --out drawn/avatar
    python benchmarks/translators.py measure people.zip drawn/* --labels labels.csv --photos photos.zip \
        --drawings drawings.zip
    python benchmarks/translators.py show people.zip drawn/* --out sheet.jpg

`people.zip` contains aligned, held-out photos; `labels.csv` their gender and hair (file_name as in the archive);
`photos.zip` and `drawings.zip` other ones, which say what photos and drawings look like. Each other folder is a Gallery
of one method. Everything is compared at 64 pixels.

Kept: a person is found again among four, from the drawing, by distances between photos and drawings after each set's
mean is subtracted, in the embedding of builtin:tagger, and by edges (munit.py). The gender is read in the drawing by
builtin:photo-traits and the colour of the hair by builtin:tagger; the row of the photos shows how well.

Drawn: the share of pictures that a linear classifier takes for drawings (ridge regression on features of the stages of
builtin:tagger, from `photos.zip` and `drawings.zip`), and the Fréchet distance to `drawings.zip` in these features,
which with so few pictures compares methods only among themselves. Intervals are 95 %, by bootstrap over people.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import tyro
from avatar import interval, ranks
from common import machine, print_table, run
from munit import centred, edges
from torch import Tensor

from kyara.files.dataset import open_dataset
from kyara.files.gallery import read_gallery
from kyara.files.pictures import center_crop, decode, encode_jpeg, sheet, to_float, to_uint8
from kyara.labels.tagger import Tagger, load_tagger
from kyara.nn.losses import frechet
from kyara.perception.features import load_backbone, stage_means

SIDE, SHOWN = 64, 96
"""Side in pixels at which pictures are compared, and at which they are shown."""
PHOTOS = "the photos"
RIDGE, QUALITY = 10.0, 88
HAIR = {"red": ("red", "orange"), "gray": ("gray", "white")}
"""Colour of a person's hair -> those of drawings that keep it, if not the same alone."""
CPU = torch.device("cpu")


@torch.inference_mode()
def measure(
    people: tyro.conf.Positional[Path],
    methods: tyro.conf.Positional[list[Path]],
    *,
    labels: Path,
    photos: Path,
    drawings: Path,
    count: int = 400,
) -> None:
    """Prints a row for the photos and for each method.

    Args:
        people: Aligned, held-out photos.
        methods: Galleries of drawings of them.
        labels: Table with the columns file_name, gender and hair.
        photos: Other photos.
        drawings: Drawings, of the kinds that the methods draw.
        count: Number of the other photos, and of drawings.
    """
    dataset = open_dataset(people)
    with labels.open(newline="") as file:
        known = {row["file_name"]: row for row in csv.DictReader(file)}
    truth = [known[name] for name in dataset.names]
    made = {name: fitted(pictures, SIDE) for name, pictures in both(people, methods).items()}
    judge = Judge(some(photos, count), some(drawings, count))
    print(machine())
    print_table({name: judge.row(pictures, made[PHOTOS], truth) for name, pictures in made.items()})


def show(people: tyro.conf.Positional[Path], methods: tyro.conf.Positional[list[Path]], *, out: Path) -> None:
    """Writes a picture (JPEG) with a row for the photos, and one for each method.

    Args:
        people: Aligned photos.
        methods: Galleries of drawings of them.
        out: The picture.
    """
    rows = [fitted(pictures, SHOWN) for pictures in both(people, methods).values()]
    out.write_bytes(encode_jpeg(sheet(to_uint8(torch.cat(rows)), len(rows[0])), QUALITY))
    print(f"{out}: {', '.join([PHOTOS, *(path.name for path in methods)])}, a row each")


def both(people: Path, methods: Sequence[Path]) -> dict[str, list[np.ndarray]]:
    """The photos and the drawings of each method, by name."""
    dataset = open_dataset(people)
    photos = [dataset.picture(i) for i in range(len(dataset))]
    return {PHOTOS: photos} | {path.name: in_order(path, dataset.names) for path in methods}


def in_order(gallery: Path, names: Sequence[str]) -> list[np.ndarray]:
    """The drawings of a Gallery in the order of the people: the first of each. ValueError if one is missing."""
    first: dict[str, str] = {}
    for row in read_gallery(gallery):
        first.setdefault(Path(row["source"]).name, row["file_name"])
    if missing := [name for name in names if Path(name).name not in first]:
        raise ValueError(f"{gallery}: has no drawing of {missing[0]}")
    return [decode(gallery / first[Path(name).name]) for name in names]


def fitted(pictures: Sequence[np.ndarray], side: int) -> Tensor:
    return to_float(np.stack([center_crop(picture, side, side) for picture in pictures]))


def some(path: Path, count: int) -> Tensor:
    """Random pictures of a dataset, (N, 3, SIDE, SIDE)."""
    dataset = open_dataset(path)
    chosen = np.random.RandomState(0).permutation(len(dataset))[:count].tolist()
    return to_float(np.stack([*dataset.decode(chosen, SIDE, SIDE)]))


class Judge:
    """The measures, fitted to photos and drawings (N, 3, SIDE, SIDE)."""

    def __init__(self, photos: Tensor, drawings: Tensor) -> None:
        self.network = load_backbone("builtin:tagger", CPU)
        self.tagger, self.reader = load_tagger("builtin:tagger", CPU), load_tagger("builtin:photo-traits", CPU)
        sets = [self.features(pictures) for pictures in (photos, drawings)]
        self.drawings, together = sets[1], torch.cat(sets)
        self.mean, self.scale = together.mean(0), together.std(0).clamp_min(1e-6)
        sides = torch.cat([torch.full((len(one),), side) for one, side in zip(sets, (-1.0, 1.0), strict=True)])
        x = (together - self.mean) / self.scale
        self.weights = torch.linalg.solve(x.T @ x + RIDGE * torch.eye(x.shape[1]), x.T @ sides)

    def features(self, pictures: Tensor) -> Tensor:
        return torch.cat([stage_means(self.network, part, (96, 96)) for part in pictures.split(64)])

    def row(self, made: Tensor, photos: Tensor, truth: Sequence[dict[str, str]]) -> dict[str, str | float]:
        """The measures of drawings of people."""
        seen = self.features(made)
        drawn = ((seen - self.mean) / self.scale @ self.weights > 0).numpy()
        pairs = [centred(self.embed(x)) for x in (made, photos)]
        far = {"embedding": 1 - pairs[0] @ pairs[1].T}
        far["edges"] = 1 - centred(edges(made)) @ centred(edges(photos)).T
        kept = {f"among four, {name}": cell(ranks(x.numpy()) ** 3) for name, x in far.items()}
        kept["gender"] = share(read(self.reader, made, "gender"), [(row["gender"],) for row in truth])
        hair = [HAIR.get(row["hair"], (row["hair"],)) for row in truth]
        kept["hair colour"] = share(read(self.tagger, made, "hair"), hair)
        return {**kept, "taken for a drawing": cell(drawn), "Fréchet": frechet(seen, self.drawings)}

    def embed(self, pictures: Tensor) -> Tensor:
        return self.tagger.embed(fit(self.tagger, pictures))


def fit(tagger: Tagger, pictures: Tensor) -> Tensor:
    return to_float(np.stack([tagger.fit(picture) for picture in to_uint8(pictures)]))


def read(tagger: Tagger, pictures: Tensor, name: str) -> list[str]:
    """The most probable value of an attribute for each picture."""
    best = tagger.probabilities(fit(tagger, pictures))[name].argmax(1)
    return [tagger.attributes[name][i] for i in best.tolist()]


def share(found: Sequence[str], accepted: Sequence[tuple[str, ...]]) -> str:
    """Share of the people with a known value whose drawing has it."""
    hits = [value in values for value, values in zip(found, accepted, strict=True) if values not in (("",), ("other",))]
    return cell(np.array(hits))


def cell(values: np.ndarray) -> str:
    mean, low, high = interval(values.astype(float))
    return f"{mean:.2f} ({low:.2f} to {high:.2f})"


def main(arguments: list[str] | None = None) -> None:
    run({"measure": measure, "show": show}, arguments)


if __name__ == "__main__":
    main()
