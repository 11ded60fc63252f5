"""Training batches: an infinite, reproducible stream of a dataset's pictures."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kyara.files.dataset import Dataset, check, crop, known_values
from kyara.files.errors import DatasetError, PictureError


class StreamBatch(NamedTuple):
    """The part of a batch for one rank."""

    pictures: Tensor  # (B, 3, H, W) uint8
    labels: dict[str, Tensor]  # Attribute -> index of its value, (B,) int64; -1 where unknown
    mirrored: Tensor  # (B,) bool: whether the picture was flipped horizontally
    points: Tensor | None
    """(B, K, 2) float32, as fractions of width and height, flipped with the picture; NaN where unknown. None unless
    the Stream was created with `points=True`."""


class Stream:
    """Infinite batches of a dataset's pictures, reproducible from the seed.

    Every epoch is a new permutation; with `mirror`, pictures are flipped horizontally with probability 1/2. Both depend
    only on `seed` and the position: `start=N` continues exactly as if N pictures had been consumed. `batch` is the
    global batch size; each of the `world` ranks gets an equal part of every batch.

    `values` maps the attributes to their known values (default: all); any other value is unknown. A dataset that fits
    into `memory_limit` bytes when decoded is kept in memory; a larger one is prefetched by `workers` processes. Raises
    DatasetError if pictures cannot be decoded."""

    def __init__(
        self,
        dataset: Dataset,
        *,
        width: int,
        height: int,
        batch: int,
        seed: int,
        mirror: bool = False,
        rank: int = 0,
        world: int = 1,
        workers: int = 2,
        memory_limit: int = 2 * 2**30,
        start: int = 0,
        values: Mapping[str, Sequence[str]] | None = None,
        points: bool = False,
    ) -> None:
        if batch < 1 or batch % world:
            raise ValueError(f"--batch {batch}: must be a positive multiple of the number of devices, {world}")
        self.dataset, self.width, self.height = dataset, width, height
        self.batch, self.seed, self.mirror = batch, seed, mirror
        self.rank, self.world, self.workers, self.start = rank, world, workers, start
        if values is None:
            values = {key: known_values(column) for key, column in dataset.attributes.items()}
        self.values = values
        self._points = torch.from_numpy(dataset.points) if points else None
        self._labels = {key: torch.from_numpy(dataset.labels(key, known)) for key, known in values.items()}
        self._memory: Tensor | None = None
        if len(dataset) * 3 * height * width <= memory_limit:
            self._memory = self._decode_all()
        elif start == 0 and rank == 0:  # a resumed run has already checked them
            _raise_if_damaged(dataset, dataset.map(check, range(len(dataset)), workers))

    def __iter__(self) -> Iterator[StreamBatch]:
        share = self.batch // self.world
        begins = itertools.count(self.start + self.rank * share, self.batch)
        shares, ahead = itertools.tee(self.order(range(begin, begin + share)) for begin in begins)
        decoded = None
        if self._memory is None:
            order = (int(i) for indices, _ in ahead for i in indices)
            decoded = self.dataset.decode(order, self.width, self.height, self.workers)
        del ahead  # otherwise tee would buffer all items for it
        for indices, flips in shares:
            index = torch.from_numpy(indices)
            if self._memory is not None:
                batch = self._memory[index]  # (B, 3, H, W)
            else:
                assert decoded is not None
                stacked = np.stack(list(itertools.islice(decoded, share)))  # (B, H, W, 3)
                batch = torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous()  # (B, 3, H, W)
            labels = {key: values[index] for key, values in self._labels.items()}
            points = None if self._points is None else self._points[index]  # (B, K, 2)
            mirrored = torch.from_numpy(flips) if self.mirror else torch.zeros(share, dtype=torch.bool)
            if self.mirror:
                batch = torch.where(mirrored[:, None, None, None], batch.flip(3), batch)
                if points is not None:
                    points[mirrored, :, 0] = 1 - points[mirrored, :, 0]
            yield StreamBatch(batch, labels, mirrored, points)

    def order(self, positions: range) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the pictures at these positions, (B,) int64, and whether they are mirrored, (B,) bool."""
        n = len(self.dataset)
        parts = []
        for epoch in range(positions.start // n, (positions.stop - 1) // n + 1):
            first = epoch * n
            within = slice(max(positions.start - first, 0), min(positions.stop - first, n))
            parts.append([column[within] for column in _epoch(n, self.seed, epoch)])
        indices, flips = zip(*parts, strict=True)
        return np.concatenate(indices), np.concatenate(flips)

    def _decode_all(self) -> Tensor:
        n = len(self.dataset)
        array = np.empty((n, 3, self.height, self.width), dtype=np.uint8)
        function = functools.partial(crop, width=self.width, height=self.height)
        workers = self.workers if n > 512 else 0  # starting processes takes longer than decoding a few pictures
        damaged: list[PictureError] = []
        for i, picture in enumerate(self.dataset.map(function, range(n), workers)):
            if isinstance(picture, PictureError):
                damaged.append(picture)
            else:
                array[i] = picture.transpose(2, 0, 1)
        _raise_if_damaged(self.dataset, damaged)
        return torch.from_numpy(array)  # (N, 3, H, W)


@functools.lru_cache(maxsize=4)
def _epoch(n: int, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The permutation and the flips of one epoch. NumPy guarantees a stable stream for RandomState only."""
    random = np.random.RandomState([seed % 2**32, epoch])
    return random.permutation(n).astype(np.int64), random.randint(0, 2, n).astype(bool)


def _raise_if_damaged(dataset: Dataset, results: Iterable[object]) -> None:
    damaged = [result for result in results if isinstance(result, PictureError)]
    if damaged:
        what = "1 picture" if len(damaged) == 1 else f"{len(damaged):,} pictures"
        first = "; ".join(map(str, damaged[:3]))
        hint = f"`kyara prepare {dataset.path} OUT` writes a dataset without them"
        raise DatasetError(f"{dataset.path}: {what} cannot be decoded ({first}); {hint}")
