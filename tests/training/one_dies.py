"""Run by test_distributed.py: a training run by two processes, of which one is killed, or fails alone.

python one_dies.py RANK HOW DATA RUN
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from kyara.training import trainer
from kyara.training.train import train

CALLS = 30  # updates until it happens: 15 steps of two phases, the first snapshot is after 12
DIED = "died"  # a file of the run folder, written when it happens
ARGUMENTS: dict[str, Any] = {"preset": "tiny", "workers": 0, "precision": "32", "snap": 0.096, "device": "cpu"}


def fail(how: str) -> None:
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "alone":
        raise OSError("disk: full")
    raise RuntimeError("out of memory\nwith details")


def main(rank: int, how: str, data: Path, run: Path) -> None:
    update, calls = trainer.update, 0

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == CALLS:
            (run / DIED).touch()
            fail(how)
        return update(*arguments)

    if int(os.environ.get("LOCAL_RANK", 0)) == rank:
        trainer.update = counted
    try:
        train("mlp", data, out=run, kimg=100, devices=2, **ARGUMENTS)
    except OSError as error:
        sys.exit(f"kyara train: {error}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
