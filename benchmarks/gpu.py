"""What a GPU gives: training and generation, CUDA graphs on and off, the filter's variants, and the verbs. Under four
minutes on one H100.

    .venv-bench/bin/python benchmarks/gpu.py [--only training,verbs] [--seconds 4] [--device cpu]

On `--device cpu` it is a rehearsal: everything runs at a small size, and only the tables "operations" and, on quiet
cores, "scaling" mean something. "busy" is the share of the time in which the device runs kernels, "launches" what the
CPU launches in an ordinary step.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from common import machine, print_table, run
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kyara.generation.generate import generate
from kyara.generation.sampler import sample
from kyara.models import base, stylegan2
from kyara.nn import epilogue, filters, layers
from kyara.training.runtime import Precision, make_fabric, pick_device, pick_precision
from kyara.training.trainer import Options, Trainer

NETWORK = {"channel_base": 16384, "channel_max": 512, "mapping_layers": 8}
SIZES: dict[str, tuple[int, dict[str, Any], dict[str, Any]]] = {
    "64 px 16384/512": (64, NETWORK, {"path_weight": 2.0}),
    "128 px 16384/512": (128, NETWORK, {"path_weight": 2.0}),
    "128 px 16384/512 wavelets": (128, {**NETWORK, "wavelets": 1}, {"path_weight": 2.0}),
    "96 px 4096/256": (96, {"channel_base": 4096, "channel_max": 256, "mapping_layers": 4}, {"path_weight": 0.0}),
}
TABLES = "training", "operations", "filters", "verbs", "peers", "scaling"
REHEARSAL = {"32 px tiny": (32, {"channel_base": 256, "channel_max": 16, "mapping_layers": 2}, {"path_weight": 2.0})}


class Contender:
    """StyleGAN2 of one size, trained with `Trainer.step` on random pictures that are on the device."""

    def __init__(self, size: int, network: Any, losses: Any, device: torch.device, *, batch: int, graphs: bool) -> None:
        data = {"width": size, "height": size}
        config = stylegan2.PRESETS["gpu-96"].replace(data=data, network=network, losses=losses)
        precision: Precision = pick_precision("auto", device)
        self.model = stylegan2.Model(config)
        options = Options(batch=batch, micro_batch=batch, augment="none", precision=precision)
        self.trainer = Trainer(self.model, options, fabric=make_fabric(device, precision=precision), graphs=graphs)
        self.batch = base.Batch(torch.rand(batch, 3, size, size, device=device) * 2 - 1)
        self.device = device

    def step(self) -> int:
        self.trainer.step(self.batch)
        return len(self.batch.real)

    @torch.inference_mode()
    def generate(self) -> int:
        self.model.eval()
        count = 4 * len(self.batch.real)
        sample(self.model, torch.randn(count, self.model.z_dim, device=self.device))
        self.model.train()
        return count


def rate(call: Callable[[], int], seconds: float, device: torch.device, warm_up: int) -> float:
    """Pictures per second over at least `seconds`, after `warm_up` calls."""
    for _ in range(warm_up):
        call()
    wait(device)
    start, pictures = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        for _ in range(16):  # whole cycles of the lazy phases
            pictures += call()
        wait(device)
    return pictures / (time.perf_counter() - start)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def profiled(call: Callable[[], int], device: torch.device) -> dict[str, Any]:
    """The share of time in which the device works, and launches in a step, over 16 steps."""
    if device.type != "cuda":
        return {}
    kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=kinds) as profiler:
        start = time.perf_counter()
        for _ in range(16):
            call()
        wait(device)
        seconds = time.perf_counter() - start
    events = profiler.events() or []
    kernels = sum(e.time_range.elapsed_us() for e in events if e.device_type == torch.autograd.DeviceType.CUDA)
    launches = sum("LaunchKernel" in e.name or "GraphLaunch" in e.name for e in events)
    return {"busy": kernels / 1e6 / seconds, "launches": launches // 16}


def training(device: torch.device, seconds: float, batch: int) -> None:
    """Training and generation, with and without graphs, and once without the fused epilogues."""
    rows = {}
    for name, size in (SIZES if device.type == "cuda" else REHEARSAL).items():
        for graphs in (True, False):
            contender = Contender(*size, device, batch=batch, graphs=graphs)
            rows[f"{name}, {'graphs' if graphs else 'no graphs'}"] = _speeds(contender, seconds)
    if device.type == "cuda":
        name, size = next(iter(SIZES.items()))
        with mock.patch.object(layers, "fuses", lambda x: False):
            contender = Contender(*size, device, batch=batch, graphs=True)
            rows[f"{name}, graphs, no fused epilogues"] = _speeds(contender, seconds)
    print_table(rows, f"batch {batch}")


def _speeds(contender: Contender, seconds: float) -> dict[str, Any]:
    torch.manual_seed(0)
    device, graphs = contender.device, contender.trainer.graphs is not None
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    # Each phase is captured at its fourth time: the lazy ones every 4th and 16th step.
    found: dict[str, Any] = {"training, img/s": rate(contender.step, seconds, device, 65 if graphs else 5)}
    found |= profiled(contender.step, device)
    if device.type == "cuda":
        found["peak, MiB"] = torch.cuda.max_memory_allocated(device) / 2**20
    if graphs or device.type != "cuda":
        found["generating, img/s"] = rate(contender.generate, seconds / 2, device, 2)
    return found


KINDS = {
    "convolutions": ("convolution",),
    "biases of convolutions": ("bias",),
    "fused filters": ("filter",),
    "fused epilogues": ("epilogue",),
    "matrix products": ("mm",),
    "random numbers": ("rand", "uniform", "normal", "bernoulli"),
    "casts and copies": ("copy", "clone", "cat", "stack"),
    "sums and means": ("sum", "mean", "var"),
    "leaky ReLU of other layers": ("leaky_relu",),
}
"""Of operations, by a part of their names."""


class Operations(TorchDispatchMode):
    """Counts the operations that are no views or allocations, as on a GPU with Triton, where each launches a kernel or
    more: a fused filter or epilogue as one, and the bias of a convolution as one, since cuDNN does not add it."""

    def __init__(self) -> None:
        super().__init__()
        self.group, self.counts, self.kinds = "the rest", Counter[str](), Counter[str]()
        self.inside = False  # a fused kernel

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        name = function.name()
        if not (function.is_view or function.namespace == "profiler" or "empty" in name):
            self.count(name)
            if name == "aten::convolution" and arguments[2] is not None:
                self.count("bias")
            if name == "aten::convolution_backward" and arguments[-1][2]:
                self.count("bias")
        return function(*arguments, **(options or {}))

    def count(self, name: str) -> None:
        if not self.inside:
            self.counts[self.group] += 1
            kinds = (kind for kind, words in KINDS.items() if any(word in name for word in words))
            self.kinds[next(kinds, "other elementwise operations")] += 1

    def grouped(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a function whose operations are counted as "PHASE name"; the phase is its first argument."""
        before, self.group = self.group, f"{arguments[0]} {name}"
        try:
            return function(*arguments)
        finally:
            self.group = before

    def kernel(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a function that is one kernel on a GPU."""
        self.count(name)
        self.inside = True
        try:
            return function(*arguments)
        finally:
            self.inside = False

    @contextlib.contextmanager
    def fused(self) -> Iterator[None]:
        """The layers compute as on a GPU with Triton."""
        kernels = (
            ("filter", filters, "_convolved"),
            ("epilogue", epilogue, "forward"),
            ("epilogue", epilogue, "backward"),
        )
        with contextlib.ExitStack() as stack:
            stack.enter_context(mock.patch.object(layers, "fuses", lambda x: True))
            for kind, module, name in kernels:
                stack.enter_context(mock.patch.object(module, name, partial(self.kernel, kind, getattr(module, name))))
            yield


def operations() -> None:
    """Operations of an ordinary step at 64 pixels, counted on the CPU: those of the losses and their gradients, which
    CUDA graphs replay with one launch for each phase, and the rest: optimizers, averages, dropped steps. The widths of
    the layers make no difference."""
    contender = Contender(
        64, {**NETWORK, "channel_base": 256, "channel_max": 8}, {}, torch.device("cpu"), batch=4, graphs=False
    )
    trainer = contender.trainer
    contender.step()  # the first step has the lazy phases, and fills caches
    with Operations() as found, found.fused():
        trainer.losses = partial(found.grouped, "forward", trainer.losses)
        trainer._differentiate = partial(found.grouped, "backward", trainer._differentiate)  # type: ignore[method-assign]
        contender.step()
    graphs = found.counts["the rest"] + 2
    rows = {name: {"operations": count} for name, count in found.counts.items()}
    rows |= {"all, no graphs": {"operations": found.counts.total()}, "all, graphs": {"operations": graphs}}
    print_table(rows, f"a step of StyleGAN2 in {trainer.options.precision}")
    print_table({name: {"operations": count} for name, count in found.kinds.most_common()}, "the same by kind")


def filter_variants(device: torch.device, seconds: float, batch: int) -> None:
    """Milliseconds of the filter, forward and backward, after a convolution that doubles the size."""
    variants = {"depthwise convolution": filters._convolved, "shifts and sums": filters._shifted}
    if filters.HAS_TRITON and device.type == "cuda":
        variants["Triton"] = filters._fused
    rows: dict[str, dict[str, Any]] = {}
    for channels, size in ((512, 32), (256, 64), (128, 128)) if device.type == "cuda" else ((16, 16),):
        for dtype in (torch.bfloat16, torch.float32):
            x = torch.randn(batch, channels, size + 3, size + 3, device=device, dtype=dtype)
            x = x.contiguous(memory_format=torch.channels_last)
            expected = filters._shifted(x.double(), False, False, (1, 1), 4.0)
            column = f"{channels} x {size} px, {str(dtype).removeprefix('torch.')}"
            for name, function in variants.items():
                error = float((function(x, False, False, (1, 1), 4.0).double() - expected).abs().max())
                assert error < (0.05 if dtype == torch.bfloat16 else 1e-4), (name, error)
                calls = rate(partial(_once, function, x), seconds / 20, device, 3)
                rows.setdefault(name, {})[column] = 1000 / calls
    print_table(rows, "filter, ms")


def _once(function: Callable[..., Tensor], x: Tensor) -> int:
    function(x, False, False, (1, 1), 4.0)
    return 1


def verbs(device: torch.device, count: int) -> None:
    """`generate` and `rank`, from the call to the finished gallery, imports not counted."""
    from kyara.curation.rank import rank

    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for turn in ("first", "second"):
            out = Path(folder) / turn
            start = time.perf_counter()
            generate("builtin:anime", count=count, out=out, device=str(device))
            made = time.perf_counter()
            rank(out, out=Path(folder) / f"ranked-{turn}", device=str(device))
            ranked = time.perf_counter()
            rows[turn] = {"generate, img/s": count / (made - start), "rank, img/s": count / (ranked - made)}
    print_table(rows, f"{count} pictures of 64 px")


def peers(device: torch.device, seconds: float, batch: int) -> None:
    """The plain network of the paper and stylegan2_pytorch, beside Kyara, at 64 pixels, without path lengths."""
    from stylegan2 import Lucidrains, lucidrains, make_plain

    size, network, losses = next(iter((SIZES if device.type == "cuda" else REHEARSAL).values()))
    losses = {**losses, "path_weight": 0.0}
    ours = Contender(size, network, losses, device, batch=batch, graphs=True)
    plain = Contender(size, network, losses, device, batch=batch, graphs=False)
    make_plain(plain.model)
    calls: dict[str, tuple[Callable[[], int], int]] = {"Kyara": (ours.step, 65), "plain": (plain.step, 3)}
    if lucidrains is not None:
        with torch.device(device):
            peer = Lucidrains(ours.model.config, fair=True)
        peer.to(device)
        peer.real = peer.real.to(device)
        calls["stylegan2_pytorch"] = (partial(_peer_step, peer, iter(range(10**9)), batch, device), 3)
    rows: dict[str, dict[str, Any]] = {}
    for name, (call, warm_up) in calls.items():
        try:
            rows[name] = {"training, img/s": rate(call, seconds, device, warm_up)}
        except RuntimeError as error:
            rows[name] = {"training, img/s": f"failed: {str(error).splitlines()[0]}"}
    print_table(rows, f"{size} px, batch {batch}")


def _peer_step(peer: Any, steps: Any, batch: int, device: torch.device) -> int:
    with torch.device(device):
        peer.step(next(steps))
    return batch


def scaling(device: torch.device, seconds: float) -> None:
    """Training by one process and by several, with the same batch for each: one on every GPU, or two on the CPU, with
    one thread each. The share is that of the ideal, the speed of one process times their number."""
    several = torch.cuda.device_count() if device.type == "cuda" else 2
    if several < 2:
        print("needs two GPUs")
        return
    each = 64 if device.type == "cuda" else 16
    speeds = {count: _processes(device.type, count, each, seconds) for count in (1, several)}
    name = "GPUs" if device.type == "cuda" else "processes of one thread"
    rows = {
        f"{count} {name}": {"training, img/s": speed, "share": speed / (count * speeds[1])}
        for count, speed in speeds.items()
    }
    print_table(rows, f"batch {each} for each")


def _processes(kind: str, count: int, each: int, seconds: float) -> float:
    """Pictures per second of `count` processes together."""
    command = [sys.executable, __file__, "--process", kind, str(count), str(each), str(seconds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def process(kind: str, count: int, each: int, seconds: float) -> None:
    """One of the processes of `scaling`. Rank 0 starts the others, and prints the pictures per second of all."""
    torch.set_num_threads(1)
    device = torch.device(kind)
    precision: Precision = pick_precision("auto", device)
    fabric = make_fabric(device, devices=count, precision=precision)
    fabric.launch()
    options = Options(batch=each * count, micro_batch=each, precision=precision)
    config = stylegan2.PRESETS["two-core" if kind == "cpu" else "gpu-96"]
    trainer = Trainer(stylegan2.Model(config), options, fabric=fabric)
    batch = base.Batch(torch.rand(each, 3, config.data.height, config.data.width) * 2 - 1).to(fabric.device)
    for _ in range(1 if kind == "cpu" else 65):
        trainer.step(batch)
    fabric.barrier()
    start, pictures = time.perf_counter(), 0
    while fabric.broadcast(time.perf_counter() - start < seconds):
        for _ in range(config.losses.r1_interval):  # whole cycles of the lazy phases
            trainer.step(batch)
        wait(fabric.device)
        pictures += config.losses.r1_interval * options.batch
    if fabric.is_global_zero:
        print(pictures / (time.perf_counter() - start))


def measure(device: str = "auto", only: str = ",".join(TABLES), seconds: float = 4.0) -> None:
    """Prints the tables.

    Args:
        device: cuda, or cpu for a rehearsal.
        only: Which tables.
        seconds: How long a rate is measured, at least.
    """
    target = pick_device(device)
    cuda = target.type == "cuda"
    batch, count = (64, 5000) if cuda else (4, 16)
    print(torch.cuda.get_device_name(target) if cuda else "rehearsal on the CPU", "\n" + machine(), flush=True)
    tables: dict[str, Callable[[], None]] = {
        "training": partial(training, target, seconds, batch),
        "operations": operations,
        "filters": partial(filter_variants, target, seconds, batch),
        "verbs": partial(verbs, target, count),
        "peers": partial(peers, target, seconds, batch),
        "scaling": partial(scaling, target, seconds),
    }
    for name in only.split(","):
        if name not in tables:
            raise ValueError(f"--only {only}: the tables are {', '.join(tables)}")
        print(f"\n## {name}\n", flush=True)
        tables[name]()


def main(arguments: list[str] | None = None) -> None:
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["--process"]:
        process(given[1], int(given[2]), int(given[3]), float(given[4]))
    else:
        run(measure, arguments)


if __name__ == "__main__":
    main()
