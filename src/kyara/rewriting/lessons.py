"""From pictures as they shall be to what a memory has to learn: for which keys which values, and where none may change.

What a picture shall show is projected into the layer's features (`models.projector`). Only the difference counts
between what the projector sees in the picture as it shall be and as it is, so that a rule that is there already asks
for nothing. One example becomes many lessons: the same host in other colours, and other pictures, in which the place is
found that looks to the memory like the one that was masked.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.models.projector import Model as Projector
from kyara.nn.activations import ActivationCache

SEEN = 0.05
"""Less of a pattern than this is none."""
SAME = 0.02
"""Pixels in [-1, 1] that differ by less on average are the same, but for rounding."""
RIM, RIM_WEIGHT = 2, 0.5
"""Pixels around a pattern that may blend with it, and what they weigh beside it: thin lines would grow fat without."""
AROUND = 1
"""Places around a pattern that may change with it, so that it blends in."""
SURROUNDINGS = 2
"""Places around a pattern by which it is found in other pictures."""
SURE = 0.6
"""A place is found where the cosine of its keys with an example's is at least this."""


@dataclass
class Lesson:
    """Pictures, what their values shall be, and where."""

    host: ActivationCache
    edited: Tensor
    """As they shall be, (B, 3, H, W) in [-1, 1]; all of it differs from the host's only where `alpha` is not 0."""
    alpha: Tensor
    """How much of the new pattern there is, (B, 1, H, W) in [0, 1]."""
    goal: Tensor
    """Values (B, C, h, w)."""
    new: Tensor
    """Where they are to be learned, (B, 1, h, w) bool."""
    kept: Tensor
    """Where values shall stay as they are, (B, 1, h, w) bool."""

    @functools.cached_property
    def looked_at(self) -> tuple[Tensor, Tensor]:
        """What pixels weigh when it is looked at whether the pattern is shown, and whether all else is as it was:
        (B, 1, H, W) each. Where nothing is to be learned no pattern is missed."""
        near = rimmed(self.alpha)
        learned = self.new.flatten(1).any(1)[:, None, None, None]
        return torch.maximum(self.alpha, RIM_WEIGHT * near) * learned, 1 - near


@torch.no_grad()
def teach(host: ActivationCache, overlays: Tensor, projector: Projector, *, sure: Tensor | None = None) -> Lesson:
    """What it takes to see overlays (B, 4, H, W), colours in [-1, 1] and how much of them in [0, 1], over the host's
    pictures. Where it is not `sure` (B,), nothing is learned, and nothing kept either."""
    own, alpha = host.picture.float(), overlays[:, 3:]
    edited = own.lerp(overlays[:, :3], alpha)
    change = projector.project(edited, own) - projector.project(own, own)
    where = _near(F.adaptive_max_pool2d((alpha > SEEN).float(), change.shape[2:]))
    new = where if sure is None else where & sure[:, None, None, None]
    return Lesson(host, edited, alpha, host.value + new * change, new, ~where)


def is_there(host: ActivationCache, overlay: Tensor) -> bool:
    """Whether the first of the host's pictures looks already as it would under an overlay (4, H, W)."""
    alpha = overlay[3:]
    off = ((overlay[:3] - host.picture[0].float()).abs() * alpha).sum() / (3 * alpha.sum()).clamp_min(1e-6)
    return bool(off < SAME)


@torch.no_grad()
def forget(host: ActivationCache, masks: Tensor, goal: Tensor) -> Lesson:
    """Values `goal` (B, C, h, w) where masks (B, 1, H, W) say, whatever that looks like."""
    where = _near(F.adaptive_max_pool2d((masks > 0.5).float(), goal.shape[2:]))
    edited = host.decode(torch.where(where, goal, host.value)).float()
    return Lesson(host, edited, masks, torch.where(where, goal, host.value), where, ~where)


def rimmed(alpha: Tensor) -> Tensor:
    """1 where there is a pattern and at its rim, 0 elsewhere. (B, 1, H, W)."""
    return F.max_pool2d((alpha > SEEN).float(), 2 * RIM + 1, 1, RIM)


def _near(where: Tensor) -> Tensor:
    return F.max_pool2d(where, 2 * AROUND + 1, 1, AROUND) > 0


def parts(overlay: Tensor) -> list[Tensor]:
    """An overlay (4, H, W) as one for each connected part, the largest 8: two eyes are found one by one."""
    left, found = overlay[3] > SEEN, list[Tensor]()
    while left.any() and len(found) < 8:
        part = torch.zeros_like(left)
        part.view(-1)[left.flatten().nonzero()[0]] = True
        for _ in range(sum(left.shape)):
            grown = (F.max_pool2d(part[None, None].float(), 3, 1, 1)[0, 0] > 0) & left
            if torch.equal(grown, part):
                break
            part = grown
        found.append(torch.cat([overlay[:3], overlay[3:] * part]))
        left = left & ~part
    return sorted(found, key=lambda one: -float(one[3].sum()))


class Template(NamedTuple):
    """What a part of a pattern is found by."""

    overlay: Tensor
    """(4, H, W)."""
    corner: tuple[int, int]
    """Of its keys, in places, x first."""
    keys: Tensor
    """(1, C, h, w), of length 1."""


class Search:
    """Finds in other pictures the place that the masks of examples mean, by what the memory's keys are like there."""

    def __init__(self, examples: Sequence[tuple[ActivationCache, Tensor]], others: Sequence[ActivationCache]) -> None:
        """The first picture of each example counts, and its overlay (4, H, W)."""
        self.size = examples[0][0].value.shape[2:]
        keys = torch.cat([host.key for host in others]).float()
        self.deviation = keys.std((0, 2, 3), keepdim=True).clamp_min(1e-4)
        self.examples = [self._templates(host, overlay) for host, overlay in examples]

    def __call__(self, host: ActivationCache) -> tuple[Tensor, Tensor]:
        """The overlay of the example that fits best, moved to where the place is in each picture, (B, 4, H, W), and how
        much alike it is, (B,)."""
        maps = self._maps(host.key)
        laid, best = self._laid(maps, self.examples[0])
        for templates in self.examples[1:]:
            other, alike = self._laid(maps, templates)
            better = alike > best
            laid, best = torch.where(better[:, None, None, None], other, laid), torch.maximum(alike, best)
        return laid, best

    def _templates(self, host: ActivationCache, overlay: Tensor) -> list[Template]:
        maps, found = self._maps(host.key[:1]), []
        for part in parts(overlay):
            top, bottom, left, right = self._box(part)
            keys = maps[:, :, top:bottom, left:right]
            found.append(Template(part, (left, top), F.normalize(keys.flatten(1)).view_as(keys)))
        return found

    def _laid(self, maps: Tensor, templates: Sequence[Template]) -> tuple[Tensor, Tensor]:
        total: Tensor | None = None
        alike = torch.ones(len(maps), device=maps.device)
        for part, corner, keys in templates:
            best, shift = _peak(self._scores(maps, keys))
            shift = shift - shift.new_tensor(corner)  # in places, x first
            moved = _moved(part, shift * shift.new_tensor([part.shape[2] / self.size[1], part.shape[1] / self.size[0]]))
            total = moved if total is None else _over(total, moved)
            alike = torch.minimum(alike, best)
        assert total is not None
        return total, alike

    def _maps(self, keys: Tensor) -> Tensor:
        """Keys without their mean over the picture, which is its colours, at the size of values: (B, C, h, w)."""
        x = keys.float() / self.deviation
        return F.interpolate(x - x.mean((2, 3), keepdim=True), self.size, mode="bilinear")

    def _box(self, part: Tensor) -> tuple[int, int, int, int]:
        """Top, bottom, left, right in places of a value, surroundings included."""
        seen = F.adaptive_max_pool2d((part[3:] > SEEN).float()[None], self.size)[0, 0] > 0
        rows, columns = (seen.any(axis).nonzero()[:, 0] for axis in (1, 0))
        top, bottom = int(rows[0]) - SURROUNDINGS, int(rows[-1]) + 1 + SURROUNDINGS
        left, right = int(columns[0]) - SURROUNDINGS, int(columns[-1]) + 1 + SURROUNDINGS
        return max(top, 0), min(bottom, self.size[0]), max(left, 0), min(right, self.size[1])

    def _scores(self, maps: Tensor, template: Tensor) -> Tensor:
        """How much alike the template, of length 1, and each window of maps are: cosines (B, 1, h', w')."""
        alike = F.conv2d(maps, template)
        area = template.shape[2] * template.shape[3]
        length = F.avg_pool2d(maps.square().sum(1, keepdim=True), template.shape[2:], 1) * area
        return alike / length.clamp_min(1e-6).sqrt()


def _peak(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The highest score of each map (B, 1, h, w), and where it is, x first, between places by a parabola: (B,),
    (B, 2)."""
    flat = scores.flatten(1)
    best, at = flat.max(1)
    width = scores.shape[3]
    padded = F.pad(scores, (1, 1, 1, 1), mode="replicate")[:, 0]
    y, x, rows = at // width, at % width, torch.arange(len(at), device=at.device)

    def offset(before: Tensor, after: Tensor) -> Tensor:
        bend = (2 * best - before - after).clamp_min(1e-6)
        return ((after - before) / (2 * bend)).clamp(-0.5, 0.5)

    dx = offset(padded[rows, y + 1, x], padded[rows, y + 1, x + 2])
    dy = offset(padded[rows, y, x + 1], padded[rows, y + 2, x + 1])
    return best, torch.stack([x + dx, y + dy], 1)


def _moved(overlay: Tensor, shift: Tensor) -> Tensor:
    """An overlay (4, H, W) moved by shifts (B, 2) in pixels, x first: (B, 4, H, W)."""
    height, width = overlay.shape[1:]
    theta = torch.eye(2, 3, device=overlay.device).repeat(len(shift), 1, 1)
    theta[:, :, 2] = -2 * shift / shift.new_tensor([width, height])
    grid = F.affine_grid(theta, [len(shift), 4, height, width], align_corners=False)
    alpha = F.grid_sample(overlay[3:].expand(len(shift), -1, -1, -1), grid, align_corners=False)
    colours = overlay[:3].expand(len(shift), -1, -1, -1)
    return torch.cat([F.grid_sample(colours, grid, padding_mode="border", align_corners=False), alpha], 1)


def _over(below: Tensor, above: Tensor) -> Tensor:
    """Two overlays as one, (B, 4, H, W)."""
    alpha = above[:, 3:] + below[:, 3:] * (1 - above[:, 3:])
    colours = (above[:, :3] * above[:, 3:] + below[:, :3] * below[:, 3:] * (1 - above[:, 3:])) / alpha.clamp_min(1e-6)
    return torch.cat([colours, alpha], 1)
