"""Tagger: a ConvNeXt (Liu et al. 2022) that classifies the attributes of a face and computes a normalised embedding.

A backbone, a soft colour histogram of regions, and a head per attribute with a learned direction for each value: the
logit is the scaled cosine of the embedding and the direction (normalised softmax, Wang et al. 2017, "NormFace"). The
embedding is also used for the detection of copies. Unknown labels are ignored in the loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kyara.data import variation
from kyara.models import base
from kyara.nn import configs
from kyara.nn.configs import DataConfig
from kyara.nn.convnext import ConvNeXt
from kyara.nn.filters import resize
from kyara.perception.features import stage_means

TEMPERATURES = torch.logspace(-2, 2, 161, base=2)  # candidates for the temperature of a head: 1/4 to 4


@dataclass(frozen=True)
class NetworkConfig(configs.NetworkConfig):
    patch_size: int = 4  # patch size of the stem, in pixels
    depths: tuple[int, ...] = (2, 2, 3, 2)  # ConvNeXt blocks in each stage
    widths: tuple[int, ...] = (32, 64, 128, 240)  # channels of each stage; the last is the dimension of the embedding
    histogram_levels: int = 5  # bins per channel of the soft colour histogram; 0 disables it
    histogram_rows: int = 4  # rows of regions of the histogram, each with a middle and a side region
    layer_scale: float = 1.0  # initial layer scale; ConvNeXt's 1e-6 is for long training. 0 disables it
    logit_scale: float = 16.0  # scale of the cosines; larger values allow higher confidence


@dataclass(frozen=True)
class LossConfig(configs.LossConfig):
    label_smoothing: float = 0.1  # label smoothing, since tags are often wrong

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"losses.label_smoothing={self.label_smoothing}: must be from 0 to below 1")


@dataclass(frozen=True)
class AugmentConfig:
    """Random augmentation of the pictures in training."""

    translate: float = 0.08  # maximum translation, as a fraction of the size
    scale: float = 0.15  # maximum absolute logarithm of the scale
    degrees: float = 10.0  # maximum rotation
    brightness: float = 0.15  # maximum change of brightness and contrast
    cutout: float = 0.3  # maximum size of the cutout, as a fraction of the size


ADAMW = configs.AdamWConfig(batch=64, lr=5e-4, betas=(0.9, 0.999), ema_kimg=5.0)


@dataclass(frozen=True)
class Config(configs.Config):
    data: DataConfig = DataConfig(96, 96)
    network: NetworkConfig = NetworkConfig()
    losses: LossConfig = LossConfig()
    optimizer: configs.AdamWConfig = ADAMW
    augment: AugmentConfig = AugmentConfig()


PRESETS = {
    "two-core": Config(),
    "atto": Config(network=NetworkConfig(depths=(2, 2, 6, 2), widths=(40, 80, 160, 320))),
    "tiny": Config(
        DataConfig(32, 32),
        NetworkConfig(depths=(1, 1, 1, 1), widths=(8, 16, 24, 32)),
        optimizer=replace(ADAMW, batch=8),
    ),
}


def histogram(pictures: Tensor, levels: int, rows: int) -> Tensor:
    """Soft colour histogram of pictures (B, 3, H, W) in [-1, 1] by region: square roots of frequencies, (B, levels^3 *
    rows * 2). Each row is split into the middle half and the sides, since hair surrounds a face."""
    small = F.adaptive_avg_pool2d(pictures.float(), (8 * rows, 32))
    at = torch.linspace(-1, 1, levels, device=pictures.device)[:, None, None]
    near = (1 - (small[:, :, None] - at).abs() * (levels - 1) / 2).clamp_min(0)  # (B, 3, levels, h, w)
    red, green, blue = near.unbind(1)
    colours = red[:, :, None, None] * green[:, None, :, None] * blue[:, None, None]
    columns = F.adaptive_avg_pool2d(colours.flatten(1, 3), (rows, 4))  # (B, levels^3, rows, 4)
    return (torch.stack([columns[..., 1:3].mean(3), columns[..., ::3].mean(3)], 3).flatten(1) + 1e-6).sqrt()


class Network(nn.Module):
    """ConvNeXt, colour histogram, and learned directions for the values of each attribute."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.body = ConvNeXt(asdict(config.network))
        network, width = config.network, config.network.widths[-1]
        self.levels, self.rows = network.histogram_levels, network.histogram_rows
        bins = self.levels**3 * self.rows * 2
        self.colours = nn.Sequential(nn.LayerNorm(bins), nn.Linear(bins, width)) if bins else None
        values = config.data.attributes.values()
        self.heads = nn.ParameterList(nn.Parameter(torch.randn(len(value), width)) for value in values)

    def forward(self, pictures: Tensor) -> Tensor:
        """Unit-length embeddings (B, F) of pictures (B, 3, H, W) in [-1, 1]."""
        pooled: Tensor = self.body(pictures)
        if self.colours is not None:
            pooled = pooled.float() + self.colours(histogram(pictures, self.levels, self.rows)).float()
        return F.normalize(pooled.float())

    def cosines(self, embeddings: Tensor) -> list[Tensor]:
        """Cosines (B, V) of embeddings (B, F) and the directions of the values, for each attribute."""
        return [embeddings @ F.normalize(head.float()).T for head in self.heads]


def vary(pictures: Tensor, config: AugmentConfig) -> Tensor:
    """Augments pictures (B, 3, H, W) in [-1, 1]: geometry, brightness, contrast and cutout. Preserves the hue."""
    height, width = pictures.shape[2:]
    theta = variation.random_affine(pictures, degrees=config.degrees, scale=config.scale, translate=config.translate)
    moved = variation.jitter(variation.warp(pictures, theta, "border"), config.brightness, channels=1)
    y, x = (torch.linspace(-1, 1, side, device=pictures.device) for side in (height, width))
    centre = variation.uniform(pictures, 2, 1, 1)
    half = (variation.uniform(pictures, 2, 1, 1) + 1) / 2 * config.cutout
    hidden = ((y[:, None] - centre[:, 0]).abs() < half[:, 0]) & ((x - centre[:, 1]).abs() < half[:, 1])  # (B, H, W)
    return moved.clamp(-1, 1).masked_fill(hidden[:, None], 0.0)


class Model(base.Tagger):
    """ConvNeXt (Liu et al. 2022) with a normalised softmax head (Wang et al. 2017) for each attribute."""

    presets = PRESETS
    phases = ("train",)
    augments = False
    averages: ClassVar[Mapping[str, str]] = {"net": "net_ema"}
    data_spec = base.DataSpec(attributes="must", holdout=0.05)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config = config
        self.net = Network(config)
        self.net_ema = self.average(self.net)
        self.temperatures = nn.Buffer(torch.ones(len(config.data.attributes)))

    def losses(self, phase: str, batch: base.Batch) -> dict[str, Tensor]:
        cosines = self.net.cosines(self.net(vary(batch.real, self.config.augment)))
        logits = [cosine * self.config.network.logit_scale for cosine in cosines]
        return label_losses(dict(zip(self.attributes, logits, strict=True)), batch, self.config.losses.label_smoothing)

    def embed(self, pictures: Tensor) -> Tensor:
        """Resizes pictures to the training size."""
        return self.net_ema(resize(pictures, (self.config.data.height, self.config.data.width)))

    def stage_means(self, pictures: Tensor) -> Tensor:
        return stage_means(self.net_ema.body, pictures, (self.config.data.height, self.config.data.width))

    def probabilities(self, pictures: Tensor) -> dict[str, Tensor]:
        return self.classify(self.embed(pictures))

    def classify(self, embeddings: Tensor) -> dict[str, Tensor]:
        """`probabilities`, from the embeddings (B, F)."""
        heads = zip(self.attributes, self.net_ema.cosines(embeddings), self.temperatures, strict=True)
        return {name: (cosine * self.config.network.logit_scale / t).softmax(1) for name, cosine, t in heads}

    def measure(self, batch: base.Batch, distance: base.Distance) -> dict[str, float]:
        """`error_rates`; calibrates the temperatures."""
        embeddings = torch.cat([self.embed(part) for part in batch.real.split(64)])
        logits = [cosine * self.config.network.logit_scale for cosine in self.net_ema.cosines(embeddings)]
        return error_rates(dict(zip(self.attributes, logits, strict=True)), batch.labels, self.temperatures)


def label_losses(logits: Mapping[str, Tensor], batch: base.Batch, smoothing: float) -> dict[str, Tensor]:
    """Cross entropies with label smoothing of logits (B, V) and the known labels of each attribute. Logs accuracies."""
    found = {}
    for name, logit in logits.items():
        labels = batch.labels[name]
        known = labels >= 0
        smooth = F.cross_entropy(logit, labels.clamp_min(0), reduction="none", label_smoothing=smoothing)
        found[name] = (smooth * known).sum() / known.sum().clamp_min(1)
        right = (logit.detach().argmax(1) == labels) & known
        batch.log[f"accuracy/{name}"] = right.sum() / known.sum().clamp_min(1)
    return found


def error_rates(logits: Mapping[str, Tensor], labels: Mapping[str, Tensor], temperatures: Tensor) -> dict[str, float]:
    """Mean error rate of logits (N, V) on known labels (N,), and that of each attribute. Calibrates the temperature of
    each head (A,) on the same pictures (Guo et al. 2017, section 4), which does not change predictions."""
    wrong = {}
    for i, (name, found) in enumerate(logits.items()):
        known = labels[name] >= 0
        if known.any():
            ours, truth = found[known], labels[name][known]
            temperatures[i] = temperature(ours, truth)
            wrong[f"error/{name}"] = float((ours.argmax(1) != truth).float().mean())
    return {"error": sum(wrong.values()) / max(len(wrong), 1), **wrong}


def temperature(logits: Tensor, labels: Tensor) -> Tensor:
    """The temperature that minimises the cross entropy of logits (N, V) and labels (N,)."""
    tried = TEMPERATURES.to(logits.device)
    return tried[torch.stack([F.cross_entropy(logits / t, labels) for t in tried]).argmin()]
