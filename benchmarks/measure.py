"""What the speed benchmarks share: who is measured on what, turn about, and with how much memory."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch

Name = TypeVar("Name", bound=Hashable)


def machine() -> str:
    """Processor, cores, load and versions, for the line above a table."""
    cpuinfo = Path("/proc/cpuinfo")
    models = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")] * cpuinfo.exists()
    name = models[0].partition(":")[2].strip() if models else platform.processor()
    bf16 = "with" if torch.cpu.get_capabilities().get("avx512_bf16") else "without"
    return (
        f"{name}, {os.cpu_count()} cores, {bf16} bfloat16 instructions, load {os.getloadavg()[0]:.1f}; "
        f"Python {platform.python_version()}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    )


def pick_clock(busy: bool) -> Callable[[], float]:
    """Seconds on the clock with every core; on a busy machine processor seconds of one thread, which say what a call
    costs, but not how well it spreads over cores."""
    if busy:
        torch.set_num_threads(1)
    return time.process_time if busy else time.perf_counter


def turn_about(
    calls: Mapping[Name, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[Name, list[float]]:
    """Seconds of every call in every round. One after the other, so that what else the machine does meets all of
    them; the round before the first warms up."""
    seconds: dict[Name, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            start = clock()
            call()
            if turn:
                seconds[name].append(clock() - start)
    return seconds


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """How many times as long theirs takes: the median over rounds, whose two calls the same disturbance meets."""
    return statistics.median(a / b for a, b in zip(theirs, ours, strict=True))


def peak(function: Callable[[], object]) -> float:
    """By how many MiB the process grows at most while `function` runs; Linux only, elsewhere not a number."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        return float("nan")

    def read(key: str) -> int:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(key))

    ctypes.CDLL(None).malloc_trim(0)  # what earlier calls left to reuse would hide the need
    reset.write_text("5")
    before = read("VmRSS")
    function()
    return (read("VmHWM") - before) / 1024


def peak_alone(function: Callable[[], object]) -> float:
    """`peak` in a copy of this process, which shares what is imported and nothing that was run. To be called before
    torch has computed anything: a copy has none of its threads, and would wait for them."""
    if not Path("/proc/self/clear_refs").exists():
        return float("nan")
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=lambda: sender.send(peak(function)))
    process.start()
    sender.close()  # so that a copy that fails ends the waiting
    found: float = receiver.recv()
    process.join()
    return found
