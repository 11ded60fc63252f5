"""Random crops of pictures with faces, for training."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.data import variation
from kyara.data.restyle import restyle
from kyara.models.detector.config import AugmentConfig
from kyara.nn.constants import constant
from kyara.nn.filters import pad_even

SAMPLES = 12  # samples of `deviations` along each side of a box


class Targets(NamedTuple):
    """The faces in a batch of crops."""

    boxes: Tensor  # (B, M, 4) x0 y0 x1 y1 in pixels
    points: Tensor  # (B, M, 5, 2) in pixels, NaN where unknown
    learned: Tensor  # (B, M) bool: to be found
    ignored: Tensor  # (B, M) bool: neither to be found nor background, because too small or cut off


def vary(pictures: Tensor, faces: Tensor, config: AugmentConfig) -> tuple[Tensor, Targets]:
    """Random crops (B, 3, h, w) of pictures (B, 3, H, W) with faces (B, M, 7, 2), some of them joined from four."""
    height, width = (max(32, round(side * config.crop / 32) * 32) for side in pictures.shape[2:])
    size, faces = (height, width), inside(faces, config.visible)
    half = F.avg_pool2d(pad_even(pictures), 2)
    theta = random_views(len(pictures), size, pictures, config)
    whole, there = crops(pictures, half, theta, size), moved_faces(faces, theta, size)
    there = F.pad(there, (0, 0, 0, 0, 0, faces.shape[1] * 3), value=torch.nan)  # (B, 4 M, 7, 2)
    if joined := int(len(pictures) * config.mosaic + float(torch.rand(()))):  # drawn on the host
        whole[:joined], there[:joined] = mosaics(pictures, half, faces, joined, size, config)
    drawn, found = restyle(whole, config.restyle), targets(there, size, config)
    faint = found.learned & (deviations(drawn, found.boxes) < config.faintest)
    return drawn, found._replace(learned=found.learned & ~faint, ignored=found.ignored | faint)


def inside(faces: Tensor, visible: float) -> Tensor:
    """Faces (B, M, 7, 2), as fractions of their pictures, cut off at the border; NaN where less than the share
    `visible` of the box is left."""
    cut = faces[:, :, :2].clamp(0, 1)
    areas = [(box[:, :, 1] - box[:, :, 0]).prod(2).abs() for box in (cut, faces)]
    kept = (areas[0] >= visible * areas[1])[..., None, None]
    return torch.where(kept, torch.cat([cut, faces[:, :, 2:]], 2), torch.nan)


def deviations(pictures: Tensor, boxes: Tensor) -> Tensor:
    """Standard deviation (B, M) of the luminance of pictures (B, 3, H, W) at SAMPLES x SAMPLES places in boxes (B, M,
    4)."""
    at = (torch.arange(SAMPLES, device=boxes.device) + 0.5) / SAMPLES
    sides = boxes[..., 2:] - boxes[..., :2]
    x, y = (boxes[..., k : k + 1] + sides[..., k : k + 1] * at for k in (0, 1))  # (B, M, SAMPLES)
    places = torch.stack(torch.broadcast_tensors(x[:, :, None], y[..., None]), 4).flatten(2, 3)
    grid = places * (2 / constant((pictures.shape[3], pictures.shape[2]), boxes)) - 1
    return F.grid_sample(pictures, grid, align_corners=False).mean(1).std(2)


def mosaics(
    pictures: Tensor, half: Tensor, faces: Tensor, count: int, size: tuple[int, int], config: AugmentConfig
) -> tuple[Tensor, Tensor]:
    """Pictures (count, 3, *size) that are joined from four crops each, and their faces (count, 4 M, 7, 2) in pixels."""
    config = replace(config, smallest=config.smallest * 0.7, largest=config.largest * 0.7)
    quarter = size[0] // 2, size[1] // 2
    parts, found = [], []
    for corner in ((0, 0), (quarter[1], 0), (0, quarter[0]), quarter[::-1]):
        order = torch.randperm(len(pictures), device=pictures.device)[:count]
        view = random_views(count, quarter, pictures, config)
        parts.append(crops(pictures[order], half[order], view, quarter))
        there = moved_faces(faces[order], view, quarter)
        seen = targets(there, quarter, config)
        cut = torch.cat([seen.boxes.unflatten(2, (2, 2)), there[:, :, 2:]], 2) + constant(corner, faces)
        found.append(torch.where((seen.learned | seen.ignored)[..., None, None], cut, torch.nan))
    rows = [torch.cat(parts[:2], 3), torch.cat(parts[2:], 3)]
    return torch.cat(rows, 2), torch.cat(found, 1)


def random_views(count: int, size: tuple[int, int], source: Tensor, config: AugmentConfig) -> Tensor:
    """Affine maps (count, 2, 3) in [-1, 1] from crops of `size` (height, width) to pictures `source` (B, 3, H, W)."""

    def random(*shape: int) -> Tensor:
        return torch.rand(count, *shape, device=source.device)

    low, high = math.log(config.smallest), math.log(config.largest)
    zoom = torch.exp(random() * (high - low) + low)
    limit = torch.where(random() < 0.5, config.degrees, config.degrees / 5)
    limit = torch.where(random() < config.upside, 180.0, limit)
    angle = (2 * random() - 1) * torch.deg2rad(limit)
    sides = constant((size[1] / source.shape[3], size[0] / source.shape[2]), zoom) / zoom[:, None]  # (count, 2)
    aspect = source.shape[2] / source.shape[3]
    cos, sin = torch.cos(angle), torch.sin(angle)
    x = torch.stack([cos * sides[:, 0], -sin * sides[:, 1] * aspect], 1)
    y = torch.stack([sin * sides[:, 0] / aspect, cos * sides[:, 1]], 1)
    room = (1 - sides).abs() + 0.1
    return torch.cat([torch.stack([x, y], 1), ((2 * random(2) - 1) * room)[..., None]], 2)


def crops(pictures: Tensor, half: Tensor, theta: Tensor, size: tuple[int, int]) -> Tensor:
    """Crops (B, 3, *size) of pictures (B, 3, H, W), or where they are reduced of copies of `half` the size, by affine
    maps (B, 2, 3), with a random colour outside."""
    grid = F.affine_grid(theta, [len(theta), 3, *size], align_corners=False)
    step = theta[:, :, 0].norm(dim=1) * pictures.shape[3] / size[1]  # pixels of the picture per pixel of the crop
    reduced = (step > 1.4)[:, None, None, None]
    fine, coarse = (F.grid_sample(p, grid, padding_mode="border", align_corners=False) for p in (pictures, half))
    colour = variation.uniform(pictures, 3, 1, 1)
    colour = torch.where(variation.uniform(pictures, 1, 1, 1) < 0, colour, 1.0)
    return torch.where((grid.abs().amax(3) <= 1)[:, None], torch.where(reduced, coarse, fine), colour)


def moved_faces(faces: Tensor, theta: Tensor, size: tuple[int, int]) -> Tensor:
    """Faces (B, M, 7, 2), as fractions of pictures, in crops of `size` by affine maps (B, 2, 3), in pixels. The box of
    a rotated face is that of the ellipse in its box."""
    sides = constant((size[1], size[0]), faces)
    first, last = faces[:, :, 0], faces[:, :, 1]
    corners = torch.stack([(first + last) / 2, last, torch.stack([first[..., 0], last[..., 1]], 2)], 2)
    places = torch.cat([corners, faces[:, :, 2:]], 2)  # centre, two neighbouring corners, points
    there = variation.warp_points(places.flatten(1, 2), theta).view_as(places) * sides
    centre = there[:, :, 0]
    axes = [(there[:, :, 1] + sign * there[:, :, 2]) / 2 - (centre if sign > 0 else 0) for sign in (1, -1)]
    half = (axes[0].square() + axes[1].square()).sqrt()
    return torch.cat([torch.stack([centre - half, centre + half], 2), there[:, :, 3:]], 2)


def targets(faces: Tensor, size: tuple[int, int], config: AugmentConfig) -> Targets:
    """What is to be found of faces (B, M, 7, 2), in pixels, in crops of `size`."""
    sides = constant((size[1], size[0]), faces)
    clipped = faces[:, :, :2].clamp_min(0).minimum(sides)
    areas = [(box[:, :, 1] - box[:, :, 0]).prod(2) for box in (clipped, faces)]
    visible = areas[0] / areas[1]  # NaN where there is no face
    large = (faces[:, :, 1] - faces[:, :, 0]).amax(2) >= config.smallest_face
    learned = (visible >= config.visible) & large
    ignored = (visible > 0.1) & ~learned
    boxes = torch.where((learned | ignored)[..., None], clipped.flatten(2), 0.0)
    return Targets(boxes, faces[:, :, 2:], learned, ignored)
