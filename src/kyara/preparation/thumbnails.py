"""Thumbnails of the page of a report, many in one picture."""

from __future__ import annotations

import numpy as np

from kyara.files.archive import THUMBNAILS
from kyara.files.pictures import encode_jpeg
from kyara.preparation.fit import THUMBNAIL
from kyara.preparation.target import Write

COLUMNS = 10
"""Thumbnails per row and per column of a sheet. A sorted page shows thumbnails of nearly as many sheets as it shows
pictures, so small sheets need less decoding and memory than large ones."""
GAP = 1  # Edge pixels repeated around each thumbnail, so that resizing does not mix it with its neighbours
SLOT = THUMBNAIL + 2 * GAP
QUALITY = 80  # Of JPEG, which browsers decode four times as fast as WebP

Place = tuple[int, int, int]  # (number of the slot, width, height)


class Thumbnails:
    """Writes sheets NNN.jpg of COLUMNS x COLUMNS slots, each of SLOT x SLOT pixels, into the folder THUMBNAILS."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._sheet = np.zeros((COLUMNS * SLOT, COLUMNS * SLOT, 3), np.uint8)
        self._count = 0

    def add(self, thumbnail: np.ndarray) -> Place:
        """Adds a thumbnail (h, w, 3) uint8, at most `THUMBNAIL` pixels high and wide."""
        height, width = thumbnail.shape[:2]
        row, column = divmod(self._count % COLUMNS**2, COLUMNS)
        padded = np.pad(thumbnail, ((GAP, GAP), (GAP, GAP), (0, 0)), mode="edge")
        y, x = row * SLOT, column * SLOT
        self._sheet[y : y + padded.shape[0], x : x + padded.shape[1]] = padded
        self._count += 1
        if self._count % COLUMNS**2 == 0:
            self._flush()
        return self._count - 1, width, height

    def finish(self) -> None:
        """Writes the last sheet. It has the size of the others, so that the page need not know which one it is."""
        if self._count % COLUMNS**2:
            self._flush()

    def _flush(self) -> None:
        number = (self._count - 1) // COLUMNS**2
        self._write(f"{THUMBNAILS}/{number:03d}.jpg", encode_jpeg(self._sheet, QUALITY))
        self._sheet[:] = 0
