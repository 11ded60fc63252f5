"""How long a run will take, before it begins."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence

from kyara.models.base import Batch
from kyara.training.graphs import WARM_UP
from kyara.training.trainer import Trainer, random_state, set_random_state

WORTH = 100  # steps from which on an estimate is worth the three to nine steps that it costs
LATE = 10**6  # a step that is past what a model does at the beginning only


def time_step(trainer: Trainer, batch: Batch) -> float:
    """Seconds of a step on average: of one late in a run, and of each regularisation divided by its interval. Undoes
    the steps that it takes, as resuming does. Every rank must call it."""
    state, random = copy.deepcopy(trainer.state_dict()), random_state(trainer.device)
    intervals = sorted({trainer.model.reg_interval(phase) for phase in trainer.model.phases} - {0, 1})
    plain = fastest(trainer, batch, late(intervals), 3)
    costs: dict[int, float] = {}
    for interval in intervals:  # at 4 and 16, the rarer one is only due with the other
        step = late(intervals, interval)
        known = plain + sum(cost for other, cost in costs.items() if step % other == 0)
        costs[interval] = max(fastest(trainer, batch, step, 2) - known, 0.0)
    trainer.load_state_dict(state)
    set_random_state(trainer.device, random)
    return plain + sum(cost / interval for interval, cost in costs.items())


def late(intervals: Sequence[int], wanted: int = 1) -> int:
    """A late step that is a multiple of the `wanted` interval, and of as few others as possible."""
    steps = (wanted * (LATE // wanted + i) for i in range(1, 65))
    return min(steps, key=lambda step: sum(step % interval == 0 for interval in intervals))


def fastest(trainer: Trainer, batch: Batch, step: int, times: int) -> float:
    """Seconds of the fastest of some repetitions of a step, after the first, which is slow, or after those that CUDA
    graphs are captured in."""
    took = []
    for _ in range(times + (WARM_UP if trainer.graphs else 0)):
        trainer.steps = step
        began = time.perf_counter()
        trainer.step(batch)
        float(trainer.failures)  # waits for the device
        took.append(time.perf_counter() - began)
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
