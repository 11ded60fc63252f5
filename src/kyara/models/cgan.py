"""Conditional GAN (Mirza and Osindero 2014), with the convolutions of DCGAN: one-hot labels are concatenated to
the latent and, as constant maps, to the picture. Unknown labels are all zeros."""

from __future__ import annotations

from torch import nn

from kyara.models import base, dcgan
from kyara.nn import conditioning


class Model(dcgan.Model):
    """Conditional GAN (Mirza and Osindero 2014): generator, its moving average, discriminator."""

    presets = {name: dcgan.PRESETS[name] for name in ("two-core", "tiny")}  # noqa: RUF012
    data_spec = base.DataSpec(attributes="must")

    def networks(self, config: dcgan.Config) -> tuple[nn.Module, nn.Module]:
        data, attributes = config.data, config.data.attributes
        g = dcgan.GeneratorNet(data, config.network, concatenate=True)
        layers, features = dcgan.convolutions(data, config.network, 3 + conditioning.width(attributes))
        return g, dcgan.Discriminator(layers, features, concatenate=attributes, classify=dcgan.classified(config))
