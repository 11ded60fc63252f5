"""Output during training: logs, sample sheets, scores, snapshots, and the state to resume from."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from kyara.files.checkpoint import WEIGHTS, load_training
from kyara.models.base import COLUMNS, Batch, Generator
from kyara.perception.features import BuiltInFrechet, builtin_hash, nearest_ratio
from kyara.training import estimate
from kyara.training.distributed import on_rank_zero, tell, warn
from kyara.training.log import FEATURES, Log
from kyara.training.monitor import CollapseMonitor
from kyara.training.run import STATE, TRACE, Run
from kyara.training.runtime import make_profiler
from kyara.training.stopping import EarlyStop
from kyara.training.trainer import Trainer

FAILURES = 16  # consecutive non-finite steps before training returns to the last snapshot
RETRIES = 3  # maximum number of such returns before an error is raised
SHEET = 64  # pictures on a sample sheet


class Recorder:
    """Writes the Run of a Trainer. Only rank 0 writes, but every rank must make the same calls."""

    def __init__(self, trainer: Trainer, run: Run, patience: int = 0) -> None:
        """Restores the trainer from the saved state if the run is resumed. `ended` is the reason for early stopping, or
        None: see `EarlyStop`."""
        self.trainer, self.run, self.fabric, self.patience = trainer, run, trainer.fabric, patience
        self.monitor, self.best, self.saved = CollapseMonitor(), float("inf"), -1
        self.stopping, self.distance = EarlyStop(), BuiltInFrechet()
        self.ended: str | None = None
        on_rank_zero(self.fabric, lambda: run.begin(trainer.model.config))
        self.profiler = make_profiler(run.folder / TRACE) if run.profile and self.fabric.is_global_zero else None
        if run.resume:
            self.restore()

    def begin(self, measured: Callable[[], Batch], total: float, *, show_reals: bool) -> None:
        """Opens the logs. `measured` makes the batch for evaluation, on rank 0; `total` is the number of pictures to
        train on."""
        on_rank_zero(self.fabric, lambda: self._begin(measured(), show_reals))
        hidden = None if self.fabric.is_global_zero else True  # None: hidden if stderr is not a terminal
        nimg = self._clock_nimg = self.trainer.nimg
        self.bar = tqdm(total=int(total), initial=nimg, unit="img", disable=hidden, smoothing=0.05)
        self._clock = time.perf_counter()

    def _begin(self, measured: Batch, show_reals: bool) -> None:
        self.measured = measured.to(self.trainer.device)
        spread = torch.linspace(0, len(measured.real) - 1, min(SHEET, len(measured.real))).long()  # in order of names
        self.reals = self.measured.real[spread.to(self.trainer.device)]
        self.log = Log(self.run.folder, self.trainer.nimg)
        if show_reals and not self.trainer.nimg:
            self.run.sheet("reals.png", self.reals)

    def __enter__(self) -> Recorder:
        if self.profiler:
            self.profiler.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.profiler:
            self.profiler.__exit__(*error)
        self.bar.close()
        if self.fabric.is_global_zero:
            self.log.close()

    def advance(self) -> None:
        """Counts one step."""
        self.bar.update(self.trainer.options.batch)
        if self.profiler:
            self.profiler.step()

    def tick(self) -> bool:
        """Writes logs and warnings. Returns True if it restored the last snapshot after too many non-finite steps."""
        trainer, seconds = self.trainer, time.perf_counter() - self._clock
        values = trainer.read()
        if self.fabric.is_global_zero:
            if "real_sign" in values and "fake_sign" in values:
                warn(self.monitor.discriminator(values["real_sign"], values["fake_sign"], trainer.nimg))
            self.log.write(trainer.nimg, {**values, "img/s": (trainer.nimg - self._clock_nimg) / seconds})
        self._clock, self._clock_nimg = time.perf_counter(), trainer.nimg
        self.bar.set_postfix({k.removeprefix("loss/"): f"{v:.3g}" for k, v in values.items() if "loss/" in k})
        if not on_rank_zero(self.fabric, lambda: float(trainer.failures) >= FAILURES):
            return False
        self._go_back()
        return True

    def _go_back(self) -> None:
        """Restores the last snapshot and changes the random seed of the next steps."""
        retries = self.trainer.retries + 1
        if retries > RETRIES:
            raise FloatingPointError(
                f"{self.run.folder}: losses or gradients were not finite in {FAILURES} consecutive steps, and the run "
                f"returned to its last snapshot {RETRIES} times; lower lr with --set, or use --precision 32"
            )
        if self.fabric.is_global_zero:
            warn(f"{FAILURES} consecutive steps were not finite: returning to the last snapshot")
        self.restore()
        if self.fabric.is_global_zero:
            self.log.close()
            self.log = Log(self.run.folder, self.trainer.nimg)  # without what was logged after the snapshot
        self.trainer.retries = retries
        self._clock_nimg = self.bar.n = self.trainer.nimg
        self.bar.refresh()

    def announce(self, seconds: float) -> None:
        """Prints the expected time of the rest of the run, from the `seconds` of one step."""
        batch, rest = self.trainer.options.batch, self.bar.total - self.trainer.nimg
        if self.fabric.is_global_zero:
            sooner = ", or less with early stopping" if self.patience else ""
            tell(estimate.sentence(rest, batch, seconds) + sooner)
        self._clock = time.perf_counter()

    def announce_nothing(self) -> None:
        """Prints that the run is long enough already. Why it ended early was printed."""
        if self.fabric.is_global_zero and not self.ended:
            kimg = f"{self.trainer.nimg / 1000:g} kimg"
            tell(f"{self.run.folder} is trained for {kimg} already, so nothing is done; a larger --kimg trains on")

    def snapshot(self, *, scheduled: bool = False, stopped: bool = False) -> None:
        """Writes samples, scores, a snapshot of the weights, and the state to resume from: that also before the scores
        if the run was `stopped`, since they take up to minutes, and who stopped it may kill it meanwhile."""
        state = self.trainer.state_dict()
        if stopped:
            on_rank_zero(self.fabric, lambda: self._save_state(state))
        self.ended = on_rank_zero(self.fabric, lambda: self._snapshot(state, scheduled))
        self.saved = self.trainer.nimg

    def _save_state(self, state: dict[str, Any]) -> None:
        monitor, stopping = dataclasses.asdict(self.monitor), dataclasses.asdict(self.stopping)
        scored = {"best": self.best, "stopping": stopping, FEATURES: builtin_hash()}
        self.run.save_state({**state, "monitor": monitor, **scored})

    def _snapshot(self, state: dict[str, Any], scheduled: bool) -> str | None:
        model, nimg = self.trainer.model, self.trainer.nimg
        name = self.run.snapshot_name(nimg)
        model.eval()
        with torch.no_grad():
            scores, sheet = model.measure(self.measured, self.distance), model.preview(self.measured[:SHEET])
        model.train()
        if sheet is not None:
            by_value = isinstance(model, Generator) and bool(model.config.data.attributes)
            self.run.sheet(f"fakes{name}.png", sheet, COLUMNS if by_value else None)
            if isinstance(model, Generator) and len(self.measured.real) > 1:  # one picture has no diversity
                scores["diversity"] = self._diversity(model, sheet)
                if self.patience:
                    with torch.no_grad():
                        scores["nearest"] = nearest_ratio(sheet, self.measured.real)
        if scheduled:
            self.stopping.read(scores)
        self.run.snapshot(name, model, nimg, scores, best=self._is_best(scores))
        self.log.write(nimg, {**{f"score/{key}": value for key, value in scores.items()}, FEATURES: builtin_hash()})
        self._save_state(state)
        tell(f"{nimg / 1000:g} kimg: " + ", ".join(f"{key} {value:.4g}" for key, value in scores.items()))
        return self._reason()

    def _reason(self) -> str | None:
        """Why the run needs no more steps, which it also says."""
        if reason := self.stopping.reason(self.patience):
            tell(f"ended: {reason}")
        return reason

    def _is_best(self, scores: dict[str, float]) -> bool:
        """Whether these weights are the best of the run: the first score is the lowest so far. Untrained weights never
        replace others."""
        if not self.trainer.nimg:
            return not (self.run.folder / WEIGHTS).is_file()
        score = next(iter(scores.values()), -float(self.trainer.nimg))
        best = score <= self.best or self.best == float("inf")
        self.best = min(self.best, score)
        return best

    def _diversity(self, model: Generator, sheet: Tensor) -> float:
        """Diversity of the samples relative to real pictures; warns of mode collapse."""
        nimg, reals, attributes = self.trainer.nimg, self.reals, model.config.data.attributes
        ratio, message = self.monitor.diversity(sheet, reals, nimg)
        if model.augments:  # the advice is for a discriminator
            warn(message)
        if attributes:
            conditions = [(name, attributes[name][label]) for name, label in model.shown_values()]
            spread, by_value = self.monitor.values(sheet.unflatten(0, (-1, COLUMNS)), conditions, reals, nimg)
            warn(None if message else by_value)
            self.log.write(nimg, {f"diversity/{name}": share for name, share in spread.items()})
        return ratio

    def restore(self) -> None:
        """Restores the state of the last snapshot, which rank 0 reads: other machines may not have the folder."""
        state = on_rank_zero(self.fabric, lambda: load_training(self.run.folder / STATE))
        self.trainer.load_state_dict(state)
        self.saved = self.trainer.nimg
        self.ended = on_rank_zero(self.fabric, lambda: self._restore_scores(state))

    def _restore_scores(self, state: dict[str, Any]) -> str | None:
        self.monitor = CollapseMonitor(**state["monitor"])
        if state.get(FEATURES) == builtin_hash() or next(iter(self.run.scores()), None) != "frechet":
            self.best, self.stopping = state["best"], EarlyStop(**state.get("stopping", {}))
        else:  # of another version of Kyara: its distances are no measure for new ones
            self.best, self.stopping = float("inf"), EarlyStop()
            tell(f"{self.run.folder} was scored in other features: the best snapshot is chosen among new ones")
        return self._reason()
