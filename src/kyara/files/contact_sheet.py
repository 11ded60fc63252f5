"""The contact sheet of a Gallery."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kyara.files.pictures import decode, encode_png, pad_to, sheet

CELL = 256
"""Longest side of a picture on the sheet, in pixels."""


def contact_sheet(files: Sequence[Path]) -> bytes:
    """One PNG with the pictures of `files` side by side, each fitted into the aspect ratio of the first."""
    first = decode(files[0])
    height, width = first.shape[:2]
    scale = min(1.0, CELL / max(height, width))
    cell = max(1, round(width * scale)), max(1, round(height * scale))
    return encode_png(sheet([pad_to(picture, *cell) for picture in (first, *map(decode, files[1:]))]))
