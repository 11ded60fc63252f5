"""The one training loop.

It counts in pictures and knows no architecture by name: a model brings its players, phases and losses
(kyara.models.base), the Trainer takes the steps, the Recorder writes the run."""

from __future__ import annotations

import itertools

from kyara.training import estimate
from kyara.training.batches import Batches
from kyara.training.distributed import stop_signals
from kyara.training.recorder import Recorder
from kyara.training.run import Run
from kyara.training.trainer import Trainer

TICK = 32  # steps between two readings of the curves; the host waits for the device only then


def fit(trainer: Trainer, batches: Batches, run: Run, *, kimg: float, snap: float, patience: int = 0) -> bool:
    """Trains until `kimg` thousand pictures, with a snapshot every `snap` thousand, or until `patience` snapshots in a
    row were no better (0: never). False if stopped by a signal."""
    options, fabric, total = trainer.options, trainer.fabric, kimg * 1000

    # Resume where an earlier process stopped.
    recorder = Recorder(trainer, run, patience)
    if run.resume and (trainer.nimg >= total or recorder.ended):
        return True

    # Load pictures, and the few that stay the same for sheets and scores.
    recorder.begin(batches.fixed(), total, show_reals=batches.measured is not None)
    stream = batches.stream(options, fabric, trainer.nimg)
    if (total - trainer.nimg) / options.batch >= estimate.WORTH:
        first = next(stream)
        recorder.announce(estimate.time_step(trainer, first))
        stream = itertools.chain([first], stream)

    with recorder, stop_signals(fabric, TICK) as stop:
        if not run.resume:
            recorder.snapshot()  # untrained: a sheet to compare with, and a state to return to

        while trainer.nimg < total and not recorder.ended and not stop(trainer.steps):
            trainer.step(next(stream), progress=trainer.nimg / total)
            recorder.bar.update(options.batch)

            # Log the curves; after too many failures, start again from the last snapshot.
            if trainer.steps % TICK == 0 and recorder.tick():
                stream = batches.stream(options, fabric, trainer.nimg)
                continue

            if trainer.nimg // (snap * 1000) > (trainer.nimg - options.batch) // (snap * 1000):
                recorder.snapshot(scheduled=True)

        # Finished or stopped: either way nothing is lost.
        if recorder.saved != trainer.nimg:
            recorder.snapshot()
    return trainer.nimg >= total or bool(recorder.ended)
