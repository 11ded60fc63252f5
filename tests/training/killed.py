"""Run by test_resume.py: kills a run at every point where it writes, and in the middle of a step, and resumes it.

python killed.py MODEL DATA RUN
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from kyara import models
from kyara.files import checkpoint
from kyara.training import trainer
from kyara.training.train import train

KIMG = 0.096
"""Four snapshots, with three steps between two."""


def killer(function: Callable[..., Any], call: int, *, before: bool) -> Callable[..., Any]:
    """`function`, whose n-th call ends the process."""
    count = 0

    def wrapped(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == call and before:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **options)
        if count == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return wrapped


def go(model: str, data: Path, run: Path) -> None:
    train(model, data, out=run, kimg=KIMG, preset="tiny", workers=0, precision="32", snap=0.024)


def killed(model: str, data: Path, run: Path, patch: Callable[[], None]) -> bool:
    """Whether a child that trains with what `patch` sets up was killed."""
    child = os.fork()
    if child == 0:
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123
        patch()
        go(model, data, run)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def check(run: Path) -> None:
    """Whatever is there can be loaded."""
    for folder in [run, *(run / "snapshots").glob("[0-9]*")]:
        if (folder / "config.json").exists() and (folder / "model.safetensors").exists():
            models.load(folder)
    if (run / "training.pt").exists():
        checkpoint.load_training(run / "training.pt")


def at_rename(call: int, before: bool) -> Callable[[], None]:
    """Sets up a kill before or after the n-th file is renamed to its final name."""

    def patch() -> None:
        Path.replace = killer(Path.replace, call, before=before)  # type: ignore[method-assign]

    return patch


def at_update(call: int) -> Callable[[], None]:
    """Sets up a kill after the n-th optimiser step, in the middle of a step of several phases."""

    def patch() -> None:
        trainer.update = killer(trainer.update, call, before=False)

    return patch


def main(model: str, data: Path, run: Path) -> None:
    torch.set_num_threads(1)
    go(model, data, run)
    whole = checkpoint.load_training(run / "training.pt")
    names = sorted(path.name for path in (run / "snapshots").iterdir())
    shutil.rmtree(run)
    kills = 0
    for point in [at_rename(call, call % 2 == 0) for call in range(1, 12)] + [at_update(call) for call in (3, 8)]:
        kills += killed(model, data, run, point)
        check(run)
    go(model, data, run)
    state = checkpoint.load_training(run / "training.pt")
    assert state["nimg"] == whole["nimg"]
    assert all(torch.equal(state["model"][key], tensor) for key, tensor in whole["model"].items())
    assert sorted(path.name for path in (run / "snapshots").iterdir()) == names
    assert not list(run.rglob(".*.tmp"))
    print("kills", kills)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
