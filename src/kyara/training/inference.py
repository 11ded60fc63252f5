"""Inference that fills a device: batch sizes, asynchronous copies, and reproducible kernels."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

SMALL = 4  # Number of pictures in the batch whose memory is measured
SHARE = 0.5  # Share of the free memory that a batch may need: other processes, and fragmentation, take some of it


def fit_batch(run: Callable[[int], object], device: torch.device, *, cpu: int, most: int) -> int:
    """The number of pictures in a batch: `cpu` unless `device` is a GPU. There it is the largest power of two, at most
    `most`, that fits its free memory; `run` computes a batch of that size, of which the peak memory is measured. Raises
    torch.OutOfMemoryError if not even one picture fits."""
    if device.type != "cuda":
        return cpu
    small = _run_halving(run, min(SMALL, most))  # also allocates what is allocated only once
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run(small)
    needed = max(torch.cuda.max_memory_allocated(device) - before, 1) / small  # bytes per picture
    free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    fitting = max(int(SHARE * free / needed), 1)
    return _run_halving(run, min(max(small, 2 ** int(math.log2(fitting))), most))


def _run_halving(run: Callable[[int], object], size: int) -> int:
    """Runs a batch of `size` pictures, or of half as many as long as the memory is too small. Returns its size."""
    while True:
        try:
            run(size)
            return size
        except torch.OutOfMemoryError:
            if size == 1:
                raise
        torch.cuda.empty_cache()  # outside the handler, whose traceback keeps the tensors alive
        size //= 2


def run_split(run: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """`run(*inputs)`, one half of the batch after the other as long as the memory of the GPU is too small."""
    try:
        return run(*inputs)
    except torch.OutOfMemoryError:
        if len(inputs[0]) == 1:
            raise
    torch.cuda.empty_cache()
    halves = zip(*(tensor.chunk(2) for tensor in inputs), strict=True)
    return torch.cat([run_split(run, *half) for half in halves])


def move(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on `device`. A copy from the CPU to a GPU is asynchronous, from pinned memory."""
    upload = device.type == "cuda" and not tensor.is_cuda
    return tensor.pin_memory().to(device, non_blocking=True) if upload else tensor.to(device)


def start_copy(*tensors: Tensor) -> Callable[[], list[Tensor]]:
    """Starts to copy tensors of one device to the CPU. The returned function waits for the copies and returns them; a
    GPU can compute the next batch in the meantime."""
    if not tensors[0].is_cuda:
        copies = [tensor.cpu() for tensor in tensors]
        return lambda: copies
    copies = [tensor.to("cpu", non_blocking=True) for tensor in tensors]  # into pinned memory
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(tensors[0].device))

    def wait() -> list[Tensor]:
        copied.synchronize()
        return copies

    return wait


def batches_ahead(device: torch.device) -> int:
    """How many batches to start before the results of one are used: a GPU computes while the CPU does something else;
    on a CPU nothing is computed that may not be needed."""
    return 1 if device.type == "cuda" else 0


@contextlib.contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """On a GPU, the same shapes are computed by the same kernels: deterministic ones, not chosen by their speed, in
    float32 without TF32, which has only ten mantissa bits. Restores the settings of PyTorch afterwards."""
    if device.type != "cuda":
        yield
        return
    products = torch.backends.cuda.matmul
    before = products.allow_tf32
    products.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        products.allow_tf32 = before


def device_name(device: torch.device) -> str:
    """The name of a GPU, which decides the last bits of its results, or the kind of any other device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
