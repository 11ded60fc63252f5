"""The predictions of a tagger as a task for `files.shards`: it can be sent to another process."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
import torch

import kyara
from kyara.files.cache import identity
from kyara.files.dataset import Dataset
from kyara.files.pictures import to_float
from kyara.files.shards import Rows, Runner
from kyara.files.workers import batches
from kyara.labels.kinds import Kind
from kyara.labels.tagger import Tagger, load_tagger
from kyara.preparation.focus import focused
from kyara.training.inference import move
from kyara.training.runtime import pick_device

SEARCHED = 1024  # Minimum side to which a large JPEG is reduced before faces are searched in it
Prediction = Mapping[str, tuple[str, float]]  # Attribute -> (most likely value, its probability)


@dataclasses.dataclass(frozen=True)
class TagTask:
    """For each attribute of a tagger the index of the most likely value and its probability, (2 A) float32, NaN for
    unreadable pictures."""

    dataset: Dataset
    model: str  # the tagger
    kind: Kind | None
    focus: bool  # the tagger sees the largest face of a picture
    device: str
    batch: int
    threads: int  # that decode pictures

    def load(self) -> Tagger:
        return load_tagger(self.model, pick_device(self.device), self.kind)

    def measure(self, loaded: Tagger, indices: range) -> Rows:
        def load(i: int) -> np.ndarray:
            # Large JPEGs are decoded at a reduced size.
            picture = self.dataset.picture(i, SEARCHED if self.focus else 2 * max(loaded.size))
            return loaded.fit(focused(picture, loaded.size) if self.focus else picture)

        failed: dict[int, Exception] = {}
        rows = np.full((len(indices), 2 * len(loaded.attributes)), np.nan, np.float32)
        for numbers, pictures in batches(load, indices, batch=self.batch, workers=self.threads, failed=failed):
            on_device = move(torch.from_numpy(np.stack(pictures)), loaded.device)  # (B, H, W, 3) uint8
            found = loaded.probabilities(to_float(on_device))
            best = [found[name].cpu().max(1) for name in loaded.attributes]
            columns = [column for one in best for column in (one.indices, one.values)]
            rows[np.array(numbers) - indices.start] = np.column_stack(columns)
        return Rows(rows, {i: self.dataset.reason(i, error) for i, error in failed.items()})


def predicted(
    task: TagTask, runner: Runner, tagger: Tagger, failed: dict[int, str]
) -> Iterator[tuple[int, Prediction]]:
    """Yields the prediction for each readable picture, in order; the reasons of the others are added to `failed`."""
    key = {
        "data": identity(task.dataset), "tagger": tagger.hash, "kind": task.kind, "attributes": dict(tagger.attributes),
        "focus": task.focus, "batch": task.batch, "version": kyara.__version__,
    }  # fmt: skip
    found = [*runner.run(task, len(task.dataset), name="tags", key=key, loaded=tagger)]
    for indices, shard in sorted(found, key=lambda one: one[0].start):
        failed |= shard.failed
        for i, row in zip(indices, shard.values.tolist(), strict=True):
            if i not in shard.failed:
                values = zip(tagger.attributes.items(), row[::2], row[1::2], strict=True)
                yield i, {name: (names[int(index)], value) for (name, names), index, value in values}
