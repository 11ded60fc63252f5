"""Auxiliary classifier GAN (Odena et al. 2017), with the convolutions of DCGAN and one softmax per attribute.

In addition to real and fake, the discriminator classifies the labels of real and generated pictures: it maximises
L_S + L_C, and the generator maximises L_C - L_S (section 3). Unknown labels are ignored in L_C."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from kyara.models import base, dcgan
from kyara.nn.configs import OptimizerConfig


@dataclass(frozen=True)
class LossConfig(dcgan.LossConfig):
    label_weight: float = 1.0  # weight of the classification loss L_C, relative to L_S


@dataclass(frozen=True)
class Config(dcgan.Config):
    losses: LossConfig = LossConfig()


PRESETS = {
    "two-core": Config(dcgan.SMALL),
    "tiny": Config(dcgan.TINY, dcgan.TINY_NETWORK, optimizer=OptimizerConfig(batch=8)),
}


class Model(dcgan.Model):
    """ACGAN (Odena et al. 2017): generator, its moving average, discriminator with a head for each attribute."""

    presets = PRESETS
    data_spec = base.DataSpec(attributes="must")
    label_loss_on_fakes = True

    def networks(self, config: Config) -> tuple[nn.Module, nn.Module]:
        layers, features = dcgan.convolutions(config.data, config.network)
        d = dcgan.Discriminator(layers, features, classify=config.data.attributes)
        return dcgan.GeneratorNet(config.data, config.network, concatenate=True), d
