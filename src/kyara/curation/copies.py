"""Copies: for each picture the most similar ones of a dataset, by the descriptors of `builtin:copy`. Whether the
nearest is the original is decided by the descriptors and the pixels.

The descriptors of a dataset are its index, a file that is mapped into memory. The search is exact: blocks of pictures
times blocks of the index, so that neither has to fit into memory."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import kyara
from kyara.curation.placement import SIDE, correlations, small, small_of
from kyara.curation.scoring import BATCH, GPU_BATCH, Measure, measure_batches
from kyara.files.cache import identity, mapped
from kyara.files.dataset import Dataset
from kyara.files.errors import DatasetError, PictureError
from kyara.files.gallery_page import COPY, COPY_OF, MARK
from kyara.files.shards import Rows, Runner
from kyara.files.workers import processors, thread_map
from kyara.models import load
from kyara.models.base import Descriptor
from kyara.nn.filters import resize
from kyara.training.inference import reproducible
from kyara.training.runtime import pick_device

MODEL = "builtin:copy"
NEAREST = 10
BLOCK, QUERIES = 8192, 2048  # rows of the index and pictures that are compared at once
SHARES = (1.0, 0.88, 0.76)  # of the side of an original that a copy may show
OTHERS, WEIGHT = 3, 0.5  # how many of the last neighbours a picture is compared with, and the weight of their mean
VERIFIED, GROUP = 3, 16  # nearest pictures whose pixels are compared, and pictures that are compared at once
SHARE = 0.3  # of the descriptors in the evidence, beside the correlation of pixels
THRESHOLD = 1.015
"""Evidence that one in a thousand new faces exceeds; benchmarks/copies.py measures it."""
NONE = -2.0  # similarity where there is no picture; others are at least -1


class Nearest(NamedTuple):
    """The most similar pictures of a dataset, the nearest first."""

    indices: np.ndarray  # (N, K) int64
    similarity: np.ndarray  # (N, K) float32, cosines; `NONE` where there is no picture


class Queries(NamedTuple):
    """What is searched for: descriptors of the `views` of pictures, (Q, V, F) float32, and small pictures, (Q, 3, S, S)
    uint8 (see `placement`)."""

    descriptors: np.ndarray
    small: np.ndarray

    def rows(self) -> np.ndarray:
        """(Q, V F + 3 S S) float32."""
        return np.hstack([part.reshape(len(part), -1).astype(np.float32) for part in self])

    @staticmethod
    def of(rows: np.ndarray, width: int) -> Queries:
        """The queries in `rows`, with descriptors of that `width`."""
        described, pixels = np.split(rows, [2 * len(SHARES) * width], 1)
        return Queries(described.reshape(len(rows), -1, width), pixels.reshape(-1, 3, SIDE, SIDE).astype(np.uint8))


@dataclasses.dataclass(frozen=True)
class Originals:
    """The pictures of a dataset that others may be copies of."""

    dataset: Dataset
    nearest: Nearest
    scores: np.ndarray  # (N,) in [0, 1], of the others: `MARK` and more for copies
    unreadable: Mapping[int, str]  # index of a picture that no copies are found of -> reason

    def left_out(self) -> list[tuple[str, str]]:
        """(path, reason) of the pictures that cannot be read."""
        reasons = self.unreadable.items()
        return [(self.dataset.location(i).as_posix(), f"no copies of it are found: {why}") for i, why in reasons]

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


@dataclasses.dataclass(frozen=True)
class DescribeTask:
    """The rows of an index: descriptors (F) float16, zero for unreadable pictures."""

    dataset: Dataset
    device: str
    batch: int
    threads: int  # that decode pictures

    def load(self) -> Descriptor:
        model = load(MODEL, pick_device(self.device))
        assert isinstance(model, Descriptor)
        return model

    def measure(self, loaded: Descriptor, indices: range) -> Rows:
        failed: dict[int, Exception] = {}
        rows = np.zeros((len(indices), loaded.descriptor_dim), np.float16)
        for numbers, found in self.batches(loaded, functools.partial(embed, loaded), indices, failed):
            rows[np.array(numbers) - indices.start] = found
        return Rows(rows, {i: self.dataset.reason(i, error) for i, error in failed.items()})

    def batches(
        self, model: Descriptor, measure: Measure, indices: range, failed: dict[int, Exception]
    ) -> Iterator[tuple[list[int], np.ndarray]]:
        """See `scoring.measure_batches`."""
        return measure_batches(
            self.dataset, model, measure, batch=self.batch, workers=self.threads, failed=failed, indices=indices
        )


@dataclasses.dataclass(frozen=True)
class SearchTask:
    """The nearest pictures of an index: places in it, similarities and the score, (2 K + 1) float64, in which all are
    exact."""

    pictures: DescribeTask
    originals: Dataset
    index: np.ndarray  # (N, F) float16, of the originals
    count: int  # K

    def load(self) -> Descriptor:
        return self.pictures.load()

    def measure(self, loaded: Descriptor, indices: range) -> Rows:
        rows = np.zeros((len(indices), 2 * self.count + 1))
        rows[:, self.count : -1] = NONE
        described = self.pictures.batches(
            loaded, lambda some: torch.from_numpy(describe(loaded, some).rows()), indices, {}
        )
        for numbers, some in _gathered(described):
            queries = Queries.of(some, self.index.shape[1])
            found, score = verified(search(queries.descriptors, self.index, self.count), queries.small, self.originals)
            rows[np.array(numbers) - indices.start] = np.column_stack([*found, score])
        return Rows(rows, {})


class Index:
    """The descriptors of a dataset's pictures, from the cache or computed when they are needed."""

    def __init__(
        self, dataset: Dataset, device: str, *, workers: int, batch: int | None = None, runner: Runner | None = None
    ) -> None:
        self.dataset, self.runner = dataset, runner or Runner()
        size = batch or (GPU_BATCH if pick_device(device).type == "cuda" else BATCH)
        self._task = DescribeTask(dataset, device, size, workers)
        self.model = self._task.load()
        self._key = {"data": identity(dataset), "model": self.model.checkpoint.hash}
        self._settings = self._key | {"batch": size, "version": kyara.__version__}  # what the last digits depend on

    @functools.cached_property
    def rows(self) -> np.ndarray:
        """(N, F) float16, those of pictures that cannot be read are zero. Raises DatasetError if these are all."""
        shape = len(self.dataset), self.model.descriptor_dim
        self.runner.place("index", self._settings)  # an interrupted run may have left shards, although all is cached
        return mapped("copies", self._key, shape, self._fill, self._is_complete)

    def _is_complete(self, rows: np.ndarray) -> bool:
        """Whether no picture without a row can be read now."""
        empty = _empty(rows)
        return len(self.dataset.unreadable(empty)) == len(empty)

    def _fill(self, rows: np.ndarray) -> None:
        failed = 0
        shards = self.runner.run(self._task, len(rows), name="index", key=self._settings, loaded=self.model)
        for indices, found in shards:
            rows[indices.start : indices.stop] = found.values
            failed += len(found.failed)
        if failed == len(rows):
            raise DatasetError(f"{self.dataset.path}: no picture can be read")

    def find(self, dataset: Dataset, chosen: Sequence[int]) -> Originals:
        """The nearest pictures of the `chosen` ones of another dataset."""
        count, searched = min(NEAREST, len(self.dataset)), dataset.subset(chosen)
        nearest = Nearest(np.zeros((len(dataset), count), np.int64), np.full((len(dataset), count), NONE, np.float32))
        score = np.zeros(len(dataset), np.float32)
        task = SearchTask(
            dataclasses.replace(self._task, dataset=searched), self.dataset, self.rows.view(np.ndarray), count
        )
        key = self._settings | {"pictures": identity(searched)}
        for indices, found in self.runner.run(task, len(searched), name="copies", key=key, loaded=self.model):
            where = np.array(chosen)[indices.start : indices.stop]
            values = found.values
            nearest.indices[where], nearest.similarity[where] = np.hsplit(values[:, :-1], 2)
            score[where] = values[:, -1]
        return Originals(self.dataset, nearest, score, self.dataset.unreadable(_empty(self.rows)))

    def scores(self, queries: Queries) -> np.ndarray:
        """Copy scores (Q,) in [0, 1], see `verified`."""
        found = search(queries.descriptors, self.rows, min(NEAREST, len(self.dataset)))
        return verified(found, queries.small, self.dataset)[1]


def _empty(rows: np.ndarray) -> list[int]:
    """The rows of zeros, which are no pictures."""
    found: list[int] = np.flatnonzero(~rows.any(1)).tolist()
    return found


@torch.inference_mode()
def embed(model: Descriptor, pictures: Tensor) -> Tensor:
    """Descriptors (B, F) float32 of pictures (B, 3, H, W) in [-1, 1] at the model's size, on its device."""
    with reproducible(pictures.device):
        return model.embed(pictures).float()


def describe(model: Descriptor, pictures: Tensor) -> Queries:
    """What pictures (B, 3, H, W) in [-1, 1] at the model's size, on its device, are searched by."""
    described = torch.stack([embed(model, view) for view in views(pictures)], 1)
    return Queries(described.cpu().numpy(), small(pictures).cpu().numpy())


def views(pictures: Tensor) -> list[Tensor]:
    """Pictures (B, 3, H, W) as their originals may have been: mirrored, since descriptors depend on it, and with more
    around them, since copies may be cropped. What was there is replaced by the pixels of the border."""
    height, width = pictures.shape[2:]
    found = []
    for share in SHARES:
        down, across = (round(side * (1 - share) / 2) for side in (height, width))
        small = resize(pictures, (height - 2 * down, width - 2 * across))
        found.append(F.pad(small, (across, across, down, down), "replicate"))
    return [*found, *(view.flip(3) for view in found)]


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


def verified(found: Nearest, pictures: np.ndarray, originals: Dataset) -> tuple[Nearest, np.ndarray]:
    """The nearest pictures, the one first that the pixels confirm most, and copy scores (N,) in [0, 1]: `MARK` where
    the evidence is `THRESHOLD`, 1 for an identical picture. `pictures` (N, 3, S, S) uint8 are searched for."""
    count, near, others = min(VERIFIED, found.indices.shape[1]), found.similarity, _others(found.similarity)
    fits = np.empty((len(near), count), np.float32)
    candidates = _candidates(found.indices[:, :count], originals)
    for begin, some in zip(range(0, len(near), GROUP), candidates, strict=True):
        part = slice(begin, begin + GROUP)
        fits[part] = correlations(torch.from_numpy(pictures[part]), torch.from_numpy(some)).numpy()
    evidence = fits + SHARE * margins(near[:, :count], others)
    place = np.tile(np.arange(near.shape[1]), (len(near), 1))
    place[np.arange(len(near)), evidence.argmax(1)] = -1
    order = np.argsort(place, 1)
    best = 1 + SHARE * (1 - WEIGHT * others)
    share = (evidence.max(1) - THRESHOLD) / np.maximum(best - THRESHOLD, 1e-3)
    score = np.where(near[:, 0] > NONE, np.clip(MARK + (1 - MARK) * share, 0, 1), 0)
    return Nearest(*(np.take_along_axis(part, order, 1) for part in found)), score


def _candidates(indices: np.ndarray, originals: Dataset) -> Iterator[np.ndarray]:
    """Small pictures (B, K, 3, S, S) of the originals with these indices (N, K), `GROUP` rows at a time, decoded by
    threads."""
    groups = [indices[begin : begin + GROUP] for begin in range(0, len(indices), GROUP)]
    distinct = [np.unique(group) for group in groups]
    threads = processors()
    decoded = thread_map(functools.partial(small_of, originals), itertools.chain(*distinct), threads, 4 * threads)
    for group, some in zip(groups, distinct, strict=True):
        found = {}
        for i, picture in itertools.islice(decoded, len(some)):
            if isinstance(picture, Exception):
                raise picture
            found[i] = picture
        yield np.stack([[found[i] for i in row] for row in group])


def margins(similarity: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Similarities (N, K), minus half of the mean (N,) to `others`: some pictures are similar to many (after Pizzi et
    al. 2022, who compare with a background set)."""
    margin: np.ndarray = similarity - WEIGHT * others[:, None]
    return margin


def _others(similarity: np.ndarray) -> np.ndarray:
    """Mean similarity (N,) to the last neighbours; those that are not there count as 0."""
    last = similarity[:, 1:][:, -OTHERS:]
    return np.where(last > NONE, last, 0).sum(1) / max(last.shape[1], 1)
