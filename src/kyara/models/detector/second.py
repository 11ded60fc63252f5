"""What the second stage learns from: candidates of the first stage, and faces moved at random."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.models.detector.matching import giou
from kyara.models.detector.views import Targets
from kyara.perception.detector import iou
from kyara.perception.face_refiner import Refiner, decode, sampled, squares

FACES, OTHERS, MOVED = 3, 5, 2  # candidates per picture: faces, false alarms, and faces moved at random
SAME, OTHER = 0.5, 0.35  # minimum and maximum overlap of candidates with a face that are one, and that are none
SPREAD = 1.5  # of the random choice among false alarms, in units of the logit; 0 takes the highest ones
SHIFT, SCALE = 0.25, 0.35
"""Of faces moved at random: maximum shift, in sides, and logarithm of the scale. A few overlap too little to be one."""


class Candidates(NamedTuple):
    """K candidates for each picture."""

    boxes: Tensor  # (B, K, 4)
    target: Tensor  # (B, K, 4), the face with the largest overlap
    overlap: Tensor  # (B, K) with that
    used: Tensor  # (B, K) bool


def choose(boxes: Tensor, logits: Tensor, found: Targets) -> Candidates:
    """Candidates among the predictions of all cells, `boxes` (B, A, 4) and `logits` (B, A), and moved faces. No
    prediction in or near an ignored face is used."""
    overlap = iou(boxes[:, :, None], found.boxes[:, None])  # (B, A, M)
    best = (overlap * found.learned[:, None]).amax(2)
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2
    inside = (
        (middle[:, :, None] > found.boxes[:, None, :, :2]) & (middle[:, :, None] < found.boxes[:, None, :, 2:])
    ).all(3)
    free = ~((inside | (overlap > 0.2)) & found.ignored[:, None]).any(2)
    faces = _top(torch.rand_like(best), (best >= SAME) & free, FACES)
    gumbel = -torch.rand_like(best).clamp_min(1e-9).log().neg().log() * SPREAD
    others = _top(logits + gumbel, (best < OTHER) & free, OTHERS)
    index = torch.cat([faces[0], others[0]], 1)
    chosen = boxes.gather(1, index[..., None].expand(-1, -1, 4))
    moved = _moved(found)
    everything = torch.cat([chosen, moved[0]], 1)
    shares = iou(everything[:, :, None], found.boxes[:, None]) * found.learned[:, None]
    match = shares.max(2)
    target = found.boxes.gather(1, match.indices[..., None].expand(-1, -1, 4))
    return Candidates(everything, target, match.values, torch.cat([faces[1], others[1], moved[1]], 1))


def _top(order: Tensor, allowed: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Indices (B, count) of the largest of `order` (B, N) that are allowed, and whether each is."""
    most = min(count, order.shape[1])
    found = order.masked_fill(~allowed, -torch.inf).topk(most, 1)
    return found.indices, found.values.isfinite()


def _moved(found: Targets) -> tuple[Tensor, Tensor]:
    """Faces (B, MOVED, 4), moved and scaled at random, and whether there are so many."""
    index, there = _top(torch.rand_like(found.boxes[..., 0]), found.learned, MOVED)
    boxes = found.boxes.gather(1, index[..., None].expand(-1, -1, 4))
    sides = boxes[..., 2:] - boxes[..., :2]
    shift = (2 * torch.rand_like(sides) - 1) * SHIFT * sides
    half = sides / 2 * ((2 * torch.rand_like(sides[..., :1]) - 1) * SCALE).exp()
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2 + shift
    return torch.cat([middle - half, middle + half], 2), there


def compare(refiner: Refiner, pictures: Tensor, chosen: Candidates) -> tuple[Tensor, Tensor]:
    """The loss of the score, binary cross entropy, and that of the box, 1 - GIoU, for pictures (B, 3, H, W)."""
    where = squares(chosen.boxes)
    raw = refiner(sampled(pictures, where))
    overlap, used = chosen.overlap.flatten(), chosen.used.flatten()
    face = overlap >= SAME
    labelled = used & (face | (overlap < OTHER))
    score = F.binary_cross_entropy_with_logits(raw[:, 0], face.float(), reduction="none")
    near = used & (overlap >= OTHER)
    box = 1 - giou(decode(raw, where.flatten(0, 1)), chosen.target.flatten(0, 1))
    return (score * labelled).sum() / labelled.sum().clamp_min(1), (box * near).sum() / near.sum().clamp_min(1)
