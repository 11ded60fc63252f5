"""Turning and cutting a face to the frame that a generator was trained in.

The frame follows from the eyes and the mouth as for FFHQ (Karras et al. 2018, appendix C): a square that is centred a
tenth of the way from the eyes to the mouth, with the eyes level, whose half side is twice the distance of the eyes, or
1.8 times that of eyes and mouth if that is more. `zoom` below 1 takes the middle of it.

Places are (x, y) in pixels from the upper left corner of the picture: its first pixel reaches from 0 to 1.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from kyara.files import pictures

FFHQ = 1.0
"""How much of FFHQ's square is taken: what the networks that others trained on it know."""
PORTRAIT = 0.78
"""Ours: a face fills it as it fills the drawn ones, and what a small network can draw is spent on it."""
LARGEST = 1024
"""Pixels of the largest square that is cut; a larger one is reduced."""
COARSE = 1.25
"""From so many pixels of the picture for one of the square on, it is reduced first: interpolation alone would skip
some of them."""
MARGIN = 4
"""Pixels around the square that interpolation reads."""


def square(eyes: np.ndarray, mouth: np.ndarray, zoom: float = PORTRAIT) -> tuple[np.ndarray, np.ndarray]:
    """The frame of a face: its centre (2,), and the vector (2,) from there to the middle of its right side.

    `eyes` (2, 2) are the centres of the eyes and `mouth` (2, 2) its corners: first the one that is on the left when
    the face is upright. Were all of them one point, the frame has no size."""
    between, down = eyes[1] - eyes[0], mouth.mean(0) - eyes.mean(0)
    right = between - _turned(down)  # both say where right is; together they forgive a turned head
    right = right * max(np.hypot(*between) * 2.0, np.hypot(*down) * 1.8) / max(np.hypot(*right), 1e-6)
    return eyes.mean(0) + down * 0.1, right * zoom


def upright(picture: np.ndarray, centre: np.ndarray, right: np.ndarray, *, mirror: bool = True) -> np.ndarray:
    """The square of the picture (H, W, 3) uint8 with that centre, turned until `right` (as from `square`) points right:
    (S, S, 3) uint8, at its own resolution, or LARGEST. What lies outside of the picture mirrors what lies inside, or
    is black."""
    down = _turned(right)
    corners = centre + np.array([-right - down, right - down, right + down, down - right])  # clockwise from upper left
    side = 2 * np.hypot(*right)
    size = min(max(round(side), 1), LARGEST)
    picture, corners = _reduced(picture, corners, side / size)
    picture, corners = _surrounded(picture, corners, mirror)
    (x, y), across, down = corners[0], (corners[1] - corners[0]) / size, (corners[3] - corners[0]) / size
    place = (across[0], down[0], x, across[1], down[1], y)  # of a pixel of the result in the picture
    turned = Image.fromarray(picture).transform(
        (size, size), Image.Transform.AFFINE, place, resample=Image.Resampling.BICUBIC
    )
    return np.array(turned)


def _turned(vector: np.ndarray) -> np.ndarray:
    """By a right angle, from right to down."""
    return np.array([-vector[1], vector[0]])


def _reduced(picture: np.ndarray, corners: np.ndarray, shrink: float) -> tuple[np.ndarray, np.ndarray]:
    """The part of the picture between the corners (4, 2) with `shrink` times fewer pixels each way, and the corners in
    it. As this comes before anything is mirrored, a square much larger than the picture needs little memory."""
    if shrink < COARSE:
        return picture, corners
    whole, margin = np.array(picture.shape[1::-1]), MARGIN * shrink
    first = np.clip(np.floor(corners.min(0) - margin), 0, whole - 1).astype(int)
    last = np.clip(np.ceil(corners.max(0) + margin), first + 1, whole).astype(int)
    size = np.maximum(np.round((last - first) / shrink), 1).astype(int)
    part = pictures.resize(picture[first[1] : last[1], first[0] : last[0]], *size.tolist())
    scale = np.minimum(size / (last - first), 2 / shrink)  # less than a pixel of the result is still one
    return part, (corners - first) * scale


def _surrounded(picture: np.ndarray, corners: np.ndarray, mirror: bool) -> tuple[np.ndarray, np.ndarray]:
    """What the corners (4, 2) enclose, continued where it lies outside; and the corners in it."""
    height, width = picture.shape[:2]
    first = np.floor(corners.min(0)).astype(int) - MARGIN
    last = np.ceil(corners.max(0)).astype(int) + MARGIN
    columns, rows = np.arange(first[0], last[0]), np.arange(first[1], last[1])
    around = picture[_mirrored(rows, height)[:, None], _mirrored(columns, width)]
    if not mirror:
        around[(rows < 0) | (rows >= height)] = 0
        around[:, (columns < 0) | (columns >= width)] = 0
    return around, corners - first


def _mirrored(index: np.ndarray, length: int) -> np.ndarray:
    """Where to find it among `length` pixels that are continued as between two mirrors, as often as it takes: of three,
    2 1 0 1 2 1 0 1 2."""
    period = max(2 * length - 2, 1)
    index = np.abs(index) % period
    return np.minimum(index, period - index)


def sharpness(face: np.ndarray) -> float:
    """How much fine detail a face (S, S, 3) uint8 has: the standard deviation of the Laplacian of its grey values in
    [0, 1], at 128 pixels; a smaller face is taken as it is."""
    size = min(128, len(face))
    grey = np.asarray(Image.fromarray(pictures.resize(face, size, size, by="box")).convert("L"), np.float32) / 255
    grey = np.pad(grey, 1, mode="edge")
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((around - 4 * grey[1:-1, 1:-1]).std())
