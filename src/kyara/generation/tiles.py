"""Applies image-to-image networks to pictures of any size."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from kyara.files.pictures import quantise, resize, to_float
from kyara.generation.inputs import Picture
from kyara.models.base import Inpainter, Translator
from kyara.training.inference import move, run_split
from kyara.training.runtime import has_bfloat16

TILE = 768  # Side of a tile in pixels, without its margin
WHOLE = 1024  # Maximum length of the longer side in pixels for networks that do not support tiles
PIXELS = 2**22  # Maximum number of pixels in a batch on a GPU


def same_size(pictures: Iterable[Picture], batched: bool) -> Iterator[list[Picture]]:
    """Consecutive pictures of the same size, of at most `PIXELS` together; one by one unless `batched`."""
    group: list[Picture] = []
    for picture in pictures:
        height, width = picture.pixels.shape[:2]
        full = len(group) >= max(1, PIXELS // (height * width) if batched else 1)
        if group and (full or group[0].pixels.shape != picture.pixels.shape):
            yield group
            group = []
        group.append(picture)
    if group:
        yield group


@torch.inference_mode()
def translate_pictures(function: Callable[[Tensor], Tensor], pictures: np.ndarray, network: Translator) -> np.ndarray:
    """Translates pictures (B, H, W, 3) uint8 of any size. Large ones are translated in tiles, each with a margin of the
    receptive field to avoid seams, or downsampled first if the receptive field is the whole picture. `function` is
    `network.translate`, possibly with a style. The results are `network.scale` times as large."""
    height, width = pictures.shape[1:3]
    device = next(network.parameters()).device
    bfloat16 = has_bfloat16(device)

    def run(part: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            return quantise(function(to_float(part)))

    def translated(part: np.ndarray) -> np.ndarray:
        return run_split(run, move(torch.from_numpy(np.ascontiguousarray(part)), device)).cpu().numpy()

    margin, longest = network.receptive_field, max(height, width)
    if margin is None and longest > WHOLE:
        size = max(1, width * WHOLE // longest), max(1, height * WHOLE // longest)
        small = translated(np.stack([resize(picture, *size) for picture in pictures]))
        return np.stack([resize(picture, width, height) for picture in small])
    if margin is None or longest <= TILE + 2 * margin:
        return translated(pictures)
    scale = network.scale
    made = np.empty((len(pictures), height * scale, width * scale, 3), np.uint8)
    for y, x in itertools.product(range(0, height, TILE), range(0, width, TILE)):
        top, left = max(0, y - margin), max(0, x - margin)
        part = translated(pictures[:, top : y + TILE + margin, left : x + TILE + margin])
        here = made[:, y * scale : (y + TILE) * scale, x * scale : (x + TILE) * scale]
        above, before = (y - top) * scale, (x - left) * scale
        here[:] = part[:, above : above + here.shape[1], before : before + here.shape[2]]
    return made


@torch.inference_mode()
def fill_pictures(network: Inpainter, pictures: Sequence[Picture]) -> np.ndarray:
    """Pictures of the same size (B, H, W, 3) uint8 with their holes filled; all other pixels are unchanged."""
    device = next(network.parameters()).device
    pixels = np.stack([picture.pixels for picture in pictures])
    holes = np.stack([picture.hole for picture in pictures if picture.hole is not None])  # (B, H, W)

    def run(part: Tensor, hole: Tensor) -> Tensor:
        return quantise(network.fill(to_float(part), hole[:, None]))

    filled = run_split(run, *(move(torch.from_numpy(array), device) for array in (pixels, holes)))
    return np.where(holes[..., None], filled.cpu().numpy(), pixels)
