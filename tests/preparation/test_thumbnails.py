"""Sheets of thumbnails: each is where its place says."""

from __future__ import annotations

import numpy as np

from kyara.files import pictures
from kyara.preparation.thumbnails import COLUMNS, GAP, SLOT, Thumbnails


def test_each_is_in_its_place() -> None:
    sheets: dict[str, bytes] = {}
    thumbnails = Thumbnails(sheets.__setitem__)
    shapes = [(96, 96), (20, 96), (96, 1), (1, 1)]
    colours = [(i % 16 * 16, i % 9 * 28, i % 5 * 50) for i in range(COLUMNS**2 + 7)]
    places = [thumbnails.add(np.full((*shapes[i % 4], 3), colour, np.uint8)) for i, colour in enumerate(colours)]
    assert list(sheets) == ["report.thumbnails/000.jpg"]
    thumbnails.finish()
    assert list(sheets) == ["report.thumbnails/000.jpg", "report.thumbnails/001.jpg"]
    decoded = [pictures.decode(data) for data in sheets.values()]
    assert {sheet.shape for sheet in decoded} == {(COLUMNS * SLOT, COLUMNS * SLOT, 3)}
    for i, (number, width, height) in enumerate(places):
        assert number == i and (height, width) == shapes[i % 4]
        sheet, (row, column) = decoded[i // COLUMNS**2], divmod(i % COLUMNS**2, COLUMNS)
        y, x = row * SLOT + GAP, column * SLOT + GAP
        if min(height, width) > 16:  # smaller ones share blocks of JPEG with the background
            part = sheet[y : y + height, x : x + width].astype(int)
            assert abs(part[8:-8, 8:-8] - colours[i]).max() < 6


def test_none_needs_no_sheet() -> None:
    sheets: dict[str, bytes] = {}
    Thumbnails(sheets.__setitem__).finish()
    assert not sheets
