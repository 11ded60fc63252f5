"""A photo becomes a portrait, or an error or a warning that says what to do. Detectors are made up here."""

from __future__ import annotations

import dataclasses
import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from needs import need
from PIL import Image

from kyara.files import pictures
from kyara.files.errors import PictureError
from kyara.preparation import align, detect, mesh
from kyara.preparation.faces import Box, DetectorError, Face
from kyara.preparation.frames import SIDE, Frame, place
from kyara.preparation.photo import FaceError, portrait


def noise(height: int, width: int) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, (height, width, 3), dtype=np.uint8)


def face(x: float, y: float, distance: float, turn: float = 0.0) -> Face:
    """A face with the middle of its eyes there."""
    points = np.array([[-0.5, 0], [0.5, 0], [-0.4, 1.1], [0.4, 1.1], [turn, 0.6]]) * distance + [x, y]
    left, top, right, bottom = (int(v) for v in (x - distance, y - distance, x + distance, y + 2 * distance))
    return Face(left, top, right, bottom, eyes=points[:2], mouth=points[2:4], nose=points[4])


class MadeUp:
    """Finds what it was told."""

    def __init__(self, found: Sequence[Box], guess: Box | None = None) -> None:
        self.found, self.guessed = found, guess
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, picture: np.ndarray) -> Sequence[Box]:
        self.seen.append(picture.shape)
        return self.found

    def guess(self, picture: np.ndarray) -> Box | None:
        return self.guessed


@pytest.fixture
def finds(monkeypatch: pytest.MonkeyPatch) -> Any:
    def told(*found: Box, guess: Box | None = None) -> MadeUp:
        detector = MadeUp(found, guess)
        monkeypatch.setitem(detect.DETECTORS, "photo", lambda: detector)
        return detector

    return told


PHOTO = pictures.encode_png(noise(300, 400))


def test_a_face_comes_out_upright_at_the_size(finds: Any) -> None:
    finds(face(200, 120, 40))
    made = portrait(PHOTO, "me.png", size=64)
    assert made.picture.shape == (64, 64, 3) and made.picture.dtype == np.uint8
    assert made.faces == 1 and made.warnings == [] and made.box.left == 160
    assert np.array_equal(made.picture, by_eyes(face(200, 120, 40), align.PORTRAIT))
    finds(dataclasses.replace(face(200, 120, 40), zoom=align.FFHQ))
    assert np.array_equal(portrait(PHOTO, size=64).picture, by_eyes(face(200, 120, 40), align.FFHQ))


def by_eyes(face: Face, zoom: float) -> np.ndarray:
    cut = align.upright(pictures.decode(PHOTO), *align.square(face.eyes, face.mouth, zoom))
    return pictures.resize(cut, 64, 64)


@pytest.mark.parametrize(("zoom", "frame"), [(align.PORTRAIT, "face"), (align.FFHQ, "bust")])
def test_a_face_with_uncertain_eyes_is_cut_by_its_box(finds: Any, zoom: float, frame: Frame) -> None:
    """As by `kyara prepare --detect photo`; the points may be anywhere."""
    near = np.array([[200.0, 150], [204, 150]])
    profile = Face(150, 100, 250, 200, eyes=near, mouth=near + 6, nose=near[0], zoom=zoom, trusted=False)
    finds(profile)
    made = portrait(PHOTO, "me.png", size=64)
    cut = align.upright(pictures.decode(PHOTO), *place(profile, frame, by_eyes=True))
    assert len(cut) == round(SIDE[frame] * 100) and np.array_equal(made.picture, pictures.resize(cut, 64, 64))
    (warning,) = made.warnings
    assert warning.startswith("me.png: the positions of eyes and mouth are uncertain")


def test_the_photo_is_turned_as_its_exif_says(finds: Any) -> None:
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.fromarray(noise(300, 400)).save(buffer, "JPEG", exif=exif)
    detector = finds(face(150, 200, 40))
    portrait(buffer.getvalue(), "phone.jpg", size=64)
    assert detector.seen == [(400, 300, 3)]


def test_faces_are_counted_from_the_largest(finds: Any) -> None:
    finds(face(100, 60, 20), face(250, 120, 40), face(50, 200, 30))
    lefts = [portrait(PHOTO, size=16, face=number).box.left for number in (1, 2, 3)]
    assert lefts == [210, 20, 80] and portrait(PHOTO, size=16).box.left == 210 and portrait(PHOTO, size=16).faces == 3
    for number in (0, -1, 4):
        with pytest.raises(FaceError, match=rf"^--face {number}: us.png has 3 faces, the largest first") as caught:
            portrait(PHOTO, "us.png", size=16, face=number)
        assert "1: 80x120 pixels at (210, 80); 2: 60x90 pixels at (20, 170); 3:" in str(caught.value)
    finds(face(100, 60, 20))
    with pytest.raises(FaceError, match="has 1 face,"):
        portrait(PHOTO, size=16, face=2)


def test_no_face_shows_what_was_seen(finds: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    finds(guess=Box(10, 20, 60, 90, 0.234))
    with pytest.raises(FaceError) as caught:
        portrait(PHOTO, "wall.png", size=64)
    told = str(caught.value)
    assert told.startswith("wall.png: no face found in its 400x300 pixels") and "--aligned" in told
    assert "23% confidence, is 50x70 pixels at (10, 20)" in told
    assert np.array_equal(caught.value.picture, pictures.decode(PHOTO))
    finds()
    with pytest.raises(FaceError, match="no candidates"):
        portrait(PHOTO, "wall.png", size=64)
    monkeypatch.setitem(detect.DETECTORS, "photo", lambda: lambda picture: [])  # one that cannot guess
    with pytest.raises(FaceError, match="no candidates"):
        portrait(PHOTO, "wall.png", size=64)


def test_small_blurred_and_turned_faces_get_a_warning(finds: Any) -> None:
    finds(face(200, 120, 40))
    (small,) = portrait(PHOTO, "me.png", size=256).warnings
    assert small.startswith("me.png: ") and "125 pixels" in small and "256" in small
    soft = pictures.encode_png(pictures.resize(noise(8, 8), 400, 300))
    (blurred,) = portrait(soft, "me.png", size=64).warnings
    assert "blurred" in blurred
    for turn, warned in ((0.4, 0), (-0.4, 0), (0.6, 1), (-0.6, 1)):
        finds(face(200, 120, 40, turn))
        warnings = portrait(PHOTO, "me.png", size=64).warnings
        assert len(warnings) == warned and all("turned" in warning for warning in warnings)


def test_turn_does_not_depend_on_roll() -> None:
    upright = face(0, 0, 40, 0.3)
    quarter = np.array([[0, 1], [-1, 0]])
    rolled = Face(0, 0, 1, 1, eyes=upright.eyes @ quarter, mouth=upright.mouth @ quarter, nose=upright.nose @ quarter)
    assert upright.turn == pytest.approx(0.3) and rolled.turn == pytest.approx(0.3)


def test_pictures_that_are_aligned_already(tmp_path: Path) -> None:
    path = tmp_path / "face.png"
    path.write_bytes(PHOTO)
    made = portrait(path, size=100, frame=None)
    assert np.array_equal(made.picture, pictures.resize(noise(300, 400)[:, 50:350], 100, 100))
    assert made.warnings == [] and made.faces == 1 and made.box == Box(0, 0, 400, 300)
    (small,) = portrait(path, size=512, frame=None).warnings
    assert small.startswith(f"{path}: ") and "300 pixels" in small


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        DetectorError, match="--detect anime: no such detector; choose from auto, drawn, ffhq, mediapipe, photo"
    ):
        portrait(PHOTO, size=64, frame="anime")
    (tmp_path / "letter.png").write_text("no picture")
    with pytest.raises(PictureError, match=r"letter\.png: "):
        portrait(tmp_path / "letter.png", size=64, frame=None)


def test_without_the_extra_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DetectorError, match=r"--detect mediapipe: needs MediaPipe.*pip install .*\[photo\]"):
        detect.load("mediapipe")


# What MediaPipe says, in places of the picture

PLACES = {eye: place for eyes, place in zip(mesh.EYES, [(0.25, 0.4), (0.75, 0.4)], strict=True) for eye in eyes}
PLACES |= dict(zip(mesh.MOUTH, [(0.3, 0.8), (0.7, 0.8)], strict=True)) | {mesh.NOSE: (0.5, 0.6)}
"""Points of the mesh in a face as made here: a square, white, and grey where its chin is."""


def with_face(height: int, width: int, box: Box) -> np.ndarray:
    picture = np.zeros((height, width, 3), np.uint8)
    box.cut(picture)[:] = 255
    Box(box.left, (box.top + box.bottom) // 2, box.right, box.bottom).cut(picture)[:] = 160
    return picture


def made_up_network(load: Any, *which: Any, picture: np.ndarray) -> Any:
    """Of a picture with such a face, what MediaPipe would say: surest if it is upright, and a mesh as if it were."""
    rows, columns = np.nonzero(picture[:, :, 0] > 80)
    if not len(rows):
        return SimpleNamespace(detections=None, multi_face_landmarks=None)
    size = np.array(picture.shape[1::-1])
    first, last = np.array([columns.min(), rows.min()]), np.array([columns.max() + 1, rows.max() + 1])
    face = picture[first[1] : last[1], first[0] : last[0]].astype(float)
    score = 0.9 if face[: len(face) // 2].mean() > face[len(face) // 2 :].mean() + 50 else 0.6
    start, sides = first / size, (last - first) / size
    box = SimpleNamespace(xmin=start[0], ymin=start[1], width=sides[0], height=sides[1])
    places = start + sides * [PLACES.get(i, (i % 2, i // 2 % 2)) for i in range(468)]
    return SimpleNamespace(
        detections=[SimpleNamespace(score=[score], location_data=SimpleNamespace(relative_bounding_box=box))],
        multi_face_landmarks=[SimpleNamespace(landmark=[SimpleNamespace(x=x, y=y) for x, y in places])],
    )


@pytest.fixture
def photo(monkeypatch: pytest.MonkeyPatch) -> mesh.MediaPipe:
    monkeypatch.setattr(mesh, "_process", made_up_network)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    return mesh.MediaPipe(1.0)


@pytest.mark.parametrize(
    ("size", "where"),
    [
        ((200, 260), (60, 50, 140, 130)),
        ((900, 1400), (1000, 300, 1100, 400)),
        ((3000, 2000), (0, 2700, 300, 3000)),
        ((90, 90), (0, 0, 90, 90)),
    ],
)
def test_places_are_those_of_the_whole_picture(
    size: tuple[int, int], where: tuple[int, int, int, int], photo: mesh.MediaPipe
) -> None:
    picture = with_face(*size, Box(*where))
    (found,) = photo(picture)  # only one, though several parts of the picture show it to two detectors
    tolerance = max(size) / 128
    assert np.abs(np.array([found.left, found.top, found.right, found.bottom]) - where).max() <= tolerance
    eyes = np.array([[0.25, 0.4], [0.75, 0.4]]) * (where[2] - where[0]) + where[:2]
    assert np.abs(found.eyes - eyes).max() <= tolerance and abs(found.turn) < 0.02
    guess = photo.guess(picture)
    assert guess and guess.score == 0.9 and guess.overlap(Box(*where)) > 0.9
    assert photo(np.zeros_like(picture)) == [] and photo.guess(np.zeros_like(picture)) is None


@pytest.mark.parametrize("turns", range(4))
def test_faces_may_lie_or_stand_on_their_heads(turns: int, photo: mesh.MediaPipe) -> None:
    upright = with_face(240, 240, Box(80, 60, 160, 140))
    (found,) = photo(np.ascontiguousarray(np.rot90(upright, turns)))
    eyes = np.array([[100.0, 92.0], [140.0, 92.0]])
    for _ in range(turns):
        eyes = np.stack([eyes[:, 1], 240 - eyes[:, 0]], axis=1)
    assert np.abs(found.eyes - eyes).max() < 2


def test_overlap() -> None:
    box = Box(0, 0, 10, 10)
    assert box.overlap(box) == 1 and box.overlap(Box(10, 0, 20, 10)) == 0 and box.overlap(Box(20, 20, 30, 30)) == 0
    assert box.overlap(Box(5, 0, 15, 10)) == pytest.approx(1 / 3) and Box(0, 0, 0, 0).overlap(Box(0, 0, 0, 0)) == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (200, 300), (600, 600)])
def test_mediapipe_finds_nothing_and_says_nothing(shape: tuple[int, int], capfd: pytest.CaptureFixture[str]) -> None:
    need("mediapipe", "photo")
    detector = detect.load("mediapipe")
    picture = np.full((*shape, 3), 127, np.uint8)
    assert list(detector(picture)) == [] and detector.guess(picture) is None  # type: ignore[attr-defined]
    assert capfd.readouterr() == ("", "")
