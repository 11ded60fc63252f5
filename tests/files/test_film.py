"""A film as a source of pictures: the frame shown at every full second."""

from __future__ import annotations

import contextlib
import pickle
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from needs import need

from kyara.files import film, pictures
from kyara.files.dataset import open_dataset, open_datasets
from kyara.files.errors import DatasetError, PictureError
from kyara.files.film import Film
from kyara.generation import video
from kyara.preparation.prepare import prepare


def write_film(path: Path, seconds: float, fps: int = 10, pixel: Fraction | None = None) -> None:
    """Grey frames, 96 x 64; the level is 40 for the first second and 20 more for each that follows. `pixel` is the
    aspect ratio of a pixel."""
    av = need("av", "video")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 96, 64, "yuv420p", 3 * fps
        if pixel is not None:
            stream.codec_context.sample_aspect_ratio = pixel
        for i in range(round(seconds * fps)):
            level = 40 + 20 * (i // fps)
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), level, np.uint8), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def level(opened: Film, name: str) -> int:
    return round(float(pictures.decode(opened.read(name)).mean()))


@pytest.mark.parametrize("suffix", ["mp4", "avi", "mkv"])
def test_one_frame_a_second_in_any_order(tmp_path: Path, suffix: str) -> None:
    write_film(tmp_path / f"film.{suffix}", 5.4)
    opened = Film(tmp_path / f"film.{suffix}")
    assert list(opened.sizes) == ["0:00:00", "0:00:01", "0:00:02", "0:00:03", "0:00:04", "0:00:05"]
    expected = [40 + 20 * i for i in range(6)]
    assert np.abs(np.array([level(opened, name) for name in opened.sizes]) - expected).max() <= 2
    again = pickle.loads(pickle.dumps(opened))
    assert np.abs(np.array([level(again, name) for name in reversed(opened.sizes)]) - expected[::-1]).max() <= 2


@pytest.mark.parametrize(
    ("pixel", "width"), [(Fraction(4, 3), 128), (Fraction(1, 2), 48), (Fraction(0), 96), (None, 96)]
)
def test_frames_are_as_wide_as_they_are_shown(tmp_path: Path, pixel: Fraction | None, width: int) -> None:
    """The pixels of DVDs and of old cameras are no squares."""
    write_film(tmp_path / "film.mkv", 1, pixel=pixel)
    shown = pictures.decode(Film(tmp_path / "film.mkv").read("0:00:00"))
    assert shown.shape == (64, width, 3) and abs(shown.mean() - 40) <= 2


def test_the_width_that_is_shown_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_film(tmp_path / "film.mkv", 1, pixel=Fraction(2))
    monkeypatch.setattr(film, "MAX_PIXELS", 2 * 96 * 64 - 1)
    with pytest.raises(PictureError, match=r"film\.mkv: declares frames of 192x64 pixels"):
        Film(tmp_path / "film.mkv")


class FakeFilm(contextlib.nullcontext[None]):
    """The module PyAV, and its container of a film of one frame, which lies on its side."""

    FFmpegError = OSError

    def __init__(self, pixels: np.ndarray, wide: Fraction | None) -> None:
        super().__init__()
        self.frame = SimpleNamespace(rotation=90, time=0.0, to_ndarray=lambda format: pixels)
        height, width = pixels.shape[:2]
        stream = SimpleNamespace(
            height=height, width=width, sample_aspect_ratio=wide, average_rate=Fraction(25), frames=1
        )
        self.streams = SimpleNamespace(video=[stream])

    def open(self, path: str) -> FakeFilm:
        return self

    def demux(self, stream: Any) -> Iterator[Any]:
        return iter([SimpleNamespace(decode=lambda: [self.frame])])


@pytest.mark.parametrize(("wide", "shape"), [(Fraction(2), (24, 8, 3)), (Fraction(1), (12, 8, 3)), (None, (12, 8, 3))])
def test_frames_to_translate_are_upright_and_have_square_pixels(
    wide: Fraction | None, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those that are prepared."""
    pixels = np.random.RandomState(0).randint(0, 256, (8, 12, 3), dtype=np.uint8)
    fake = FakeFilm(pixels, wide)
    monkeypatch.setattr(video, "load_av", lambda: fake)
    ((_, shown),) = video.read(Path("film.mkv"))[1]
    assert shown.shape == shape and np.array_equal(shown, film.upright(fake.frame, float(wide or 1)))
    assert wide == 2 or np.array_equal(shown, np.rot90(pixels))


@pytest.mark.parametrize("kind", ["prepared", "translated"])
def test_every_film_has_the_same_limit(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeFilm(np.zeros((8, 12, 3), np.uint8), Fraction(2))
    for module in (film, video):
        monkeypatch.setattr(module, "load_av", lambda: fake)
    monkeypatch.setattr(film, "MAX_PIXELS", 2 * 12 * 8 - 1)
    with pytest.raises(PictureError, match=r"film\.mkv: declares frames of 24x8 pixels"):
        Film(tmp_path / "film.mkv") if kind == "prepared" else video.read(tmp_path / "film.mkv")


def test_a_film_is_a_source_of_prepare_without_its_copies(tmp_path: Path) -> None:
    write_film(tmp_path / "film.mp4", 4)
    (tmp_path / "one.png").write_bytes(pictures.encode_png(np.zeros((64, 64, 3), np.uint8)))
    result = prepare(tmp_path / "film.mp4", tmp_path / "one.png", tmp_path / "out", size="32", duplicates="keep")
    sources = {values["source"] for _, _, values in open_dataset(tmp_path / "out").rows()}
    assert sources == {f"{tmp_path}/film.mp4/0:00:0{i}" for i in range(4)} | {f"{tmp_path}/one.png"}
    assert result.kept == 5


def test_films_inside_a_folder_and_damaged_ones_are_named(tmp_path: Path) -> None:
    (tmp_path / "art").mkdir()
    (tmp_path / "art" / "one.png").write_bytes(pictures.encode_png(np.zeros((8, 8, 3), np.uint8)))
    (tmp_path / "art" / "film.mp4").write_bytes(b"no film")
    assert open_dataset(tmp_path / "art").ignored == [
        ("film.mp4", "a film inside a folder; give it as a source of its own")
    ]
    need("av", "video")
    with pytest.raises(DatasetError, match=r"film\.mp4: not a readable film"):
        open_datasets([tmp_path / "art" / "film.mp4"])


def test_without_the_extra_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "film.mp4").write_bytes(b"film")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r"films need PyAV; .*\[video\]"):
        prepare(tmp_path / "film.mp4", tmp_path / "out")
    assert not (tmp_path / "out").exists()
