"""Random numbers that do not depend on what ran before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def fixed_seed(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Context manager: seeds the global generators of torch, and restores their states afterwards: that of the CPU and,
    if it is a GPU, that of `device`. Without it, random numbers on a GPU continue from the seed."""
    cuda = device is not None and device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if cuda else [], device_type="cuda"):
        torch.manual_seed(seed)
        yield
