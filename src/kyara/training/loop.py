"""The one training loop.

It counts in pictures and knows no architecture by name: a model brings its players, phases and losses
(kyara.models.base), the Trainer takes the steps, the Recorder writes the run."""

from __future__ import annotations

from kyara.training.batches import Batches
from kyara.training.distributed import stop_signals
from kyara.training.recorder import Recorder
from kyara.training.run import Run
from kyara.training.trainer import Trainer

TICK = 32  # steps between two readings of the curves; the host waits for the device only then


def fit(trainer: Trainer, batches: Batches, run: Run, *, kimg: float, snap: float) -> bool:
    """Trains until `kimg` thousand pictures, with a snapshot every `snap` thousand. False if stopped by a signal."""
    options, fabric, total = trainer.options, trainer.fabric, kimg * 1000

    # Resume where an earlier process stopped.
    recorder = Recorder(trainer, run)
    if run.resume and trainer.nimg >= total:
        return True

    # Load pictures, and the few that stay the same for sheets and scores.
    recorder.begin(batches.fixed, total, show_reals=batches.measured is not None)
    stream = batches.stream(options, fabric, trainer.nimg)

    with recorder, stop_signals(fabric, TICK) as stop:
        if not run.resume:
            recorder.snapshot()  # untrained: a sheet to compare with, and a state to return to

        while trainer.nimg < total and not stop(trainer.steps):
            trainer.step(next(stream), progress=trainer.nimg / total)
            recorder.bar.update(options.batch)

            # Log the curves; after too many failures, start again from the last snapshot.
            if trainer.steps % TICK == 0 and recorder.tick():
                stream = batches.stream(options, fabric, trainer.nimg)
                continue

            if trainer.nimg // (snap * 1000) > (trainer.nimg - options.batch) // (snap * 1000):
                recorder.snapshot()

        # Finished or stopped: either way nothing is lost.
        if recorder.saved != trainer.nimg:
            recorder.snapshot()
    return trainer.nimg >= total
