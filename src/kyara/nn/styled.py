"""Layers that a style modulates (Karras et al. 2020, section 2.2), and a decoder of them from feature maps to pictures
for translators: convolutional, so that pictures may have any size, and without noise, so that they repeat."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from kyara.nn.filters import upsample
from kyara.nn.layers import ACTIVATION, Linear, ModulatedConv, compute_dtype
from kyara.nn.scaling import Use, shared, uses
from kyara.nn.wavelets import inverse_haar


class StyledLayer(nn.Module):
    """What modulated layers have in common: a style, computed from w in float32, a convolution and a bias."""

    affine: Linear
    conv: ModulatedConv
    bias: nn.Parameter

    def uses(self, dtype: torch.dtype) -> Iterator[Use]:
        """Its weights, for maps of `dtype`."""
        yield from self.affine.uses(torch.float32)
        yield from self.conv.uses(dtype, self.bias)


class ModulatedLayer(StyledLayer):
    """Modulated convolution and bias, and if `active`, a leaky ReLU. (B, in, H, W), w (B, w_dim) -> (B, out, H, W), or
    twice the size if `up`."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        w_dim: int,
        *,
        up: bool = False,
        gain: float = 1.0,
        active: bool = False,
        demodulate: bool = True,
    ) -> None:
        super().__init__()
        self.affine = Linear(w_dim, inputs, bias=1.0)
        self.conv = ModulatedConv(inputs, outputs, kernel, up=up, gain=gain, active=active, demodulate=demodulate)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return self.conv(x, self.affine(w), self.bias)


class StyledBlock(nn.Module):
    """Residual block of modulated convolutions. (B, in, H, W), w (B, w_dim) -> (B, out, H, W), or twice the size."""

    def __init__(self, inputs: int, outputs: int, w_dim: int, *, up: bool = False) -> None:
        super().__init__()
        half = math.sqrt(0.5)  # gain of each branch, so that the sum preserves the variance
        self.up = up
        self.conv0 = ModulatedLayer(inputs, outputs, 3, w_dim, up=up, gain=ACTIVATION, active=True)
        self.conv1 = ModulatedLayer(outputs, outputs, 3, w_dim, gain=ACTIVATION * half, active=True)
        self.skip = ModulatedLayer(inputs, outputs, 1, w_dim, gain=half)

    def uses(self, dtype: torch.dtype) -> Iterator[Use]:
        yield from uses((self.conv0, self.conv1, self.skip), dtype)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        skip = self.skip(x, w)
        return self.conv1(self.conv0(x, w), w) + (upsample(skip) if self.up else skip)


class StyledDecoder(nn.Module):
    """Maps (B, inputs, H, W), w (B, w_dim) -> pictures (B, 3, 2^n H, 2^n W) with n = len(widths) - 1 + wavelets, not
    clamped: `blocks` residual blocks, an upsampling one between consecutive widths, and the inverse wavelet transform
    of so many levels."""

    def __init__(self, inputs: int, widths: Sequence[int], w_dim: int, blocks: int, wavelets: int = 0) -> None:
        super().__init__()
        self.enter = ModulatedLayer(inputs, widths[0], 1, w_dim, gain=ACTIVATION, active=True)
        steady = [StyledBlock(widths[0], widths[0], w_dim) for _ in range(blocks)]
        rising = [StyledBlock(i, o, w_dim, up=True) for i, o in itertools.pairwise(widths)]
        self.blocks = nn.ModuleList([*steady, *rising])
        self.wavelets = wavelets
        kernel = 3 if wavelets else 1  # a pointwise convolution would show the edges between wavelets
        self.to_rgb = ModulatedLayer(widths[-1], 3 * 4**wavelets, kernel, w_dim, demodulate=False)
        with torch.no_grad():  # smooth pictures until details are learned; of random ones a grid remains for long
            self.to_rgb.conv.weight.unflatten(0, (3, -1))[:, 1:] = 0

    def uses(self, dtype: torch.dtype) -> Iterator[Use]:
        yield from uses((self.enter, *self.blocks, self.to_rgb), dtype)

    def forward(self, maps: Tensor, w: Tensor) -> Tensor:
        dtype = compute_dtype(maps.device)
        with torch.autocast(maps.device.type, enabled=False), shared(self.uses(dtype)):
            x, w = maps.to(dtype, memory_format=torch.channels_last), w.float()
            x = self.enter(x, w)
            for block in self.blocks:
                x = block(x, w)
            return inverse_haar(self.to_rgb(x, w).float(), self.wavelets)
