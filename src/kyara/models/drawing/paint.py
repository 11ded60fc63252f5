"""Flat colours of the regions: skin in two tones, hair in three, clothes and background smoothed."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kyara.models.cartoongan.painting import kuwahara
from kyara.models.drawing.config import StyleConfig
from kyara.models.drawing.filters import along, blur, flow, guided, known_blur, light, mean_colour, quantile, step
from kyara.models.drawing.memory import Memory
from kyara.nn.constants import constant

FAIR = (0.4, 0.55)  # brightness of skin from which it is drawn lighter than in the photo, and where by the most
LIGHTEST = 0.86  # brightness to which skin is lightened at most
SHINE = 1.35  # brightness of skin, relative to the median of the face, above which it is a reflection of light
GREYER = 1.03  # minimum of the channels over their maximum, relative to the median of the face, of reflections
LEAST = 0.01  # weight of reflections, if there is nothing else
CORE = 0.9  # share of a region inside it


class Skin(NamedTuple):
    """Painted skin."""

    painted: Tensor  # (3, H, W)
    base: Tensor  # (3,), the lit tone
    shade: Tensor  # (3,)
    seen: Tensor  # (3,), the lit tone as in the photo, with which glasses are compared


def skin(
    picture: Tensor, share: Tensor, face: Tensor, unit: float, style: StyleConfig, key: int, memory: Memory
) -> Skin:
    """Skin in a base tone and a shade. `share` (1, H, W) is what is skin, `face` the part of it whose tones count."""
    level = known_blur(light(picture), share, style.smooth * unit)
    levels = memory.smooth(("skin levels", key), quantile(level, face, (0.1, 0.5, 0.85)))
    low, middle, high = levels.tolist()
    fair = min(max((middle - FAIR[0]) / (FAIR[1] - FAIR[0]), 0.0), 1.0)
    high = high + (min(high, SHINE * middle) - high) * (1 - fair)
    threshold = min(style.shade * high, 0.4 * low + 0.6 * high)
    lit = face * (level > threshold)
    bright = mean_colour(picture, lit)
    dark = mean_colour(picture, face * (level < threshold)) if low < threshold else bright * 0.8
    matt = mean_colour(picture, lit * matte(picture, face, unit))
    mean = mean_colour(picture, face)
    bright, matt, dark, mean = memory.smooth(("skin", key), torch.stack([bright, matt, dark, mean]))
    seen, bright = vivid(bright, 1.08, 1.08), matt + (bright - matt) * fair
    tone, least = (float(light(colour[:, None, None])) for colour in (bright, mean))
    brighter = max(min(1.04 + 0.16 * fair, max(1.0, LIGHTEST / max(tone, 1e-3))), 1.05 * least / max(tone, 1e-3))
    base = vivid(bright, brighter, 1.15 - 0.15 * fair)
    ratio = float(light(dark[:, None, None])) / max(tone, 1e-3)
    shade = vivid(base, min(max(ratio, 0.8), 0.88), 1.1) * constant((1.0, 0.97, 0.99), base)
    painted = shade[:, None, None] + (base - shade)[:, None, None] * step(level, threshold, 0.010)
    return Skin(painted, base, shade, seen)


def matte(picture: Tensor, face: Tensor, unit: float) -> Tensor:
    """Where (1, H, W) a face does not reflect the light, which makes dark skin grey."""
    grey = blur(picture.amin(0, keepdim=True) / picture.amax(0, keepdim=True).clamp_min(1e-3), unit)
    return step(-grey, -GREYER * quantile(grey, face, (0.5,))[0], 0.02).clamp_min(LEAST)


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
