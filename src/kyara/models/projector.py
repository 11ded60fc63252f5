"""The backward projector of Re-Generator (Electronics 2025, 14(4), 675): predicts the output of a layer of a frozen
generator for a given picture.

It is trained on pictures of the generator, for which the features are known, with the distance to the true features
(section 4.1), a discriminator of features (4.1.1), and the distance between the picture and its reconstruction by the
generator (4.1.2: pixels and SSIM). The weights were chosen with benchmarks/projectors.py.

Extensions: the styles and the output of coarser layers are from a *host*, another picture of the generator, which is a
second input. Training pictures are altered with parts of other pictures or flat shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from kyara.data.holes import free_form, one_of, somewhere
from kyara.files.checkpoint import read
from kyara.models import base, load, load_frozen
from kyara.nn import configs
from kyara.nn.activations import ActivationCache, capture
from kyara.nn.losses import least_squares, sliced_wasserstein, ssim
from kyara.nn.seeding import fixed_seed


@dataclass(frozen=True)
class GeneratorConfig:
    """The source generator; set by `--of` and `--layer`."""

    checkpoint: str = "builtin:anime"  # a Checkpoint
    hash: str = ""  # its hash
    layer: int = 6  # the layer whose output is predicted, an index into `Model.memories`
    shape: tuple[int, int, int] = (64, 32, 32)  # channels, height and width of that output


@dataclass(frozen=True)
class NetworkConfig(configs.NetworkConfig):
    channels: int = 64  # channels of the projector
    blocks: int = 6  # residual blocks
    d_channels: int = 64  # channels of the discriminator


@dataclass(frozen=True)
class LossConfig(configs.LossConfig):
    """Weights; 0 disables a loss."""

    features: float = 1.0  # L1 distance from the true features, in units of their standard deviation
    adversarial: float = 0.1  # loss of the discriminator of features
    pixels: float = 5.0  # L1 of the reconstructed pixels
    ssim: float = 1.0  # 1 - SSIM of the reconstruction


@dataclass(frozen=True)
class AugmentConfig:
    altered: float = 0.75  # fraction of altered pictures: a third of them completely, the rest partially


ADAM = configs.CosineConfig(batch=16, lr=1e-3, betas=(0.5, 0.99), ema_kimg=2.0, warmup=0.02)


@dataclass(frozen=True)
class Config(configs.Config):
    generator: GeneratorConfig = GeneratorConfig()
    network: NetworkConfig = NetworkConfig()
    losses: LossConfig = LossConfig()
    optimizer: configs.CosineConfig = ADAM
    augment: AugmentConfig = AugmentConfig()


PRESETS = {
    "two-core": Config(),
    "large": Config(network=NetworkConfig(channels=128, blocks=9, d_channels=128)),
    "tiny": Config(network=NetworkConfig(channels=8, blocks=1, d_channels=8), optimizer=replace(ADAM, batch=8)),
}
DILATIONS = (1, 2, 4)  # dilations of consecutive residual blocks, for a larger receptive field
DIRECTIONS = 128  # number of projections of the sliced Wasserstein distance
MEASURED, SHOWN = 64, 12  # number of pictures for `measure`, and on the sheet
NEAR = 2  # margin around altered regions in which the true features are unknown, in positions


class Residual(nn.Module):
    """Two convolutions with a skip connection, (B, C, H, W)."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8 if channels % 8 == 0 else 1, channels)
        self.first = nn.Conv2d(channels, channels, 3, 1, dilation, dilation)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.leaky_relu(self.first(F.leaky_relu(self.norm(x), 0.2)), 0.2))


class Network(nn.Module):
    """Pictures and hosts, (B, 3, H, W) each -> standardised features (B, C, h, w)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.size = config.generator.shape[1:]
        halvings = max(round(config.data.height / self.size[0]).bit_length() - 1, 0)
        c = config.network.channels
        self.stem = nn.Conv2d(6, c, 3, 1, 1)
        self.down = nn.ModuleList(nn.Conv2d(c, c, 4, 2, 1) for _ in range(halvings))
        self.align = nn.Sequential(*(Residual(c, DILATIONS[i % len(DILATIONS)]) for i in range(config.network.blocks)))
        self.out = nn.Conv2d(c, config.generator.shape[0], 3, 1, 1)

    def forward(self, pictures: Tensor, hosts: Tensor) -> Tensor:
        x = self.stem(torch.cat([pictures, hosts], 1).contiguous(memory_format=torch.channels_last))
        for layer in self.down:
            x = layer(F.leaky_relu(x, 0.2))
        if x.shape[2:] != self.size:
            x = F.interpolate(x, self.size, mode="bilinear")
        return self.out(F.leaky_relu(self.align(x), 0.2)).float()


class Discriminator(nn.Sequential):
    """Discriminator of features: (B, C, h, w) -> logits (B, 1, h / 4, w / 4)."""

    def __init__(self, config: Config) -> None:
        c = config.network.d_channels
        sizes = ((config.generator.shape[0], c, 3, 1), (c, c, 4, 2), (c, c, 4, 2))
        layers: list[nn.Module] = []
        for inputs, outputs, kernel, stride in sizes:
            layers += [spectral_norm(nn.Conv2d(inputs, outputs, kernel, stride, 1)), nn.LeakyReLU(0.2)]
        super().__init__(*layers, spectral_norm(nn.Conv2d(c, 1, 3, 1, 1)))


class Model(base.Projector):
    """The projector (Re-Generator, Electronics 2025), its moving average, and an optional discriminator of features."""

    presets = PRESETS
    phases = ("d", "g")
    augments = False
    averages: ClassVar[Mapping[str, str]] = {"g": "g_ema"}
    data_spec = base.DataSpec(of_model="must")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config = config
        self.g = Network(config)
        self.g_ema = self.average(self.g)
        self.d = Discriminator(config) if config.losses.adversarial else None
        self.mean = nn.Buffer(torch.zeros(config.generator.shape[0], 1, 1))
        self.deviation = nn.Buffer(torch.zeros(config.generator.shape[0], 1, 1))  # zero until initialised
        self._first: int | None = None  # the first step of training in this process

    @staticmethod
    def describe_source(checkpoint: str, layer: str) -> dict[str, dict[str, Any]]:
        source, description = load(checkpoint).requires_grad_(False), read(checkpoint)
        spans = source.memories()
        if not spans:
            raise ValueError(f"--of {checkpoint}: a {description.model} has no layers that can be rewritten")
        width, height = source.config.data.width, source.config.data.height
        with torch.random.fork_rng(devices=[]):
            make = source.sample_fn(1, torch.zeros(1, 3, height, width))
        shapes = [tuple(capture(source, span, make).value.shape[1:]) for span in spans]
        found = choose_layer(layer, shapes, height)
        part = {"checkpoint": str(checkpoint), "hash": description.hash, "layer": found, "shape": shapes[found]}
        return {"generator": part, "data": {"width": width, "height": height}}

    def players(self) -> Mapping[str, nn.Module]:
        return {"d": self.g if self.d is None else self.d, "g": self.g}

    def reg_interval(self, phase: str) -> int:
        return 0 if phase == "d" and self.d is None else 1

    def project(self, pictures: Tensor, hosts: Tensor) -> Tensor:
        return self.g_ema(pictures, hosts) * self.deviation + self.mean

    def losses(self, phase: str, batch: base.Batch) -> dict[str, Tensor]:
        config = self.config
        host, pictures, altered = self._given(batch.real)
        self._first = batch.step if self._first is None else min(self._first, batch.step)
        if batch.step <= self._first:  # later it is known, and a GPU need not be asked
            for buffer, measured in zip((self.mean, self.deviation), self._scale(batch.real), strict=True):
                buffer.copy_(measured)
        real = (host.value.float() - self.mean) / self.deviation
        if phase == "d":
            assert self.d is not None
            with torch.no_grad():
                fake = self.g(pictures, host.pictures)
            logits = self.d(torch.cat([real, fake])).float().chunk(2)
            batch.log_signs(logits[0], logits[1], threshold=0.5)
            return {"d": least_squares(logits[0], 1.0) + least_squares(logits[1], 0.0)}
        found, losses = self.g(pictures, host.pictures), {}
        if config.losses.features:
            losses["feature"] = config.losses.features * known_l1(found, real, ~altered)
        if config.losses.adversarial and self.d is not None:
            losses["adversarial"] = config.losses.adversarial * least_squares(self.d(found), 1.0)
        if config.losses.pixels or config.losses.ssim:
            restored = host.decode(found * self.deviation + self.mean).float()
        if config.losses.pixels:
            losses["pixels"] = config.losses.pixels * (restored - pictures).abs().mean()
        if config.losses.ssim:
            losses["ssim"] = config.losses.ssim * (1 - ssim(restored, pictures).mean())
        return losses

    @torch.no_grad()
    def _scale(self, real: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation (C, 1, 1) of the true features: those of the first step of training; before it, measured.
        Only training stores them: a snapshot is measured by one rank alone."""
        if self.deviation.any():
            return self.mean, self.deviation
        with fixed_seed(0, real.device):
            true = self._given(real[:1].expand(MEASURED, -1, -1, -1))[0].value.float()
        return true.mean((0, 2, 3))[:, None, None], true.std((0, 2, 3)).clamp_min(1e-4)[:, None, None]

    @torch.no_grad()
    def _given(self, real: Tensor) -> tuple[ActivationCache, Tensor, Tensor]:
        """Hosts; their pictures (B, 3, H, W), some altered; the mask (B, 1, h, w) of unknown features."""
        network = load_frozen(self.config.generator.checkpoint, real.device)
        layers = network.memories()[self.config.generator.layer]
        host = capture(network, layers, network.sample_fn(len(real), real))
        own = host.pictures.float()
        height, width = own.shape[2:]
        where = alterations(len(own), height, width, self.config.augment.altered, own.device)
        flat = torch.rand(len(own), 1, 1, 1, device=own.device) < 0.2
        others = torch.where(flat, torch.rand(len(own), 3, 1, 1, device=own.device) * 2 - 1, own.roll(1, 0).flip(3))
        altered = F.adaptive_max_pool2d(where.float(), self.config.generator.shape[1:])
        altered = F.max_pool2d(altered, 2 * NEAR + 1, 1, NEAR) > 0
        return host, torch.where(where, others, own), altered

    @torch.no_grad()
    def measure(self, batch: base.Batch, distance: base.Distance) -> dict[str, float]:
        """For fixed random hosts and altered pictures: L1 + 1 - SSIM of the reconstructions, and the L1 and sliced
        Wasserstein distances from the true features, in units of their standard deviation."""
        mean, scale = self._scale(batch.real)
        with fixed_seed(0, batch.real.device):
            host, pictures, altered = self._given(batch.real[:MEASURED])
        found = self.g_ema(pictures, host.pictures.float()) * scale + mean
        restored = host.decode(found).float()
        true = host.value.float()
        far = (restored - pictures).abs().mean() + 1 - ssim(restored, pictures).mean()
        directions = torch.randn(DIRECTIONS, true.shape[1], generator=torch.Generator().manual_seed(0))
        apart = sliced_wasserstein(vectors(found / scale), vectors(true / scale), directions.to(true.device))
        off = known_l1(found / scale, true / scale, ~altered)
        return {"restored": float(far), "features": float(off), "wasserstein": float(apart)}

    @torch.no_grad()
    def preview(self, batch: base.Batch) -> Tensor | None:
        """Hosts, pictures and reconstructions, side by side."""
        with fixed_seed(1, batch.real.device):
            host, pictures, _ = self._given(batch.real[:SHOWN])
        own, (mean, deviation) = host.pictures.float(), self._scale(batch.real)
        restored = host.decode(self.g_ema(pictures, own) * deviation + mean).float()
        return torch.stack([own, pictures, restored], 1).flatten(0, 1)


def alterations(count: int, height: int, width: int, share: float, device: torch.device) -> Tensor:
    """Random masks of altered pixels, (B, 1, H, W) bool: empty, full, a rectangle, or a few strokes."""
    size = count, height, width
    kinds = [torch.full(size, everywhere, device=device) for everywhere in (False, True)]
    kinds += [somewhere(*size, (0.15, 0.6), device=device), free_form(*size, 3, (0.05, 0.2), device=device)]
    return one_of((1 - share, share / 3, share / 3, share / 3), kinds, count, device=device)[:, None]


def choose_layer(layer: str, shapes: Sequence[tuple[int, ...]], height: int) -> int:
    """Parses --layer to an index into `shapes`, the output shapes (C, h, w) of the layers: a number, or `auto` for the
    last layer at half resolution, but at least the third, since an edit spans three layers. Raises ValueError with the
    list of layers."""
    if layer == "auto":
        half = [i for i, shape in enumerate(shapes) if shape[1] * 2 <= height]
        return min(max(half[-1] if half else 0, 2), len(shapes) - 1)
    if layer.isdecimal() and int(layer) < len(shapes):
        return int(layer)
    there = "; ".join(f"{i}: {c} channels of {h}x{w}" for i, (c, h, w) in enumerate(shapes))
    raise ValueError(f"--layer {layer}: no such layer; give auto or one of {there}")


def known_l1(a: Tensor, b: Tensor, where: Tensor) -> Tensor:
    """Mean absolute difference of features (B, C, h, w) where a mask (B, 1, h, w) is true, divided by its positions:
    unlike `nn.losses.masked_l1`, it does not depend on how many are known."""
    return ((a - b).abs().mean(1, keepdim=True) * where).sum() / where.sum().clamp_min(1)


def vectors(maps: Tensor) -> Tensor:
    """Reshapes features (B, C, h, w) to vectors (B h w, C)."""
    return maps.movedim(1, 3).flatten(0, 2)
