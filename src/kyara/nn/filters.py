"""Low-pass filters for up- and downsampling (Karras et al. 2020). Twice differentiable, on every device."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

BINOMIAL = (1.0, 3.0, 3.0, 1.0)  # the low-pass filter of StyleGAN2's up- and downsampling


@lru_cache(maxsize=32)
def _kernel(gain: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The binomial filter (4, 4). Cached: a copy to the GPU would wait. No inference tensor: training uses it too."""
    with torch.inference_mode(False):
        row = torch.tensor(BINOMIAL, dtype=torch.float64)
        return (torch.outer(row, row) * (gain / row.sum() ** 2)).to(device, dtype)


class _Filter(torch.autograd.Function):
    """Binomial low-pass filter around zero stuffing or striding: kernel 4 x 4, `pads` (before, after) on each axis. It
    is symmetric, so its adjoint is the same operation with `up` and `down` exchanged: every order of derivative exists,
    and CPUs run it 5 times faster than the gradient of a depthwise convolution."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, up: bool, down: bool, pads: tuple[int, int], gain: float) -> Tensor:
        ctx.arguments = down, up, (3 - pads[0], 3 - pads[1] - (1 if up != down else 0)), gain
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
