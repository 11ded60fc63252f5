"""Eyes as they are drawn: a lid with lashes, an iris with its pupil and a light in it, where a photo's eyes are.

All on batches, (B, 3, H, W) in [-1, 1]. What has to be known of an eye is given at every pixel near it (`fields`), so
that a network can learn to say it without looking for faces: it is smooth, and lines stay sharp that are drawn by it.
Lengths are in halves of an eye's width or height."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.perception.landmarks import LEFT, RIGHT
from kyara.perception.portrait import middles

FIELDS = 10
"""Numbers at a pixel: how surely there is an eye (a logit), where the pixel is beside its middle, along it and across,
half its width and half its height (each in UNIT pixels), on which side its outer corner is, where its iris is, and the
iris's colour."""
UNIT = 16
AROUND, ABOVE = (1.25, 1.9), 0.3
"""How far an eye with all that is drawn reaches from its middle, across and down, and by how much more upwards."""
NARROW = 0.35
"""An eye reaches as far as if it were at least so high, as a share of its width."""
SURE = 4.0
"""The logit where there is an eye."""
INK = (0.13, 0.09, 0.1)
"""Of lashes, in [0, 1]."""
WHITE, LIGHT = 0.85, 0.95
"""How much the white of an eye covers what is below, and how light it is."""
BELOW = 0.9
"""The lower lid's bow, beside the upper one's."""
LASH, LASH_OUTSIDE, LASH_BELOW = 0.16, 0.16, 0.05
"""Thickness of the upper lashes, what is added towards the outer corner, and of the lower ones."""
CREASE, CREASE_SEEN = 0.42, 0.45
"""How far above the lid its crease is, and how dark."""
IRIS = (0.56, 1.06)
"""Half the width of an iris, in halves of the eye's width, and half its height, in halves of its height."""
ROUND = 1.25
"""An iris is higher than wide by this at most, and no wider than high."""
PUPIL, RING = 0.46, 0.16
"""A pupil's share of the iris, and the dark rim's."""
LIGHTS = ((-0.34, -0.42, 0.3), (0.32, 0.42, 0.16))
"""Lights in the iris: where, and how large, as shares of it."""
DARKEST, LIGHTEST = 0.16, 0.42
"""Between these the luminance of an iris is brought."""
VIVID = 2.0
"""How much more colourful an iris is drawn."""
GAZE = 0.4
"""How far an iris may lie from the middle."""
SHADOW = 0.3
"""How much darker the eye is below its upper lid."""


class Eye(NamedTuple):
    """An eye near every pixel, everything (B, H, W); or the same eye for all pixels, (B, 1, 1)."""

    x: Tensor
    """Where the pixel is beside it: -1 and 1 at its corners."""
    y: Tensor
    """-1 at the top and 1 at the bottom."""
    wide: Tensor
    """Half its width, in pixels."""
    high: Tensor
    """Half its height, in pixels."""
    outer: Tensor
    """x of the outer corner, -1 or 1."""


def fields(photos: Tensor, points: Tensor) -> Tensor:
    """Of photos and their points (B, K, 2), shares of the sides, as in `landmarks.NAMES`: (B, FIELDS, H, W)."""
    seen, found, near = (photos.float() + 1) / 2, [], []
    height, width = photos.shape[2:]
    for part, outer in ((LEFT, -1.0), (RIGHT, 1.0)):
        eye = _beside(points[:, part], height, width, outer)
        inside, _ = _opening(eye)
        colour, at = _iris(seen, inside, eye)
        reach = torch.maximum(eye.high, NARROW * eye.wide)
        far = (eye.x / AROUND[0]).square() + ((eye.y * eye.high / reach + ABOVE) / AROUND[1]).square()
        maps = [eye.x * eye.wide / UNIT, eye.y * eye.high / UNIT, eye.wide / UNIT, eye.high / UNIT, eye.outer, at]
        maps = [one.expand_as(far) for one in maps] + [one.expand_as(far) for one in colour.unbind(1)]
        found.append(torch.stack(maps, 1))
        near.append(far)
    left = (near[0] < near[1])[:, None]
    there = torch.where(torch.minimum(near[0], near[1]) < 1, SURE, -SURE)
    return torch.cat([there[:, None], torch.where(left, found[0], found[1])], 1)


def fields_loss(found: Tensor, given: Tensor) -> Tensor:
    """How far fields are from the given ones, (B, FIELDS, H, W) each: cross entropy of where eyes are, and there the
    mean absolute difference of all else."""
    there = (given[:, :1] > 0).float()
    surprise = F.binary_cross_entropy_with_logits(found[:, :1], there)
    off = (found[:, 1:] - given[:, 1:]).abs().sum(1, keepdim=True)
    return surprise + (off * there).sum() / there.sum().clamp_min(1)


def draw_eyes(pictures: Tensor, found: Tensor) -> Tensor:
    """Pictures with eyes drawn where fields (B, FIELDS, H, W) say, open as far as those are, looking the same way, in
    the same colour. What is under them is still seen in their whites."""
    seen = (found[:, 0].float() / SURE + 0.5).clamp(0, 1)  # nothing at all where the network is half as sure of none
    part = _where(seen)
    if part is None:
        return pictures
    _, x, y, wide, high, outer, at, *colour = found[part].float().unbind(1)
    wide, high = (UNIT * wide).clamp_min(1.0), (UNIT * high).clamp_min(0.5)
    eye = Eye(UNIT * x / wide, UNIT * y / high, wide, high, outer.clamp(-1, 1))
    before = (pictures[part].float() + 1) / 2
    iris = torch.stack(colour, 1)
    grey = iris.mean(1, keepdim=True)
    drawn = _draw(before, (grey + VIVID * (iris - grey)).clamp(0, 1), at, eye)
    whole = pictures.float().clone()
    whole[part] = _over(before, drawn, seen[part[0], part[2], part[3]]) * 2 - 1
    return whole


def _where(seen: Tensor) -> tuple[slice, slice, slice, slice] | None:
    """The box, of maps (B, C, H, W), in which anything is seen, (B, H, W); None if nothing is. Elsewhere than on a CPU
    everything: to look would make it wait."""
    everything = slice(None)
    if seen.device.type != "cpu":
        return everything, everything, everything, everything
    there = (seen > 0).any(0)
    if not bool(there.any()):
        return None
    (top, bottom), (left, right) = (there.any(axis).nonzero()[[0, -1], 0].tolist() for axis in (1, 0))
    return everything, everything, slice(top, bottom + 1), slice(left, right + 1)


def _beside(points: Tensor, height: int, width: int, outer: float) -> Eye:
    """Of an eye's four points (B, 4, 2): left, top, right, bottom."""
    size = points.new_tensor([width, height])
    left, top, right, bottom = (points * size).unbind(1)  # (B, 2) each, in pixels
    along = (right - left) / 2
    wide = along.norm(dim=1).clamp_min(1.0)
    across = along / wide[:, None]
    down = torch.stack([-across[:, 1], across[:, 0]], 1)
    high = (((bottom - top) * down).sum(1) / 2).clamp_min(0.5)
    middle = (left + right + top + bottom) / 4
    off = middles(height, width, points.device) * size - middle[:, None, None]  # (B, H, W, 2)
    x, y = ((off * axis[:, None, None]).sum(3) for axis in (across, down))
    wide, high = wide[:, None, None], high[:, None, None]
    return Eye(x / wide, y / high, wide, high, torch.full_like(wide, outer))


def _opening(eye: Eye) -> tuple[Tensor, Tensor]:
    """How much of a pixel is between the lids, and how far from the middle these are there, (B, H, W) each: both are
    parabolas, the lower one flatter."""
    arc = (1 - eye.x.square()).clamp_min(0)
    between = _soft((eye.y + arc) * eye.high) * _soft((BELOW * arc - eye.y) * eye.high)
    return between * _soft((1 - eye.x.abs()) * eye.wide), arc


def _draw(drawn: Tensor, colour: Tensor, at: Tensor, eye: Eye) -> Tensor:
    """One eye over pictures (B, 3, H, W) in [0, 1]."""
    inside, arc = _opening(eye)
    shade = 1 - SHADOW * _soft((-0.45 - eye.y + 0.55 * (1 - arc)) * eye.high)
    drawn = _over(drawn, (drawn * (1 - WHITE) + WHITE * LIGHT) * shade[:, None], inside)
    drawn = _coloured(drawn, colour, at, inside, eye)
    return _lids(drawn, arc, eye)


def _iris(seen: Tensor, inside: Tensor, eye: Eye) -> tuple[Tensor, Tensor]:
    """Its colour (B, 3, 1, 1), and where its middle is, x (B, 1, 1): where a photo (B, 3, H, W) in [0, 1] is dark."""
    light = seen.amax(1)
    dark = inside * (1 - light).clamp_min(0).square() * (1 - eye.x.square()).clamp_min(0)
    total = dark.sum((1, 2), keepdim=True).clamp_min(1e-4)
    at = ((dark * eye.x).sum((1, 2), keepdim=True) / total).clamp(-GAZE, GAZE)
    colour = (seen * dark[:, None]).sum((2, 3), keepdim=True) / total[:, None]
    tone = colour.mean(1, keepdim=True).clamp_min(0.02)
    return (colour * (tone.clamp(DARKEST, LIGHTEST) / tone)).clamp(0, 1), at


def _coloured(drawn: Tensor, colour: Tensor, at: Tensor, inside: Tensor, eye: Eye) -> Tensor:
    """The iris: dark above and light below, with a rim, a pupil, and lights."""
    wide, high = IRIS[0] * eye.wide, IRIS[1] * eye.high
    high = torch.minimum(high, ROUND * wide)
    wide = torch.minimum(wide, high)
    x, y = (eye.x - at) * eye.wide / wide, eye.y * eye.high / high
    far = (x.square() + y.square()).sqrt()
    iris = _soft((1 - far) * wide) * inside
    tone = 0.55 + 0.45 * (y + 1).clamp(0, 2)
    drawn = _over(drawn, colour * tone[:, None], iris)
    dark = colour * 0.3
    drawn = _over(drawn, dark.expand_as(drawn), iris * _soft((far - 1 + RING) * wide))
    drawn = _over(drawn, dark.expand_as(drawn), iris * _soft((PUPIL - far) * wide))
    for right, down, size in LIGHTS:
        near = ((x - right).square() + (y - down).square()).sqrt()
        drawn = _over(drawn, torch.ones_like(drawn), inside * _soft((size - near) * wide))
    return drawn


def _lids(drawn: Tensor, arc: Tensor, eye: Eye) -> Tensor:
    """Lashes above and below, and the crease of the lid."""
    ink = drawn.new_tensor(INK)[:, None, None].expand_as(drawn)
    outside = ((eye.x * eye.outer + 1) / 2).clamp(0, 1)
    along = _soft((1.08 - eye.x.abs()) * eye.wide)
    thick = LASH + LASH_OUTSIDE * outside
    above = _soft((thick - (eye.y + arc).abs()) * eye.high) * along
    below = _soft((LASH_BELOW - (eye.y - BELOW * arc).abs()) * eye.high) * along * outside
    crease = _soft((LASH_BELOW - (eye.y + 0.9 * arc + CREASE).abs()) * eye.high) * along * arc * CREASE_SEEN
    for seen in (crease, below, above):
        drawn = _over(drawn, ink, seen)
    return drawn


def _soft(pixels: Tensor) -> Tensor:
    """1 inside and 0 outside, of how far inside something is in pixels."""
    return (pixels + 0.5).clamp(0, 1)


def _over(below: Tensor, above: Tensor, seen: Tensor) -> Tensor:
    return torch.lerp(below, above, seen[:, None])
