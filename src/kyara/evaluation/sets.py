"""Sets of pictures that are compared: files, pictures that a generator makes, and the real pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from kyara.curation.sources import open_pictures
from kyara.evaluation.cache import Arrays, cached, identity
from kyara.evaluation.features import FeatureExtractor, Size, batches, extract
from kyara.evaluation.statistics import ROWS, Gaussian, fit_gaussian, neighbour_distances
from kyara.files import checkpoint
from kyara.files.checkpoint import CONFIG
from kyara.files.dataset import Dataset
from kyara.files.errors import PictureError
from kyara.files.gallery_page import TABLE, UNTAGGED
from kyara.files.pictures import center_crop, decode, to_uint8
from kyara.generation.sampler import load_generator, sample_seeds
from kyara.models.base import Generator

COUNT = 2048
"""Default number of generated pictures: with fewer, the Fréchet distance depends mostly on their number."""


class PictureSet(Protocol):
    """Pictures that are evaluated."""

    def about(self) -> dict[str, Any]:
        """A description for the report."""

    def attributes(self) -> list[str]:
        """Attributes whose values are known."""

    def total(self) -> int:
        """The number of pictures, those that cannot be read included."""

    def size(self) -> Size: ...

    def __iter__(self) -> Iterator[tuple[np.ndarray, Mapping[str, str]]]:
        """Each picture (H, W, 3) uint8 with its labels, attribute -> value."""


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
        kind = "gallery" if (self.path / TABLE).is_file() else "dataset"
        left_out: Any = [list(row) for row in self.left_out]
        return {"kind": kind, "path": str(self.path), "left_out": left_out}

    def attributes(self) -> list[str]:
        return [name for name in self.pictures.attributes if name not in UNTAGGED]

    def total(self) -> int:
        return min(len(self.pictures.names), self.count or len(self.pictures.names))

    def size(self) -> Size:
        for picture, _ in self:
            height, width = picture.shape[:2]
            return width, height
        raise ValueError(f"{self.path}: no picture can be read")

    def __iter__(self) -> Iterator[tuple[np.ndarray, Mapping[str, str]]]:
        self.left_out.clear()
        for i in evenly_spaced(len(self.pictures.names), self.count):
            try:
                picture = self.pictures.picture(i)
            except (PictureError, OSError) as error:
                self.left_out.append((self.pictures.names[i], str(error)))
                continue
            yield picture, {name: values[i] for name, values in self.pictures.attributes.items()}


@dataclass
class GeneratedSet:
    """The pictures of a generator for the seeds `first`, `first` + 1, ..., with labels drawn as they occur in the
    training data."""

    model: str
    generator: Generator
    count: int
    first: int = 0
    truncation: float = 1.0

    def about(self) -> dict[str, Any]:
        seeds = f"{self.first}-{self.first + self.count - 1}"
        found = {"kind": "checkpoint", "path": self.model, "checkpoint": checkpoint.read(self.model).hash}
        return found | {"seeds": seeds, "truncation": self.truncation}

    def attributes(self) -> list[str]:
        return list(self.generator.config.data.attributes)

    def total(self) -> int:
        return self.count

    def size(self) -> Size:
        return self.generator.config.data.width, self.generator.config.data.height

    def __iter__(self) -> Iterator[tuple[np.ndarray, Mapping[str, str]]]:
        known, seeds = self.generator.config.data.attributes, range(self.first, self.first + self.count)
        for made, labels in sample_seeds(self.generator, seeds, truncation=self.truncation):
            for i, picture in enumerate(to_uint8(made)):
                yield picture, {name: known[name][values[i]] for name, values in labels.items() if values[i] >= 0}


def open_set(name: str, device: torch.device, *, count: int | None, truncation: float = 1.0) -> PictureSet:
    """The pictures of a path, or of a generator if `name` is that of a Checkpoint."""
    if name.startswith(("builtin:", "hf-hub:")) or (Path(name) / CONFIG).is_file():
        return GeneratedSet(name, load_generator(name, device), count or COUNT, truncation=truncation)
    return FileSet(Path(name), count)


def evenly_spaced(total: int, count: int | None) -> list[int]:
    """The numbers below `total`, or `count` of them, evenly spaced."""
    if count is None or count >= total:
        return list(range(total))
    return [i * total // count for i in range(count)]


@dataclass
class RealFeatures:
    """Features of real pictures, with their statistics."""

    extractor: FeatureExtractor
    size: Size
    """The size that both sets are brought to first."""
    features: np.ndarray
    """(M, F) float32."""

    @cached_property
    def gaussian(self) -> Gaussian:
        return fit_gaussian(self.features)

    @cached_property
    def neighbours(self) -> np.ndarray:
        """`neighbour_distances` of the features, (M, 5)."""
        return neighbour_distances(self.features)


class RealSet(RealFeatures):
    """The real pictures of a dataset. Features and statistics are cached on disk between runs."""

    def __init__(
        self, dataset: Dataset, extractor: FeatureExtractor, size: Size, workers: int = 0, batch: int = 64
    ) -> None:
        self.dataset, self.extractor, self.size, self.workers, self.batch = dataset, extractor, size, workers, batch

    @cached_property
    def key(self) -> dict[str, Any]:
        network = {"features": self.extractor.name, "hash": self.extractor.hash}
        return {"data": identity(self.dataset), **network, "resizer": self.extractor.resizer(self.size)}

    def about(self) -> dict[str, Any]:
        found = {"kind": "dataset", "path": str(self.dataset.path), "fingerprint": self.dataset.fingerprint}
        return found | {"count": len(self.features)}

    @cached_property
    def features(self) -> np.ndarray:  # type: ignore[override]
        """(M, F) float32, of the pictures that can be read."""
        return cached("features", self.key, self._extract)["features"]

    @cached_property
    def gaussian(self) -> Gaussian:
        def compute() -> Arrays:
            found = fit_gaussian(self.features)
            return {"mean": found.mean, "root": found.root}

        arrays = cached("statistics", self.key, compute)
        return Gaussian(len(self.features), arrays["mean"], arrays["root"])

    @cached_property
    def neighbours(self) -> np.ndarray:
        return cached("neighbours", self.key, lambda: {"near": neighbour_distances(self.features)})["near"]

    def pictures(self, size: Size, count: int = ROWS) -> Iterator[np.ndarray]:
        """All pictures at that size, (B, H, W, 3) uint8, at most `count` at a time."""
        return (np.stack(group) for group in batches(self._decode((size,)), count))

    def _extract(self) -> Arrays:
        sizes = (self.size,) if self.extractor.size is None else (self.size, self.extractor.size)
        total, name = len(self.dataset), self.dataset.path.name
        return {"features": extract(self._decode(sizes), self.extractor, total=total, batch=self.batch, name=name)}

    def _decode(self, sizes: tuple[Size, ...]) -> Iterator[np.ndarray]:
        workers = self.workers if len(self.dataset) > 512 else 0  # fewer are decoded before the processes have started
        found = self.dataset.map(partial(_decode_at, sizes=sizes), range(len(self.dataset)), workers)
        return (picture for picture in found if not isinstance(picture, PictureError))


def _decode_at(data: bytes, name: str, *, sizes: tuple[Size, ...]) -> np.ndarray:
    picture = decode(data, name)
    for size in sizes:
        picture = center_crop(picture, *size)
    return picture
