"""Copies: for each picture the most similar ones of a dataset, by the descriptors of `builtin:copy`.

The descriptors of a dataset are its index, a file that is mapped into memory. The search is exact: blocks of pictures
times blocks of the index, so that neither has to fit into memory."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kyara.curation.scoring import BATCH, GPU_BATCH, Measure, measure_batches
from kyara.files.cache import identity, mapped
from kyara.files.dataset import Dataset
from kyara.files.errors import DatasetError, PictureError
from kyara.files.gallery_page import COPY, COPY_OF
from kyara.models import load
from kyara.models.base import Descriptor
from kyara.training.inference import reproducible

MODEL = "builtin:copy"
NEAREST = 10
BLOCK, QUERIES = 8192, 2048  # rows of the index and pictures that are compared at once
NONE = -2.0  # similarity where there is no picture; others are at least -1


class Nearest(NamedTuple):
    """The most similar pictures of a dataset, the nearest first."""

    indices: np.ndarray  # (N, K) int64
    similarity: np.ndarray  # (N, K) float32, cosines; `NONE` where there is no picture


@dataclasses.dataclass(frozen=True)
class Originals:
    """The pictures of a dataset that others may be copies of."""

    dataset: Dataset
    nearest: Nearest
    scores: np.ndarray  # (N,) in [0, 1], of the others: `MARK` and more for copies

    def cells(self, i: int) -> dict[str, str]:
        """Columns of the Gallery for the i-th of the others."""
        return {COPY: f"{self.scores[i]:.4f}", COPY_OF: self.dataset.names[self.nearest.indices[i, 0]]}

    def rows(self, i: int) -> list[tuple[str, str]]:
        """Names and similarities of the nearest pictures."""
        found = zip(self.nearest.indices[i], self.nearest.similarity[i], strict=True)
        return [(self.dataset.names[j], f"{similarity:.4f}") for j, similarity in found if similarity > NONE]

    def pictures(self, i: int, count: int, at_least: int) -> list[np.ndarray]:
        """The `count` nearest pictures (H, W, 3) uint8, but for those that cannot be read any more."""
        found = []
        for j in self.nearest.indices[i, :count]:
            with contextlib.suppress(PictureError):
                found.append(self.dataset.picture(j, at_least))
        return found


class Index:
    """The descriptors of a dataset's pictures, from the cache or computed when they are needed."""

    def __init__(self, dataset: Dataset, device: torch.device, *, workers: int, batch: int | None = None) -> None:
        model = load(MODEL, device)
        assert isinstance(model, Descriptor)
        self.dataset, self.model, self.workers = dataset, model, workers
        self.batch = batch or (GPU_BATCH if device.type == "cuda" else BATCH)
        self._key = {"data": identity(dataset), "model": model.checkpoint.hash}

    @functools.cached_property
    def rows(self) -> np.ndarray:
        """(N, F) float16, those of pictures that cannot be read are zero. Raises DatasetError if these are all."""
        return mapped("copies", self._key, (len(self.dataset), self.model.descriptor_dim), self._fill)

    def _fill(self, rows: np.ndarray) -> None:
        failed: dict[int, Exception] = {}
        for indices, found in self._measure(self.dataset, self._describe, failed):
            rows[indices] = found
        if len(failed) == len(rows):
            raise DatasetError(f"{self.dataset.path}: no picture can be read")

    def _measure(
        self, dataset: Dataset, measure: Measure, failed: dict[int, Exception]
    ) -> Iterator[tuple[list[int], np.ndarray]]:
        return measure_batches(dataset, self.model, measure, batch=self.batch, workers=self.workers, failed=failed)

    @torch.inference_mode()
    def _describe(self, pictures: Tensor) -> Tensor:
        with reproducible(pictures.device):
            return self.model.embed(pictures).float()

    def describe(self, pictures: Tensor) -> Tensor:
        """Descriptors (B, 2, F) float32 of pictures (B, 3, H, W) in [-1, 1] at the model's size, on its device, and of
        their mirror images: a copy may be mirrored, and descriptors depend on it."""
        return torch.stack([self._describe(pictures), self._describe(pictures.flip(3))], 1)

    def find(self, dataset: Dataset, chosen: Sequence[int]) -> Originals:
        """The nearest pictures of the `chosen` ones of another dataset."""
        count = min(NEAREST, len(self.dataset))
        nearest = Nearest(np.zeros((len(dataset), count), np.int64), np.full((len(dataset), count), NONE, np.float32))
        for indices, rows in _gathered(self._measure(dataset.subset(chosen), self.describe, {})):
            where = np.array(chosen)[indices]
            nearest.indices[where], nearest.similarity[where] = self.search(rows)
        return Originals(self.dataset, nearest, scores(nearest.similarity))

    def search(self, queries: np.ndarray) -> Nearest:
        """The nearest pictures of those with these descriptors (Q, 2, F), see `describe`."""
        return search(queries, self.rows, min(NEAREST, len(self.dataset)))


def _gathered(groups: Iterator[tuple[list[int], np.ndarray]]) -> Iterator[tuple[list[int], np.ndarray]]:
    """Larger groups, of about `QUERIES` rows, since the whole index is read for each."""
    indices: list[int] = []
    parts: list[np.ndarray] = []
    for some, rows in groups:
        indices += some
        parts.append(rows)
        if len(indices) >= QUERIES:
            yield indices, np.concatenate(parts)
            indices, parts = [], []
    if indices:
        yield indices, np.concatenate(parts)


def search(queries: np.ndarray, rows: np.ndarray, count: int) -> Nearest:
    """The `count` most similar of `rows` (N, F) float16 for each of `queries` (Q, V, F) float32: the largest cosine of
    its V views. Exact: computed in float32. Rows of zeros are no pictures."""
    views = torch.from_numpy(queries).unbind(1)
    best, where = torch.full((len(queries), count), NONE), torch.zeros(len(queries), count, dtype=torch.int64)
    for begin in range(0, len(rows), BLOCK):
        block = torch.from_numpy(np.array(rows[begin : begin + BLOCK], np.float32))
        penalty = torch.where(~block.any(1), NONE, 0.0)
        similarity = functools.reduce(torch.maximum, (torch.addmm(penalty, view, block.T) for view in views))  # (Q, B)
        value, index = similarity.topk(min(count, len(block)))
        value, chosen = torch.cat([best, value], 1).topk(count)
        best, where = value, torch.cat([where, index + begin], 1).gather(1, chosen)
    return Nearest(where.numpy(), best.numpy())


def scores(similarity: np.ndarray) -> np.ndarray:
    """Copy scores (N,) in [0, 1] of similarities (N, K), the largest first."""
    return np.clip(similarity[:, 0], 0, 1)
