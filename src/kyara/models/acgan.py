"""Auxiliary classifier GAN (Odena et al. 2017), with the convolutions of DCGAN and one softmax an attribute.

The discriminator classifies the labels of real and of generated pictures beside real and fake: it maximises L_S + L_C,
and the generator L_C - L_S (section 3). Unknown labels are ignored in L_C."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from kyara.models import base, dcgan
from kyara.nn.configs import OptimizerConfig


@dataclass(frozen=True)
class LossConfig(dcgan.LossConfig):
    label_weight: float = 1.0  # weight of the label loss L_C, beside L_S


@dataclass(frozen=True)
class Config(dcgan.Config):
    losses: LossConfig = LossConfig()


PRESETS = {
    "two-core": Config(dcgan.SMALL),
    "tiny": Config(dcgan.TINY, dcgan.TINY_NETWORK, optimizer=OptimizerConfig(batch=8)),
}


class Model(dcgan.Model):
    """ACGAN (Odena et al. 2017): generator, its average, discriminator with a head for each attribute."""

    presets = PRESETS
    data_spec = base.DataSpec(attributes="must")
    label_loss_on_fakes = True

    def networks(self, config: Config) -> tuple[nn.Module, nn.Module]:
        layers, features = dcgan.convolutions(config.data, config.network)
        d = dcgan.Discriminator(layers, features, classify=config.data.attributes)
        return dcgan.GeneratorNet(config.data, config.network, concatenate=True), d
