"""Auxiliary classifier GAN (Odena et al. 2017), with the convolutions of DCGAN and one softmax an attribute.

The discriminator is not told the labels but tells them, of real and of generated pictures, beside telling these apart:
L_S + L_C; the generator maximises L_C - L_S (section 3). Unknown labels are left out of L_C.
"""

from __future__ import annotations

import dataclasses

from torch import nn

from kyara.models import cgan, dcgan


@dataclasses.dataclass(frozen=True)
class Config(dcgan.Config):
    label_weight: float = 1.0
    """Weight of the label loss L_C, beside L_S."""


PRESETS = {
    "two-core": Config(64, 64, channels=32),
    "tiny": Config(32, 32, batch=8, z_dim=16, channels=4),
}


class Model(dcgan.Model):
    """ACGAN: generator, its average, discriminator with a head for each attribute."""

    config_type = Config
    presets = PRESETS
    attributed = "must"
    label_loss_on_fakes = True

    def networks(self, config: Config) -> tuple[nn.Module, nn.Module]:
        layers, features = dcgan.convolutions(config)
        d = dcgan.Discriminator(layers, features, project={}, tell=config.attributes)
        return cgan.GeneratorNet(config), d
