"""How many traits of people `kyara avatar` keeps: labels with which characters were drawn, beside those of the photos.

    kyara avatar photos.zip --out people
    python benchmarks/kept.py people labels.csv
    kyara avatar photos.zip --turn 0 --out front
    python benchmarks/kept.py front labels.csv --tagger judge

`labels.csv` has the true values: file_name as in the photos, the columns of `builtin:photo-traits`, and source, which
divides the results. Glasses of any kind are one value, and a mouth is open or closed. Whether the mouth of a
drawing is open is measured in it (`proposals.mouth`), and so is the turn of its head, by `builtin:landmarks`: the side
to which people labelled left and right look, and the correlation with the angles of the photos. Everything else is the
label that the generator was given, or with --tagger what a tagger of drawings sees. Intervals are 95 % (Wilson)."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common import print_table, run
from tyro.conf import Positional

from kyara.files.gallery import read_gallery
from kyara.files.pictures import decode, to_float
from kyara.inversion.proposals import CLOSED, OPEN, find, mouth
from kyara.inversion.reading import OPEN_MOUTHS, VALUES
from kyara.labels.tagger import Tagger, load_tagger
from kyara.perception.turning import angle

TRAITS = ("gender", "glasses", "hair", "hair_length", "skin")
OPENED = (CLOSED + OPEN) / 2  # share of `proposals.mouth` from which a mouth counts as open

Row = dict[str, str]


def kept(people: Positional[Path], labels: Positional[Path], tagger: str | None = None) -> None:
    """Prints the share of people of whom each trait is kept, in all and by source.

    Args:
        tagger: A tagger of drawings from the front, to read what they show.
    """
    with labels.open(newline="") as file:
        truth = {row["file_name"]: row for row in csv.DictReader(file)}
    rows = read_gallery(people)
    shown = rows if tagger is None else _read(people, rows, load_tagger(tagger, torch.device("cpu")))
    pairs = [(row, truth[Path(row["source"]).name]) for row in shown]
    groups = {"all": pairs} | {
        name: [pair for pair in pairs if pair[1]["source"] == name] for name in sorted({t["source"] for _, t in pairs})
    }
    tests: dict[str, Callable[[Row, Row], bool | None]] = {name: _same(name) for name in TRAITS}
    tests["mouth"] = lambda drawn, true: _mouth(people / drawn["file_name"]) == (true["mouth"] in OPEN_MOUTHS)
    angles = {row["file_name"]: _angle(people / row["file_name"]) for row in rows}
    sides = {"left": -1, "right": 1}
    tests["turn"] = lambda drawn, true: (
        angles[drawn["file_name"]] * sides[true["turn"]] > 0 if true.get("turn") in sides else None
    )
    table = {
        name: {group: _share([test(*pair) for pair in members]) for group, members in groups.items()}
        for name, test in tests.items()
    }
    print_table(table)
    photos = {row["file_name"]: people / "steps" / f"{Path(row['file_name']).stem}-photo.png" for row in rows}
    if all(path.exists() for path in photos.values()):
        seen = [_angle(photos[name]) for name in angles]
        print(f"correlation of angles: {np.corrcoef(seen, [*angles.values()])[0, 1]:.2f}")


def _read(people: Path, rows: list[Row], tagger: Tagger) -> list[Row]:
    """The rows with what the tagger sees instead of the labels."""
    fitted = [tagger.fit(decode(people / row["file_name"])) for row in rows]
    found = tagger.probabilities(to_float(np.stack(fitted)))
    values = {name: [tagger.attributes[name][i] for i in p.argmax(1).tolist()] for name, p in found.items()}
    return [{**row, **{name: seen[i] for name, seen in values.items()}} for i, row in enumerate(rows)]


def _angle(path: Path) -> float:
    return float(angle(torch.from_numpy(find(decode(path)[None], torch.device("cpu"))))[0])


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
    return mouth(picture, find(picture[None], torch.device("cpu"))[0])[0] >= OPENED


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
