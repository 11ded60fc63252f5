"""Run by test_distributed.py: a training run by two processes, of which one starts seconds later, waits in between, and
has another clock.

python late.py RANK KIMG DATA RUN
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from kyara.training import trainer
from kyara.training.train import train

ARGUMENTS: dict[str, Any] = {
    "preset": "tiny", "workers": 0, "precision": "32", "snap": 0.048, "patience": 1, "device": "cpu"
}  # fmt: skip
LATE = 2.0  # seconds


def delay() -> None:
    """Makes this process slow, and its clock fast."""
    update, clock = trainer.update, time.perf_counter

    def slow(*arguments: Any) -> Any:
        time.sleep(0.05)
        return update(*arguments)

    trainer.update = slow
    time.perf_counter = lambda: 1e6 * clock()
    time.sleep(LATE)


if __name__ == "__main__":
    torch.set_num_threads(1)
    rank, kimg, data, run = int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
    if int(os.environ.get("LOCAL_RANK", 0)) == rank:
        delay()
    train("mlp", data, out=run, kimg=kimg, devices=2, **ARGUMENTS)
