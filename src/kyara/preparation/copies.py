"""Whether pictures are copies of each other, by a local comparison at up to 128 pixels.

A copy is resized, recompressed, shifted or cropped by a few percent, or slightly recoloured: it differs a little
everywhere. The same drawing with another expression, eye or hair colour differs much at one place. Both pictures are
registered (translation, scale and a small rotation, Lucas and Kanade 1981), the colours of one are fitted to the other
by one smooth curve for all of it, and what remains beyond the range of the neighbouring pixels is averaged over 3x3
pixels.

Before rotation was a part of it, measured on 46 rendered characters, as faces and as busts of 256 pixels: of 1,150
copies of 25 kinds (half the size, JPEG of quality 30, shifted or cropped by 4 %, brightness, contrast, saturation, hue
by 6 degrees, tint, mirrored, combined) 0.6 % were not recognised. Of 446 pairs with other eyes, mouth, hair or eye
colour none was taken for a copy; of 92 pairs with and without a faint blush, 6 were. See docs/reports/copies.md."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

LARGEST, USUAL = 34.0, 17.0
"""Differences of copies are smaller, the largest and the typical one, in levels of 255. With another colour of the hair
the typical one is mostly larger."""
TYPICAL, OFFSET = 12.0, 0.15
"""Maximum ratio of the largest difference to a typical one plus an offset. Typical is the upper quartile over blocks
that are not plain."""
RELATED = 0.93
"""Minimum correlation of registered copies; others are not compared further. The minimum of 1,150 copies is 0.974."""
TOLERANCE = 0.5  # Error of the registration in pixels that is no difference
BLOCK = 8  # Side of a block in pixels
PLAIN = 12  # Range of grey levels in a plain block
MAX_MOVE = 0.15  # Maximum translation, change of scale and shear, as shares of the side
OUTLIER = 20.0  # Differences in levels of 255 from which pixels count less in the registration
TONE_STEPS = (60.0, 40.0, 25.0, 15.0, 12.0)  # The same for the fit of colours, decreasing from step to step
TONE_PRIOR = np.array([0.0002, 0.0002, 0.001, 0.0003], np.float32)  # Weights of the identity, as shares of all pixels
MAX_SATURATION = 0.4  # Maximum change of the saturation

_GREY = np.array([0.299, 0.587, 0.114], np.float32)


def are_copies(picture: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Whether each of `others` (K, S, S, 3) is a copy of `picture` (S, S, 3), uint8, S a multiple of 32: (K,) bool."""
    a, b, inside = _aligned(picture, others)
    found = _correlation(a @ _GREY, b @ _GREY, inside) >= RELATED
    if not found.any():
        return found
    largest, typical = differences(a[found], b[found], inside[found])
    found[found] = (largest < LARGEST) & (typical < USUAL) & (largest < TYPICAL * (typical + OFFSET))
    return found


def correlations(picture: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The correlation of the grey levels of `picture` (S, S, 3) and each of `others` (K, S, S, 3), uint8, after their
    registration: (K,). Variants of one drawing have a high one."""
    a, b, inside = _aligned(picture, others)
    return _correlation(a @ _GREY, b @ _GREY, inside)


def _aligned(picture: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The picture, K times, `others` registered to it, (K, S, S, 3) float32, and where they overlap (K, S, S) bool."""
    b = others.astype(np.float32)
    a = np.broadcast_to(picture.astype(np.float32), b.shape)
    moved = _registered(a @ _GREY, b @ _GREY)
    return a, _warped(b, moved), _overlap(moved, b.shape[1])


def differences(a: np.ndarray, b: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest and the typical local difference of registered pictures (K, S, S, 3) `inside` their overlap, in
    levels of 255, (K,) each."""
    # Clipped colours cannot be restored, so the fit may be possible in one direction only.
    a, b = _smoothed(a), _smoothed(b)
    one, other = (_blocks(*pair, inside) for pair in ((a, b), (b, a)))
    return tuple(np.where(one[0] < other[0], *pair) for pair in zip(one, other, strict=True))  # type: ignore[return-value]


def _correlation(a: np.ndarray, b: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Correlation of grey pictures (K, S, S) inside: (K,)."""
    count = inside.sum((1, 2), keepdims=True)
    a, b = ((one - (one * inside).sum((1, 2), keepdims=True) / count) * inside for one in (a, b))
    norm = np.sqrt((a * a).sum((1, 2)) * (b * b).sum((1, 2)))
    correlation: np.ndarray = (a * b).sum((1, 2)) / np.maximum(norm, 1e-6)
    return correlation


def _registered(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Translation x, y, change of scale x, y and shear x, y that register b to a, (K, S, S) grey: (K, 6), as shares of
    the side. The same face is not found at quite the same angle in a copy, and a rotation of a picture whose sides were
    not equal is two different shears. Gauss-Newton steps on two coarser levels, with a gain and an offset; outliers
    have small weights."""
    moved = np.zeros((len(a), 6), np.float32)
    prior = np.diag(np.array([50, 50, 50, 50, 50, 50, 500, 20], np.float32))
    for factor, steps in ((4, 6), (2, 4)):
        target, source = _shrunk(a[..., None], factor)[..., 0], _shrunk(b[..., None], factor)
        side = target.shape[1]
        x, y = _places(side)
        for _ in range(steps):
            warped = _warped(source, moved)[..., 0]  # (K, s, s)
            down, across = (slope * side for slope in np.gradient(warped, axis=(1, 2)))
            columns = [across, down, across * x, down * y, across * y, down * x, warped / 255, np.ones_like(warped)]
            jacobian = np.stack(columns, -1).reshape(len(a), -1, 8)
            error = (target - warped).reshape(len(a), -1)
            weight = _overlap(moved, side).reshape(len(a), -1) / (1 + (error / OUTLIER) ** 2)
            weighted = (jacobian * weight[..., None]).transpose(0, 2, 1)
            step = np.linalg.solve(weighted @ jacobian + prior, weighted @ error[..., None])[:, :6, 0]
            moved = np.clip(moved + np.clip(step, -0.06, 0.06), -MAX_MOVE, MAX_MOVE)
    return moved


def _places(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Places x (1, S) and y (S, 1) of pixels, as shares of the side from the middle."""
    place = (np.arange(side, dtype=np.float32) + 0.5) / side - 0.5
    return place[None], place[:, None]


def _warped(pictures: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Pictures (K, S, S, C), moved by `_registered`: bilinear, and repeated at the edges."""
    x, y = _places(pictures.shape[1])
    right, below, wider, higher, across, down = moved.T[..., None, None]
    grid = np.stack([x * (1 + wider) + across * y + right, y * (1 + higher) + down * x + below], -1) * 2
    source = torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)))
    found = F.grid_sample(source, torch.from_numpy(grid), padding_mode="border", align_corners=False)
    return np.ascontiguousarray(found.numpy().transpose(0, 2, 3, 1))


def _overlap(moved: np.ndarray, side: int) -> np.ndarray:
    """Where both pictures show the same after `_registered`: (K, S, S) bool."""
    place = (np.arange(side, dtype=np.float32) + 0.5) / side
    margin = np.abs(moved[:, :2]) + np.abs(moved[:, 2:4]) / 2 + np.abs(moved[:, 4:]) / 2 + 1.5 / side  # (K, 2)
    across, down = ((place > one[:, None]) & (place < 1 - one[:, None]) for one in margin.T)
    return across[:, None, :] & down[:, :, None]


def _recoloured(source: np.ndarray, target: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """`source` (K, S, S, 3) in the colours of `target`: for each channel a quadratic curve plus a change of the
    saturation, fitted by iteratively reweighted least squares, so that another hair colour stays what it is."""
    small, wanted = _shrunk(source, 2), _shrunk(target, 2)
    weight = _shrunk(inside[..., None].astype(np.float32), 2)[..., 0] > 0.99
    prior, identity = np.diag(TONE_PRIOR * small[0, ..., 0].size), np.array([0, 1, 0, 0], np.float32)
    made = np.empty_like(source)
    for channel in range(3):
        columns = _tone_columns(small, channel).reshape(len(source), -1, 4)
        values = wanted[..., channel].reshape(len(source), -1) / 255
        usable = weight.reshape(len(source), -1) & (values > 3 / 255) & (values < 252 / 255)  # not clipped
        fitted = np.repeat(identity[None], len(source), 0)  # (K, 4)
        for scale in TONE_STEPS:
            error = (values - (columns @ fitted[..., None])[..., 0]) * 255 / scale
            weighted = (columns * (usable / (1 + error**2) ** 2)[..., None]).transpose(0, 2, 1)
            right = (weighted @ values[..., None])[..., 0] + prior @ identity
            fitted = np.linalg.solve(weighted @ columns + prior, right[..., None])[..., 0]
            fitted[:, 3] = np.clip(fitted[:, 3], -MAX_SATURATION, MAX_SATURATION)
        made[..., channel] = (_tone_columns(source, channel) @ fitted[:, None, :, None])[..., 0] * 255
    return np.clip(made, 0, 255)


def _tone_columns(pictures: np.ndarray, channel: int) -> np.ndarray:
    """(K, S, S, 4): 1, the channel x in [0, 1], its square, and grey - x, which desaturates."""
    x = pictures[..., channel] / 255
    return np.stack([np.ones_like(x), x, x * x, pictures @ (_GREY / 255) - x], -1)


def _blocks(source: np.ndarray, target: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest difference, and the upper quartile of the largest in each block that is not plain, (K,) each."""
    source = _recoloured(source, target, inside)
    local = np.maximum(*(_difference(*pair, inside) for pair in ((source, target), (target, source))))  # (K, S, S)
    grey = target @ _GREY
    plain = _in_blocks(grey, np.max) - _in_blocks(grey, np.min) <= PLAIN
    largest = _in_blocks(local, np.max)  # (K, blocks)
    ordered = np.sort(np.where(plain, -1, largest), 1)[:, ::-1]
    quartile = np.take_along_axis(ordered, (~plain).sum(1, keepdims=True) // 4, 1)[:, 0]
    return largest.max(1), np.maximum(quartile, 0)


def _difference(a: np.ndarray, b: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Norm (K, S, S) over the channels of how far a is outside the range of b in 3x3 pixels, reduced by `TOLERANCE`,
    averaged with its sign over 3x3 pixels: the noise of a compression cancels out."""
    low, high = (b + TOLERANCE * (_neighbours(b, function) - b) for function in (np.minimum, np.maximum))
    beyond = (a - np.clip(a, low, high)) * inside[..., None]
    norm: np.ndarray = np.sqrt(((_neighbours(beyond, np.add) / 9) ** 2).sum(-1))
    return norm


def _neighbours(pictures: np.ndarray, function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """A function of two arguments over 3x3 pixels of (K, S, S, C); the edge is repeated."""
    padded = np.pad(pictures, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    rows = function(function(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
    return function(function(rows[:, :, :-2], rows[:, :, 1:-1]), rows[:, :, 2:])


def _smoothed(pictures: np.ndarray) -> np.ndarray:
    """Pictures (K, S, S, C) under the filter [1, 2, 1]: interpolation smooths one of two pictures about as much."""
    for axis in (1, 2):
        padded = np.pad(pictures, [(int(i == axis),) * 2 for i in range(4)], mode="edge")
        first, middle, last = (padded.take(range(i, i + pictures.shape[axis]), axis) for i in range(3))
        pictures = (first + 2 * middle + last) / 4
    return pictures


def _in_blocks(values: np.ndarray, function: Callable[..., np.ndarray]) -> np.ndarray:
    """A function of the values of each block: (K, S, S) -> (K, blocks)."""
    count, side = len(values), values.shape[1] // BLOCK
    return function(values.reshape(count, side, BLOCK, side, BLOCK), axis=(2, 4)).reshape(count, -1)


def _shrunk(pictures: np.ndarray, factor: int) -> np.ndarray:
    """Pictures (K, S, S, C), averaged over squares of `factor` pixels."""
    count, side, channels = len(pictures), pictures.shape[1] // factor, pictures.shape[3]
    shrunk: np.ndarray = pictures.reshape(count, side, factor, side, factor, channels).mean((2, 4))
    return shrunk
