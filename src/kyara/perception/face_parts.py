"""Features of the parts of a face, from `builtin:landmarks`, which looks at a picture once: its feature maps around the
eyes, around the mouth and in the whole picture, and the positions of the twelve points."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.perception import landmarks

AROUND = {"left": (0.42, 0.38), "right": (0.42, 0.38), "mouth": (0.4, 0.3)}
"""Half the width and height of the regions around an eye and around nose and mouth, in distances between the eyes."""
GRID = 6  # samples in each direction of a region


def describe(pictures: Tensor, *, cells: int = 1) -> dict[str, Tensor]:
    """The features of faces (B, 3, H, W) in [-1, 1] that fill the picture: part -> (B, D). Each region, and the whole
    picture, is divided into cells x cells cells, and feature maps are averaged in each."""
    points, levels = landmarks.find_with_levels(pictures)
    centres = {"left": points[:, landmarks.LEFT].mean(1), "right": points[:, landmarks.RIGHT].mean(1)}
    across = (centres["right"] - centres["left"]).norm(dim=1, keepdim=True).clamp(0.1, 0.6)  # (B, 1)
    centres["mouth"] = points[:, 8:11].mean(1)
    found = {name: _around(levels, centres[name], across, size, cells) for name, size in AROUND.items()}
    middle = (centres["left"] + centres["right"]) / 2
    shape = (points - middle[:, None]) / across[:, :, None]  # (B, K, 2), in distances between the eyes
    return {
        "eyes": torch.cat([found["left"], found["right"]], 1),
        "mouth": found["mouth"],
        "face": _averaged(levels, cells),
        "shape": shape.flatten(1),
    }


def _around(levels: list[Tensor], centre: Tensor, across: Tensor, size: tuple[float, float], cells: int) -> Tensor:
    """Features of the region around `centre` (B, 2) of the given size relative to `across` (B, 1)."""
    steps = torch.linspace(-1, 1, GRID, device=centre.device)
    offsets = torch.stack(torch.meshgrid(steps * size[0], steps * size[1], indexing="xy"), 2)  # (GRID, GRID, 2)
    places = (centre[:, None, None] + across[:, :, None, None] * offsets) * 2 - 1  # (B, GRID, GRID, 2)
    return _averaged(
        [F.grid_sample(m.float(), places, align_corners=False, padding_mode="border") for m in levels], cells
    )


def _averaged(maps: list[Tensor], cells: int) -> Tensor:
    """Means (B, F) of maps (B, C, H, W) in cells."""
    return torch.cat([F.adaptive_avg_pool2d(m.float(), cells).flatten(1) for m in maps], 1)
