"""Linear classifiers on histograms of oriented gradients (Dalal and Triggs 2005), for attributes of faces in photos.

A few hundred labelled pictures are enough, and a run takes a minute: no network is trained but one linear layer per
attribute. The features are histograms of gradients in cells at two scales, colour histograms of regions, and a
thumbnail, so faces must be aligned. Unknown labels are ignored in the loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kyara.data import variation
from kyara.models import base, tagger
from kyara.nn import configs
from kyara.nn.configs import DataConfig
from kyara.nn.filters import resize

MOST = 0.4  # maximum of a normalised cell, so that one strong edge does not hide the others
LEAST = 1e-3  # energy below which cells are not amplified
COLOURS = 5  # bins per channel of the colour histograms
SHARPEST = 0.5  # minimum temperature: of a few dozen pictures none may be wrong, and the best temperature would be 0


@dataclass(frozen=True)
class NetworkConfig(configs.NetworkConfig):
    cell: int = 8  # side of a cell in pixels
    orientations: int = 9  # bins of the directions of gradients, without sign
    scales: int = 2  # scales, each half as large as the one before
    rows: int = 4  # rows of regions of the colour histograms, each with a middle and a side region
    thumbnail: int = 16  # side of the thumbnail in pixels


@dataclass(frozen=True)
class LossConfig(tagger.LossConfig):
    label_smoothing: float = 0.02  # label smoothing
    balance: float = 0.5  # power of the inverse frequency of a value, with which it is weighted; 0 is off


@dataclass(frozen=True)
class AugmentConfig:
    """Random augmentation of the pictures in training."""

    translate: float = 0.03  # maximum translation, as a fraction of the size
    scale: float = 0.08  # maximum absolute logarithm of the scale
    degrees: float = 6.0  # maximum rotation
    brightness: float = 0.15  # maximum change of brightness and contrast
    colour: float = 0.05  # the same for each channel by itself


ADAMW = configs.AdamWConfig(batch=64, lr=0.1, betas=(0.9, 0.999), ema_kimg=2.0, weight_decay=0.1)


@dataclass(frozen=True)
class Config(configs.Config):
    data: DataConfig = DataConfig(128, 128)
    network: NetworkConfig = NetworkConfig()
    losses: LossConfig = LossConfig()
    optimizer: configs.AdamWConfig = ADAMW
    augment: AugmentConfig = AugmentConfig()


PRESETS = {
    "two-core": Config(),
    "tiny": Config(DataConfig(32, 32), NetworkConfig(thumbnail=8), optimizer=replace(ADAMW, batch=8)),
}


def gradients(pictures: Tensor, cell: int, orientations: int) -> Tensor:
    """Histograms of oriented gradients (B, orientations, H / cell, W / cell) of the lightness of pictures (B, 3, H, W),
    each normalised by the energy of the cells around it."""
    grey = F.pad(pictures.float().mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across, down = grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2], grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]
    strength = (across.square() + down.square() + 1e-12).sqrt()
    place = torch.atan2(down, across).remainder(math.pi) * (orientations / math.pi)  # (B, 1, H, W)
    bins = torch.arange(orientations, device=pictures.device)[:, None, None]
    off = (place - bins).remainder(orientations)
    share = (1 - torch.minimum(off, orientations - off)).clamp_min(0)  # linear between two bins
    cells = F.avg_pool2d(share * strength, min(cell, *pictures.shape[2:]))
    energy = F.avg_pool2d(cells.square().sum(1, keepdim=True), 3, 1, 1, count_include_pad=False) * 9
    return (cells / (energy + LEAST).sqrt()).clamp_max(MOST)


class Extractor(nn.Module):
    """Computes features (B, count) of pictures (B, 3, H, W) in [-1, 1]; it is not trained."""

    count: int


class Features(Extractor):
    """Histograms of gradients and of colours, and a thumbnail."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config.network
        with torch.device("cpu"):
            self.count = self(torch.zeros(1, 3, config.data.height, config.data.width)).shape[1]

    def forward(self, pictures: Tensor) -> Tensor:
        """Features (B, F) of pictures (B, 3, H, W) in [-1, 1]; each kind has mean 0 and variance 1."""
        found, scaled = [], pictures.float()
        for _ in range(self.config.scales):
            found.append(gradients(scaled, self.config.cell, self.config.orientations))
            scaled = F.avg_pool2d(scaled, 2, ceil_mode=True)
        found += [
            tagger.histogram(pictures, COLOURS, self.config.rows),
            F.adaptive_avg_pool2d(pictures, self.config.thumbnail),
        ]
        return standardised(found)


def standardised(kinds: Sequence[Tensor]) -> Tensor:
    """Features (B, F) of several kinds (B, ...), each with mean 0 and variance 1 in every picture."""
    return torch.cat([F.layer_norm(one.flatten(1).float(), (one[0].numel(),)) for one in kinds], 1)


class Heads(nn.Module):
    """One linear layer per attribute."""

    def __init__(self, count: int, attributes: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(count, len(values)) for values in attributes.values())
        for head in self.heads:
            nn.init.zeros_(head.weight)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> list[Tensor]:
        """Logits (B, V) for each attribute, of features (B, F)."""
        return [head(features) / math.sqrt(features.shape[1]) for head in self.heads]


def vary(pictures: Tensor, config: AugmentConfig) -> Tensor:
    """Augments pictures (B, 3, H, W) in [-1, 1]: geometry, brightness, contrast, and a little colour."""
    theta = variation.random_affine(pictures, degrees=config.degrees, scale=config.scale, translate=config.translate)
    moved = variation.jitter(variation.warp(pictures, theta, "border"), config.brightness, channels=1)
    return variation.jitter(moved, config.colour).clamp(-1, 1)


class Model(base.Tagger):
    """Histograms of oriented gradients (Dalal and Triggs 2005) and linear classifiers."""

    presets: ClassVar[Mapping[str, Config]] = PRESETS
    phases = ("train",)
    augments = False
    averages: ClassVar[Mapping[str, str]] = {"net": "net_ema"}
    data_spec = base.DataSpec(attributes="must", holdout=0.1)

    def __init__(self, config: Config, features: Extractor | None = None) -> None:
        super().__init__(config)
        self.config: Config = config
        self.features = features or Features(config)
        self.net = Heads(self.features.count, config.data.attributes)
        self.net_ema = self.average(self.net)
        self.temperatures = nn.Buffer(torch.ones(len(config.data.attributes)))
        self.weights = nn.Buffer(self._balanced(), persistent=False)

    def _balanced(self) -> Tensor:
        """Weights (A, V) of the values of the attributes in the loss."""
        counts = [len(values) for values in self.config.data.attributes.values()]
        found = torch.zeros(len(counts), max(counts, default=0))
        for i, count in enumerate(counts):
            seen = torch.zeros(count)
            for row in self.config.data.label_counts:
                if row[i] >= 0:
                    seen[row[i]] += row[-1]
            weights = seen.clamp_min(1) ** -self.config.losses.balance
            found[i, :count] = weights / weights.mean()
        return found

    def losses(self, phase: str, batch: base.Batch) -> dict[str, Tensor]:
        logits = self.net(self.features(vary(batch.real, self.config.augment)))
        found = {}
        for name, logit, weights in zip(self.attributes, logits, self.weights, strict=True):
            labels = batch.labels[name]
            known = (labels >= 0) * weights[labels.clamp_min(0)]
            smoothing = self.config.losses.label_smoothing
            smooth = F.cross_entropy(logit, labels.clamp_min(0), reduction="none", label_smoothing=smoothing)
            found[name] = (smooth * known).sum() / known.sum().clamp_min(1e-3)
        return found

    def embed(self, pictures: Tensor) -> Tensor:
        return F.normalize(self.stage_means(pictures))

    def stage_means(self, pictures: Tensor) -> Tensor:
        found: Tensor = self.features(resize(pictures, (self.config.data.height, self.config.data.width)))
        return found

    def probabilities(self, pictures: Tensor) -> dict[str, Tensor]:
        """Means over the pictures and their mirror images."""
        both = [self._logits(x) for x in (pictures, pictures.flip(3))]
        heads = zip(self.attributes, *both, self.temperatures.clamp_min(SHARPEST), strict=True)
        return {name: ((a + b) / (2 * t)).softmax(1) for name, a, b, t in heads}

    def _logits(self, pictures: Tensor) -> list[Tensor]:
        found: list[Tensor] = self.net_ema(self.stage_means(pictures))
        return found

    def measure(self, batch: base.Batch, distance: base.Distance) -> dict[str, float]:
        """`error_rates`; calibrates the temperatures."""
        parts = zip(*(self._logits(part) for part in batch.real.split(64)), strict=True)
        logits = {name: torch.cat(found) for name, found in zip(self.attributes, parts, strict=True)}
        return tagger.error_rates(logits, batch.labels, self.temperatures)
