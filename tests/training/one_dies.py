"""Run by test_distributed.py: a training run by several processes, of which one is killed, or fails alone.

python one_dies.py RANK HOW DATA RUN [PROCESSES]
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from kyara.training import peers, trainer
from kyara.training.train import train

CALLS = 30  # updates until it happens: 15 steps of two phases, the first snapshot is after 12
DIED = "died"  # a file of the run folder, or before there is one of the folder that it is in, written when it happens
LAUNCH = "launch", "connect"  # ways of dying before there is a run
ARGUMENTS: dict[str, Any] = {"preset": "tiny", "workers": 0, "precision": "32", "snap": 0.096, "device": "cpu"}


def fail(how: str) -> None:
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "alone":
        raise OSError("disk: full")
    raise RuntimeError("out of memory\nwith details")


def set_up(step: str) -> None:
    """Sets up that this process dies at a step of the launch."""

    def die(*arguments: Any, **options: Any) -> None:
        (Path(sys.argv[4]).parent / DIED).touch()
        fail("killed")

    if step == LAUNCH[0]:
        torch.distributed.init_process_group = die
    else:
        peers.Client = peers.Listener = die


def main(rank: int, how: str, data: Path, run: Path, devices: int = 2) -> None:
    update, calls = trainer.update, 0

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == CALLS:
            (run / DIED).touch()
            fail(how)
        return update(*arguments)

    if int(os.environ.get("LOCAL_RANK", 0)) == rank:
        if how in LAUNCH:
            set_up(how)
        trainer.update = counted
    try:
        train("mlp", data, out=run, kimg=100, batch=4 * devices, devices=devices, **ARGUMENTS)
    except OSError as error:
        sys.exit(f"kyara train: {error}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), *map(int, sys.argv[5:]))
