"""What a run is measured by while it trains."""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from transformers import ConvNextModel

from kyara.nn.losses import frechet
from kyara.perception.features import load_backbone, stage_means

SIDE = 96
"""Pixels on a side that `builtin:tagger` was trained at."""


def builtin_frechet(fakes: Tensor, reals: Tensor) -> float:
    """Fréchet distance between sets of pictures (N, 3, H, W) in [-1, 1], in the features of `builtin:tagger`."""
    network = _backbone(reals.device)
    a, b = (
        torch.cat([stage_means(network, x, (SIDE, SIDE)) for x in s.clamp(-1, 1).split(64)]) for s in (fakes, reals)
    )
    return frechet(a, b)


@functools.cache
def _backbone(device: torch.device) -> ConvNextModel:
    return load_backbone("builtin:tagger", device)
