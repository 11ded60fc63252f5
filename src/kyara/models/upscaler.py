"""Restoration and super-resolution: pictures of twice the size, with clean lines and even areas.

Generated pictures and drawings do not come in pairs. So clean drawings are degraded as small generators would draw them
(`kyara.data.degradation`), and a network learns to undo it, as Real-ESRGAN does for real pictures (Wang et al. 2021). A
U-Net (Ronneberger et al. 2015) of residual blocks without normalisation; the output is a residual to the enlarged
input. A discriminator on the wavelet bands of patches keeps lines sharp, where the L1 loss would blur them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kyara.data.degradation import degrade
from kyara.models import base
from kyara.nn import configs
from kyara.nn.configs import DataConfig
from kyara.nn.losses import nonsaturating_d, nonsaturating_g
from kyara.nn.seeding import fixed_seed
from kyara.nn.wavelets import haar

SCALE = 2
SHOWN = 16  # pictures on the sample sheet
SMALLEST = 8  # least `losses.crop`


@dataclass(frozen=True)
class NetworkConfig(configs.NetworkConfig):
    widths: tuple[int, ...] = (24, 48, 64, 96)  # channels at the size of the input, at half of it, and so on
    d_widths: tuple[int, ...] = (32, 48, 64)  # channels of the discriminator, which halves the size between them


@dataclass(frozen=True)
class LossConfig(configs.LossConfig):
    """Weights; 0 disables a loss."""

    l1: float = 1.0  # mean absolute difference from the clean picture
    adversarial: float = 0.005  # GAN loss of restored patches
    crop: int = 64  # side of the degraded patches, in pixels, 8 or more; at most half the size of the pictures


ADAM = configs.OptimizerConfig(batch=8, lr=7e-4, betas=(0.5, 0.99), ema_kimg=2.0, warmup=0.02, decay=0.5)


@dataclass(frozen=True)
class Config(configs.Config):
    network: NetworkConfig = NetworkConfig()
    losses: LossConfig = LossConfig()
    optimizer: configs.OptimizerConfig = ADAM


PRESETS = {
    "two-core": Config(DataConfig(256, 256)),
    "tiny": Config(
        DataConfig(32, 32), NetworkConfig((8, 8, 8), (8, 8)), LossConfig(crop=16), replace(ADAM, batch=8, lr=2e-3)
    ),
}


class Residual(nn.Module):
    """x plus two convolutions of it. (B, C, H, W) -> the same. The identity at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(channels, channels, 3, 1, 1) for _ in range(2))
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        inside: Tensor = self.second(F.leaky_relu(self.first(F.leaky_relu(x, 0.2)), 0.2))
        return x + inside


class UNet(nn.Module):
    """Pictures (B, 3, H, W) -> (B, 3, 2 H, 2 W)."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        pairs, inner = [*itertools.pairwise(widths)], widths[:-1]
        self.halvings = len(pairs)
        self.head = nn.Conv2d(3, widths[0], 3, 1, 1)
        self.encoders = nn.ModuleList(
            nn.Sequential(*(Residual(w) for _ in range(1 + i // 2))) for i, w in enumerate(inner)
        )
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in pairs)
        self.middle = nn.Sequential(*(Residual(widths[-1]) for _ in range(3)))
        self.up = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in pairs)
        self.decoders = nn.ModuleList(nn.Sequential(Residual(w), Residual(w)) for w in inner)
        self.tail = nn.Conv2d(widths[0], 3 * SCALE**2, 3, 1, 1)
        nn.init.zeros_(self.tail.weight)

    @property
    def receptive_field(self) -> int:
        """Its radius in pixels of the input, rounded up to a multiple of the largest stride."""
        reach = 2.0  # head and tail
        for i in range(self.halvings):
            convolutions = 2 * (1 + i // 2) + 4
            reach += 2**i * (convolutions + 1.5)
        stride = 2**self.halvings
        return stride * -(-round(reach + 6 * stride) // stride)

    def forward(self, pictures: Tensor) -> Tensor:
        height, width = pictures.shape[2:]
        stride = 2**self.halvings
        padded = F.pad(pictures, (0, -width % stride, 0, -height % stride), mode="replicate")
        x, kept = self.head(padded.contiguous(memory_format=torch.channels_last)), []
        for encoder, down in zip(self.encoders, self.down, strict=True):
            kept.append(encoder(x))
            x = down(kept[-1])
        x = self.middle(x)
        for decoder, up, skip in zip(reversed(self.decoders), reversed(self.up), reversed(kept), strict=True):
            x = decoder(F.pixel_shuffle(up(x), 2) + skip)
        details = F.pixel_shuffle(self.tail(F.leaky_relu(x, 0.2)), SCALE).float()
        enlarged = F.interpolate(padded.float(), scale_factor=SCALE, mode="bilinear", align_corners=False)
        return (enlarged + details)[:, :, : SCALE * height, : SCALE * width]


class Discriminator(nn.Sequential):
    """Patches (B, 3, H, W) -> logits (B, 1, h, w)."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        normal, layers = nn.utils.parametrizations.spectral_norm, list[nn.Module]()
        layers += [normal(nn.Conv2d(12, widths[0], 3, 1, 1)), nn.LeakyReLU(0.2)]
        for inputs, outputs in itertools.pairwise(widths):
            layers += [normal(nn.Conv2d(inputs, outputs, 4, 2, 1)), nn.LeakyReLU(0.2)]
        layers += [normal(nn.Conv2d(widths[-1], widths[-1], 3, 1, 1)), nn.LeakyReLU(0.2)]
        super().__init__(*layers, normal(nn.Conv2d(widths[-1], 1, 3, 1, 1)))

    def forward(self, pictures: Tensor) -> Tensor:
        logits: Tensor = super().forward(haar(pictures))
        return logits


class Model(base.Translator):
    """A U-Net (Ronneberger et al. 2015), its moving average, and a discriminator of patches (Isola et al. 2017)."""

    presets = PRESETS
    phases = ("d", "g")
    averages: ClassVar[Mapping[str, str]] = {"g": "g_ema"}
    scale = SCALE
    data_spec = base.DataSpec(holdout=0.05)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config = config
        sides, crop, least = (config.data.width, config.data.height), config.losses.crop, SMALLEST
        if not least <= crop <= min(sides) // SCALE:
            raise ValueError(f"losses.crop={crop}: must be {least} or more, and at most half the size of the pictures")
        self.g = UNet(config.network.widths)
        self.g_ema = self.average(self.g)
        self.d = Discriminator(config.network.d_widths)

    @property
    def receptive_field(self) -> int:
        return self.g.receptive_field

    def translate(self, pictures: Tensor) -> Tensor:
        made: Tensor = self.g_ema(pictures)
        return made.clamp(-1, 1)

    def losses(self, phase: str, batch: base.Batch) -> dict[str, Tensor]:
        weights = self.config.losses
        if phase == "d" and not weights.adversarial:
            return {}
        with torch.no_grad(), torch.autocast(batch.real.device.type, enabled=False):
            clean = self.cropped(batch.real)
            seen = degrade(clean)
        if phase == "d":
            with torch.no_grad():
                made = self.g(seen)
            real_logits, fake_logits = self.d(batch.augment(clean)), self.d(batch.augment(made))
            batch.log_signs(real_logits, fake_logits)
            return {"d": nonsaturating_d(real_logits, fake_logits)}
        made = self.g(seen)
        losses = {"l1": (made - clean).abs().mean() * weights.l1}
        if weights.adversarial:
            losses["adversarial"] = nonsaturating_g(self.d(batch.augment(made))) * weights.adversarial
        return losses

    def cropped(self, pictures: Tensor) -> Tensor:
        """A random patch of pictures (B, 3, H, W), at the same place in each; it begins at an even pixel."""
        side = SCALE * self.config.losses.crop
        spare = [(length - side) // 2 + 1 for length in pictures.shape[2:]]
        top, left = (2 * int(torch.randint(count, (), device="cpu")) for count in spare)
        return pictures[:, :, top : top + side, left : left + side]

    def measure(self, batch: base.Batch, distance: base.Distance) -> dict[str, float]:
        """Of held-out pictures that were always degraded alike: distance to the clean ones, and the L1."""
        clean = even(batch.real)
        made = torch.cat([self.translate(self.frozen(part)) for part in clean.split(16)])
        return {"frechet": distance(made, clean), "l1": float((made - clean).abs().mean())}

    def preview(self, batch: base.Batch) -> Tensor | None:
        """Rows of held-out pictures: degraded and enlarged, restored, clean."""
        clean = even(batch.real[:SHOWN])
        seen = self.frozen(clean)
        enlarged = F.interpolate(seen, scale_factor=SCALE, mode="bicubic", align_corners=False).clamp(-1, 1)
        return torch.stack([enlarged, self.translate(seen), clean], 1).flatten(0, 1)

    @staticmethod
    def frozen(clean: Tensor) -> Tensor:
        """`degrade` with random numbers that are always the same."""
        with fixed_seed(0, clean.device):
            return degrade(clean)


def even(pictures: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) without the last row or column if there is an odd number of them, which have no half."""
    height, width = (side // SCALE * SCALE for side in pictures.shape[2:])
    return pictures[:, :, :height, :width]
