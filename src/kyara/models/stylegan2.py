"""StyleGAN2 (Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN"), from the paper.

Differences from the paper: the constant has the aspect ratio of the pictures, for any width and height; the
discriminator's levels are numbered from coarse to fine, like the generator's, so that --init can add levels.

With attributes, the mapping network adds a learned row for each label to its first layer, equivalent to labels
concatenated to the normalised z, and the discriminator is conditioned by projection. Both are initialised with zeros,
so that adding attributes with --init does not change the initial output."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kyara.models import base
from kyara.nn import conditioning, configs
from kyara.nn.activations import LayerRange
from kyara.nn.configs import DataConfig
from kyara.nn.filters import centre_crop, pad_even, upsample
from kyara.nn.layers import ACTIVATION, Conv, Linear, ModulatedConv, compute_dtype, leaky_relu, minibatch_deviation
from kyara.nn.losses import nonsaturating_d, nonsaturating_g, path_lengths, r1_penalty
from kyara.nn.scaling import Use, shared, uses
from kyara.nn.wavelets import haar, inverse_haar


@dataclass(frozen=True)
class NetworkConfig(configs.NetworkConfig):
    z_dim: int = 512  # size of a latent
    w_dim: int = 512  # size of a style
    mapping_layers: int = 8  # number of layers of the mapping network
    mapping_lr_multiplier: float = 0.01  # learning rate of the mapping network, relative to the rest
    channel_base: int = 16384  # a level at resolution r has channel_base / r channels ...
    channel_max: int = 512  # ... but at most channel_max
    mbstd_group_size: int = 4  # group size of the minibatch standard deviation
    w_avg_beta: float = 0.995  # decay of the moving average of w, which is used for truncation
    wavelets: int = 0
    """Levels of the Haar wavelet transform of pictures (SWAGAN). At 1, generator and discriminator work at half the
    resolution on 4 bands of each colour; at 2, at a quarter on 16. Their cost is that of the lower resolution."""
    labels_from: int = 0
    """First style layer that is conditioned on the labels; a resolution has two. At 4, colour attributes keep
    the pose and the shape of a face. Shape attributes need 0."""


@dataclass(frozen=True)
class LossConfig(configs.LossConfig):
    r1_gamma: float = 1.0  # weight of the R1 penalty on real pictures
    r1_interval: int = 16  # interval of the R1 penalty, in steps
    path_weight: float = 2.0  # weight of the path length penalty; 0 disables it
    path_interval: int = 4  # interval of the path length penalty, in steps
    path_decay: float = 0.01  # rate of the moving average of path lengths
    style_mixing_prob: float = 0.9  # probability of style mixing with a second latent
    label_weight: float = 0.1
    """Weight of the auxiliary classification loss of the attributes, in addition to the projection: for the
    discriminator on real pictures, and for the generator. At 0 it is disabled, and conditioning is learned more
    slowly; at 1, a generator trained from scratch collapses to one face per value."""
    label_mixing_prob: float = 0.0  # probability that the labels of a fake are sampled independently
    label_drop_prob: float = 0.0
    """Share of pictures, real and fake, that hide a random number of their labels from the networks, so that a
    generator can be conditioned on some of its attributes only, even if every picture of the data has them all."""


ADAM = configs.OptimizerConfig(lr=2.5e-3)


@dataclass(frozen=True)
class Config(configs.Config):
    network: NetworkConfig = NetworkConfig()
    losses: LossConfig = LossConfig()
    optimizer: configs.OptimizerConfig = ADAM

    @property
    def levels(self) -> int:
        """Number of upsampling levels, from a shorter side of 4 to 7 pixels to that of the wavelet bands."""
        shorter = min(self.data.width, self.data.height) >> self.network.wavelets
        return max(int(math.log2(shorter / 4)), 0) if shorter else 0

    @property
    def bands(self) -> int:
        """Channels of a picture's wavelet bands."""
        return 3 * 4**self.network.wavelets

    def channels(self, level: int) -> int:
        return min(self.network.channel_base // (4 << level), self.network.channel_max)


LARGE = replace(ADAM, batch=64, ema_kimg=20)
PRESETS = {
    "two-core": Config(
        DataConfig(64, 64),
        NetworkConfig(z_dim=128, w_dim=128, mapping_layers=4, channel_base=2048, channel_max=64),
        LossConfig(r1_gamma=0.3, path_weight=0.0, style_mixing_prob=0.5),
    ),
    "small": Config(
        DataConfig(64, 64),
        NetworkConfig(z_dim=256, w_dim=256, mapping_layers=4, channel_base=4096, channel_max=256),
        LossConfig(r1_gamma=0.3, path_weight=0.0),
    ),
    "gpu-96": Config(
        DataConfig(96, 96),
        NetworkConfig(mapping_layers=4, channel_base=8192, channel_max=256),
        LossConfig(r1_gamma=0.5),
        LARGE,
    ),
    "paper256": Config(DataConfig(256, 256), NetworkConfig(mbstd_group_size=8), LossConfig(), LARGE),
    "paper1024": Config(
        DataConfig(1024, 1024), NetworkConfig(channel_base=32768), LossConfig(r1_gamma=2.0), replace(ADAM, lr=2e-3)
    ),
    "tiny": Config(
        DataConfig(32, 32),
        NetworkConfig(z_dim=16, w_dim=16, mapping_layers=2, channel_base=256, channel_max=16),
        LossConfig(r1_interval=4, path_interval=2),
        replace(ADAM, batch=8),
    ),
}
MEAN_SAMPLES = 512  # number of latents to estimate `mean_w` given labels
MEANS_KEPT = 1024  # number of combinations of labels whose `mean_w` is kept


class MappingNet(nn.Module):
    """z (B, z_dim), labels (B, A) -> w (B, w_dim)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        network, attributes = config.network, config.data.attributes
        self.z_dim, self.decay = network.z_dim, network.w_avg_beta
        pairs = itertools.pairwise([network.z_dim] + [network.w_dim] * network.mapping_layers)
        self.layers = nn.ModuleList(Linear(a, b, lr=network.mapping_lr_multiplier, gain=ACTIVATION) for a, b in pairs)
        self.w_average = nn.Buffer(torch.zeros(network.w_dim))
        self.labels = conditioning.Rows(attributes, network.w_dim) if attributes else None
        if attributes and not self.layers:
            raise ValueError("mapping_layers=0: attributes enter at the first layer of the mapping network")

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        w = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
        with shared(uses(self.layers, z.dtype)):
            for i, layer in enumerate(self.layers):
                w = layer(w)
                if self.labels is not None and i == 0:
                    w = w + self.labels(labels)
                w = leaky_relu(w)
        return w

    @torch.no_grad()
    def track(self, w: Tensor) -> None:
        """Updates the moving average of w from a batch (B, w_dim)."""
        self.w_average.lerp_(w.float().mean(0), 1 - self.decay)


Noise = bool | Tensor  # random (True), the constant map of the layer (False), or a given map (1 or B, 1, H, W)


class StyledLayer(nn.Module):
    """What StyledConv and ToRGB have in common: a style, computed from w in float32, a convolution and a bias."""

    affine: Linear
    conv: ModulatedConv
    bias: nn.Parameter

    def uses(self, dtype: torch.dtype) -> Iterator[Use]:
        """Its weights, for maps of `dtype`."""
        yield from self.affine.uses(torch.float32)
        yield from self.conv.uses(dtype, self.bias)


class StyledConv(StyledLayer):
    """Modulated convolution, noise, bias, leaky ReLU. (B, in, H, W), w (B, w_dim) -> (B, out, H, W)."""

    def __init__(self, inputs: int, outputs: int, w_dim: int, shape: tuple[int, int], *, up: bool = False) -> None:
        super().__init__()
        self.affine = Linear(w_dim, inputs, bias=1.0)
        self.conv = ModulatedConv(inputs, outputs, 3, up=up, gain=ACTIVATION)
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise = nn.Buffer(torch.randn(1, 1, *shape))

    def forward(self, x: Tensor, w: Tensor, noise: Noise) -> Tensor:
        if isinstance(noise, bool):
            noise = torch.randn(x.shape[0], 1, *self.noise.shape[2:], device=x.device) if noise else self.noise
        return leaky_relu(self.conv(x, self.affine(w), self.bias, noise * self.noise_strength))


class ToRGB(StyledLayer):
    """RGB output of a block. (B, C, H, W), w (B, w_dim) -> (B, 3, H, W), or 2^wavelets the size. Wavelets need a 3x3
    kernel: their supports do not overlap, and a pointwise convolution would show the edges between them."""

    def __init__(self, inputs: int, config: Config) -> None:
        super().__init__()
        self.wavelets = config.network.wavelets
        self.affine = Linear(config.network.w_dim, inputs, bias=1.0)
        self.conv = ModulatedConv(inputs, config.bands, 3 if self.wavelets else 1, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(config.bands))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return inverse_haar(self.conv(x, self.affine(w), self.bias).float(), self.wavelets)


class SynthesisBlock(nn.Module):
    """One resolution: upsampling (except the first), two convolutions, and the RGB skip connection."""

    def __init__(self, config: Config, level: int, shape: tuple[int, int]) -> None:
        super().__init__()
        inputs, outputs = config.channels(max(level - 1, 0)), config.channels(level)
        self.conv0 = StyledConv(inputs, outputs, config.network.w_dim, shape, up=True) if level else None
        self.conv1 = StyledConv(outputs, outputs, config.network.w_dim, shape)
        self.to_rgb = ToRGB(outputs, config)

    def uses(self, dtype: torch.dtype) -> Iterator[Use]:
        yield from uses((self.conv0, self.conv1, self.to_rgb), dtype)

    def forward(
        self, x: Tensor, picture: Tensor | None, ws: tuple[Tensor, ...], noise: tuple[Noise, Noise]
    ) -> tuple[Tensor, Tensor]:
        w0, w1, w_rgb = ws
        if self.conv0 is not None:
            x = self.conv0(x, w0, noise[0])
        x = self.conv1(x, w1, noise[1])
        rgb = self.to_rgb(x, w_rgb)
        return x, rgb if picture is None else upsample(picture) + rgb


class Synthesis(nn.Module):
    """ws (B, layers, w_dim) -> pictures (B, 3, H, W). The to_rgb of a block and the next conv0 share a style."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.size = config.data.height, config.data.width
        doubled = config.levels + config.network.wavelets
        height, width = (-(-side >> doubled) for side in self.size)  # rounded up; forward crops
        self.constant = nn.Parameter(torch.randn(config.channels(0), height, width))
        self.blocks = nn.ModuleList(
            SynthesisBlock(config, i, (height << i, width << i)) for i in range(config.levels + 1)
        )
        self.layers = 2 * config.levels + 2

    def forward(self, ws: Tensor, noise: bool | Sequence[Tensor] = True) -> Tensor:
        """Noise is random (True), the constant noise (False), or maps in the format of `noise_maps`."""
        dtype = compute_dtype(ws.device)
        with torch.autocast(ws.device.type, enabled=False):
            x = self.constant.to(dtype).expand(ws.shape[0], -1, -1, -1).contiguous(memory_format=torch.channels_last)
            w = ws.float().unbind(1)
            picture = None
            with shared(uses(self.blocks, dtype)):
                for level, block in enumerate(self.blocks):
                    i = 2 * level  # conv0, conv1 and to_rgb read the styles 2 level - 1, 2 level, 2 level + 1
                    maps = (noise, noise) if isinstance(noise, bool) else (noise[max(i - 1, 0)], noise[i])
                    x, picture = block(x, picture, (w[max(i - 1, 0)], w[i], w[i + 1]), maps)
        assert picture is not None
        return centre_crop(picture, *self.size)

    def noise_maps(self) -> list[Tensor]:
        """The constant noise maps (1, 1, H, W) of the convolutions, from coarse to fine."""
        both = ((block.conv0, block.conv1) for block in self.blocks)
        return [conv.noise for pair in both for conv in pair if isinstance(conv, StyledConv)]


class GeneratorNet(nn.Module):
    """Mapping and synthesis. z (B, z_dim), labels (B, A) -> pictures (B, 3, H, W)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.mapping = MappingNet(config)
        self.synthesis = Synthesis(config)
        conditioned = torch.arange(self.synthesis.layers) >= config.network.labels_from
        self.conditioned = nn.Buffer(conditioned, persistent=False)
        self.all_conditioned = config.network.labels_from == 0
        fixed = torch.Generator().manual_seed(0)
        self.mean_z = torch.randn(MEAN_SAMPLES, config.network.z_dim, generator=fixed, device="cpu")  # for `mean_w`
        self._kept: dict[tuple[Any, ...], Tensor] = {}  # see `_mean_w`
        self._kept_for: tuple[list[Tensor], list[tuple[int, int]]] = [], []

    def mapped(self, z: Tensor, labels: Tensor) -> Tensor:
        """ws (B, layers, w_dim) of z and labels; layers before `labels_from` depend on z only."""
        return self._by_layer(labels, lambda rows: self.mapping(z, rows))

    def _by_layer(self, labels: Tensor, styles: Callable[[Tensor], Tensor]) -> Tensor:
        """ws (B, layers, w_dim) of a function from labels (B, A) to w (B, w_dim)."""
        w = styles(labels)[:, None]
        if not labels.shape[1] or self.all_conditioned:
            return w.expand(-1, self.synthesis.layers, -1)
        plain = styles(torch.full_like(labels, conditioning.UNKNOWN))[:, None]
        return torch.where(self.conditioned[:, None], w, plain)

    def mean_w(self, labels: Tensor) -> Tensor:
        """Mean ws (B, layers, w_dim) given the labels, for truncation: the mean over all labels, for example,
        has no hair colour. Estimated from fixed latents, as a moving average would need a row per combination."""
        if not labels.shape[1]:
            return self.mapping.w_average.expand(labels.shape[0], self.synthesis.layers, -1)
        if torch.compiler.is_exporting():  # a graph has no `unique`; the results are equal up to rounding
            return self._by_layer(labels, self._mean_of_each)
        rows, index = labels.unique(dim=0, return_inverse=True)
        return torch.stack([self._mean_w(row) for row in rows])[index]

    def _mean_w(self, row: Tensor) -> Tensor:
        """`mean_w` (layers, w_dim) of one row of labels (A,). In inference mode it is kept until a weight changes."""
        if not torch.is_inference_mode_enabled():
            return self._estimate(row)
        weights: list[Tensor] = [*self.mapping.parameters()]  # kept, so that no other weight gets the id of one of them
        versions = [(id(weight), weight._version) for weight in weights]
        if versions != self._kept_for[1] or len(self._kept) >= MEANS_KEPT:
            self._kept_for, self._kept = (weights, versions), {}
        key = (*row.tolist(), str(row.device))
        if key not in self._kept:
            self._kept[key] = self._estimate(row)
        return self._kept[key]

    def _estimate(self, row: Tensor) -> Tensor:
        return self.mapped(self.mean_z.to(row.device), row.expand(MEAN_SAMPLES, -1)).mean(0)

    def _mean_of_each(self, labels: Tensor) -> Tensor:
        """Mean w (B, w_dim) of the fixed latents given each row of labels (B, A), with a batch of any size."""
        z = self.mean_z[None].expand(labels.shape[0], -1, -1).flatten(0, 1)
        each = labels[:, None].expand(-1, MEAN_SAMPLES, -1).flatten(0, 1)
        return self.mapping(z, each).unflatten(0, (-1, MEAN_SAMPLES)).mean(1)

    def styles(self, z: Tensor, labels: Tensor, mixing: float = 0.0) -> Tensor:
        """ws (B, layers, w_dim); with probability `mixing`, layers from a random one on are from another latent."""
        layers = self.synthesis.layers
        with torch.autocast(z.device.type, enabled=False):
            ws = self.mapped(z, labels)  # (B, layers, w_dim)
        if self.training:
            self.mapping.track(ws[:, -1])
        if mixing:
            with torch.autocast(z.device.type, enabled=False):
                other = self.mapped(torch.randn_like(z), labels)
            start = torch.randint(1, layers, (len(z), 1, 1), device=z.device)
            keep = torch.rand(len(z), 1, 1, device=z.device) >= mixing
            fine = torch.arange(layers, device=z.device)[None, :, None] >= start
            ws = torch.where(fine & ~keep, other, ws)
        return ws


def _parameters(*modules: Any) -> list[nn.Parameter]:
    return [parameter for module in modules for parameter in module.parameters()]


class ResidualBlock(nn.Module):
    """Residual block with downsampling. (B, in, H, W) -> (B, out, ceil(H / 2), ceil(W / 2))."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = math.sqrt(0.5)  # gain of each branch, so that the sum preserves the variance
        self.conv0 = Conv(inputs, inputs, 3, gain=ACTIVATION)
        self.conv1 = Conv(inputs, outputs, 3, down=True, gain=ACTIVATION * half)
        self.skip = Conv(inputs, outputs, 1, bias=False, down=True, gain=half)

    def uses(self, dtype: torch.dtype) -> Iterator[Use]:
        yield from uses((self.conv0, self.conv1, self.skip), dtype)

    def forward(self, x: Tensor) -> Tensor:
        x = pad_even(x)
        return leaky_relu(self.conv1(leaky_relu(self.conv0(x)))) + self.skip(x)


class Discriminator(nn.Module):
    """Pictures (B, 3, H, W) -> logits (B,)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        channels = config.channels
        self.wavelets = config.network.wavelets
        self.from_rgb = Conv(config.bands, channels(config.levels), 3 if self.wavelets else 1, gain=ACTIVATION)
        self.blocks = nn.ModuleList(ResidualBlock(channels(i), channels(i - 1)) for i in range(1, config.levels + 1))
        height, width = config.data.height, config.data.width
        for _ in range(self.wavelets + len(self.blocks)):
            height, width = -(-height // 2), -(-width // 2)
        self.group = config.network.mbstd_group_size
        self.conv = Conv(channels(0) + 1, channels(0), 3, gain=ACTIVATION)
        self.hidden = Linear(channels(0) * height * width, channels(0), gain=ACTIVATION)
        self.output = Linear(channels(0), 1)
        attributes = config.data.attributes
        self.labels = conditioning.Projection(attributes, channels(0)) if attributes else None
        classified = conditioning.width(attributes) if config.losses.label_weight else 0
        self.heads = Linear(channels(0), classified) if classified else None

    def uses(self, dtype: torch.dtype) -> Iterator[Use]:
        """The weights of its layers, for maps of `dtype`."""
        yield from uses((self.from_rgb, *self.blocks, self.conv), dtype)
        yield from uses((self.hidden, self.output, self.heads), torch.float32)

    def forward(self, pictures: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.judge(pictures, labels)[0]

    def judge(self, pictures: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Logits (B,) of pictures (B, 3, H, W) with labels (B, A), and label logits (B, V) if there is a label loss."""
        dtype = compute_dtype(pictures.device)
        with torch.autocast(pictures.device.type, enabled=False), shared(self.uses(dtype)):
            x = haar(pad_even(pictures, self.wavelets), self.wavelets) if self.wavelets else pictures
            x = x.to(dtype, memory_format=torch.channels_last)
            x = leaky_relu(self.from_rgb(x))
            for block in reversed(self.blocks):
                x = block(x)
            x = leaky_relu(self.conv(minibatch_deviation(x, self.group)))
            x = leaky_relu(self.hidden(x.float().flatten(1)))  # (B, C)
            logits = self.output(x).squeeze(1)
            if self.labels is not None and labels is not None:
                logits = logits + self.labels(x, labels)
            return logits, None if self.heads is None else self.heads(x)


class Model(base.StyledGenerator):
    """StyleGAN2 (Karras et al. 2020): generator, its moving average, and discriminator."""

    presets = PRESETS
    phases = ("d", "d_reg", "g", "g_reg")
    averages: ClassVar[Mapping[str, str]] = {"g": "g_ema"}
    data_spec = base.DataSpec(attributes="may")
    capturable = True

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config = config
        self.z_dim = config.network.z_dim
        self.g = GeneratorNet(config)
        self.d = Discriminator(config)
        self.g_ema = self.average(self.g)
        self.path_average = nn.Buffer(torch.zeros(()))

    def layers(self) -> Mapping[str, Sequence[list[nn.Parameter]]]:
        first, *finer = self.g.synthesis.blocks
        g = [[self.g.synthesis.constant, *_parameters(first.conv1, first.to_rgb)]]
        for block in finer:
            g += [_parameters(block.conv0), _parameters(block.conv1, block.to_rgb)]
        d = [_parameters(self.d.from_rgb)]
        d += [_parameters(part) for block in reversed(self.d.blocks) for part in (block.conv0, block.conv1, block.skip)]
        return {"mapping": [_parameters(self.g.mapping)], "g": g, "d": d}

    def freeze(self, parameters: Sequence[nn.Parameter]) -> None:
        super().freeze(parameters)
        if not any(parameter.requires_grad for parameter in self.g.mapping.parameters()):
            self.g.mapping.decay = 1.0  # also freezes the moving average of w

    def reg_interval(self, phase: str) -> int:
        losses = self.config.losses
        return {"d_reg": losses.r1_interval, "g_reg": losses.path_interval if losses.path_weight else 0}.get(phase, 1)

    def losses(self, phase: str, batch: base.Batch) -> dict[str, Tensor]:
        labels = conditioning.table(batch.labels, self.config.data.attributes, batch.real)  # (B, A)
        return getattr(self, f"_{phase}")(batch, labels)

    def _fake_labels(self, labels: Tensor) -> Tensor:
        losses = self.config.losses
        return conditioning.dropped(conditioning.shuffled(labels, losses.label_mixing_prob), losses.label_drop_prob)

    def _fakes(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures of random latents with labels (B, A), and their styles."""
        z = torch.randn(len(labels), self.z_dim, device=labels.device)
        ws = self.g.styles(z, labels, self.config.losses.style_mixing_prob)
        if not ws.requires_grad and torch.is_grad_enabled():  # mapping network frozen; path lengths need gradients
            ws = ws.detach().requires_grad_(True)
        return self.g.synthesis(ws), ws

    def _d(self, batch: base.Batch, labels: Tensor) -> dict[str, Tensor]:
        fake_labels = self._fake_labels(labels)
        with torch.no_grad():
            fake, _ = self._fakes(fake_labels)
        shown = conditioning.dropped(labels, self.config.losses.label_drop_prob)
        real_logits, label_logits = self.d.judge(batch.augment(batch.real), shown)
        fake_logits = self.d(batch.augment(fake), fake_labels)
        batch.log_signs(real_logits, fake_logits)
        if label_logits is not None:
            batch.log["label_accuracy"] = conditioning.accuracy(label_logits, labels, self.config.data.attributes)
        label_loss = conditioning.losses("d_labels", label_logits, labels, self.config)
        return {"d": nonsaturating_d(real_logits, fake_logits), **label_loss}

    def _d_reg(self, batch: base.Batch, labels: Tensor) -> dict[str, Tensor]:
        # On the augmented input, in float32: second derivatives are too inaccurate in bfloat16.
        seen = batch.augment(batch.real).detach().requires_grad_(True)
        with torch.autocast(seen.device.type, enabled=False):
            penalty = r1_penalty(self.d(seen, labels), seen)
        batch.log["r1"] = penalty.detach()
        return {"d_reg": penalty * (self.config.losses.r1_gamma / 2 * self.config.losses.r1_interval)}

    def _g(self, batch: base.Batch, labels: Tensor) -> dict[str, Tensor]:
        fake_labels = self._fake_labels(labels)
        fake, _ = self._fakes(fake_labels)
        logits, label_logits = self.d.judge(batch.augment(fake), fake_labels)
        return {"g": nonsaturating_g(logits), **conditioning.losses("g_labels", label_logits, fake_labels, self.config)}

    def _g_reg(self, batch: base.Batch, labels: Tensor) -> dict[str, Tensor]:
        with torch.autocast(batch.real.device.type, enabled=False):
            pictures, ws = self._fakes(labels[: max(len(labels) // 2, 1)])
            lengths = path_lengths(pictures, ws)  # (B / 2,)
        average = self.path_average.lerp(lengths.detach().mean(), self.config.losses.path_decay)
        self.path_average.copy_(average)
        batch.log["path_length"] = average
        penalty = (lengths - average).square().mean()
        return {"g_reg": penalty * (self.config.losses.path_weight * self.config.losses.path_interval)}

    def sample(self, z: Tensor, *, truncation: float = 1.0, labels: Mapping[str, Tensor] | None = None) -> Tensor:
        ws = self.styles(z, labels)
        if truncation != 1:
            ws = self.mean_w(len(z), labels).lerp(ws, truncation)
        return self.synthesise(ws)

    def styles(self, z: Tensor, labels: Mapping[str, Tensor] | None = None) -> Tensor:
        return self.g_ema.mapped(z, conditioning.table(labels, self.config.data.attributes, z))

    def mean_w(self, count: int, labels: Mapping[str, Tensor] | None = None) -> Tensor:
        like = self.g_ema.mapping.w_average.expand(count, -1)
        return self.g_ema.mean_w(conditioning.table(labels, self.config.data.attributes, like))

    def synthesise(self, ws: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        return self.g_ema.synthesis(ws, False if noise is None else noise)

    def noise_maps(self) -> list[Tensor]:
        return self.g_ema.synthesis.noise_maps()

    def memories(self) -> Sequence[LayerRange]:
        named = ((f"g_ema.{name}", module) for name, module in self.g_ema.named_modules())
        return [LayerRange(name, name) for name, module in named if isinstance(module, StyledConv)]
