"""What is on a face and is not skin: glasses and beards, as flat areas."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kyara.models.drawing.filters import blur, light, mean_colour, quantile, step
from kyara.models.drawing.layout import AT
from kyara.models.drawing.masks import polygon, scaled, union

FRAME = 0.16  # contrast of the frame of glasses to the skin around it, relative to the skin
ZONE = (-0.62, 1.62, -0.42, 0.5)
"""Where glasses may be: left, right, top, bottom, in distances between the eyes from the left one."""
DARK = 0.45  # brightness of dark lenses relative to the lit skin
REDDER = 0.5  # weight of the redness of skin beside its brightness, when it is compared with a beard
BETWEEN, PALE = 0.45, 0.9  # threshold of a beard, from skin to hair, and relative to the skin at most


class Detail(NamedTuple):
    """Something on a face."""

    opacity: Tensor  # (1, H, W)
    colour: Tensor  # (3,)


def patch(points: np.ndarray, area: tuple[float, float, float, float], picture: Tensor) -> Tensor:
    """A rectangle as `ZONE`, as a mask (1, H, W)."""
    first, second = points[AT["left eye"]].mean(0), points[AT["right eye"]].mean(0)
    across = second - first
    down = np.array([-across[1], across[0]])
    x0, x1, y0, y1 = area
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    return polygon(np.stack([first + x * across + y * down for x, y in corners]), picture)


def glasses(picture: Tensor, points: np.ndarray, base: Tensor, dark: bool, unit: float) -> Detail:
    """The frames of glasses, and the lenses if they are `dark`. `base` (3,) is the colour of the skin."""
    grey, tone = light(picture), light(base[:, None, None]).clamp_min(0.05)
    contrast = (torch.minimum(blur(grey, 6 * unit), tone) - blur(grey, 0.6 * unit)) / tone
    frame = step(contrast, FRAME, 0.05)
    eyes = [points[AT[f"{side} eye"]] for side in ("left", "right")]
    keep = union([scaled(eye, 1.35) for eye in eyes], picture)
    keep = torch.maximum(keep, union([scaled(points[AT[f"{side} brow"]], 1.1) for side in ("left", "right")], picture))
    if dark:
        frame, keep = torch.maximum(frame, step(-blur(grey, unit) / tone, -DARK, 0.05)), torch.zeros_like(keep)
    opacity = frame * blur(patch(points, ZONE, picture), unit) * (1 - keep)
    return Detail(opacity, mean_colour(picture, opacity * (grey < 0.6 * tone)) * 0.8)


def beard(picture: Tensor, points: np.ndarray, strength: float, unit: float) -> Detail:
    """A beard: what is darker, less red or greyer than the cheeks, around the mouth. Stubble has a `strength` < 1."""
    oval, nose, lips = points[AT["oval"]], points[AT["nose"]], points[AT["outer lips"]]
    outline = scaled(np.concatenate([oval[4:15], nose[5:12]]), 1.04)
    zone = polygon(outline, picture) * (1 - polygon(scaled(lips, 1.12), picture))
    eyes = points[AT["left eye"]], points[AT["right eye"]]
    cheeks = union(
        [np.stack([eyes[0][12], nose[5], lips[0], oval[14]]), np.stack([eyes[1][12], nose[11], lips[10], oval[4]])],
        picture,
    )
    smooth = blur(picture, 2.0 * unit)
    tint = light(smooth) + REDDER * (smooth[:1] - smooth[1:].mean(0, keepdim=True))
    hair, skin = quantile(tint, zone, (0.15,))[0], quantile(tint, cheeks, (0.5,))[0]
    threshold = torch.minimum(skin + (hair - skin) * BETWEEN, skin * PALE)
    grey = smooth.amin(0, keepdim=True) / smooth.amax(0, keepdim=True).clamp_min(1e-3)
    greyer = step(grey, 0.5 + 0.5 * quantile(grey, cheeks, (0.5,))[0], 0.05)
    opacity = torch.maximum(step(-tint, -threshold, 0.04), greyer) * blur(zone, 1.5 * unit)
    return Detail(opacity * strength, mean_colour(picture, opacity))
