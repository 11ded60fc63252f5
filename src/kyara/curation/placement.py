"""How well a picture fits into another one: a copy may be cropped, mirrored and recoloured a little, but its pixels
correlate with the original's where they belong. Descriptors find candidates; this tells a copy from another face of
that kind, and from the same face with another hair colour."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.files.dataset import Dataset
from kyara.files.errors import PictureError
from kyara.files.pictures import center_crop
from kyara.nn.filters import resize

SIDE = 48  # in pixels, of what is compared
SIZES = (48, 46, 43, 41, 38, 36, 34)  # of a copy, if the original has `SIDE`: down to 70 % of the width
FLAT = 1.0  # least standard deviation of a window, in levels of 255


def small(pictures: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1] as (B, 3, SIDE, SIDE) uint8."""
    return ((resize(pictures.float(), (SIDE, SIDE)) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def small_of(dataset: Dataset, i: int) -> np.ndarray:
    """A picture of a dataset as (3, SIDE, SIDE) uint8, cut to a square; zeros if it cannot be read."""
    try:
        return center_crop(dataset.picture(i, SIDE), SIDE, SIDE).transpose(2, 0, 1)
    except PictureError:
        return np.zeros((3, SIDE, SIDE), np.uint8)


@torch.inference_mode()
def correlations(pictures: Tensor, originals: Tensor) -> Tensor:
    """The largest correlation of each picture (B, 3, S, S) with a part of each of its originals (B, K, 3, S, S), over
    all places, `SIZES`, and the mirror image: (B, K) in [-1, 1]. Each channel has its own mean, all have one length.
    By Fourier transforms: one product for all places."""
    pictures, originals = pictures.float(), originals.float()
    templates = torch.stack([_templates(view) for view in (pictures, pictures.flip(3))], 1)  # (B, 2, sizes, 3, S, S)
    spectra = torch.fft.rfft2(originals)[:, :, None, None] * torch.fft.rfft2(templates).conj()[:, None]
    dots = torch.fft.irfft2(spectra.sum(4), (SIDE, SIDE))  # (B, K, 2, sizes, S, S)
    best = torch.full(originals.shape[:2], -1.0)
    for i, size in enumerate(SIZES):
        places = SIDE - size + 1  # windows that would wrap around are left out
        found = dots[:, :, :, i, :places, :places].amax(2) / _lengths(originals, size)
        best = torch.maximum(best, found.flatten(2).amax(2))
    return best


def _templates(pictures: Tensor) -> Tensor:
    """Pictures (B, 3, S, S) at all sizes, without their means, of length 1, padded with zeros: (B, sizes, 3, S, S)."""
    made = []
    for size in SIZES:
        x = F.interpolate(pictures, (size, size), mode="bilinear", antialias=True)
        x = x - x.mean((2, 3), keepdim=True)
        x = x / x.flatten(1).norm(dim=1).clamp_min(1e-3)[:, None, None, None]
        made.append(F.pad(x, (0, SIDE - size, 0, SIDE - size)))
    return torch.stack(made, 1)


def _lengths(pictures: Tensor, size: int) -> Tensor:
    """The length of every window (3, size, size) of pictures (B, K, 3, S, S) without its means, (B, K, places,
    places)."""
    count = size * size
    total, squares = (_window_sums(x, size) for x in (pictures.double(), pictures.double().square()))
    return (squares - total.square() / count).sum(2).clamp_min(3 * count * FLAT**2).sqrt().float()


def _window_sums(x: Tensor, size: int) -> Tensor:
    summed = F.pad(x.cumsum(-2).cumsum(-1), (1, 0, 1, 0))
    near, far = summed[..., :-size, :], summed[..., size:, :]
    return far[..., size:] - far[..., :-size] - near[..., size:] + near[..., :-size]
