"""Drawings of people: a network finds the contours of each face, another the regions of the picture, and every region
is drawn in its own way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.data import variation
from kyara.models import base
from kyara.models.drawing import sketch
from kyara.models.drawing.config import PRESETS, Config
from kyara.models.drawing.finding import find_faces
from kyara.models.drawing.layout import COUNT, anchors, compose, crop, find_place, frames, mirrored
from kyara.models.drawing.memory import Memory
from kyara.models.drawing.networks import Regions
from kyara.models.landmarks import compare
from kyara.nn.constants import constant
from kyara.perception.landmarks import Network, places

UNKNOWN = -100  # label of pixels outside the picture


class Model(base.Translator):
    """The two networks (Newell et al. 2016; Sun et al. 2018) and their moving averages. It learns from pictures whose
    left half is a photo and whose right half shows its regions: background black, skin red, hair green, clothes
    blue."""

    presets = PRESETS
    phases = ("points", "regions")
    augments = False
    traceable = False
    averages: ClassVar[Mapping[str, str]] = {"points": "points_ema", "regions": "regions_ema"}
    data_spec = base.DataSpec(points=COUNT, holdout=0.05)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config = config
        self.points = Network(config.network.channels, COUNT)
        self.regions = Regions(config.network.channels)
        self.points_ema, self.regions_ema = self.average(self.points), self.average(self.regions)

    def translate(self, pictures: Tensor) -> Tensor:
        return torch.stack([self.draw(picture, Memory()) for picture in pictures])

    def film_fn(self) -> Callable[[Tensor], Tensor]:
        memory = Memory()
        return lambda frames: torch.stack([self.draw(frame, memory) for frame in frames])

    def draw(self, picture: Tensor, memory: Memory) -> Tensor:
        """The drawing of a picture (3, H, W) in [-1, 1]. `memory` smooths consecutive frames of a film."""
        with torch.no_grad():
            faces = find_faces(picture.float(), self.points_ema, self.regions_ema, self.config.network)
            with torch.autocast(picture.device.type, enabled=False):  # bfloat16 is too coarse for lines
                return sketch.draw(picture.float(), memory.follow(faces), self.config.style, memory)

    def losses(self, phase: str, batch: base.Batch) -> dict[str, Tensor]:
        if not getattr(self.config.losses, phase):
            return {}
        photos, labels, points = pairs(batch)
        known = points.isfinite().all(2).all(1)
        points = torch.where(known[:, None, None], points, 0.5) + 0.01 * (~known)[:, None, None] * torch.rand_like(
            points
        )
        points = points * constant((photos.shape[3], photos.shape[2]), points)
        network, at = self.config.network, anchors(points)
        if phase == "points":
            maps = self.varied(frames(at, network.face_zoom))
            seen = self.recoloured(crop(photos, maps, network.points_size, padding="reflection"))
            return self.points_losses(seen, find_place(points, maps), known)
        maps = self.varied(frames(at, network.portrait_zoom))
        seen = self.recoloured(crop(photos, maps, network.regions_size, padding="reflection"))
        target = crop(labels, maps, seen.shape[3] // 2, "nearest", "zeros")
        target = torch.where(target.sum(1) > 0, target.argmax(1), UNKNOWN)
        logits = F.interpolate(self.regions(seen), target.shape[1:], mode="bilinear")
        surprise = F.cross_entropy(logits, target, ignore_index=UNKNOWN, reduction="none").mean((1, 2))
        return {"regions": (surprise * known).sum() / known.sum().clamp_min(1) * self.config.losses.regions}

    def points_losses(self, seen: Tensor, points: Tensor, known: Tensor) -> dict[str, Tensor]:
        """L1 of the points and cross entropy of the heatmaps."""
        weights = self.config.losses
        inside = ((points > 0) & (points < 1)).all(2) & known[:, None]
        distance, surprise = compare(self.points(seen), points, inside, weights.sigma)
        return {"distance": distance * weights.points, "maps": surprise * weights.heatmap}

    def varied(self, maps: Tensor) -> Tensor:
        """The squares, randomly moved, turned and scaled."""
        given = self.config.augment
        square = maps.new_zeros(len(maps), 1, 1, 1)
        theta = variation.random_affine(square, degrees=given.degrees, scale=given.scale, translate=given.translate)
        return compose(maps, theta)

    def recoloured(self, seen: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) with random colours, a third of them grey and a quarter blurred."""
        colour = self.config.augment.colour
        grey = seen.mean(1, keepdim=True).expand(-1, 3, -1, -1)
        seen = torch.where(variation.uniform(seen, 1, 1, 1) < -1 / 3, grey, seen)
        seen = variation.jitter(variation.jitter(seen, colour / 2), colour, 1)
        coarse = F.interpolate(F.avg_pool2d(seen, 2), seen.shape[2:], mode="bilinear")
        return torch.where(variation.uniform(seen, 1, 1, 1) < -0.5, coarse, seen).clamp(-1, 1)

    def measure(self, batch: base.Batch, distance: base.Distance) -> dict[str, float]:
        """Mean error of the points relative to the distance between the eyes, and share of wrong pixels."""
        photos, labels, points = pairs(batch)
        known = points.isfinite().all(2).all(1)
        photos, labels, points = photos[known], labels[known], points[known]
        points = points * constant((photos.shape[3], photos.shape[2]), points)
        at = anchors(points)
        network = self.config.network
        near, wide = frames(at, network.face_zoom), frames(at, network.portrait_zoom)
        found = places(self.points_ema(crop(photos, near, network.points_size)))
        off = (found - find_place(points, near)).norm(dim=2) * 2 * near[:, :, 0].norm(dim=1)[:, None]
        error = off / (at[:, 1] - at[:, 0]).norm(dim=1)[:, None]
        logits = self.regions_ema(crop(photos, wide, network.regions_size))
        target = crop(labels, wide, logits.shape[3], "nearest", "zeros")
        inside = target.sum(1) > 0
        wrong = (logits.argmax(1) != target.argmax(1)) & inside
        return {"error": float(error.nanmean()), "regions": float(wrong.sum() / inside.sum().clamp_min(1))}


def pairs(batch: base.Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Photos (B, 3, H, W), regions (B, 4, H, W) as one-hot vectors and points (B, COUNT, 2), as fractions of the
    photo's sides, of pictures that may be mirrored."""
    points, pictures = batch.points, batch.real
    if points is None or points.shape[1] != COUNT:
        given = "no" if points is None else str(points.shape[1])
        raise ValueError(f"the column `points` has {given} points; it must have {COUNT}: see models/drawing/layout.py")
    flip = torch.zeros(len(pictures), dtype=torch.bool, device=pictures.device)
    if batch.mirrored is not None:
        flip = batch.mirrored
    pictures = torch.where(flip[:, None, None, None], pictures.flip(3), pictures)  # photo on the left again
    half = pictures.shape[3] // 2
    photos, colours = pictures[..., :half], pictures[..., half : 2 * half]
    points = torch.where(flip[:, None, None], torch.stack([1 - points[..., 0], points[..., 1]], 2), points)
    points = torch.stack([points[..., 0] * pictures.shape[3] / half, points[..., 1]], 2)
    order = constant(mirrored(), points, torch.int64)
    turned = torch.stack([1 - points[..., 0], points[..., 1]], 2).index_select(1, order)
    present = colours > 0
    labels = torch.cat([~present.any(1, keepdim=True), present], 1).to(photos.dtype)
    flips = flip[:, None, None]
    photos, labels = (torch.where(flips[..., None], x.flip(3), x) for x in (photos, labels))
    return photos, labels, torch.where(flips, turned, points)
