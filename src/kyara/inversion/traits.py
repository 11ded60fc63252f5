"""What a photo and a drawing can be compared by: the colour of the hair, the colour of the eyes, and where it is light.

Everything is read off at fixed places of the frame that faces are aligned to (`preparation.align.PORTRAIT`), so that it
needs no further network and means the same for a photo and a drawing. On other frames it means little.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

HAIR = (0.0, 0.12, 0.28, 0.72)
"""Top, bottom, left and right of what is mostly hair, as shares of the side."""
SKIN = (0.55, 0.70, 0.30, 0.70)
"""The same, of what is skin on all faces."""
SKIN_LIKE = 14.0
"""Colours this near to the skin's are not counted as hair, if a quarter of the place is otherwise."""
EYES = ((0.342, 0.466), (0.656, 0.466))
"""Centres (x, y) of the eyes, as shares of the side."""
WEIGHTS = np.array([0.5, 1.0, 1.0])
"""Of lightness and both colours in distances: lightness depends on the lamp."""
IRIS = 0.03
"""Its radius, as a share of the side."""
LAYOUT = 16
"""Places on a side at which light and dark are compared."""

Colours = Mapping[str, Sequence[tuple[int, int, int]]]
"""Name -> what it looks like, in sRGB."""

HAIRS: Colours = {
    "black": [(24, 22, 23)], "brown": [(92, 62, 45), (128, 104, 88)], "blonde": [(200, 168, 120), (170, 148, 122)],
    "red": [(150, 68, 40)], "orange": [(178, 96, 52)], "gray": [(150, 148, 146)], "white": [(222, 220, 216)],
}  # fmt: skip
"""What people's hair looks like in photos, in sRGB; of these, those that a generator knows."""
EYE_COLOURS: Colours = {
    "brown": [(78, 56, 46)], "blue": [(98, 116, 136)], "green": [(98, 104, 82)], "gray": [(118, 118, 118)],
}  # fmt: skip


def lab(colours: np.ndarray) -> np.ndarray:
    """CIE Lab (D65) of sRGB colours (..., 3) uint8: lightness 0 to 100, then green to red and blue to yellow."""
    linear = np.asarray(colours, np.float64) / 255
    linear = np.where(linear > 0.04045, ((linear + 0.055) / 1.055) ** 2.4, linear / 12.92)
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = linear @ to_xyz.T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def hair(picture: np.ndarray) -> np.ndarray:
    """The median Lab colour (3,) of what stands above the forehead of an aligned face (H, W, 3) uint8 and is not
    skin."""
    found, skin = _part(picture, HAIR), np.median(_part(picture, SKIN), 0)
    other = found[np.linalg.norm((found - skin) * WEIGHTS, axis=1) > SKIN_LIKE]
    return np.median(other if len(other) >= len(found) / 4 else found, 0)


def _part(picture: np.ndarray, place: tuple[float, float, float, float]) -> np.ndarray:
    """The Lab colours (N, 3) at a place."""
    height, width = picture.shape[:2]
    top, bottom, left, right = place
    part = picture[int(top * height) : math.ceil(bottom * height), int(left * width) : math.ceil(right * width)]
    return lab(part.reshape(-1, 3))


def eyes(picture: np.ndarray) -> np.ndarray:
    """The median Lab colour (3,) of both irises of an aligned face (H, W, 3) uint8; neither the darkest quarter, the
    pupil, nor the lightest, a reflection."""
    height, width = picture.shape[:2]
    y, x = np.mgrid[:height, :width]
    inside = [np.hypot(x + 0.5 - cx * width, y + 0.5 - cy * height) <= max(IRIS * width, 1) for cx, cy in EYES]
    found = lab(picture[inside[0] | inside[1]])
    low, high = np.quantile(found[:, 0], [0.25, 0.75])
    return np.median(found[(found[:, 0] >= low) & (found[:, 0] <= high)], 0)


def nearest(colour: np.ndarray, named: Colours, known: Sequence[str]) -> str | None:
    """Which of the named colours lies nearest to a Lab colour (3,), of those that are known; None if none is."""
    pairs = [(name, one) for name, several in named.items() if name in known for one in several]
    if not pairs:
        return None
    distance = (lab(np.array([one for _, one in pairs])) - colour) * WEIGHTS
    return pairs[int(np.linalg.norm(distance, axis=1).argmin())][0]


def colour_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Of two Lab colours, lightness counting half."""
    return float(np.linalg.norm((a - b) * WEIGHTS))


def layout(picture: np.ndarray) -> np.ndarray:
    """Where an aligned face (H, W, 3) uint8 is light and where it is dark, (LAYOUT^2,), of mean 0 and length 1."""
    grey = lab(picture)[..., 0]
    rows, columns = (np.linspace(0, side, LAYOUT + 1).astype(int) for side in grey.shape)
    cells = np.add.reduceat(np.add.reduceat(grey, rows[:-1], 0), columns[:-1], 1)
    cells = (cells / np.outer(np.diff(rows), np.diff(columns))).ravel()
    cells -= cells.mean()
    return cells / max(float(np.linalg.norm(cells)), 1e-6)


def kept(photo: np.ndarray, character: np.ndarray) -> float:
    """How much of a photo a character keeps, 0 to 1, both aligned (H, W, 3) uint8: half for light and dark in the same
    places, half for the colour of the hair (30 in Lab away counts as a third of it)."""
    same = (1 + float(layout(photo) @ layout(character))) / 2
    return 0.5 * same + 0.5 * math.exp(-colour_distance(hair(photo), hair(character)) / 30)
