"""A photo of a person as a generator wants it: one face, upright in its frame, and what may be wrong with it.

The verbs that turn photos into characters begin here; whoever has a folder of photos calls it for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kyara.files import pictures
from kyara.preparation import align, detect
from kyara.preparation.faces import Box, Detector, Face, Guesser

BLURRED = 0.035
"""Faces of less `align.sharpness` are said to be blurred. Of 1,750 sharp faces of about 200 pixels none is (the least
has 0.048, the median 0.107); of 117 of them behind a Gaussian blur of 1 pixel 9 % are, of 1.5 pixels 87 %, and of 2
pixels all."""
TURNED = 0.5
"""Heads of more `Face.turn`, to either side, are said to be turned: from there on the tip of the nose has passed one
eye, and the frame loses the middle of the face. Of 1,633 photos, half have less than 0.09, 95 % less than 0.35, and 1 %
more than this."""


class FaceError(ValueError):
    """The face that was asked for is not in the picture; the message says what was seen and what to do."""

    def __init__(self, message: str, picture: np.ndarray) -> None:
        super().__init__(message)
        self.picture = picture
        """(H, W, 3) uint8: what was looked at, turned as its EXIF says."""


@dataclass(frozen=True)
class Portrait:
    """A face as a generator wants it."""

    picture: np.ndarray
    """(S, S, 3) uint8."""
    warnings: list[str]
    """Why the result may disappoint, a sentence each."""
    faces: int
    """How many the photo shows."""
    box: Box
    """Where in the photo this one is; all of it, if that was aligned already."""


def portrait(
    source: Path | bytes, name: str | None = None, *, size: int, face: int | None = None, frame: str = "photo"
) -> Portrait:
    """A face of a photo, upright in its frame, `size` pixels wide and high.

    `face` says which, counting from the largest, 1, which is taken without it. `frame` is a name in `detect.DETECTORS`.
    Messages call the photo `name`. Raises PictureError for a file that is no picture, FaceError if it does not show
    that face, and DetectorError if there is no such frame or the extra it needs is missing."""
    name = _called(source, name)
    detector = detect.load(frame)
    picture = pictures.decode(source, name)
    found = sorted(detector(picture), key=lambda box: -box.area)
    if not found:
        raise FaceError(_no_face(name, picture, detector), picture)
    number = 1 if face is None else face
    if not 1 <= number <= len(found):
        raise FaceError(f"--face {face}: {name} shows {_counted(found)}", picture)
    box = found[number - 1]
    return _portrait(name, box.cut(picture), size, len(found), box)


def aligned(source: Path | bytes, name: str | None = None, *, size: int) -> Portrait:
    """The same of a picture that is cut to the frame already (`--aligned`): its centre, taken for a face. Raises
    PictureError."""
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
        warnings.append(
            f"{name}: the face fills a square of {len(face)} pixels, and of {size} in the result, which will be soft; "
            "a larger photo would help"
        )
    if align.sharpness(face) < BLURRED:
        warnings.append(
            f"{name}: the face is blurred, and the result will resemble it less; a sharper photo would help"
        )
    if isinstance(box, Face) and abs(box.turn) > TURNED:
        warnings.append(
            f"{name}: the head is turned far to the side, where faces align badly; a photo from the front would help"
        )
    return warnings


def _no_face(name: str, picture: np.ndarray, detector: Detector) -> str:
    """What was seen instead, and what to do."""
    height, width = picture.shape[:2]
    guess = detector.guess(picture) if isinstance(detector, Guesser) else None
    seen = f"the likeliest place, {guess.score:.0%} sure, is {_place(guess)}" if guess else "nothing resembles one"
    hint = "cut the photo closer to the face, or say --aligned if it is cut to a face already"
    return f"{name}: no face found in its {width}x{height} pixels ({seen}); {hint}"


def _counted(boxes: Sequence[Box]) -> str:
    each = "; ".join(f"{i}: {_place(box)}" for i, box in enumerate(boxes, 1))
    return f"{len(boxes)} {'face' if len(boxes) == 1 else 'faces'}, the largest first ({each})"


def _place(box: Box) -> str:
    return f"{box.right - box.left}x{box.bottom - box.top} pixels at ({box.left}, {box.top})"
