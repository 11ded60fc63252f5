"""Turning and cutting a face to the frame that a generator was trained in.

The frame follows from the eyes and the mouth as for FFHQ (Karras et al. 2018, appendix C, and its errata): a square
that is centred a tenth of the way from the eyes to the mouth, with the eyes level, as large as twice the distance of
the eyes on either side, or 1.8 times that of eyes and mouth. `zoom` below 1 takes the middle of it.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

FFHQ = 1.0
"""How much of FFHQ's square is taken: what the networks that others trained on it know."""
PORTRAIT = 0.78
"""Ours: a face fills it as it fills the drawn ones, and what a small network can draw is spent on it."""
LARGEST = 1024
"""Pixels of the largest square that is cut; a larger one is reduced."""


def square(eyes: np.ndarray, mouth: np.ndarray, zoom: float = PORTRAIT) -> tuple[np.ndarray, np.ndarray]:
    """The frame of a face: its centre (2,) and half of its upper side as a vector (2,), in pixels (x, y).

    `eyes` (2, 2) are the centres of the eye on the left of the picture and of that on the right, `mouth` (2, 2) its
    corners likewise."""
    between, down = eyes[1] - eyes[0], mouth.mean(0) - eyes.mean(0)
    side = between - np.array([-down[1], down[0]])  # both say where right is; together they forgive a turned head
    side *= max(np.hypot(*between) * 2.0, np.hypot(*down) * 1.8) / max(np.hypot(*side), 1e-6)
    return eyes.mean(0) + down * 0.1, side * zoom


def upright(picture: np.ndarray, centre: np.ndarray, side: np.ndarray) -> np.ndarray:
    """The square of the picture (H, W, 3) uint8 with that centre and half upper side, upright, at its own resolution:
    (S, S, 3) uint8. What lies outside of the picture mirrors what lies inside."""
    reach = math.ceil(np.abs(side).sum()) + 2
    left, top = (int(v) - reach for v in np.floor(centre))
    patch = _patch(picture, left, top, 2 * reach + 1)
    size = int(np.clip(round(2 * np.hypot(*side)), 1, LARGEST))
    step = 2 * side / size  # one pixel to the right, in the picture; one down is that, turned
    start = centre - (left, top) - side - (-side[1], side[0]) + 0.5
    if (shrink := np.hypot(*step)) > 1.5:  # fewer pixels than the picture has there: bicubic alone would skip some
        small = max(1, round(patch.shape[0] / shrink))
        scale = small / patch.shape[0]
        patch = np.array(Image.fromarray(patch).resize((small, small), Image.Resampling.LANCZOS))
        step, start = step * scale, start * scale
    affine = (step[0], -step[1], start[0], step[1], step[0], start[1])
    return np.array(
        Image.fromarray(patch).transform((size, size), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC)
    )


def _patch(picture: np.ndarray, left: int, top: int, size: int) -> np.ndarray:
    """(size, size, 3) from there; indices outside are mirrored at the border, as often as it takes."""
    rows, columns = (
        _mirrored(np.arange(start, start + size), length)
        for start, length in ((top, picture.shape[0]), (left, picture.shape[1]))
    )
    return picture[rows[:, None], columns]


def _mirrored(index: np.ndarray, length: int) -> np.ndarray:
    period = np.abs(index) % max(2 * length - 2, 1)
    return np.minimum(period, max(2 * length - 2, 0) - period) if length > 1 else np.zeros_like(index)


def sharpness(face: np.ndarray) -> float:
    """How much fine detail an aligned face (S, S, 3) has: the standard deviation of the Laplacian of its grey values,
    at 128 pixels, in [0, 1] units of grey. Blurred and enlarged faces have little."""
    small = np.asarray(Image.fromarray(face).resize((128, 128), Image.Resampling.BOX).convert("L"), np.float32) / 255
    inner = small[1:-1, 1:-1]
    return float((small[:-2, 1:-1] + small[2:, 1:-1] + small[1:-1, :-2] + small[1:-1, 2:] - 4 * inner).std())
