"""What a detector finds: boxes, and faces that can be cut upright."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from kyara.preparation import align


class DetectorError(ValueError):
    """A detector that there is not, or that lacks its extra; the message says what to do."""


@dataclass(frozen=True)
class Box:
    """Where something was found, in pixels: right and bottom lie just outside."""

    left: int
    top: int
    right: int
    bottom: int
    score: float = 1.0
    """How sure the detector is, in [0, 1]."""

    @property
    def area(self) -> int:
        return max(self.right - self.left, 0) * max(self.bottom - self.top, 0)

    def overlap(self, other: Box) -> float:
        """How much of what the two cover both cover, in [0, 1]."""
        both = Box(
            max(self.left, other.left),
            max(self.top, other.top),
            min(self.right, other.right),
            min(self.bottom, other.bottom),
        ).area
        return both / max(self.area + other.area - both, 1)

    def cut(self, picture: np.ndarray) -> np.ndarray:
        """The part of the picture (H, W, 3) inside the box; empty if they do not meet."""
        return picture[max(self.top, 0) : max(self.bottom, 0), max(self.left, 0) : max(self.right, 0)]


@dataclass(frozen=True)
class Face(Box):
    """A box of which the eyes and the mouth are known too, so that it can be cut upright."""

    eyes: np.ndarray = field(default_factory=lambda: np.zeros((2, 2)))
    """Centres (x, y) of the eyes, first of that on the left when the face is upright; places as in `align`."""
    mouth: np.ndarray = field(default_factory=lambda: np.zeros((2, 2)))
    """Its corners, likewise."""
    nose: np.ndarray = field(default_factory=lambda: np.zeros(2))
    """Its tip."""
    zoom: float = align.PORTRAIT
    """How much of FFHQ's square is taken."""

    @property
    def turn(self) -> float:
        """How far the tip of the nose is from the middle between the eyes, along the line through them, in their
        distances: 0 seen from the front, positive to the right."""
        between = self.eyes[1] - self.eyes[0]
        return float((self.nose - self.eyes.mean(0)) @ between / max(between @ between, 1e-6))

    def cut(self, picture: np.ndarray) -> np.ndarray:
        """The face upright in its frame (`align.square`): (S, S, 3) at its own resolution."""
        return align.upright(picture, *align.square(self.eyes, self.mouth, self.zoom))


class Detector(Protocol):
    """Finds faces in a picture (H, W, 3) uint8."""

    def __call__(self, picture: np.ndarray) -> Sequence[Box]: ...


@runtime_checkable
class Guesser(Detector, Protocol):
    """One that, where it finds none, can say more."""

    def guess(self, picture: np.ndarray) -> Box | None:
        """Where a face is likeliest, be it little; None if nothing resembles one."""
