"""Results of a face detector: boxes, and faces with landmarks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from kyara.preparation import align


class DetectorError(ValueError):
    """A detector that does not exist, or whose extra is missing."""


@dataclass(frozen=True)
class Box:
    """A region in pixels; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int
    score: float = 1.0  # Confidence of the detector, in [0, 1]

    @property
    def area(self) -> int:
        return max(self.right - self.left, 0) * max(self.bottom - self.top, 0)

    @property
    def middle(self) -> np.ndarray:
        """Its middle (x, y)."""
        return np.array([self.left + self.right, self.top + self.bottom]) / 2

    def shared(self, other: Box) -> int:
        """Area of the intersection."""
        left, top = max(self.left, other.left), max(self.top, other.top)
        return Box(left, top, min(self.right, other.right), min(self.bottom, other.bottom)).area

    def overlap(self, other: Box) -> float:
        """Intersection over union, in [0, 1]."""
        both = self.shared(other)
        return both / max(self.area + other.area - both, 1)

    def cut(self, picture: np.ndarray) -> np.ndarray:
        """The part of the picture (H, W, 3) inside the box; empty if they do not overlap."""
        return picture[max(self.top, 0) : max(self.bottom, 0), max(self.left, 0) : max(self.right, 0)]


Detector = Callable[[np.ndarray], Sequence[Box]]
"""Picture (H, W, 3) uint8 -> faces. It may also have two methods: `possible(picture)`, the same and what may be a face,
with a score below CERTAIN; and `guess(picture)`, the box with the highest score, or None, for the error message if no
face was found."""
CERTAIN = 0.5  # minimum score of a face, in [0, 1]


@dataclass(frozen=True)
class Face(Box):
    """A box with landmarks for alignment."""

    eyes: np.ndarray = field(default_factory=lambda: np.zeros((2, 2)))
    """Centres (x, y) of the eyes, left one first for an upright face; coordinates as in `align`."""
    mouth: np.ndarray = field(default_factory=lambda: np.zeros((2, 2)))
    """Corners (x, y) of the mouth, in the same order."""
    nose: np.ndarray = field(default_factory=lambda: np.zeros(2))  # Tip (x, y) of the nose
    zoom: float = align.PORTRAIT  # Size of the frame, relative to FFHQ's
    trusted: bool = True  # Whether the landmarks are consistent; if not, the face is framed by its box

    @property
    def features(self) -> np.ndarray:
        """Eyes and corners of the mouth, (4, 2)."""
        return np.concatenate([self.eyes, self.mouth])

    @property
    def turn(self) -> float:
        """Offset of the tip of the nose from the middle between the eyes, along the line through them, in units of
        their distance: 0 for a frontal face, positive to the right."""
        between = self.eyes[1] - self.eyes[0]
        return float((self.nose - self.eyes.mean(0)) @ between / max(between @ between, 1e-6))
