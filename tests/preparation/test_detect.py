"""Faces become pictures: upright, framed alike, and those that are left out with the reason. The network is made up."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kyara.files import pictures
from kyara.files.dataset import open_dataset
from kyara.perception import landmarks
from kyara.preparation import align, detect
from kyara.preparation import prepare as module
from kyara.preparation.faces import Box, Face
from kyara.preparation.frames import cut_off, fills, place
from kyara.preparation.prepare import PrepareResult, prepare
from kyara.preparation.report import Entry

POINTS = np.array([[-0.22, -0.05], [0.22, -0.05], [0.0, 0.15], [-0.13, 0.3], [0.13, 0.3]])
"""Eyes, nose and corners of the mouth of an upright face, in sizes of its box from its centre."""
Known = tuple[tuple[float, float], float, float, float]  # centre, size, tilt in degrees, score
CHARACTERS = Path(__file__).parents[2] / "examples" / "characters.zip"


def turned(points: np.ndarray, degrees: float) -> np.ndarray:
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return points @ np.array([[cos, sin], [-sin, cos]])


def canvas(height: int, width: int, faces: Sequence[Known], seed: int = 0) -> np.ndarray:
    """A background with drawn faces: eyes black, mouth red, hair of another colour in each."""
    random = np.random.RandomState(seed)
    picture = pictures.resize(random.randint(120, 256, (5, 5, 3), dtype=np.uint8), width, height).astype(np.float32)
    y, x = np.mgrid[:height, :width] + 0.5
    for centre, size, degrees, _ in faces:
        at = turned(np.stack([x - centre[0], y - centre[1]], -1), -degrees) / size
        hair, skin = random.randint(0, 256, 3), (250, 225, 205)
        for middle, radii, colour in [
            ((0, -0.05), (0.62, 0.66), hair), ((0, 0.02), (0.5, 0.5), skin), (POINTS[0], (0.08, 0.1), (20, 20, 20)),
            (POINTS[1], (0.08, 0.1), (20, 20, 20)), ((0, 0.3), (0.13, 0.03), (200, 40, 40)),
        ]:  # fmt: skip
            picture[(((at - middle) / radii) ** 2).sum(-1) < 1] = colour
    return picture.round().astype(np.uint8)


def outputs(faces: Sequence[Known], edge: tuple[int, int]) -> Any:
    """What the network says of a canvas of that size (height, width)."""
    boxes = [[x - s / 2, y - s / 2, x + s / 2, y + s / 2] for (x, y), s, *_ in faces]
    points = [turned(POINTS, degrees) * size + centre for centre, size, degrees, _ in faces]
    clipped = np.clip(np.array(boxes, np.float32).reshape(-1, 4), 0, [*edge[::-1], *edge[::-1]])
    scores = np.array([score for *_, score in faces], np.float32)
    return SimpleNamespace(boxes=clipped, scores=scores, points=np.array(points, np.float32).reshape(-1, 5, 2))


class Folder:
    """A folder of canvases with known faces."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.known: dict[bytes, Any] = {}
        (root / "art").mkdir()

    def add(self, name: str, height: int, width: int, *faces: Known) -> np.ndarray:
        picture = canvas(height, width, faces, seed=len(self.known))
        (self.root / "art" / name).write_bytes(pictures.encode_png(picture))
        self.known[picture.tobytes()] = outputs(faces, (height, width))
        return picture

    def prepare(self, **options: Any) -> Mapping[str, Entry]:
        return {entry.file: entry for entry in self.run(**options).pictures}

    def run(self, **options: Any) -> PrepareResult:
        return prepare(self.root / "art", self.root / "out", workers=0, **{"size": "64", **options})

    def pictures(self) -> dict[str, np.ndarray]:
        """The pictures of the result by the names of their sources."""
        dataset = open_dataset(self.root / "out")
        sources = {name: values["source"] for _, name, values in dataset.rows()}
        return {sources[name]: dataset.picture(i) for i, name in enumerate(dataset.names)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """Both networks see what is in the canvases: the landmarks are the points that the detector says."""
    made = Folder(tmp_path)
    nothing = outputs([], (1, 1))
    monkeypatch.setattr(detect, "_network", lambda model: lambda p: made.known.get(p.tobytes(), nothing))
    monkeypatch.setattr(detect, "identity", lambda name: name)
    monkeypatch.setattr(detect, "confirmed", lambda score, evidence: score)
    monkeypatch.setattr(detect, "_merged", lambda face, points: face if detect.plausible(face) else untrusted(face))
    return made


def untrusted(face: Face) -> Face:
    return Face(**{**vars(face), "trusted": False})


def dark(picture: np.ndarray) -> np.ndarray:
    """Centres of the left and the right eye in a picture, as fractions."""
    y, x = np.nonzero((picture < 70).all(2))
    left = x < (x.min() + x.max()) / 2
    return np.array([[x[side].mean() + 0.5, y[side].mean() + 0.5] for side in (left, ~left)]) / len(picture)


def test_faces_are_upright_and_framed_alike(folder: Folder) -> None:
    folder.add("a.png", 700, 900, ((200, 250), 90, 0, 0.9), ((600, 300), 200, 25, 0.8), ((380, 560), 130, -40, 0.7))
    entry = folder.prepare(size="128")["a.png"]
    assert entry.cut and len({face.kept for face in entry.faces}) == 3 and entry.kept is None
    assert [face.box for face in entry.faces] == [[155, 205, 90, 90], [500, 200, 200, 200], [315, 495, 130, 130]]
    assert [face.score for face in entry.faces] == [0.9, 0.8, 0.7]
    for name, picture in folder.pictures().items():
        expected = (POINTS[:2] / 1.6) + 0.5
        assert np.abs(dark(picture) - expected).max() < 0.015, name


def test_the_report_has_what_is_not_cut_out_with_the_reason(folder: Folder) -> None:
    folder.add("a.png", 600, 800, ((200, 250), 150, 0, 0.9), ((500, 300), 16, 0, 0.8), ((795, 400), 90, 0, 0.7))
    folder.add("none.png", 600, 800)
    folder.add("small.png", 100, 120)
    result = folder.run()
    reasons = {entry.file: [face.reason for face in entry.faces] for entry in result.pictures}
    assert reasons == {"a.png": ["", "too small", "cut off"], "none.png": [], "small.png": []}
    assert {reason: [one["file"] for one in files] for reason, files in result.left_out.items()} == {
        "too small": ["a.png#2"], "cut off": ["a.png#3"], "no face found": ["none.png"],
    }  # fmt: skip
    assert set(folder.pictures()) == {"a.png#1", "small.png"} and str(result).startswith("2 of 5 kept, 64x64 pixels\n")
    written = json.loads(result.report.read_text(encoding="utf-8"))["pictures"][0]["faces"][1]
    assert written["box"] == [492, 292, 16, 16] and written["score"] == 0.8 and "26 pixels" in written["detail"]
    page = result.page.read_text(encoding="utf-8")
    assert '"a.png#1",0,"",[150,150]' in page and '"none.png",3,' in page


def test_what_may_be_a_face_is_listed_and_not_cut_out(folder: Folder) -> None:
    folder.add("a.png", 600, 800, ((200, 250), 150, 0, 0.9), ((500, 300), 120, 0, 0.45))
    folder.add("small.png", 200, 200, ((90, 90), 60, 0, 0.45))
    entries = folder.prepare()
    assert [face.reason for face in entries["a.png"].faces] == ["", "uncertain"]
    assert entries["small.png"].kept and not entries["small.png"].cut


def test_landmarks_tell_a_face_from_a_pattern() -> None:
    dataset = open_dataset(Path(__file__).parents[2] / "examples" / "characters.zip")
    noise = np.random.RandomState(0).randint(0, 255, (128, 128, 3), dtype=np.uint8)
    seen = [evidence(picture) for picture in (dataset.picture(0), dataset.picture(1), noise)]
    assert min(seen[:2]) > seen[2] + 2
    assert detect.confirmed(0.7, seen[0]) > 0.5 > detect.confirmed(0.7, seen[2])
    assert detect.confirmed(0.4, 12.0) < detect.confirmed(0.6, 12.0) < detect.confirmed(0.6, 13.0) < 1


def evidence(picture: np.ndarray) -> float:
    return float(landmarks.find_with_evidence(pictures.to_float(picture[None]))[1])


def test_only_the_largest_face(folder: Folder) -> None:
    folder.add("a.png", 600, 800, ((200, 250), 80, 0, 0.9), ((500, 300), 150, 0, 0.8))
    faces = folder.prepare(faces="largest")["a.png"].faces
    assert [face.reason for face in faces] == ["not the largest face", ""] and set(folder.pictures()) == {"a.png#2"}


def test_a_picture_with_another_large_face_is_not_one_face(folder: Folder) -> None:
    folder.add("two.png", 400, 400, ((200, 160), 230, 0, 0.9), ((60, 345), 80, 0, 0.8))
    folder.add("one.png", 400, 400, ((200, 190), 230, 0, 0.9), ((50, 350), 20, 0, 0.8))
    entries = folder.prepare()
    assert [bool(face.kept) for face in entries["two.png"].faces] == [True, True]
    assert entries["one.png"].kept and not entries["one.png"].cut


def test_scenes_without_a_face_do_not_decide_the_size(folder: Folder) -> None:
    for i in range(4):
        folder.add(f"small{i}.png", 400, 400, ((100 + 40 * i, 120), 20, 0, 0.9))
    for i in range(6):
        folder.add(f"scene{i}.png", 700 + i, 700)
    result = folder.run(size=None)
    assert result.size == (32, 32) and result.kept == 4


def test_another_face_that_is_cut_off_does_not_count(folder: Folder) -> None:
    folder.add("face.png", 400, 400, ((200, 190), 230, 0, 0.9), ((395, 360), 90, 0, 0.8))
    assert folder.prepare()["face.png"].kept


def test_what_was_cut_by_another_detector_is_cut_again(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = folder.add("a.png", 600, 800, ((200, 250), 150, 0, 0.9), ((500, 300), 120, 0, 0.8))
    folder.add("b.png", 600, 800, ((300, 250), 150, 0, 0.9))

    def stopped(*given: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "_select", stopped)
        with pytest.raises(KeyboardInterrupt):
            folder.run()
    folder.known[picture.tobytes()] = outputs([((200, 250), 150, 0, 0.9)], (600, 800))
    monkeypatch.setattr(detect, "identity", lambda name: "another")
    entries = folder.prepare()
    assert len(entries["a.png"].faces) == 1 and entries["a.png"].faces[0].kept


def test_of_copies_the_largest_is_kept(folder: Folder) -> None:
    large = folder.add("large.png", 320, 320, ((165, 160), 200, 4, 0.9))
    small = pictures.resize(large, 160, 160)
    (folder.root / "art/a.png").write_bytes(pictures.encode_png(small))
    folder.known[small.tobytes()] = outputs([((82, 80), 100, 4, 0.9)], (160, 160))
    entries = folder.prepare()
    assert [*entries] == ["a.png", "large.png"]  # in the order of the sources
    assert entries["large.png"].kept and entries["a.png"].reason == "near duplicate"
    assert entries["a.png"].detail == "of large.png"


def test_faces_that_fill_their_picture_stay(folder: Folder) -> None:
    before = folder.add("face.png", 320, 320, ((165, 160), 200, 4, 0.9))
    tilted = folder.add("tilted.png", 320, 320, ((165, 160), 200, 30, 0.9))
    assert not folder.prepare(size="320", min_size=1)["face.png"].cut
    found = folder.pictures()
    assert np.array_equal(found["face.png"], before) and set(found) == {"face.png", "tilted.png#1"}
    assert not np.array_equal(found["tilted.png#1"], tilted)
    assert folder.prepare(size="320", min_size=1, detect="drawn", force=True)["face.png"].cut


def test_a_bust_is_framed_lower_and_the_whole_picture_is_padded(folder: Folder) -> None:
    folder.add("a.png", 600, 800, ((300, 200), 100, 0, 0.9))
    folder.prepare(frame="bust", size="110")
    (bust,) = folder.pictures().values()
    assert np.abs(dark(bust) - ((POINTS[:2] - [0, 0.44]) / 2.75 + 0.5)).max() < 0.015
    picture = folder.add("b.png", 600, 800)
    assert not folder.prepare(frame="whole", size="80", pad="white", force=True)["a.png"].cut
    (whole,) = folder.pictures().values()
    assert (whole[:10] == 255).all() and (whole[70:] == 255).all() and not (whole[10:70] == 255).all()
    assert picture.shape == (600, 800, 3)


@pytest.mark.parametrize("pad", ["mirror", "white"])
def test_what_is_outside_is_mirrored_or_white(folder: Folder, pad: str) -> None:
    folder.add("a.png", 600, 800, ((60, 300), 110, 0, 0.9))
    folder.prepare(pad=pad)
    (picture,) = folder.pictures().values()
    assert (picture[:, :5] == 255).all() == (pad == "white")


def test_a_folder_without_faces_is_not_cut(folder: Folder) -> None:
    for i in range(10):
        folder.add(f"{i}.png", 300, 300 + i)
    assert folder.run().kept == 10
    folder.add("face.png", 400, 400, ((200, 250), 90, 0, 0.9))
    assert folder.run(force=True).kept == 11
    folder.add("faces.png", 400, 400, ((200, 250), 90, 0, 0.9))
    assert folder.run(force=True).kept == 2


def test_all_faces_of_a_page_of_comics(folder: Folder) -> None:
    faces = [((60.0 + 80 * (i % 8), 60.0 + 80 * (i // 8)), 40.0, 5.0 * (i % 7 - 3), 0.9) for i in range(48)]
    folder.add("page.png", 520, 720, *faces)
    assert folder.run(size="32", duplicates="exact").kept == 48  # at this size, some are copies of each other
    assert folder.run(size="32", limit=5, force=True).kept == 5


def test_the_size_is_that_of_the_faces(folder: Folder) -> None:
    for i in range(9):
        folder.add(f"{i}.png", 600, 800, ((300, 300), 104, 0, 0.9), ((600, 300), 20, 0, 0.9))
    assert folder.run().size == (64, 64) and folder.run(size=None, force=True).size == (160, 160)


def test_faces_keep_the_attributes_of_their_picture_and_can_be_dropped(folder: Folder, tmp_path: Path) -> None:
    folder.add("a.png", 600, 800, ((200, 250), 150, 0, 0.9), ((500, 300), 120, 0, 0.8))
    folder.add("b.png", 600, 800, ((500, 300), 120, 0, 0.8))
    (tmp_path / "art" / "metadata.csv").write_text("file_name,hair\na.png,red\n")
    folder.prepare()
    rows = {values["source"]: values["hair"] for _, _, values in open_dataset(tmp_path / "out").rows()}
    assert rows == {"a.png#1": "red", "a.png#2": "red", "b.png#1": ""}
    (tmp_path / "drop.csv").write_text("file_name\na.png#1\nb.png\n")
    entries = folder.prepare(drop=tmp_path / "drop.csv", force=True)
    assert [face.reason for face in entries["a.png"].faces] == ["dropped", ""]
    assert entries["b.png"].faces[0].reason == "dropped" and set(folder.pictures()) == {"a.png#2"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"detect": "anime"}, "--detect anime: must be one of auto, drawn, photo, mediapipe, none"),
        ({"detect": "none", "faces": "largest"}, "--faces largest: needs faces"),
        ({"detect": "none", "frame": "bust"}, "--frame bust: needs faces"),
        ({"pad": "black"}, "--pad black: must be one of mirror, white"),
    ],
)
def test_options_are_checked(folder: Folder, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    folder.add("a.png", 100, 100)
    with pytest.raises(ValueError, match=message):
        folder.run(**options)
    assert not (tmp_path / "out").exists()


# Frames


def test_a_high_frame_shows_more_below_and_a_wide_one_at_both_sides() -> None:
    face = Box(90, 90, 110, 110)
    (square, right), (high, _), (wide, far) = (place(face, "face", aspect=aspect) for aspect in (1, 0.5, 2))
    assert square.tolist() == [100, 100] and right.tolist() == [16, 0]
    assert high.tolist() == [100, 116] and wide.tolist() == [100, 100] and far.tolist() == [32, 0]


def test_the_eyes_and_the_mouth_frame_a_photo() -> None:
    eyes, mouth = np.array([[80.0, 100], [120, 100]]), np.array([[85.0, 140], [115, 140]])
    face = Face(50, 60, 150, 170, eyes=eyes, mouth=mouth)
    for frame, zoom in (("face", align.PORTRAIT), ("bust", align.FFHQ)):
        centre, right = place(face, frame, by_eyes=True)  # type: ignore[arg-type]
        expected = align.square(eyes, mouth, zoom)
        assert np.array_equal(centre, expected[0]) and np.array_equal(right, expected[1])
    boxed, _ = place(untrusted(face), "face", by_eyes=True)
    assert boxed.tolist() == [100, 115]


def test_a_face_behind_another_is_left_out(folder: Folder) -> None:
    folder.add("a.png", 600, 800, ((400, 300), 200, 0, 0.9), ((440, 350), 60, 0, 0.9))
    folder.add("b.png", 600, 800, ((400, 300), 200, 0, 0.9), ((440, 350), 60, 0, 0.3))  # it may be a hand
    folder.add("c.png", 600, 800, ((400, 300), 200, 0, 0.9), ((520, 400), 60, 0, 0.9))  # beside it
    found = {name: [face.reason for face in entry.faces] for name, entry in folder.prepare().items()}
    assert found == {"a.png": ["covered", ""], "b.png": ["", "uncertain"], "c.png": ["", ""]}
    largest = folder.prepare(faces="largest", force=True)["a.png"].faces
    assert [face.reason for face in largest] == ["not the largest face", ""]  # of those that are whole


def test_a_face_that_mirroring_would_repeat_is_left_out(folder: Folder) -> None:
    folder.add("a.png", 600, 600, ((38, 300), 100, 0, 0.9))  # its left eye is close to the edge
    folder.add("b.png", 600, 600, ((75, 300), 100, 0, 0.9))
    found = {name: entry.faces[0].reason for name, entry in folder.prepare().items()}
    assert found == {"a.png": "cut off", "b.png": ""}
    assert folder.prepare(pad="white", force=True)["a.png"].faces[0].kept


def test_fills_and_cut_off() -> None:
    assert fills(Box(30, 30, 70, 70), "face", (80, 100), 1.0) and not fills(Box(10, 10, 30, 30), "face", (80, 100), 1.0)
    assert not fills(Box(0, 30, 40, 70), "face", (80, 100), 1.0)
    small = Box(46, 40, 88, 82)  # its frame has nearly the size of the picture, but not its place
    assert not fills(small, "face", (80, 100), 1.0) and fills(Box(33, 23, 75, 65), "face", (80, 100), 1.0)
    assert cut_off(Box(0, 30, 10, 70), (100, 100)) and not cut_off(Box(0, 30, 30, 70), (100, 100))
    assert cut_off(Box(30, 90, 70, 100), (100, 100)) and not cut_off(Box(30, 30, 40, 70), (100, 100))


# Landmarks decide whether points are trusted


@pytest.fixture(scope="module")
def characters() -> list[np.ndarray]:
    dataset = open_dataset(CHARACTERS)
    return [dataset.picture(i) for i in range(0, len(dataset), 10)]


def _on_canvas(character: np.ndarray, degrees: float) -> np.ndarray:
    """The character at 192 pixels in the middle of 400, tilted clockwise."""
    image = Image.new("RGB", (400, 400), (235, 240, 245))
    image.paste(Image.fromarray(character).resize((192, 192), Image.Resampling.BICUBIC), (104, 104))
    return np.array(image.rotate(-degrees, Image.Resampling.BICUBIC, fillcolor=(235, 240, 245)))


def _refined(character: np.ndarray, degrees: float, change: Callable[[np.ndarray], np.ndarray]) -> Face:
    """The face of a tilted character; the detector's points are its landmarks before, tilted and changed."""
    found = landmarks.find(pictures.to_float(character[None]))[0].double().numpy() * 192 - 96
    eyes = [found[landmarks.LEFT].mean(0), found[landmarks.RIGHT].mean(0)]
    points = change(np.stack([*eyes, *found[8:11]]))
    points = turned(points, degrees) + 200
    face = Face(140, 140, 260, 260, 0.9, eyes=points[:2], mouth=points[3:], nose=points[2])
    return detect._refined(_on_canvas(character, degrees), [face], 0.0)[0]


@pytest.mark.parametrize("degrees", [0, -20, 35, 90])
def test_the_tilt_is_that_of_the_eyes(characters: list[np.ndarray], degrees: float) -> None:
    random, errors = np.random.RandomState(0), []
    for character in characters:
        before = _refined(character, 0, lambda points: points)
        face = _refined(character, degrees, lambda points: points + random.normal(0, 2, points.shape))
        tilts = [np.rad2deg(np.arctan2(*align.direction(one.eyes, one.mouth)[::-1])) for one in (before, face)]
        errors.append(tilts[1] - tilts[0] - degrees if face.trusted else np.nan)
    assert np.isnan(errors).mean() <= 0.1 and np.nanmedian(np.abs(errors)) < 2


def test_points_with_which_the_landmarks_disagree_are_not_trusted(characters: list[np.ndarray]) -> None:
    def swapped(points: np.ndarray) -> np.ndarray:
        return points[[1, 0, 2, 4, 3]]

    def profile(points: np.ndarray) -> np.ndarray:
        return points * [0.3, 1] + [30, 0]

    def elsewhere(points: np.ndarray) -> np.ndarray:
        return points + np.array([25, -15])

    for change in (swapped, profile, elsewhere):
        trusted = [_refined(character, 0, change).trusted for character in characters]
        assert np.mean(trusted) <= 0.1, change.__name__


def test_no_faces_need_no_landmarks() -> None:
    assert detect._refined(np.zeros((10, 10, 3), np.uint8), [], 0.0) == []
    assert torch.is_grad_enabled()
