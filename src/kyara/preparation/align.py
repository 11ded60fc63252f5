"""Aligning a face: rotating and cropping it to the frame that a generator was trained with.

The frame follows from the eyes and the mouth as for FFHQ (Karras et al. 2018, appendix C): a square with level eyes,
centred a tenth of the way from the eyes to the mouth, whose half side is twice the distance between the eyes, or 1.8
times that between eyes and mouth if it is larger. A `zoom` below 1 takes the middle of it.

Coordinates are (x, y) in pixels from the upper left corner of the picture: its first pixel extends from 0 to 1."""

from __future__ import annotations

import numpy as np
from PIL import Image

from kyara.files import pictures

FFHQ = 1.0  # Zoom of FFHQ's own frame, which networks trained on that dataset expect
PORTRAIT = 0.78
"""Zoom of Kyara's frame: the face fills it as in the drawings, so that a small network spends its capacity on it."""
LARGEST = 1024  # Maximum side of the square in pixels, unless another is given; a larger one is reduced
COARSE = 1.25  # From this reduction factor on, the picture is resized first, as interpolation alone would alias
MARGIN = 4  # Pixels around the square that interpolation may read


def square(eyes: np.ndarray, mouth: np.ndarray, zoom: float = PORTRAIT) -> tuple[np.ndarray, np.ndarray]:
    """The frame of a face: its centre (2,), and the vector (2,) from the centre to the middle of its right side.

    `eyes` (2, 2) are the centres of the eyes and `mouth` (2, 2) its corners, left one first for an upright face. If
    all points coincide, the frame has no size."""
    between, down = eyes[1] - eyes[0], mouth.mean(0) - eyes.mean(0)
    right = direction(eyes, mouth)
    right = right * max(np.hypot(*between) * 2.0, np.hypot(*down) * 1.8) / max(np.hypot(*right), 1e-6)
    return eyes.mean(0) + down * 0.1, right * zoom


def direction(eyes: np.ndarray, mouth: np.ndarray) -> np.ndarray:
    """The vector (2,) to the right of a face, by its eyes (2, 2) and the corners of its mouth (2, 2) as in `square`."""
    between, down = eyes[1] - eyes[0], mouth.mean(0) - eyes.mean(0)
    right: np.ndarray = between - turned(down)  # both indicate the right; their sum is robust to a turned head
    return right


def upright(
    picture: np.ndarray,
    centre: np.ndarray,
    right: np.ndarray,
    *,
    aspect: float = 1.0,
    outside: int | None = None,
    largest: int = LARGEST,
) -> np.ndarray:
    """The rectangle of the picture (H, W, 3) uint8 with that centre, rotated until `right`, the vector from the centre
    to the middle of its right side, points right: (h, w, 3) uint8, w / h = `aspect`, at its own resolution or, on the
    longer side, `largest`. Outside of the picture it is reflected, or has the grey value `outside`."""
    down = turned(right) / aspect
    corners = centre + np.array([-right - down, right - down, right + down, down - right])  # clockwise from upper left
    longer = 2 * max(np.hypot(*right), np.hypot(*down))
    size = min(max(round(longer), 1), largest)
    width, height = max(1, round(size * min(aspect, 1))), max(1, round(size / max(aspect, 1)))
    picture, corners = _reduced(picture, corners, longer / size)
    picture, corners = _padded(picture, corners, outside)
    (x, y), across, down = corners[0], (corners[1] - corners[0]) / width, (corners[3] - corners[0]) / height
    matrix = (across[0], down[0], x, across[1], down[1], y)  # from the result to the picture
    image = Image.fromarray(picture)
    return np.array(image.transform((width, height), Image.Transform.AFFINE, matrix, resample=Image.Resampling.BICUBIC))


def turned(vector: np.ndarray) -> np.ndarray:
    """Rotated by 90 degrees, from right to down."""
    return np.array([-vector[1], vector[0]])


def _reduced(picture: np.ndarray, corners: np.ndarray, shrink: float) -> tuple[np.ndarray, np.ndarray]:
    """The part of the picture around the corners (4, 2), `shrink` times smaller, and the corners in it. This comes
    before the padding, so a square much larger than the picture needs little memory."""
    if shrink < COARSE:
        return picture, corners
    whole, margin = np.array(picture.shape[1::-1]), MARGIN * shrink
    first = np.clip(np.floor(corners.min(0) - margin), 0, whole - 1).astype(int)
    last = np.clip(np.ceil(corners.max(0) + margin), first + 1, whole).astype(int)
    size = np.maximum(np.round((last - first) / shrink), 1).astype(int)
    part = pictures.resize(picture[first[1] : last[1], first[0] : last[0]], *size.tolist())
    scale = np.minimum(size / (last - first), 2 / shrink)  # a part smaller than a pixel of the result has one
    return part, (corners - first) * scale


def _padded(picture: np.ndarray, corners: np.ndarray, outside: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The region of the corners (4, 2), padded outside of the picture, and the corners in it."""
    height, width = picture.shape[:2]
    first = np.floor(corners.min(0)).astype(int) - MARGIN
    last = np.ceil(corners.max(0)).astype(int) + MARGIN
    columns, rows = np.arange(first[0], last[0]), np.arange(first[1], last[1])
    around = picture[_reflected(rows, height)[:, None], _reflected(columns, width)]
    if outside is not None:
        around[(rows < 0) | (rows >= height)] = outside
        around[:, (columns < 0) | (columns >= width)] = outside
    return around, corners - first


def _reflected(index: np.ndarray, length: int) -> np.ndarray:
    """Indices into `length` pixels that are repeated by reflection: of three, 2 1 0 1 2 1 0 1 2."""
    period = max(2 * length - 2, 1)
    index = np.abs(index) % period
    return np.minimum(index, period - index)


def sharpness(face: np.ndarray) -> float:
    """Standard deviation of the Laplacian of grey values in [0, 1] of a face (S, S, 3) uint8, at 128 pixels or less."""
    size = min(128, len(face))
    grey = np.asarray(Image.fromarray(pictures.resize(face, size, size, by="box")).convert("L"), np.float32) / 255
    grey = np.pad(grey, 1, mode="edge")
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((around - 4 * grey[1:-1, 1:-1]).std())
