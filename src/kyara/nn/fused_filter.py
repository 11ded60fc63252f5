"""The binomial filter of `kyara.nn.filters` as one Triton kernel: zero stuffing or striding, padding and filter in one
pass over the output, channels last, sums in float32. A depthwise cuDNN convolution takes ten times as long."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

ELEMENTS = 2048  # outputs of one program


@triton.jit
def _kernel(  # type: ignore[no-untyped-def]
    x, y, pixels, channels, height, width, out_height, out_width, before, gain,
    up: tl.constexpr, down: tl.constexpr, block_pixels: tl.constexpr, block_channels: tl.constexpr,
):  # fmt: skip
    pixel = tl.program_id(0).to(tl.int64) * block_pixels + tl.arange(0, block_pixels)
    channel = tl.program_id(1) * block_channels + tl.arange(0, block_channels)
    top = (pixel // out_width % out_height * down - before).to(tl.int32)  # the first tap, in the zero-stuffed input
    left = (pixel % out_width * down - before).to(tl.int32)
    first_row = pixel // out_width // out_height * height  # of this picture, among the rows of all
    inside = pixel < pixels
    total = tl.zeros((block_pixels, block_channels), tl.float32)
    # With zeros between the pixels, every second tap is on a zero: two of four remain, which ones depends on the place.
    for i in tl.static_range(4 // up):
        tap_y = i * up + (top & 1) * (up - 1)
        row = (top + tap_y) // up
        weight_y = tl.where((tap_y == 1) | (tap_y == 2), 3.0, 1.0)
        known_y = inside & (top + tap_y >= 0) & (row < height)
        for j in tl.static_range(4 // up):
            tap_x = j * up + (left & 1) * (up - 1)
            column = (left + tap_x) // up
            weight = weight_y * tl.where((tap_x == 1) | (tap_x == 2), 3.0, 1.0)
            known = known_y & (left + tap_x >= 0) & (column < width)
            place = ((first_row + row) * width + column) * channels
            mask = known[:, None] & (channel < channels)[None, :]
            value = tl.load(x + place[:, None] + channel[None, :], mask=mask, other=0.0)
            total += weight[:, None] * value.to(tl.float32)
    place = (pixel * channels)[:, None] + channel[None, :]
    tl.store(y + place, total * gain, mask=inside[:, None] & (channel < channels)[None, :])


# An operator of its own, so that torch.compile sees no further than its shape.
@torch.library.custom_op("kyara::binomial_filter", mutates_args=())
def binomial_filter(x: Tensor, up: bool, down: bool, before: int, height: int, width: int, gain: float) -> Tensor:
    """The filter, times `gain`, of (B, C, H, W) -> (B, C, height, width), float32, float16 or bfloat16. Not
    differentiable by itself. The first tap of the first output is `before` pixels outside the (zero-stuffed) input."""
    x = x.contiguous(memory_format=torch.channels_last)
    y = _empty(x, height, width)
    batch, channels = x.shape[:2]
    block = min(triton.next_power_of_2(channels), 128)
    pixels, each = batch * height * width, max(ELEMENTS // block, 1)
    with torch.cuda.device_of(x):  # Triton launches on the current device
        _kernel[(triton.cdiv(pixels, each), triton.cdiv(channels, block))](
            x, y, pixels, channels, x.shape[2], x.shape[3], height, width, before, gain / 64,
            up=1 + up, down=1 + down, block_pixels=each, block_channels=block,
        )  # fmt: skip
    return y


@binomial_filter.register_fake
def _(x: Tensor, up: bool, down: bool, before: int, height: int, width: int, gain: float) -> Tensor:
    return _empty(x, height, width)


def _empty(x: Tensor, height: int, width: int) -> Any:
    shape = x.shape[0], x.shape[1], height, width
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
