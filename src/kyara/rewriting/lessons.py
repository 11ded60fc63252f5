"""Training batches from edited pictures: the target values of a memory for given keys, and where its values should not
change.

An edited picture is projected into the features of the layer (`models.projector`). The target is the difference between
the projections of the edited and of the original picture, so that an edit the network already follows changes nothing.
One example becomes many batches: variants of the same picture in other colours, and random pictures in which the masked
place is found by the keys there."""

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

MIN_ALPHA = 0.05  # pixels with less do not count as part of a pattern
TOLERANCE = 0.02  # pictures whose pixels in [-1, 1] differ by less on average count as equal
BORDER, BORDER_WEIGHT = 2, 0.5
"""Pixels around a pattern that may blend with it, and their weight in the loss: without it, thin lines become thick."""
DILATION = 1  # cells of the value around a pattern that are trained with it, so that it blends in
CONTEXT = 2  # cells of the value around a pattern that are part of the template it is found by
MAX_PARTS = 8  # of a pattern that are searched for one by one
MIN_SIMILARITY = 0.6  # a place counts as found if the cosine similarity of its keys to an example's is at least this


@dataclass
class TrainingBatch:
    """Cached pictures with target values."""

    cache: ActivationCache
    edited: Tensor  # target pictures (B, 3, H, W) in [-1, 1]; they differ from the cached ones only where `alpha` > 0
    alpha: Tensor  # coverage of the new pattern, (B, 1, H, W) in [0, 1]
    target: Tensor  # target values (B, C, h, w)
    inside: Tensor  # cells in which new values are learned, (B, 1, h, w) bool
    outside: Tensor  # cells whose values should not change, (B, 1, h, w) bool

    @functools.cached_property
    def pixel_weights(self) -> tuple[Tensor, Tensor]:
        """Weights of pixels inside (none where nothing is learned) and outside of the pattern, (B, 1, H, W) each."""
        near = with_border(self.alpha)
        learned = self.inside.flatten(1).any(1)[:, None, None, None]
        return torch.maximum(self.alpha, BORDER_WEIGHT * near) * learned, 1 - near


@torch.no_grad()
def batch_from_overlays(
    cache: ActivationCache, overlays: Tensor, projector: Projector, *, found: Tensor | None = None
) -> TrainingBatch:
    """Targets that show overlays (B, 4, H, W), colours in [-1, 1] and alpha in [0, 1], over the cached pictures. Where
    `found` (B,) bool is False, the place is neither inside nor outside."""
    original, alpha = cache.pictures.float(), overlays[:, 3:]
    edited = original.lerp(overlays[:, :3], alpha)
    where = _dilate(F.adaptive_max_pool2d((alpha > MIN_ALPHA).float(), cache.value.shape[2:]))
    inside = where if found is None else where & found[:, None, None, None]
    target, learned = cache.value.clone(), inside.flatten(1).any(1)
    if learned.any():
        before, after = original[learned], edited[learned]
        change = projector.project(after, before) - projector.project(before, before)
        target[learned] += (inside[learned] * change).to(target.dtype)
    return TrainingBatch(cache, edited, alpha, target, inside, ~where)


@torch.no_grad()
def batch_from_values(cache: ActivationCache, masks: Tensor, values: Tensor) -> TrainingBatch:
    """Targets with other values (B, C, h, w) under masks (B, 1, H, W), whatever the result looks like."""
    where = _dilate(F.adaptive_max_pool2d((masks > 0.5).float(), values.shape[2:]))
    target = torch.where(where, values, cache.value)
    return TrainingBatch(cache, cache.decode(target).float(), masks, target, where, ~where)


def already_shown(cache: ActivationCache, overlay: Tensor) -> bool:
    """Whether the first cached picture already shows the overlay (4, H, W)."""
    alpha = overlay[3:]
    error = ((overlay[:3] - cache.pictures[0].float()).abs() * alpha).sum() / (3 * alpha.sum()).clamp_min(1e-6)
    return bool(error < TOLERANCE)


def with_border(alpha: Tensor) -> Tensor:
    """1 on a pattern and its border, 0 elsewhere: (B, 1, H, W)."""
    return F.max_pool2d((alpha > MIN_ALPHA).float(), 2 * BORDER + 1, 1, BORDER)


def _dilate(where: Tensor) -> Tensor:
    return F.max_pool2d(where, 2 * DILATION + 1, 1, DILATION) > 0


def connected_parts(overlay: Tensor) -> list[Tensor]:
    """An overlay (4, H, W) as one for each connected part, the largest first: two eyes are found one by one. With more
    than `MAX_PARTS`, such as freckles, pixels further and further apart count as connected."""
    visible, gap = (overlay[3] > MIN_ALPHA).cpu(), 1
    while len(numbers := (found := _components(visible, gap))[visible].unique()) > MAX_PARTS:
        gap *= 2
    parts = [torch.cat([overlay[:3], overlay[3:] * (found == number).to(overlay.device)]) for number in numbers]
    return sorted(parts, key=lambda part: -float(part[3].sum()))


def _components(where: Tensor, gap: int) -> Tensor:
    """The largest number of a pixel in the connected component of each, for the pixels `where` (H, W) bool, numbered
    from 1; 0 elsewhere. Pixels up to `gap` apart are connected."""
    numbers = torch.arange(1, where.numel() + 1, device="cpu", dtype=torch.double).view_as(where) * where
    while True:
        grown = F.max_pool2d(numbers[None], 2 * gap + 1, 1, gap)[0]
        grown = grown.flatten()[grown.long() - 1] * where  # what the pixel of that number has found: far fewer rounds
        if torch.equal(grown, numbers):
            return numbers
        numbers = grown


class Template(NamedTuple):
    """One part of a pattern, and the keys to search for it."""

    overlay: Tensor  # (4, H, W)
    corner: tuple[int, int]  # left and top cell of its keys
    keys: Tensor  # (1, C, h, w), normalised to length 1


class PlaceFinder:
    """Finds the masked place of examples in other pictures, by the cosine similarity of keys."""

    def __init__(self, examples: Sequence[tuple[ActivationCache, Tensor]], others: Sequence[ActivationCache]) -> None:
        """Overlays (4, H, W) belong to the first picture of a cache. Keys are scaled by their std over `others`."""
        self.size = examples[0][0].value.shape[2:]
        keys = torch.cat([cache.key for cache in others]).float()
        self.std = keys.std((0, 2, 3), keepdim=True).clamp_min(1e-4)
        self.examples = [self._templates(cache, overlay) for cache, overlay in examples]

    def __call__(self, cache: ActivationCache) -> tuple[Tensor, Tensor]:
        """The most similar example's overlay, moved to the place in each picture, (B, 4, H, W); similarity (B,)."""
        maps = self._maps(cache.key)
        overlays, best = self._find(maps, self.examples[0])
        for templates in self.examples[1:]:
            other, similarity = self._find(maps, templates)
            overlays = torch.where((similarity > best)[:, None, None, None], other, overlays)
            best = torch.maximum(similarity, best)
        return overlays, best

    def _templates(self, cache: ActivationCache, overlay: Tensor) -> list[Template]:
        """The parts of an overlay with the keys there and in the context around."""
        maps, templates = self._maps(cache.key[:1]), []
        for part in connected_parts(overlay):
            visible = F.adaptive_max_pool2d((part[3:] > MIN_ALPHA).float()[None], self.size)[0, 0] > 0
            rows, columns = (visible.any(axis).nonzero()[:, 0].tolist() for axis in (1, 0))
            top, left = max(rows[0] - CONTEXT, 0), max(columns[0] - CONTEXT, 0)
            keys = maps[:, :, top : rows[-1] + 1 + CONTEXT, left : columns[-1] + 1 + CONTEXT]
            templates.append(Template(part, (left, top), F.normalize(keys.flatten(1)).view_as(keys)))
        return templates

    def _find(self, maps: Tensor, templates: Sequence[Template]) -> tuple[Tensor, Tensor]:
        """All parts of one example: the combined overlay, and the similarity of the least similar part."""
        overlays = []
        similarity = torch.ones(len(maps), device=maps.device)
        for part, corner, keys in templates:
            best, position = _peak(self._similarities(maps, keys))
            shift = position - position.new_tensor(corner)  # in cells, x first
            cell = shift.new_tensor([part.shape[2] / self.size[1], part.shape[1] / self.size[0]])
            overlays.append(_shifted(part, shift * cell))
            similarity = torch.minimum(similarity, best)
        return functools.reduce(_composite, overlays), similarity

    def _maps(self, keys: Tensor) -> Tensor:
        """Keys minus their mean over the picture, which holds its colours, at the size of values: (B, C, h, w)."""
        x = keys.float() / self.std
        return F.interpolate(x - x.mean((2, 3), keepdim=True), self.size, mode="bilinear")

    def _similarities(self, maps: Tensor, template: Tensor) -> Tensor:
        """Cosine similarities (B, 1, h', w') of a template of length 1 with every window of maps. A template is large,
        so the correlation is a product of Fourier transforms; windows that would wrap around are cut off."""
        size, (height, width) = maps.shape[2:], template.shape[2:]
        product = torch.fft.rfft2(maps) * torch.fft.rfft2(template, size).conj()
        dot = torch.fft.irfft2(product.sum(1, keepdim=True), size)
        dot = dot[:, :, : size[0] - height + 1, : size[1] - width + 1]
        length = F.avg_pool2d(maps.square().sum(1, keepdim=True), template.shape[2:], 1) * template[0, 0].numel()
        return dot / length.clamp_min(1e-6).sqrt()


def _peak(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The maximum of each map (B, 1, h, w), and its position, x first, interpolated by a parabola: (B,), (B, 2)."""
    (best, at), width = scores.flatten(1).max(1), scores.shape[3]
    padded = F.pad(scores, (1, 1, 1, 1), mode="replicate")[:, 0]
    y, x, rows = at // width, at % width, torch.arange(len(at), device=at.device)

    def offset(before: Tensor, after: Tensor) -> Tensor:
        curvature = (2 * best - before - after).clamp_min(1e-6)
        return ((after - before) / (2 * curvature)).clamp(-0.5, 0.5)

    dx = offset(padded[rows, y + 1, x], padded[rows, y + 1, x + 2])
    dy = offset(padded[rows, y, x + 1], padded[rows, y + 2, x + 1])
    return best, torch.stack([x + dx, y + dy], 1)


def _shifted(overlay: Tensor, shift: Tensor) -> Tensor:
    """An overlay (4, H, W) shifted by (B, 2) pixels, x first: (B, 4, H, W)."""
    height, width = overlay.shape[1:]
    theta = torch.eye(2, 3, device=overlay.device).repeat(len(shift), 1, 1)
    theta[:, :, 2] = -2 * shift / shift.new_tensor([width, height])
    grid = F.affine_grid(theta, [len(shift), 4, height, width], align_corners=False)
    alpha = F.grid_sample(overlay[3:].expand(len(shift), -1, -1, -1), grid, align_corners=False)
    colours = overlay[:3].expand(len(shift), -1, -1, -1)
    return torch.cat([F.grid_sample(colours, grid, padding_mode="border", align_corners=False), alpha], 1)


def _composite(below: Tensor, above: Tensor) -> Tensor:
    """Two overlays as one, (B, 4, H, W)."""
    alpha = above[:, 3:] + below[:, 3:] * (1 - above[:, 3:])
    colours = (above[:, :3] * above[:, 3:] + below[:, :3] * below[:, 3:] * (1 - above[:, 3:])) / alpha.clamp_min(1e-6)
    return torch.cat([colours, alpha], 1)
