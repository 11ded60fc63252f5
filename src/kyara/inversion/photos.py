"""Input pictures of `kyara invert` and `kyara avatar`, aligned and resized for a generator, one by one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np

from kyara.curation.sources import open_pictures
from kyara.files.errors import PictureError
from kyara.files.gallery import SHEET
from kyara.files.names import printable
from kyara.files.pictures import center_crop, decode, write_png
from kyara.preparation import detect
from kyara.preparation.photo import FaceError, portrait


@dataclass
class Photo:
    """A picture of the generator's size."""

    name: str  # stem for files made from it: unique, and safe in a path
    source: str  # where it came from
    picture: np.ndarray  # (S, S, 3) uint8, aligned unless it was already
    warnings: Sequence[str] = ()


class Photos:
    """Picture files, folders and .zip files of them. `failures` lists pictures that cannot be used, with the reason,
    and grows while they are read."""

    def __init__(self, paths: Sequence[Path], frame: str | None, face: int | None, size: int) -> None:
        """`frame` names the detector's frame to which faces are cut; None takes pictures as they are, cropped to the
        middle. `face` selects one of several faces. `size` is the side of the result in pixels."""
        self.paths, self.frame, self.face, self.size = paths, frame, face, size
        if frame is not None:
            detect.load(frame)  # an error if there is no such detector
        self.pictures = open_pictures(*paths)
        self.failures: list[tuple[str, str]] = [*self.pictures.ignored]

    def __len__(self) -> int:
        return len(self.pictures)

    def read(self) -> Iterator[Photo]:
        """Every picture that can be used. If there is only one and it cannot be used, its error is raised."""
        used = {Path(SHEET).stem}  # a file of every gallery
        for i, source in enumerate(self.pictures.names):
            try:
                picture, warnings = self._fit(self.pictures.read(i), source)
            except (PictureError, FaceError) as error:
                if len(self) == 1:
                    raise
                self.failures.append((source, str(error).removeprefix(f"{source}: ")))
                continue
            yield Photo(_unique_stem(source, used), source, picture, warnings)

    def _fit(self, content: bytes, source: str) -> tuple[np.ndarray, Sequence[str]]:
        if self.frame is None:  # no warnings: a drawing is not a blurred photo
            return center_crop(decode(content, source), self.size, self.size), ()
        found = portrait(content, source, face=self.face, frame=self.frame, size=self.size)
        return found.picture, found.warnings

    def batches(self, size: int, out: Path | None = None) -> Iterator[list[Photo]]:
        """Batches of `read`. The first is read before this returns: if no picture can be used, nothing is written yet
        except, beside `out`, the picture in which no face was found. ValueError says why none can be used."""
        reader = self.read()
        try:
            first = list(islice(reader, size))
        except FaceError as error:
            raise FaceError(f"{error}{_save_seen(error, out) if out else ''}", error.picture) from error
        if not first:
            reasons = "; ".join(f"{printable(name)}: {printable(why)}" for name, why in self.failures[:3])
            raise ValueError(f"{', '.join(map(str, self.paths[:3]))}: no picture can be used; {reasons}")
        return chain([first], iter(lambda: list(islice(reader, size)), []))

    def count_usable(self) -> int:
        """How many pictures can be used: reads all of them. ValueError if there is none."""
        return sum(len(batch) for batch in self.batches(1))


def _unique_stem(source: str, used: set[str]) -> str:
    """The stem of a file's name, safe in a path, with a number if it is taken."""
    stem = re.sub(r"[^\w-]+", "-", Path(source).stem)[:60].strip("-") or "picture"
    name, number = stem, 1
    while name.lower() in used:  # some file systems ignore case
        number += 1
        name = f"{stem}-{number}"
    used.add(name.lower())
    return name


def _save_seen(error: FaceError, out: Path) -> str:
    """Saves the picture in which no face was found beside `out`. Returns a hint where it is, if it can be saved."""
    place = out if out.name not in ("", "..") else out.resolve()
    path = place.with_name(f"{place.name}-seen.png")
    if error.picture is None or path.exists():
        return ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, error.picture)
    except OSError:
        return ""
    return f"; the picture that was searched is {path}"
