"""Conditional GAN (Mirza and Osindero 2014), with the convolutions of DCGAN: labels as one-hot vectors, put beside the
latent and, as constant maps, beside the picture. What is unknown is all zeros."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from kyara.models import dcgan
from kyara.nn import conditioning


@dataclasses.dataclass(frozen=True)
class Config(dcgan.Config):
    pass


PRESETS = {
    "two-core": Config(64, 64, channels=32),
    "tiny": Config(32, 32, batch=8, z_dim=16, channels=4),
}


class GeneratorNet(dcgan.GeneratorNet):
    """z (B, z_dim), labels (B, A) -> pictures (B, 3, H, W)."""

    def __init__(self, config: dcgan.Config) -> None:
        super().__init__(config, inputs=config.z_dim + conditioning.width(config.attributes))
        self.attributes = config.attributes

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        return super().forward(torch.cat([z, conditioning.one_hot(labels, self.attributes)], 1), labels)


class Discriminator(dcgan.Discriminator):
    """Pictures (B, 3, H, W), labels (B, A) -> logits (B,)."""

    def __init__(self, config: dcgan.Config) -> None:
        layers, features = dcgan.convolutions(config, 3 + conditioning.width(config.attributes))
        super().__init__(layers, features, project={}, tell=config.attributes if config.label_weight else {})
        self.attributes = config.attributes

    def forward(self, pictures: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        maps = conditioning.one_hot(labels, self.attributes)[:, :, None, None].expand(-1, -1, *pictures.shape[2:])
        return super().forward(torch.cat([pictures, maps.to(pictures.dtype)], 1), labels)


class Model(dcgan.Model):
    """Conditional GAN: generator, its average, discriminator."""

    config_type = Config
    presets = PRESETS
    attributed = "must"

    def networks(self, config: Config) -> tuple[nn.Module, nn.Module]:
        return GeneratorNet(config), Discriminator(config)
