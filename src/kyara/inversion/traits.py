"""Traits by which a photo and a drawing are compared: colour of the hair, colour of the eyes, and lightness.

All are measured at fixed positions of the frame that faces are aligned to (`preparation.align.PORTRAIT`), without a
network, in the same way for photos and drawings. On other frames they mean little."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from kyara.labels.colours import lab as colours_to_lab

HAIR = (0.0, 0.12, 0.28, 0.72)  # top, bottom, left and right of the area that is mostly hair, as shares of the sides
SKIN = (0.55, 0.70, 0.30, 0.70)  # the same for an area that is skin on all faces
SKIN_DISTANCE = 14.0
"""Pixels nearer to the colour of the skin do not count as hair, if a quarter of the area is farther away."""
EYES = ((0.342, 0.466), (0.656, 0.466))  # centres (x, y), as shares of the side
WEIGHTS = np.array([0.5, 1.0, 1.0])  # of L*, a* and b* in distances: lightness depends on the lighting
IRIS = 0.03  # radius, as a share of the side
LAYOUT = 16  # cells on a side of the grid on which lightness is compared

Colours = Mapping[str, Sequence[tuple[int, int, int]]]  # name -> examples in sRGB

HAIR_COLOURS: Colours = {
    "black": [(24, 22, 23)], "brown": [(92, 62, 45), (128, 104, 88)], "blonde": [(200, 168, 120), (170, 148, 122)],
    "red": [(150, 68, 40)], "orange": [(178, 96, 52)], "gray": [(150, 148, 146)], "white": [(222, 220, 216)],
}  # fmt: skip
"""Colours of hair in photos of people."""
EYE_COLOURS: Colours = {
    "brown": [(78, 56, 46)], "blue": [(98, 116, 136)], "green": [(98, 104, 82)], "gray": [(118, 118, 118)],
}  # fmt: skip


def lab(colours: np.ndarray) -> np.ndarray:
    """CIELAB of sRGB colours (..., 3) uint8."""
    return colours_to_lab(np.asarray(colours, np.float64) / 255)


def hair(picture: np.ndarray) -> np.ndarray:
    """The median CIELAB colour (3,) above the forehead of an aligned face (H, W, 3) uint8, without skin."""
    area, skin = _area(picture, HAIR), np.median(_area(picture, SKIN), 0)
    other = area[np.linalg.norm((area - skin) * WEIGHTS, axis=1) > SKIN_DISTANCE]
    return np.median(other if len(other) >= len(area) / 4 else area, 0)


def _area(picture: np.ndarray, bounds: tuple[float, float, float, float]) -> np.ndarray:
    """The CIELAB colours (N, 3) of an area."""
    (height, width), (top, bottom, left, right) = picture.shape[:2], bounds
    part = picture[int(top * height) : math.ceil(bottom * height), int(left * width) : math.ceil(right * width)]
    return lab(part.reshape(-1, 3))


def eyes(picture: np.ndarray) -> np.ndarray:
    """The median CIELAB colour (3,) of both irises of an aligned face (H, W, 3) uint8."""
    height, width = picture.shape[:2]
    y, x = np.mgrid[:height, :width]
    irises = [np.hypot(x + 0.5 - cx * width, y + 0.5 - cy * height) <= max(IRIS * width, 1) for cx, cy in EYES]
    colours = lab(picture[irises[0] | irises[1]])
    low, high = np.quantile(colours[:, 0], [0.25, 0.75])  # darker is the pupil, lighter are reflections
    return np.median(colours[(colours[:, 0] >= low) & (colours[:, 0] <= high)], 0)


def nearest(colour: np.ndarray, named: Colours, known: Sequence[str]) -> str | None:
    """The name in `known` whose examples are nearest to a CIELAB colour (3,); None if none of them is named."""
    pairs = [(name, one) for name, several in named.items() if name in known for one in several]
    if not pairs:
        return None
    distance = (lab(np.array([one for _, one in pairs])) - colour) * WEIGHTS
    return pairs[int(np.linalg.norm(distance, axis=1).argmin())][0]


def layout(picture: np.ndarray) -> np.ndarray:
    """Lightness of an aligned face (H, W, 3) uint8 on a grid, (LAYOUT^2,), with mean 0 and length 1."""
    grey = lab(picture)[..., 0]
    rows, columns = (np.linspace(0, side, LAYOUT + 1).astype(int) for side in grey.shape)
    cells = np.add.reduceat(np.add.reduceat(grey, rows[:-1], 0), columns[:-1], 1)
    cells = (cells / np.outer(np.diff(rows), np.diff(columns))).ravel()
    cells -= cells.mean()
    return cells / max(float(np.linalg.norm(cells)), 1e-6)


def kept(photo: np.ndarray, character: np.ndarray) -> float:
    """How much of a photo a character keeps, 0 to 1, both aligned (H, W, 3) uint8: half for the layout of lightness,
    half for the colour of the hair, which at a distance of 30 counts a third."""
    same_layout = (1 + float(layout(photo) @ layout(character))) / 2
    away = float(np.linalg.norm((hair(photo) - hair(character)) * WEIGHTS))
    return 0.5 * same_layout + 0.5 * math.exp(-away / 30)
