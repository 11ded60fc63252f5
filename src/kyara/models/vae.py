"""Variational autoencoder (Kingma and Welling 2014), with the convolutions of DCGAN. The decoder's variance is the
maximum likelihood estimate of the batch (Rybkin et al. 2021, "Simple and effective VAE training with calibrated
decoders", section 4), so that the KL weight needs no tuning. Not conditional: the decoder ignored the attributes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from kyara.models import base, dcgan
from kyara.models.dcgan import NetworkConfig
from kyara.nn import conditioning, configs
from kyara.nn.layers import compute_dtype


@dataclass(frozen=True)
class LossConfig(configs.LossConfig):
    kl_weight: float = 1.0  # weight of the KL divergence from the prior; 1 is the evidence lower bound


ADAM = configs.OptimizerConfig(batch=64, lr=1e-3, betas=(0.9, 0.999))


@dataclass(frozen=True)
class Config(configs.Config):
    network: NetworkConfig = NetworkConfig()
    losses: LossConfig = LossConfig()
    optimizer: configs.OptimizerConfig = ADAM


PRESETS = {
    "two-core": Config(dcgan.SMALL),
    "tiny": Config(dcgan.TINY, dcgan.TINY_NETWORK, optimizer=replace(ADAM, batch=8)),
}


class Autoencoder(nn.Module):
    """Encoder and decoder."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        layers, features = dcgan.convolutions(config.data, config.network)
        self.encoder = nn.Sequential(*layers)
        self.posterior = nn.Linear(features, 2 * config.network.z_dim)
        self.decoder = dcgan.GeneratorNet(config.data, config.network)

    def encode(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (B, z_dim) of z given the pictures (B, 3, H, W)."""
        x = pictures.to(compute_dtype(pictures.device), memory_format=torch.channels_last)
        mean, log_variance = self.posterior(self.encoder(x)).float().chunk(2, 1)
        return mean, log_variance.clamp(-20, 10)  # avoids overflow; far beyond the prior

    def decode(self, z: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) of latents (B, z_dim)."""
        return self.decoder(z, conditioning.table(None, {}, z))


class Model(base.Generator):
    """VAE (Kingma and Welling 2014): encoder and decoder, and their moving average."""

    presets = PRESETS
    phases = ("vae",)
    augments = False
    averages: ClassVar[Mapping[str, str]] = {"net": "net_ema"}
    unsampled = "encoder", "posterior"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config = config
        self.z_dim = config.network.z_dim
        self.net = Autoencoder(config)
        self.net_ema = self.average(self.net)

    def losses(self, phase: str, batch: base.Batch) -> dict[str, Tensor]:
        """Negative evidence lower bound per pixel and channel, without the constant."""
        mean, log_variance = self.net.encode(batch.real)
        z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        error = (self.net.decode(z).float() - batch.real).square().mean()
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
        batch.log["squared_error"] = error.detach()
        kl = divergence * (self.config.losses.kl_weight / batch.real[0].numel())
        return {"reconstruction": 0.5 * (error + 1e-6).log(), "kl": kl}

    def sample(self, z: Tensor, *, truncation: float = 1.0, labels: Mapping[str, Tensor] | None = None) -> Tensor:
        return self.net_ema.decode(z * truncation)
