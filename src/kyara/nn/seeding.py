"""Random numbers that do not depend on what ran before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def fixed_seed(seed: int) -> Iterator[None]:
    """Context manager: seeds the global generator of torch, and restores its state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
