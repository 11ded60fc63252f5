"""The code around CUDA graphs, with a stand-in that does the work again at a replay. tests/cuda has the rest."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from kyara.models.base import Batch
from kyara.training import graphs
from kyara.training.graphs import WARM_UP, Graphs

weight = torch.nn.Parameter(torch.ones(3))


def work(batch: Batch) -> dict[str, Tensor]:
    loss = (batch.real.mean((0, 2, 3)) * weight).sum()
    loss.backward()
    return {"loss/g": loss.detach()}


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Patches torch.cuda. A function that tells how often a graph was replayed."""
    state: dict[str, Any] = {"replays": 0}

    class Graph:
        def replay(self) -> None:
            state["replays"] += 1
            captured, fixed = state["captured"]
            kept, weight.grad = weight.grad, None
            for name, value in work(captured).items():
                fixed[name].copy_(value)
            state["gradient"].copy_(weight.grad)
            weight.grad = kept

    @contextlib.contextmanager
    def capture(*_: Any, **__: Any) -> Iterator[None]:
        yield

    def recorded(self: Graphs, name: str, parameters: Any, function: Any, batch: Batch) -> Any:
        graph = original(self, name, parameters, function, batch)
        if graph:
            state.update(captured=(graph.batch, graph.outputs), gradient=graph.gradients[0][1])
        return graph

    original = Graphs._capture
    monkeypatch.setattr(Graphs, "_capture", recorded)
    stream = SimpleNamespace(wait_stream=lambda _: None)
    for name, value in {
        "CUDAGraph": Graph, "graph": capture, "Stream": lambda *_: stream, "set_stream": lambda *_: None,
        "current_stream": lambda *_: None, "graph_pool_handle": lambda: None, "synchronize": lambda *_: None,
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)
    return lambda: int(state["replays"])


def batch(value: float) -> Batch:
    return Batch(torch.full((2, 3, 4, 4), float(value)))


def test_a_replay_reads_the_new_batch_and_adds_gradients(stand_in: Callable[[], int]) -> None:
    runner = Graphs(torch.device("cpu"))
    for step in range(WARM_UP + 3):
        weight.grad = None
        for value in (step, 10.0 + step):  # two micro-batches
            outputs = runner.run("g", False, [weight], work, batch(value))
            assert float(outputs["loss/g"]) == pytest.approx(3 * value)
        assert weight.grad is not None and weight.grad.tolist() == pytest.approx([10 + 2 * step] * 3)
    assert stand_in() == 2 * (WARM_UP + 3) - WARM_UP


def test_the_gradients_of_one_micro_batch_are_not_copied(
    stand_in: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = Graphs(torch.device("cpu"))
    for step in range(WARM_UP + 3):
        weight.grad = None
        runner.run("g", False, [weight], work, batch(step), alone=True)
        assert weight.grad is not None and weight.grad.tolist() == pytest.approx([step] * 3)
    (graph,) = runner.graphs.values()
    assert graph is not None and weight.grad is graph.gradients[0][1] and stand_in() == 3


def test_another_size_or_augmentation_has_a_graph_of_its_own(stand_in: Callable[[], int]) -> None:
    runner = Graphs(torch.device("cpu"))
    for _ in range(WARM_UP + 1):
        runner.run("g", False, [weight], work, batch(1))
    assert len(runner.graphs) == 1
    runner.run("g", True, [weight], work, batch(1))
    assert len(runner.graphs) == 1  # not yet: warming up
    for _ in range(WARM_UP):
        runner.run("g", True, [weight], work, batch(1))
    assert len(runner.graphs) == 2


def test_what_cannot_be_captured_runs_as_it_is(
    stand_in: Callable[[], int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuses(*_: Any, **__: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(graphs.torch.cuda, "graph", refuses)
    runner = Graphs(torch.device("cpu"))
    for _ in range(WARM_UP + 3):
        weight.grad = None
        runner.run("d", False, [weight], work, batch(2))
        assert weight.grad is not None and weight.grad.tolist() == [2.0] * 3
    assert capsys.readouterr().err.count("phase d runs without a CUDA graph") == 1 and not stand_in()
