"""The Dataset: a folder or one .zip with pictures and their attributes.

    metadata.csv      file_name, then one column per attribute, empty = unknown (written by Kyara)
    metadata.jsonl    one object per line, with file_name
    dataset.json      StyleGAN's format: {"labels": [[path, label], ...]}
    gallery.csv       the attributes of a Gallery
    hair-blue/ ...    two or more sub-folders: the attribute `class`
    (nothing)         a plain folder

Archives are untrusted: entries with paths outside the archive, encrypted and oversized entries are skipped and listed
in `Dataset.ignored`. Nothing is extracted to disk."""

from __future__ import annotations

import codecs
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import re
import sys
import zipfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np

from kyara.files import film, formats, pictures
from kyara.files.archive import Files, Folder, Several, SingleFiles, Zip
from kyara.files.errors import DatasetError, PictureError
from kyara.files.gallery import PAGE, SHEET, TABLE
from kyara.files.metadata import READERS, Row
from kyara.files.names import common_folder, normalized
from kyara.files.workers import process_map

T = TypeVar("T")

ABOUT_THE_FILE = frozenset({"file_name", "source"})  # Metadata columns about the file, which are not attributes
POINTS = "points"  # The column of landmarks: x and y of each as fractions of width and height, separated by spaces
BOXES = "boxes"  # The column of faces, see `face_boxes`
RESERVED = ABOUT_THE_FILE | {POINTS, BOXES}  # Names that no attribute can have
NOT_PICTURES = frozenset(
    {
        "metadata.csv",
        "metadata.jsonl",
        "dataset.json",
        "labels.csv",
        "report.json",
        "report.html",
        "nearest.csv",
        TABLE,
        PAGE,
    }
)
"""Files that Kyara writes next to pictures. They are not reported as ignored."""
ARCHIVES = frozenset({".zip", ".7z", ".rar", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst"})


@dataclasses.dataclass(eq=False)
class Dataset:
    """Pictures with attributes. Opening a Dataset reads names and metadata, but no pictures."""

    path: Path
    files: Files = dataclasses.field(repr=False)
    names: list[str] = dataclasses.field(repr=False)  # Of the pictures, relative to `path`, with forward slashes
    attributes: dict[str, list[str]] = dataclasses.field(default_factory=dict, repr=False)
    """Attribute -> one value per picture, "" if unknown."""
    ignored: list[tuple[str, str]] = dataclasses.field(default_factory=list, repr=False)
    """(name, reason) of the files that were skipped. Damaged pictures are only detected when decoded."""
    base: str = ""  # The common folder, such as "art/", or empty. Names in the metadata are relative to it.
    metadata: str | None = None  # Name of the metadata file that was read
    point_cells: list[str] = dataclasses.field(default_factory=list, repr=False)  # Column `points`; may be empty
    box_cells: list[str] = dataclasses.field(default_factory=list, repr=False)  # Column `boxes`; may be empty

    def __len__(self) -> int:
        return len(self.names)

    def location(self, i: int) -> Path:
        """Path of the i-th picture for messages and tables; in a .zip: path of the .zip / name in it."""
        return self.path / self.names[i]

    def read(self, i: int) -> bytes:
        """The encoded bytes of the i-th picture. Raises PictureError if they cannot be read."""
        return self.files.read(self.names[i])

    def picture(self, i: int, at_least: int | None = None) -> np.ndarray:
        """The i-th picture at its original size, (H, W, 3) uint8; `at_least` as in `pictures.decode`."""
        return pictures.decode(self.read(i), f"{self.location(i)}", at_least=at_least)

    def reason(self, i: int, error: Exception) -> str:
        """The error message without the name of the i-th picture, which reports show in a separate column."""
        return str(error).removeprefix(f"{self.location(i)}: ").removeprefix(f"{self.names[i]}: ")

    def unreadable(self, indices: Iterable[int]) -> dict[int, str]:
        """Those of the pictures that cannot be read now, index -> reason. It may be gone in another run."""
        failed = {}
        for i in indices:
            try:
                self.picture(i)
            except Exception as error:
                failed[i] = self.reason(i, error)
        return failed

    def map(
        self, function: Callable[..., T], indices: Iterable[int], workers: int = 0, *each: Iterable[Any]
    ) -> Generator[T | PictureError, None, None]:
        """Yields `function(bytes, name)` for each picture, in order, or the PictureError that it raised. Further
        arguments of the function are taken from `each`, one per picture.

        With `workers` > 0, worker processes prefetch a bounded number of pictures, so `indices` may be infinite. The
        function must be picklable: defined in a module, or a partial of such a function."""
        return process_map(self.files, function, zip((self.names[i] for i in indices), *each, strict=False), workers)

    def decode(self, indices: Iterable[int], width: int, height: int, workers: int = 0) -> Iterator[np.ndarray]:
        """Yields these pictures in order, each (height, width, 3) uint8, resized by `pictures.center_crop` (unchanged
        if they have that size). Raises PictureError at the first one that cannot be decoded."""
        for picture in self.map(functools.partial(crop, width=width, height=height), indices, workers):
            if isinstance(picture, PictureError):
                raise PictureError(f"{self.path}/{picture}")
            yield picture

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of names, sizes, checksums (in a .zip) and attributes, 16 hexadecimal digits. Independent of the
        location and the name of the folder or .zip."""
        digest = hashlib.sha256()
        for i, name in enumerate(self.names):
            known = [values[i] for values in self.attributes.values()]
            known += self.point_cells[i : i + 1] + self.box_cells[i : i + 1]
            line = [name.removeprefix(self.base), self.files.sizes.get(name), self.files.checksums.get(name), *known]
            digest.update(json.dumps(line).encode())
        digest.update(json.dumps(list(self.attributes)).encode())
        return digest.hexdigest()[:16]

    def labels(self, attribute: str, values: Sequence[str]) -> np.ndarray:
        """Labels of `attribute` as indices into `values`: (N,) int64, -1 where unknown."""
        index = {value: i for i, value in enumerate(values) if value}
        column = self.attributes.get(attribute, [""] * len(self))
        return np.array([index.get(value, -1) for value in column], dtype=np.int64)

    @functools.cached_property
    def points(self) -> np.ndarray:
        """The column `points`: (N, K, 2) float32, NaN where unknown. Raises DatasetError if a cell is malformed."""
        if not any(self.point_cells):
            raise DatasetError(f"{self.path}: the metadata has no column `{POINTS}`, or the column is empty")
        counts = {len(text.split()) for text in self.point_cells if text}
        if len(counts) != 1 or (count := counts.pop()) % 2:
            raise DatasetError(
                f"{self.path}: column `{POINTS}` must have the same number of points for every picture: x y x y ..."
            )
        found = np.full((len(self), count), np.nan, np.float32)
        for i, text in enumerate(self.point_cells):
            try:
                if text:
                    found[i] = [float(number) for number in text.split()]
            except ValueError as error:
                raise DatasetError(f"{self.location(i)}: its `{POINTS}` are not numbers ({error})") from error
        return found.reshape(len(self), -1, 2)

    def subset(self, indices: Iterable[int]) -> Dataset:
        """The Dataset of these pictures only."""
        chosen = list(indices)
        return dataclasses.replace(
            self,
            names=[self.names[i] for i in chosen],
            attributes={key: [values[i] for i in chosen] for key, values in self.attributes.items()},
            point_cells=[self.point_cells[i] for i in chosen] if self.point_cells else [],
            box_cells=[self.box_cells[i] for i in chosen] if self.box_cells else [],
        )

    def split(self, share: float) -> tuple[Dataset, Dataset]:
        """Deterministic split into a training and a held-out set; `share` of the pictures (at least 1) is held out."""
        order = np.random.RandomState(0).permutation(len(self))
        held_out = max(1, round(share * len(self)))
        if held_out >= len(self):
            raise DatasetError(f"{self.path}: too small ({len(self)}) to hold out {held_out}; add pictures")
        return self.subset(sorted(order[held_out:].tolist())), self.subset(sorted(order[:held_out].tolist()))

    def find(self, file_name: str) -> int | None:
        """Index of the picture with this name in the metadata, with forward or backward slashes and composed or
        decomposed accents; None if there is none."""
        name = self.base + str(PurePosixPath(file_name.replace("\\", "/")))
        return self._indices.get(name, self._indices.get(normalized(name)))

    @functools.cached_property
    def _indices(self) -> dict[str, int]:
        return {normalized(name): i for i, name in enumerate(self.names)} | {n: i for i, n in enumerate(self.names)}

    def rows(self) -> list[Row]:
        """All rows of the metadata file, including those of missing pictures; empty if there is no such file. Raises
        DatasetError with the number of a malformed line."""
        if self.metadata is None:
            return []
        file = self.metadata.removeprefix(self.base)
        return list(READERS[file](self.text(file), f"{self.path / self.metadata}"))

    def text(self, file: str) -> str:
        """Contents of a text file in `base`. Raises DatasetError if it is not UTF-8 or too large."""
        name = self.base + file
        if self.files.sizes[name] > pictures.MAX_BYTES:
            raise DatasetError(f"{self.path / name}: larger than {pictures.MAX_BYTES >> 20} MiB")
        try:
            data = self.files.read(name)
            if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # "Unicode text" of spreadsheets
                return data.decode("utf-16")
            # File names in a Gallery may not be valid UTF-8.
            return data.decode("utf-8-sig", "surrogateescape" if file == TABLE else "strict")
        except PictureError as error:
            raise DatasetError(f"{self.path}/{error}") from error
        except UnicodeDecodeError as error:
            raise DatasetError(f"{self.path / name}: not UTF-8 text ({error.reason}); save it as UTF-8") from error

    def _read_metadata(self) -> None:
        lines: dict[int, str] = {}
        for line, name, values in self.rows():
            i = self.find(name)
            if i is None:
                self.ignored.append((name, f"listed in {self.metadata}, {line}, but there is no such picture"))
                continue
            if i in lines:
                where = self.path / str(self.metadata)
                raise DatasetError(f"{where}, {line}: duplicate of {lines[i]} ({name}); keep one of them")
            lines[i] = line
            for attribute, value in values.items():
                if attribute == POINTS:
                    self.point_cells = self.point_cells or [""] * len(self.names)
                    self.point_cells[i] = value
                elif attribute == BOXES:
                    self.box_cells = self.box_cells or [""] * len(self.names)
                    self.box_cells[i] = value
                elif attribute not in ABOUT_THE_FILE:
                    if attribute not in self.attributes:  # a new column for each cell would take quadratic time
                        self.attributes[attribute] = [""] * len(self.names)
                    self.attributes[attribute][i] = value
        if not any(self.point_cells):
            self.point_cells = []

    def _read_classes(self) -> None:
        """Sets the attribute `class` from the top-level folders if there are several, "" for pictures beside them.
        Folders named after the hashes that their files are named by, such as 3f/3f9c01ab77e2.webp, are no classes."""
        parts = [name.removeprefix(self.base).split("/") for name in self.names]
        classes = [normalized(part[0]) if len(part) > 1 else "" for part in parts]
        hashed = all(re.fullmatch("[0-9a-f]{2}", p[0]) and re.match(f"{p[0]}[0-9a-f]{{10}}", p[-1]) for p in parts)
        if len({*classes} - {""}) >= 2 and not hashed:
            self.attributes["class"] = classes


def open_dataset(path: str | os.PathLike[str]) -> Dataset:
    """Opens the Dataset at `path`, a folder or a .zip in any form listed above. Raises DatasetError if it cannot."""
    path = Path(path)
    if not path.exists():
        raise DatasetError(f"{path}: does not exist; give a folder with pictures or a .zip")
    files = Folder(path) if path.is_dir() else Zip(path)
    base = _base(files.sizes)
    metadata = next((base + file for file in READERS if base + file in files.sizes), None)
    dataset = Dataset(path, files, [], ignored=list(files.ignored), base=base, metadata=metadata)
    for name in sorted(files.sizes):
        if reason := _not_a_picture(name.removeprefix(base), f"{base}{TABLE}" in files.sizes):
            dataset.ignored.append((name, reason))
        elif PurePosixPath(name).suffix.lower() in formats.SUFFIXES:
            dataset.names.append(name)
    if metadata is not None:
        dataset._read_metadata()
    else:
        dataset._read_classes()
    return _not_empty(dataset)


def open_datasets(paths: Iterable[Path], open_one: Callable[[Path], Dataset] = open_dataset) -> Dataset:
    """Merges folders, .zip files (opened by `open_one`), films and single pictures into one Dataset, in the given
    order. With several sources, a picture's name is its path. Raises DatasetError if one of them cannot be opened."""
    parts: list[Dataset] = []
    for single, group in itertools.groupby(dict.fromkeys(paths), key=_is_single):
        found = list(group)
        if single:
            parts.append(_single_pictures(found))
        else:
            parts += [_film(path) if _is_film(path) else open_one(path) for path in found]
    return parts[0] if len(parts) == 1 else _join(parts)


def _is_single(path: Path) -> bool:
    is_zip = path.suffix.lower() == ".zip" or (not formats.by_name(path) and zipfile.is_zipfile(path))
    return path.is_file() and not is_zip and not _is_film(path)  # .kra, .ora and others are a .zip inside


def _is_film(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in film.SUFFIXES


def _film(path: Path) -> Dataset:
    try:
        files = film.Film(path)
    except PictureError as error:
        raise DatasetError(str(error)) from error
    return Dataset(path, files, list(files.sizes))


def _single_pictures(paths: Sequence[Path]) -> Dataset:
    reasons = {path: _not_a_single_picture(path) for path in paths}
    files = SingleFiles([path for path, reason in reasons.items() if reason is None])
    ignored = [(path.as_posix(), reason) for path, reason in reasons.items() if reason is not None]
    return _not_empty(Dataset(Path(), files, list(files.sizes), ignored=ignored), paths[0])


def _not_a_single_picture(path: Path) -> str | None:
    """Why a file is skipped; None for pictures, also those with an unusual suffix."""
    if path.name == SHEET and path.with_name(TABLE).is_file():
        return "the contact sheet of a gallery"
    if path.suffix.lower() in formats.SUFFIXES:
        return None
    try:
        pictures.measure(path)
    except PictureError as error:
        return str(error).removeprefix(f"{path}: ")
    return None


def _join(parts: Sequence[Dataset]) -> Dataset:
    entries = [(part.location(i).as_posix(), part.files, name) for part in parts for i, name in enumerate(part.names)]
    attributes = {name: list[str]() for part in parts for name in part.attributes}
    for part in parts:
        for name, column in attributes.items():
            column += part.attributes.get(name, [""] * len(part))
    ignored = [((part.path / name).as_posix(), reason) for part in parts for name, reason in part.ignored]
    return Dataset(Path(), Several(entries), [name for name, *_ in entries], attributes, ignored)


def _not_empty(dataset: Dataset, path: Path | None = None) -> Dataset:
    if not dataset.names:
        why = "".join(f"; {name}: {reason}" for name, reason in dataset.ignored[:3])
        endings = ", ".join(sorted(formats.SUFFIXES))
        raise DatasetError(f"{path or dataset.path}: contains no pictures (files that end in {endings}){why}")
    return dataset


def _base(names: Iterable[str]) -> str:
    """The common folder of all pictures and metadata, as zipping a folder creates; "" if there is none."""
    folders = [
        folder
        for *folder, file in (name.split("/") for name in names)
        if file in READERS or PurePosixPath(file).suffix.lower() in formats.SUFFIXES
    ]
    return "".join(f"{folder}/" for folder in common_folder(folders))


def _not_a_picture(name: str, in_gallery: bool) -> str | None:
    """Why a file is skipped; None for pictures, and for files written by Kyara."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in ARCHIVES:
        return "an archive inside a folder; give it as a source of its own"
    if suffix in film.SUFFIXES:
        return "a film inside a folder; give it as a source of its own"
    if in_gallery and name == SHEET:
        return "the contact sheet of a gallery"
    if suffix in formats.SUFFIXES or name in NOT_PICTURES:
        return None
    return formats.by_name(name) or "not a picture, by its suffix"


def crop(data: bytes, name: str, *, width: int, height: int) -> np.ndarray:
    """A picture's bytes, decoded and resized by `pictures.center_crop`: (height, width, 3) uint8."""
    return pictures.center_crop(pictures.decode(data, name), width, height)


def check(data: bytes, name: str) -> None:
    """Raises PictureError if a picture's bytes cannot be decoded."""
    pictures.decode(data, name)


def known_values(column: Iterable[str]) -> list[str]:
    """The distinct known values of an attribute in label order: integers numerically, then text alphabetically, as are
    integers of more than 640 digits, which Python may refuse to convert."""
    known, most = {value for value in column if value}, sys.int_info.str_digits_check_threshold
    return sorted(known, key=lambda v: (0, int(v), v) if v.isdecimal() and len(v) <= most else (1, 0, v))
