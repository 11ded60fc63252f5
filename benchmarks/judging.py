"""Errors of rewritten networks inside and outside the region of a pattern."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from common import load_vgg16
from patterns import PATTERNS, place
from PIL import Image
from torch import Tensor

from kyara.files.pictures import sheet, to_uint8
from kyara.perception import landmarks
from kyara.perception.vgg16 import VGG16
from kyara.rewriting.edit import Picture, as_mask, overlay
from kyara.rewriting.learning import added
from kyara.rewriting.lessons import MIN_ALPHA, with_border
from kyara.rewriting.nonlinear import WeightDifference
from kyara.rewriting.samples import Samples

Made = WeightDifference | torch.nn.Module
"""A difference of weights, or a network."""


def shown(hosts: Samples, pictures: Sequence[Picture], made: Made | None = None) -> Tensor:
    """Pictures by the network, or by a changed one: (N, 3, H, W)."""
    with torch.no_grad():
        if isinstance(made, torch.nn.Module):
            hosts, made = Samples(made, hosts.name, hosts.data), None  # type: ignore[arg-type]
        with added(hosts.model, made or {}):
            return torch.cat([hosts.variants(picture, 0)() for picture in pictures]).float()


def pasted(pattern: str, face: Tensor) -> Tensor:
    """A pattern at its place on a face (3, H, W): (4, H, W), colours and alpha."""
    height, width = face.shape[1:]
    points = landmarks.find(face[None])[0].cpu().numpy()
    full = np.zeros((height, width, 4), np.float32)
    for piece in PATTERNS[pattern]():
        one = overlay(piece.picture, as_mask(place(piece, points, width, height), height, width, pattern))
        alpha = one[:, :, 3:]
        full[:, :, :3] = full[:, :, :3] * (1 - alpha) + one[:, :, :3] * alpha
        full[:, :, 3:] = np.maximum(full[:, :, 3:], alpha)
    return torch.from_numpy(full).movedim(2, 0)


def part_of_example(pattern: str, face: Tensor) -> dict[str, Any]:
    """Mask and source of an example: the bounding box of the pattern, and the pattern in one picture."""
    full = pasted(pattern, face).movedim(0, 2).numpy()
    rows, columns = (np.flatnonzero((full[:, :, 3] > MIN_ALPHA).any(axis)) for axis in (1, 0))
    x, y, width, height = (int(n) for n in (columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1))
    part = full[y : y + height, x : x + width] * [127.5, 127.5, 127.5, 255] + [127.5, 127.5, 127.5, 0]
    picture = np.clip(np.round(part), 0, 255).astype(np.uint8)
    return {"mask": [x, y, width, height], "source": {"picture": picture}}


class Judge:
    """Inside and outside errors of a pattern on some pictures."""

    def __init__(self, pattern: str, hosts: Samples, pictures: Sequence[Picture], faces: Tensor | None = None) -> None:
        """The pattern is placed by the landmarks of `faces` (N, 3, H, W), by default those that the network makes of
        `pictures`."""
        self.hosts, self.pictures, self.network = hosts, pictures, load_vgg16()
        self.before = before = shown(hosts, pictures)
        laid = torch.stack([pasted(pattern, face) for face in (before if faces is None else faces)])
        self.alpha, self.elsewhere = laid[:, 3:], 1 - with_border(laid[:, 3:])
        with torch.no_grad():
            self.wanted, self.was = (
                self.network.unit_maps(x) for x in (before.lerp(laid[:, :3], laid[:, 3:]), before.clamp(-1, 1))
            )
        self.missing = self._apart(before)

    def shown(self, made: Made) -> Tensor:
        """Pictures by a changed network, (N, 3, H, W)."""
        return shown(self.hosts, self.pictures, made)

    def inside(self, made: Tensor) -> float:
        """LPIPS of pictures (N, 3, H, W) to the reference inside the pattern, relative to that before the edit."""
        return self._apart(made) / self.missing

    def outside(self, made: Tensor) -> float:
        """LPIPS to the pictures before the edit, everywhere else. Inside the pattern both are set to the picture
        before: the receptive field of VGG16 is so large that the pattern would count as an error around it."""
        rest = self.before.lerp(made, self.elsewhere)
        return float(regions(self.network, rest, self.was, self.elsewhere).mean())

    def _apart(self, made: Tensor) -> float:
        """Shifted by up to two pixels to the best match, as precise as the landmarks that place the reference."""
        moved = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)] + [(2, 0), (-2, 0), (0, 2), (0, -2)]
        far = [regions(self.network, made.roll(shift, (3, 2)), self.wanted, self.alpha) for shift in moved]
        return float(torch.stack(far).amin(0).mean())


def regions(network: VGG16, made: Tensor, maps: list[Tensor], where: Tensor) -> Tensor:
    """LPIPS of pictures (N, 3, H, W) to others, given by their `unit_maps`, averaged over a region of each, weights
    (N, 1, H, W) in [0, 1]: (N,)."""
    total = torch.zeros(len(made))
    with torch.no_grad():
        for head, x, y in zip(network.heads, network.unit_maps(made.clamp(-1, 1)), maps, strict=True):
            far = head((x - y).square())
            part = F.interpolate(where, far.shape[2:], mode="area")
            total += (far * part).sum((1, 2, 3)) / part.sum((1, 2, 3)).clamp_min(1e-6)
    return total


def write_sheet(path: Path, rows: list[Tensor]) -> None:
    """Rows of pictures (N, 3, H, W), below each other."""
    joined = sheet([one for row in rows for one in to_uint8(row.clamp(-1, 1))], len(rows[0]))
    Image.fromarray(joined).save(path, quality=88)
