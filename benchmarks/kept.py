"""How many traits of people `kyara avatar` keeps: labels with which characters were drawn, beside those of the photos.

    kyara avatar photos.zip --out people
    python benchmarks/kept.py people labels.csv

`labels.csv` has the true values: file_name as in the photos, the columns of `builtin:photo-traits`, and source, which
divides the results. Glasses of any kind are one value, and a mouth is open or closed. Whether the mouth of a drawing is
open is measured in it (`proposals.mouth`); everything else is the label that the generator was given, not what a person
sees. Intervals are 95 % (Wilson)."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common import print_table, run
from tyro.conf import Positional

from kyara.files.gallery import read_gallery
from kyara.files.pictures import decode
from kyara.inversion.proposals import CLOSED, OPEN, find, mouth
from kyara.inversion.reading import OPEN_MOUTHS, VALUES

TRAITS = ("gender", "glasses", "hair", "hair_length", "skin")
OPENED = (CLOSED + OPEN) / 2  # share of `proposals.mouth` from which a mouth counts as open

Row = dict[str, str]


def kept(people: Positional[Path], labels: Positional[Path]) -> None:
    """Prints the share of people of whom each trait is kept, in all and by source."""
    with labels.open(newline="") as file:
        truth = {row["file_name"]: row for row in csv.DictReader(file)}
    pairs = [(row, truth[Path(row["source"]).name]) for row in read_gallery(people)]
    groups = {"all": pairs} | {
        name: [pair for pair in pairs if pair[1]["source"] == name] for name in sorted({t["source"] for _, t in pairs})
    }
    tests: dict[str, Callable[[Row, Row], bool | None]] = {name: _same(name) for name in TRAITS}
    tests["mouth"] = lambda drawn, true: _mouth(people / drawn["file_name"]) == (true["mouth"] in OPEN_MOUTHS)
    table = {
        name: {group: _share([test(*pair) for pair in members]) for group, members in groups.items()}
        for name, test in tests.items()
    }
    print_table(table)


def _same(name: str) -> Callable[[Row, Row], bool | None]:
    def same(drawn: Row, true: Row) -> bool | None:
        value = true[name]
        if value in ("", "other", "unsure", "bald") and name != "hair_length":
            return None
        if not value:
            return None
        if name == "glasses":
            return (drawn[name] != "none") == (value != "none")
        return drawn[name] in (*VALUES.get((name, value), ()), value) or (drawn[name], value) == ("gray", "white")

    return same


def _mouth(path: Path) -> bool:
    picture = decode(path)
    return mouth(picture, find(picture[None], torch.device("cpu"))[0]) >= OPENED


def _share(found: list[bool | None]) -> str:
    known = [one for one in found if one is not None]
    if not known:
        return ""
    n, p, z = len(known), float(np.mean(known)), 1.96
    middle, half = p + z * z / (2 * n), z * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
    low, high = ((middle + side * half) / (1 + z * z / n) for side in (-1, 1))
    return f"{p:.2f} ({low:.2f} to {high:.2f}), n={n}"


def main(arguments: list[str] | None = None) -> None:
    run(kept, arguments)


if __name__ == "__main__":
    main()
