"""Finding faces in pictures: the place where detectors are entered.

A detector is a function that takes a picture and names boxes; `DETECTORS` maps the name that `--detect` takes
to a function that loads one. `kyara prepare` then cuts each picture to its largest box.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from kyara.preparation import align


class DetectorError(ValueError):
    """A detector that there is not; the message says what to do instead."""


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

    def cut(self, picture: np.ndarray) -> np.ndarray:
        """The part of the picture (H, W, 3) inside the box; empty if they do not meet."""
        return picture[max(self.top, 0) : max(self.bottom, 0), max(self.left, 0) : max(self.right, 0)]


@dataclass(frozen=True)
class Face(Box):
    """A box of which the eyes and the mouth are known too, so that it can be cut upright."""

    eyes: np.ndarray = field(default_factory=lambda: np.zeros((2, 2)))
    """Centres (x, y) in pixels of the eye on the left of the picture, and of that on the right."""
    mouth: np.ndarray = field(default_factory=lambda: np.zeros((2, 2)))
    """Its corners, likewise."""
    zoom: float = align.PORTRAIT
    """How much of FFHQ's square is taken."""

    def cut(self, picture: np.ndarray) -> np.ndarray:
        """The face upright in its frame (`align.square`): (S, S, 3) at its own resolution."""
        return align.upright(picture, *align.square(self.eyes, self.mouth, self.zoom))


class Detector(Protocol):
    """Finds faces in a picture (H, W, 3) uint8."""

    def __call__(self, picture: np.ndarray) -> Sequence[Box]: ...


def _photo(zoom: float) -> Detector:
    from kyara.preparation import landmarks

    return lambda picture: landmarks.faces(picture, zoom)


DETECTORS: dict[str, Callable[[], Detector]] = {
    "photo": lambda: _photo(align.PORTRAIT),
    "ffhq": lambda: _photo(align.FFHQ),
}
"""Name -> what loads the detector. Called for every picture: it should remember what it has loaded."""


def load(name: str) -> Detector:
    """The detector of that name."""
    if name not in DETECTORS:
        known = ", ".join(sorted(DETECTORS)) or "none in this version"
        hint = "cut the faces out beforehand and leave --detect away: the centre of each picture is taken"
        raise DetectorError(f"--detect {name}: no such detector (there are: {known}); {hint}")
    return DETECTORS[name]()
