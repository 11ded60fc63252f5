"""Positions, small differences and second moments in float32, also where autocast chooses bfloat16 for products and
convolutions: its 8 bits place the pixels of a picture of 256 pixels half a pixel off."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: autocast is off in a function, for the device of the first tensor that it gets, and what autocast has
    made of its tensors before, such as bfloat16, is float32 again: without it, products of two types fail."""

    @functools.wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        device = next(given.device.type for given in args if isinstance(given, Tensor))
        if not torch.is_autocast_enabled(device):
            return function(*args, **kwargs)
        with torch.autocast(device, enabled=False):
            again = {name: _widened(given) for name, given in kwargs.items()}
            return function(*map(_widened, args), **again)  # type: ignore[arg-type]

    return inside


def _widened(given: object) -> object:
    """A tensor of half precision as float32; anything else as it is."""
    narrow = isinstance(given, Tensor) and given.dtype in (torch.bfloat16, torch.float16)
    return given.float() if narrow else given  # type: ignore[attr-defined]


@full_precision
def affine_grid(theta: Tensor, size: Sequence[int]) -> Tensor:
    """Where to sample (B, H, W, 2), in [-1, 1], for pictures of `size` (B, C, H, W) under affine maps (B, 2, 3)."""
    return F.affine_grid(theta.float(), list(size), align_corners=False)
