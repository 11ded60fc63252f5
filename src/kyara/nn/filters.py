"""Low-pass filters for up- and downsampling (Karras et al. 2020). Twice differentiable, on every device."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.nn.constants import cached

HAS_TRITON = bool(torch.version.cuda) and importlib.util.find_spec("triton") is not None
if HAS_TRITON:
    from kyara.nn import fused_filter

BINOMIAL = (1.0, 3.0, 3.0, 1.0)  # the low-pass filter of StyleGAN2's up- and downsampling


@cached
def _kernel(gain: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The binomial filter (4, 4)."""
    row = torch.tensor(BINOMIAL, dtype=torch.float64)
    return (torch.outer(row, row) * (gain / row.sum() ** 2)).to(device, dtype)


def _convolved(x: Tensor, up: bool, down: bool, pads: tuple[int, int], gain: float) -> Tensor:
    """The filter as a depthwise convolution: the fastest way on CPUs."""
    before, after = pads
    if up or before != after:  # stuff and pad in one go; what pads evenly is left to the convolution
        step, (batch, channels, height, width) = (2 if up else 1), x.shape
        shape = batch, channels, step * height + before + after, step * width + before + after
        padded = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last).zero_()
        inside = slice(before, before + step * height, step), slice(before, before + step * width, step)
        padded[:, :, inside[0], inside[1]] = x
        x, before = padded, 0
    channels = x.shape[1]
    kernel = _kernel(gain, x.dtype, x.device).expand(channels, 1, -1, -1)
    return F.conv2d(x, kernel, stride=2 if down else 1, padding=before, groups=channels)


def _shifted(x: Tensor, up: bool, down: bool, pads: tuple[int, int], gain: float) -> Tensor:
    """The filter by shifts and sums, one axis after the other: for GPUs without Triton, where cuDNN's depthwise
    convolution in bfloat16 is ten times slower."""
    for dim in (2, 3):
        if up:  # pads (2, 1): an output has its pixel 3 times, and once the pixel before or after
            padded = F.pad(x, (0, 0, 1, 1) if dim == 2 else (1, 1))
            size = x.shape[dim]
            before, after = padded.narrow(dim, 0, size), padded.narrow(dim, 2, size)
            x = torch.stack([before + 3 * x, after + 3 * x], dim + 1).flatten(dim, dim + 1)
        else:
            padded = F.pad(x, (0, 0, *pads) if dim == 2 else pads)
            size = padded.shape[dim] - 3
            taps = [padded.narrow(dim, i, size) for i in range(4)]
            if down:
                taps = [tap[:, :, ::2] if dim == 2 else tap[..., ::2] for tap in taps]
            x = taps[0] + taps[3] + 3 * (taps[1] + taps[2])
    return x * (gain / 64)


def _fused(x: Tensor, up: bool, down: bool, pads: tuple[int, int], gain: float) -> Tensor:
    """The filter as one Triton kernel."""
    height, width = (((2 if up else 1) * side + sum(pads) - 3 + down) // (2 if down else 1) for side in x.shape[2:])
    return fused_filter.binomial_filter(x, up, down, pads[0], height, width, gain)


class _Filter(torch.autograd.Function):
    """Binomial low-pass filter around zero stuffing or striding: kernel 4 x 4, `pads` (before, after) on each axis. It
    is symmetric, so its adjoint is the same operation with `up` and `down` exchanged: every order of derivative exists,
    and CPUs run it 5 times faster than the gradient of a depthwise convolution."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, up: bool, down: bool, pads: tuple[int, int], gain: float) -> Tensor:
        ctx.arguments = down, up, (3 - pads[0], 3 - pads[1] - (1 if up != down else 0)), gain
        if x.device.type != "cuda":
            return _convolved(x, up, down, pads, gain)
        return (_fused if HAS_TRITON and x.dtype != torch.float64 else _shifted)(x, up, down, pads, gain)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        return _Filter.apply(gradient, *ctx.arguments), None, None, None, None


def blur(x: Tensor, *, pad: int, gain: float = 1.0) -> Tensor:
    """Low-pass filter. (B, C, H, W) -> (B, C, H + 2 pad - 3, W + 2 pad - 3)."""
    return _Filter.apply(x, False, False, (pad, pad), gain)


def downsample(x: Tensor) -> Tensor:
    """Half the size, low-pass filtered. (B, C, H, W) -> (B, C, H / 2, W / 2); H and W must be even."""
    return _Filter.apply(x, False, True, (1, 1), 1.0)


def upsample(x: Tensor) -> Tensor:
    """Twice the size, low-pass filtered. (B, C, H, W) -> (B, C, 2 H, 2 W)."""
    return _Filter.apply(x, True, False, (2, 1), 4.0)


def resize(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """Pictures (B, C, H, W) resized to `size` (height, width), unchanged if they have it: bilinear, antialiased."""
    return pictures if pictures.shape[2:] == size else F.interpolate(pictures, size, mode="bilinear", antialias=True)


def centre_crop(pictures: Tensor, height: int, width: int) -> Tensor:
    """The middle of pictures (B, C, H, W), (B, C, height, width)."""
    top, left = (pictures.shape[2] - height) // 2, (pictures.shape[3] - width) // 2
    return pictures[:, :, top : top + height, left : left + width]


def pad_even(x: Tensor, halvings: int = 1) -> Tensor:
    """Repeats the last row and column until both numbers are divisible by 2^halvings. (B, C, H, W)."""
    missing = -x.shape[3] % (1 << halvings), -x.shape[2] % (1 << halvings)
    return F.pad(x, (0, missing[0], 0, missing[1]), mode="replicate") if any(missing) else x
