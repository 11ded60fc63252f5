"""Patterns that occur on no face of the training data, drawn here, and their place on a face.

Each is an RGBA picture; `place` computes its box from the landmarks of a face.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

UNIT = 160
"""Distance between the eyes, in pixels of a pattern."""
INK = (25, 20, 30, 255)


class Piece(NamedTuple):
    """A pattern, and its box: middle and size in distances between the eyes, from the point between them (x to the
    right, y down)."""

    picture: np.ndarray
    middle: tuple[float, float]
    size: tuple[float, float]


def _canvas(size: tuple[float, float]) -> tuple[Image.Image, ImageDraw.ImageDraw, float, float]:
    width, height = round(size[0] * UNIT), round(size[1] * UNIT)
    picture = Image.new("RGBA", (width, height), (0, 0, 0, 0))
    return picture, ImageDraw.Draw(picture), width, height


def glasses() -> list[Piece]:
    size = (1.9, 0.8)
    picture, draw, width, height = _canvas(size)
    line, radius = UNIT // 9, height / 2 - 4
    for x in (width / 2 - UNIT / 2, width / 2 + UNIT / 2):
        draw.ellipse(
            (x - radius, height / 2 - radius, x + radius, height / 2 + radius), outline=(150, 20, 40, 255), width=line
        )
    gap = UNIT / 2 - radius
    draw.line((width / 2 - gap - 4, height / 2, width / 2 + gap + 4, height / 2), fill=(150, 20, 40, 255), width=line)
    return [Piece(np.array(picture), (0.0, 0.02), size)]


def _at_eyes(picture: Image.Image, size: tuple[float, float], y: float = 0.0) -> list[Piece]:
    return [Piece(np.array(picture), (x, y), size) for x in (-0.5, 0.5)]


def gears() -> list[Piece]:
    size = (0.62, 0.62)
    picture, draw, side, _ = _canvas(size)
    middle, teeth = side / 2, 8
    outline = []
    for i in range(4 * teeth):
        far = (0.49 if i % 4 < 2 else 0.37) * side
        angle = 2 * math.pi * (i + 0.5) / (4 * teeth)
        outline.append((middle + far * math.cos(angle), middle + far * math.sin(angle)))
    draw.polygon(outline, fill=(90, 95, 110, 255), outline=INK, width=5)
    for share, colour in ((0.24, (240, 190, 60, 255)), (0.1, INK)):
        draw.ellipse(
            [middle - share * side, middle - share * side, middle + share * side, middle + share * side], fill=colour
        )
    return _at_eyes(picture, size)


def cat_eyes() -> list[Piece]:
    size = (0.7, 0.52)
    picture, draw, width, height = _canvas(size)
    draw.ellipse((0, height * 0.02, width - 1, height * 0.98), fill=(205, 225, 60, 255), outline=INK, width=9)
    draw.ellipse((width * 0.42, height * 0.06, width * 0.58, height * 0.94), fill=INK)
    draw.ellipse((width * 0.24, height * 0.2, width * 0.36, height * 0.36), fill=(255, 255, 255, 255))
    return _at_eyes(picture, size)


def eye_patch() -> list[Piece]:
    size = (0.85, 0.75)
    picture, draw, width, height = _canvas(size)
    draw.rounded_rectangle(
        (0, 0, width - 1, height - 1), radius=width * 0.4, fill=(35, 30, 40, 255), outline=(90, 85, 100, 255), width=8
    )
    return [Piece(np.array(picture), (-0.5, 0.0), size)]


def flower() -> list[Piece]:
    size = (0.75, 0.75)
    picture, draw, side, _ = _canvas(size)
    middle, petal = side / 2, side * 0.19
    for i in range(5):
        angle = 2 * math.pi * i / 5 - math.pi / 2
        x, y = middle + side * 0.28 * math.cos(angle), middle + side * 0.28 * math.sin(angle)
        draw.ellipse(
            (x - petal, y - petal, x + petal, y + petal),
            fill=(225, 35, 110, 255),
            outline=(110, 0, 50, 255),
            width=6,
        )
    draw.ellipse((middle - petal, middle - petal, middle + petal, middle + petal), fill=(245, 200, 60, 255))
    return [Piece(np.array(picture), (-0.62, -0.95), size)]


PATTERNS = {"gears": gears, "glasses": glasses, "eye patch": eye_patch, "flower": flower, "cat eyes": cat_eyes}
LEFT, RIGHT = slice(0, 4), slice(4, 8)
"""The points of each eye among those of builtin:landmarks."""


def place(piece: Piece, points: np.ndarray, width: int, height: int) -> tuple[int, int, int, int]:
    """The box (x, y, width, height in pixels) of a pattern on a face with these points (12, 2), shares of the sides;
    never beyond the picture."""
    size = np.array([width, height])
    left, right = points[LEFT].mean(0) * size, points[RIGHT].mean(0) * size
    apart = float(np.hypot(*(right - left)))
    middle = (left + right) / 2 + np.array(piece.middle) * apart
    wanted = np.array(piece.size) * apart
    low = np.clip(np.round(middle - wanted / 2), 0, size - 4).astype(int)
    high = np.clip(np.round(middle + wanted / 2), low + 4, size).astype(int)
    return int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1])
