"""The colours of the features of a face, from the photo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kyara.models.drawing.filters import light, mean_colour
from kyara.models.drawing.finding import Face
from kyara.models.drawing.layout import AT
from kyara.models.drawing.masks import polygon, union
from kyara.models.drawing.memory import Memory

INK = (0.13, 0.075, 0.075)  # the colour of lines, before a share of the brows' colour is added
TEETH = 1.05  # brightness of an open mouth relative to the lips above which teeth are seen


@dataclass(frozen=True)
class Palette:
    """Colours of a face, (3,) RGB in [0, 1]."""

    skin: np.ndarray
    shade: np.ndarray
    line: np.ndarray  # of thick lines
    brow: np.ndarray
    lips: np.ndarray
    iris: np.ndarray
    teeth: bool  # whether they are seen in the mouth
    hidden: bool  # whether dark lenses hide the eyes


def darkest(picture: Tensor, mask: Tensor, share: float) -> Tensor:
    """Mean colour (3,) of the darkest `share` of the pixels under a mask (1, H, W)."""
    level = light(picture)
    inside = level[mask > 0.5]
    if not len(inside):
        return mean_colour(picture, torch.ones_like(mask)) * 0.5
    return mean_colour(picture, mask * (level <= inside.quantile(share)))


def choose(picture: Tensor, points: np.ndarray, base: Tensor, shade: Tensor, face: Face, memory: Memory) -> Palette:
    """The palette of a face with the contours `points` and the colours `base` and `shade` (3,) of its skin."""
    inner = polygon(points[AT["inner lips"]], picture)
    lips_mask = polygon(points[AT["outer lips"]], picture) * (1 - inner)
    brows = union([points[AT[f"{side} brow"]] for side in ("left", "right")], picture)
    discs = torch.zeros_like(inner)
    turn = np.linspace(0, 2 * np.pi, 17)[:-1]
    for centre, side in zip(points[AT["irises"]], ("left", "right"), strict=True):
        eye = points[AT[f"{side} eye"]]
        circle = np.stack([np.cos(turn), np.sin(turn)], 1) * 0.2 * np.linalg.norm(eye[8] - eye[0])
        discs = torch.maximum(discs, polygon(centre + circle, picture) * polygon(eye, picture))
    mouth = light(picture)[inner > 0.5]
    bright = mouth.quantile(0.7) if len(mouth) else torch.zeros(())
    lip_level = (light(picture) * lips_mask).sum() / lips_mask.sum().clamp_min(1)
    found = torch.cat(
        [darkest(picture, brows, 0.4), darkest(picture, lips_mask, 0.8), darkest(picture, discs, 0.7),
         (bright / lip_level.clamp_min(0.02))[None]]
    )  # fmt: skip
    smoothed = memory.smooth(("palette", face.key), found).cpu().numpy()
    brow, lips, iris, shine = smoothed[:3], smoothed[3:6], smoothed[6:9], smoothed[9]
    skin = base.cpu().numpy()
    brow = brow * min(1.0, 0.62 * skin.mean() / max(brow.mean(), 1e-3))
    lips = lips * min(1.0, 0.85 * skin.mean() / max(lips.mean(), 1e-3))
    lips = 0.45 * skin * (0.92, 0.72, 0.72) + 0.55 * lips
    iris = np.clip((iris.mean() + (iris - iris.mean()) * 1.5) * 1.25 + 0.04, 0, 1)
    line = np.array(INK) + 0.1 * brow
    teeth = face.traits.may_show_teeth and bool(shine > TEETH)
    return Palette(skin, shade.cpu().numpy(), line, brow, lips, iris, teeth, face.traits.has_dark_lenses)
