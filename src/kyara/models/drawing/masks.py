"""Polygons as masks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from kyara.models.drawing.layout import AT


def polygon(points: np.ndarray, like: Tensor) -> Tensor:
    """A polygon (N, 2), in pixels, as a mask (1, H, W) of the size of `like` (C, H, W)."""
    return union([points], like)


def union(polygons: Iterable[np.ndarray], like: Tensor) -> Tensor:
    """Several polygons as one mask."""
    made = Image.new("L", (like.shape[2], like.shape[1]))
    for points in polygons:
        ImageDraw.Draw(made).polygon([(float(x), float(y)) for x, y in points], fill=255)
    return torch.from_numpy(np.array(made, np.float32) / 255)[None].to(like.device)


def scaled(points: np.ndarray, factor: float) -> np.ndarray:
    """Points enlarged around their mean."""
    return points.mean(0) + (points - points.mean(0)) * factor


def features(points: np.ndarray, like: Tensor) -> Tensor:
    """Eyes, brows, lips and nostrils of a face, with what is close to them."""
    parts = [scaled(points[AT["outer lips"]], 1.15), scaled(points[AT["nose"]][5:], 1.2)]
    for side in ("left", "right"):
        parts += [scaled(points[AT[f"{side} eye"]], 1.7), scaled(points[AT[f"{side} brow"]], 1.2)]
    return union(parts, like)
