"""One picture of `kyara prepare`: decoded, cropped, resized and encoded, in a worker process."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from kyara.files import pictures
from kyara.preparation import detect as detectors
from kyara.preparation.duplicates import Impression, impression

Crop = Literal["center", "whole"]


class Fitted(NamedTuple):
    """A prepared picture."""

    data: bytes  # Lossless WebP
    impression: Impression


class Rejected(NamedTuple):
    """Why a decodable picture is not used."""

    reason: str
    detail: str


def fit(
    data: bytes, name: str, *, width: int, height: int, crop: Crop, min_size: int, detect: str | None
) -> Fitted | Rejected:
    """Prepares a picture of this size in pixels. Raises PictureError if it cannot be decoded."""
    picture = pictures.decode(data, name)
    if detect is not None:
        boxes = detectors.load(detect)(picture)
        if not boxes:
            return Rejected("nothing detected", f"by {detect}")
        picture = max(boxes, key=lambda box: box.area).cut(picture)
    h, w = picture.shape[:2]
    if min(h, w) < max(min_size, 1):
        return Rejected("too small", f"{w}x{h} pixels, the minimum of the shorter side is {min_size}")
    resize = pictures.pad_to if crop == "whole" else pictures.center_crop
    fitted = np.ascontiguousarray(resize(picture, width, height))
    return Fitted(pictures.encode_webp(fitted), impression(fitted))
