"""Face detectors by their names in `--detect`: `DETECTORS`."""

from __future__ import annotations

import functools
import math
import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from kyara.files import checkpoint
from kyara.files.pictures import resize, to_float
from kyara.preparation import align
from kyara.preparation.faces import CERTAIN, Box, Detector, DetectorError, Face
from kyara.preparation.frames import place
from kyara.preparation.mesh import MediaPipe

if TYPE_CHECKING:
    from kyara.perception.detector import FaceDetector

BUILTIN = "builtin:face-detector"
LANDMARKS_SIZE = 128  # Side in pixels of the crops in which the landmarks are found
AGREEMENT = 0.35
"""Maximum distance of the eyes and of the mouth by the detector from those of builtin:landmarks, in distances between
the eyes."""
APART = 0.22  # Minimum distance between the eyes, in widths of the box: with less, it is a profile
MIN_SCORE = 0.3  # Minimum score by the detector alone; candidates below it are dropped
WEIGHT, EXPECTED = 0.25, 17.1
"""Weight and reference value of the evidence of builtin:landmarks in the score, see `confirmed`: with these, scores
from 0.5 on have a precision of 0.87 on validation pictures, which are harder than most."""
POSSIBLE = 0.25  # Minimum score of what may be a face


@dataclass(frozen=True)
class Builtin:
    """builtin:face-detector, for drawings and photos. The positions of eyes and mouth are those of builtin:landmarks
    where both networks agree."""

    zoom: float = align.PORTRAIT  # Size of the frame, relative to FFHQ's
    model: str = BUILTIN

    def __call__(self, picture: np.ndarray) -> list[Face]:
        """The faces in a picture (H, W, 3) uint8, the highest score first."""
        return [face for face in self.possible(picture) if face.score >= CERTAIN]

    def possible(self, picture: np.ndarray, least: float = POSSIBLE) -> list[Face]:
        """The same, with scores of at least `least`."""
        found = _network(self.model)(picture)
        faces = [
            Face(**vars(_box(box, score)), eyes=points[:2], mouth=points[3:], nose=points[2], zoom=self.zoom)
            for box, score, points in zip(found.boxes, found.scores, found.points.astype(np.float64), strict=True)
        ]
        return _refined(picture, faces, least)

    def guess(self, picture: np.ndarray) -> Box | None:
        """The box with the highest score, even if low; None if there is none."""
        return next(iter(self.possible(picture, 0.0)), None)


@functools.cache
def _network(model: str) -> FaceDetector:
    import torch

    from kyara.perception.detector import FaceDetector

    if multiprocessing.parent_process() is not None:  # there are as many worker processes as cores
        torch.set_num_threads(1)
    return FaceDetector(model, threshold=MIN_SCORE)


def _box(sides: np.ndarray, score: float) -> Box:
    left, top, right, bottom = (round(float(side)) for side in sides)
    return Box(left, top, right, bottom, float(score))


def _refined(picture: np.ndarray, faces: Sequence[Face], least: float) -> list[Face]:
    """The faces whose confirmed score is at least `least`, best first, with the points of builtin:landmarks or marked
    as not trusted."""
    import torch

    from kyara.perception import landmarks

    if not faces:
        return []
    frames = [place(face if plausible(face) else Box(*_sides(face)), "face") for face in faces]
    cut = [align.upright(picture, *frame, largest=LANDMARKS_SIZE) for frame in frames]
    crops = [resize(one, LANDMARKS_SIZE, LANDMARKS_SIZE) for one in cut]  # smaller faces are enlarged
    with torch.inference_mode():
        found, evidence = landmarks.find_with_evidence(to_float(np.stack(crops)))  # (N, 12, 2), (N,)
    merged = [
        _merged(replace(face, score=confirmed(face.score, seen)), _placed(points, *frame))
        for face, points, seen, frame in zip(faces, found.double().numpy(), evidence.tolist(), frames, strict=True)
    ]
    return sorted((face for face in merged if face.score >= least), key=lambda face: -face.score)


def confirmed(score: float, evidence: float) -> float:
    """The score in [0, 1] of a face that the detector gives `score`, and in which builtin:landmarks finds points with
    that `evidence`: the sum of the detector's log odds and of the weighted evidence."""
    odds = math.log(max(score, 1e-6) / max(1 - score, 1e-6)) + WEIGHT * (evidence - EXPECTED)
    return 1 / (1 + math.exp(-odds))


def _sides(box: Box) -> tuple[int, int, int, int]:
    return box.left, box.top, box.right, box.bottom


def _placed(points: np.ndarray, centre: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Points (K, 2), fractions of a square frame, in pixels of the picture."""
    x, y = (2 * points - 1).T[..., None]
    placed: np.ndarray = centre + x * right + y * align.turned(right)
    return placed


def _merged(face: Face, points: np.ndarray) -> Face:
    """The face with the landmarks (12, 2) if they agree with its own; otherwise not trusted."""
    from kyara.perception.landmarks import LEFT, RIGHT

    if not plausible(face):
        return replace(face, trusted=False)
    eyes, mouth = np.stack([points[LEFT].mean(0), points[RIGHT].mean(0)]), points[9:11]
    apart = max(np.hypot(*(face.eyes[1] - face.eyes[0])), 1e-6)
    off = max(*np.hypot(*(eyes - face.eyes).T), np.hypot(*(mouth.mean(0) - face.mouth.mean(0))))
    merged = replace(face, eyes=eyes, mouth=mouth, nose=points[8])
    return merged if off <= AGREEMENT * apart and plausible(merged) else replace(face, trusted=False)


def plausible(face: Face) -> bool:
    """Whether the eyes and the mouth are where those of a face that is not a profile are in its box: the eyes apart and
    in the upper half, the mouth below, when the face is upright."""
    right = align.direction(face.eyes, face.mouth)
    right = right / max(np.hypot(*right), 1e-6)
    width, height = face.right - face.left, face.bottom - face.top
    middle = face.middle
    size = max(width, height, 1)
    axes = np.stack([right, align.turned(right)], 1) / size
    eyes, mouth = (face.eyes - middle) @ axes, (face.mouth - middle) @ axes  # in sizes of the box, x and y
    apart = eyes[1, 0] - eyes[0, 0]
    inside = np.abs(np.concatenate([eyes, mouth])).max() < 0.75
    level = abs(eyes[1, 1] - eyes[0, 1]) < 0.4 * apart
    return bool(inside and level and apart > APART and eyes[:, 1].max() < 0.15 and mouth[:, 1].min() > 0.02)


DETECTORS: dict[str, Callable[[], Detector]] = {
    "auto": Builtin,
    "drawn": Builtin,
    "photo": Builtin,
    "ffhq": lambda: Builtin(align.FFHQ),
    "mediapipe": lambda: MediaPipe(align.PORTRAIT),
}
"""Name -> function that loads the detector. It is called for every picture, so it should cache what it loads."""


def load(name: str) -> Detector:
    """The detector of that name. Raises DetectorError if it does not exist, or its extra is missing."""
    if name not in DETECTORS:
        raise DetectorError(f"--detect {name}: no such detector; choose from {', '.join(sorted(DETECTORS))}")
    return DETECTORS[name]()


def identity(name: str) -> str:
    """What the faces that the detector finds depend on."""
    if not isinstance(load(name), Builtin):
        return name
    return " ".join(checkpoint.read(f"builtin:{network}").hash for network in ("face-detector", "landmarks"))
