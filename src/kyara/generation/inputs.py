"""Inputs of translation: pictures from files, folders and .zip files, each with an optional mask."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from kyara.curation.sources import open_pictures
from kyara.files import formats
from kyara.files.errors import PictureError
from kyara.files.formats import SUFFIXES
from kyara.files.masks import MARKED, Masks
from kyara.files.pictures import decode, resize
from kyara.files.workers import processors, thread_map

MOST_FILLED = 0.9  # share of a picture in holes above which the mask may be inverted
AHEAD = 4  # Number of pictures that are read in advance: they may be large


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture to translate."""

    name: str  # Stem of the output file
    source: str
    pixels: np.ndarray  # (H, W, 3) uint8
    hole: np.ndarray | None = None  # (H, W) bool


@dataclasses.dataclass(frozen=True)
class _Entry:
    """A picture that has not been read yet."""

    name: str  # Path relative to its source
    source: str
    read: Callable[[], np.ndarray]
    reason: Callable[[Exception], str]  # the message of an error without the picture's name


class Pictures:
    """The pictures of `sources`, read by threads, at most `AHEAD` in advance. `left_out` lists files that are not used,
    as (source, reason): at first those that are no pictures; iteration adds those that cannot be read."""

    def __init__(self, sources: Sequence[Path], mask: Path | None, side: int | None) -> None:
        """`side` is the length of the shorter side, in pixels. Raises ValueError if a source cannot be opened, or if
        `mask` is a single picture for several sources, or a folder for a single picture."""
        self.side = side
        self.left_out: list[tuple[str, str]] = []
        self.warnings: list[str] = []
        self.error: Exception | None = None  # of the last picture that cannot be read
        self._entries = [e for one in sources for e in _entries(one, self.left_out, alone=len(sources) == 1)]
        one = len(sources) == 1 and is_picture(sources[0])
        self._masks = None if mask is None else Masks(mask)
        if self._masks and one and self._masks.is_folder:
            raise ValueError(f"--mask {mask}: is a folder, but {sources[0]} is one picture; give one mask")
        if self._masks and not one and not self._masks.is_folder:
            raise ValueError(f"--mask {mask}: is one mask for several pictures; give a folder with one for each")

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Picture]:
        taken = {"sheet"}  # sheet.png is reserved for the contact sheet
        for entry, picture in thread_map(self._picture, self._entries, min(AHEAD, processors()), AHEAD):
            if isinstance(picture, PictureError | ValueError):
                self.error = picture
                self.left_out.append((entry.source, entry.reason(picture)))
            elif isinstance(picture, Exception):
                raise picture
            else:
                if picture.hole is not None and (share := float(picture.hole.mean())) > MOST_FILLED:
                    self.warnings.append(f"{entry.source}: the mask marks {share:.0%} of it as a hole; holes are white")
                yield dataclasses.replace(picture, name=_free(picture.name, taken))

    def _picture(self, entry: _Entry) -> Picture:
        pixels = entry.read()
        mask = None if self._masks is None else self._masks.read(entry.name)
        if mask is not None and mask.shape != pixels.shape[:2]:
            sizes = " and ".join(f"{one.shape[1]}x{one.shape[0]}" for one in (mask, pixels))
            raise ValueError(f"--mask: the size of the mask differs from that of {entry.source}: {sizes} pixels")
        if self.side is not None:
            width, height = scaled(pixels, self.side)
            pixels = resize(pixels, width, height)
            if mask is not None:
                levels = np.repeat((mask >= MARKED)[..., None], 3, 2).astype(np.uint8) * 255
                mask = resize(levels, width, height)[..., 0] / np.float32(255)
        hole = None if mask is None else mask >= MARKED
        return Picture(PurePosixPath(entry.name).stem, entry.source, pixels, hole)


def _entries(source: Path, left_out: list[tuple[str, str]], *, alone: bool) -> Iterator[_Entry]:
    """The pictures of a source, with the folder's or .zip's name as prefix unless it is the only source (`alone`). Its
    other files, but for those that Kyara writes, are added to `left_out`."""
    if is_picture(source):
        shown = source.name if alone else source.as_posix()
        reason = lambda error: str(error).removeprefix(f"{source}: ")  # noqa: E731
        yield _Entry(source.name, shown, functools.partial(decode, source), reason)
        return
    if source.is_file() and (hint := formats.by_name(source)):
        raise PictureError(f"{source}: {hint}")
    dataset = open_pictures(source)
    left_out += [(_shown(source, name, alone), reason) for name, reason in dataset.ignored]
    for i, name in enumerate(dataset.names):
        read = functools.partial(dataset.picture, i)
        reason = functools.partial(dataset.reason, i)
        yield _Entry(name.removeprefix(dataset.base), _shown(source, name, alone), read, reason)


def _shown(source: Path, name: str, alone: bool) -> str:
    return name if alone else (source / name).as_posix()


def is_picture(source: Path) -> bool:
    """Whether it is a file with the suffix of a picture."""
    return source.is_file() and source.suffix.lower() in SUFFIXES


def scaled(picture: np.ndarray, side: int) -> tuple[int, int]:
    """Width and height after resizing the shorter side to `side` pixels."""
    height, width = picture.shape[:2]
    scale = side / min(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _free(stem: str, taken: set[str]) -> str:
    """The name, with a number appended if it is taken."""
    name = next(n for n in itertools.chain([stem], (f"{stem}-{i}" for i in itertools.count(2))) if n not in taken)
    taken.add(name)
    return name
