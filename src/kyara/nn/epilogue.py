"""What follows a convolution in StyleGAN2 (Karras et al. 2020, section 2.2): demodulation, noise, bias and leaky ReLU,
as one operation on CUDA with Triton. Twice differentiable. Elsewhere the layers do this with operations of PyTorch,
which CPUs run faster, and compilers fuse."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kyara.nn.filters import HAS_TRITON

if HAS_TRITON:
    from kyara.nn import fused_epilogue

SLOPE = 0.2  # of the leaky ReLU


def fuses(x: Tensor) -> bool:
    """Whether `bias_leaky_relu` is faster for a tensor than the operations of PyTorch."""
    return HAS_TRITON and x.is_cuda and not torch.compiler.is_compiling()


def bias_leaky_relu(
    x: Tensor,
    bias: Tensor,
    scale: Tensor | None = None,
    noise: Tensor | None = None,
    strength: Tensor | None = None,
    gain: float = 1.0,
) -> Tensor:
    """leaky_relu((x * scale + noise * strength) * gain + bias), with slope 0.2, in the dtype of x.

    Maps x (B, C, H, W), `bias` (C,), `scale` (B, C), `noise` (B or 1, 1, H, W), `strength` () -> (B, C, H, W), from
    the kernels in channels_last. Noise has no gradient. The gradients of the others, and their gradients, are
    computed in float32, or in float64 if x is."""
    return _Epilogue.apply(x, bias, scale, noise, strength, gain)


class _Epilogue(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        bias: Tensor,
        scale: Tensor | None,
        noise: Tensor | None,
        strength: Tensor | None,
        gain: float,
    ) -> Tensor:
        y = forward(x, scale, None, None, noise, strength, bias, None, gain)
        ctx.save_for_backward(y, None if scale is None else x, scale, noise)
        ctx.gain = gain
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        y, x, scale, noise = ctx.saved_tensors
        to_x, to_bias, to_scale, to_strength = _Gradient.apply(gradient, y.detach(), x, scale, noise, ctx.gain)
        return to_x, to_bias, to_scale, None, to_strength, None


class _Gradient(torch.autograd.Function):
    """The gradient of `_Epilogue`. It is linear in the gradient of y, in x and in scale; the second derivative of the
    leaky ReLU is 0."""

    @staticmethod
    def forward(
        ctx: Any,
        gradient: Tensor,
        y: Tensor,
        x: Tensor | None,
        scale: Tensor | None,
        noise: Tensor | None,
        gain: float,
    ) -> tuple[Tensor | None, ...]:
        to_x, sums = backward(gradient, y, scale, x, noise, gain)
        ctx.save_for_backward(gradient, y, x, scale, noise)
        ctx.gain = gain
        ctx.set_materialize_grads(False)
        if x is None and noise is None:
            return to_x, sums.sum((0, 1, 2)), None, None
        sums = sums.sum(1)  # (B, rows, C)
        to_scale = None if x is None else sums[:, 1].contiguous()
        return to_x, sums[:, 0].sum(0), to_scale, None if noise is None else sums[:, -1].sum()

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, by_x: Tensor | None, by_bias: Tensor | None, by_scale: Tensor | None, by_strength: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        gradient, y, x, scale, noise = ctx.saved_tensors
        by_x = torch.zeros_like(gradient) if by_x is None else by_x
        other = None if by_scale is None else x
        drawn = None if by_strength is None else noise
        to_gradient = forward(by_x, scale, other, by_scale, drawn, by_strength, by_bias, y, ctx.gain)
        if x is None:
            return to_gradient, None, None, None, None, None
        by_scale = torch.zeros_like(scale) if by_scale is None else by_scale
        to_x, sums = backward(gradient, y, by_scale, by_x, None, ctx.gain)
        return to_gradient, None, to_x, sums[:, :, 1].sum(1), None, None


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
    """(x * scale + other * other_scale + noise * strength) * gain + bias, times the derivative of the leaky ReLU: 1
    where `active` is positive, else the slope; without `active`, where the sum itself is. In shape and dtype of x."""
    if _is_fused(x):
        return fused_epilogue.forward(x, scale, other, other_scale, noise, strength, bias, active, gain)
    wide = _wide(x)
    total = wide if scale is None else wide * scale[:, :, None, None]
    if other is not None and other_scale is not None:
        total = total + _wide(other) * other_scale[:, :, None, None]
    if noise is not None and strength is not None:
        total = total + noise * strength
    total = total * gain
    if bias is not None:
        total = total + bias[:, None, None]
    return _masked(total, total if active is None else active).to(x.dtype)


def backward(
    gradient: Tensor, active: Tensor, scale: Tensor | None, x: Tensor | None, noise: Tensor | None, gain: float
) -> tuple[Tensor, Tensor]:
    """m * scale * gain, with m the gradient times the derivative of the leaky ReLU, in shape and dtype of `gradient`;
    and sums (B, parts, rows, C) over parts of the pixels: of m, of m * x * gain and of m * noise * gain. x and noise
    may be missing, and their rows with them."""
    if _is_fused(gradient):
        return fused_epilogue.backward(gradient, active, scale, x, noise, gain)
    masked = _masked(_wide(gradient), active)
    rows = [masked]
    rows += [] if x is None else [masked * _wide(x) * gain]
    rows += [] if noise is None else [masked * noise * gain]
    to_x = masked * gain if scale is None else masked * scale[:, :, None, None] * gain
    return to_x.to(gradient.dtype), torch.stack([row.sum((2, 3)) for row in rows], 1)[:, None]


def _is_fused(x: Tensor) -> bool:
    return HAS_TRITON and x.is_cuda and x.dtype != torch.float64


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _masked(x: Tensor, active: Tensor) -> Tensor:
    return torch.where(active > 0, x, SLOPE * x)
