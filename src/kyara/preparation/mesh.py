"""The face detector of MediaPipe, for photos (extra `photo`; its wheel contains the models, nothing is downloaded).

Two networks, for near and far faces, predict boxes. A face mesh is then fitted to each box; it locates the eyes and the
mouth, and confirms the face."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kyara.files import pictures
from kyara.files.extras import install_hint
from kyara.preparation import align
from kyara.preparation.faces import Box, DetectorError, Face

EYES = ((33, 133, 159, 145), (362, 263, 386, 374))
"""Points of the face mesh whose mean is the centre of an eye, the corners and the middles of the lids: first of the
person's right eye, which is on the left of an upright picture."""
MOUTH, NOSE = (61, 291), 1  # Points of the corners of the mouth, likewise, and of the tip of the nose
NEAR, FAR = 0, 1  # MediaPipe's `model_selection` of the detectors
CONFIDENCE, GUESS_CONFIDENCE = 0.5, 0.1  # Minimum confidence in a face, and in a guess, in [0, 1]
MESH_MARGIN = 0.5  # Margin around a box in which the mesh is fitted, in units of its side
MESH_SIZE = 256
"""Side in pixels of the input of the mesh. It must be square, and the network sees the 192 pixels around the face."""
SAME_FACE = 0.3  # Boxes with a larger intersection over union are the same face
DETECTOR_SIZE = 256  # Longer side in pixels of the input of the detectors, which resize it to 192


@dataclass(frozen=True)
class MediaPipe:
    """The face detector. Raises DetectorError if the extra is missing."""

    zoom: float  # Size of the frame, relative to FFHQ's

    def __post_init__(self) -> None:
        if importlib.util.find_spec("mediapipe") is None:  # before any picture is read, and without importing it
            raise _missing()

    def __call__(self, picture: np.ndarray) -> list[Face]:
        """The faces in a photo (H, W, 3) uint8 to which a mesh could be fitted, largest first."""
        found: list[Face] = []

        def known(box: Box) -> bool:  # already found, possibly by the other network
            return any(box.overlap(face) > SAME_FACE for face in found)

        for box in _boxes(picture, CONFIDENCE):
            if not known(box) and (face := _fitted(picture, box, self.zoom)) and not known(face):
                found.append(face)
        return sorted(found, key=lambda face: -face.area)

    def guess(self, picture: np.ndarray) -> Box | None:
        """The box with the highest confidence, even if low; None if there is none."""
        return max(_boxes(picture, GUESS_CONFIDENCE), key=lambda box: box.score, default=None)


def _boxes(picture: np.ndarray, confidence: float) -> list[Box]:
    """The boxes that the detectors find, sorted by confidence."""
    small = _within(picture, 2 * DETECTOR_SIZE)
    across, down = picture.shape[1] / small.shape[1], picture.shape[0] / small.shape[0]
    found = []
    for left, top, width, height in _parts(*small.shape[1::-1]):
        part = _within(small[top : top + height, left : left + width], DETECTOR_SIZE)
        for model in (NEAR, FAR):
            for one in _process(_detector, model, confidence, picture=part).detections or []:
                box = one.location_data.relative_bounding_box
                x, y = round((left + box.xmin * width) * across), round((top + box.ymin * height) * down)
                sides = round(box.width * width * across), round(box.height * height * down)
                found.append(Box(x, y, x + sides[0], y + sides[1], float(one.score[0])))
    return sorted(found, key=lambda box: -box.score)


def _within(picture: np.ndarray, longest: int) -> np.ndarray:
    """Downsamples the picture if a side is longer than `longest`."""
    height, width = picture.shape[:2]
    scale = min(longest / max(height, width), 1.0)
    return pictures.resize(picture, max(1, round(width * scale)), max(1, round(height * scale)), by="box")


def _parts(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    """Left, top, width, height of the picture and, as small faces are missed, of nine quarters of a large one."""
    yield 0, 0, width, height
    if min(width, height) > DETECTOR_SIZE:
        for quarter in itertools.product((0, width // 4, width // 2), (0, height // 4, height // 2)):
            yield *quarter, width // 2, height // 2


def _fitted(picture: np.ndarray, box: Box, zoom: float) -> Face | None:
    """The face whose mesh has the largest overlap with the box; None if there is none."""
    centre = np.array([box.left + box.right, box.top + box.bottom]) // 2
    half = round((0.5 + MESH_MARGIN) * max(box.right - box.left, box.bottom - box.top, 1))
    # Black, not reflected: half a face and its reflection would look like a whole one.
    part = pictures.resize(align.upright(picture, centre, np.array([half, 0]), outside=0), MESH_SIZE, MESH_SIZE)
    fitted = [_face(points * 2 * half + centre - half, box.score, zoom) for points in _meshes(part)]
    best = max(fitted, key=box.overlap, default=None)
    return best if best and best.overlap(box) > 0 else None


def _meshes(part: np.ndarray) -> list[np.ndarray]:
    """The points (468, 2) of each mesh found in a square (S, S, 3), as fractions of its side."""

    def confidence(turns: int) -> float:
        found = _process(_detector, NEAR, GUESS_CONFIDENCE, picture=np.rot90(part, turns)).detections or []
        return max((float(one.score[0]) for one in found), default=0.0)

    turns = max(range(4), key=confidence)  # the mesh only fits upright faces
    fitted = _process(_mesh, picture=np.rot90(part, turns)).multi_face_landmarks or []
    points = [np.array([(point.x, point.y) for point in mesh.landmark]) for mesh in fitted]
    for _ in range(turns):
        points = [np.stack([1 - p[:, 1], p[:, 0]], axis=1) for p in points]
    return [p for p in points if np.isfinite(p).all()]


def _face(points: np.ndarray, score: float, zoom: float) -> Face:
    """Converts the points (468, 2) of a mesh to a Face."""
    eyes = np.stack([points[list(eye)].mean(0) for eye in EYES])
    left, top = np.floor(points.min(0)).astype(int).tolist()
    right, bottom = np.ceil(points.max(0)).astype(int).tolist()
    return Face(left, top, right, bottom, score, eyes=eyes, mouth=points[list(MOUTH)], nose=points[NOSE], zoom=zoom)


_LOCK = threading.Lock()  # MediaPipe's networks are not thread-safe


def _process(load: Callable[..., Any], *which: Any, picture: np.ndarray) -> Any:
    """The output of a network, without MediaPipe's messages on the terminal."""
    with _LOCK, _quiet():
        return load(*which).process(np.ascontiguousarray(picture))


@functools.cache
def _detector(model: int, confidence: float) -> Any:
    return _mediapipe().face_detection.FaceDetection(model_selection=model, min_detection_confidence=confidence)


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
    otherwise = "or use --detect photo, which needs no extra"
    return DetectorError(f"--detect mediapipe: needs MediaPipe 0.10.21; {install_hint('photo')}; {otherwise}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Discards stderr output of C++ code, which bypasses sys.stderr."""
    try:
        saved = os.dup(2)
    except OSError:  # a process without stderr
        yield
        return
    try:
        with Path(os.devnull).open("wb") as null:
            os.dup2(null.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
