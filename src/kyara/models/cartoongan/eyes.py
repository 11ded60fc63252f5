"""Rendering of drawn eyes: lids with lashes, iris, pupil and highlights.

For batches (B, 3, H, W) in [-1, 1]. The parameters of an eye are dense fields around it (`fields`), so that a fully
convolutional network can predict them. Lengths are in units of half the width or height of an eye."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.nn.constants import constant
from kyara.perception.landmarks import LEFT, RIGHT
from kyara.perception.portrait import middles

FIELDS = 10
"""Channels: logit of an eye, position relative to its centre along both axes, half width and half height (in UNIT
pixels), side of the outer corner, position of the iris, and colour of the iris (3)."""
UNIT = 16
AROUND, ABOVE = (1.25, 1.9), 0.3  # extent of the drawn region (horizontal, vertical), and its upward shift
NARROW = 0.35  # minimum height for the extent, as a fraction of the width
SURE = 4.0  # target logit of an eye
INK = (0.13, 0.09, 0.1)  # colour of lashes, in [0, 1]
WHITE, LIGHT = 0.85, 0.95  # opacity and brightness of the white of an eye
BELOW = 0.9  # curvature of the lower lid relative to the upper one
LASH, LASH_OUTSIDE, LASH_BELOW = 0.16, 0.16, 0.05  # thickness of upper lashes, outward increase, lower lashes
CREASE, CREASE_SEEN = 0.42, 0.45  # height of the crease above the lid, and its opacity
IRIS = (0.56, 1.06)  # half width and height of an iris, relative to the eye's
ROUND = 1.25  # maximum aspect ratio height / width of an iris; the minimum is 1
PUPIL, RING = 0.46, 0.16  # radius of the pupil and width of the dark ring, relative to the iris
LIGHTS = ((-0.34, -0.42, 0.3), (0.32, 0.42, 0.16))  # highlights: x, y and radius, relative to the iris
DARKEST, LIGHTEST = 0.16, 0.42  # range of the brightness of an iris
VIVID = 2.0  # factor on the saturation of an iris
GAZE = 0.4  # maximum shift of an iris from the centre
SHADOW = 0.3  # shadow below the upper lid


class Eye(NamedTuple):
    """Parameters of the nearest eye for every pixel, (B, H, W), or of one eye for all pixels, (B, 1, 1)."""

    x: Tensor  # horizontal position of the pixel: -1 and 1 at the corners
    y: Tensor  # vertical position: -1 at the top and 1 at the bottom
    wide: Tensor  # half width, in pixels
    high: Tensor  # half height, in pixels
    outer: Tensor  # x of the outer corner, -1 or 1


def fields(photos: Tensor, points: Tensor) -> Tensor:
    """Target fields (B, FIELDS, H, W) of photos (B, 3, H, W) and their landmarks (B, K, 2)."""
    seen, found, near = (photos.float() + 1) / 2, [], []
    height, width = photos.shape[2:]
    for part, outer in ((LEFT, -1.0), (RIGHT, 1.0)):
        eye = _beside(points[:, part], height, width, outer)
        inside, _ = _opening(eye)
        colour, at = _iris(seen, inside, eye)
        reach = torch.maximum(eye.high, NARROW * eye.wide)
        far = (eye.x / AROUND[0]).square() + ((eye.y * eye.high / reach + ABOVE) / AROUND[1]).square()
        maps = [eye.x * eye.wide / UNIT, eye.y * eye.high / UNIT, eye.wide / UNIT, eye.high / UNIT, eye.outer, at]
        found.append(torch.stack([one.expand_as(far) for one in (*maps, *colour.unbind(1))], 1))
        near.append(far)
    left = (near[0] < near[1])[:, None]
    there = torch.where(torch.minimum(near[0], near[1]) < 1, SURE, -SURE)
    return torch.cat([there[:, None], torch.where(left, found[0], found[1])], 1)


def fields_loss(found: Tensor, given: Tensor) -> Tensor:
    """Loss of fields (B, FIELDS, H, W): cross entropy of the logit, and L1 of the other channels inside eyes."""
    there = (given[:, :1] > 0).float()
    surprise = F.binary_cross_entropy_with_logits(found[:, :1], there)
    off = (found[:, 1:] - given[:, 1:]).abs().sum(1, keepdim=True)
    return surprise + (off * there).sum() / there.sum().clamp_min(1)


def draw_eyes(pictures: Tensor, found: Tensor) -> Tensor:
    """Draws eyes, parametrised by fields (B, FIELDS, H, W), over pictures. The whites are translucent."""
    seen = (found[:, 0].float() / SURE + 0.5).clamp(0, 1)  # opacity; 0 below a logit of -SURE / 2
    part = _where(seen)
    if part is None:
        return pictures
    _, x, y, wide, high, outer, at, *colour = found[part].float().unbind(1)
    wide, high = (UNIT * wide).clamp_min(1.0), (UNIT * high).clamp_min(0.5)
    eye = Eye(UNIT * x / wide, UNIT * y / high, wide, high, outer.clamp(-1, 1))
    before = (pictures[part].float() + 1) / 2
    iris = torch.stack(colour, 1)
    grey = iris.mean(1, keepdim=True)
    inside, arc = _opening(eye)
    shade = 1 - SHADOW * _soft((-0.45 - eye.y + 0.55 * (1 - arc)) * eye.high)
    drawn = _over(before, (before * (1 - WHITE) + WHITE * LIGHT) * shade[:, None], inside)
    drawn = _coloured(drawn, (grey + VIVID * (iris - grey)).clamp(0, 1), at, inside, eye)
    whole = pictures.float().clone()
    whole[part] = _over(before, _lids(drawn, arc, eye), seen[part[0], part[2], part[3]]) * 2 - 1
    return whole


def _where(seen: Tensor) -> tuple[slice, slice, slice, slice] | None:
    """Bounding box of the positive values of (B, H, W) as an index, or None. On a GPU everything, to avoid a sync, and
    in an exported graph, whose shapes cannot depend on values."""
    everything = slice(None)
    if seen.device.type != "cpu" or torch.compiler.is_exporting():
        return everything, everything, everything, everything
    there = (seen > 0).any(0)
    if not bool(there.any()):
        return None
    (top, bottom), (left, right) = (there.any(axis).nonzero()[[0, -1], 0].tolist() for axis in (1, 0))
    return everything, everything, slice(top, bottom + 1), slice(left, right + 1)


def _beside(points: Tensor, height: int, width: int, outer: float) -> Eye:
    """The eye with four landmarks (B, 4, 2): left, top, right, bottom."""
    size = constant((width, height), points)
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
    """Coverage (B, H, W) of pixels by the eye opening, and the distance of the lids, parabolas, from the axis."""
    arc = (1 - eye.x.square()).clamp_min(0)
    between = _soft((eye.y + arc) * eye.high) * _soft((BELOW * arc - eye.y) * eye.high)
    return between * _soft((1 - eye.x.abs()) * eye.wide), arc


def _iris(seen: Tensor, inside: Tensor, eye: Eye) -> tuple[Tensor, Tensor]:
    """Colour (B, 3, 1, 1) and centre x (B, 1, 1) of the iris, the dark part of the opening, in photos in [0, 1]."""
    dark = inside * (1 - seen.amax(1)).clamp_min(0).square() * (1 - eye.x.square()).clamp_min(0)
    total = dark.sum((1, 2), keepdim=True).clamp_min(1e-4)
    at = ((dark * eye.x).sum((1, 2), keepdim=True) / total).clamp(-GAZE, GAZE)
    colour = (seen * dark[:, None]).sum((2, 3), keepdim=True) / total[:, None]
    tone = colour.mean(1, keepdim=True).clamp_min(0.02)
    return (colour * (tone.clamp(DARKEST, LIGHTEST) / tone)).clamp(0, 1), at


def _coloured(drawn: Tensor, colour: Tensor, at: Tensor, inside: Tensor, eye: Eye) -> Tensor:
    """Draws the iris: a vertical gradient, a dark ring, a pupil, and highlights."""
    wide, high = IRIS[0] * eye.wide, IRIS[1] * eye.high
    high = torch.minimum(high, ROUND * wide)
    wide = torch.minimum(wide, high)
    x, y = (eye.x - at) * eye.wide / wide, eye.y * eye.high / high
    far = (x.square() + y.square()).sqrt()
    iris = _soft((1 - far) * wide) * inside
    drawn = _over(drawn, colour * (0.55 + 0.45 * (y + 1).clamp(0, 2))[:, None], iris)
    dark = colour * 0.3
    drawn = _over(drawn, dark.expand_as(drawn), iris * _soft((far - 1 + RING) * wide))
    drawn = _over(drawn, dark.expand_as(drawn), iris * _soft((PUPIL - far) * wide))
    for right, down, size in LIGHTS:
        near = ((x - right).square() + (y - down).square()).sqrt()
        drawn = _over(drawn, torch.ones_like(drawn), inside * _soft((size - near) * wide))
    return drawn


def _lids(drawn: Tensor, arc: Tensor, eye: Eye) -> Tensor:
    """Draws the lashes and the crease of the lid."""
    ink = constant(INK, drawn)[:, None, None].expand_as(drawn)
    outside = ((eye.x * eye.outer + 1) / 2).clamp(0, 1)
    along = _soft((1.08 - eye.x.abs()) * eye.wide)
    above = _soft(((LASH + LASH_OUTSIDE * outside) - (eye.y + arc).abs()) * eye.high) * along
    below = _soft((LASH_BELOW - (eye.y - BELOW * arc).abs()) * eye.high) * along * outside
    crease = _soft((LASH_BELOW - (eye.y + 0.9 * arc + CREASE).abs()) * eye.high) * along * arc * CREASE_SEEN
    for seen in (crease, below, above):
        drawn = _over(drawn, ink, seen)
    return drawn


def _soft(pixels: Tensor) -> Tensor:
    """Antialiased coverage of a pixel, from its signed distance to an edge in pixels."""
    return (pixels + 0.5).clamp(0, 1)


def _over(below: Tensor, above: Tensor, seen: Tensor) -> Tensor:
    return torch.lerp(below, above, seen[:, None])
