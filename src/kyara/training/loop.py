"""The training loop, for all architectures.

A model defines its players, phases and losses (kyara.models.base), the Trainer performs the optimiser steps, and the
Recorder writes logs and snapshots. Progress is counted in pictures."""

from __future__ import annotations

import itertools

from kyara.training import estimate
from kyara.training.batches import Batches
from kyara.training.distributed import stop_signals
from kyara.training.recorder import Recorder
from kyara.training.run import Run
from kyara.training.trainer import Trainer

TICK = 32  # interval of logging, in steps; the only host-device synchronisation


def fit(trainer: Trainer, batches: Batches, run: Run, *, kimg: float, snap: float, patience: int = 0) -> bool:
    """Trains for `kimg` thousand pictures in total, with a snapshot every `snap` thousand, or until `patience`
    consecutive snapshots were no better (0: never). Returns False if a signal stopped it."""
    options, fabric, total = trainer.options, trainer.fabric, kimg * 1000

    # Restore the state of an interrupted run.
    recorder = Recorder(trainer, run, patience)
    if run.resume and (trainer.nimg >= total or recorder.ended):
        recorder.announce_nothing()
        return True

    # Load the training data, and the fixed batch for samples and scores.
    recorder.begin(batches.fixed, total, show_reals=batches.measured is not None)
    stream = batches.stream(options, fabric, trainer.nimg)
    if (total - trainer.nimg) / options.batch >= estimate.WORTH:
        first = next(stream)
        recorder.announce(estimate.time_step(trainer, first))
        stream = itertools.chain([first], stream)

    with recorder, stop_signals(fabric, TICK) as stop:
        if not run.resume:
            recorder.snapshot()  # initial samples for comparison, and a state to return to

        while trainer.nimg < total and not recorder.ended and not stop(trainer.steps):
            trainer.step(next(stream), progress=trainer.nimg / total)
            recorder.advance()

            # Write logs; after too many non-finite steps, return to the last snapshot.
            if trainer.steps % TICK == 0 and recorder.tick():
                stream = batches.stream(options, fabric, trainer.nimg)
                continue

            if trainer.nimg // (snap * 1000) > (trainer.nimg - options.batch) // (snap * 1000):
                recorder.snapshot(scheduled=True)

        # Save the final state, whether training finished or was stopped.
        if recorder.saved != trainer.nimg:
            recorder.snapshot(stopped=trainer.nimg < total)
    return trainer.nimg >= total or bool(recorder.ended)
