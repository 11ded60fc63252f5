"""Fully connected GAN, the first of Sedov's networks: four layers with batch normalisation make a picture, two judge
it. It knows nothing of neighbourhood, which is what the others are compared with."""

from __future__ import annotations

import dataclasses
import itertools
import math

from torch import Tensor, nn

from kyara.models import dcgan
from kyara.nn import conditioning


@dataclasses.dataclass(frozen=True)
class Config(dcgan.GanConfig):
    widths: tuple[int, ...] = (128, 256, 512, 1024)
    """Units of the generator's layers."""
    judge_widths: tuple[int, ...] = (512, 256)
    """Units of the discriminator's layers."""


PRESETS = {
    "two-core": Config(64, 64),
    "paper": Config(64, 64, batch=128),
    "tiny": Config(32, 32, batch=8, z_dim=16, widths=(16, 32), judge_widths=(32, 16)),
}


class GeneratorNet(nn.Module):
    """z (B, z_dim), labels (B, A) -> pictures (B, 3, H, W)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.first = nn.Linear(config.z_dim, config.widths[0], bias=False)
        self.labels = conditioning.Rows(config.attributes, config.widths[0]) if config.attributes else None
        layers: list[nn.Module] = [nn.BatchNorm1d(config.widths[0]), nn.LeakyReLU(0.2)]
        for inputs, outputs in itertools.pairwise(config.widths):
            layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.LeakyReLU(0.2)]
        self.shape = 3, config.height, config.width
        self.layers = nn.Sequential(*layers, nn.Linear(config.widths[-1], math.prod(self.shape)), nn.Tanh())

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        x = self.first(z)
        if self.labels is not None:
            x = x + self.labels(labels).to(x.dtype)
        pictures: Tensor = self.layers(x).unflatten(1, self.shape)
        return pictures


class Model(dcgan.Model):
    """Fully connected GAN: generator, its average, discriminator."""

    config_type = Config
    presets = PRESETS

    def networks(self, config: Config) -> tuple[nn.Module, nn.Module]:
        told = config.attributes
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in itertools.pairwise((3 * config.height * config.width, *config.judge_widths)):
            layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(0.2)]
        features = config.judge_widths[-1]
        d = dcgan.Discriminator(layers, features, project=told, tell=told if config.label_weight else {})
        return GeneratorNet(config), d
