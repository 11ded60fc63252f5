"""The pictures that `kyara invert` and `kyara avatar` are given: brought to the generator's frame and size, one by
one."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np

from kyara.curation.sources import open_pictures
from kyara.files.errors import PictureError
from kyara.files.gallery import SHEET
from kyara.files.names import printable
from kyara.files.pictures import center_crop, decode, write_png
from kyara.preparation.photo import FaceError, portrait


@dataclasses.dataclass
class Given:
    """A picture as it is sought in the generator."""

    name: str
    """What files made from it are called: unique, and safe as part of a path."""
    source: str
    """Where it came from."""
    picture: np.ndarray
    """(S, S, 3) uint8, aligned if that was asked for."""
    warnings: Sequence[str] = ()


@dataclasses.dataclass
class Photos:
    """A picture, a folder or a .zip of them."""

    path: Path
    detect: str | None
    """The frame that faces are found for and cut to; None takes pictures as they are, cut to the middle."""
    face: int | None
    size: int
    failures: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    """Pictures that could not be used, and why; fills up while they are read."""

    def __post_init__(self) -> None:
        self._readers = dict(self._find())
        if self.face is not None and self.detect is None:
            raise ValueError("--face: says which of the faces found to take; say --detect, and not --aligned")

    def __len__(self) -> int:
        return len(self._readers)

    def _find(self) -> Iterator[tuple[str, Callable[[], Path | bytes]]]:
        if not self.path.is_dir() and self.path.suffix.lower() != ".zip":
            yield str(self.path), lambda: self.path
            return
        pictures = open_pictures(self.path)  # of a Gallery, those in its table
        self.failures += pictures.ignored
        for i, name in enumerate(pictures.names):
            yield name, functools.partial(pictures.read, i)

    def read(self) -> Iterator[Given]:
        """Every picture that can be used. If it is the only one and cannot, its error is raised."""
        used = {Path(SHEET).stem}  # a file of every gallery
        for source, reader in self._readers.items():
            try:
                picture, warnings = self._fit(reader(), source)
            except (PictureError, FaceError) as error:
                if len(self) == 1:
                    raise
                self.failures.append((source, str(error).removeprefix(f"{source}: ")))
                continue
            yield Given(_unique(source, used), source, picture, warnings)

    def _fit(self, content: Path | bytes, source: str) -> tuple[np.ndarray, Sequence[str]]:
        if self.detect is None:  # nothing is said of its quality: a drawing is no blurred photo
            return center_crop(decode(content, source), self.size, self.size), ()
        found = portrait(content, source, face=self.face, frame=self.detect, size=self.size)
        return found.picture, found.warnings

    def groups(self, size: int, out: Path) -> Iterator[list[Given]]:
        """`read`, so many at a time. The first are read before this returns: if there is none to be had, nothing has
        been written yet but, beside `out`, the picture in which no face was found. ValueError says why."""
        reader = self.read()
        try:
            first = list(islice(reader, size))
        except FaceError as error:
            raise FaceError(f"{error}{_show_what_was_seen(error, out)}", error.picture) from error
        if not first:
            reasons = "; ".join(f"{printable(name)}: {printable(why)}" for name, why in self.failures[:3])
            raise ValueError(f"{self.path}: no picture could be used; {reasons}")
        return chain([first], iter(lambda: list(islice(reader, size)), []))


def _unique(source: str, used: set[str]) -> str:
    """The stem of a file's name as part of other names, with a number if it is taken."""
    stem = re.sub(r"[^\w-]+", "-", Path(source).stem)[:60].strip("-") or "picture"
    name, number = stem, 1
    while name.lower() in used:  # some disks do not tell Me.png from me.png
        number += 1
        name = f"{stem}-{number}"
    used.add(name.lower())
    return name


def _show_what_was_seen(error: FaceError, out: Path) -> str:
    """Saves the picture in which no face was found beside `out`; a hint where it lies, or nothing if it cannot be."""
    path = out.with_name(f"{out.name}-seen.png")
    if error.picture is None or path.exists():
        return ""
    try:
        write_png(path, error.picture)
    except OSError:
        return ""
    return f"; what was looked at is in {path}"
