"""Sets of pictures to compare: files, generated pictures, and real pictures."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from kyara.curation.sources import open_pictures
from kyara.evaluation.features import FeatureExtractor, RowBuffer, Size, chunked
from kyara.evaluation.shared import FRECHET_COUNT
from kyara.evaluation.statistics import NEIGHBOURS, ROWS, Gaussian, fit_gaussian, neighbour_distances
from kyara.files import checkpoint
from kyara.files.cache import Arrays, cached, identity
from kyara.files.dataset import Dataset
from kyara.files.errors import PictureError
from kyara.files.gallery_page import TABLE, UNTAGGED
from kyara.files.names import counted
from kyara.files.pictures import center_crop, decode, to_uint8
from kyara.files.workers import processors, thread_map
from kyara.generation.sampler import load_generator, sample_seeds
from kyara.labels.attributes import read_labels
from kyara.models.base import Generator

TRIES = 4  # at stored features before they are extracted without the cache: drives come and go
KEPT = 2**28  # bytes of decoded real pictures that are kept for the next draw or model
Labelled = tuple[np.ndarray, Mapping[str, str]]  # A picture (H, W, 3) uint8 with its labels, attribute -> value


@dataclass
class FileSet:
    """The pictures of a Gallery or Dataset, or `count` of them, evenly spaced. Unreadable files are left out."""

    path: Path
    count: int | None = None
    left_out: list[tuple[str, str]] = field(default_factory=list)

    @cached_property
    def pictures(self) -> Dataset:
        return open_pictures(self.path)

    def about(self) -> dict[str, Any]:
        """A description for the report."""
        kind = "gallery" if (self.path / TABLE).is_file() else "dataset"
        return {"kind": kind, "path": str(self.path), "left_out": [list(row) for row in self.left_out]}

    def attributes(self) -> list[str]:
        """Attributes whose values are known."""
        return [name for name in self.pictures.attributes if name not in UNTAGGED]

    def labelled_by(self, tagger: str) -> Counter[str]:
        """Attribute -> number of labels that `kyara tag` wrote with this tagger."""
        return Counter(label.attribute for label in read_labels(self.pictures) if label.by == f"tagger:{tagger}")

    def total(self) -> int:
        """The number of pictures, unreadable ones included."""
        return min(len(self.pictures.names), self.count or len(self.pictures.names))

    def size(self) -> Size:
        return first_size(self.pictures, self.count)

    def __iter__(self) -> Iterator[Labelled]:
        self.left_out.clear()
        indices, threads = evenly_spaced(len(self.pictures.names), self.count), processors()
        for i, picture in thread_map(self.pictures.picture, indices, threads, 4 * threads):
            if isinstance(picture, PictureError | OSError):
                self.left_out.append((self.pictures.names[i], str(picture)))
            elif isinstance(picture, Exception):
                raise picture
            else:
                yield picture, {name: values[i] for name, values in self.pictures.attributes.items()}


@dataclass
class GeneratedSet:
    """The pictures of a generator for the seeds from `first` on, with labels distributed as in the training data."""

    model: str
    generator: Generator
    count: int
    first: int = 0
    truncation: float = 1.0

    def about(self) -> dict[str, Any]:
        made = {"seeds": f"{self.first}-{self.first + self.count - 1}", "truncation": self.truncation}
        return {"kind": "checkpoint", "path": self.model, "checkpoint": checkpoint.read(self.model).hash, **made}

    def attributes(self) -> list[str]:
        return list(self.generator.config.data.attributes)

    def total(self) -> int:
        return self.count

    def size(self) -> Size:
        return self.generator.config.data.width, self.generator.config.data.height

    def __iter__(self) -> Iterator[Labelled]:
        known, seeds = self.generator.config.data.attributes, range(self.first, self.first + self.count)
        for made, labels in sample_seeds(self.generator, seeds, truncation=self.truncation):
            for i, picture in enumerate(to_uint8(made)):
                yield picture, {name: known[name][values[i]] for name, values in labels.items() if values[i] >= 0}


PictureSet = FileSet | GeneratedSet


def open_set(name: str, device: torch.device, *, count: int | None, truncation: float = 1.0) -> PictureSet:
    """The pictures at a path, or of a generator (by default 2,048 pictures) if `name` is a Checkpoint."""
    if name.startswith(("builtin:", "hf-hub:")) or (Path(name) / checkpoint.CONFIG).is_file():
        return GeneratedSet(name, load_generator(name, device), count or FRECHET_COUNT, truncation=truncation)
    return FileSet(Path(name), count)


def open_reals(path: Path, count: int, least: int) -> Dataset:
    """The real pictures of a Dataset or Gallery, or `count` of them, evenly spaced. ValueError if there are fewer than
    `least`."""
    dataset = open_pictures(path)
    if len(dataset) < least:
        raise ValueError(f"{path}: has {counted(len(dataset), 'real picture')}; give {least} or more")
    return dataset.subset(evenly_spaced(len(dataset), count))


def first_size(dataset: Dataset, count: int | None = None) -> Size:
    """Width and height of the first readable one of `count` pictures, evenly spaced. ValueError if there is none."""
    for i in evenly_spaced(len(dataset), count):
        with contextlib.suppress(PictureError, OSError):
            height, width = dataset.picture(i).shape[:2]
            return width, height
    raise ValueError(f"{dataset.path}: no picture can be read")


def evenly_spaced(total: int, count: int | None) -> list[int]:
    """The numbers below `total`, or `count` of them, evenly spaced."""
    count = total if count is None else min(count, total)
    return [i * total // count for i in range(count)]


@dataclass
class RealFeatures:
    """Features (M, F) float32 of real pictures, with their statistics."""

    extractor: FeatureExtractor
    size: Size  # The size to which both sets are resized first
    features: np.ndarray
    key: dict[str, Any] | None = None  # Cache key of the features; if given, statistics are cached on disk

    @cached_property
    def gaussian(self) -> Gaussian:
        return Gaussian(**cached("statistics", self.key, lambda: vars(fit_gaussian(self.features))))

    @cached_property
    def neighbours(self) -> np.ndarray:
        """`neighbour_distances` of the features, (M, 3)."""
        return cached(f"neighbours-{NEIGHBOURS}", self.key, lambda: {"near": neighbour_distances(self.features)})[
            "near"
        ]


class RealSet(RealFeatures):
    """The real pictures of a dataset. Features and statistics are cached on disk."""

    def __init__(
        self, dataset: Dataset, extractor: FeatureExtractor, size: Size, workers: int = 0, batch: int = 64
    ) -> None:
        self.dataset, self.extractor, self.size, self.workers, self.batch = dataset, extractor, size, workers, batch
        self._kept: tuple[Size, list[np.ndarray]] | None = None
        network = {"features": extractor.name, "hash": extractor.hash}
        self._source: dict[str, Any] = {"data": identity(dataset), **network, "resizer": extractor.resizer(size)}

    def about(self) -> dict[str, Any]:
        return {"kind": "dataset", "path": str(self.dataset.path), "fingerprint": self.dataset.fingerprint}

    @cached_property
    def features(self) -> np.ndarray:  # type: ignore[override]
        """(M, F) float32, of the pictures that can be read."""
        return self._found["features"]

    @cached_property
    def key(self) -> dict[str, Any]:  # type: ignore[override]
        return self._source | {"missing": self._found["missing"].tolist()}

    @cached_property
    def _found(self) -> Arrays:
        """The result of `_extract` from the cache, or a new one if a picture that is missing there can be read now."""
        key = self._source
        for _ in range(TRIES):
            found = cached("features", key, self._extract)
            if len(found["features"]) == len(self.dataset):
                return {"missing": np.empty(0, np.int64), **found}
            missing = found["missing"].tolist() if "missing" in found else None  # older versions did not store them
            left = None if missing is None else [*self.dataset.unreadable(missing)]
            if left is not None and left == missing:
                return found
            key = self._source | {"missing": left}
        return self._extract()

    def pictures(self, size: Size) -> Iterable[np.ndarray]:
        """All pictures at that size, (B, H, W, 3) uint8, at most ROWS at a time. They are decoded only once if all take
        up to KEPT bytes."""
        if self._kept is None or self._kept[0] != size:
            blocks = (np.stack(group) for group in chunked(self._decode(size), ROWS))
            if len(self.dataset) * size[0] * size[1] * 3 > KEPT:
                return blocks
            self._kept = size, [*blocks]
        return self._kept[1]

    def _extract(self) -> Arrays:
        sizes = [self.size] if self.extractor.size is None else [self.size, self.extractor.size]
        total = len(self.dataset)
        features, missing = RowBuffer(total), list[int]()
        shown = tqdm(
            self._decode(*sizes, missing=missing),
            desc=self.dataset.path.name,
            total=total,
            unit="picture",
            disable=None,
        )
        for group in chunked(shown, self.batch):
            features.add(self.extractor(np.stack(group)))
        return {"features": features.array, "missing": np.array(missing, np.int64)}

    def _decode(self, *sizes: Size, missing: list[int] | None = None) -> Iterator[np.ndarray]:
        """The pictures that can be read; the indices of the others are added to `missing`."""
        workers = self.workers if len(self.dataset) > 512 else 0  # starting processes takes longer than decoding a few
        found = self.dataset.map(partial(_decode_at, sizes=sizes), range(len(self.dataset)), workers)
        for i, picture in enumerate(found):
            if not isinstance(picture, PictureError):
                yield picture
            elif missing is not None:
                missing.append(i)


def _decode_at(data: bytes, name: str, *, sizes: tuple[Size, ...]) -> np.ndarray:
    picture = decode(data, name)
    for size in sizes:
        picture = center_crop(picture, *size)
    return picture
