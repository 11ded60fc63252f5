"""The scores of a dataset as a task for `files.shards`: it can be sent to another process."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

import kyara
from kyara.curation.content import Judge
from kyara.curation.judging import By, Judged, judged, measure_of
from kyara.curation.scoring import load_scorer, measure_all
from kyara.files import shards
from kyara.files.cache import identity
from kyara.files.dataset import Dataset
from kyara.files.shards import Rows, Runner
from kyara.models.base import Scorer
from kyara.training.runtime import pick_device


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What a process has loaded."""

    scorer: Scorer
    judge: Judge | None  # the owner's
    contents: dict[int, bytes] | None = None  # files that were read are kept here, up to a limit


@dataclasses.dataclass(frozen=True)
class JudgeTask:
    """Rows of `judging.measure_of`, NaN for unreadable pictures."""

    dataset: Dataset
    model: str  # the scorer
    by: By
    judge: Judge | None  # the owner's, on the CPU
    check_style: bool
    device: str
    batch: int
    threads: int  # that decode pictures

    def load(self) -> Loaded:
        device = pick_device(self.device)
        return Loaded(load_scorer(self.model, device), moved(self.judge, device))

    def measure(self, loaded: Loaded, indices: range) -> Rows:
        failed: dict[int, Exception] = {}
        measure = measure_of(loaded.scorer, by=self.by, judge=loaded.judge, check_style=self.check_style)
        values = measure_all(
            self.dataset, loaded.scorer, measure, batch=self.batch, workers=self.threads, failed=failed,
            contents=loaded.contents, indices=indices,
        )  # fmt: skip
        return Rows(values, {i: self.dataset.reason(i, error) for i, error in failed.items()})


def judged_in_shards(task: JudgeTask, runner: Runner, loaded: Loaded) -> tuple[Judged, dict[int, str]]:
    """The scores of a dataset, and the reasons why pictures have none."""
    key = {
        "data": identity(task.dataset), "scorer": loaded.scorer.checkpoint.hash, "by": task.by, "batch": task.batch,
        "judge": None if task.judge is None else digest(task.judge), "check_style": task.check_style,
        "version": kyara.__version__,
    }  # fmt: skip
    found = shards.joined(runner.run(task, len(task.dataset), name="scores", key=key, loaded=loaded))
    return judged(found.values, by=task.by), dict(found.failed)


def digest(judge: Judge) -> str:
    """A hash of the pictures of the owner that a Judge compares with."""
    known = judge.reference.known
    return hashlib.sha256(b"".join(known[part].cpu().numpy().tobytes() for part in sorted(known))).hexdigest()


def moved(value: Any, device: str | torch.device) -> Any:
    """A dataclass of tensors, mappings and further dataclasses, on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: moved(item, device) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: moved(getattr(value, field.name), device) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **fields)
    return value
