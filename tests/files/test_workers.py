"""Threads that prefetch, and items taken in advance."""

from __future__ import annotations

import threading

import pytest

from kyara.files.workers import lookahead, thread_map


@pytest.mark.parametrize("count", [0, 1, 3, 9])
def test_items_are_taken_in_advance(count: int) -> None:
    taken: list[int] = []

    def items() -> list[int]:
        return [1, 2, 3, 4]

    ahead = [(item, len(taken)) for item in lookahead((taken.append(i) or i for i in items()), count)]
    assert [item for item, _ in ahead] == items()
    assert [many for _, many in ahead] == [min(i + count, 4) for i in items()]


@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_threads_keep_the_order_and_stay_in_bounds(chunk: int) -> None:
    running, most, lock = 0, 0, threading.Lock()
    begun: list[str] = []

    def work(name: str) -> str:
        nonlocal running, most
        with lock:
            running, most = running + 1, max(most, running + 1)
            begun.append(name)
        threading.Event().wait(0.002 if name == "0" else 0)
        with lock:
            running -= 1
        if name == "3":
            raise KeyError(name)
        return name + name

    found = []
    for name, result in thread_map(work, map(str, range(40)), workers=3, depth=5, chunk=chunk):
        assert len(begun) <= int(name) + 1 + 5 + chunk
        found.append(result)
    assert most <= 3 and isinstance(found.pop(3), KeyError)
    assert found == [f"{i}{i}" for i in range(40) if i != 3]
