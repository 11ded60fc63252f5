"""Draws a picture from its regions and the contours of its faces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from kyara.models.drawing import details, masks, paint, regions
from kyara.models.drawing.canvas import Canvas
from kyara.models.drawing.config import StyleConfig
from kyara.models.drawing.features import Features
from kyara.models.drawing.filters import along, blur, border, flow, light, line_contrast, step
from kyara.models.drawing.finding import ALL, Face
from kyara.models.drawing.layout import AT
from kyara.models.drawing.memory import Memory
from kyara.models.drawing.palette import Palette, choose
from kyara.models.drawing.regions import BACKGROUND, CLOTHES, HAIR, OTHER, SKIN

UNITS = (1 / 512, 1 / 96)  # minimum and maximum unit of a picture, in shorter sides; without a face it is the mean
FOLDS = {HAIR: 0.022, CLOTHES: 0.025, SKIN: 0.035, OTHER: 0.02}  # minimum contrast of the lines within regions
DARK = 0.32  # brightness of lines relative to what they are on
STUBBLE = 0.5  # opacity of stubble


def draw(picture: Tensor, faces: Sequence[Face], style: StyleConfig, memory: Memory) -> Tensor:
    """The drawing of a picture (3, H, W) in [-1, 1]."""
    picture = (memory.picture(picture) + 1) / 2
    height, width = picture.shape[1:]
    low, high = (min(height, width) * share for share in UNITS)
    unit = min(max(faces[0].unit, low), high) if faces else min(height, width) / 256
    contours = [face.points.cpu().numpy() for face in faces]
    shares = regions.find(picture, faces, contours, unit)
    features = torch.zeros_like(shares[:1])
    for points in contours:
        features = torch.maximum(features, masks.features(points, picture))
    skin, palettes = painted_skin(picture, shares[SKIN, None] * (1 - features), faces, contours, style, memory)
    flat = paint.flat(picture, unit)
    parts = {
        BACKGROUND: paint.background(picture, shares[BACKGROUND, None], unit, style, memory),
        SKIN: skin,
        HAIR: hair(picture, shares[HAIR, None], faces, unit, flat, memory),
        CLOTHES: flat,
        OTHER: flat,
    }
    sure = regions.harden(shares)
    painted = sum(part * sure[region, None] for region, part in parts.items())
    ink = lines(picture, shares, sure, features, unit, style)
    painted = (painted * (1 - (1 - DARK) * ink)).clamp(0, 1)
    made = (painted * 255).round().byte().movedim(0, 2).cpu().numpy()
    for face, points, palette in zip(faces, contours, palettes, strict=True):
        draw_features(made, points, face.unit, palette, style)
    return torch.from_numpy(made).to(picture.device).movedim(2, 0) / 127.5 - 1


def hair(picture: Tensor, share: Tensor, faces: Sequence[Face], unit: float, flat: Tensor, memory: Memory) -> Tensor:
    """Hair in three tones (3, H, W); `flat` around faces with a hat, which the regions take for hair."""
    made = paint.hair(picture, share, unit, memory)
    for face in faces:
        if face.traits.has_hat:
            points = face.points.cpu().numpy()
            around = blur(masks.polygon(masks.scaled(points[AT["oval"]], 2.4), picture), 4 * face.unit)
            made = made + (flat - made) * around
    return made


def painted_skin(
    picture: Tensor,
    share: Tensor,
    faces: Sequence[Face],
    contours: Sequence[np.ndarray],
    style: StyleConfig,
    memory: Memory,
) -> tuple[Tensor, list[Palette]]:
    """The skin of all faces (3, H, W), with beards and glasses, and the palette of each face."""
    skin, palettes = picture, []
    for face, points in zip(faces, contours, strict=True):
        inside = masks.polygon(masks.scaled(points[AT["oval"]], 0.97), picture) * share
        made, base, shade, seen = paint.skin(picture, share, inside, face.unit, style, face.key, memory)
        for name, found in worn(picture, face, points, seen):
            colour = memory.smooth((name, face.key), found.colour)
            made = made + (colour[:, None, None] - made) * found.opacity
        palettes.append(choose(picture, points, base, shade, face, memory))
        around = blur(masks.polygon(masks.scaled(points[AT["oval"]], 1.6), picture), 4 * face.unit)
        skin = made if len(palettes) == 1 else skin + (made - skin) * around
    return skin, palettes


def worn(picture: Tensor, face: Face, points: np.ndarray, skin: Tensor) -> Iterator[tuple[str, details.Detail]]:
    """The beard and the glasses of a face with the colour `skin` (3,), if it has any."""
    traits = face.traits
    if traits.has_beard:
        strength = 1.0 if traits.beard > traits.stubble else STUBBLE
        yield "beard", details.beard(picture, points, strength, face.unit)
    if traits.has_glasses:
        yield "glasses", details.glasses(picture, points, skin, traits.has_dark_lenses, face.unit)


def lines(picture: Tensor, shares: Tensor, sure: Tensor, features: Tensor, unit: float, style: StyleConfig) -> Tensor:
    """Opacity (1, H, W) of the lines between regions, and along the folds within them where they are `sure`."""
    grey = light(picture)
    thin = max(0.7 * unit, 0.6)
    contrast = along(line_contrast(grey, thin), flow(grey, 2 * unit), 3 * thin, max(1.0, thin))
    ink = torch.zeros_like(grey)
    for region, least in FOLDS.items():
        ink = ink + sure[region, None] * step(contrast, least, 0.008)
    ink = ink * (1 - features * shares[SKIN, None]) * style.lines
    smooth = blur(shares, 1.2 * unit)
    for region in range(len(ALL)):
        others = torch.cat([smooth[:region], smooth[region + 1 :]]).amax(0, keepdim=True)
        own = smooth[region, None]
        line = border(own / (own + others).clamp_min(1e-4), style.line_width * unit)
        if region != OTHER:
            ink = torch.maximum(ink, line * (own > 0.2) * (1 - features * (shares[HAIR, None] < 0.3)))
    return ink.clamp(0, 1)


def draw_features(made: np.ndarray, points: np.ndarray, unit: float, palette: Palette, style: StyleConfig) -> None:
    """Draws the features of a face on a picture (H, W, 3) uint8."""
    height, width = made.shape[:2]
    left, top = np.floor(points.min(0) - 6 * unit).astype(int).clip(0, (width, height)).tolist()
    right, bottom = np.ceil(points.max(0) + 6 * unit).astype(int).clip(0, (width, height)).tolist()
    if right > left and bottom > top:
        canvas = Canvas(made, (left, top, right, bottom))
        Features(canvas, points, unit, palette, style).draw()
        made[top:bottom, left:right] = canvas.result()
