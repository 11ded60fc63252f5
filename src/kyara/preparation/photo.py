"""Crops one aligned face from a photo, with warnings about its quality."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kyara.files import pictures
from kyara.files.names import counted
from kyara.preparation import align, detect
from kyara.preparation.faces import Box, Face
from kyara.preparation.frames import ZOOM, Frame, place

BLURRED = 0.035
"""Faces with a lower `align.sharpness` get a warning: none of 1,750 sharp faces of about 200 pixels (minimum 0.048,
median 0.107); of 117 of them, 9 % after a Gaussian blur of 1 pixel, 87 % after 1.5 pixels, and all after 2."""
TURNED = 0.5
"""Heads with a larger absolute `Face.turn` get a warning: the tip of the nose has passed one eye, and the frame loses
the middle of the face. Of 1,633 photos, half have less than 0.09, 95 % less than 0.35, and 1 % more than this."""


class FaceError(ValueError):
    """The requested face is not in the picture; the message describes the faces that were found."""

    def __init__(self, message: str, picture: np.ndarray) -> None:
        super().__init__(message)
        self.picture = picture
        """(H, W, 3) uint8: the decoded picture, rotated by its EXIF orientation."""


@dataclass(frozen=True)
class Portrait:
    """An aligned face."""

    picture: np.ndarray  # (S, S, 3) uint8
    warnings: list[str]  # Reasons why the result may be poor, one sentence each
    faces: int  # Number of faces in the photo
    box: Box  # The region of this face in the photo; the whole picture if it was already aligned


def portrait(
    source: Path | bytes, name: str | None = None, *, size: int, face: int | None = None, frame: str | None = "photo"
) -> Portrait:
    """Crops a face from a photo, aligned, `size` pixels wide and high.

    `face` is the number of the face, sorted by size, starting at 1 (default: 1, the largest). `frame` is a name in
    `detect.DETECTORS`, or None for an aligned picture, which is centre-cropped. Messages start with `name`. Raises
    PictureError if the file is not a picture, FaceError if there is no such face, and DetectorError if there is no such
    frame or its extra is missing."""
    name = name or (str(source) if isinstance(source, Path) else "picture")
    detector = None if frame is None else detect.load(frame)
    picture = pictures.decode(source, name)
    whole = Box(0, 0, picture.shape[1], picture.shape[0])
    found = sorted(detector(picture), key=lambda box: -box.area) if detector else [whole]
    if not found:
        guess = getattr(detector, "guess", lambda picture: None)(picture)
        best = f"the best candidate, {guess.score:.0%} confidence, is {_place(guess)}" if guess else ""
        seen = f"no face found in its {whole.right}x{whole.bottom} pixels ({best or 'no candidates'})"
        hint = "crop the photo closer to the face, or add --aligned if it is already aligned"
        raise FaceError(f"{name}: {seen}; {hint}", picture)
    number = 1 if face is None else face
    if not 1 <= number <= len(found):
        each = "; ".join(f"{i}: {_place(box)}" for i, box in enumerate(found, 1))
        raise FaceError(f"--face {face}: {name} has {counted(len(found), 'face')}, the largest first ({each})", picture)
    box = found[number - 1]
    cut = _cut(picture, box)
    warnings = [f"{name}: {warning}" for warning in _warnings(cut, size, box)]
    return Portrait(pictures.resize(cut, size, size), warnings, len(found), box)


def _cut(picture: np.ndarray, box: Box) -> np.ndarray:
    """A face in its frame, as `kyara prepare --detect photo` cuts it, or the middle of a box: (S, S, 3)."""
    if isinstance(box, Face):
        frame: Frame = "bust" if box.zoom == ZOOM["bust"] else "face"
        return align.upright(picture, *place(box, frame, by_eyes=True))
    part = box.cut(picture)
    side = min(part.shape[:2])
    return pictures.center_crop(part, side, side)


def _warnings(face: np.ndarray, size: int, box: Box) -> Iterator[str]:
    if len(face) < size:
        small = f"the face has {len(face)} pixels and is enlarged to {size}, so the result is blurry"
        yield f"{small}; a larger photo would help"
    if align.sharpness(face) < BLURRED:
        yield "the face is blurred, so the result resembles it less; a sharper photo would help"
    if isinstance(box, Face) and not box.trusted:
        why = "the positions of eyes and mouth are uncertain, as in a profile, so the face is not rotated"
        yield f"{why}; a photo from the front would help"
    elif isinstance(box, Face) and abs(box.turn) > TURNED:
        yield "the head is turned far to the side and aligns badly; a photo from the front would help"


def _place(box: Box) -> str:
    return f"{box.right - box.left}x{box.bottom - box.top} pixels at ({box.left}, {box.top})"
