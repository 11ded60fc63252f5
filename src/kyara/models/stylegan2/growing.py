"""Initialisation of a network with more wavelet levels from one with fewer, for pictures of twice the size or more."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def grow_bands(child: nn.Module, parent: nn.Module) -> set[str]:
    """Copies the layers of a generator or discriminator that make or read wavelet bands, if `child` has more levels of
    wavelets. The bands of a picture are among those of a picture of twice the size, as the transform of its mean band,
    there with twice the values; weights of the others are set to 0. The child starts with the same logits, and with the
    parent's pictures, enlarged: exactly those of each block, and about their sum, since the skip connections filter
    them at twice the size. Returns the names of the tensors that were copied."""
    theirs, found = dict(parent.named_modules()), set()
    for name, layer in child.named_modules():
        kind = name.rpartition(".")[2]
        if kind not in ("to_rgb", "from_rgb") or name not in theirs or name.startswith("parts."):
            continue
        mine, its = (layer.conv, theirs[name].conv) if kind == "to_rgb" else (layer, theirs[name])
        axis = 0 if kind == "to_rgb" else 1
        times = mine.weight.shape[axis] // its.weight.shape[axis]  # 4 for each additional level
        if times < 4 or mine.weight.shape[1 - axis] != its.weight.shape[1 - axis]:
            continue
        values = times**0.5 if kind == "to_rgb" else times**-0.5
        gain: float = its.weight_gain / mine.weight_gain * values
        mine.weight.copy_(_first_bands(_centred(its.weight * gain, mine.weight.shape[-1]), times, axis))
        if kind == "to_rgb":
            bias: Any = theirs[name].bias
            layer.bias.copy_(_first_bands(bias * values, times, 0))
        else:
            mine.bias.copy_(its.bias)
        found |= {f"{name}.conv.weight" if kind == "to_rgb" else f"{name}.weight", f"{name}.bias"}
    return found


def _first_bands(weights: Tensor, times: int, axis: int) -> Tensor:
    """Weights of `times` as many bands along an axis, of which the first ones of each colour are given, the others 0.
    In `haar`, the bands of the last level change fastest."""
    colours = weights.unflatten(axis, (3, 1, -1))
    others = torch.zeros_like(colours).repeat_interleave(times - 1, axis + 1)
    return torch.cat([colours, others], axis + 1).flatten(axis, axis + 2)


def _centred(kernels: Tensor, side: int) -> Tensor:
    """Kernels (out, in, K, K) padded with zeros to (out, in, side, side)."""
    margin = (side - kernels.shape[-1]) // 2
    return torch.nn.functional.pad(kernels, (margin,) * 4)
