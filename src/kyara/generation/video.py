"""Reading and writing films frame by frame (extra `video`: PyAV, which includes FFmpeg's libraries)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from kyara.files.errors import PictureError
from kyara.files.film import load_av, pixel_width, reason, upright

LONGEST = 3600 * 24  # Seconds that a frame may be shown; a damaged file may declare centuries
MAX_LOST = 30  # Number of consecutive undecodable frames after which the rest is ignored


CLOCK = 90_000  # Ticks per second of written films; MPEG's, a multiple of the usual frame rates

Frame = tuple[float, np.ndarray]  # (time in seconds, picture (H, W, 3) uint8)


@dataclass(frozen=True)
class Info:
    """The metadata of a film."""

    fps: Fraction  # The average; the times of the frames tell when each is shown
    frames: int  # 0 if unknown


def read(path: Path) -> tuple[Info, Iterator[Frame]]:
    """The film's metadata, and an iterator over its frames with their times. Single undecodable frames are skipped.
    Raises PictureError if no frame can be read."""
    contents: Any = _contents(path)
    return next(contents), contents


def _contents(path: Path) -> Iterator[Info | Frame]:
    """First the metadata, then the frames."""
    av = load_av()
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise PictureError(f"{path}: not a readable film ({reason(error)})") from error
    with container:
        if not container.streams.video:
            raise PictureError(f"{path}: has no video stream, only {', '.join(s.type for s in container.streams)}")
        stream = container.streams.video[0]
        wide = pixel_width(stream, path)
        info = Info(stream.average_rate or Fraction(25), stream.frames)
        frames = _frames(container, stream, path, info.fps, wide)
        first = next(frames)  # raises for a film without frames before anything is written
        yield info
        yield from itertools.chain([first], frames)


def _frames(container: Any, stream: Any, path: Path, fps: Fraction, wide: float) -> Iterator[Frame]:
    """Frames with their times in increasing order. A frame without a plausible time is shown 1 / fps after the last."""
    av, decoded, lost, last = load_av(), 0, 0, -float(1 / fps)
    packets = container.demux(stream)
    while lost < MAX_LOST:
        try:
            packet = next(packets)
            for frame in packet.decode():
                plausible = frame.time is not None and last < frame.time < last + LONGEST
                last = frame.time if plausible else last + float(1 / fps)
                yield last, upright(frame, wide)
                decoded, lost = decoded + 1, 0
        except StopIteration:
            break
        except av.FFmpegError as error:
            lost, why = lost + 1, reason(error)
    if not decoded:
        raise PictureError(f"{path}: no frame can be decoded" + (f" ({why})" if lost else ""))


def write(path: Path, info: Info, sound_of: Path, frames: Iterator[Frame]) -> tuple[int, list[str]]:
    """Writes frames of equal size with increasing times as MP4 (H.264) with the sound of the film `sound_of`. An odd
    last row or column is cropped. Returns the number of frames, and warnings. Raises OSError if writing fails."""
    av = load_av()
    count, warnings, sound = 0, [], None
    with av.open(str(path), "w") as container, av.open(str(sound_of)) as source:
        first = next(frames)
        height, width = (max(2, side // 2 * 2) for side in first[1].shape[:2])
        video = container.add_stream("libx264", rate=info.fps, options={"crf": "18"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.time_base = Fraction(1, CLOCK)
        try:
            if source.streams.audio:
                sound = container.add_stream_from_template(source.streams.audio[0])
        except (ValueError, av.FFmpegError) as error:
            warnings.append(f"{sound_of.name}: the audio codec is not supported in MP4 ({error}); audio left out")
        for time, pixels in itertools.chain([first], frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels[:height, :width]), format="rgb24")
            frame.pts, frame.time_base = round(time * CLOCK), Fraction(1, CLOCK)
            container.mux(video.encode(frame))
            count += 1
        container.mux(video.encode())
        for packet in source.demux(source.streams.audio[0]) if sound else ():
            if packet.dts is not None:
                packet.stream = sound
                container.mux(packet)
    return count, warnings
