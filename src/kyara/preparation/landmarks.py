"""Faces in photos, by MediaPipe (extra `photo`; its models travel in its wheel, nothing is downloaded).

Two detectors, one for near faces and one for far ones, say where faces are; the points of a mesh that is fitted
there say where its eyes and mouth are, and whether it is one.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from kyara.files import pictures
from kyara.files.extras import install_hint
from kyara.preparation import align
from kyara.preparation.faces import Box, DetectorError, Face

EYES = ((33, 133, 159, 145), (362, 263, 386, 374))
"""Points of the face mesh whose mean is the centre of the person's right eye, which is on the left of an upright
picture, and of the left one: the corners and the middles of the lids."""
MOUTH = (61, 291)
"""Its corners, likewise."""
NOSE = 1
"""Its tip."""
NEAR, FAR = 0, 1
"""MediaPipe's numbers of the detectors."""
SURE = 0.5
"""How sure a detector must be of a face, in [0, 1]."""
GUESS = 0.1
"""How sure it must be for a guess."""
ROOM = 0.5
"""Room around a found box, in its sides, in which the points are looked for."""
MESHED = 256
"""Pixels of the square in which the mesh is fitted: it goes wrong where the sides differ, and looks at the 192 of them
that are around the face."""
SAME = 0.3
"""Boxes that share so much of what they cover are one face."""
ENOUGH = 256
"""Pixels of the longer side of what the detectors get: they look at 192 of them."""


@dataclass(frozen=True)
class Photo:
    """The detector of people in photos; DetectorError if the extra is missing."""

    zoom: float
    """How much of FFHQ's square the faces are cut to."""

    def __post_init__(self) -> None:
        if importlib.util.find_spec("mediapipe") is None:  # told before a folder is begun, without importing it
            raise _missing()

    def __call__(self, picture: np.ndarray) -> list[Face]:
        """The faces in a photo (H, W, 3) uint8 to which the mesh could be fitted, the largest first."""
        found: list[Face] = []
        for box in _boxes(picture, SURE):
            if _known(box, found):  # the other detector has found it
                continue
            face = _fitted(picture, box, self.zoom)
            if face and not _known(face, found):
                found.append(face)
        return sorted(found, key=lambda face: -face.area)

    def guess(self, picture: np.ndarray) -> Box | None:
        """What is likeliest to be a face, be it little; None if nothing resembles one."""
        return max(_boxes(picture, GUESS), key=lambda box: box.score, default=None)


def _known(box: Box, found: list[Face]) -> bool:
    return any(box.overlap(face) > SAME for face in found)


def _boxes(picture: np.ndarray, sure: float) -> list[Box]:
    """What the detectors find, the surest first."""
    small = _within(picture, 2 * ENOUGH)
    across, down = picture.shape[1] / small.shape[1], picture.shape[0] / small.shape[0]
    found = []
    for left, top, width, height in _parts(*small.shape[1::-1]):
        part = _within(small[top : top + height, left : left + width], ENOUGH)
        for model in (NEAR, FAR):
            for one in _process(_detector, model, sure, picture=part).detections or []:
                box = one.location_data.relative_bounding_box
                x, y = round((left + box.xmin * width) * across), round((top + box.ymin * height) * down)
                sides = round(box.width * width * across), round(box.height * height * down)
                found.append(Box(x, y, x + sides[0], y + sides[1], float(one.score[0])))
    return sorted(found, key=lambda box: -box.score)


def _within(picture: np.ndarray, longest: int) -> np.ndarray:
    """The picture with no side longer than that."""
    height, width = picture.shape[:2]
    scale = min(longest / max(height, width), 1.0)
    return pictures.resize(picture, max(1, round(width * scale)), max(1, round(height * scale)), by="box")


def _parts(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    """left, top, width and height of the picture and, if it is large, of nine quarters that overlap: of
    faces less than a tenth as wide as what the detectors get, many are missed."""
    yield 0, 0, width, height
    if min(width, height) > ENOUGH:
        for quarter in itertools.product((0, width // 4, width // 2), (0, height // 4, height // 2)):
            yield *quarter, width // 2, height // 2


def _fitted(picture: np.ndarray, box: Box, zoom: float) -> Face | None:
    """The face whose mesh fits best to the box."""
    centre = np.array([box.left + box.right, box.top + box.bottom]) // 2
    half = round((0.5 + ROOM) * max(box.right - box.left, box.bottom - box.top, 1))
    # Not mirrored: beside half a face, its mirror image makes a better whole than it is.
    part = align.upright(picture, centre, np.array([half, 0]), mirror=False)
    part = pictures.resize(part, MESHED, MESHED)
    fitted = [_face(points * 2 * half + centre - half, box.score, zoom) for points in _meshes(part)]
    best = max(fitted, key=box.overlap, default=None)
    return best if best and best.overlap(box) > 0 else None


def _meshes(part: np.ndarray) -> list[np.ndarray]:
    """The points (468, 2) of each mesh that fits, as fractions of the sides of the square (S, S, 3)."""

    def likeness(turns: int) -> float:
        found = _process(_detector, NEAR, GUESS, picture=np.rot90(part, turns)).detections or []
        return max((float(one.score[0]) for one in found), default=0.0)

    turns = max(range(4), key=likeness)  # a mesh is fitted upside down to a face that is
    fitted = _process(_mesh, picture=np.rot90(part, turns)).multi_face_landmarks or []
    points = [np.array([(point.x, point.y) for point in mesh.landmark]) for mesh in fitted]
    for _ in range(turns):
        points = [np.stack([1 - p[:, 1], p[:, 0]], axis=1) for p in points]
    return [p for p in points if np.isfinite(p).all()]


def _face(points: np.ndarray, score: float, zoom: float) -> Face:
    """Of the points (468, 2) of the mesh."""
    eyes = np.stack([points[list(eye)].mean(0) for eye in EYES])
    left, top = np.floor(points.min(0)).astype(int).tolist()
    right, bottom = np.ceil(points.max(0)).astype(int).tolist()
    return Face(left, top, right, bottom, score, eyes=eyes, mouth=points[list(MOUTH)], nose=points[NOSE], zoom=zoom)


_ONE_AT_A_TIME = threading.Lock()
"""A network of MediaPipe serves one thread."""


def _process(load: Callable[..., Any], *which: Any, picture: np.ndarray) -> Any:
    """What the network finds. It writes to the terminal when it is made, used, and used on a first face."""
    with _ONE_AT_A_TIME, _quiet():
        return load(*which).process(np.ascontiguousarray(picture))


@functools.cache
def _detector(model: int, sure: float) -> Any:
    return _mediapipe().face_detection.FaceDetection(model_selection=model, min_detection_confidence=sure)


@functools.cache
def _mesh() -> Any:
    return _mediapipe().face_mesh.FaceMesh(static_image_mode=True, max_num_faces=3, min_detection_confidence=0.3)


def _mediapipe() -> Any:
    try:
        from mediapipe.python import solutions
    except ImportError as error:
        raise _missing() from error
    return solutions


def _missing() -> DetectorError:
    otherwise = "or crop the faces yourself, and leave out --detect or add --aligned"
    return DetectorError(f"finding faces in photos needs MediaPipe 0.10.21; {install_hint('photo')}; {otherwise}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing is written to the terminal meanwhile: C++ knows nothing of sys.stderr."""
    try:
        saved = os.dup(2)
    except OSError:  # a process without one
        yield
        return
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
