"""The Dataset: a folder or one .zip with pictures and what is known about them, opened as it lies there.

    metadata.csv      file_name, then one column per attribute, empty = unknown (what Kyara writes)
    metadata.jsonl    one object a line, with file_name
    dataset.json      of StyleGAN: {"labels": [[path, label], ...]}
    hair-blue/ ...    class sub-folders: the attribute `class`
    (nothing)         a plain folder

Someone else's archive is hostile: names that lead outside, encrypted or oversized entries are left out and
listed in `Dataset.ignored`; nothing is ever unpacked.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import itertools
import json
import os
import re
import unicodedata
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from kyara.files import formats, pictures
from kyara.files.archive import Files, Folder, Zip
from kyara.files.errors import DatasetError, PictureError
from kyara.files.metadata import READERS, Row
from kyara.files.pictures import MAX_BYTES, SUFFIXES
from kyara.files.workers import work

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

ABOUT_THE_FILE = frozenset({"file_name", "source"})
"""Columns of metadata that say where a picture lies or comes from: no attributes of what it shows."""
POINTS = "points"
"""The column of places in the picture: x and y of each as shares of its width and height, all with spaces between."""
COMPANIONS = frozenset(
    {"metadata.csv", "metadata.jsonl", "dataset.json", "labels.csv", "gallery.csv", "report.json", "index.html"}
)
ARCHIVES = frozenset({".zip", ".7z", ".rar", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst"})


class Dataset:
    """Pictures with attributes. Opening reads names and metadata, no picture.

    `ignored` lists what was left out as (name, reason); what only looks like a picture shows when it is
    decoded. `base` is the one folder in which everything lies, as "art/", or empty; `metadata` the file that was read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.files = _open_files(self.path)
        self.ignored = list(self.files.ignored)
        self.base = base = _base(self.files.sizes)
        self.metadata = next((base + file for file in READERS if base + file in self.files.sizes), None)
        self.names: list[str] = []
        for name in sorted(self.files.sizes):
            if reason := _no_picture(name, base, f"{base}gallery.csv" in self.files.sizes):
                self.ignored.append((name, reason))
            elif PurePosixPath(name).suffix.lower() in SUFFIXES:
                self.names.append(name)
        self.attributes: dict[str, list[str]] = {}
        self.marks = [""] * len(self.names)  # the column `points`
        if self.metadata is not None:
            self._read_metadata()
        else:
            self._read_classes(base)
        if not self.names:
            why = "".join(f"; {name}: {reason}" for name, reason in self.ignored[:3])
            endings = ", ".join(sorted(SUFFIXES))
            raise DatasetError(f"{self.path}: no pictures in it (files that end in {endings}){why}")

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"Dataset({str(self.path)!r}: {len(self)} pictures, attributes {list(self.attributes)})"

    def read(self, i: int) -> bytes:
        """The i-th picture as it is stored."""
        return self.files.read(self.names[i])

    def picture(self, i: int, at_least: int | None = None) -> np.ndarray:
        """The i-th picture at its own size, (H, W, 3) uint8; `at_least` as in `pictures.decode`."""
        return pictures.decode(self.read(i), f"{self.path / self.names[i]}", at_least=at_least)

    def map(
        self, function: Callable[[bytes, str], T], indices: Iterable[int], workers: int = 0
    ) -> Generator[T | PictureError, None, None]:
        """`function(bytes, name)` of each of these pictures, in their order, or the PictureError it raised.

        With `workers`, that many processes run it, a bounded way ahead of what is taken from the iterator:
        `indices` may be endless. The function must be importable (defined in a module, or a partial of one).
        """
        return work(self.files, function, (self.names[i] for i in indices), workers)

    def decode(self, indices: Iterable[int], width: int, height: int, workers: int = 0) -> Iterator[np.ndarray]:
        """These pictures in their order, each (height, width, 3) uint8, fitted by `pictures.center_crop`; one
        of that size is untouched. PictureError at the first that cannot be decoded."""
        fit = functools.partial(_fit, width=width, height=height)
        for picture in self.map(fit, indices, workers):
            if isinstance(picture, PictureError):
                raise PictureError(f"{self.path}/{picture}")
            yield picture

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with the names, sizes, checksums (in a .zip) and attributes."""
        digest = hashlib.sha256()
        for i, name in enumerate(self.names):
            known = [values[i] for values in self.attributes.values()] + [self.marks[i]] * any(self.marks)
            line = [name, self.files.sizes[name], self.files.checksums.get(name), *known]
            digest.update(json.dumps(line).encode())
        digest.update(json.dumps(list(self.attributes)).encode())
        return digest.hexdigest()[:16]

    def labels(self, attribute: str, values: Sequence[str]) -> np.ndarray:
        """Of every picture, the index of its value of `attribute` in `values`: (N,) int64, -1 where unknown."""
        index = {value: i for i, value in enumerate(values) if value}
        column = self.attributes.get(attribute, [""] * len(self))
        return np.array([index.get(value, -1) for value in column], dtype=np.int64)

    @functools.cached_property
    def points(self) -> np.ndarray:
        """The column `points`: (N, K, 2) float32, NaN where unknown. DatasetError names the picture whose points cannot
        be understood."""
        if not any(self.marks):
            raise DatasetError(f"{self.path}: its metadata have no column `{POINTS}`, or nothing in it")
        counts = {len(text.split()) for text in self.marks if text}
        if len(counts) != 1 or (count := counts.pop()) % 2:
            raise DatasetError(
                f"{self.path}: its column `{POINTS}` must name the same places of every picture: x y x y ..."
            )
        found = np.full((len(self), count), np.nan, np.float32)
        for i, text in enumerate(self.marks):
            try:
                if text:
                    found[i] = [float(number) for number in text.split()]
            except ValueError as error:
                raise DatasetError(f"{self.path / self.names[i]}: its `{POINTS}` are no numbers ({error})") from error
        return found.reshape(len(self), -1, 2)

    def subset(self, indices: Iterable[int]) -> Dataset:
        """The Dataset of these pictures only."""
        chosen = list(indices)
        part = copy.copy(self)
        for cached in ("fingerprint", "points", "_numbers"):
            part.__dict__.pop(cached, None)
        part.names = [self.names[i] for i in chosen]
        part.attributes = {key: [values[i] for i in chosen] for key, values in self.attributes.items()}
        part.marks = [self.marks[i] for i in chosen]
        return part

    def split(self, share: float) -> tuple[Dataset, Dataset]:
        """All but `share` of the pictures, and these, at least one; always the same ones."""
        order = np.random.RandomState(0).permutation(len(self))
        held = max(1, round(share * len(self)))
        if held >= len(self):
            raise DatasetError(f"{self.path}: {len(self)} pictures are too few to hold {held} of them back")
        return self.subset(sorted(order[held:].tolist())), self.subset(sorted(order[:held].tolist()))

    def find(self, file_name: str) -> int | None:
        """The number of the picture that metadata call `file_name`: either slash, accents in one piece or two."""
        return self._numbers.get(_same(self.base + str(PurePosixPath(file_name.replace("\\", "/")))))

    @functools.cached_property
    def _numbers(self) -> dict[str, int]:
        return {_same(name): i for i, name in enumerate(self.names)}

    def rows(self) -> list[Row]:
        """All that the metadata file says, also about pictures that are not there; nothing if there is no such file.
        DatasetError names the line that cannot be understood."""
        if self.metadata is None:
            return []
        file = self.metadata.removeprefix(self.base)
        return list(READERS[file](self.text(file), f"{self.path / self.metadata}"))

    def text(self, companion: str) -> str:
        """What a file that stands beside the pictures says. DatasetError if it is no text, or too much."""
        name = self.base + companion
        if self.files.sizes[name] > MAX_BYTES:
            raise DatasetError(f"{self.path / name}: larger than {MAX_BYTES >> 20} MiB")
        try:
            return self.files.read(name).decode("utf-8-sig")
        except PictureError as error:
            raise DatasetError(f"{self.path}/{error}") from error
        except UnicodeDecodeError as error:
            raise DatasetError(f"{self.path / name}: not UTF-8 text ({error.reason}); save it as UTF-8") from error

    def _read_metadata(self) -> None:
        lines: dict[int, str] = {}
        for line, name, values in self.rows():
            i = self.find(name)
            if i is None:
                self.ignored.append((name, f"{line} of {self.metadata} names it, but there is no such picture"))
                continue
            if i in lines:
                where = self.path / str(self.metadata)
                raise DatasetError(f"{where}, {line}: names {name} again after {lines[i]}; keep one of them")
            lines[i] = line
            for attribute, value in values.items():
                if attribute == POINTS:
                    self.marks[i] = value
                elif attribute not in ABOUT_THE_FILE:
                    self.attributes.setdefault(attribute, [""] * len(self.names))[i] = value

    def _read_classes(self, base: str) -> None:
        """The attribute `class` from the top-level folders, unless they only spread files over a disk."""
        tops = [name.removeprefix(base).split("/")[:-1][:1] for name in self.names]
        classes = {top[0] for top in tops if top}
        if all(tops) and len(classes) >= 2 and not all(re.fullmatch("[0-9a-f]{2}", c) for c in classes):
            self.attributes["class"] = [top[0] for top in tops]


def open_dataset(path: str | os.PathLike[str]) -> Dataset:
    """The Dataset at `path`, a folder or a .zip in any form named above. DatasetError says what is wrong."""
    return Dataset(path)


def _open_files(path: Path) -> Files:
    if path.is_dir():
        return Folder(path)
    if path.is_file():
        return Zip(path)
    raise DatasetError(f"{path}: not there; give a folder with pictures or a .zip")


def _base(names: Iterable[str]) -> str:
    """The folder in which everything lies: whoever zips a folder gets one."""
    tops = {name.partition("/")[0] if "/" in name else "" for name in names}
    return f"{tops.pop()}/" if len(tops) == 1 and "" not in tops else ""


def _no_picture(name: str, base: str, in_gallery: bool) -> str | None:
    """Why a file of that name is not among the pictures; None if it is, or if nobody would expect it."""
    short, suffix = name.removeprefix(base), PurePosixPath(name).suffix.lower()
    if suffix in ARCHIVES:
        return "an archive inside a folder: give it to prepare by itself"
    if in_gallery and short == "sheet.png":
        return "the gallery's overview"
    if suffix in SUFFIXES or short in COMPANIONS:
        return None
    return formats.by_name(name) or "not a picture by the ending of its name"


def _same(name: str) -> str:
    """One spelling for names that look the same: macOS takes accents apart."""
    return unicodedata.normalize("NFC", name)


def _fit(data: bytes, name: str, *, width: int, height: int) -> np.ndarray:
    return pictures.center_crop(pictures.decode(data, name), width, height)


class Stream:
    """An endless order of pictures to train on, the same for the same seed, that can be taken up anywhere.

    Every epoch is a fresh permutation; `mirror` flips a picture left to right with probability 1/2. Both are
    a pure function of `seed` and the position, so `start=N` goes on exactly as if N pictures had been taken.
    `batch` counts the pictures of one step over all `world` ranks; each gets its share of every batch.

    Yields (pictures uint8 (B, 3, H, W), labels: attribute -> index into `values` (B,) int64, -1 = unknown). `values`
    says which attributes and values count, by default all; what is not among them is unknown. With `points` the labels
    have those too, (B, K, 2) float32, NaN = unknown, mirrored with the picture.
    A set that fits into `memory_limit` bytes once decoded is kept as one array; a larger one is decoded by
    `workers` processes ahead of time. DatasetError if there are pictures that cannot be decoded.
    """

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
        import torch

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
        elif start == 0 and rank == 0:  # a run that is taken up has seen them before
            _refuse(dataset, dataset.map(_check, range(len(dataset)), workers))

    def __iter__(self) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        import torch

        share = self.batch // self.world
        begins = itertools.count(self.start + self.rank * share, self.batch)
        shares, ahead = itertools.tee(self.order(range(begin, begin + share)) for begin in begins)
        fitted = None
        if self._memory is None:
            order = (int(i) for indices, _ in ahead for i in indices)
            fitted = self.dataset.decode(order, self.width, self.height, self.workers)
        del ahead  # what nobody takes from it would pile up
        for indices, flips in shares:
            index = torch.from_numpy(indices)
            if self._memory is not None:
                batch = self._memory[index]  # (B, 3, H, W)
            else:
                assert fitted is not None
                stacked = np.stack(list(itertools.islice(fitted, share)))  # (B, H, W, 3)
                batch = torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous()  # (B, 3, H, W)
            known = {key: labels[index] for key, labels in self._labels.items()}
            if self._points is not None:
                known[POINTS] = self._points[index]  # (B, K, 2)
            if self.mirror:
                mirrored = torch.from_numpy(flips)
                batch = torch.where(mirrored[:, None, None, None], batch.flip(3), batch)
                if self._points is not None:
                    known[POINTS][mirrored, :, 0] = 1 - known[POINTS][mirrored, :, 0]
            yield batch, known

    def order(self, positions: range) -> tuple[np.ndarray, np.ndarray]:
        """Which pictures stand at these positions, (B,) int64, and which are mirrored, (B,) bool."""
        n = len(self.dataset)
        parts = []
        for epoch in range(positions.start // n, (positions.stop - 1) // n + 1):
            first = epoch * n
            within = slice(max(positions.start - first, 0), min(positions.stop - first, n))
            parts.append([column[within] for column in _epoch(n, self.seed, epoch)])
        indices, flips = zip(*parts, strict=True)
        return np.concatenate(indices), np.concatenate(flips)

    def _decode_all(self) -> Tensor:
        import torch

        n = len(self.dataset)
        array = np.empty((n, 3, self.height, self.width), dtype=np.uint8)
        fit = functools.partial(_fit, width=self.width, height=self.height)
        workers = self.workers if n > 512 else 0  # starting processes takes longer than a few pictures
        bad: list[PictureError] = []
        for i, picture in enumerate(self.dataset.map(fit, range(n), workers)):
            if isinstance(picture, PictureError):
                bad.append(picture)
            else:
                array[i] = picture.transpose(2, 0, 1)
        _refuse(self.dataset, bad)
        return torch.from_numpy(array)  # (N, 3, H, W)


@functools.lru_cache(maxsize=4)
def _epoch(n: int, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The permutation of one epoch and its coin tosses. RandomState: its numbers are frozen for good."""
    random = np.random.RandomState([seed % 2**32, epoch])
    return random.permutation(n).astype(np.int64), random.randint(0, 2, n).astype(bool)


def known_values(column: Iterable[str]) -> list[str]:
    """The different known values of an attribute in the order of their labels; numbers by size."""
    known = {value for value in column if value}
    return sorted(known, key=lambda v: (0, int(v), v) if v.isdecimal() else (1, 0, v))


def _check(data: bytes, name: str) -> None:
    pictures.decode(data, name)


def _refuse(dataset: Dataset, results: Iterable[object]) -> None:
    bad = [result for result in results if isinstance(result, PictureError)]
    if bad:
        first = "; ".join(map(str, bad[:3]))
        hint = f"`kyara prepare {dataset.path} OUT` makes a dataset without such files"
        raise DatasetError(f"{dataset.path}: {len(bad)} pictures cannot be decoded ({first}); {hint}")
