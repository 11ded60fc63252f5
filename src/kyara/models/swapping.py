"""Swapping Autoencoder (Park et al. 2020, "Swapping autoencoder for deep image manipulation"), from photos to drawings,
from the paper.

An encoder separates a picture into structure, a feature map, and texture, a vector. A decoder reconstructs the picture
from both. A hybrid, of the structure of one picture and the texture of another, must look real, and its patches must
not be told from patches of the picture that the texture is of. One network learns photos and drawings; the hybrids are
of photos in textures of drawings and of drawings in textures of photos.

Differences from the paper: wavelets instead of pixels in the small preset; zero padding; no noise in the decoder, so
that translations repeat; patches of 64 pixels; residual blocks in the texture's branch; see docs/reference for all. The
textures of drawings are described by a normal distribution, from which `kyara translate` draws random styles."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kyara.models import base, stylegan2
from kyara.models.stylegan2 import config as stylegan2_config
from kyara.nn import configs
from kyara.nn.configs import DataConfig
from kyara.nn.filters import pad_even
from kyara.nn.layers import ACTIVATION, Conv, FromRGB, Linear, ResidualBlock, compute_dtype, leaky_relu
from kyara.nn.losses import nonsaturating_d, nonsaturating_g, r1_penalty, weighted
from kyara.nn.precision import affine_grid
from kyara.nn.scaling import Use, shared, uses
from kyara.nn.styled import StyledDecoder


@dataclass(frozen=True)
class NetworkConfig(configs.NetworkConfig):
    wavelets: int = 1
    """Levels of the Haar wavelet transform of pictures, as in StyleGAN2 (SWAGAN): at 1, encoder, decoder and
    discriminator of pictures work at half the resolution; at 0, as in the paper, on pixels."""
    channels: int = 32  # channels at the highest resolution; doubled at each lower level ...
    channel_max: int = 64  # ... but at most channel_max
    structure_levels: int = 2  # downsampling levels of the structure, after those of the wavelets
    structure_dim: int = 8  # channels of the structure
    texture_levels: int = 2  # further downsampling levels of the texture, before global average pooling
    texture_dim: int = 64  # dimension of a texture
    blocks: int = 2  # residual blocks of the decoder at the resolution of the structure
    d_channels: int = 32  # channels of the discriminator of pictures at its highest resolution; doubled as above
    patch_size: int = 16  # side in pixels to which patches are resized
    patch_channels: int = 32  # channels of the discriminator of patches; doubled twice
    patch_features: int = 128  # features of a patch that are compared
    texture_decay: float = 0.995  # decay of the moving averages of textures of drawings


@dataclass(frozen=True)
class LossConfig(configs.LossConfig):
    """Weights; 0 disables a loss."""

    reconstruction: float = 1.0  # L1 of a picture and its reconstruction (equation 1)
    gan_reconstruction: float = 0.5  # GAN loss of the reconstruction (equation 2)
    gan_hybrid: float = 0.5  # GAN loss of the hybrid (equation 3)
    patches: float = 1.0  # GAN loss of patches of the hybrid, given patches of its texture's picture (equation 4)
    patch_count: int = 4  # patches of a picture, and as many references
    patch_smallest: float = 0.125  # smallest side of a patch, as a fraction of the picture's
    patch_largest: float = 0.25  # largest side of a patch
    r1_gamma: float = 0.3  # weight of the R1 penalty of pictures
    patch_r1_gamma: float = 0.03  # weight of the R1 penalty of patches
    r1_interval: int = 16  # interval of the R1 penalties, in steps


ADAM = configs.OptimizerConfig(batch=8, lr=2e-3)


@dataclass(frozen=True)
class Config(configs.Config):
    network: NetworkConfig = NetworkConfig()
    losses: LossConfig = LossConfig()
    optimizer: configs.OptimizerConfig = ADAM

    def __post_init__(self) -> None:
        if self.network.patch_size < 8:
            raise ValueError(f"patch_size={self.network.patch_size}: must be 8 or more")

    @property
    def halvings(self) -> int:
        """Number of times that the structure is half the size of its picture."""
        return self.network.wavelets + self.network.structure_levels

    def channels(self, level: int) -> int:
        """Channels after `level` halvings."""
        return min(self.network.channels << level, self.network.channel_max)

    @property
    def discriminator(self) -> stylegan2_config.Config:
        """StyleGAN2's, without minibatch standard deviation."""
        network = stylegan2_config.NetworkConfig(
            wavelets=self.network.wavelets, channel_max=self.network.channel_max, mbstd_group_size=1
        )
        found = stylegan2_config.Config(self.data, network, stylegan2_config.LossConfig(label_weight=0.0))
        return found.replace(network={"channel_base": self.network.d_channels * (4 << found.levels)})


PRESETS = {
    "two-core": Config(),
    "swapping": Config(
        DataConfig(256, 256),
        NetworkConfig(
            wavelets=0, channel_max=512, structure_levels=4, texture_dim=2048, d_channels=64, patch_size=64,
            patch_features=2048,
        ),
        LossConfig(patch_count=8, r1_gamma=10.0, patch_r1_gamma=1.0),
        replace(ADAM, batch=16),
    ),
    "tiny": Config(
        DataConfig(32, 32),
        NetworkConfig(
            channels=4, channel_max=8, texture_dim=8, blocks=1, d_channels=4, patch_size=8, patch_channels=4,
            patch_features=8,
        ),
        LossConfig(patch_count=2, r1_interval=2),
    ),
}  # fmt: skip


class Encoder(nn.Module):
    """Pictures (B, 3, H, W) -> structure (B, C, ceil(H / 2^n), ceil(W / 2^n)) and texture (B, S), of unit length (at
    each position)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        network, ends = config.network, config.network.structure_levels
        widths = [config.channels(level) for level in range(ends + network.texture_levels + 1)]
        self.from_rgb = FromRGB(widths[0], network.wavelets)
        blocks = [ResidualBlock(inputs, outputs) for inputs, outputs in itertools.pairwise(widths)]
        self.trunk, self.pooled = nn.ModuleList(blocks[:ends]), nn.ModuleList(blocks[ends:])
        self.hidden = Conv(widths[ends], widths[ends], 1, gain=ACTIVATION, active=True)
        self.structure = Conv(widths[ends], network.structure_dim, 1)
        self.texture = Linear(widths[-1], network.texture_dim)

    def uses(self, dtype: torch.dtype) -> Iterator[Use]:
        yield from uses((self.from_rgb, *self.trunk, *self.pooled, self.hidden, self.structure), dtype)
        yield from self.texture.uses(torch.float32)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        dtype = compute_dtype(pictures.device)
        with torch.autocast(pictures.device.type, enabled=False), shared(self.uses(dtype)):
            x = self.from_rgb(pictures, dtype)
            for block in self.trunk:
                x = block(x)
            structure = self.structure(self.hidden(x))
            for block in self.pooled:
                x = block(x)
            texture = self.texture(x.float().mean((2, 3)))
            return F.normalize(structure.float(), dim=1), F.normalize(texture, dim=1)


class Textures(nn.Module):
    """The mean and covariance of the textures of drawings, as moving averages: they map styles, which are standard
    normal, to textures."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        size, self.decay = config.network.texture_dim, config.network.texture_decay
        self.mean = nn.Buffer(torch.zeros(size))
        self.square = nn.Buffer(torch.eye(size) / size)  # mean outer product

    @torch.no_grad()
    def track(self, textures: Tensor) -> None:
        """Updates the averages from textures (B, S)."""
        with torch.autocast(textures.device.type, enabled=False):
            self.mean.lerp_(textures.mean(0), 1 - self.decay)
            self.square.lerp_(textures.T @ textures / len(textures), 1 - self.decay)

    def roots(self) -> tuple[Tensor, Tensor]:
        """The square root of the covariance, and its inverse, (S, S) each."""
        covariance = self.square - torch.outer(self.mean, self.mean)
        eye = torch.eye(len(covariance), device=covariance.device)
        with torch.autocast(covariance.device.type, enabled=False):
            return square_root(covariance + eye * (covariance.trace() * 1e-5 + 1e-8))

    def of_styles(self, styles: Tensor) -> Tensor:
        """Textures of unit length of styles (B, S)."""
        return F.normalize(self.mean + styles @ self.roots()[0], dim=1)

    def to_styles(self, textures: Tensor) -> Tensor:
        """The inverse of `of_styles`."""
        return (textures - self.mean) @ self.roots()[1]


def square_root(matrix: Tensor, steps: int = 24) -> tuple[Tensor, Tensor]:
    """The square root of a symmetric positive definite matrix (S, S), and its inverse: the coupled Newton-Schulz
    iteration (Higham 2008, "Functions of matrices", equation 6.35), of products only, which every export supports."""
    eye, norm = torch.eye(len(matrix), device=matrix.device), matrix.trace()
    root, inverse = matrix / norm, eye
    for _ in range(steps):
        change = (3 * eye - inverse @ root) / 2
        root, inverse = root @ change, change @ inverse
    return root * norm.sqrt(), inverse / norm.sqrt()


class Autoencoder(nn.Module):
    """Encoder, decoder, and what is known of textures."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        network = config.network
        self.encoder = Encoder(config)
        widths = [config.channels(level) for level in reversed(range(network.structure_levels + 1))]
        self.decoder = StyledDecoder(
            network.structure_dim, widths, network.texture_dim, network.blocks, network.wavelets
        )
        self.textures = Textures(config)
        self.halvings = config.halvings

    def encode(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Structure and textures of pictures of any size, which are padded."""
        return self.encoder(pad_even(pictures, self.halvings))


class PatchDiscriminator(nn.Module):
    """Co-occurrence of patches (section 3.3): patches (B, K, 3, S, S), and reference patches (B, R, 3, S, S) of one
    picture -> logits (B, K), whether they are of the same picture."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        network, widths = config.network, [config.network.patch_channels << level for level in range(3)]
        self.from_rgb = FromRGB(widths[0])
        self.blocks = nn.ModuleList(ResidualBlock(inputs, outputs) for inputs, outputs in itertools.pairwise(widths))
        side = -(-network.patch_size // 4)
        self.features = Linear(widths[-1] * side**2, network.patch_features, gain=ACTIVATION)
        self.hidden = Linear(2 * network.patch_features, network.patch_features, gain=ACTIVATION)
        self.output = Linear(network.patch_features, 1)

    def uses(self, dtype: torch.dtype) -> Iterator[Use]:
        yield from uses((self.from_rgb, *self.blocks), dtype)
        yield from uses((self.features, self.hidden, self.output), torch.float32)

    def forward(self, patches: Tensor, references: Tensor) -> Tensor:
        dtype, count = compute_dtype(patches.device), patches.shape[1]
        with torch.autocast(patches.device.type, enabled=False), shared(self.uses(dtype)):
            together = torch.cat([patches, references], 1)
            x = self.from_rgb(together.flatten(0, 1), dtype)
            for block in self.blocks:
                x = block(x)
            x = leaky_relu(self.features(x.float().flatten(1))).unflatten(0, together.shape[:2])  # (B, K + R, F)
            mean = x[:, count:].mean(1, keepdim=True).expand(-1, count, -1)
            x = leaky_relu(self.hidden(torch.cat([x[:, :count], mean], 2).flatten(0, 1)))
            return self.output(x).view(-1, count)


class Critic(nn.Module):
    """Discriminators of pictures and of patches."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.pictures = stylegan2.Discriminator(config.discriminator)
        self.patches = PatchDiscriminator(config)


def random_patches(pictures: Tensor, config: Config) -> Tensor:
    """Random square patches of pictures (B, 3, H, W), mirrored at random, resized: (B, K, 3, S, S)."""
    losses, side = config.losses, config.network.patch_size
    (batch, _, height, width), count = pictures.shape, losses.patch_count
    random = torch.rand(4, batch * count, device=pictures.device)
    share = losses.patch_smallest + random[0] * (losses.patch_largest - losses.patch_smallest)  # of the shorter side
    shares = [share * (min(height, width) / length) for length in (width, height)]
    x, y = ((2 * random[i + 1] - 1) * (1 - shares[i]) for i in (0, 1))
    zero, mirror = torch.zeros_like(x), torch.where(random[3] < 0.5, -1.0, 1.0)
    theta = torch.stack([shares[0] * mirror, zero, x, zero, shares[1], y], 1).view(-1, 2, 3)
    grid = affine_grid(theta, [batch * count, 3, side, side]).view(batch, count * side, side, 2)
    found = F.grid_sample(pictures.float(), grid, padding_mode="border", align_corners=False)
    return found.unflatten(2, (count, side)).transpose(1, 2)


def every_second(both: Tensor) -> Tensor:
    """Of photos and as many drawings (2 B, ...), every second photo and every second drawing."""
    return torch.cat([half[::2] for half in both.chunk(2)])


@dataclass
class Step:
    """What the networks make of the pictures of a step, computed on demand."""

    config: Config
    net: Autoencoder
    critic: Critic
    pictures: Tensor  # photos, then as many drawings: (2 B, 3, H, W)
    augment: Callable[[Tensor], Tensor]

    @functools.cached_property
    def codes(self) -> tuple[Tensor, Tensor]:
        """Structure (2 B, C, h, w) and textures (2 B, S)."""
        return self.net.encode(self.pictures)

    @functools.cached_property
    def made(self) -> tuple[Tensor, Tensor]:
        """Reconstructions of `every_second` picture, to save time, and hybrids (2 B, 3, H, W)."""
        structure, textures = self.codes
        swapped = textures.roll(len(textures) // 2, 0)
        structures, (height, width) = torch.cat([every_second(structure), structure]), self.pictures.shape[2:]
        made = self.net.decoder(structures, torch.cat([every_second(textures), swapped]))[:, :, :height, :width]
        return made[: -len(structure)], made[-len(structure) :]

    def judge(self, pictures: Tensor) -> Tensor:
        """Logits of pictures."""
        return self.critic.pictures(self.augment(pictures))

    @functools.cached_property
    def sources(self) -> Tensor:
        """The pictures that the hybrids have their textures of."""
        return self.pictures.roll(len(self.pictures) // 2, 0)

    def judge_patches(self, pictures: Tensor) -> Tensor:
        """Logits of patches of pictures, given patches of `sources`."""
        patches, references = (random_patches(x, self.config) for x in (pictures, self.sources))
        return self.critic.patches(patches, references)


LOSSES: dict[str, Callable[[Step], Tensor]] = {
    "reconstruction": lambda s: (s.made[0] - every_second(s.pictures)).abs().mean(),  # equation 1
    "gan_reconstruction": lambda s: nonsaturating_g(s.judge(s.made[0])),  # equation 2
    "gan_hybrid": lambda s: nonsaturating_g(s.judge(s.made[1])),  # equation 3
    "patches": lambda s: nonsaturating_g(s.judge_patches(s.made[1])),  # equation 4
}
"""Losses of the autoencoder; their weighted sum is equation 5. To add one, add an entry here and a weight in
`LossConfig`."""


class Model(base.StyledTranslator):
    """Swapping Autoencoder (Park et al. 2020): an autoencoder, its moving average, and discriminators."""

    presets = PRESETS
    phases = ("d", "d_reg", "g")
    averages: ClassVar[Mapping[str, str]] = {"g": "g_ema"}
    data_spec = base.DataSpec(photos=True)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config = config
        self.style_dim = config.network.texture_dim
        self.g = Autoencoder(config)
        self.d = Critic(config)
        self.g_ema = self.average(self.g)

    def reg_interval(self, phase: str) -> int:
        losses = self.config.losses
        return 1 if phase != "d_reg" else losses.r1_interval if losses.r1_gamma or self._patch_gamma else 0

    @property
    def _patch_gamma(self) -> float:
        """The weight of R1 of patches, which without their loss have none."""
        return self.config.losses.patch_r1_gamma if self.config.losses.patches else 0.0

    def losses(self, phase: str, batch: base.Batch) -> dict[str, Tensor]:
        assert batch.photos is not None
        pictures = torch.cat([batch.photos, batch.real])
        return getattr(self, f"_{phase}")(Step(self.config, self.g, self.d, pictures, batch.augment), batch)

    def _d(self, step: Step, batch: base.Batch) -> dict[str, Tensor]:
        with torch.no_grad():
            reconstructed, hybrid = step.made
        real_logits, fake_logits = (step.judge(x) for x in (step.pictures, torch.cat([reconstructed, hybrid])))
        batch.log_signs(real_logits, fake_logits)
        of_reconstructed, of_hybrid = fake_logits.split([len(reconstructed), len(hybrid)])  # of half the weight each
        losses = {"d": (nonsaturating_d(real_logits, of_reconstructed) + nonsaturating_d(real_logits, of_hybrid)) / 2}
        if weight := self.config.losses.patches:
            patches = nonsaturating_d(*(step.judge_patches(x) for x in (step.sources, hybrid)))
            losses["d_patches"] = patches * weight
        return losses

    def _d_reg(self, step: Step, batch: base.Batch) -> dict[str, Tensor]:
        weights, losses = self.config.losses, dict[str, Tensor]()
        # In float32: second derivatives are too inaccurate in bfloat16.
        with torch.autocast(step.pictures.device.type, enabled=False):
            if weights.r1_gamma:
                seen = batch.augment(step.pictures).detach().requires_grad_(True)
                penalty = r1_penalty(self.d.pictures(seen), seen)
                losses["d_reg"], batch.log["r1"] = penalty * weights.r1_gamma, penalty.detach()
            if self._patch_gamma:
                patches, references = (random_patches(step.pictures, self.config) for _ in range(2))
                flat = patches.flatten(0, 1).requires_grad_(True)  # (2 B K, 3, S, S)
                penalty = r1_penalty(self.d.patches(flat.view_as(patches), references), flat)
                losses["d_patches_reg"], batch.log["r1_patches"] = penalty * self._patch_gamma, penalty.detach()
        return {name: loss * (weights.r1_interval / 2) for name, loss in losses.items()}

    def _g(self, step: Step, batch: base.Batch) -> dict[str, Tensor]:
        self.g.textures.track(step.codes[1][len(batch.real) :].detach())
        return weighted(LOSSES, step, self.config.losses)

    def translate(self, pictures: Tensor, styles: Tensor | None = None) -> Tensor:
        if styles is None:
            styles = torch.zeros(len(pictures), self.style_dim, device=pictures.device)
        height, width = pictures.shape[2:]
        structure, _ = self.g_ema.encode(pictures)
        textures = self.g_ema.textures.of_styles(styles)
        return self.g_ema.decoder(structure, textures)[:, :, :height, :width].clamp(-1, 1)

    def style_of(self, drawings: Tensor) -> Tensor:
        return self.g_ema.textures.to_styles(self.g_ema.encode(drawings)[1])
