"""Spatial colour histograms: hand-crafted features for any attribute."""

from __future__ import annotations

import numpy as np

from kyara.files.pictures import center_crop

SIDE = 32  # The picture is reduced to SIDE x SIDE pixels
BINS = ((0.0, 100.0, 4), (-60.0, 60.0, 5), (-60.0, 60.0, 5))
"""First and last bin centre, and number of bins, of L*, a* and b*. A colour between two centres counts for both, in
proportion to its distance."""
ZONES = tuple(
    (slice(round(SIDE * top), round(SIDE * bottom)), slice(round(SIDE * left), round(SIDE * right)))
    for top, bottom, left, right in (
        (0.0, 1.0, 0.0, 1.0),
        (0.0, 0.3, 0.15, 0.85),  # of a portrait: the hair above the forehead,
        (0.25, 0.8, 0.0, 0.25),  # beside the face,
        (0.25, 0.8, 0.75, 1.0),
        (0.35, 0.8, 0.25, 0.75),  # and the face
    )
)
"""Zones (top, bottom, left, right), as fractions of the sides; each has its own histogram."""


def colours(picture: np.ndarray) -> np.ndarray:
    """Square roots of the histograms of CIELAB colours in each zone of a picture (H, W, 3) uint8: (500,) float32.

    Distances between them are Hellinger distances, which suit linear models and nearest neighbours."""
    pixels = lab(center_crop(picture, SIDE, SIDE).astype(np.float32) / 255)  # (SIDE, SIDE, 3)
    lightness, a, b = (_soft(pixels[..., i], *bins) for i, bins in enumerate(BINS))
    counts = np.einsum("yxi,yxj,yxk->yxijk", lightness, a, b).reshape(SIDE, SIDE, -1)
    return np.sqrt(np.concatenate([counts[zone].mean((0, 1)) for zone in ZONES])).astype(np.float32)


def lab(c: np.ndarray) -> np.ndarray:
    """CIELAB (CIE 15, white point D65) of sRGB colours (..., 3) in [0, 1]: L* from 0 to 100, a*, b*."""
    linear = np.where(c > 0.04045, ((c + 0.055) / 1.055) ** 2.4, c / 12.92)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
    xyz = linear @ np.array(to_xyz).T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), xyz * (841 / 108) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def _soft(values: np.ndarray, low: float, high: float, count: int) -> np.ndarray:
    """Soft assignment of each value to `count` bin centres from `low` to `high`: (..., count), sums to 1."""
    place = np.clip((values - low) / (high - low) * (count - 1), 0, count - 1)
    return np.clip(1 - np.abs(place[..., None] - np.arange(count)), 0, 1)
