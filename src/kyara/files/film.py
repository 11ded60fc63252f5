"""A film as a source of pictures: the frame shown at every full second (extra `video`: PyAV)."""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kyara.files.archive import changed
from kyara.files.errors import PictureError
from kyara.files.extras import install_hint
from kyara.files.pictures import MAX_PIXELS, resize

SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv"})
"""Suffixes of films, in lower case."""
LONGEST = 24 * 3600  # Seconds of a film that are used; a damaged file may declare centuries
NEAR = 10  # Seconds up to which decoding on is faster than seeking


def load_av() -> Any:
    """The module `av`. Raises ValueError if the extra is missing."""
    try:
        import av
    except ImportError as error:
        raise ValueError(f"films need PyAV; {install_hint('video')}") from error
    return av


def reason(error: Exception) -> str:
    """The text of an error of PyAV."""
    return str(getattr(error, "strerror", None) or error)


def pixel_width(stream: Any, path: Path) -> float:
    """The width of a pixel of a video stream for a height of 1; unknown is square. PictureError if the frames, as they
    are shown, have too many pixels."""
    wide = float(stream.sample_aspect_ratio or 1)
    width, height = round(stream.width * wide), stream.height
    if not 0 < width * height <= MAX_PIXELS:
        raise PictureError(f"{path}: declares frames of {width}x{height} pixels")
    return wide


def upright(frame: Any, wide: float) -> np.ndarray:
    """A frame of PyAV as it is shown, (H, W, 3) uint8: with square pixels (`wide` is from `pixel_width`), and turned by
    its metadata, as phones store it."""
    stored = frame.to_ndarray(format="rgb24")
    shown = resize(stored, max(1, round(stored.shape[1] * wide)), stored.shape[0])
    turned: np.ndarray = np.rot90(shown, round(frame.rotation / 90))
    return turned


class Film:
    """The frames of a film as files, named by their time, such as 0:01:05. Raises PictureError if it has none, and
    ValueError if the extra is missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checksums: dict[str, int] = {}
        self._lock = threading.Lock()
        self._reader: _Reader | None = None
        reader = _Reader(path)
        self.sizes = {_name(second): 0 for second in range(max(1, math.ceil(min(reader.duration, LONGEST))))}
        self.sizes[_name(0)] = path.stat().st_size  # distinguishes films in the fingerprint of a Dataset
        self._seconds = {name: second for second, name in enumerate(self.sizes)}
        reader.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({**state, "_lock": threading.Lock()})

    def changed(self, name: str) -> int:
        return changed(self.path)

    def read(self, name: str) -> bytes:
        with self._lock:
            if self._reader is None:
                self._reader = _Reader(self.path)
            try:
                picture = self._reader.at(self._seconds[name])
            except load_av().FFmpegError as error:
                self._reader.close()
                self._reader = None
                raise PictureError(f"{name}: cannot be decoded ({reason(error)})") from error
        encoded = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(picture)).save(encoded, "BMP")  # not compressed, as it is decoded at once
        return encoded.getvalue()


class _Reader:
    """Decodes frames, quickly if their times increase."""

    def __init__(self, path: Path) -> None:
        av = load_av()
        try:
            self._container = av.open(str(path))
        except (av.FFmpegError, OSError) as error:
            raise PictureError(f"{path}: not a readable film ({reason(error)})") from error
        if not self._container.streams.video:
            raise PictureError(f"{path}: has no video stream")
        self._stream = self._container.streams.video[0]
        self._wide = pixel_width(self._stream, path)
        self._begin = float((self._stream.start_time or 0) * self._stream.time_base)
        self._frames: Iterator[tuple[float, Any]] | None = None
        self._current: Any = None
        self._next: tuple[float, Any] | None = None
        self.duration = self._measured()

    def at(self, second: int) -> np.ndarray:
        """The frame (H, W, 3) uint8 shown at that time, or the first one after it."""
        behind = self._next is None or second < self._time or second > self._time + NEAR
        if self._frames is None or behind:
            self._container.seek(round((self._begin + second) * 1_000_000))  # to the key frame before
            self._frames, self._current = self._decoded(), None
            self._next = next(self._frames, None)
        while self._next is not None and (self._current is None or self._next[0] <= second):
            self._current = self._next
            self._next = next(self._frames, None)
        if self._current is None:
            raise PictureError(f"{_name(second)}: the film has no frame there")
        return upright(self._current[1], self._wide)

    @property
    def _time(self) -> float:
        return self._current[0] if self._current else 0.0

    def _decoded(self) -> Iterator[tuple[float, Any]]:
        for frame in self._container.decode(self._stream):
            yield (frame.time or 0.0) - self._begin, frame

    def _measured(self) -> float:
        """The duration in seconds; some containers do not declare it."""
        if self._stream.duration:
            return float(self._stream.duration * self._stream.time_base)
        if self._container.duration:
            return float(self._container.duration) / 1_000_000
        times = [p.pts * p.time_base for p in self._container.demux(self._stream) if p.pts is not None]
        return float(max(times, default=0)) - self._begin

    def close(self) -> None:
        self._container.close()


def _name(second: int) -> str:
    return f"{second // 3600}:{second // 60 % 60:02d}:{second % 60:02d}"
