"""The contours of a face as a list of points, and crops of pictures around a face."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.nn.constants import constant
from kyara.nn.precision import affine_grid, full_precision

PARTS = {
    "oval": 18,
    "left eye": 16,
    "right eye": 16,
    "irises": 2,
    "left brow": 10,
    "right brow": 10,
    "nose": 12,
    "outer lips": 20,
    "inner lips": 20,
}
"""Parts of a face and their numbers of points, in order. Left is left in the picture. Closed contours are clockwise:
the oval from the top; an eye from its outer corner along the upper lid, in both eyes; a brow from its outer end along
the upper edge; lips from the left corner. The nose: five along the bridge to the base, then seven along the base from
the left wing."""
MESH = {
    "oval": (10, 332, 251, 356, 454, 361, 397, 379, 377, 152, 176, 136, 172, 132, 234, 127, 21, 103),
    "left eye": (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
    "right eye": (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249),
    "irises": (468, 473),
    "left brow": (70, 63, 105, 66, 107, 55, 65, 52, 53, 46),
    "right brow": (300, 293, 334, 296, 336, 285, 295, 282, 283, 276),
    "nose": (168, 6, 195, 4, 2, 129, 98, 97, 2, 326, 327, 358),
    "outer lips": (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146),
    "inner lips": (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95),
}
"""The same points in MediaPipe's face mesh, for labels."""
ALIGNED = 0.78  # size of the frame of aligned faces relative to FFHQ's, as `preparation.align.PORTRAIT`
MOST_FINE = 8  # maximum number of samples in each direction for a pixel of a crop
COUNT = sum(PARTS.values())
"""Number of points."""


def slices() -> dict[str, slice]:
    """The points of each part."""
    found, first = {}, 0
    for name, count in PARTS.items():
        found[name] = slice(first, first + count)
        first += count
    return found


AT = slices()
REGIONS = ("background", "skin", "hair", "clothes")
"""Regions of a picture, in the order of the predictions."""


def mirrored() -> list[int]:
    """Index of each point after mirroring."""
    order: list[int] = []
    for name, count in PARTS.items():
        at = AT[name].start
        if name in ("left eye", "left brow", "right eye", "right brow"):
            other = name.replace("left", "?").replace("right", "left").replace("?", "right")
            order += range(AT[other].start, AT[other].stop)
        elif name == "irises":
            order += [at + 1, at]
        elif name == "nose":
            order += [*range(at, at + 5), *range(at + 11, at + 4, -1)]
        else:  # clockwise from the top, or from the left corner, whose mirror is opposite
            start = 0 if name == "oval" else count // 2
            order += [at + (start - i) % count for i in range(count)]
    return order


def anchors(points: Tensor) -> Tensor:
    """Centres of the eyes and corners of the mouth (B, 4, 2) of contours (B, COUNT, 2)."""
    lips = AT["outer lips"].start
    eyes = [points[:, AT[name]].mean(1) for name in ("left eye", "right eye")]
    return torch.stack([*eyes, points[:, lips], points[:, lips + 10]], 1)


def frames(anchors: Tensor, zoom: float) -> Tensor:
    """Upright squares around faces, by the alignment of FFHQ (Karras et al. 2019), `zoom` times as large: affine maps
    (B, 2, 3) from the square [-1, 1] to the coordinates of `anchors` (B, 4, 2)."""
    eyes, mouth = anchors[:, :2].mean(1), anchors[:, 2:].mean(1)
    between, down = anchors[:, 1] - anchors[:, 0], mouth - eyes
    across = between - torch.stack([-down[:, 1], down[:, 0]], 1)
    size = torch.maximum(between.norm(dim=1) * 2.0, down.norm(dim=1) * 1.8) * zoom
    across = F.normalize(across, dim=1) * size[:, None]
    return torch.stack([across, torch.stack([-across[:, 1], across[:, 0]], 1), eyes + down * 0.1], 2)


def crop(pictures: Tensor, maps: Tensor, side: int, mode: str = "bilinear", padding: str = "border") -> Tensor:
    """Squares (B, C, side, side) of pictures (B, C, H, W) under maps (B, 2, 3) from [-1, 1] to pixels; antialiased if
    bilinear."""
    height, width = pictures.shape[2:]
    finer = 1
    if mode == "bilinear":
        finer = min(max(round(float(maps[:, :, 0].norm(dim=1).mean()) * 2 / side), 1), MOST_FINE)
    scale = constant((2 / width, 2 / height), maps)[:, None]
    theta = maps * scale
    theta = torch.cat([theta[:, :, :2], theta[:, :, 2:] - 1], 2)
    grid = affine_grid(theta, [len(pictures), pictures.shape[1], side * finer, side * finer])
    return F.avg_pool2d(F.grid_sample(pictures, grid, mode=mode, padding_mode=padding, align_corners=False), finer)


@full_precision
def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """Affine maps (B, 2, 3) that apply `inner` and then `outer`."""
    linear = outer[:, :, :2]
    return torch.cat([linear @ inner[:, :, :2], linear @ inner[:, :, 2:] + outer[:, :, 2:]], 2)


@full_precision
def place(points: Tensor, maps: Tensor) -> Tensor:
    """Points (B, K, 2) of squares, as fractions of the side, in the coordinates that `maps` (B, 2, 3) lead to."""
    return (points * 2 - 1) @ maps[:, :, :2].transpose(1, 2) + maps[:, None, :, 2]


@full_precision
def find_place(points: Tensor, maps: Tensor) -> Tensor:
    """The inverse of `place`."""
    there = (points - maps[:, None, :, 2]) @ torch.linalg.inv(maps[:, :, :2]).transpose(1, 2)
    return (there + 1) / 2
