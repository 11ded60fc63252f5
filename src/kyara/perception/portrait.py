"""Geometry of faces for the losses of portraits, differentiable. Points are (B, K, 2), as fractions of the width and
height, in the order of `landmarks.NAMES`. Without a face they mean nothing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.nn.constants import constant
from kyara.perception.landmarks import LEFT, RIGHT

PHOTO, DRAWN = (0.45, 0.15), (0.6, 0.45)  # initial width and height of an eye, in distances between the eyes
LEAST = 0.05  # minimum distance between the eyes, as a fraction of the sides: without a face it may be 0
LARGEST = 2.5  # maximum enlargement of eyes
REACH = (0.6, 0.75)  # radius of the region that moves with an eye, in distances between the eyes
AROUND = (0.42, 0.34)  # radius of an eye with its lashes, across and down, in distances between the eyes
STEPS = 12  # fixed-point iterations of `enlarge`; the error is then below a thousandth of the shift
TONES = 8  # side of the low-resolution tone that `relief` subtracts


def centres(points: Tensor) -> tuple[Tensor, Tensor]:
    """Centres of the eyes (B, 2, 2), left in the picture first, and their distance (B,)."""
    middles = torch.stack([points[:, LEFT].mean(1), points[:, RIGHT].mean(1)], 1)
    return middles, (middles[:, 1] - middles[:, 0]).norm(dim=1).clamp_min(LEAST)


def eye_size(points: Tensor) -> Tensor:
    """Mean width and height (2,) of the eyes, in distances between them."""
    _, apart = centres(points)
    eyes = torch.stack([points[:, LEFT], points[:, RIGHT]], 1)  # (B, 2, 4, 2): left, top, right, bottom
    wide, high = (eyes[:, :, i] - eyes[:, :, i + 2] for i in (0, 1))
    return torch.stack([(side.norm(dim=2) / apart[:, None]).mean() for side in (wide, high)])


def growth(points: Tensor, scale: Tensor, at: Tensor) -> Tensor:
    """Backward displacements (B, N, 2) at positions `at` (B, N, 2) that enlarge the eyes by `scale` (2,)."""
    centre, apart = centres(points)
    reach = apart[:, None] * constant(REACH, apart)  # (B, 2)
    strength = 1 - 1 / scale.clamp(1, LARGEST)
    moved = torch.zeros_like(at)
    for eye in range(2):
        off = at - centre[:, eye, None]
        near = (1 - (off / reach[:, None]).square().sum(2, keepdim=True)).clamp_min(0).square()
        moved = moved - off * near * strength
    return moved


def enlarge(points: Tensor, scale: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Enlarges eyes by `scale` (2,): backward displacements (B, 2, H, W) in pixels, x first, and the moved points."""
    at = middles(height, width, points.device).flatten(0, 1).expand(len(points), -1, -1)  # (B, H W, 2)
    shift = growth(points, scale, at).unflatten(1, (height, width)) * constant((width, height), points)
    there = points
    for _ in range(STEPS):
        there = points - growth(points, scale, there)
    return shift.movedim(3, 1), there


def middles(height: int, width: int, device: torch.device) -> Tensor:
    """Centres of all pixels, as fractions of the sides, (H, W, 2) with x first."""
    y, x = ((torch.arange(n, device=device) + 0.5) / n for n in (height, width))
    return torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)], 2)


def remap(pictures: Tensor, shift: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) under backward displacements `shift` (B, 2, H, W) in pixels."""
    height, width = pictures.shape[2:]
    places = middles(height, width, pictures.device) + shift.float().movedim(1, 3) / constant((width, height), shift)
    return F.grid_sample(pictures.float(), 2 * places - 1, padding_mode="border", align_corners=False)


def around_eyes(points: Tensor, height: int, width: int) -> Tensor:
    """Soft mask of the eyes, (B, 1, H, W) in [0, 1]."""
    at = middles(height, width, points.device).flatten(0, 1)  # (H W, 2)
    centre, apart = centres(points)
    reach = apart[:, None] * constant(AROUND, apart)  # (B, 2)
    off = (at[None, None] - centre[:, :, None]) / reach[:, None, None]  # (B, 2, H W, 2)
    return ((1 - off.square().sum(3)) * 3).clamp(0, 1).amax(1).unflatten(1, (1, height, width))


def relief(pictures: Tensor) -> Tensor:
    """Pictures minus their low-resolution tone."""
    return pictures - F.interpolate(F.adaptive_avg_pool2d(pictures, TONES), pictures.shape[2:], mode="bilinear")


def distance(found: Tensor, points: Tensor) -> Tensor:
    """Mean L1 distance of points from their targets, in distances between the eyes."""
    return ((found - points).abs().sum(2) / centres(points)[1][:, None]).mean()
