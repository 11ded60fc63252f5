"""Constants on the device of a computation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

Values = Sequence[float] | Sequence[Sequence[float]]


def constant(values: Values, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor of `values`, on the device of `like` and with its dtype or another. It is cached, and must not be
    changed in place: a copy from the host at every use would make the host wait for a GPU, and no CUDA graph can
    capture one."""
    frozen = tuple(value if isinstance(value, int | float) else tuple(value) for value in values)
    return _cached(frozen, dtype or like.dtype, like.device)


@lru_cache(maxsize=512)
def _cached(values: Values, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # training needs no inference tensors
        return torch.tensor(values, dtype=dtype, device=device)
