"""The second stage of the face detector: looks at every candidate again, larger and with its surroundings.

As in Faster R-CNN (Ren et al. 2015) a small network tells faces from what only resembles them, and corrects the box; as
in R-CNN (Girshick et al. 2014) it sees pixels, not features of the first stage, so that small faces are seen at a size
at which they can be recognised."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from kyara.nn.constants import constant
from kyara.nn.filters import pad_even
from kyara.perception.landmarks import Block

SIDE = 64  # pixels of a crop
CONTEXT = 2.0  # side of a crop, in longer sides of the box
STEP = 1.4  # spacing of samples in pixels above which they are taken from the picture at half the size
MAX_SIDE = 128  # pixels: crops of at least twice as many a side are cut from a reduced picture
WEIGHT = 0.5  # of the log odds of the second stage: they are larger than those of the first
LARGEST_CORRECTION = 3.0  # maximum absolute logarithm of a side relative to half of the crop
PREDICTIONS = 5  # the logit, the middle and the logarithms of the sides


class Refiner(nn.Module):
    """Blocks that halve the size, and two linear layers."""

    def __init__(self, widths: Sequence[int]) -> None:
        """Channels at 1/2, 1/4 and so on of the size: 2 to 6 multiples of 8."""
        super().__init__()
        first, last = widths[0], widths[-1]
        self.stem = nn.Conv2d(3, first, 5, stride=2, padding=2)
        self.blocks = nn.Sequential(*(Block(i, o, down=True) for i, o in itertools.pairwise(widths)))
        self.squeeze = nn.Conv2d(last, last // 2, 1)
        cells = (SIDE // 2 ** len(widths)) ** 2
        self.hidden = nn.Linear(last // 2 * cells, last)
        self.out = nn.Linear(last, PREDICTIONS)
        nn.init.normal_(self.out.weight, std=0.01)
        nn.init.zeros_(self.out.bias)

    def forward(self, crops: Tensor) -> Tensor:
        """Raw predictions (N, 5) for crops (N, 3, SIDE, SIDE) in [-1, 1]: see `decode`."""
        x = F.relu(self.stem(crops.contiguous(memory_format=torch.channels_last)))
        x = F.relu(self.squeeze(self.blocks(x))).flatten(1)
        return self.out(F.relu(self.hidden(x))).float()


def squares(boxes: Tensor) -> Tensor:
    """The middle and the side (..., 3) of the crop of each of the boxes (..., 4), in pixels."""
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2
    side = (boxes[..., 2:] - boxes[..., :2]).amax(-1, keepdim=True).clamp_min(1) * CONTEXT
    return torch.cat([middle, side], -1)


def decode(raw: Tensor, where: Tensor) -> Tensor:
    """The boxes (N, 4), x0 y0 x1 y1 in pixels, of raw predictions (N, 5) for crops at `where` (N, 3), see `squares`.
    The first prediction is the logit of the score."""
    side = where[:, 2:]
    middle = where[:, :2] + raw[:, 1:3] * side / CONTEXT
    half = raw[:, 3:].clamp(-LARGEST_CORRECTION, LARGEST_CORRECTION).exp() * side / (2 * CONTEXT)
    return torch.cat([middle - half, middle + half], 1)


def confirm(refiner: Refiner, crops: Tensor, where: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Corrected boxes (N, 4), and the scores (N,) of both stages together, of candidates with `scores` (N,) by the
    first stage: the log odds are added, those of the second stage weighted. The crops (N, 3, SIDE, SIDE) are at `where`
    (N, 3). The predictions are means over the crops and their mirror images."""
    mirrored = refiner(crops.flip(3)) * constant((1, -1, 1, 1, 1), crops)
    raw = (refiner(crops) + mirrored) / 2
    odds = scores.clamp(1e-6, 1 - 1e-6).logit() + WEIGHT * raw[:, 0]
    return decode(raw, where), odds.sigmoid()


def sampled(batch: Tensor, where: Tensor) -> Tensor:
    """Crops (B * K, 3, SIDE, SIDE) of pictures (B, 3, H, W) at `where` (B, K, 3), with the border repeated outside.
    Each pixel is the mean of 2 x 2 samples."""
    steps = (torch.arange(2 * SIDE, device=batch.device) + 0.5) / (2 * SIDE) - 0.5
    x, y = (where[..., k, None] + steps * where[..., 2, None] for k in (0, 1))  # (B, K, 2 SIDE)
    places = torch.stack(torch.broadcast_tensors(x[:, :, None], y[..., None]), 4)  # (B, K, 2 SIDE, 2 SIDE, 2)
    fine, coarse = _samples(batch, places), _samples(F.avg_pool2d(pad_even(batch), 2), places / 2)
    reduced = (where[..., 2] > STEP * 2 * SIDE)[..., None, None, None]
    return F.avg_pool2d(torch.where(reduced, coarse, fine).flatten(0, 1), 2)


def _samples(batch: Tensor, places: Tensor) -> Tensor:
    """Pixels (B, K, 3, h, w) of pictures (B, 3, H, W) at `places` (B, K, h, w, 2), in pixels."""
    grid = places.flatten(1, 2) * (2 / constant((batch.shape[3], batch.shape[2]), batch)) - 1
    found = F.grid_sample(batch, grid, padding_mode="border", align_corners=False)
    return found.unflatten(2, places.shape[1:3]).transpose(1, 2)


def cut(picture: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Crops (N, SIDE, SIDE, 3) uint8 of a picture (H, W, 3) at `where` (N, 3), with the border repeated outside. Large
    crops are cut from copies of half the size, a quarter and so on, in which they have fewer than 2 MAX_SIDE pixels
    a side."""
    found = np.empty((len(where), SIDE, SIDE, 3), np.uint8)
    halvings = np.log2(np.maximum(where[:, 2] / MAX_SIDE, 1)).astype(int)
    copy = picture
    for step in range(halvings.max(initial=-1) + 1):
        copy = np.array(Image.fromarray(copy).reduce(2)) if step else picture
        for i in np.flatnonzero(halvings == step):
            found[i] = _crop(copy, *(where[i] / 2**step).tolist())
    return found


def _crop(picture: np.ndarray, x: float, y: float, side: float) -> np.ndarray:
    """One crop (SIDE, SIDE, 3) of a square of any `side` whose middle is at x and y."""
    left, top = math.floor(x - side / 2), math.floor(y - side / 2)
    window = np.arange(math.ceil(side) + 1)
    rows, columns = (np.clip(low + window, 0, most - 1) for low, most in zip((top, left), picture.shape, strict=False))
    around = Image.fromarray(picture[rows[:, None], columns])
    corner = x - side / 2 - left, y - side / 2 - top
    by = Image.Resampling.BOX if side > SIDE else Image.Resampling.BICUBIC
    return np.array(around.resize((SIDE, SIDE), by, (*corner, corner[0] + side, corner[1] + side)))
