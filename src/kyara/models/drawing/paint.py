"""Flat colours of the regions: skin in two tones, hair in three, clothes and background smoothed."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.models.cartoongan.painting import kuwahara
from kyara.models.drawing.config import StyleConfig
from kyara.models.drawing.filters import along, blur, flow, guided, known_blur, light, mean_colour, quantile, step
from kyara.models.drawing.memory import Memory
from kyara.nn.constants import constant

FAIR = (0.4, 0.6)  # brightness of skin from which it is drawn lighter than in the photo, and where by the most
LIGHTEST = 0.86  # brightness to which skin is lightened at most
CORE = 0.9  # share of a region inside it
BINS = 12  # of each channel in a histogram of colours
DOUBT, COLOUR = 0.003, 0.5  # least share of a region before its colours are seen, and the weight of colours


class Skin(NamedTuple):
    """Painted skin."""

    painted: Tensor  # (3, H, W)
    base: Tensor  # (3,), the lit tone
    shade: Tensor  # (3,)
    seen: Tensor  # (3,), the lit tone as in the photo, with which beards and glasses are compared


def skin(
    picture: Tensor, share: Tensor, face: Tensor, unit: float, style: StyleConfig, key: int, memory: Memory
) -> Skin:
    """Skin in a base tone and a shade. `share` (1, H, W) is what is skin, `face` the part of it whose tones count."""
    level = known_blur(light(picture), share, style.smooth * unit)
    levels = memory.smooth(("skin levels", key), quantile(level, face, (0.1, 0.85)))
    low, high = levels.tolist()
    threshold = min(style.shade * high, 0.4 * low + 0.6 * high)
    bright = mean_colour(picture, face * (level > threshold))
    dark = mean_colour(picture, face * (level < threshold)) if low < threshold else bright * 0.8
    bright, dark = memory.smooth(("skin", key), torch.stack([bright, dark]))
    seen, tone = vivid(bright, 1.08, 1.08), light(bright[:, None, None])[0, 0, 0]
    fair = float(((tone - FAIR[0]) / (FAIR[1] - FAIR[0])).clamp(0, 1))
    base = vivid(bright, min(1.08 + 0.12 * fair, max(1.0, LIGHTEST / max(float(tone), 1e-3))), 1.08 - 0.08 * fair)
    ratio = float(light(dark[:, None, None])[0, 0, 0] / tone.clamp_min(1e-3))
    shade = vivid(base, min(max(ratio, 0.8), 0.88), 1.1) * constant((1.0, 0.97, 0.99), base)
    painted = shade[:, None, None] + (base - shade)[:, None, None] * step(level, threshold, 0.010)
    return Skin(painted, base, shade, seen)


def vivid(colour: Tensor, brightness: float, saturation: float) -> Tensor:
    """A colour (3,) made brighter and more saturated."""
    grey = light(colour[:, None, None])[0, 0, 0]
    return ((grey + (colour - grey) * saturation) * brightness).clamp(0, 1)


def hair(picture: Tensor, share: Tensor, unit: float, memory: Memory) -> Tensor:
    """Hair in three tones with borders along the strands."""
    smooth = along(picture, flow(blur(light(picture), 0.7 * unit), 3 * unit), 5 * unit, max(1.0, unit))
    level = blur(light(smooth), 1.2 * unit)
    local = level - 0.6 * known_blur(level, share, 14 * unit)
    first, last = memory.smooth("hair levels", quantile(local, share * (share > CORE), (0.35, 0.86))).tolist()
    tones = [share * step(-local, -first, 0.004), share * step(local, last, 0.004)]
    middle = (share - tones[0] - tones[1]).clamp(0, 1)
    core = (share > CORE).to(share)  # borders have the colours of what is behind
    colours = torch.stack([mean_colour(picture, part * core) for part in (tones[0], middle, tones[1])])
    dark, base, bright = memory.smooth("hair", colours)
    base = vivid(base, 1.0, 1.15)
    dark, bright = apart(base, dark, -1), apart(base, bright, 1)
    painted = base[:, None, None].expand_as(picture)
    painted = painted + (dark - base)[:, None, None] * step(-local, -first, 0.006)
    return painted + (bright - base)[:, None, None] * step(local, last, 0.006)


def apart(base: Tensor, other: Tensor, sign: int) -> Tensor:
    """A tone (3,) that is visibly darker (-1) or lighter (1) than the base, but not by far."""
    level = float(light(base[:, None, None]))
    wanted = float(light(other[:, None, None]))
    least, most = (0.72, 0.86) if sign < 0 else (1.12, 1.5)
    factor = min(max(wanted / max(level, 1e-3), least), most)
    return vivid(base, factor, 1.0) + (0.02 if sign > 0 else 0.0)


def flat(picture: Tensor, unit: float, tones: int = 6) -> Tensor:
    """Smooth surfaces in few tones, for clothes."""
    radius = max(1, round(2.5 * unit))
    smooth = kuwahara(guided(picture, picture, round(4 * unit), 0.003)[None].clamp(0, 1), radius)[0]
    level = light(smooth)
    below = (level * tones).floor()
    tone = (below + torch.sigmoid((level * tones - below - 0.5) * 14)) / tones
    return (smooth * (0.5 + 0.5 * (tone + 0.02) / (level + 0.02))).clamp(0, 1)


def background(picture: Tensor, share: Tensor, unit: float, style: StyleConfig, memory: Memory) -> Tensor:
    """A background with little contrast and large shapes."""
    soft = known_blur(picture, share, 7 * unit)
    mean = memory.smooth("background", mean_colour(soft, share))[:, None, None]
    return (mean + (soft - mean) * (1 - style.quiet)).clamp(0, 1)


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
