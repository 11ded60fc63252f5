"""Which part of a picture is cut out around a face.

A drawn face is framed by its box, so that all faces have the same height and position, whatever the style of eyes and
mouth. A face in a photo is framed by its eyes and mouth as in `align`, as the built-in networks for photos expect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from kyara.preparation import align
from kyara.preparation.faces import CERTAIN, Box, Face

Frame = Literal["face", "bust", "whole"]

SIDE = {"face": 1.6, "bust": 2.75}  # Sides of the square frames, in heights of the box
DOWN = {"face": 0.0, "bust": 0.44}  # Distance from the middle of the box down to that of the frame, likewise
ZOOM = {"face": align.PORTRAIT, "bust": align.FFHQ}  # Of photos; a bust is FFHQ's own frame
FLAT = 0.8  # Boxes lower than this share of their width count as that high
ALREADY = (0.8, 1.5)
"""Of a picture that is a face already: the least and the largest side of the frame of its face, in sides of the part of
the picture that `center_crop` takes."""
ASIDE = 0.22
"""Maximum distance of the centres of both, in the same unit. For a frame smaller than that part, it is reduced by a
third of the difference."""
TILTED = 0.35  # Maximum tilt of such a face in radians

Place = tuple[np.ndarray, np.ndarray]
"""Centre (x, y) of a frame in pixels, and the vector from there to the middle of its right side."""


def place(face: Box, frame: Frame, *, aspect: float = 1.0, by_eyes: bool = False) -> Place:
    """The frame of a face, `aspect` times as wide as it is high. A wide frame shows more at both sides, a high one more
    below. It is turned if the landmarks are trusted; with `by_eyes` they decide its size and position too."""
    trusted = isinstance(face, Face) and face.trusted
    if by_eyes and trusted:
        assert isinstance(face, Face)
        centre, right = align.square(face.eyes, face.mouth, ZOOM[frame])
    else:
        width, height = face.right - face.left, max(face.bottom - face.top, FLAT * (face.right - face.left), 1)
        right = np.array([1.0, 0.0])
        if isinstance(face, Face) and face.trusted:
            right = align.direction(face.eyes, face.mouth)
            right = right / max(np.hypot(*right), 1e-6)
        centre = np.array([face.left + width / 2, (face.top + face.bottom) / 2])
        centre = centre + align.turned(right) * DOWN[frame] * height
        right = right * SIDE[frame] * height / 2
    if aspect < 1:
        centre = centre + align.turned(right) * (1 / aspect - 1)
    return centre, right * max(aspect, 1)


def shorter_side(face: Box, frame: Frame, *, by_eyes: bool = False) -> int:
    """The shorter side in pixels of the frame of a face."""
    return round(2 * float(np.hypot(*place(face, frame, by_eyes=by_eyes)[1])))


def fills(face: Box, frame: Frame, size: tuple[int, int], aspect: float) -> bool:
    """Whether a picture of that size (height, width) is about what would be cut out of it for this face."""
    height, width = size
    part = min(width, height * aspect), min(height, width / aspect)  # of `center_crop`
    centre, right = place(face, frame, aspect=aspect)
    scale = 2 * np.hypot(*right) / part[0]
    aside = np.abs(centre - np.array([width, height]) / 2) / part
    tilt = abs(np.arctan2(right[1], right[0]))
    near = aside.max() <= ASIDE - max(1 - scale, 0) / 3
    return bool(ALREADY[0] <= scale <= ALREADY[1] and near and tilt <= TILTED)


def uncertain(face: Box) -> bool:
    """Whether this may be something else than a face."""
    return face.score < CERTAIN


def cut_off(face: Box, size: tuple[int, int]) -> bool:
    """Whether the edge of a picture of that size (height, width) cuts through the face: its eyes or mouth are outside,
    or its box ends at the edge and is much too narrow or low."""
    height, width = size
    if isinstance(face, Face) and face.trusted:
        return bool((face.features < 0).any() or (face.features > [width, height]).any())
    wide, high = max(face.right - face.left, 1), max(face.bottom - face.top, 1)
    across, down = face.left <= 1 or face.right >= width - 1, face.top <= 1 or face.bottom >= height - 1
    return (across and wide < 0.6 * high) or (down and high < 0.6 * wide)


def covered(face: Box, faces: Sequence[Box]) -> bool:
    """Whether a smaller one of `faces`, a certain one, is in front of it: more than half of that is inside its box."""
    smaller = (other for other in faces if other.area < face.area and not uncertain(other))
    return any(face.shared(other) > other.area / 2 for other in smaller)


def whole(face: Box, faces: Sequence[Box], size: tuple[int, int]) -> bool:
    """Whether one of the `faces` of a picture of that size (height, width) is certain, and seen as a whole."""
    return not (uncertain(face) or cut_off(face, size) or covered(face, faces))


def repeated(face: Box, frame: Place, size: tuple[int, int], aspect: float) -> bool:
    """Whether mirroring a picture of that size (height, width) at its edges shows an eye or the mouth of the face again
    inside the frame."""
    if isinstance(face, Face) and face.trusted:
        points = face.features
    else:  # where they may be
        quarter = np.array([face.right - face.left, face.bottom - face.top]) / 4
        points = face.middle + np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]]) * quarter
    height, width = size
    across, down = points * [-1, 1], points * [1, -1]  # at the left and the upper edge
    right_lower = across + np.array([2 * width, 0]), down + np.array([0, 2 * height])
    mirrored = np.concatenate([across, down, *right_lower])
    centre, right = frame
    axes = np.stack([right, align.turned(right) * aspect], 1) / (right @ right)
    return bool((np.abs((mirrored - centre) @ axes) < 1).all(1).any())
