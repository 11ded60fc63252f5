"""The column `boxes` of a Dataset: the faces in each picture, for the training of a face detector.

A cell is a JSON list with a list of numbers for each face, in pixels of the upright picture: x, y, width and height of
its box, and optionally x and y of five points, null where unknown. `[]` is a picture without faces."""

from __future__ import annotations

import json
import math

import numpy as np

from kyara.files import pictures
from kyara.files.dataset import BOXES, Dataset
from kyara.files.errors import DatasetError, PictureError

PLACES = 7  # two corners of a box, and five points


def read(dataset: Dataset, width: int, height: int, workers: int = 0) -> np.ndarray:
    """The faces of all pictures, cropped by `pictures.center_crop` to width x height: (N, M, 7, 2) float32, as
    fractions of the crop; NaN for unknown points and for the missing faces of pictures with fewer than M (at least 1).

    The places are the top left and the bottom right corner of the box, and five points; a face outside the crop has
    values outside [0, 1]. Raises DatasetError if a cell is malformed or empty, or if a picture cannot be read."""
    if not any(dataset.box_cells):
        raise DatasetError(f"{dataset.path}: the metadata has no column `{BOXES}`, or the column is empty")
    faces = [parse(cell, f"{dataset.location(i)}") for i, cell in enumerate(dataset.box_cells)]
    found = np.full((len(dataset), max(1, *map(len, faces)), PLACES, 2), np.nan, np.float32)
    for i, size in enumerate(dataset.map(pictures.upright_size, range(len(dataset)), workers)):
        if isinstance(size, PictureError):
            raise DatasetError(f"{dataset.path}/{size}")
        found[i, : len(faces[i])] = cropped(faces[i], *size, width, height)
    return found


def parse(cell: str, name: str) -> np.ndarray:
    """The faces of one cell, (M, 7, 2) in pixels. Raises DatasetError that starts with `name` if it is malformed."""
    how = f"its `{BOXES}` must be a list such as [[x, y, width, height], ...], [] without faces"
    try:
        rows = [[math.nan if number is None else float(number) for number in row] for row in json.loads(cell)]
    except (ValueError, TypeError, RecursionError) as error:
        raise DatasetError(f"{name}: {how}; it is {cell[:60]!r}") from error
    found = np.full((len(rows), 2 * PLACES), np.nan, np.float32)
    for i, row in enumerate(rows):
        if len(row) not in (4, 2 * PLACES) or not np.isfinite(row[:4]).all() or min(row[2:4]) <= 0:
            raise DatasetError(f"{name}: {how}, with 4 or {2 * PLACES} numbers for each face; a face is {row}")
        found[i, : len(row)] = row
        found[i, 2:4] += found[i, :2]
    return found.reshape(-1, PLACES, 2)


def cropped(faces: np.ndarray, w: int, h: int, width: int, height: int) -> np.ndarray:
    """Faces (M, 7, 2) in pixels of a picture of w x h, as fractions of `pictures.center_crop` of it."""
    cut_w, cut_h = pictures.centre_region(w, h, width, height)
    offset = np.array([(w - cut_w) // 2, (h - cut_h) // 2])
    return ((faces - offset) / np.array([cut_w, cut_h])).astype(np.float32)
