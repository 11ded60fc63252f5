"""Training batches: an infinite, reproducible stream of a dataset's pictures."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kyara.files import face_boxes
from kyara.files.atomic import reserve
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
    faces: Tensor | None
    """(B, M, 7, 2) float32, see `face_boxes.read`, flipped with the picture. None unless the Stream was created with
    `boxes=True`."""


@dataclasses.dataclass(frozen=True)
class Sharing:
    """The processes of one machine, which share decoded pictures."""

    index: int = 0  # of this process
    count: int = 1
    exchange: Callable[[Any], list[Any]] = lambda value: [value]
    """Called by all of them at the same time, gives every process the arguments of all, by index."""


ALONE = Sharing()
FOLDERS = ("/dev/shm",)  # in memory, where there is such a folder


class Stream:
    """Infinite batches of a dataset's pictures, reproducible from the seed.

    Every epoch is a new permutation; with `mirror`, pictures are flipped horizontally with probability 1/2. Both depend
    only on `seed` and the position: `start=N` continues exactly as if N pictures had been consumed. `batch` is the
    global batch size; each of the `world` ranks gets an equal part of every batch.

    `values` maps the attributes to their known values (default: all); any other value is unknown. A dataset that fits
    into `memory_limit` bytes when decoded is kept in memory; with `sharing` the ranks of a machine decode it together
    and keep it once. Of a larger one each rank prefetches its part of the batches, by `workers` processes. Raises
    DatasetError if pictures cannot be decoded, and OSError if there is no room for them."""

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
        boxes: bool = False,
        sharing: Sharing = ALONE,
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
        self._faces = torch.from_numpy(face_boxes.read(dataset, width, height, workers)) if boxes else None
        self._labels = {key: torch.from_numpy(dataset.labels(key, known)) for key, known in values.items()}
        self._sharing = sharing
        self._memory: Tensor | None = None
        if len(dataset) * 3 * height * width <= memory_limit:
            self._memory = self._decode_all()
        elif start == 0:  # a resumed run has already checked them
            self._raise_if_damaged(list(dataset.map(check, self._mine(), workers)))

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
            faces = None if self._faces is None else self._faces[index]  # (B, M, 7, 2)
            mirrored = torch.from_numpy(flips) if self.mirror else torch.zeros(share, dtype=torch.bool)
            if self.mirror:
                batch = torch.where(mirrored[:, None, None, None], batch.flip(3), batch)
                for places in (points, faces):
                    if places is not None:
                        places[mirrored, ..., 0] = 1 - places[mirrored, ..., 0]
            yield StreamBatch(batch, labels, mirrored, points, faces)

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

    def _mine(self) -> range:
        """The pictures that this process decodes for all processes of its machine."""
        n, index, count = len(self.dataset), self._sharing.index, self._sharing.count
        return range(n * index // count, n * (index + 1) // count)

    def _decode_all(self) -> Tensor:
        """All pictures (N, 3, H, W), of which this process decodes its share."""
        mine, array = self._mine(), _shared_memory((len(self.dataset), 3, self.height, self.width), self._sharing)
        function = functools.partial(crop, width=self.width, height=self.height)
        workers = self.workers if len(mine) > 512 else 0  # starting processes takes longer than decoding a few pictures
        damaged: list[object] = []
        for i, picture in zip(mine, self.dataset.map(function, mine, workers), strict=True):
            if isinstance(picture, PictureError):
                damaged.append(picture)
            else:
                array[i] = picture.transpose(2, 0, 1)
        self._raise_if_damaged(damaged)
        return torch.from_numpy(array)

    def _raise_if_damaged(self, results: list[object]) -> None:
        """DatasetError on every process of this machine if one of them could not decode a picture."""
        mine = [result for result in results if isinstance(result, PictureError)]
        if damaged := [error for some in self._sharing.exchange(mine) for error in some]:
            what = "1 picture" if len(damaged) == 1 else f"{len(damaged):,} pictures"
            first, path = "; ".join(map(str, damaged[:3])), self.dataset.path
            hint = f"`kyara prepare {path} OUT` writes a dataset without them"
            raise DatasetError(f"{path}: {what} cannot be decoded ({first}); {hint}")


def _shared_memory(shape: tuple[int, ...], sharing: Sharing) -> np.ndarray:
    """An array (uint8) that all processes of `sharing` see. OSError if there is no room for it."""
    if sharing.count == 1:
        return np.empty(shape, np.uint8)
    name, problem = None, ""
    if sharing.index == 0:
        try:
            name = _reserve(math.prod(shape))
        except OSError as error:
            problem = str(error)
    name, problem = sharing.exchange((name, problem))[0]
    if name is None:
        raise OSError(
            f"not enough disk space for {math.prod(shape) >> 20:,} MiB of decoded pictures ({problem}); free some space"
        )
    array = np.memmap(name, np.uint8, "r+", shape=shape)
    sharing.exchange(None)
    if sharing.index == 0:
        Path(name).unlink()  # the memory lives on until the last process ends, however it ends
    return array


def _reserve(size: int) -> str:
    """A new file of `size` bytes, in memory if there is room, else on disk. OSError if there is none."""
    for folder in filter(os.path.isdir, (*FOLDERS, tempfile.gettempdir())):
        try:
            return _reserve_in(folder, size)
        except OSError as error:
            problem = error
    raise problem


def _reserve_in(folder: str, size: int) -> str:
    descriptor, name = tempfile.mkstemp(prefix="kyara-", dir=folder)
    try:
        reserve(descriptor, size)
    except OSError:
        Path(name).unlink()
        raise
    finally:
        os.close(descriptor)
    return name


@functools.lru_cache(maxsize=4)
def _epoch(n: int, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The permutation and the flips of one epoch. NumPy guarantees a stable stream for RandomState only."""
    random = np.random.RandomState([seed % 2**32, epoch])
    return random.permutation(n).astype(np.int64), random.randint(0, 2, n).astype(bool)
