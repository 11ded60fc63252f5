"""Which cell predicts which face."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.models.detector.views import Targets
from kyara.perception.detector import iou

RADIUS = 2.5  # a cell is a candidate for a face within this distance of its centre, in strides
CANDIDATES = 10  # maximum number of cells per face
IOU_COST = 3.0  # weight of -log IoU in the cost of a match
FAR = 1e5  # added to the cost of cells outside the centre or the box


class Match(NamedTuple):
    """The face of each cell."""

    face: Tensor  # (B, A) int64, index of the face
    positive: Tensor  # (B, A) bool


def assign(boxes: Tensor, logits: Tensor, found: Targets, centres: Tensor, strides: Tensor) -> Match:
    """SimOTA (Ge et al. 2021, section 2.2): each face gets the cells of the lowest cost, as many as the sum of the
    overlaps of its best ones. `boxes` (B, A, 4) and `logits` (B, A) are predictions, without gradients."""
    target = found.boxes[:, :, None]  # (B, M, 1, 4)
    middle = (target[..., :2] + target[..., 2:]) / 2
    near = ((centres - middle).abs() < RADIUS * strides).all(3)  # (B, M, A)
    inside = ((centres > target[..., :2]) & (centres < target[..., 2:])).all(3)
    candidates = (near | inside) & found.learned[..., None]
    overlap = iou(boxes[:, None], target) * candidates
    cost = F.softplus(-logits)[:, None] - IOU_COST * (overlap + 1e-8).log() + FAR * ~(near & inside)
    cost = cost.masked_fill(~candidates, math.inf)
    most = min(CANDIDATES, cost.shape[2])
    count = overlap.topk(most, 2).values.sum(2).long().clamp_min(1)  # (B, M)
    lowest = cost.topk(most, 2, largest=False)
    chosen = (torch.arange(most, device=cost.device) < count[..., None]) & lowest.values.isfinite()
    matched = torch.zeros_like(cost).scatter_(2, lowest.indices, chosen.to(cost.dtype)) > 0  # (B, M, A)
    face = cost.masked_fill(~matched, math.inf).argmin(1)
    return Match(face, matched.any(1))


def giou(one: Tensor, other: Tensor) -> Tensor:
    """Generalised intersection over union (Rezatofighi et al. 2019) of boxes (..., 4)."""
    hull = torch.maximum(one[..., 2:], other[..., 2:]) - torch.minimum(one[..., :2], other[..., :2])
    sides = (torch.minimum(one[..., 2:], other[..., 2:]) - torch.maximum(one[..., :2], other[..., :2])).clamp_min(0)
    areas = (one[..., 2:] - one[..., :2]).prod(-1) + (other[..., 2:] - other[..., :2]).prod(-1)
    union, outer = (areas - sides.prod(-1)).clamp_min(1e-6), hull.prod(-1).clamp_min(1e-6)
    return sides.prod(-1) / union - (outer - union) / outer
