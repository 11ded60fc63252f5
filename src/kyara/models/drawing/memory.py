"""What a film remembers from frame to frame, so that drawings do not flicker."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from kyara.models.drawing.finding import Face, Traits

NEW = 0.3  # weight of the current frame in colours and levels
SHARES = 0.4  # ... in the regions around a face
STILL = 0.25  # ... in the pixels of a part that does not move
MOVED = 0.06  # difference of a pixel's surroundings, in [-1, 1], above which it has moved
SAME = 64.0  # distance of a face in two frames that is the same, in its units
REST = 0.2  # weight of the current contours of a face that rests
FAST, TREMBLE, TOGETHER = 0.25, 1.0, 1.0
"""Growth of that weight per unit that a point moves beyond TREMBLE units, and per unit that all move together."""


class Memory:
    """Smooths over time: nothing in the first picture, exponentially in the next; contours after Casiez et al. 2012."""

    def __init__(self) -> None:
        self._values: dict[Hashable, Tensor] = {}
        self._faces: list[Face] = []
        self._keys = itertools.count()
        self._picture: Tensor | None = None

    def smooth(self, key: Hashable, value: Tensor, new: float = NEW) -> Tensor:
        """The exponential moving average of a value over the frames."""
        last = self._values.get(key)
        if last is not None and last.shape == value.shape:
            value = last + (value - last) * new
        self._values[key] = value
        return value

    def picture(self, picture: Tensor) -> Tensor:
        """A frame (3, H, W) with less noise where nothing moves."""
        last = self._picture
        if last is not None and last.shape == picture.shape:
            change = torch.nn.functional.avg_pool2d((picture - last).abs().mean(0, keepdim=True)[None], 5, 1, 2)[0]
            weight = (change / MOVED).clamp(STILL, 1)
            picture = last + (picture - last) * weight
        self._picture = picture
        return picture

    def follow(self, faces: Sequence[Face]) -> list[Face]:
        """The faces of a frame, each with the key and between the contours of the same face in the frame before."""
        before, now = list(self._faces), []
        for face in faces:
            centre = face.points.mean(0)
            last = min(before, key=lambda one: float((one.points.mean(0) - centre).norm()), default=None)
            if last is None or float((last.points.mean(0) - centre).norm()) > SAME * face.unit:
                now.append(dataclasses.replace(face, key=next(self._keys)))
                continue
            before.remove(last)
            moved = (face.points - last.points).norm(dim=1, keepdim=True) / face.unit
            together = float((centre - last.points.mean(0)).norm()) / face.unit
            weight = (REST + FAST * (moved - TREMBLE).clamp_min(0) + TOGETHER * together).clamp(max=1)
            points = last.points + (face.points - last.points) * weight
            shares = last.shares + (face.shares - last.shares) * SHARES
            unit = last.unit + (face.unit - last.unit) * NEW
            traits = Traits(*(old + (new - old) * NEW for old, new in zip(last.traits, face.traits, strict=True)))
            now.append(dataclasses.replace(face, points=points, shares=shares, unit=unit, traits=traits, key=last.key))
        self._faces = now
        return now
