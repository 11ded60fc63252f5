"""Inference: batches that fit a GPU's memory, here a pretended one, and settings that are restored."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from kyara.training.inference import batches_ahead, device_name, fit_batch, move, reproducible, run_split, start_copy

CPU, GPU = torch.device("cpu"), torch.device("cuda")
MIB = 2**20


class Memory:
    """A GPU with `free` bytes, of which a picture needs `each`; a batch larger than `most` fails all the same."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free: int, each: int, most: int = 10**9) -> None:
        self.free, self.each, self.most = free, each, most
        self.ran: list[int] = []
        self.peak = 0
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: setattr(self, "peak", 0))
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: self.peak)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (self.free, 2 * self.free))
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)

    def run(self, count: int) -> None:
        if count > self.most or count * self.each > self.free:
            raise torch.OutOfMemoryError
        self.ran.append(count)
        self.peak = max(self.peak, count * self.each)


def test_a_cpu_has_a_fixed_batch_and_computes_nothing() -> None:
    def fail(count: int) -> None:
        raise AssertionError

    assert fit_batch(fail, CPU, cpu=8, most=64) == 8
    assert (batches_ahead(CPU), batches_ahead(GPU)) == (0, 1)
    assert device_name(CPU) == "cpu"


@pytest.mark.parametrize(
    ("free", "each", "expected"),
    [(10_000, 1, 64), (100, 1, 32), (64, 4, 8), (9, 3, 2), (3, 2, 1)],
)
def test_a_batch_fits_half_of_the_free_memory(
    monkeypatch: pytest.MonkeyPatch, free: int, each: int, expected: int
) -> None:
    memory = Memory(monkeypatch, free * MIB, each * MIB)
    assert fit_batch(memory.run, GPU, cpu=8, most=64) == expected == memory.ran[-1]


def test_a_batch_is_halved_if_the_estimate_was_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(monkeypatch, 10_000 * MIB, MIB, most=20)
    assert fit_batch(memory.run, GPU, cpu=8, most=64) == 16
    nothing = Memory(monkeypatch, MIB, 2 * MIB)
    with pytest.raises(torch.OutOfMemoryError):
        fit_batch(nothing.run, GPU, cpu=8, most=64)


def test_a_batch_that_does_not_fit_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    sizes = []

    def run(a: Tensor, b: Tensor) -> Tensor:
        sizes.append(len(a))
        if len(a) > 3:
            raise torch.OutOfMemoryError
        return a + b

    a, b = torch.arange(9), torch.arange(9) * 10
    assert torch.equal(run_split(run, a, b), a + b)
    assert sizes == [9, 5, 3, 2, 4, 2, 2]

    def fail(a: Tensor) -> Tensor:
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        run_split(fail, a)


def test_copies_on_the_cpu_are_the_tensors() -> None:
    x = torch.rand(3)
    assert move(x, CPU) is x
    (copied,) = start_copy(x)()
    assert torch.equal(copied, x)


@pytest.fixture
def fast() -> Iterator[None]:
    """Settings that trade bits for speed."""
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.benchmark, products.allow_tf32
    cudnn.benchmark = products.allow_tf32 = True
    yield
    cudnn.benchmark, products.allow_tf32 = before


@pytest.mark.usefixtures("fast")
def test_kernels_are_reproducible_and_settings_restored() -> None:
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.deterministic, cudnn.allow_tf32
    with reproducible(CPU):
        assert cudnn.benchmark and products.allow_tf32
    with pytest.raises(KeyError), reproducible(GPU):
        assert cudnn.deterministic and not (cudnn.benchmark or cudnn.allow_tf32 or products.allow_tf32)
        raise KeyError
    assert cudnn.benchmark and products.allow_tf32 and (cudnn.deterministic, cudnn.allow_tf32) == before
