"""Films in and out, a frame at a time (extra `video`: PyAV, which includes FFmpeg's libraries)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from kyara.files.errors import PictureError
from kyara.files.extras import install_hint
from kyara.files.pictures import MAX_PIXELS

SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv"})
"""Suffixes of films, in lower case."""
MAX_LOST = 30
"""Undecodable frames in a row after which the rest is ignored."""


@dataclass(frozen=True)
class Info:
    """The metadata of a film."""

    fps: Fraction
    frames: int
    """0 if unknown."""


def read(path: Path) -> tuple[Info, Iterator[np.ndarray]]:
    """The film's metadata, and its frames, (H, W, 3) uint8, one at a time. PictureError if no frame can be read; single
    frames that cannot be read are left out."""
    contents: Any = _contents(path)
    return next(contents), contents


def _contents(path: Path) -> Iterator[Info | np.ndarray]:
    """First the metadata, then the frames."""
    av = _av()
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise PictureError(f"{path}: not a film that can be read ({_reason(error)})") from error
    with container:
        if not container.streams.video:
            raise PictureError(f"{path}: has no pictures in it, only {', '.join(s.type for s in container.streams)}")
        stream = container.streams.video[0]
        if stream.width * stream.height > MAX_PIXELS or not stream.width * stream.height:
            raise PictureError(f"{path}: declares frames of {stream.width}x{stream.height} pixels")
        frames = _frames(container, stream, path)
        first = next(frames)  # a film without frames is an error before anything is written
        yield Info(stream.average_rate or Fraction(25), stream.frames)
        yield from itertools.chain([first], frames)


def _frames(container: Any, stream: Any, path: Path) -> Iterator[np.ndarray]:
    av, decoded, lost = _av(), 0, 0
    packets = container.demux(stream)
    while lost < MAX_LOST:
        try:
            packet = next(packets)
            for frame in packet.decode():
                upright = round(frame.rotation / 90)  # phones store their films rotated and say so
                yield np.rot90(frame.to_ndarray(format="rgb24"), upright)
                decoded, lost = decoded + 1, 0
        except StopIteration:
            break
        except av.FFmpegError as error:
            lost, why = lost + 1, _reason(error)
    if not decoded:
        raise PictureError(f"{path}: no frame of it can be decoded" + (f" ({why})" if lost else ""))


@dataclass
class Writer:
    """Writes an MP4 (H.264) frame by frame, with the sound of another film. OSError if it cannot be written."""

    path: Path
    info: Info
    sound_of: Path
    warnings: list[str] = field(default_factory=list)

    def __enter__(self) -> Writer:
        self._container = _av().open(str(self.path), "w")
        self._stream: Any = None
        self._sound: Any = None
        return self

    def add(self, frame: np.ndarray) -> None:
        """Adds a frame (H, W, 3) uint8 of the first one's size. An odd last row or column is cut off."""
        if self._stream is None:
            self._begin(*frame.shape[:2])
        height, width = self._stream.height, self._stream.width
        picture = _av().VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
        for packet in self._stream.encode(picture):
            self._container.mux(packet)

    def _begin(self, height: int, width: int) -> None:
        stream = self._container.add_stream("libx264", rate=self.info.fps, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = max(2, width // 2 * 2), max(2, height // 2 * 2), "yuv420p"
        self._stream = stream
        source = _av().open(str(self.sound_of))
        if not source.streams.audio:
            source.close()
            return
        try:
            self._sound = source, self._container.add_stream_from_template(source.streams.audio[0])
        except (ValueError, _av().FFmpegError) as error:
            self.warnings.append(f"{self.sound_of.name}: its sound does not fit into an MP4 ({error}): left out")
            source.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._stream is not None:
            for packet in self._stream.encode():
                self._container.mux(packet)
            if self._sound:
                self._copy_sound(*self._sound)
        self._container.close()

    def _copy_sound(self, source: Any, stream: Any) -> None:
        with source:
            for packet in source.demux(source.streams.audio[0]):
                if packet.dts is not None:
                    packet.stream = stream
                    self._container.mux(packet)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise ValueError(f"films need PyAV; {install_hint('video')}") from error
    return av
