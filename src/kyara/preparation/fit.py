"""One picture of `kyara prepare`: decoded, searched for faces, cut, resized and encoded, in a worker process."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from kyara.files import pictures
from kyara.files.gallery import thumbnail
from kyara.preparation import align
from kyara.preparation import detect as detectors
from kyara.preparation.duplicates import Impression, impression
from kyara.preparation.faces import Box
from kyara.preparation.frames import Frame, covered, cut_off, fills, place, repeated, shorter_side, uncertain, whole

Detect = Literal["auto", "drawn", "photo", "mediapipe", "none"]
Faces = Literal["all", "largest"]
Pad = Literal["mirror", "white"]

RULES = 3
"""Increased when `fit` makes something else of a picture, or more, so that no interrupted run mixes both."""
BY_EYES = ("photo", "mediapipe")  # Detectors whose faces are framed by their eyes and mouth
SECOND_FACE = 0.25  # Side of another face, relative to the largest, above which a picture is not one face already
THUMBNAIL = 96  # Maximum length of the longer side of a thumbnail in the report, in pixels
CROPPED = 256
"""Pictures whose shorter side has at most this many pixels, and in which `auto` finds no certain face, stay as they
are: they are more likely cropped faces that it does not recognise than illustrations."""
WHITE = 255


@dataclasses.dataclass(frozen=True)
class Options:
    """How pictures are prepared, see `kyara prepare`."""

    width: int
    height: int
    min_size: int
    detect: Detect
    faces: Faces
    frame: Frame
    pad: Pad

    @property
    def aspect(self) -> float:
        return self.width / self.height

    @property
    def by_eyes(self) -> bool:
        return self.detect in BY_EYES


class Found(NamedTuple):
    """A source picture and its faces."""

    size: tuple[int, int]  # Height and width of the upright picture in pixels
    faces: Sequence[Box]  # Also what may be one

    @property
    def certain(self) -> list[Box]:
        """Those that are faces for certain."""
        return [face for face in self.faces if not uncertain(face)]


class Made(NamedTuple):
    """A picture made from a source, or why it was not."""

    face: int | None  # Index of the face that it was cut to; None if it is the picture itself
    reason: str  # Empty if it was made
    detail: str
    sharpness: float  # `align.sharpness` of the prepared picture, or of the part of the source if it was not made
    thumbnail: bytes  # Lossless WebP, of the same
    data: bytes = b""  # Lossless WebP
    impression: Impression | None = None  # None if it was not made


Fitted = tuple[tuple[int, int], Sequence[Made]]
"""Height and width of the upright source in pixels, and the pictures made from it."""


def find(data: bytes, name: str, *, detect: Detect) -> Found:
    """The faces in a picture. Raises PictureError if it cannot be decoded."""
    picture = pictures.decode(data, name)
    detector = detectors.load(detect)
    return Found((picture.shape[0], picture.shape[1]), list(getattr(detector, "possible", detector)(picture)))


def fit(data: bytes, name: str, found: Found | None, *, options: Options) -> Fitted:
    """The pictures made from a source. `found` is None if faces are not to be cut out.
    Raises PictureError if it cannot be decoded."""
    source = pictures.decode(data, name)
    size = source.shape[0], source.shape[1]
    if found is None or _stays(found, options.detect, options.frame, options.aspect):
        return size, [_whole(source, options)]
    if not found.faces:
        detail = "crop it to the face yourself, or keep it whole in a run with --detect none"
        return size, [_left_out(source, None, "no face found", detail)]
    if options.frame == "whole":
        if found.certain:
            return size, [_whole(source, options)]
        reason, detail = _uncertain(max(found.faces, key=lambda face: face.score))
        return size, [_left_out(source, None, reason, f"{detail}; --detect none keeps all pictures")]
    return size, list(_faces(source, found, options))


def side(found: Found, detect: Detect, frame: Frame, aspect: float = 1.0) -> int:
    """The shorter side in pixels of what a picture gives: the largest face, or the picture if it is not cut; 0 if it
    has no certain, whole face and is left out."""
    return max(sides(found, detect, frame, aspect).values())


def sides(found: Found, detect: Detect, frame: Frame, aspect: float) -> dict[int | None, int]:
    """What `fit` makes of a picture: index of a face, or None for the picture -> its shorter side in pixels, 0 if it is
    not certain or not whole."""
    if _stays(found, detect, frame, aspect) or (frame == "whole" and found.certain):
        return {None: min(found.size)}
    if frame == "whole" or not found.faces:
        return {None: 0}
    pixels = [shorter_side(face, frame, by_eyes=detect in BY_EYES) for face in found.faces]
    seen = [whole(face, found.faces, found.size) for face in found.faces]
    return {i: pixels[i] if seen[i] else 0 for i in range(len(pixels))}


def _stays(found: Found, detect: Detect, frame: Frame, aspect: float) -> bool:
    """Whether a picture is one face already, and shows no other large one that would be kept."""
    if detect != "auto" or frame == "whole":
        return False
    if not found.certain:
        return min(found.size) <= CROPPED
    largest = max(found.certain, key=lambda face: face.area)
    others = [face for face in found.certain if face is not largest and whole(face, found.faces, found.size)]
    alone = all(face.area <= SECOND_FACE**2 * largest.area for face in others)
    return alone and fills(largest, frame, found.size, aspect)


def _whole(source: np.ndarray, options: Options) -> Made:
    """The middle of the picture or, with the frame `whole`, all of it."""
    h, w = source.shape[:2]
    if (found := _too_small(min(h, w), f"{w}x{h} pixels", options)) is not None:
        return _left_out(source, None, *found)
    if options.frame != "whole":
        return _made(pictures.center_crop(source, options.width, options.height), None)
    if options.pad == "white":
        return _made(pictures.pad_to(source, options.width, options.height), None)
    half = max(w, h * options.aspect) / 2
    largest = max(align.LARGEST, options.width, options.height)
    middle, right = np.array([w / 2, h / 2]), np.array([half, 0.0])
    whole = align.upright(source, middle, right, aspect=options.aspect, largest=largest)
    return _made(pictures.resize(whole, options.width, options.height), None)


def _faces(source: np.ndarray, found: Found, options: Options) -> Iterator[Made]:
    """A picture of each face, or why there is none."""
    seen = [whole(face, found.faces, found.size) for face in found.faces]
    largest = max(range(len(seen)), key=lambda i: (seen[i], not uncertain(found.faces[i]), found.faces[i].area))
    for i, face in enumerate(found.faces):
        side = shorter_side(face, options.frame, by_eyes=options.by_eyes)
        reason = None
        if options.faces == "largest" and i != largest:
            reason = "not the largest face", "--faces all keeps all faces"
        elif uncertain(face):
            reason = _uncertain(face)
        elif cut_off(face, found.size):
            reason = "cut off", "the face ends at the edge of the picture"
        elif covered(face, found.faces):
            reason = "covered", "another face is in front of it"
        else:
            reason = _too_small(side, f"its frame has {side} pixels", options)
        outside = WHITE if options.pad == "white" else None
        centre, right = place(face, options.frame, aspect=options.aspect, by_eyes=options.by_eyes)
        if reason is None and outside is None and repeated(face, (centre, right), found.size, options.aspect):
            reason = "cut off", "mirrored at the edge, its eyes or mouth would show twice; --pad white keeps it"
        twice = 2 * max(options.width, options.height)  # rotated at this size, a picture stays sharp
        cut = align.upright(source, centre, right, aspect=options.aspect, outside=outside, largest=twice)
        if reason is None:
            yield _made(pictures.resize(cut, options.width, options.height), i)
        else:
            yield _left_out(cut, i, *reason)


def _uncertain(face: Box) -> tuple[str, str]:
    return "uncertain", f"certainty {face.score:.2f}; it may be something else"


def _too_small(side: int, what: str, options: Options) -> tuple[str, str] | None:
    if side >= max(options.min_size, 1):
        return None
    return "too small", f"{what}, the minimum of the shorter side is {options.min_size}"


def _made(picture: np.ndarray, face: int | None) -> Made:
    picture = np.ascontiguousarray(picture)
    sharpness, small = align.sharpness(picture), _thumbnail(picture)
    return Made(face, "", "", sharpness, small, pictures.encode_webp(picture), impression(picture))


def _left_out(part: np.ndarray, face: int | None, reason: str, detail: str) -> Made:
    return Made(face, reason, detail, align.sharpness(part), _thumbnail(part))


def _thumbnail(picture: np.ndarray) -> bytes:
    return pictures.encode_webp(thumbnail(picture, THUMBNAIL))
