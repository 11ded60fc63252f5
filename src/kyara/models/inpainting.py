"""Inpainting by recurrent feature reasoning (Li et al. 2020, "Recurrent feature reasoning for image inpainting").

In each recurrence, partial convolutions (Liu et al. 2018) shrink the hole from its border inwards, and an
encoder-decoder with attention fills in features. When the hole is closed, the features of all recurrences are averaged
and decoded.

Differences from the paper: group normalisation; the recurrence ends for a picture when its hole is closed, and the last
one is averaged at all positions; the attention has a learned temperature; the features of the perceptual losses are
normalised; upsampling with a low-pass filter; the output is a residual to a smooth extrapolation of the known pixels
(`spread`); an optional discriminator."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kyara.data.holes import HoleConfig, draw_holes, windows
from kyara.models import base
from kyara.nn import configs
from kyara.nn.activations import LayerRange, SampleFn
from kyara.nn.configs import DataConfig
from kyara.nn.filters import upsample
from kyara.nn.layers import PartialConv, PatchDiscriminator, spread
from kyara.nn.losses import (
    counted_once,
    fidelity,
    masked_l1,
    nonsaturating_d,
    nonsaturating_g,
    r1_penalty,
    roughness,
    weighted,
)
from kyara.perception.features import difference, even, gram, load_features


@dataclass(frozen=True)
class NetworkConfig(configs.NetworkConfig):
    widths: tuple[int, ...] = (40, 80, 112)  # channels at 1/2 of the resolution, 1/4, and so on
    dilations: tuple[int, ...] = (2, 2, 2)  # dilations of the convolutions between encoder and decoder
    kernel_size: int = 3  # kernel size of the two partial convolutions in each recurrence
    recurrences: int = 6  # maximum number of recurrences; fewer once the hole is closed
    tail_channels: int = 24  # channels at full resolution
    d_widths: tuple[int, ...] = (24, 48, 72, 72)  # channels of the discriminator's strided convolutions
    context: float = 3.0  # size of the window relative to the hole, for pictures larger than the training size


@dataclass(frozen=True)
class LossConfig(configs.LossConfig):
    """Weights; 0 disables a loss."""

    hole: float = 6.0  # L1 in the hole, averaged over the picture
    valid: float = 1.0  # L1 outside the hole
    perceptual: float = 0.05  # L1 of features, for the output and the filled picture
    style: float = 120.0
    """L1 of the Gram matrices of the features. The paper's weight is for VGG16; with the built-in networks, the
    gradient is similar to that of the hole loss at 3, and colours are wrong at 40."""
    tv: float = 0.1  # total variation in the hole and at its border
    adversarial: float = 0.0  # GAN loss of filled pictures, for sharper results; not in the paper
    features: str = "builtin"  # frozen network of the perceptual and style losses: builtin, or vgg16:PATH
    r1_gamma: float = 1 / 16  # weight of the R1 penalty on real pictures, whose patches count as one
    r1_interval: int = 16  # interval of the R1 penalty, in steps


ADAM = configs.OptimizerConfig(batch=16, lr=5e-4, betas=(0.5, 0.99), ema_kimg=5.0)


@dataclass(frozen=True)
class Config(configs.Config):
    network: NetworkConfig = NetworkConfig()
    losses: LossConfig = LossConfig()
    optimizer: configs.OptimizerConfig = ADAM
    holes: HoleConfig = HoleConfig()

    def warning(self) -> str | None:
        losses = self.losses
        if losses.features != "builtin" or losses.style < TOO_STRONG:
            return None
        weights = f"losses.style={SMALL.style:g},losses.perceptual={SMALL.perceptual:g}"
        wrong = f"losses.style={losses.style:g} is for VGG16; with the built-in features, results become grey"
        return f"{wrong}. Use --set losses.features=vgg16:PATH, or --set {weights}"


TOO_STRONG = 40.0  # style weight from which colours are wrong with the built-in features
SMALL = LossConfig(perceptual=0.02, style=1.0, adversarial=0.05)
PRESETS = {
    "two-core": Config(losses=SMALL, optimizer=replace(ADAM, lr=1e-3)),
    "rfr": Config(
        DataConfig(256, 256),
        NetworkConfig(widths=(64, 128, 256, 512), kernel_size=7, tail_channels=32),
        LossConfig(r1_gamma=1 / 256),
        replace(ADAM, batch=6, lr=2e-4, betas=(0.9, 0.999)),
        holes=HoleConfig(eyes=0.0, mouth=0.0),
    ),
    "tiny": Config(
        DataConfig(32, 32),
        NetworkConfig(widths=(8, 16, 16), dilations=(2,), recurrences=3, tail_channels=8, d_widths=(8, 16)),
        LossConfig(r1_gamma=1 / 64, r1_interval=2, adversarial=0.1),
        replace(ADAM, batch=8),
    ),
}
SHIFTS = 4  # range of the random shift of feature inputs, in pixels: the patch size of the built-in networks


class Block(nn.Sequential):
    """Convolution, group normalisation, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> None:
        conv = nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False)
        nn.init.kaiming_normal_(conv.weight, 0.2)
        super().__init__(conv, nn.GroupNorm(math.gcd(8, outputs), outputs), nn.LeakyReLU(0.2, inplace=True))


class Attention(nn.Module):
    """Knowledge-consistent attention (Li et al. 2020, section 3.3): attention over all positions, with cosine scores
    averaged over 3 x 3 neighbours. Where features were known in the last recurrence, the scores of both are
    interpolated with a learned weight."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(10.0))
        self.kept = nn.Parameter(torch.tensor(0.0))
        self.merge = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor, known: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
        """Features (B, C, h, w), the mask of known positions before this recurrence (B, 1, H, W), and the scores of the
        last one -> features, and scores (B, h w, h, w): of each source position, for each position."""
        scores = self.scores(x)
        if before is not None:
            was_known = 1 - F.adaptive_max_pool2d(1 - known, (x.shape[2], x.shape[3]))
            share = torch.sigmoid(self.kept) * was_known
            scores = share * before + (1 - share) * scores
        mixed = x.flatten(2) @ scores.flatten(2).to(x.dtype)  # (B, C, h w)
        merged: Tensor = self.merge(torch.cat([x, mixed.unflatten(2, x.shape[2:]).to(x.dtype)], 1))
        return merged, scores

    def scores(self, x: Tensor) -> Tensor:
        """Softmax scores (B, h w, h, w) over source positions (dimension 1), for each position (dimensions 2 and 3)."""
        unit = F.normalize(x.flatten(2).float(), dim=1)
        cosines = (unit.transpose(1, 2) @ unit).unflatten(2, x.shape[2:]).float()
        return (F.avg_pool2d(cosines, 3, 1, 1, count_include_pad=False) * self.sharpness).softmax(1)


def close(layers: nn.ModuleList, x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Applies partial convolutions and leaky ReLUs to features (B, C, H, W) and their mask of known positions."""
    for layer in layers:
        x, known = layer(x, known)
        x = F.leaky_relu(x, 0.2)
    return x, known


class Reasoning(nn.Module):
    """One recurrence: two partial convolutions shrink the hole, and an encoder-decoder with attention fills it in."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        first, *_, last = widths = config.network.widths
        self.close = nn.ModuleList(PartialConv(first, first, config.network.kernel_size) for _ in range(2))
        self.encoder = nn.ModuleList(Block(i, o, stride=2) for i, o in itertools.pairwise(widths))
        self.middle = nn.ModuleList(Block(last, last, dilation=dilation) for dilation in config.network.dilations)
        self.decoder = nn.ModuleList(Block(i + o, o) for i, o in itertools.pairwise(widths[::-1]))
        self.attention = Attention(widths[-2])

    def forward(self, x: Tensor, known: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Updates features (B, C, h, w), their mask of known positions, and the attention scores."""
        was_known, skips = known, []
        x, known = close(self.close, x, known)
        for layer in self.encoder:
            skips.append(x)
            x = layer(x)
        for layer in self.middle:
            x = x + layer(x)
        scores = before
        for layer in self.decoder:
            x = layer(torch.cat([F.interpolate(x, scale_factor=2), skips.pop()], 1))
            if layer is self.decoder[0]:
                x, scores = self.attention(x, was_known, before)
        assert scores is not None
        return x, known, scores


class Tail(nn.Module):
    """Decodes features at half resolution, joined with the known pixels, to a picture."""

    def __init__(self, features: int, channels: int) -> None:
        super().__init__()
        self.up = nn.Conv2d(features, channels, 3, 1, 1)
        self.join = PartialConv(channels + 3, channels, 3)
        self.bottleneck = nn.Sequential(
            nn.Conv2d(channels, channels // 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(channels // 2, channels // 2, 3, 1, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(channels // 2, channels, 1),
        )  # fmt: skip
        self.colours = nn.Conv2d(2 * channels, 3, 3, 1, 1)

    def forward(self, x: Tensor, pictures: Tensor, known: Tensor) -> Tensor:
        x = F.leaky_relu(upsample(self.up(x)), 0.2)
        both = torch.cat([torch.ones_like(x, dtype=known.dtype), known.expand(-1, 3, -1, -1)], 1)
        joined = F.leaky_relu(self.join(torch.cat([x, pictures.to(x.dtype)], 1), both)[0], 0.2)
        joined = F.leaky_relu(joined + self.bottleneck(joined), 0.2)
        return self.colours(torch.cat([joined, x], 1)).float()


class Network(nn.Module):
    """Pictures (B, 3, H, W) in [-1, 1] and their holes (B, 1, H, W) bool -> filled pictures. Replication padding
    to a multiple of the stride. The pixels in the holes are ignored."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        first = config.network.widths[0]
        self.recurrences, self.step = config.network.recurrences, 1 << len(config.network.widths)
        kernel_size = config.network.kernel_size
        self.stem = nn.ModuleList([PartialConv(3, first, 7, stride=2), PartialConv(first, first, kernel_size)])
        self.reason = Reasoning(config)
        self.tail = Tail(first, config.network.tail_channels)

    def forward(self, pictures: Tensor, holes: Tensor) -> Tensor:
        height, width = pictures.shape[2:]
        pad = (0, -width % self.step, 0, -height % self.step)
        known = F.pad((~holes).float(), pad, mode="replicate")
        pictures = F.pad(pictures.masked_fill(holes, 0.0), pad, mode="replicate")
        x = self.recur(*close(self.stem, pictures.contiguous(memory_format=torch.channels_last), known))
        return (spread(pictures, known) + self.tail(x, pictures, known))[:, :, :height, :width]

    def recur(self, x: Tensor, known: Tensor) -> Tensor:
        """The mean of features (B, C, h, w) over the recurrences in which they are known."""
        total, count, scores = torch.zeros_like(x, dtype=torch.float32), torch.zeros_like(known), None
        open_ = torch.arange(len(x), device=x.device)
        for left in reversed(range(self.recurrences)):
            x, known, scores = self.reason(x, known, scores)
            counted = known if left else torch.ones_like(known)
            total, count = total.index_add(0, open_, x.float() * counted), count.index_add(0, open_, counted)
            remaining = (known == 0).flatten(1).any(1)
            if not remaining.any():
                break
            x, known, scores, open_ = x[remaining], known[remaining], scores[remaining], open_[remaining]
        return (total / count).to(x.dtype)


@dataclass
class Step:
    """Inputs of the losses in one step."""

    model: Model
    made: Tensor  # the network's output, (B, 3, H, W)
    real: Tensor  # (B, 3, H, W)
    holes: Tensor  # (B, 1, H, W) bool
    augment: Callable[[Tensor], Tensor]

    def __post_init__(self) -> None:
        self.filled = torch.where(self.holes, self.made, self.real)

    @functools.cached_property
    def features(self) -> tuple[list[Tensor], list[Tensor]]:
        """Features of the output and the filled pictures, (2 B, C, h, w) each, and those of the real ones, twice. The
        input is shifted randomly, to avoid artefacts on the patch grid of the network."""
        network = load_features(self.model.config.losses.features, self.real.device)
        right, down = torch.randint(SHIFTS, (2,)).tolist()
        shift = functools.partial(F.pad, pad=(right, 0, down, 0), mode="replicate")
        with torch.no_grad():
            target = [even(maps).repeat(2, 1, 1, 1) for maps in network(shift(self.real))]
        return [even(maps) for maps in network(shift(torch.cat([self.made, self.filled])))], target

    def style(self) -> Tensor:
        made, target = self.features
        return 2 * difference([*map(gram, made)], [*map(gram, target)])  # of both, added

    def adversarial(self) -> Tensor:
        assert self.model.d is not None
        return nonsaturating_g(self.model.d(self.augment(self.filled)))


LOSSES: dict[str, Callable[[Step], Tensor]] = {
    "hole": lambda step: masked_l1(step.made, step.real, step.holes),
    "valid": lambda step: masked_l1(step.made, step.real, ~step.holes),
    "perceptual": lambda step: 2 * difference(*step.features),  # of both, added
    "style": Step.style,
    "tv": lambda step: roughness(step.filled, step.holes),
    "adversarial": Step.adversarial,
}
"""Losses of the generator. To add one, add an entry here and a weight of the same name in `LossConfig`."""


class Model(base.Inpainter):
    """RFR (Li et al. 2020), its moving average, and an optional discriminator."""

    presets = PRESETS
    phases = ("d", "d_reg", "g")
    averages: ClassVar[Mapping[str, str]] = {"g": "g_ema"}
    data_spec = base.DataSpec(holdout=0.04)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config = config
        self.g = Network(config)
        self.g_ema = self.average(self.g)
        self.d = PatchDiscriminator(config.network.d_widths) if config.losses.adversarial else None

    def players(self) -> Mapping[str, nn.Module]:
        return {"g": self.g} if self.d is None else {"d": self.d, "d_reg": self.d, "g": self.g}

    def reg_interval(self, phase: str) -> int:
        lazy = {"d": 1, "d_reg": self.config.losses.r1_interval if self.config.losses.r1_gamma else 0}
        return 1 if phase == "g" else lazy[phase] if self.d else 0

    def losses(self, phase: str, batch: base.Batch) -> dict[str, Tensor]:
        real = batch.real
        if phase == "d_reg" and self.d is not None:
            # On the augmented input, in float32: second derivatives are too inaccurate in bfloat16.
            seen = batch.augment(real).detach().requires_grad_()
            with torch.autocast(seen.device.type, enabled=False):
                penalty = r1_penalty(counted_once(self.d(seen)), seen)
            return {"r1": penalty * (self.config.losses.r1_gamma / 2 * self.config.losses.r1_interval)}
        holes = self._holes(real)
        if phase == "g" or self.d is None:
            return weighted(LOSSES, Step(self, self.g(real, holes), real, holes, batch.augment), self.config.losses)
        with torch.no_grad():
            filled = torch.where(holes, self.g(real, holes), real)
        real_logits, fake_logits = self.d(batch.augment(real)), self.d(batch.augment(filled))
        batch.log_signs(real_logits, fake_logits)
        return {"d": nonsaturating_d(real_logits, fake_logits)}

    def _holes(self, real: Tensor, generator: torch.Generator | None = None) -> Tensor:
        device = real.device if generator is None else generator.device
        return draw_holes(self.config.holes, len(real), real.shape[2], real.shape[3], generator, device).to(real.device)

    def fill(self, pictures: Tensor, holes: Tensor) -> Tensor:
        """In pictures larger than the training size, each hole or group of holes is filled separately, in a window of
        `context` times its size. Larger windows are downsampled to the training size, which blurs the result. Memory
        use does not depend on the picture size."""
        size = self.config.data.height, self.config.data.width
        if pictures.shape[2] <= size[0] and pictures.shape[3] <= size[1]:
            return self._filled(pictures, holes)
        filled, left = pictures.clone(), holes.clone()
        for i, hole in enumerate(holes[:, 0]):
            for rows, columns in windows(hole, self.config.network.context, size):
                window = slice(i, i + 1), slice(None), rows, columns
                filled[window], left[window] = self._fill_window(filled[window], left[window]), False
        return filled

    def _fill_window(self, pictures: Tensor, holes: Tensor) -> Tensor:
        """Fills pictures at the training size or smaller. A downsampled pixel is known if half of its area is."""
        height, width = pictures.shape[2:]
        if (scale := min(self.config.data.height / height, self.config.data.width / width)) >= 1:
            return self._filled(pictures, holes)
        size = max(round(height * scale), 1), max(round(width * scale), 1)
        known = F.interpolate((~holes).float(), size, mode="area")
        small = F.interpolate(pictures.masked_fill(holes, 0.0), size, mode="area") / known.clamp_min(0.5)
        made = F.interpolate(self._filled(small, known < 0.5), (height, width), mode="bicubic").clamp(-1, 1)
        return torch.where(holes, made, pictures)

    def _filled(self, pictures: Tensor, holes: Tensor) -> Tensor:
        return torch.where(holes, self.g_ema(pictures, holes).clamp(-1, 1).to(pictures.dtype), pictures)

    def memories(self) -> Sequence[LayerRange]:
        """The layers of the tail; the others run in every recurrence."""
        return [LayerRange(name, name) for name in ("g_ema.tail.up", "g_ema.tail.join", "g_ema.tail.bottleneck")]

    def sample_fn(self, count: int, pictures: Tensor) -> SampleFn:
        return functools.partial(self.fill, pictures, self._holes(pictures))

    def measure(self, batch: base.Batch, distance: base.Distance) -> dict[str, float]:
        """With fixed holes: L1 in the hole, PSNR of the filled picture in dB, and distance to the original pictures."""
        real = batch.real
        holes = self._holes(real, torch.Generator().manual_seed(0))
        filled = torch.cat([self.fill(*part) for part in zip(real.split(32), holes.split(32), strict=True)])
        hole_l1, psnr = fidelity(filled, real, holes)
        return {"hole_l1": float(hole_l1.mean()), "psnr": float(psnr.mean()), "frechet": distance(filled, real)}

    def preview(self, batch: base.Batch) -> Tensor | None:
        """Alternating rows of pictures with holes, filled pictures, and original pictures."""
        blocks = max(math.isqrt(len(batch.real) // 3), 1)
        real = batch.real[: 3 * blocks**2]
        holes = self._holes(real, torch.Generator().manual_seed(1))
        rows = torch.stack([real.masked_fill(holes, 0.0), self.fill(real, holes), real])  # (3, N, 3, H, W)
        return torch.cat([part for some in rows.split(3 * blocks, 1) for part in some])
