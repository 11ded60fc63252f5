"""DCGAN (Radford et al. 2016): strided convolutions, batch normalisation, nothing else. Small, fast and rough.

Told of attributes, the generator adds a learned row for each label to its first layer, and the discriminator projects
its features on the labels (Miyato and Koyama 2018); without any it is the paper's.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from kyara.models import base
from kyara.nn import conditioning
from kyara.nn.conditioning import Attributes
from kyara.nn.layers import compute_dtype
from kyara.nn.losses import nonsaturating_d, nonsaturating_g


@dataclasses.dataclass(frozen=True)
class GanConfig(base.Config):
    """What the simple GANs have in common."""

    betas: tuple[float, float] = (0.5, 0.999)
    """Adam's decay rates of the first and second moment."""
    batch: int = 64
    """Pictures in one step."""
    z_dim: int = 100
    """Size of a latent."""
    label_weight: float = 0.0
    """Weight of a label loss beside what the architecture does by itself: the discriminator also learns to tell the
    labels of real pictures, the generator to make pictures that are told for what was asked. 0 leaves it out."""


@dataclasses.dataclass(frozen=True)
class ConvConfig(base.Config):
    """What a stack of strided convolutions needs."""

    z_dim: int = 100
    """Size of a latent."""
    channels: int = 32
    """Channels at half the picture's size; every level below has twice as many."""

    @property
    def levels(self) -> int:
        """How often the size doubles, from a shorter side of 4 to 7 pixels."""
        return max(int(math.log2(min(self.width, self.height) / 4)), 1)


@dataclasses.dataclass(frozen=True)
class Config(ConvConfig, GanConfig):
    pass


PRESETS = {
    "two-core": Config(64, 64, channels=32),
    "paper": Config(64, 64, batch=128, channels=64),
    "tiny": Config(32, 32, batch=8, z_dim=16, channels=4),
}


class GeneratorNet(nn.Module):
    """z (B, z_dim), labels (B, A) -> pictures (B, 3, H, W). `inputs` says how long z is if labels are a part of it."""

    def __init__(self, config: ConvConfig, inputs: int | None = None) -> None:
        super().__init__()
        step = 1 << config.levels
        self.size = config.height, config.width
        self.start = (
            -(-config.height // step),
            -(-config.width // step),
        )  # rounded up; forward crops what is too much
        widths = [config.channels << level for level in reversed(range(config.levels))]
        first = widths[0] * self.start[0] * self.start[1]
        self.project = nn.Linear(inputs or config.z_dim, first, bias=False)
        self.labels = conditioning.Rows(config.attributes, first) if config.attributes and inputs is None else None
        layers: list[nn.Module] = [nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)]
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs)]
            layers += [nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], 3, 4, 2, 1), nn.Tanh())

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        x = self.project(z)
        if self.labels is not None:
            x = x + self.labels(labels).to(x.dtype)
        x = x.unflatten(1, (-1, *self.start))  # (B, C, h, w)
        pictures: Tensor = self.layers(x.contiguous(memory_format=torch.channels_last))
        height, width = self.size
        top, left = (pictures.shape[2] - height) // 2, (pictures.shape[3] - width) // 2
        return pictures[:, :, top : top + height, left : left + width]


def convolutions(config: ConvConfig, channels: int = 3) -> tuple[list[nn.Module], int]:
    """The layers that halve a picture of so many channels until it is flat, and the number of features left."""
    widths = [config.channels << level for level in range(config.levels)]
    layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
    height, width = config.height // 2, config.width // 2
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs)]
        layers += [nn.LeakyReLU(0.2, inplace=True)]
        height, width = height // 2, width // 2
    return [*layers, nn.Flatten()], widths[-1] * height * width


class Discriminator(nn.Module):
    """Pictures (B, 3, H, W), labels (B, A) -> logits (B,), and label logits (B, V) if it has heads for them."""

    def __init__(self, layers: list[nn.Module], features: int, *, project: Attributes, tell: Attributes) -> None:
        """`layers` end in so many features; it is told the attributes `project` and tells the attributes `tell`."""
        super().__init__()
        self.layers = nn.Sequential(*layers, nn.Linear(features, 1))
        self.labels = conditioning.Projection(project, features) if project else None
        self.heads = nn.Linear(features, conditioning.width(tell)) if tell else None

    def forward(self, pictures: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        x = pictures.to(compute_dtype(pictures.device), memory_format=torch.channels_last)
        features = self.layers[:-1](x)  # (B, F)
        logits: Tensor = self.layers[-1](features).squeeze(1)
        if self.labels is not None:
            logits = logits + self.labels(features, labels)
        return logits, None if self.heads is None else self.heads(features)


def initialise(module: nn.Module) -> None:
    """The paper's: N(0, 0.02) for weights, scales of batch normalisation around 1."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


class Model(base.Generator):
    """DCGAN: generator, its average, discriminator. Its relatives differ in their networks."""

    config_type: ClassVar[type[base.Config]] = Config
    presets: ClassVar[Mapping[str, base.Config]] = PRESETS
    phases = ("d", "g")
    averages: ClassVar[Mapping[str, str]] = {"g": "g_ema"}
    attributed: ClassVar[Literal["never", "may", "must"]] = "may"
    label_loss_on_fakes: ClassVar[bool] = False
    """Whether the discriminator learns to tell labels from fakes too."""

    def __init__(self, config: GanConfig) -> None:
        super().__init__(config)
        self.config: GanConfig = config
        self.z_dim = config.z_dim
        self.g, self.d = self.networks(config)
        self.g.apply(initialise)
        self.d.apply(initialise)
        self.g_ema = self.average(self.g)

    def networks(self, config: Any) -> tuple[nn.Module, nn.Module]:
        """Generator and discriminator of the architecture's own Config; they are called as those above are."""
        told = config.attributes
        layers, features = convolutions(config)
        d = Discriminator(layers, features, project=told, tell=told if config.label_weight else {})
        return GeneratorNet(config), d

    def players(self) -> Mapping[str, nn.Module]:
        return {"d": self.d, "g": self.g}

    def losses(self, phase: str, batch: base.Batch) -> dict[str, Tensor]:
        attributes = self.config.attributes
        labels = conditioning.table(batch.labels, attributes, batch.real)  # (B, A)
        z = torch.randn(len(batch.real), self.z_dim, device=batch.real.device)
        asked = conditioning.shuffled(labels)
        if phase == "g":
            logits, told = self.d(batch.augment(self.g(z, asked)), asked)
            return {"g": nonsaturating_g(logits), **conditioning.losses("g_labels", told, asked, self.config)}
        with torch.no_grad():
            fake = self.g(z, asked)
        real_logits, real_told = self.d(batch.augment(batch.real), labels)
        fake_logits, fake_told = self.d(batch.augment(fake), asked)
        batch.log["real_sign"] = real_logits.detach().sign().mean()
        batch.log["fake_sign"] = fake_logits.detach().sign().mean()
        if real_told is not None:
            batch.log["label_accuracy"] = conditioning.accuracy(real_told, labels, attributes)
        losses = {
            "d": nonsaturating_d(real_logits, fake_logits),
            **conditioning.losses("d_labels", real_told, labels, self.config),
        }
        if self.label_loss_on_fakes:
            losses |= conditioning.losses("d_labels_fake", fake_told, asked, self.config)
        return losses

    def sample(self, z: Tensor, *, truncation: float = 1.0, labels: Mapping[str, Tensor] | None = None) -> Tensor:
        pictures: Tensor = self.g_ema(z * truncation, conditioning.table(labels, self.config.attributes, z))
        return pictures
