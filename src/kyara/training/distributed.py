"""Distributed training: averages over ranks, and decisions that are the same on every rank.

Only rank 0 reads the run folder: ranks that read it at different times could disagree, and then deadlock."""

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

ERRORS = (ValueError, OSError, FloatingPointError)  # reported to the user without a traceback


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
    """Runs `function` on rank 0 and broadcasts its result. If it raises, rank 0 re-raises and the other ranks exit."""
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
    """Yields a function of the next step: whether any rank has received SIGINT or SIGTERM. The step in
    progress is completed first. A second signal has its default effect.

    With several ranks, signals are synchronised every `interval` steps, so that all ranks stop at the same step."""
    received = False
    handlers: dict[int, Any] = {}

    def receive(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received = True
        signal.signal(number, handlers[number])
        if fabric.is_global_zero:
            tell("stopping after this step and saving the run")

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
    """Prints a line to stderr without breaking the progress bar. A training goes on if nobody reads it any more."""
    with contextlib.suppress(OSError):
        tqdm.write(message, file=sys.stderr)


def warn(message: str | None) -> None:
    """Prints a warning to stderr, unless `message` is None."""
    if message:
        tell(f"warning: {message}")
