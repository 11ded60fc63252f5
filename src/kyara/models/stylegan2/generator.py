"""The generator of StyleGAN2: mapping and synthesis."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kyara.models.stylegan2.config import Config
from kyara.models.stylegan2.encoder import Encoder
from kyara.nn import conditioning
from kyara.nn.filters import centre_crop, upsample
from kyara.nn.layers import ACTIVATION, Linear, ModulatedConv, compute_dtype, leaky_relu
from kyara.nn.scaling import Use, shared, uses
from kyara.nn.styled import StyledLayer
from kyara.nn.wavelets import inverse_haar

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
        """Updates the moving average of w from a batch (B, w_dim), which may be empty."""
        if len(w):
            self.w_average.lerp_(w.float().mean(0), 1 - self.decay)


Noise = bool | Tensor  # random (True), the constant map of the layer (False), or a given map (1 or B, 1, H, W)


class StyledConv(StyledLayer):
    """Modulated convolution, noise, bias, leaky ReLU. (B, in, H, W), w (B, w_dim) -> (B, out, H, W)."""

    def __init__(self, inputs: int, outputs: int, w_dim: int, shape: tuple[int, int], *, up: bool = False) -> None:
        super().__init__()
        self.affine = Linear(w_dim, inputs, bias=1.0)
        self.conv = ModulatedConv(inputs, outputs, 3, up=up, gain=ACTIVATION, active=True)
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise = nn.Buffer(torch.randn(1, 1, *shape))

    def forward(self, x: Tensor, w: Tensor, noise: Noise) -> Tensor:
        if isinstance(noise, bool):
            noise = torch.randn(x.shape[0], 1, *self.noise.shape[2:], device=x.device) if noise else self.noise
        return self.conv(x, self.affine(w), self.bias, noise, self.noise_strength)


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
        self.layers = config.layers

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
    """Mapping and synthesis. z (B, z_dim), labels (B, A) -> pictures (B, 3, H, W). And the encoder, if there is one, so
    that it is averaged too."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.mapping = MappingNet(config)
        self.synthesis = Synthesis(config)
        self.encoder = Encoder(config) if config.network.encoder else None
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

    def encode(self, pictures: Tensor) -> Tensor:
        """ws (B, layers, w_dim), the same in every layer, of pictures (B, 3, H, W) in [-1, 1]. Needs an encoder."""
        assert self.encoder is not None
        w = self.mapping.w_average + self.encoder(pictures)
        return w[:, None].expand(-1, self.synthesis.layers, -1)

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
