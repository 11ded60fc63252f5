"""The contact sheet of `kyara avatar`: for each photo a row of pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kyara.files.pictures import encode_png, resize, sheet

SHEET_ROWS = 256  # characters on the contact sheet at most


class SheetRows:
    """Photo, character and other pictures of each row; only the best rows stay in memory."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[float, list[np.ndarray]]] = {}

    def add(self, character: str, score: float, pictures: list[np.ndarray]) -> None:
        """Smaller pictures, such as the photo of enlarged drawings, are resized to the size of the largest."""
        height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
        pictures = [resize(picture, width, height) for picture in pictures]
        self._rows[character] = score, pictures
        if len(self._rows) > SHEET_ROWS:
            del self._rows[min(reversed(self._rows), key=lambda name: self._rows[name][0])]

    def png(self, characters: Sequence[Path]) -> bytes:
        """One PNG of these characters, several in a row."""
        rows = [self._rows[path.name][1] for path in characters if path.name in self._rows]
        many = math.ceil(math.sqrt(len(rows) / len(rows[0])))
        return encode_png(sheet([picture for row in rows for picture in row], columns=len(rows[0]) * many))
