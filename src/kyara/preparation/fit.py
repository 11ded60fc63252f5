"""One picture of `kyara prepare`: decoded, cropped, resized and encoded, in a worker process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from kyara.files import pictures
from kyara.files.gallery import thumbnail
from kyara.preparation import align
from kyara.preparation import detect as detectors
from kyara.preparation.duplicates import Impression, impression
from kyara.preparation.faces import Box

Crop = Literal["center", "whole"]
THUMBNAIL = 96  # Maximum length of the longer side of a thumbnail in the report, in pixels


class Look(NamedTuple):
    """What the report shows of a picture."""

    size: tuple[int, int]  # Height and width of the upright source in pixels
    sharpness: float  # `align.sharpness` of the prepared picture, or of the source if it was rejected
    thumbnail: np.ndarray  # (h, w, 3) uint8, of the same picture
    boxes: Sequence[Box]  # The faces found in the source

    @staticmethod
    def at(picture: np.ndarray, size: tuple[int, int], boxes: Sequence[Box]) -> Look:
        return Look(size, align.sharpness(picture), thumbnail(picture, THUMBNAIL), boxes)


class Fitted(NamedTuple):
    """A prepared picture."""

    data: bytes  # Lossless WebP
    impression: Impression
    look: Look


class Rejected(NamedTuple):
    """Why a decodable picture is not used."""

    reason: str
    detail: str
    look: Look


def fit(
    data: bytes, name: str, *, width: int, height: int, crop: Crop, min_size: int, detect: str | None
) -> Fitted | Rejected:
    """Prepares a picture of this size in pixels. Raises PictureError if it cannot be decoded."""
    source = picture = pictures.decode(data, name)
    size, boxes = (source.shape[0], source.shape[1]), list[Box]()
    if detect is not None:
        boxes = list(detectors.load(detect)(source))
        if not boxes:
            return Rejected("nothing detected", f"by {detect}", Look.at(source, size, boxes))
        picture = max(boxes, key=lambda box: box.area).cut(source)
    h, w = picture.shape[:2]
    if min(h, w) < max(min_size, 1):
        detail = f"{w}x{h} pixels, the minimum of the shorter side is {min_size}"
        return Rejected("too small", detail, Look.at(picture if picture.size else source, size, boxes))
    resize = pictures.pad_to if crop == "whole" else pictures.center_crop
    fitted = np.ascontiguousarray(resize(picture, width, height))
    return Fitted(pictures.encode_webp(fitted), impression(fitted), Look.at(fitted, size, boxes))
