"""The nonlinear memory of Re-Generator (section 3.2): several convolutions and the activations between them learn new
rules as one.

The loss (equation 11) keeps old rules with weight p and teaches new ones with weight q; a new pattern covers a small
part of a picture, so with p = q the old ones win. Ours beside it: what becomes of the values is looked at as well,
the new pattern where it belongs and all else as it was. A value that shows the pattern need not be the one that the
projector found. The paper's numbers are lost: all of these are ours, swept by benchmarks/rewriting.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.models import has_bfloat16
from kyara.models.inside import Cut
from kyara.rewriting.lessons import SEEN, Lesson

Difference = dict[str, Tensor]
"""What is added to weights, by their names."""
RISE = 20
"""Steps in which the learning rate rises from zero."""
RIM, RIM_WEIGHT = 2, 0.5
"""Pixels around a pattern that may blend with it, and what they weigh beside it."""


@dataclass(frozen=True)
class Settings:
    """How the memory learns."""

    p: float = 1.0
    """Weight of old rules."""
    q: float = 0.3
    """Weight of new rules."""
    shown: float = 5.0
    """Weight of the mean absolute difference of pixels in [-1, 1] where the new pattern is; 0 leaves it out."""
    unchanged: float = 20.0
    """The same everywhere else, averaged over the picture."""
    steps: int = 300
    """Steps of Adam."""
    lr: float = 0.03
    """Its learning rate, in standard deviations of the kernels; it falls to zero along a cosine."""


def learn(cut: Cut, lessons: Sequence[Lesson], settings: Settings | None = None) -> Difference:
    """What has to be added to the memory's kernels for the lessons to be learned; the network itself is left as it was.
    Every step takes one lesson, all in random orders. Deterministic."""
    settings = settings or Settings()
    weights = cut.weights(lessons[0].host)
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    scale = float(torch.stack([lesson.host.value.float().abs().mean() for lesson in lessons]).mean())
    groups = [{"params": [w], "deviation": float(w.detach().std())} for w in weights.values()]
    adam = torch.optim.Adam(groups, betas=(0.9, 0.99), fused=True)
    random, order = torch.Generator().manual_seed(0), list[int]()
    try:
        for weight in weights.values():
            weight.requires_grad_(True)
        for step in range(settings.steps):
            order = order or torch.randperm(len(lessons), generator=random).tolist()
            pace = 0.5 + 0.5 * math.cos(math.pi * step / settings.steps)
            for group in adam.param_groups:
                group["lr"] = settings.lr * group["deviation"] * pace * min(1.0, (step + 1) / RISE)
            loss = rewriting_loss(lessons[order.pop()], settings, scale)
            adam.zero_grad()
            loss.backward()
            adam.step()
        return {name: weight.detach() - before[name] for name, weight in weights.items()}
    finally:
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(before[name])
                weight.requires_grad_(False)
                weight.grad = None


def rewriting_loss(lesson: Lesson, settings: Settings, scale: float = 1.0) -> Tensor:
    """Equation 11: p times how far values are from old ones where these are kept, and q times how far from new ones
    where these are learned; mean absolute differences over all places, as shares of `scale`. And of what becomes of the
    values, likewise, what is shown and what is unchanged."""
    host = lesson.host
    with torch.enable_grad(), fast(host.picture):
        if not (settings.shown or settings.unchanged):
            picture, values = host.picture, host.remember()
        else:
            picture, values = host.redraw()
    off = (values.float() - lesson.goal.float()).abs().mean(1, keepdim=True) / scale
    loss = settings.p * (off * lesson.kept).mean() + settings.q * (off * lesson.new).mean()
    near = F.max_pool2d((lesson.alpha > SEEN).float(), 2 * RIM + 1, 1, RIM)
    if settings.shown:
        wrong = (picture - lesson.edited).abs().mean(1, keepdim=True)
        pattern = torch.maximum(lesson.alpha, RIM_WEIGHT * near)  # thin lines would grow fat without their rim
        pattern = pattern * lesson.new.flatten(1).any(1)[:, None, None, None]  # where it is to be learned at all
        loss = loss + settings.shown * (wrong * pattern).sum() / pattern.sum().clamp_min(1)
    if settings.unchanged:
        elsewhere = 1 - near
        changed = (picture - host.picture.float()).abs().mean(1, keepdim=True)
        loss = loss + settings.unchanged * (changed * elsewhere).mean()
    return loss


def fast(like: Tensor) -> torch.autocast:
    """Computes in bfloat16 where that is fast. Hosts are opened and lessons learned in the same numbers, so that a rule
    that is there already is learned without a step."""
    return torch.autocast(like.device.type, torch.bfloat16, enabled=has_bfloat16(like.device))
