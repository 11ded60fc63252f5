"""Where pictures to be scored come from: a Gallery, a Dataset, or a generator that makes them on the spot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from kyara.curation.rank import Pictures, open_pictures
from kyara.evaluation import metrics
from kyara.evaluation.cache import Arrays, identity, remember
from kyara.evaluation.features import Extractor, Size, extract
from kyara.files import checkpoint
from kyara.files.checkpoint import CONFIG
from kyara.files.dataset import Dataset
from kyara.files.errors import PictureError
from kyara.files.gallery import TABLE, UNTAGGED
from kyara.files.pictures import center_crop, decode, to_uint8
from kyara.generation.sampler import load_generator, sample_seeds
from kyara.models.base import Generator

PIXELS = 64
"""Shorter side, at most, of what the scores by pixels compare."""


class Source(Protocol):
    """Pictures to be scored."""

    def about(self) -> dict[str, Any]:
        """What a report says of them."""

    def attributes(self) -> list[str]:
        """What is known of what they show."""

    def total(self) -> int: ...

    def size(self) -> Size: ...

    def __iter__(self) -> Iterator[tuple[np.ndarray, Mapping[str, str]]]:
        """Each picture (H, W, 3) uint8 and what it is asked or said to show, attribute -> value."""


@dataclass
class Files:
    """The pictures of a Gallery or a Dataset, at most `count`, spread evenly. What cannot be read is left out."""

    path: Path
    count: int | None = None
    left_out: list[tuple[str, str]] = field(default_factory=list)

    @cached_property
    def pictures(self) -> Pictures:
        return open_pictures(self.path)

    def about(self) -> dict[str, Any]:
        kind = "gallery" if (self.path / TABLE).is_file() else "dataset"
        found: dict[str, Any] = {"kind": kind, "path": str(self.path), "left_out": [list(row) for row in self.left_out]}
        return found

    def attributes(self) -> list[str]:
        return [name for name in self.pictures.attributes if name not in UNTAGGED]

    def total(self) -> int:
        return min(len(self.pictures.names), self.count or len(self.pictures.names))

    def size(self) -> Size:
        for picture, _ in self:
            height, width = picture.shape[:2]
            return width, height
        raise ValueError(f"{self.path}: there is no picture that could be read")

    def __iter__(self) -> Iterator[tuple[np.ndarray, Mapping[str, str]]]:
        self.left_out.clear()
        for i in spread(len(self.pictures.names), self.count):
            try:
                picture = self.pictures.picture(i)
            except (PictureError, OSError) as error:
                self.left_out.append((self.pictures.names[i], str(error)))
                continue
            yield picture, {name: values[i] for name, values in self.pictures.attributes.items()}


@dataclass
class Made:
    """The pictures of a Checkpoint's generator, of seeds `first`, `first` + 1, ..."""

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
        known = self.generator.config.data.attributes
        seeds = range(self.first, self.first + self.count)
        for made, labels in sample_seeds(self.generator, seeds, truncation=self.truncation):
            for i, picture in enumerate(to_uint8(made)):
                yield picture, {name: known[name][values[i]] for name, values in labels.items() if values[i] >= 0}


def open_source(name: str, device: torch.device, *, count: int | None, truncation: float = 1.0) -> Source:
    """What A of `kyara evaluate A` stands for."""
    if name.startswith(("builtin:", "hf-hub:")) or (Path(name) / CONFIG).is_file():
        return Made(name, load_generator(name, device), count or COUNT, truncation=truncation)
    return Files(Path(name), count)


COUNT = 2048
"""Pictures that a generator makes to be scored; fewer make a Fréchet distance say little."""


def spread(total: int, count: int | None) -> list[int]:
    """All of `total` numbers, or `count` of them, evenly spread."""
    if count is None or count >= total:
        return list(range(total))
    return [i * total // count for i in range(count)]


class Reals(Protocol):
    """Real pictures in features."""

    extractor: Extractor
    common: Size

    @property
    def features(self) -> np.ndarray: ...

    @property
    def statistics(self) -> metrics.Statistics: ...

    @property
    def near(self) -> np.ndarray: ...


@dataclass
class Part:
    """Some of the real pictures, as if they were all."""

    extractor: Extractor
    common: Size
    features: np.ndarray

    @cached_property
    def statistics(self) -> metrics.Statistics:
        return metrics.statistics(self.features)

    @cached_property
    def near(self) -> np.ndarray:
        return metrics.neighbours(self.features)


@dataclass
class Reference:
    """The real pictures that others are compared with. What is computed once is remembered between runs."""

    dataset: Dataset
    extractor: Extractor
    common: Size
    """The size that both sides are brought to first."""
    workers: int = 0
    batch: int = 64

    @cached_property
    def key(self) -> dict[str, Any]:
        network = {"features": self.extractor.name, "hash": self.extractor.hash}
        return {"data": identity(self.dataset), **network, "resizer": self.extractor.resizer(self.common)}

    def about(self) -> dict[str, Any]:
        found = {"kind": "dataset", "path": str(self.dataset.path), "fingerprint": self.dataset.fingerprint}
        return found | {"count": len(self.features)}

    @cached_property
    def features(self) -> np.ndarray:
        """(M, F) float32, of those that can be read."""
        return remember("features", self.key, self._extract)["features"]

    @cached_property
    def statistics(self) -> metrics.Statistics:
        def compute() -> Arrays:
            found = metrics.statistics(self.features)
            return {"mean": found.mean, "root": found.root}

        kept = remember("statistics", self.key, compute)
        return metrics.Statistics(len(self.features), kept["mean"], kept["root"])

    @cached_property
    def near(self) -> np.ndarray:
        """What `metrics.neighbours` says, (M, 5)."""
        return remember("neighbours", self.key, lambda: {"near": metrics.neighbours(self.features)})["near"]

    def pictures(self, size: Size, at: int = metrics.ROWS) -> Iterator[np.ndarray]:
        """All of them at that size, (B, H, W, 3) uint8, up to `at` together."""
        block = []
        for picture in self._decode((size,)):
            block.append(picture)
            if len(block) == at:
                yield np.stack(block)
                block = []
        if block:
            yield np.stack(block)

    def _extract(self) -> Arrays:
        sizes = (self.common,) if self.extractor.size is None else (self.common, self.extractor.size)
        values = extract(
            self._decode(sizes), self.extractor, total=len(self.dataset), batch=self.batch, name=self.dataset.path.name
        )
        return {"features": values}

    def _decode(self, sizes: tuple[Size, ...]) -> Iterator[np.ndarray]:
        fit = partial(_fit, sizes=sizes)
        found = self.dataset.map(fit, range(len(self.dataset)), self.workers if len(self.dataset) > 512 else 0)
        return (picture for picture in found if not isinstance(picture, PictureError))


def _fit(data: bytes, name: str, *, sizes: tuple[Size, ...]) -> np.ndarray:
    picture = decode(data, name)
    for size in sizes:
        picture = center_crop(picture, *size)
    return picture
