"""Initialisation of a network from one for pictures of half the size, with one level of wavelets less."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kyara.models.stylegan2.generator import ToRGB
from kyara.nn.layers import Conv, ModulatedConv


@torch.no_grad()
def grow_bands(child: nn.Module, parent: nn.Module, levels: int) -> set[str]:
    """Copies the layers of a generator or discriminator that make or read wavelet bands to a child with `levels` more
    levels of wavelets, for pictures of 2^levels times the size. Returns the names of the tensors that were copied.

    The low-pass band of the larger picture is the smaller picture, scaled by 2 per level, so the bands of the smaller
    one are among those of the larger one. The weights of all other bands are set to 0. The child starts with the same
    logits, and with the parent's pictures, enlarged: exactly for the output of each block, and approximately for their
    sum, because the skip connections filter at twice the size."""
    modules, copied = dict(parent.named_modules()), set()
    for name, layer in child.named_modules():
        if isinstance(layer, ToRGB):
            source = cast("ToRGB", modules[name])
            if _copy_kernels(layer.conv, source.conv, 2.0**levels, levels, 0):
                layer.bias.copy_(_low_pass(source.bias * 2.0**levels, levels, 0))
                copied |= {f"{name}.conv.weight", f"{name}.bias"}
        elif name in ("from_rgb", "encoder.from_rgb") and name in modules:
            first, source_conv = cast("Conv", layer), cast("Conv", modules[name])
            if _copy_kernels(first, source_conv, 0.5**levels, levels, 1):
                copied.add(f"{name}.weight")  # the bias has the same shape
    return copied


def _copy_kernels(
    layer: Conv | ModulatedConv, source: Conv | ModulatedConv, scale: float, levels: int, axis: int
) -> bool:
    """Copies kernels (out, in, K, K), scaled, with the bands along an axis, into the middle of possibly larger ones.
    Returns False, and copies nothing, if the numbers of other channels differ."""
    if layer.weight.shape[1 - axis] != source.weight.shape[1 - axis]:
        return False
    margin = (layer.weight.shape[-1] - source.weight.shape[-1]) // 2
    gain = scale * source.weight_gain / layer.weight_gain  # equalised learning rate
    layer.weight.copy_(_low_pass(F.pad(source.weight * gain, (margin,) * 4), levels, axis))
    return True


def _low_pass(bands: Tensor, levels: int, axis: int) -> Tensor:
    """4^levels times as many bands along an axis, of which the first ones of each colour are given, the others 0. In
    `haar`, the bands of the last level change fastest."""
    colours = bands.unflatten(axis, (3, 1, -1))
    others = torch.zeros_like(colours).repeat_interleave(4**levels - 1, axis + 1)
    return torch.cat([colours, others], axis + 1).flatten(axis, axis + 2)
