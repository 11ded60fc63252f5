"""Random affine maps and colour changes: how classifiers and landmark detectors vary their pictures in training."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.nn.precision import affine_grid, full_precision


def uniform(pictures: Tensor, *shape: int) -> Tensor:
    """Random numbers (B, *shape) in [-1, 1), on the device of the pictures (B, ...)."""
    return torch.rand(len(pictures), *shape, device=pictures.device) * 2 - 1


def random_affine(pictures: Tensor, *, degrees: float, scale: float, translate: float) -> Tensor:
    """Affine maps (B, 2, 3), in [-1, 1], from varied pictures to pictures (B, C, H, W): a rotation by up to `degrees`,
    a scale with a logarithm of up to `scale`, a translation by up to the fraction `translate` of the side."""
    height, width = pictures.shape[2:]
    angle, zoom = uniform(pictures) * math.radians(degrees), torch.exp(uniform(pictures) * scale)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = torch.stack([cos, -sin * height / width, sin * width / height, cos], 1).view(-1, 2, 2)
    return torch.cat([rows, uniform(pictures, 2, 1) * 2 * translate], 2)  # in [-1, 1] a side is 2 long


def warp(pictures: Tensor, theta: Tensor, padding: str) -> Tensor:
    """Pictures (B, C, H, W) under affine maps (B, 2, 3); `padding` as `grid_sample` takes it."""
    grid = affine_grid(theta, pictures.shape)
    return F.grid_sample(pictures.float(), grid, padding_mode=padding, align_corners=False)


@full_precision
def warp_points(points: Tensor, theta: Tensor) -> Tensor:
    """Where points (B, K, 2), as fractions of the sides, are in pictures warped by `theta` (B, 2, 3)."""
    there = (2 * points - 1 - theta[:, None, :, 2]) @ torch.linalg.inv(theta[:, :, :2]).transpose(1, 2)  # in [-1, 1]
    return (there + 1) / 2


def jitter(pictures: Tensor, strength: float, channels: int = 3) -> Tensor:
    """Pictures (B, 3, H, W) with random contrast and brightness, of each channel or of all alike. Not clamped."""
    return pictures * (1 + uniform(pictures, channels, 1, 1) * strength) + uniform(pictures, channels, 1, 1) * strength
