"""One photo of a person as the input of a generator: one aligned face, and warnings about its quality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kyara.files import pictures
from kyara.files.names import counted
from kyara.preparation import align, detect
from kyara.preparation.faces import Box, Detector, Face, Guesser

BLURRED = 0.035
"""Faces with less `align.sharpness` get a warning. Of 1,750 sharp faces of about 200 pixels none does (minimum 0.048,
median 0.107); of 117 of them, 9 % do after a Gaussian blur of 1 pixel, 87 % after 1.5 pixels, and all after 2."""
TURNED = 0.5
"""Heads with a larger absolute `Face.turn` get a warning: the tip of the nose has passed one eye, and the frame loses
the middle of the face. Of 1,633 photos, half have less than 0.09, 95 % less than 0.35, and 1 % more than this."""


class FaceError(ValueError):
    """The requested face is not in the picture; the message says what was found and what to do."""

    def __init__(self, message: str, picture: np.ndarray) -> None:
        super().__init__(message)
        self.picture = picture
        """(H, W, 3) uint8: the decoded picture, rotated by its EXIF orientation."""


@dataclass(frozen=True)
class Portrait:
    """An aligned face."""

    picture: np.ndarray
    """(S, S, 3) uint8."""
    warnings: list[str]
    """Reasons why the result may be poor, one sentence each."""
    faces: int
    """Number of faces in the photo."""
    box: Box
    """The region of this one in the photo; the whole picture if it was aligned already."""


def portrait(
    source: Path | bytes, name: str | None = None, *, size: int, face: int | None = None, frame: str = "photo"
) -> Portrait:
    """A face of a photo, aligned, `size` pixels wide and high.

    `face` is its number, from 1, the largest and the default. `frame` is a name in `detect.DETECTORS`. Messages call
    the photo `name`. Raises PictureError if the file is not a picture, FaceError if there is no such face, and
    DetectorError if there is no such frame or its extra is missing."""
    name = _called(source, name)
    detector = detect.load(frame)
    picture = pictures.decode(source, name)
    found = sorted(detector(picture), key=lambda box: -box.area)
    if not found:
        raise FaceError(_no_face(name, picture, detector), picture)
    number = 1 if face is None else face
    if not 1 <= number <= len(found):
        raise FaceError(f"--face {face}: {name} has {_counted(found)}", picture)
    box = found[number - 1]
    return _portrait(name, box.cut(picture), size, len(found), box)


def aligned(source: Path | bytes, name: str | None = None, *, size: int) -> Portrait:
    """The same for a picture that is aligned already (`--aligned`): its centre. Raises PictureError."""
    name = _called(source, name)
    picture = pictures.decode(source, name)
    height, width = picture.shape[:2]
    return _portrait(name, picture, size, 1, Box(0, 0, width, height))


def _called(source: Path | bytes, name: str | None) -> str:
    return name or (str(source) if isinstance(source, Path) else "picture")


def _portrait(name: str, cut: np.ndarray, size: int, faces: int, box: Box) -> Portrait:
    side = min(cut.shape[:2])
    face = pictures.center_crop(cut, side, side)
    return Portrait(pictures.resize(face, size, size), _warnings(name, face, size, box), faces, box)


def _warnings(name: str, face: np.ndarray, size: int, box: Box) -> list[str]:
    warnings = []
    if len(face) < size:
        small = f"the face has {len(face)} pixels and is enlarged to {size}, so the result is soft"
        warnings.append(f"{small}; a larger photo would help")
    if align.sharpness(face) < BLURRED:
        warnings.append("the face is blurred, so the result resembles it less; a sharper photo would help")
    if isinstance(box, Face) and abs(box.turn) > TURNED:
        warnings.append("the head is turned far to the side and aligns badly; a photo from the front would help")
    return [f"{name}: {warning}" for warning in warnings]


def _no_face(name: str, picture: np.ndarray, detector: Detector) -> str:
    """What was found instead, and what to do."""
    height, width = picture.shape[:2]
    guess = detector.guess(picture) if isinstance(detector, Guesser) else None
    seen = (
        f"the likeliest place, {guess.score:.0%} confidence, is {_place(guess)}" if guess else "nothing resembles one"
    )
    hint = "crop the photo closer to the face, or add --aligned if it is aligned already"
    return f"{name}: no face found in its {width}x{height} pixels ({seen}); {hint}"


def _counted(boxes: Sequence[Box]) -> str:
    each = "; ".join(f"{i}: {_place(box)}" for i, box in enumerate(boxes, 1))
    return f"{counted(len(boxes), 'face')}, the largest first ({each})"


def _place(box: Box) -> str:
    return f"{box.right - box.left}x{box.bottom - box.top} pixels at ({box.left}, {box.top})"
