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
BANDS = ((0.38, 0.62, -0.2, 0.25), (-0.15, 0.15, 0.16, 0.5), (0.85, 1.15, 0.16, 0.5))
"""Where frames always pass: the bridge of the nose and below each eye; left, right, top, bottom, in distances between
the eyes from the left one."""
CONTROL = ((0.1, 0.9, -1.0, -0.6), (-0.2, 0.2, 0.55, 0.85), (0.8, 1.2, 0.55, 0.85))  # where they never are
ZONE = (-0.62, 1.62, -0.42, 0.5)  # where frames may be, likewise
DARK_LENSES = 0.53  # brightness around the eyes, relative to the median of the face, behind dark lenses
DARK = 0.45  # brightness of dark lenses relative to the lit skin
NECK = ((0.2, 0.03), (-0.2, 0.03), (-0.2, 0.25), (0.2, 0.25))  # from the chin, across and down, in heights of the face
COVERED, DARK_LIP, DARK_NECK = 0.1, 0.74, 0.81  # of a beard: least cover, greatest brightness relative to the cheeks
DARKER, GREYER = 0.52, 0.85  # brightness relative to the skin of dark beards, and at most of grey ones


class Detail(NamedTuple):
    """Something on a face."""

    opacity: Tensor  # (1, H, W)
    colour: Tensor  # (3,)
    evidence: Tensor  # how clearly it is there, a scalar


def patch(points: np.ndarray, area: tuple[float, float, float, float], picture: Tensor) -> Tensor:
    """A rectangle between the eyes' positions, as `BANDS`, as a mask (1, H, W)."""
    first, second = points[AT["left eye"]].mean(0), points[AT["right eye"]].mean(0)
    across = second - first
    down = np.array([-across[1], across[0]])
    x0, x1, y0, y1 = area
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    return polygon(np.stack([first + x * across + y * down for x, y in corners]), picture)


def glasses(picture: Tensor, points: np.ndarray, base: Tensor, unit: float) -> Detail:
    """Dark frames of glasses, and dark lenses. `base` (3,) is the colour of the skin. The evidence is the share of dark
    pixels in the second best of `BANDS`, less that where skin has wrinkles only."""
    grey, tone = light(picture), light(base[:, None, None]).clamp_min(0.05)
    contrast = (torch.minimum(blur(grey, 6 * unit), tone) - blur(grey, 0.6 * unit)) / tone
    frame = step(contrast, FRAME, 0.05)
    bands, control = (
        torch.stack([mean_colour(frame, patch(points, area, picture))[0] for area in areas])
        for areas in (BANDS, CONTROL)
    )
    evidence = bands.sort().values[1] - 2 * control.sort().values[1]
    eyes = [points[AT[f"{side} eye"]] for side in ("left", "right")]
    keep = union([scaled(eye, 1.35) for eye in eyes], picture)
    keep = torch.maximum(keep, union([scaled(points[AT[f"{side} brow"]], 1.1) for side in ("left", "right")], picture))
    if bool(lenses(picture, points) < DARK_LENSES):
        frame, keep = torch.maximum(frame, step(-blur(grey, unit) / tone, -DARK, 0.05)), torch.zeros_like(keep)
    opacity = frame * blur(patch(points, ZONE, picture), unit) * (1 - keep)
    return Detail(opacity, mean_colour(picture, opacity * (grey < 0.6 * tone)) * 0.8, evidence)


def lenses(picture: Tensor, points: np.ndarray) -> Tensor:
    """Brightness around the eyes relative to the median of the face, a scalar: low behind dark lenses. The lit tone of
    the skin would not do: on dark skin with highlights, eyes in the shade are far below it."""
    ring = torch.zeros_like(picture[:1])
    for side in ("left", "right"):
        eye = points[AT[f"{side} eye"]]
        ring = torch.maximum(ring, polygon(scaled(eye, 2.0), picture) - polygon(scaled(eye, 1.2), picture))
    grey = light(picture)
    face = polygon(scaled(points[AT["oval"]], 0.8), picture)
    return mean_colour(grey, ring)[0] / quantile(grey, face, (0.5,))[0].clamp_min(0.05)


def beard(picture: Tensor, points: np.ndarray, base: Tensor, unit: float) -> Detail:
    """A beard, which is darker or greyer than the skin `base` (3,). The evidence is 1 or more if it covers enough of
    its place on both sides (shadows are mostly on one), and if the upper lip and the neck are darker than the cheeks.
    """
    oval, nose, lips = points[AT["oval"]], points[AT["nose"]], points[AT["outer lips"]]
    outline = scaled(np.concatenate([oval[4:15], nose[5:12]]), 1.04)
    zone = polygon(outline, picture) * (1 - polygon(scaled(lips, 1.12), picture))
    smooth = blur(picture, 2.0 * unit)
    bright = light(smooth)
    level = bright / light(base[:, None, None]).clamp_min(0.05)
    grey = smooth.amin(0, keepdim=True) / smooth.amax(0, keepdim=True).clamp_min(1e-3)
    skin_grey = float(base.min() / base.max().clamp_min(1e-3))
    darker = step(-level, -DARKER, 0.06)
    greyer = step(grey, 1 - 0.5 * (1 - skin_grey), 0.05) * step(-level, -GREYER, 0.1)
    opacity = torch.maximum(darker, greyer) * blur(zone, 1.5 * unit)

    chin, up = oval[9], oval[0] - oval[9]
    side = np.array([-up[1], up[0]])
    left = polygon(np.stack([chin + 2 * up, chin - up, chin - up + 2 * side, chin + 2 * up + 2 * side]), picture)
    covered = torch.stack([mean_colour(opacity, zone * half)[0] for half in (left, 1 - left)]).amin()
    neck = polygon(np.stack([chin + across * side - down * up for across, down in NECK]), picture)
    lip = polygon(np.stack([nose[6], nose[10], lips[7], lips[3]]), picture)
    eyes = points[AT["left eye"]], points[AT["right eye"]]
    cheeks = union(
        [np.stack([eyes[0][12], nose[5], lips[0], oval[14]]), np.stack([eyes[1][12], nose[11], lips[10], oval[4]])],
        picture,
    )
    cheek, neck_level, lip_level = (mean_colour(bright, mask)[0].clamp_min(0.02) for mask in (cheeks, neck, lip))
    signs = torch.stack([covered / COVERED, DARK_LIP * cheek / lip_level, DARK_NECK * cheek / neck_level])
    return Detail(opacity, mean_colour(picture, opacity), signs.amin())
