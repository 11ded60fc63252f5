"""Conditional GAN (Mirza and Osindero 2014), with the convolutions of DCGAN: one-hot labels are concatenated to
the latent and, as constant maps, to the picture. Unknown labels are all zeros."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kyara.models import base, dcgan
from kyara.models.dcgan import Config, NetworkConfig
from kyara.nn import conditioning
from kyara.nn.configs import OptimizerConfig

PRESETS = {
    "two-core": Config(dcgan.SMALL, NetworkConfig(channels=32)),
    "tiny": Config(dcgan.TINY, NetworkConfig(z_dim=16, channels=4), optimizer=OptimizerConfig(batch=8)),
}


class GeneratorNet(dcgan.GeneratorNet):
    """z (B, z_dim), labels (B, A) -> pictures (B, 3, H, W)."""

    def __init__(self, config: Config) -> None:
        super().__init__(
            config.data, config.network, inputs=config.network.z_dim + conditioning.width(config.data.attributes)
        )
        self.attributes = config.data.attributes

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        return super().forward(torch.cat([z, conditioning.one_hot(labels, self.attributes)], 1), labels)


class Discriminator(dcgan.Discriminator):
    """Pictures (B, 3, H, W), labels (B, A) -> logits (B,)."""

    def __init__(self, config: Config) -> None:
        layers, features = dcgan.convolutions(
            config.data, config.network, 3 + conditioning.width(config.data.attributes)
        )
        attributes = config.data.attributes
        super().__init__(layers, features, project={}, classify=attributes if config.losses.label_weight else {})
        self.attributes = attributes

    def forward(self, pictures: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        maps = conditioning.one_hot(labels, self.attributes)[:, :, None, None].expand(-1, -1, *pictures.shape[2:])
        return super().forward(torch.cat([pictures, maps.to(pictures.dtype)], 1), labels)


class Model(dcgan.Model):
    """Conditional GAN (Mirza and Osindero 2014): generator, its average, discriminator."""

    presets = PRESETS
    data_spec = base.DataSpec(attributes="must")

    def networks(self, config: Config) -> tuple[nn.Module, nn.Module]:
        return GeneratorNet(config), Discriminator(config)
