"""Faces in photos, by MediaPipe (extra `photo`; its models travel in its wheel, nothing is downloaded)."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from kyara.preparation.detect import DetectorError, Face

EYES = ((33, 133, 159, 145), (362, 263, 386, 374))
"""Points of the face mesh whose mean is the centre of the eye on the left of the picture, and on the right: their
corners and the middles of their lids."""
MOUTH = (61, 291)
"""Its corners."""
SURE = 0.5
"""How sure the detector must be of a face, in [0, 1]."""
ROOM = 0.5
"""Room around a found box, in its widths, in which the points are looked for."""


def faces(picture: np.ndarray, zoom: float) -> list[Face]:
    """The faces in a photo (H, W, 3) uint8 that the points of the mesh could be fitted to, the largest first.
    DetectorError if the extra is missing."""
    found = []
    for left, top, width, height, score in _boxes(picture):
        x0, y0 = max(int(left - ROOM * width), 0), max(int(top - ROOM * height), 0)
        x1, y1 = int(left + (1 + ROOM) * width) + 1, int(top + (1 + ROOM) * height) + 1
        part = np.ascontiguousarray(picture[y0:y1, x0:x1])
        if not part.size:
            continue
        fitted = _mesh().process(part).multi_face_landmarks or []
        for face in fitted[:1]:
            points = np.array([(p.x * part.shape[1] + x0, p.y * part.shape[0] + y0) for p in face.landmark])
            found.append(_face(points, score, zoom))
    return sorted(found, key=lambda face: -face.area)


def _face(points: np.ndarray, score: float, zoom: float) -> Face:
    eyes = np.stack([points[list(eye)].mean(0) for eye in EYES])
    (left, top), (right, bottom) = np.floor(points.min(0)).astype(int), np.ceil(points.max(0)).astype(int)
    return Face(int(left), int(top), int(right), int(bottom), score, eyes=eyes, mouth=points[list(MOUTH)], zoom=zoom)


def _boxes(picture: np.ndarray) -> Iterator[tuple[float, float, float, float, float]]:
    """left, top, width, height in pixels, and score. Two models: one for selfies, one for faces further off."""
    height, width = picture.shape[:2]
    for far in (0, 1):
        found = _detector(far).process(np.ascontiguousarray(picture)).detections or []
        for one in found:
            box = one.location_data.relative_bounding_box
            yield box.xmin * width, box.ymin * height, box.width * width, box.height * height, float(one.score[0])
        if found:
            return


@functools.cache
def _detector(far: int) -> Any:
    with _quiet():
        return _mediapipe().face_detection.FaceDetection(model_selection=far, min_detection_confidence=SURE)


@functools.cache
def _mesh() -> Any:
    with _quiet():
        return _mediapipe().face_mesh.FaceMesh(static_image_mode=True, max_num_faces=1, min_detection_confidence=0.3)


def _mediapipe() -> Any:
    os.environ.setdefault("GLOG_minloglevel", "2")
    try:
        from mediapipe.python import solutions
    except ImportError as error:
        hint = "python -m pip install 'kyara[photo]'; or cut the faces yourself and say --aligned"
        raise DetectorError(f"finding faces in photos needs MediaPipe: {hint}") from error
    return solutions


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Its C++ parts write to the terminal before they can be told not to."""
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)
