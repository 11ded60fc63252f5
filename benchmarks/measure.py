"""What the speed benchmarks share: who is measured on what, turn about, and with how much memory."""

from __future__ import annotations

import ctypes
import os
import platform
import statistics
import subprocess
import sys
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
    """By how many MiB the process grows at most while `function` runs; Linux only, elsewhere not a number.

    Not `getrusage`: its maximum outlives exec, so that a process starts with the peak of its parent.
    """
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


def again(*arguments: str) -> float:
    """The number that this very command, with more arguments, prints last in a process of its own."""
    printed = subprocess.run([sys.executable, *sys.argv, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return float(printed.stdout.split()[-1])
