"""DCGAN (Radford et al. 2016): strided convolutions and batch normalisation. Small and fast, with low image quality.

Differences from the paper, also in the preset `paper`: kernels of 4 x 4 instead of 5 x 5, half of its channels in the
generator, normal instead of uniform latents, a moving average of the weights, and adaptive augmentation.

With attributes, the generator adds a learned row for each label to its first layer, and the discriminator is
conditioned by projection (Miyato and Koyama 2018)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kyara.models import base
from kyara.nn import conditioning, configs
from kyara.nn.conditioning import Attributes
from kyara.nn.configs import DataConfig, OptimizerConfig
from kyara.nn.filters import centre_crop
from kyara.nn.layers import compute_dtype
from kyara.nn.losses import nonsaturating_d, nonsaturating_g


@dataclass(frozen=True)
class LatentConfig(configs.NetworkConfig):
    z_dim: int = 100  # size of a latent


@dataclass(frozen=True)
class NetworkConfig(LatentConfig):
    channels: int = 32  # channels at half resolution; doubled at every lower level


@dataclass(frozen=True)
class LossConfig(configs.LossConfig):
    label_weight: float = 0.0
    """Weight of the auxiliary classification loss of the attributes, for the discriminator on real pictures and for the
    generator. 0 disables it."""


@dataclass(frozen=True)
class GanConfig(configs.Config):
    """Base Config of dcgan, cgan, acgan and mlp."""

    network: LatentConfig = LatentConfig()
    losses: LossConfig = LossConfig()


@dataclass(frozen=True)
class Config(GanConfig):
    network: NetworkConfig = NetworkConfig()


SMALL, TINY = DataConfig(64, 64), DataConfig(32, 32)
TINY_NETWORK = NetworkConfig(z_dim=16, channels=4)
PRESETS = {
    "two-core": Config(SMALL, NetworkConfig(channels=32)),
    "paper": Config(SMALL, NetworkConfig(channels=64), optimizer=OptimizerConfig(batch=128, betas=(0.5, 0.999))),
    "tiny": Config(TINY, TINY_NETWORK, optimizer=OptimizerConfig(batch=8)),
}


def levels(data: DataConfig) -> int:
    """Number of upsampling levels, from a shorter side of 4 to 7 pixels."""
    return max(int(math.log2(min(data.width, data.height) / 4)), 1)


class GeneratorNet(nn.Module):
    """z (B, z_dim), labels (B, A) -> pictures (B, 3, H, W). With `concatenate`, one-hot labels are concatenated to z
    (Mirza and Osindero 2014); otherwise the first layer adds a learned row for each label."""

    def __init__(self, data: DataConfig, network: NetworkConfig, *, concatenate: bool = False) -> None:
        super().__init__()
        step = 1 << levels(data)
        self.size = data.height, data.width
        self.start = -(-data.height // step), -(-data.width // step)  # rounded up; forward crops
        widths = [network.channels << level for level in reversed(range(levels(data)))]
        first = widths[0] * self.start[0] * self.start[1]
        self.concatenated = data.attributes if concatenate else {}
        self.project = nn.Linear(network.z_dim + conditioning.width(self.concatenated), first, bias=False)
        self.labels = conditioning.Rows(data.attributes, first) if data.attributes and not concatenate else None
        layers: list[nn.Module] = [nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)]
        for i, o in itertools.pairwise(widths):
            layers += [nn.ConvTranspose2d(i, o, 4, 2, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], 3, 4, 2, 1), nn.Tanh())

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        if self.concatenated:
            z = torch.cat([z, conditioning.one_hot(labels, self.concatenated)], 1)
        x = self.project(z)
        if self.labels is not None:
            x = x + self.labels(labels).to(x.dtype)
        x = x.unflatten(1, (-1, *self.start))  # (B, C, h, w)
        pictures: Tensor = self.layers(x.contiguous(memory_format=torch.channels_last))
        return centre_crop(pictures, *self.size)


def convolutions(data: DataConfig, network: NetworkConfig, channels: int = 3) -> tuple[list[nn.Module], int]:
    """Strided convolutions that downsample a picture with `channels` channels, and the number of output features."""
    widths = [network.channels << level for level in range(levels(data))]
    layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
    height, width = data.height // 2, data.width // 2
    for i, o in itertools.pairwise(widths):
        layers += [nn.Conv2d(i, o, 4, 2, 1, bias=False), nn.BatchNorm2d(o), nn.LeakyReLU(0.2, inplace=True)]
        height, width = height // 2, width // 2
    return [*layers, nn.Flatten()], widths[-1] * height * width


class Discriminator(nn.Module):
    """Pictures (B, 3, H, W), labels (B, A) -> logits (B,), and label logits (B, V), or None without `classify`."""

    def __init__(
        self,
        layers: list[nn.Module],
        features: int,
        *,
        project: Attributes | None = None,
        concatenate: Attributes | None = None,
        classify: Attributes | None = None,
    ) -> None:
        """`layers` output `features` features. Attributes condition it by projection, or by maps concatenated to the
        input."""
        super().__init__()
        self.concatenated = concatenate
        self.layers = nn.Sequential(*layers, nn.Linear(features, 1))
        self.labels = conditioning.Projection(project, features) if project else None
        self.heads = nn.Linear(features, conditioning.width(classify)) if classify else None

    def forward(self, pictures: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.concatenated:
            maps = conditioning.one_hot(labels, self.concatenated)[:, :, None, None]  # (B, V, 1, 1)
            pictures = torch.cat([pictures, maps.expand(-1, -1, *pictures.shape[2:]).to(pictures.dtype)], 1)
        x = pictures.to(compute_dtype(pictures.device), memory_format=torch.channels_last)
        features = self.layers[:-1](x)  # (B, F)
        logits: Tensor = self.layers[-1](features).squeeze(1)
        if self.labels is not None:
            logits = logits + self.labels(features, labels)
        return logits, None if self.heads is None else self.heads(features)


def classified(config: GanConfig) -> Attributes:
    """The attributes that the discriminator classifies: all of them if the label loss is enabled."""
    return config.data.attributes if config.losses.label_weight else {}


def initialise(module: nn.Module) -> None:
    """The paper's initialisation: N(0, 0.02) for weights, N(1, 0.02) for scales of batch normalisation."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


class Model(base.Generator):
    """DCGAN (Radford et al. 2016): generator, its moving average, discriminator. Subclasses override `networks`."""

    presets: ClassVar[Mapping[str, configs.Config]] = PRESETS
    phases = ("d", "g")
    averages: ClassVar[Mapping[str, str]] = {"g": "g_ema"}
    data_spec = base.DataSpec(attributes="may")
    capturable = True
    label_loss_on_fakes: ClassVar[bool] = False  # whether the discriminator is also trained to classify fakes

    def __init__(self, config: GanConfig) -> None:
        super().__init__(config)
        self.config: GanConfig = config
        self.z_dim = config.network.z_dim
        self.g, self.d = self.networks(config)
        self.g.apply(initialise)
        self.d.apply(initialise)
        self.g_ema = self.average(self.g)

    def networks(self, config: Any) -> tuple[nn.Module, nn.Module]:
        """Generator and discriminator."""
        layers, features = convolutions(config.data, config.network)
        d = Discriminator(layers, features, project=config.data.attributes, classify=classified(config))
        return GeneratorNet(config.data, config.network), d

    def losses(self, phase: str, batch: base.Batch) -> dict[str, Tensor]:
        attributes = self.config.data.attributes
        labels = conditioning.table(batch.labels, attributes, batch.real)  # (B, A)
        z = torch.randn(len(batch.real), self.z_dim, device=batch.real.device)
        fake_labels = conditioning.shuffled(labels)
        if phase == "g":
            logits, label_logits = self.d(batch.augment(self.g(z, fake_labels)), fake_labels)
            return {
                "g": nonsaturating_g(logits),
                **conditioning.losses("g_labels", label_logits, fake_labels, self.config),
            }
        with torch.no_grad():
            fake = self.g(z, fake_labels)
        real_logits, real_label_logits = self.d(batch.augment(batch.real), labels)
        fake_logits, fake_label_logits = self.d(batch.augment(fake), fake_labels)
        batch.log_signs(real_logits, fake_logits)
        if real_label_logits is not None:
            batch.log["label_accuracy"] = conditioning.accuracy(real_label_logits, labels, attributes)
        losses = {"d": nonsaturating_d(real_logits, fake_logits)}
        losses |= conditioning.losses("d_labels", real_label_logits, labels, self.config)
        if self.label_loss_on_fakes:
            losses |= conditioning.losses("d_labels_fake", fake_label_logits, fake_labels, self.config)
        return losses

    def sample(self, z: Tensor, *, truncation: float = 1.0, labels: Mapping[str, Tensor] | None = None) -> Tensor:
        return self.g_ema(z * truncation, conditioning.table(labels, self.config.data.attributes, z))
