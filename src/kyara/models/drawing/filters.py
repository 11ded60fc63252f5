"""Filters of single pictures, (C, H, W) in [0, 1]: weighted blur, guided filter, flow along edges, lines. Lengths are
in pixels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.models.cartoongan.painting import LUMINANCE, box
from kyara.models.cartoongan.painting import blur as gaussian
from kyara.nn.constants import constant

WIDEST = 3.0  # a Gaussian with a larger deviation is computed on a smaller copy


def light(picture: Tensor) -> Tensor:
    """Luminance (1, H, W)."""
    return (picture * constant(LUMINANCE, picture)[:, None, None]).sum(0, keepdim=True)


def blur(x: Tensor, deviation: float) -> Tensor:
    """Gaussian blur of (C, H, W)."""
    height, width = x.shape[1:]
    factor = max(1, min(int(deviation / WIDEST), min(height, width) // 4))
    if factor == 1:
        return gaussian(x[None], deviation)[0] if deviation > 0.2 else x
    small = F.interpolate(x[None], (max(1, height // factor), max(1, width // factor)), mode="area")
    small = gaussian(small, deviation / factor)
    return F.interpolate(small, (height, width), mode="bicubic")[0]


def known_blur(x: Tensor, weight: Tensor, deviation: float) -> Tensor:
    """Blur of (C, H, W) where only pixels of `weight` (1, H, W) count (normalised convolution, Knutsson and Westin
    1993)."""
    both = blur(torch.cat([x * weight, weight]), deviation)
    wide = blur(torch.cat([x * weight, weight]), 6 * deviation)  # where nothing known is near
    both = both + 1e-3 * wide
    return both[:-1] / both[-1:].clamp_min(1e-6)


def guided(x: Tensor, guide: Tensor, radius: int, epsilon: float) -> Tensor:
    """Guided filter of (C, H, W) by a colour guide (3, H, W) (He et al. 2010, equations 19 to 21), computed at half the
    resolution (He and Sun 2015)."""
    size = x.shape[1:]
    small = [F.avg_pool2d(y[None], 2, ceil_mode=True)[0] for y in (x, guide)]
    value, colour = small
    radius = max(1, radius // 2)

    def mean(y: Tensor) -> Tensor:
        return box(y[None], radius)[0]

    at = mean(colour)
    pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    products = mean(torch.stack([colour[i] * colour[j] for i, j in pairs]))
    covariance = colour.new_empty(*colour.shape[1:], 3, 3)
    for k, (i, j) in enumerate(pairs):
        covariance[..., i, j] = covariance[..., j, i] = products[k] - at[i] * at[j]
    covariance = covariance + epsilon * torch.eye(3, device=x.device)
    mean_x = mean(value)
    cross = torch.stack([mean(value * colour[i]) - mean_x * at[i] for i in range(3)], -1)  # (C, h, w, 3)
    slope = (_inverse(covariance)[None] @ cross[..., None])[..., 0]
    offset = mean_x - (slope * at.movedim(0, 2)).sum(3)
    fits = box(torch.cat([slope.movedim(3, 1).flatten(0, 1), offset])[None], radius)
    fits = F.interpolate(fits, size, mode="bilinear")[0]
    slope, offset = fits[: 3 * len(x)].unflatten(0, (len(x), 3)), fits[3 * len(x) :]
    return (slope * guide).sum(1) + offset


def _inverse(m: Tensor) -> Tensor:
    """Inverse of symmetric matrices (..., 3, 3) by cofactors."""
    a, b, c, d, e, f = m[..., 0, 0], m[..., 0, 1], m[..., 0, 2], m[..., 1, 1], m[..., 1, 2], m[..., 2, 2]
    rows = (d * f - e * e, c * e - b * f, b * e - c * d, a * f - c * c, b * c - a * e, a * d - b * b)
    det = a * rows[0] + b * rows[1] + c * rows[2]
    order = (0, 1, 2, 1, 3, 4, 2, 4, 5)
    return torch.stack([rows[i] for i in order], -1).unflatten(-1, (3, 3)) / det[..., None, None].clamp_min(1e-12)


def flow(grey: Tensor, deviation: float) -> Tensor:
    """Unit vectors along the edges of (1, H, W), (2, H, W) with x first: the smoothed structure tensor's minor
    eigenvectors (Kyprianidis and Döllner 2008)."""
    x = F.pad(grey[None], (1, 1, 1, 1), mode="replicate")[0, 0]
    dx = (x[1:-1, 2:] - x[1:-1, :-2]) + 0.5 * (x[:-2, 2:] - x[:-2, :-2] + x[2:, 2:] - x[2:, :-2])
    dy = (x[2:, 1:-1] - x[:-2, 1:-1]) + 0.5 * (x[2:, :-2] - x[:-2, :-2] + x[2:, 2:] - x[:-2, 2:])
    e, f, g = blur(torch.stack([dx * dx, dx * dy, dy * dy]), deviation)
    angle = 0.5 * torch.atan2(2 * f, e - g) + math.pi / 2  # of the major eigenvector, turned
    return torch.stack([torch.cos(angle), torch.sin(angle)])


def along(x: Tensor, directions: Tensor, deviation: float, step: float = 1.0) -> Tensor:
    """Gaussian blur of (C, H, W) along stream lines of `directions` (2, H, W) (line integral convolution)."""
    height, width = x.shape[1:]
    rows, columns = torch.meshgrid(
        torch.arange(height, device=x.device) + 0.5, torch.arange(width, device=x.device) + 0.5, indexing="ij"
    )
    start = torch.stack([columns, rows], 2)
    scale = constant((2 / width, 2 / height), x)
    total, weights = x.clone(), 1.0
    field = torch.cat([x, directions])
    for sign in (1.0, -1.0):
        at, heading = start, directions.movedim(0, 2) * sign
        for k in range(1, math.ceil(2 * deviation / step) + 1):
            at = at + heading * step
            seen = F.grid_sample(field[None], (at * scale - 1)[None], padding_mode="border", align_corners=False)[0]
            weight = math.exp(-((k * step) ** 2) / (2 * deviation**2))
            total, weights = total + weight * seen[:-2], weights + weight
            turned = seen[-2:].movedim(0, 2)
            heading = torch.where((turned * heading).sum(2, keepdim=True) < 0, -turned, turned)
    return total / weights


def line_contrast(grey: Tensor, width: float) -> Tensor:
    """Contrast (1, H, W) of dark lines of about `width`, positive in the line: difference of Gaussians. Smoothed along
    the flow it is that of Kang et al. 2007."""
    return blur(grey, 1.6 * width) - blur(grey, width)


def step(x: Tensor, threshold: float | Tensor, softness: float) -> Tensor:
    """Smooth step from 0 below the threshold to 1 above it."""
    return ((x - threshold) / (2 * softness) + 0.5).clamp(0, 1)


def border(share: Tensor, width: float) -> Tensor:
    """Line of `width` (1, H, W) where a smooth map (1, H, W) passes 1/2, antialiased."""
    x = F.pad(share[None], (1, 1, 1, 1), mode="replicate")[0, 0]
    slope = torch.hypot(x[1:-1, 2:] - x[1:-1, :-2], x[2:, 1:-1] - x[:-2, 1:-1])[None] / 2
    distance = (share - 0.5).abs() / slope.clamp_min(4e-3)
    return ((width / 2 - distance) + 0.5).clamp(0, 1)


def quantile(x: Tensor, weight: Tensor, shares: tuple[float, ...]) -> Tensor:
    """Weighted quantiles (Q,) of x (1, H, W), of a third of the pixels."""
    values, order = x.flatten()[::3].sort()
    total = weight.flatten()[::3][order].cumsum(0)
    at = torch.searchsorted(total, total[-1] * constant(shares, total))
    return values[at.clamp_max(len(values) - 1)]


def mean_colour(x: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean (C,) of (C, H, W)."""
    return (x * weight).sum((1, 2)) / weight.sum().clamp_min(1e-6)
