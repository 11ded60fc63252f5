"""Constants on the device of a computation."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TypeVarTuple

import torch
from torch import Tensor

Ts = TypeVarTuple("Ts")
Values = Sequence[float] | Sequence[Sequence[float]]


def cached(function: Callable[[*Ts], Tensor]) -> Callable[[*Ts], Tensor]:
    """Decorator: caches the tensors that a function makes of hashable arguments. They must not be changed in place. A
    copy from the host at every use would make the host wait for a GPU, and no CUDA graph can capture one. While
    PyTorch traces a graph, tensors have no values, and the cache is neither read nor filled."""
    remembered = functools.lru_cache(maxsize=512)(function)

    @functools.wraps(function)
    def wrapped(*args: *Ts) -> Tensor:
        if torch.compiler.is_compiling():
            return function(*args)
        with torch.inference_mode(False):  # training needs no inference tensors
            return remembered(*args)

    return wrapped


def constant(values: Values, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor of `values`, on the device of `like` and with its dtype or another, from a cache (see `cached`)."""
    frozen: Values = tuple(  # type: ignore[assignment]
        value if isinstance(value, int | float) else tuple(value) for value in values
    )
    return _tensor(frozen, dtype or like.dtype, like.device)


@cached
def _tensor(values: Values, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=device)
