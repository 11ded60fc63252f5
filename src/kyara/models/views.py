"""Tagger of faces that `kyara prepare` has framed alike: a small convolutional network for each of four views, as
PANDA has one for each part of a body (Zhang et al. 2014, "Pose Aligned Networks for Deep Attribute Modeling").

The views are the whole face at half its size, the eyes (both by one network, the right one mirrored), the face from the
brows to the chin, and the mouth. Their feature maps are not averaged, so the lines of an eye or a mouth keep their
places, and expressions of small characters are read far better than by a `tagger`
(docs/reports/character-tagger.md). Every attribute is predicted from all views by one linear layer. Unknown labels are
ignored in the loss."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
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

Box = tuple[float, float, float, float]  # left, top, right, bottom, as fractions of the sides


@dataclass(frozen=True)
class NetworkConfig(configs.NetworkConfig):
    widths: tuple[int, ...] = (24, 48, 64, 64)  # channels of the convolutions of a view
    dropout: float = 0.3  # share of the features that are dropped in training
    eye: Box = (0.17, 0.375, 0.485, 0.655)  # box of the left eye; that of the right one is its mirror image
    lower: Box = (0.155, 0.34, 0.845, 0.845)  # box from the brows to the chin
    mouth: Box = (0.265, 0.595, 0.735, 0.875)  # box of the mouth

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ValueError(f"network.dropout={self.dropout}: must be from 0 to below 1")
        for name in ("eye", "lower", "mouth"):
            box = getattr(self, name)
            if len(box) != 4 or not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
                raise ValueError(
                    f"network.{name}: {box}; give left, top, right and bottom, from 0 to 1 and in this order"
                )


@dataclass(frozen=True)
class LossConfig(tagger.LossConfig):
    label_smoothing: float = 0.05  # label smoothing


@dataclass(frozen=True)
class AugmentConfig:
    """Random augmentation of the pictures in training. Faces are framed alike, so it moves them little."""

    translate: float = 0.025  # maximum translation, as a fraction of the size
    scale: float = 0.03  # maximum absolute logarithm of the scale
    degrees: float = 2.0  # maximum rotation
    brightness: float = 0.15  # maximum change of brightness and contrast
    noise: float = 0.05  # standard deviation of the noise


ADAMW = configs.AdamWConfig(batch=64, lr=2e-3, betas=(0.9, 0.999), ema_kimg=5.0)


@dataclass(frozen=True)
class Config(configs.Config):
    data: DataConfig = DataConfig(128, 128)
    network: NetworkConfig = NetworkConfig()
    losses: LossConfig = LossConfig()
    optimizer: configs.AdamWConfig = ADAMW
    augment: AugmentConfig = AugmentConfig()


PRESETS = {
    "two-core": Config(),
    "tiny": Config(DataConfig(32, 32), NetworkConfig(widths=(4, 8)), optimizer=replace(ADAMW, batch=8)),
}


def view_parts(pictures: Tensor, network: NetworkConfig) -> dict[str, list[Tensor]]:
    """The parts (B, 3, h, w) of pictures (B, 3, H, W) that each view shows. Those of the eyes have the same size."""
    left = cut(pictures, network.eye)
    right = cut(pictures.flip(3), network.eye)
    lower, mouth = cut(pictures, network.lower), cut(pictures, network.mouth)
    return {"face": [F.avg_pool2d(pictures, 2)], "eyes": [left, right], "lower": [lower], "mouth": [mouth]}


def cut(pictures: Tensor, box: Box) -> Tensor:
    """The part of pictures (B, 3, H, W) in a box."""
    height, width = pictures.shape[2:]
    left, top, right, bottom = box
    return pictures[:, :, round(top * height) : round(bottom * height), round(left * width) : round(right * width)]


FINE = "mouth"  # its first layer keeps the size: the lines of a mouth have one or two pixels


class View(nn.Sequential):
    """Features (B, F) of parts (B, 3, h, w)."""

    def __init__(self, widths: tuple[int, ...], *, fine: bool) -> None:
        layers: list[nn.Module] = []
        for i, (inputs, outputs) in enumerate(itertools.pairwise((3, *widths))):
            stride = 1 if fine and not i else 2
            layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        super().__init__(*layers, nn.Flatten())


class Network(nn.Module):
    """The views, and a linear layer for each attribute."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, widths = config.network, config.network.widths
        shown = view_parts(torch.zeros(1, 3, config.data.height, config.data.width, device="cpu"), self.config)
        self.views, count = nn.ModuleDict(), 0
        for name, (part, *_) in shown.items():
            self.views[name] = View(widths, fine=name == FINE)
            halvings = len(widths) - (name == FINE)
            height, width = (-(-side // 2**halvings) for side in part.shape[2:])
            count += widths[-1] * height * width
        values = config.data.attributes.values()
        self.heads = nn.ModuleList(nn.Linear(count, len(value)) for value in values)

    def forward(self, pictures: Tensor) -> Tensor:
        """Features (B, F) of all views of pictures (B, 3, H, W) in [-1, 1]."""
        shown = view_parts(pictures, self.config)
        found = [torch.stack([view(part) for part in shown[name]]).mean(0) for name, view in self.views.items()]
        return torch.cat(found, 1)

    def classify(self, features: Tensor) -> list[Tensor]:
        """Logits (B, V) for each attribute, of features (B, F)."""
        return [head(features).float() for head in self.heads]


def vary(pictures: Tensor, config: AugmentConfig) -> Tensor:
    """Augments pictures (B, 3, H, W) in [-1, 1]: geometry, brightness, contrast and noise. Preserves the hue."""
    theta = variation.random_affine(pictures, degrees=config.degrees, scale=config.scale, translate=config.translate)
    moved = variation.jitter(variation.warp(pictures, theta, "border"), config.brightness, channels=1)
    return moved + config.noise * torch.randn_like(moved)


class Model(base.Tagger):
    """A small convolutional network for each view of a face, and linear classifiers (after Zhang et al. 2014)."""

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
        features = self.net(vary(batch.real, self.config.augment))
        logits = self.net.classify(F.dropout(features, self.config.network.dropout))
        named = dict(zip(self.attributes, logits, strict=True))
        return tagger.label_losses(named, batch, self.config.losses.label_smoothing)

    def embed(self, pictures: Tensor) -> Tensor:
        return F.normalize(self.stage_means(pictures).float())

    def stage_means(self, pictures: Tensor) -> Tensor:
        """Resizes pictures to the training size. The features are those of the heads, with their places."""
        found: Tensor = self.net_ema(resize(pictures, (self.config.data.height, self.config.data.width)))
        return found

    def probabilities(self, pictures: Tensor) -> dict[str, Tensor]:
        heads = zip(self.attributes, self.net_ema.classify(self.stage_means(pictures)), self.temperatures, strict=True)
        return {name: (logit / t).softmax(1) for name, logit, t in heads}

    def measure(self, batch: base.Batch, distance: base.Distance) -> dict[str, float]:
        """`error_rates`; calibrates the temperatures."""
        features = torch.cat([self.stage_means(part) for part in batch.real.split(64)])
        logits = self.net_ema.classify(features)
        return tagger.error_rates(dict(zip(self.attributes, logits, strict=True)), batch.labels, self.temperatures)
