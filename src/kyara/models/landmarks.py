"""Landmarks: where the eyes, the nose, the mouth and the chin of a face are, in photos and in drawings alike.

A small hourglass makes a map for each point; the mean place under its softmax is the point (Sun et al. 2018, "Integral
Human Pose Regression"), so everything is differentiable: the places in a picture can be part of a loss. It learns from
the column `points` of a dataset, which other detectors have filled: one for photos, another for drawings.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kyara.models import base
from kyara.models.base import DataConfig
from kyara.perception.landmarks import LEFT, MIRRORED, NAMES, RIGHT, Network, cell_centres, find_points, places


@dataclasses.dataclass(frozen=True)
class NetworkConfig(base.NetworkConfig):
    channels: int = 32
    """Channels at half the size of the picture; twice as many at a quarter, and from there on three times as many."""


@dataclasses.dataclass(frozen=True)
class LossConfig(base.LossConfig):
    sigma: float = 0.02
    """Standard deviation of a point's target heatmap, as a share of the side."""
    heatmap: float = 0.1
    """Weight of the cross entropy of the heatmaps to their targets."""


@dataclasses.dataclass(frozen=True)
class OptimizerConfig(base.OptimizerConfig):
    """Adam; the learning rate falls to zero along a cosine."""

    batch: int = 64
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    ema_kimg: float = 5.0
    warmup: float = 0.05
    """Share of the run over which the learning rate rises from zero."""


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Random augmentation of the pictures in training."""

    translate: float = 0.15
    """Maximum translation, as a share of the side."""
    scale: float = 0.5
    """Maximum absolute logarithm of the scale."""
    degrees: float = 30.0
    """Maximum rotation."""
    colour: float = 0.4
    """Maximum change of the brightness and contrast of each channel; a third of the pictures become grey."""


@dataclasses.dataclass(frozen=True)
class Config(base.Config):
    data: DataConfig = DataConfig(96, 96)
    network: NetworkConfig = NetworkConfig()
    losses: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    augment: AugmentConfig = AugmentConfig()


PRESETS = {
    "two-core": Config(),
    "tiny": Config(DataConfig(32, 32), NetworkConfig(channels=8), optimizer=OptimizerConfig(batch=8)),
}


def vary(pictures: Tensor, points: Tensor, config: Config) -> tuple[Tensor, Tensor]:
    """Pictures (B, 3, H, W) in [-1, 1] moved, turned, zoomed, recoloured and blurred, and where their points (B, K, 2),
    shares of the sides, went."""
    n, device = len(pictures), pictures.device
    height, width = pictures.shape[2:]

    def some(*shape: int) -> Tensor:
        return torch.rand(n, *shape, device=device) * 2 - 1

    angle, zoom = some() * math.radians(config.augment.degrees), torch.exp(some() * config.augment.scale)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = torch.stack([cos, -sin * height / width, sin * width / height, cos], 1).view(n, 2, 2)
    theta = torch.cat(
        [rows, some(2, 1) * 2 * config.augment.translate], 2
    )  # (B, 2, 3), from the new place to the old one
    grid = F.affine_grid(theta, list(pictures.shape), align_corners=False)
    moved = F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
    at = (2 * points - 1 - theta[:, None, :, 2]) @ torch.linalg.inv(rows).transpose(1, 2)  # (B, K, 2) in [-1, 1]
    grey = moved.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    moved = torch.where(some(1, 1, 1) < -1 / 3, grey, moved)
    moved = moved * (1 + some(3, 1, 1) * config.augment.colour) + some(3, 1, 1) * config.augment.colour
    coarse = F.interpolate(moved, (-(-height // 3), -(-width // 3)), mode="bilinear", antialias=True)
    blurred = F.interpolate(coarse, (height, width), mode="bilinear")
    moved = torch.where(some(1, 1, 1) < -0.5, blurred, moved)
    return moved.clamp(-1, 1), (at + 1) / 2


class Model(base.Model):
    """A network that finds the points of `NAMES`."""

    config_type = Config
    presets = PRESETS
    phases = ("find",)
    averages: ClassVar[Mapping[str, str]] = {"net": "net_ema"}
    pointed = True
    holdout = 0.05

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config = config
        self.net = Network(config.network.channels)
        self.net_ema = self.average(self.net)

    def players(self) -> Mapping[str, nn.Module]:
        return {"find": self.net}

    def lr_scale(self, progress: float) -> float:
        return base.warm_cosine(progress, self.config.optimizer.warmup)

    def losses(self, phase: str, batch: base.Batch) -> dict[str, Tensor]:
        """The distance of the points and the cross entropy of their maps, of those that are known and inside."""
        given = unmirror(batch.labels["points"])
        if given.shape[1] != len(NAMES):
            raise ValueError(f"the column `points` has {given.shape[1]} of them; there must be {len(NAMES)}: {NAMES}")
        pictures, points = vary(batch.real, given, self.config)
        seen = ((points > 0) & (points < 1)).all(2)  # (B, K); NaN is neither
        points = torch.where(seen[..., None], points, 0.5)
        maps = self.net(pictures)
        far = (places(maps) - points).abs().sum(2)
        x, y = (cell_centres(n, maps.device) for n in (maps.shape[3], maps.shape[2]))
        off = (y[:, None] - points[..., 1, None, None]).square() + (x - points[..., 0, None, None]).square()
        target = (-off / (2 * self.config.losses.sigma**2)).flatten(2).softmax(2)
        surprise = -(target * maps.flatten(2).log_softmax(2)).sum(2)
        count = seen.sum().clamp_min(1)
        losses = {"distance": (far * seen).sum() / count * 10, "maps": (surprise * seen).sum() / count}
        return {"distance": losses["distance"], "maps": losses["maps"] * self.config.losses.heatmap}

    def find(self, pictures: Tensor) -> Tensor:
        """The points (B, K, 2) of faces in pictures (B, 3, H, W) in [-1, 1], as shares of the width and height, in the
        order of `NAMES`. Differentiable. Where there is no face they mean nothing."""
        return find_points(self.net_ema, pictures, (self.config.data.height, self.config.data.width))

    def scores(self, pictures: Tensor) -> Tensor:
        """The points side by side, (B, 2 K)."""
        return self.find(pictures).flatten(1)

    def measure(self, batch: base.Batch, distance: base.Distance) -> dict[str, float]:
        """How far the points are from the given ones, in distances between the eyes: on average, and of each part."""
        given = unmirror(batch.labels["points"])
        found = torch.cat([self.find(part) for part in batch.real.split(64)])
        between = (given[:, LEFT].mean(1) - given[:, RIGHT].mean(1)).norm(dim=1)
        off = (found - given).norm(dim=2) / between[:, None]  # (N, K)
        parts = {"eyes": slice(0, 8), "nose": slice(8, 9), "mouth": slice(9, 11), "chin": slice(11, 12)}
        return {"error": float(off.nanmean())} | {f"error/{k}": float(off[:, v].nanmean()) for k, v in parts.items()}

    def preview(self, batch: base.Batch) -> Tensor | None:
        """The pictures with what is found in them as dots."""
        pictures = batch.real.clone()
        x, y = (cell_centres(n, pictures.device) for n in (pictures.shape[3], pictures.shape[2]))
        points = self.find(pictures)
        for k in range(points.shape[1]):
            at = points[:, k, :, None, None]
            near = ((x - at[:, 0]).square() + (y[:, None] - at[:, 1]).square()) < 0.015**2  # (B, H, W)
            colour = pictures.new_tensor([1.0, -1.0, -1.0] if k < 8 else [-1.0, 1.0, -1.0])[:, None, None]
            pictures = torch.where(near[:, None], colour, pictures)
        return pictures


def unmirror(points: Tensor) -> Tensor:
    """Points (B, K, 2) in the order of `NAMES`, also where the picture was flipped: there the eyes changed sides."""
    if points.shape[1] != len(NAMES):
        return points
    flipped = points[:, LEFT, 0].mean(1) > points[:, RIGHT, 0].mean(1)
    return torch.where(flipped[:, None, None], points[:, MIRRORED], points)
