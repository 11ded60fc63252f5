"""Facial landmarks of photos and drawings: eyes, nose, mouth and chin.

A small hourglass network predicts a heatmap for each point; the point is the soft-argmax, the expected position (Sun et
al. 2018, "Integral Human Pose Regression"), which is differentiable. Trained on the output of other detectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.data import variation
from kyara.models import base
from kyara.nn import configs
from kyara.nn.configs import DataConfig
from kyara.nn.constants import constant
from kyara.perception.landmarks import LEFT, MIRRORED, NAMES, RIGHT, Network, cell_centres, find_points, places


@dataclass(frozen=True)
class NetworkConfig(configs.NetworkConfig):
    channels: int = 32  # channels at 1/2 resolution; twice as many at 1/4, three times as many at 1/8


@dataclass(frozen=True)
class LossConfig(configs.LossConfig):
    sigma: float = 0.02  # standard deviation of the target heatmaps, as a fraction of the size
    heatmap: float = 0.1  # weight of the cross entropy of the heatmaps
    distance: float = 10.0  # weight of the L1 distance of the points


@dataclass(frozen=True)
class AugmentConfig:
    """Random augmentation of the pictures in training."""

    translate: float = 0.15  # maximum translation, as a fraction of the size
    scale: float = 0.5  # maximum absolute logarithm of the scale
    degrees: float = 30.0  # maximum rotation
    colour: float = 0.4  # maximum change of brightness and contrast per channel; a third are converted to grey


ADAM = configs.CosineConfig(batch=64, lr=1e-3, betas=(0.9, 0.999), ema_kimg=5.0)


@dataclass(frozen=True)
class Config(configs.Config):
    data: DataConfig = DataConfig(96, 96)
    network: NetworkConfig = NetworkConfig()
    losses: LossConfig = LossConfig()
    optimizer: configs.CosineConfig = ADAM
    augment: AugmentConfig = AugmentConfig()


PRESETS = {
    "two-core": Config(),
    "tiny": Config(DataConfig(32, 32), NetworkConfig(channels=8), optimizer=replace(ADAM, batch=8)),
}


def vary(pictures: Tensor, points: Tensor, config: AugmentConfig) -> tuple[Tensor, Tensor]:
    """Augments pictures (B, 3, H, W) in [-1, 1], a third of them grey and a quarter blurred, and their points
    (B, K, 2), as fractions of width and height."""
    height, width = pictures.shape[2:]
    theta = variation.random_affine(pictures, degrees=config.degrees, scale=config.scale, translate=config.translate)
    moved = variation.warp(pictures, theta, "reflection")
    grey = moved.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    moved = torch.where(variation.uniform(pictures, 1, 1, 1) < -1 / 3, grey, moved)
    moved = variation.jitter(moved, config.colour)
    coarse = F.interpolate(moved, (-(-height // 3), -(-width // 3)), mode="bilinear", antialias=True)
    blurred = F.interpolate(coarse, (height, width), mode="bilinear")
    moved = torch.where(variation.uniform(pictures, 1, 1, 1) < -0.5, blurred, moved)
    return moved.clamp(-1, 1), variation.warp_points(points, theta)


def compare(maps: Tensor, points: Tensor, known: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Heatmaps (B, K, h, w) compared with those of the points (B, K, 2), as fractions of the sides, that are `known`
    (B, K): mean L1 distance of the points, and mean cross entropy with Gaussian heatmaps of deviation `sigma`."""
    points, count = torch.where(known[..., None], points, 0.5), known.sum().clamp_min(1)
    far = (places(maps) - points).abs().sum(2)
    x, y = (cell_centres(n, maps.device) for n in (maps.shape[3], maps.shape[2]))
    off = (y[:, None] - points[..., 1, None, None]).square() + (x - points[..., 0, None, None]).square()
    target = (-off / (2 * sigma**2)).flatten(2).softmax(2)
    surprise = -(target * maps.flatten(2).log_softmax(2)).sum(2)
    return (far * known).sum() / count, (surprise * known).sum() / count


class Model(base.LandmarkDetector):
    """Hourglass network (Sun et al. 2018) and its moving average."""

    presets = PRESETS
    phases = ("train",)
    augments = False
    averages: ClassVar[Mapping[str, str]] = {"net": "net_ema"}
    data_spec = base.DataSpec(points=len(NAMES), holdout=0.05)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config = config
        self.net = Network(config.network.channels)
        self.net_ema = self.average(self.net)

    def losses(self, phase: str, batch: base.Batch) -> dict[str, Tensor]:
        """L1 loss of the points and cross entropy of the heatmaps, for known points inside the picture."""
        given = unmirrored(batch)
        pictures, points = vary(batch.real, given, self.config.augment)
        seen = ((points > 0) & (points < 1)).all(2)  # (B, K); NaN is neither
        weights = self.config.losses
        distance, surprise = compare(self.net(pictures), points, seen, weights.sigma)
        return {"distance": distance * weights.distance, "maps": surprise * weights.heatmap}

    def find(self, pictures: Tensor) -> Tensor:
        return find_points(self.net_ema, pictures, (self.config.data.height, self.config.data.width))

    def measure(self, batch: base.Batch, distance: base.Distance) -> dict[str, float]:
        """Mean error relative to the distance between the eyes, of all points and of each part."""
        given = unmirrored(batch)
        found = torch.cat([self.find(part) for part in batch.real.split(64)])
        between = (given[:, LEFT].mean(1) - given[:, RIGHT].mean(1)).norm(dim=1)
        off = (found - given).norm(dim=2) / between[:, None]  # (N, K)
        parts = {"eyes": slice(0, 8), "nose": slice(8, 9), "mouth": slice(9, 11), "chin": slice(11, 12)}
        return {"error": float(off.nanmean())} | {f"error/{k}": float(off[:, v].nanmean()) for k, v in parts.items()}

    def preview(self, batch: base.Batch) -> Tensor | None:
        """The pictures with the predicted points drawn as dots."""
        pictures = batch.real.clone()
        x, y = (cell_centres(n, pictures.device) for n in (pictures.shape[3], pictures.shape[2]))
        points = self.find(pictures)
        for k in range(points.shape[1]):
            at = points[:, k, :, None, None]
            near = ((x - at[:, 0]).square() + (y[:, None] - at[:, 1]).square()) < 0.015**2  # (B, H, W)
            colour = pictures.new_tensor([1.0, -1.0, -1.0] if k < 8 else [-1.0, 1.0, -1.0])[:, None, None]
            pictures = torch.where(near[:, None], colour, pictures)
        return pictures


def unmirrored(batch: base.Batch) -> Tensor:
    """The points (B, K, 2) in the order of `NAMES`, also for mirrored pictures."""
    points = batch.points
    if points is None or points.shape[1] != len(NAMES):
        given = "no" if points is None else str(points.shape[1])
        raise ValueError(f"the column `points` has {given} points; it must have {len(NAMES)}: {', '.join(NAMES)}")
    if batch.mirrored is None:
        return points
    return torch.where(
        batch.mirrored[:, None, None], points.index_select(1, constant(MIRRORED, points, torch.int64)), points
    )
