"""Turning drawn heads to the left or right.

A generator that has only seen faces from the front cannot turn one. Here a finished picture is deformed as a view of a
solid head would be: what lies in front of the picture plane is shifted in proportion to its depth and to the sine of
the angle. The depth is that of an ellipsoid around the head and of a nose on it, both placed by `builtin:landmarks`.
Angles are in degrees, positive towards the right of the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.perception import landmarks, portrait
from kyara.perception.landmarks import NAMES

WIDTH, HEIGHT = 1.45, 1.75  # radii of the head, in distances between the eyes, and between the eyes and the chin
MIDDLE = 0.25  # height of its centre, from the eyes down to the chin
DEPTH = 1.3  # of the head, in distances between the eyes
NOSE_RADIUS, NOSE_DEPTH = 0.4, 0.35  # of the nose, likewise
STEPS = 16  # fixed-point iterations; at the largest angle the error is then below a twentieth of a pixel of 128
PHOTO_NOSE = 0.5  # how far the nose is in front of the eyes in photos, in distances between them
NOSE, CHIN = NAMES.index("nose"), NAMES.index("chin")


def turn(pictures: Tensor, degrees: Sequence[float]) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1] of one face each, with the heads turned by `degrees`, at most 25; pictures
    with 0 are returned as they are. Computed one by one, so that they are independent."""
    if not any(degrees):
        return pictures
    pairs = zip(pictures.split(1), degrees, strict=True)
    return torch.cat([_turned(one, by) if by else one for one, by in pairs])


def _turned(picture: Tensor, degrees: float) -> Tensor:
    places = portrait.middles(picture.shape[2], picture.shape[3], picture.device)[None]
    points = landmarks.find(picture)
    moved = places.clone()
    for _ in range(STEPS):
        moved[..., 0] = places[..., 0] - shift(points, moved, degrees)
    sampled = F.grid_sample(
        picture.float(), 2 * moved - 1, mode="bicubic", padding_mode="reflection", align_corners=False
    )
    return sampled.clamp(-1, 1).to(picture.dtype)


def shift(points: Tensor, places: Tensor, degrees: float) -> Tensor:
    """How far the picture at `places` (B, H, W, 2) moves to the right, (B, H, W), for landmarks (B, K, 2); all as
    fractions of the sides."""
    eyes, apart = portrait.centres(points)
    middle, apart = eyes.mean(1), apart[:, None, None]
    face = (points[:, CHIN, 1] - middle[:, 1]).clamp_min(portrait.LEAST)  # height from the eyes to the chin
    centre = torch.stack([middle[:, 0], middle[:, 1] + MIDDLE * face], 1)
    radii = torch.stack([WIDTH * apart[:, 0, 0], HEIGHT * face], 1)
    head = ((places - centre[:, None, None]) / radii[:, None, None]).square().sum(3)
    nose = ((places - points[:, None, None, NOSE]) / (NOSE_RADIUS * apart[..., None])).square().sum(3)
    depth = DEPTH * (1 - head).clamp_min(0) + NOSE_DEPTH * (1 - nose).clamp_min(0).square()
    return math.sin(math.radians(degrees)) * apart * depth


def angle(points: Tensor) -> Tensor:
    """Angles (B,) in degrees of faces in photos with landmarks (B, K, 2), levelled by eyes and mouth: from how far the
    nose is beside the middle of the eyes."""
    eyes, apart = portrait.centres(points)
    aside = (points[:, NOSE, 0] - eyes.mean(1)[:, 0]) / apart
    return torch.rad2deg(torch.asin((aside / PHOTO_NOSE).clamp(-1, 1)))
