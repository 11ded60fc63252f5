"""The painter's thread: it ends with the server, whoever waits for it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from kyara.app.painter import STOPPED, Painter, Sheet
from kyara.app.project import Project


def test_closing_answers_everyone_who_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kyara.app.painter.ENDS", 0.2)
    painter, begun, end = Painter(Project(tmp_path), torch.device("cpu")), threading.Event(), threading.Event()

    def long() -> None:
        begun.set()
        end.wait(60)

    with ThreadPoolExecutor() as workers:
        running = workers.submit(painter.call, long)
        assert begun.wait(20)
        picture = painter.start(Sheet("builtin:anime", 0.7), {"seed": 1, "labels": {}}, "a")
        waiting = workers.submit(painter.call, lambda: None)
        while len(painter._awaited) < 3:
            pass
        painter.close()
        for future in (running, waiting, picture):
            with pytest.raises(ValueError, match=STOPPED):
                future.result(20)
        for late in (lambda: painter.call(lambda: None), lambda: painter.start(Sheet("m", 1.0), {}, "b")):
            with pytest.raises(ValueError, match=STOPPED):
                late()
        end.set()
    painter._thread.join(20)
    assert not painter._thread.is_alive()
