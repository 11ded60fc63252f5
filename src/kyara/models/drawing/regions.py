"""The regions of a picture: what the network sees, corrected by the contours of the faces and by colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.models.drawing.filters import blur, guided
from kyara.models.drawing.finding import ALL, Face, spread
from kyara.models.drawing.layout import AT
from kyara.models.drawing.masks import polygon, scaled, union

BACKGROUND, SKIN, HAIR, CLOTHES, OTHER = range(len(ALL))
BINS = 12  # of each channel in a histogram of colours
DOUBT, COLOUR = 0.003, 0.5  # least share of a region before its colours are seen, and the weight of colours
THROAT = ((-0.18, 0.05), (-0.18, -0.6), (0.18, -0.6), (0.18, 0.05))
"""Where the neck is never behind hair: from the chin, to the side and up, in heights of the face."""
SIDES = ((-0.36, 0.2), (-0.36, -0.6), (0.36, -0.6), (0.36, 0.2))  # where the neck is not behind short hair
NEAR = 2.2  # size of the surroundings of a bald head, relative to the face
COARSE = 128  # longer side of the picture in which islands are found
CROWN = 1.5  # how far above the chin a head ends, in heights of the face


def find(picture: Tensor, faces: Sequence[Face], contours: Sequence[np.ndarray], unit: float) -> Tensor:
    """Shares (R, H, W) of the regions of a picture (3, H, W) in [0, 1], which sum to 1. `contours` are the points
    (COUNT, 2) of the faces."""
    shares = spread(faces, *picture.shape[1:]).to(picture)
    for face, points in zip(faces, contours, strict=True):
        if face.traits.is_bald:
            shares = bald(shares, points)
    shares = refine(shares, picture, unit)
    for face, points in zip(faces, contours, strict=True):
        area = SIDES if face.traits.has_short_hair else THROAT
        skin = torch.maximum(neck(points, area, shares), cheeks(points, shares))
        shares = moved(shares, blur(skin, 2 * unit).clamp(0, 1), SKIN)
    return attached(shares, contours) if faces else shares


def moved(shares: Tensor, where: Tensor, to: int) -> Tensor:
    """Shares (R, H, W) in which hair under a mask (1, H, W) is another region."""
    hair = shares[HAIR] * where[0]
    shares = shares.clone()
    shares[HAIR] -= hair
    shares[to] += hair
    return shares


def bald(shares: Tensor, points: np.ndarray) -> Tensor:
    """Shares in which the head above a face is skin, and what is near it is no hair."""
    oval = points[AT["oval"]]
    up = oval[0] - oval[9]
    high = np.where((oval - oval[9]) @ up > 0.6 * (up @ up), CROWN, 1.06)[:, None]
    head = polygon(oval[9] + (oval - oval[9]) * high, shares)
    return moved(moved(shares, head, SKIN), polygon(scaled(oval, NEAR), shares), BACKGROUND)


def neck(points: np.ndarray, area: Sequence[tuple[float, float]], like: Tensor) -> Tensor:
    """Where (1, H, W) shadows on the neck, which look like hair, are skin."""
    oval = points[AT["oval"]]
    chin, up = oval[9], oval[0] - oval[9]
    right = np.array([-up[1], up[0]])
    return polygon(np.stack([chin + x * right + y * up for x, y in area]), like)


def cheeks(points: np.ndarray, like: Tensor) -> Tensor:
    """The face below the eyes, between the strands of hair beside it, (1, H, W)."""
    oval, eyes = points[AT["oval"]], [points[AT[f"{side} eye"]].mean(0) for side in ("left", "right")]
    return polygon(np.concatenate([scaled(oval[6:13], 0.85), np.stack(eyes)]), like)


def attached(shares: Tensor, contours: Sequence[np.ndarray]) -> Tensor:
    """Shares without islands: what is not connected to a face is background."""
    size = shares.shape[1:]
    small = [max(1, round(side * COARSE / max(size))) for side in size]
    behind = F.interpolate(shares[None, [BACKGROUND, OTHER]], small, mode="area").sum(1)
    seeds = union([points[AT["oval"]] for points in contours], shares)
    person, reached = behind < 0.5, F.interpolate(seeds[None], small, mode="area")[0] > 0
    while True:
        grown = F.max_pool2d(reached.float(), 3, 1, 1).bool() & person | reached
        if torch.equal(grown, reached):
            break
        reached = grown
    near = F.interpolate(F.max_pool2d(reached.float(), 3, 1, 1)[None], size, mode="bilinear")[0]
    kept = shares * near
    kept[OTHER] = shares[OTHER]
    kept[BACKGROUND] = 1 - kept.sum(0) + kept[BACKGROUND]
    return kept


def refine(shares: Tensor, picture: Tensor, unit: float) -> Tensor:
    """Shares of the regions (R, H, W) that follow the edges of the picture, and sum to 1."""
    sharp = guided(by_colour(shares, blur(picture, 0.7 * unit)), picture, round(4 * unit), 1e-4)
    return F.normalize(blur(sharp.clamp(0, 1), 0.8 * unit).clamp_min(1e-4), p=1, dim=0)


def by_colour(shares: Tensor, picture: Tensor) -> Tensor:
    """Shares (R, H, W), multiplied by how frequent the colour of each pixel is in each region (as in GrabCut, Rother et
    al. 2004, with histograms)."""
    index = (picture.clamp(0, 0.999) * BINS).long()
    index = ((index[0] * BINS + index[1]) * BINS + index[2]).flatten()
    counts = torch.zeros(len(shares), BINS**3, device=picture.device).index_add_(1, index, shares.flatten(1))
    counts = F.avg_pool3d(counts.view(-1, 1, BINS, BINS, BINS), 3, 1, 1).flatten(1)
    frequency = (counts + 0.02) / (counts.sum(1, keepdim=True) + 50)
    logits = (shares + DOUBT).log() + COLOUR * frequency[:, index].view_as(shares).log()
    return logits.softmax(0)


def harden(shares: Tensor) -> Tensor:
    """Shares (R, H, W) whose borders are about a pixel wide."""
    return ((shares - shares.amax(0, keepdim=True)) * 12).softmax(0)
