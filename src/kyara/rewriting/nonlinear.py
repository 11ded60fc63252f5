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
from torch import Tensor, nn

from kyara.nn.activations import Cut
from kyara.rewriting.lessons import Lesson
from kyara.training.runtime import has_bfloat16

Difference = dict[str, Tensor]
"""What is added to weights, by their names."""
RISE = 20
"""Steps in which the learning rate rises from zero."""
MOMENTUM = 0.9
MUON_RMS = 0.2
"""What an entry of Muon's steps is on average at a learning rate of 1."""


@dataclass(frozen=True)
class Settings:
    """How the memory learns."""

    p: float = 1.0
    """Weight of old rules."""
    q: float = 0.3
    """Weight of new rules."""
    shown: float = 7.5
    """Weight of the mean absolute difference of pixels in [-1, 1] where the new pattern is; 0 leaves it out."""
    unchanged: float = 20.0
    """The same everywhere else, averaged over the picture."""
    steps: int = 600
    """Steps of Muon (Jordan et al. 2024): all directions of a kernel move alike, also those that few pictures ask
    for."""
    lr: float = 0.007
    """How far a step goes, in standard deviations of the kernels; it falls to zero along a cosine. Half as many steps
    of twice the length teach as much, and change more elsewhere."""


def learn(cut: Cut, lessons: Sequence[Lesson], settings: Settings | None = None) -> Difference:
    """What has to be added to the memory's kernels for the lessons to be learned; the network itself is left as it was.
    Every step takes one lesson, all in random orders. Deterministic."""
    settings = settings or Settings()
    weights = cut.weights(lessons[0].host)
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    scale = float(torch.stack([lesson.host.value.float().abs().mean() for lesson in lessons]).mean())
    matrices = [nn.Parameter(weight.detach().flatten(1).clone()) for weight in weights.values()]
    groups = [{"params": [m], "deviation": float(m.detach().std())} for m in matrices]
    muon = torch.optim.Muon(groups, weight_decay=0.0, momentum=MOMENTUM, adjust_lr_fn="match_rms_adamw")
    random, order = torch.Generator().manual_seed(0), list[int]()
    try:
        for weight in weights.values():
            weight.requires_grad_(True)
        for step in range(settings.steps):
            order = order or torch.randperm(len(lessons), generator=random).tolist()
            pace = 0.5 + 0.5 * math.cos(math.pi * step / settings.steps)
            for group in muon.param_groups:
                group["lr"] = settings.lr / MUON_RMS * group["deviation"] * pace * min(1.0, (step + 1) / RISE)
            loss = rewriting_loss(lessons[order.pop()], settings, scale)
            grads = torch.autograd.grad(loss, [*weights.values()])
            for matrix, grad in zip(matrices, grads, strict=True):
                matrix.grad = grad.flatten(1)
            muon.step()
            with torch.no_grad():
                for weight, matrix in zip(weights.values(), matrices, strict=True):
                    weight.copy_(matrix.view_as(weight))
        return {name: weight.detach() - before[name] for name, weight in weights.items()}
    finally:
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(before[name])
                weight.requires_grad_(False)


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
    off = (values - lesson.goal.to(values.dtype)).abs().mean(1, keepdim=True, dtype=torch.float32) / scale
    loss = (off * (settings.p * lesson.kept + settings.q * lesson.new)).mean()
    pattern, elsewhere = lesson.looked_at
    if settings.shown:
        wrong = (picture - lesson.edited).abs().mean(1, keepdim=True)
        loss = loss + settings.shown * (wrong * pattern).sum() / pattern.sum().clamp_min(1)
    if settings.unchanged:
        changed = (picture - host.picture.float()).abs().mean(1, keepdim=True)
        loss = loss + settings.unchanged * (changed * elsewhere).mean()
    return loss


def fast(like: Tensor) -> torch.autocast:
    """Computes in bfloat16 where that is fast. Hosts are opened and lessons learned in the same numbers, so that a rule
    that is there already is learned without a step. Weights in bfloat16 are not kept: they change while it lasts."""
    return torch.autocast(like.device.type, torch.bfloat16, enabled=has_bfloat16(like.device), cache_enabled=False)
