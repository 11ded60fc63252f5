"""Several processes that train one model: means over ranks, and decisions that every rank takes alike.

Rank 0 alone looks at the run folder. A rank that looked by itself could be late, see something else, and wait for the
others forever.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, TypeVar, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.rank_zero import rank_zero_only
from torch import Tensor
from tqdm import tqdm

T = TypeVar("T")

ERRORS = (ValueError, OSError, FloatingPointError)
"""What is reported to the user in one sentence."""


def is_rank_zero() -> bool:
    """Whether this process is rank 0, also before Fabric has launched the others."""
    return bool(getattr(rank_zero_only, "rank", 0) == 0)


def mean(fabric: Fabric, tensor: Tensor) -> Tensor:
    """The mean of a tensor over ranks."""
    return cast(Tensor, fabric.all_reduce(tensor, reduce_op="mean")) if fabric.world_size > 1 else tensor


@torch.no_grad()
def average(fabric: Fabric, tensors: Sequence[Tensor]) -> None:
    """Replaces tensors by their means over ranks, in one all-reduce."""
    if fabric.world_size == 1 or not tensors:
        return
    flat = mean(fabric, torch.cat([tensor.float().flatten() for tensor in tensors]))
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def on_rank_zero(fabric: Fabric, function: Callable[[], T]) -> T:
    """Runs `function` on rank 0 and returns its result on every rank. If it fails, rank 0 raises the error and the
    other processes end."""
    result: Any = None
    error: Exception | None = None
    if fabric.is_global_zero:
        try:
            result = function()
        except ERRORS as caught:
            error = caught
    failed, result = fabric.broadcast((error is not None, result))
    if failed:
        raise error or SystemExit(0)
    return result


@contextlib.contextmanager
def report_once(fabric: Fabric) -> Iterator[None]:
    """An error that every rank meets is raised on rank 0 only; the other processes end without a word."""
    try:
        yield
    except ERRORS:
        if fabric.is_global_zero:
            raise
        raise SystemExit(0) from None


class Stop:
    """Whether SIGINT or SIGTERM came. The step in progress finishes first; a second signal does what it always does."""

    def __init__(self, fabric: Fabric, interval: int) -> None:
        """Several ranks ask each other at every `interval`-th step: one that stopped alone would leave them waiting."""
        self.fabric, self.interval = fabric, interval
        self.received = False
        self._handlers: dict[int, Any] = {}

    def __call__(self, step: int) -> bool:
        """Whether to stop before `step`: the same on every rank."""
        if self.fabric.world_size == 1:
            return self.received
        if step % self.interval:
            return False
        return float(mean(self.fabric, torch.tensor(float(self.received), device=self.fabric.device))) > 0

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            self._handlers = {n: signal.signal(n, self._receive) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = True
        signal.signal(number, self._handlers[number])
        if self.fabric.is_global_zero:
            tell("stopping after this step; the run is being saved")


def tell(message: str) -> None:
    """A line on stderr that does not break the progress bar."""
    tqdm.write(message, file=sys.stderr)


def warn(message: str | None) -> None:
    """A warning on stderr, if there is one."""
    if message:
        tell(f"warning: {message}")
