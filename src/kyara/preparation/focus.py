"""The face in a picture, for networks that were trained on faces."""

from __future__ import annotations

import numpy as np

from kyara.preparation import align, detect
from kyara.preparation.frames import fills, place

LARGER = 1.5
"""Pictures that are at most this many times as large as the input of the network are faces already: `kyara prepare` cut
them for it."""


def focused(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The largest face of a picture (H, W, 3) uint8, cut out like a training picture of `kyara prepare`, for a network
    with input of that size (width, height). The picture itself if it has no face or is one already."""
    if min(picture.shape[:2]) <= LARGER * min(size):
        return picture
    faces = detect.load("auto")(picture)
    if not faces:
        return picture
    largest, aspect = max(faces, key=lambda face: face.area), size[0] / size[1]
    if fills(largest, "face", (picture.shape[0], picture.shape[1]), aspect):
        return picture
    return align.upright(picture, *place(largest, "face", aspect=aspect), aspect=aspect)
