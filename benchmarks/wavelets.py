"""What the wavelets of StyleGAN2 cost: pictures per second of training at 64 px, at 128 px on wavelets, and at 128 px.

    python benchmarks/wavelets.py [--batch 16] [--rounds 5] [--busy]

The three alternate in this process. All have the channels of `builtin:character`.
"""

from __future__ import annotations

import statistics
from functools import partial
from typing import Any

import torch
from common import interleaved, machine, pick_clock, print_table, ratio, run

from kyara.models import stylegan2
from kyara.models.base import Batch
from kyara.training.runtime import pick_precision
from kyara.training.trainer import Options, Trainer

NETWORKS = {"64 px": (64, 0), "128 px, wavelets=1": (128, 1), "128 px": (128, 0)}


def step(trainer: Trainer, batch: Batch) -> None:
    trainer.steps = 1  # without regularisation, as 15 of 16 steps
    trainer.step(batch)


def measure(batch: int = 16, rounds: int = 5, busy: bool = False, channel_max: int = 128) -> None:
    """Prints a table.

    Args:
        batch: Pictures in one step.
        rounds: Rounds of the measurement.
        busy: One thread and processor time, for a machine with other load.
        channel_max: Maximum number of channels.
    """
    clock, precision = pick_clock(busy), pick_precision("auto", torch.device("cpu"))
    calls = {}
    for name, (size, wavelets) in NETWORKS.items():
        torch.manual_seed(0)
        network: Any = {"channel_base": 16 * channel_max, "channel_max": channel_max, "wavelets": wavelets}
        config = stylegan2.PRESETS["two-core"].replace(data={"width": size, "height": size}, network=network)
        trainer = Trainer(stylegan2.Model(config), Options(batch, batch, augment="none", precision=precision))
        calls[name] = partial(step, trainer, Batch(torch.rand(batch, 3, size, size) * 2 - 1))
    print(machine(), flush=True)
    seconds = interleaved(calls, rounds, clock)
    rows = {
        name: {"img/s": batch / statistics.median(times), "of the speed at 64 px": ratio(seconds["64 px"], times)}
        for name, times in seconds.items()
    }
    print_table(rows, f"batch {batch}")


def main(arguments: list[str] | None = None) -> None:
    run(measure, arguments)


if __name__ == "__main__":
    main()
