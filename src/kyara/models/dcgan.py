"""DCGAN (Radford et al. 2016): strided convolutions, batch normalisation, nothing else. Small, fast and rough."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from kyara.models import base
from kyara.models.layers import compute_dtype
from kyara.models.losses import nonsaturating_d, nonsaturating_g


@dataclasses.dataclass(frozen=True)
class Config(base.Config):
    betas: tuple[float, float] = (0.5, 0.999)
    """Adam's decay rates of the first and second moment."""
    batch: int = 64
    """Pictures in one step."""
    z_dim: int = 100
    """Size of a latent."""
    channels: int = 32
    """Channels at half the picture's size; every level below has twice as many."""

    @property
    def levels(self) -> int:
        """How often the size doubles, from a shorter side of 4 to 7 pixels."""
        return max(int(math.log2(min(self.width, self.height) / 4)), 1)


PRESETS = {
    "two-core": Config(64, 64, channels=32),
    "paper": Config(64, 64, batch=128, channels=64),
    "tiny": Config(32, 32, batch=8, z_dim=16, channels=4),
}


class GeneratorNet(nn.Module):
    """z (B, z_dim) -> pictures (B, 3, H, W)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        step = 1 << config.levels
        self.size = config.height, config.width
        self.start = (
            -(-config.height // step),
            -(-config.width // step),
        )  # rounded up; forward crops what is too much
        widths = [config.channels << level for level in reversed(range(config.levels))]
        self.project = nn.Linear(config.z_dim, widths[0] * self.start[0] * self.start[1], bias=False)
        layers: list[nn.Module] = [nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)]
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs)]
            layers += [nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], 3, 4, 2, 1), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        x = self.project(z).unflatten(1, (-1, *self.start))  # (B, C, h, w)
        pictures: Tensor = self.layers(x.contiguous(memory_format=torch.channels_last))
        height, width = self.size
        top, left = (pictures.shape[2] - height) // 2, (pictures.shape[3] - width) // 2
        return pictures[:, :, top : top + height, left : left + width]


class Discriminator(nn.Module):
    """Pictures (B, 3, H, W) -> logits (B,)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths = [config.channels << level for level in range(config.levels)]
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        height, width = config.height // 2, config.width // 2
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs)]
            layers += [nn.LeakyReLU(0.2, inplace=True)]
            height, width = height // 2, width // 2
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * height * width, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        x = pictures.to(compute_dtype(pictures.device), memory_format=torch.channels_last)
        logits: Tensor = self.layers(x)
        return logits.squeeze(1)


def initialise(module: nn.Module) -> None:
    """The paper's: N(0, 0.02) for weights, scales of batch normalisation around 1."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


class Model(base.Generator):
    """DCGAN: generator, its average, discriminator."""

    config_type = Config
    presets = PRESETS
    phases = ("d", "g")
    averages: ClassVar[Mapping[str, str]] = {"g": "g_ema"}

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.z_dim = config.z_dim
        self.g, self.d = GeneratorNet(config), Discriminator(config)
        self.g.apply(initialise)
        self.d.apply(initialise)
        self.g_ema = self.average(self.g)

    def players(self) -> Mapping[str, nn.Module]:
        return {"d": self.d, "g": self.g}

    def losses(self, phase: str, batch: base.Batch) -> dict[str, Tensor]:
        z = torch.randn(len(batch.real), self.z_dim, device=batch.real.device)
        if phase == "g":
            return {"g": nonsaturating_g(self.d(batch.augment(self.g(z))))}
        with torch.no_grad():
            fake = self.g(z)
        real_logits, fake_logits = self.d(batch.augment(batch.real)), self.d(batch.augment(fake))
        batch.log["real_sign"] = real_logits.detach().sign().mean()
        batch.log["fake_sign"] = fake_logits.detach().sign().mean()
        return {"d": nonsaturating_d(real_logits, fake_logits)}

    def sample(self, z: Tensor, *, truncation: float = 1.0, labels: Mapping[str, Tensor] | None = None) -> Tensor:
        pictures: Tensor = self.g_ema(z * truncation)
        return pictures
