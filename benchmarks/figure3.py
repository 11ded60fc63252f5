"""Figure 3 of Sawada et al.: generated pictures in the order of their score, with the nearest training pictures.

    kyara generate runs/characters --seeds 0-199 --truncation 1 --rank none --confirm none --out generated
    kyara rank generated --like my-art.zip --copies-of characters.zip --out ranked
    python benchmarks/figure3.py ranked characters.zip --out figure3.png

Three bands of columns from left to right: the best, the middle and the worst pictures. Below each are the training
pictures whose descriptors (`builtin:copy`) are nearest, the nearest first. Prints the scores of each band. The sheet
contains pictures of the dataset and has its licence.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import tyro
from common import print_table, run

from kyara.files.dataset import Dataset, open_dataset
from kyara.files.gallery import read_gallery
from kyara.files.pictures import center_crop, decode, sheet, write_png

GAP = 16  # pixels between the bands


def draw(
    ranked: tyro.conf.Positional[Path],
    data: tyro.conf.Positional[Path],
    *,
    out: Path,
    columns: int = 6,
    nearest: int = 2,
    side: int = 128,
) -> None:
    """Writes the sheet.

    Args:
        ranked: A gallery by `kyara rank --copies-of DATA`.
        data: The dataset.
        out: PNG to write.
        columns: Pictures in each band.
        nearest: Training pictures below each.
        side: Size of the pictures, in pixels.
    """
    rows = [row for row in read_gallery(ranked) if row.get("score")]
    if len(rows) < 3 * columns:
        raise ValueError(f"{ranked}: has {len(rows)} pictures with a score, and the sheet needs {3 * columns}")
    similar, dataset = similar_to(ranked / "nearest.csv"), open_dataset(data)
    middle = (len(rows) - columns) // 2
    bands = {"best": rows[:columns], "middle": rows[middle : middle + columns], "worst": rows[-columns:]}
    drawn = [band(ranked, chosen, similar, dataset, nearest, side) for chosen in bands.values()]
    gap = np.full((drawn[0].shape[0], GAP, 3), 255, np.uint8)
    write_png(out, np.concatenate([drawn[0], gap, drawn[1], gap, drawn[2]], 1))
    scores = {name: [float(row["score"]) for row in chosen] for name, chosen in bands.items()}
    print_table({name: {"score from": max(each), "to": min(each)} for name, each in scores.items()})


def similar_to(table: Path) -> dict[str, list[str]]:
    """The names of the training pictures that are nearest to each picture, the nearest first."""
    found = defaultdict(list)
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found[row["file_name"]].append(row["nearest"])
    return found


def band(
    folder: Path, rows: list[dict[str, str]], similar: dict[str, list[str]], data: Dataset, nearest: int, side: int
) -> np.ndarray:
    """One row of pictures, and below them `nearest` rows of training pictures."""
    generated = [decode(folder / row["file_name"]) for row in rows]
    known = [
        [decode(data.read(data.names.index(similar[row["file_name"]][k]))) for row in rows] for k in range(nearest)
    ]
    return sheet([center_crop(one, side, side) for line in [generated, *known] for one in line], len(rows))


def main(arguments: list[str] | None = None) -> None:
    run(draw, arguments)


if __name__ == "__main__":
    main()
