"""The operations of `kyara.nn.epilogue` as Triton kernels: each reads and writes every map once, channels last,
computes in float32, and takes sums over pixels along the way. A program has some pixels of one picture."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

ELEMENTS = 2048  # values that a program has in registers at a time
SPAN = 256  # pixels over which a program of `backward` sums
SLOPE = tl.constexpr(0.2)


@triton.jit
def _forward_kernel(  # type: ignore[no-untyped-def]
    y, x, scale, other, other_scale, noise, strength, bias, active, pixels, blocks, channels, noise_step, gain,
    block_pixels: tl.constexpr, block_channels: tl.constexpr,
):  # fmt: skip
    picture = tl.program_id(0).to(tl.int64) // blocks
    pixel = tl.program_id(0) % blocks * block_pixels + tl.arange(0, block_pixels)
    channel = tl.program_id(1) * block_channels + tl.arange(0, block_channels)
    known = channel < channels
    mask = (pixel < pixels)[:, None] & known[None, :]
    place = ((picture * pixels + pixel) * channels)[:, None] + channel[None, :]
    total = tl.load(x + place, mask=mask, other=0.0).to(tl.float32)
    if scale is not None:
        total *= tl.load(scale + picture * channels + channel, mask=known, other=0.0).to(tl.float32)[None, :]
    if other is not None:
        factor = tl.load(other_scale + picture * channels + channel, mask=known, other=0.0).to(tl.float32)
        total += tl.load(other + place, mask=mask, other=0.0).to(tl.float32) * factor[None, :]
    if noise is not None:
        drawn = tl.load(noise + picture * noise_step + pixel, mask=pixel < pixels, other=0.0).to(tl.float32)
        total += (drawn * tl.load(strength).to(tl.float32))[:, None]
    total *= gain
    if bias is not None:
        total += tl.load(bias + channel, mask=known, other=0.0).to(tl.float32)[None, :]
    sign = total
    if active is not None:
        sign = tl.load(active + place, mask=mask, other=0.0).to(tl.float32)
    tl.store(y + place, tl.where(sign > 0, total, total * SLOPE), mask=mask)


@triton.jit
def _backward_kernel(  # type: ignore[no-untyped-def]
    to_x, sums, gradient, active, scale, x, noise, pixels, blocks, channels, noise_step, rows, gain,
    tiles: tl.constexpr, block_pixels: tl.constexpr, block_channels: tl.constexpr,
):  # fmt: skip
    picture = tl.program_id(0).to(tl.int64) // blocks
    first = tl.program_id(0) % blocks * (tiles * block_pixels)
    channel = tl.program_id(1) * block_channels + tl.arange(0, block_channels)
    known = channel < channels
    by_bias = tl.zeros((block_pixels, block_channels), tl.float32)
    by_scale = tl.zeros((block_pixels, block_channels), tl.float32)
    by_strength = tl.zeros((block_pixels, block_channels), tl.float32)
    for tile in range(tiles):
        pixel = first + tile * block_pixels + tl.arange(0, block_pixels)
        mask = (pixel < pixels)[:, None] & known[None, :]
        place = ((picture * pixels + pixel) * channels)[:, None] + channel[None, :]
        value = tl.load(gradient + place, mask=mask, other=0.0).to(tl.float32)
        sign = tl.load(active + place, mask=mask, other=0.0).to(tl.float32)
        value = tl.where(sign > 0, value, value * SLOPE)
        by_bias += value
        if x is not None:
            by_scale += value * tl.load(x + place, mask=mask, other=0.0).to(tl.float32)
        if noise is not None:
            drawn = tl.load(noise + picture * noise_step + pixel, mask=pixel < pixels, other=0.0).to(tl.float32)
            by_strength += value * drawn[:, None]
        if scale is not None:
            value *= tl.load(scale + picture * channels + channel, mask=known, other=0.0).to(tl.float32)[None, :]
        tl.store(to_x + place, value * gain, mask=mask)
    row = sums + tl.program_id(0).to(tl.int64) * rows * channels + channel
    tl.store(row, tl.sum(by_bias, 0), mask=known)
    if x is not None:
        tl.store(row + channels, tl.sum(by_scale, 0) * gain, mask=known)
    if noise is not None:
        tl.store(row + (rows - 1) * channels, tl.sum(by_strength, 0) * gain, mask=known)


def forward(
    x: Tensor,
    scale: Tensor | None,
    other: Tensor | None,
    other_scale: Tensor | None,
    noise: Tensor | None,
    strength: Tensor | None,
    bias: Tensor | None,
    active: Tensor | None,
    gain: float,
) -> Tensor:
    """`kyara.nn.epilogue.forward` of float32, float16 or bfloat16, on CUDA."""
    x, other, active = _channels_last(x), _channels_last(other), _channels_last(active)
    (batch, channels, height, width), y = x.shape, torch.empty_like(x)
    block_pixels, block_channels = _blocks(height * width, channels)
    blocks = triton.cdiv(height * width, block_pixels)
    with torch.cuda.device_of(x):  # Triton launches on the current device
        _forward_kernel[(batch * blocks, triton.cdiv(channels, block_channels))](
            y, x, _dense(scale), other, _dense(other_scale), _dense(noise), strength, _dense(bias), active,
            height * width, blocks, channels, _step(noise), gain,
            block_pixels=block_pixels, block_channels=block_channels,
        )  # fmt: skip
    return y


def backward(
    gradient: Tensor, active: Tensor, scale: Tensor | None, x: Tensor | None, noise: Tensor | None, gain: float
) -> tuple[Tensor, Tensor]:
    """`kyara.nn.epilogue.backward` of float32, float16 or bfloat16, on CUDA."""
    gradient, active, x = _channels_last(gradient), _channels_last(active), _channels_last(x)
    (batch, channels, height, width), to_x = gradient.shape, torch.empty_like(gradient)
    block_pixels, block_channels = _blocks(height * width, channels)
    tiles = triton.cdiv(min(height * width, SPAN), block_pixels)
    blocks = triton.cdiv(height * width, tiles * block_pixels)
    rows = 1 + (x is not None) + (noise is not None)
    sums = torch.empty(batch, blocks, rows, channels, dtype=torch.float32, device=gradient.device)
    with torch.cuda.device_of(gradient):
        _backward_kernel[(batch * blocks, triton.cdiv(channels, block_channels))](
            to_x, sums, gradient, active, _dense(scale), x, _dense(noise),
            height * width, blocks, channels, _step(noise), rows, gain,
            tiles=tiles, block_pixels=block_pixels, block_channels=block_channels,
        )  # fmt: skip
    return to_x, sums


def _blocks(pixels: int, channels: int) -> tuple[int, int]:
    """Pixels and channels of a tile, powers of two."""
    block_channels = min(triton.next_power_of_2(channels), 128)
    return min(triton.next_power_of_2(pixels), max(ELEMENTS // block_channels, 1)), block_channels


def _channels_last(maps: Any) -> Any:
    return maps if maps is None else maps.contiguous(memory_format=torch.channels_last)


def _dense(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def _step(noise: Tensor | None) -> int:
    """Pixels from the noise of one picture to that of the next."""
    return 0 if noise is None or noise.shape[0] == 1 else noise[0].numel()
