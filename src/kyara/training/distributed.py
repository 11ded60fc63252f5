"""Several processes that train one model: means over ranks, and decisions that every rank takes alike.

Rank 0 alone looks at the run folder: another rank could be late, see something else, and wait forever."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, TypeVar, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.rank_zero import rank_zero_only
from torch import Tensor
from tqdm import tqdm

T = TypeVar("T")

ERRORS = (ValueError, OSError, FloatingPointError)  # what is reported to the user in one sentence


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


def neighbours(fabric: Fabric) -> tuple[int, Callable[[Any], list[Any]]]:
    """How many processes there are on this machine, and a function that gives each the values of all of them."""
    here = int(getattr(fabric.strategy, "num_processes", 1))
    first = fabric.global_rank - fabric.local_rank

    def exchange(value: Any) -> list[Any]:
        found = [value] * fabric.world_size
        if fabric.world_size > 1:
            torch.distributed.all_gather_object(found, value)
        return found[first : first + here]

    return here, exchange


def on_rank_zero(fabric: Fabric, function: Callable[[], T]) -> T:
    """The result of `function`, run on rank 0, on every rank. If it fails, rank 0 raises and the others end."""
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


def require_same(fabric: Fabric, settings: Mapping[str, Any]) -> None:
    """ValueError if this process has other settings than rank 0, such as another dataset on another machine."""
    theirs = fabric.broadcast(dict(settings))
    if different := [name for name, value in settings.items() if theirs.get(name) != value]:
        raise ValueError(f"not the same as on rank 0: {', '.join(different)}; use the same data and command everywhere")


@contextlib.contextmanager
def stop_signals(fabric: Fabric, interval: int) -> Iterator[Callable[[int], bool]]:
    """Gives a function of the number of the next step: whether SIGINT or SIGTERM came to any rank. So the step in
    progress finishes first. A second signal does what it always does.

    Several ranks ask each other at every `interval`-th step: one that stopped alone would leave them waiting."""
    received = False
    handlers: dict[int, Any] = {}

    def receive(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received = True
        signal.signal(number, handlers[number])
        if fabric.is_global_zero:
            tell("stopping after this step; the run is being saved")

    def stop(step: int) -> bool:
        if fabric.world_size == 1:
            return received
        return not step % interval and float(mean(fabric, torch.tensor(float(received), device=fabric.device))) > 0

    if threading.current_thread() is threading.main_thread():
        handlers |= {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def tell(message: str) -> None:
    """A line on stderr that does not break the progress bar."""
    tqdm.write(message, file=sys.stderr)


def warn(message: str | None) -> None:
    """A warning on stderr, if there is one."""
    if message:
        tell(f"warning: {message}")
