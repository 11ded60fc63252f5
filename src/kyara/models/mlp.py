"""Fully connected GAN (Goodfellow et al. 2014): four layers with batch normalisation in the generator, two in the
discriminator. A baseline for the convolutional architectures. The widths are those of the network with which Sedov
compares DCGAN; the preset `paper` differs from the default in the batch only, which is DCGAN's."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

from torch import Tensor, nn

from kyara.models import dcgan
from kyara.nn import conditioning, configs


@dataclass(frozen=True)
class NetworkConfig(dcgan.LatentConfig):
    widths: tuple[int, ...] = (128, 256, 512, 1024)  # units of the generator's layers
    d_widths: tuple[int, ...] = (512, 256)  # units of the discriminator's layers


ADAM = configs.OptimizerConfig(batch=64, betas=(0.5, 0.999))


@dataclass(frozen=True)
class Config(dcgan.GanConfig):
    network: NetworkConfig = NetworkConfig()
    optimizer: configs.OptimizerConfig = ADAM


PRESETS = {
    "two-core": Config(dcgan.SMALL),
    "paper": Config(dcgan.SMALL, optimizer=replace(ADAM, batch=128)),
    "tiny": Config(dcgan.TINY, NetworkConfig(16, (16, 32), (32, 16)), optimizer=replace(ADAM, batch=8)),
}


class GeneratorNet(nn.Module):
    """z (B, z_dim), labels (B, A) -> pictures (B, 3, H, W)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        attributes, widths = config.data.attributes, config.network.widths
        self.first = nn.Linear(config.network.z_dim, widths[0], bias=False)
        self.labels = conditioning.Rows(attributes, widths[0]) if attributes else None
        layers: list[nn.Module] = [nn.BatchNorm1d(widths[0]), nn.LeakyReLU(0.2)]
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.LeakyReLU(0.2)]
        self.shape = 3, config.data.height, config.data.width
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], math.prod(self.shape)), nn.Tanh())

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        x = self.first(z)
        if self.labels is not None:
            x = x + self.labels(labels).to(x.dtype)
        return self.layers(x).unflatten(1, self.shape)


class Model(dcgan.Model):
    """Fully connected GAN (Goodfellow et al. 2014): generator, its moving average, discriminator."""

    presets = PRESETS

    @classmethod
    def least_micro_batch(cls, config: configs.Config) -> int:
        return 2

    def networks(self, config: Config) -> tuple[nn.Module, nn.Module]:
        widths = 3 * config.data.height * config.data.width, *config.network.d_widths
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(0.2)]
        d = dcgan.Discriminator(layers, widths[-1], project=config.data.attributes, classify=dcgan.classified(config))
        return GeneratorNet(config), d
