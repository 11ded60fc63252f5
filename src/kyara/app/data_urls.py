"""Data URLs: pictures inside requests and answers."""

from __future__ import annotations

import base64
import binascii

import numpy as np

from kyara.files.pictures import encode_webp

MAX_DATA = 8 * 2**20  # bytes of a mask or a pattern


def read_url(url: str, label: str) -> bytes:
    """The bytes of the data URL of a picture. ValueError, beginning with `label`, if it is something else."""
    head, _, text = url.partition(",")
    if not head.startswith("data:image/") or not head.endswith(";base64") or len(text) > MAX_DATA * 4 // 3:
        raise ValueError(f"{label}: not a picture, or larger than {MAX_DATA >> 20} MiB")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{label}: cannot be read ({error})") from error


def to_url(picture: np.ndarray) -> str:
    """A picture (H, W, 3) uint8 as the data URL of a lossless WebP."""
    return "data:image/webp;base64," + base64.b64encode(encode_webp(picture)).decode()
