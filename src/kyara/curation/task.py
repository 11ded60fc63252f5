"""The scores of a dataset as a task for `files.shards`: it can be sent to another process."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import kyara
from kyara.curation.content import Judge
from kyara.curation.judging import By, Judged, judged, measure_of
from kyara.curation.scoring import load_scorer, measure_all
from kyara.curation.sources import open_pictures
from kyara.files import shards
from kyara.files.dataset import Dataset
from kyara.files.shards import Engine, Rows
from kyara.models.base import Scorer
from kyara.training.runtime import pick_device


@dataclasses.dataclass(frozen=True)
class Opened:
    """What a process has loaded already."""

    scorer: Scorer
    dataset: Dataset
    contents: dict[int, bytes] | None = None  # files that were read are kept here, up to a limit


@dataclasses.dataclass(frozen=True)
class JudgeTask:
    """Rows of `judging.measure_of` for the pictures of `sources`."""

    sources: tuple[Path, ...]
    model: str  # the scorer
    by: By
    judge: Judge | None  # the owner's
    check_style: bool
    device: str
    batch: int
    threads: int  # that decode pictures
    opened: Opened | None = None  # for this process
    torch_threads: int = dataclasses.field(default_factory=torch.get_num_threads)
    """Threads that compute: with another number the last digits may differ."""

    def start(self) -> Callable[[range], Rows]:
        torch.set_num_threads(self.torch_threads)
        device = pick_device(self.device)
        here = self.opened or Opened(load_scorer(self.model, device), open_pictures(*self.sources))
        scorer, dataset = here.scorer, here.dataset
        judge = None if self.judge is None else moved(self.judge, device)

        def rows(indices: range) -> Rows:
            failed: dict[int, Exception] = {}
            measure = measure_of(scorer, by=self.by, judge=judge, check_style=self.check_style)
            values = measure_all(
                dataset, scorer, measure, batch=self.batch, workers=self.threads, failed=failed,
                contents=here.contents, indices=indices,
            )  # fmt: skip
            return Rows(values, {i: dataset.reason(i, error) for i, error in failed.items()})

        return rows

    def for_other_processes(self) -> JudgeTask:
        """A copy that can be pickled on any machine."""
        judge = None if self.judge is None else moved(self.judge, torch.device("cpu"))
        return dataclasses.replace(self, judge=judge, opened=None)


def judged_in_shards(
    task: JudgeTask, dataset: Dataset, scorer: Scorer, *, engine: Engine, processes: int, folder: Path
) -> tuple[Judged, dict[int, str]]:
    """The scores of a dataset, that of `task.sources`, and the reasons why pictures have none; see `files.shards.run`.
    The caller removes the shards in `folder`."""
    key = {
        "data": dataset.fingerprint, "scorer": scorer.checkpoint.hash, "by": task.by, "batch": task.batch,
        "judge": None if task.judge is None else digest(task.judge), "version": kyara.__version__,
    }  # fmt: skip
    sent = task if engine == "local" else task.for_other_processes()
    found = shards.run(sent, len(dataset), engine=engine, processes=processes, folder=folder, key=key)
    return judged(found.values, by=task.by), dict(found.failed)


def digest(judge: Judge) -> str:
    """A hash of the pictures of the owner that a Judge compares with."""
    known = judge.reference.known
    return hashlib.sha256(b"".join(known[part].cpu().numpy().tobytes() for part in sorted(known))).hexdigest()


def moved(value: Any, device: torch.device) -> Any:
    """A dataclass of tensors, mappings and further dataclasses, on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: moved(item, device) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: moved(getattr(value, field.name), device) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **fields)
    return value
