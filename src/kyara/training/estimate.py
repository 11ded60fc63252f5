"""How long a run will take, before it begins."""

from __future__ import annotations

import copy
import time

from kyara.models.base import Batch
from kyara.training.trainer import Trainer, random_state, set_random_state

WORTH = 100  # steps from which on an estimate is worth the three steps that it costs


def time_step(trainer: Trainer, batch: Batch) -> float:
    """Seconds of one step without regularisation, the faster of two after a first one, which is slow. Undoes these
    steps, as resuming does. Every rank must call it."""
    state, random = copy.deepcopy(trainer.state_dict()), random_state(trainer.device)
    took = []
    for _ in range(3):
        trainer.steps = 1  # at step 0 everything is due
        began = time.perf_counter()
        trainer.step(batch)
        float(trainer.failures)  # waits for the device
        took.append(time.perf_counter() - began)
    trainer.load_state_dict(state)
    set_random_state(trainer.device, random)
    return min(took[1:])


def sentence(pictures: float, batch: int, seconds: float) -> str:
    """How long so many pictures take, if a step takes so many seconds."""
    took = describe(pictures / batch * seconds)
    return f"about {took} for {pictures / 1000:g} kimg, at {batch / seconds:.3g} pictures a second"


def describe(seconds: float) -> str:
    """A duration in words, two digits at most."""
    for unit, size in (("day", 86400.0), ("hour", 3600.0), ("minute", 60.0)):
        if seconds >= 1.5 * size:
            number = float(f"{seconds / size:.2g}")
            return f"{number:g} {unit}s"
    return "a minute"
