"""Applies image-to-image networks to a picture of any size."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from kyara.files.pictures import resize, to_float, to_uint8
from kyara.generation.inputs import Picture
from kyara.models.base import Inpainter, Translator
from kyara.training.runtime import has_bfloat16

TILE = 768  # Side of a tile in pixels, without its margin
WHOLE = 1024  # Maximum length of the longer side in pixels for networks that do not support tiles


@torch.inference_mode()
def translate_picture(function: Callable[[Tensor], Tensor], picture: np.ndarray, network: Translator) -> np.ndarray:
    """Translates a picture (H, W, 3) uint8 of any size. Large ones are translated in tiles, each with a margin of the
    receptive field to avoid seams, or downsampled first if the receptive field is the whole picture. `function` is
    `network.translate`, possibly with a style."""
    height, width = picture.shape[:2]
    device = next(network.parameters()).device
    bfloat16 = has_bfloat16(device)

    def one(part: np.ndarray) -> np.ndarray:
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            return to_uint8(function(to_float(part[None]).to(device)))[0]

    margin, longest = network.receptive_field, max(height, width)
    if margin is None and longest > WHOLE:
        small = resize(picture, max(1, width * WHOLE // longest), max(1, height * WHOLE // longest))
        return resize(one(small), width, height)
    if margin is None or longest <= TILE + 2 * margin:
        return one(picture)
    made = np.empty_like(picture)
    for y, x in itertools.product(range(0, height, TILE), range(0, width, TILE)):
        top, left = max(0, y - margin), max(0, x - margin)
        part = one(picture[top : y + TILE + margin, left : x + TILE + margin])
        made[y : y + TILE, x : x + TILE] = part[y - top : y - top + TILE, x - left : x - left + TILE]
    return made


@torch.inference_mode()
def fill_picture(network: Inpainter, picture: Picture) -> np.ndarray:
    """The picture (H, W, 3) uint8 with its hole filled; all other pixels are unchanged."""
    assert picture.hole is not None
    device = next(network.parameters()).device
    holes = torch.from_numpy(picture.hole)[None, None].to(device)
    filled = to_uint8(network.fill(to_float(picture.pixels[None]).to(device), holes))[0]
    return np.where(picture.hole[..., None], filled, picture.pixels)
