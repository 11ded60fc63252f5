"""Finds the faces of a picture, their contours, what is on them, and the regions around them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kyara.models import base, load
from kyara.models.drawing.config import NetworkConfig
from kyara.models.drawing.layout import ALIGNED, REGIONS, anchors, crop, frames, place
from kyara.perception.detector import FaceDetector
from kyara.perception.face_network import POINTS
from kyara.perception.landmarks import places

ANCHORS = [POINTS.index(name) for name in ("left eye", "right eye", "left mouth corner", "right mouth corner")]
LEAST = 0.2  # minimum size of a face that is drawn, in units of FFHQ's frame of 256 pixels
THRESHOLD = 0.35  # minimum score of the face detector; the contours confirm a face
EVIDENCE = 0.25  # minimum of the maxima of the contours' heatmaps, on average: faces have 0.3 to 0.45
SAME = 0.5  # minimum distance of two faces, in half sides of FFHQ's frame
PASSES = 2  # how often contours are found, each time in a square around those found before
FAR = 1.9  # distance from a face, in half sides of its square, beyond which regions are unknown
READER = "builtin:photo-traits"  # checkpoint that reads what is on a face
ALL = (*REGIONS, "other")
"""The regions of a drawing: "other" is far from every face."""


class Traits(NamedTuple):
    """Probabilities of what is on a face, of short hair, of an open mouth and of a hat. The thresholds were chosen on
    labelled people (docs/reports/cartoon.md): lower ones where what is missing is worse than what is added."""

    beard: float = 0.0
    stubble: float = 0.0
    glasses: float = 0.0
    sunglasses: float = 0.0
    bald: float = 0.0
    short: float = 0.0
    teeth: float = 0.0
    open: float = 0.0
    hat: float = 0.0

    @property
    def has_beard(self) -> bool:
        """Stubble included."""
        return self.beard + self.stubble > 0.5

    @property
    def has_glasses(self) -> bool:
        return self.glasses + self.sunglasses > 0.25

    @property
    def has_dark_lenses(self) -> bool:
        return self.has_glasses and self.sunglasses > self.glasses

    @property
    def is_bald(self) -> bool:
        return self.bald > 0.5

    @property
    def has_short_hair(self) -> bool:
        return self.bald + self.short > 0.7

    @property
    def has_hat(self) -> bool:
        return self.hat > 0.5

    @property
    def may_show_teeth(self) -> bool:
        return self.teeth + self.open > 0.3


TRAITS = (
    ("beard", "beard"), ("beard", "stubble"), ("glasses", "glasses"), ("glasses", "sunglasses"),
    ("hair_length", "bald"), ("hair_length", "short"), ("mouth", "smile_teeth"), ("mouth", "open"),
    ("hat", "hat"),
)  # fmt: skip
"""The attribute and its value of each of `Traits`."""
PLAIN = Traits()


@dataclass(eq=False)
class Face:
    """A face in a picture: `points` (COUNT, 2) in pixels; `unit`, the length of a pixel of FFHQ's frame of 256 pixels;
    `frame` (2, 3), the square of the regions; `shares` (4, h, w) of the regions in it; its `traits`."""

    points: Tensor
    unit: float
    frame: Tensor
    shares: Tensor
    traits: Traits = PLAIN
    key: int = 0  # the same in all frames of a film


@functools.cache
def detector(device: torch.device) -> FaceDetector:
    return FaceDetector(device=device, threshold=THRESHOLD)


@functools.cache
def reader(device: torch.device) -> base.Tagger:
    model = load(READER, device)
    assert isinstance(model, base.Tagger)
    return model


def read(picture: Tensor, at: Tensor) -> list[Traits]:
    """The traits of the faces of a picture (3, H, W) in [-1, 1], given their anchors (B, 4, 2)."""
    model = reader(picture.device)
    side = model.config.data.width
    seen = torch.cat([crop(picture[None], one[None], side) for one in frames(at, ALIGNED)])
    found = model.probabilities(seen)
    columns = [found[name][:, model.attributes[name].index(value)] for name, value in TRAITS]
    return [Traits(*one) for one in torch.stack(columns, 1).tolist()]


def find_faces(picture: Tensor, points_net: nn.Module, regions_net: nn.Module, config: NetworkConfig) -> list[Face]:
    """The faces of a picture (3, H, W) in [-1, 1], largest first."""
    pixels = ((picture + 1) * 127.5).round().clamp(0, 255).byte().movedim(0, 2).cpu().numpy()
    found = detector(picture.device)(pixels)
    if not len(found):
        return []
    at = torch.from_numpy(found.points[:, ANCHORS]).to(picture)
    for _ in range(PASSES):
        maps = frames(at, config.face_zoom)
        heat = points_net(torch.cat([crop(picture[None], one[None], config.points_size) for one in maps]))
        points = place(places(heat), maps)
        at = anchors(points)
    sure = heat.flatten(2).softmax(2).amax(2).mean(1) > EVIDENCE
    sizes = frames(at, 1.0)[:, :, 0].norm(dim=1)
    chosen = distinct(points.mean(1), sizes, (sure & (sizes > LEAST * 128)).tolist())
    if not chosen:
        return []
    maps = frames(at[chosen], config.portrait_zoom)
    squares = torch.cat([crop(picture[None], one[None], config.regions_size) for one in maps])
    shares = regions_net(squares).softmax(1)
    units = (sizes[chosen] / 128).tolist()
    traits = read(picture, at[chosen])
    faces = [Face(*one) for one in zip(points[chosen], units, maps, shares, traits, strict=True)]
    return sorted(faces, key=lambda face: -face.unit)


def distinct(centres: Tensor, sizes: Tensor, wanted: Sequence[bool]) -> list[int]:
    """Indices of the `wanted` faces, at `centres` (N, 2) and of `sizes` (N,), without those found before."""
    chosen: list[int] = []
    for i in range(len(centres)):
        if wanted[i] and all(float((centres[i] - centres[j]).norm()) > SAME * float(sizes[j]) for j in chosen):
            chosen.append(i)
    return chosen


def spread(faces: Sequence[Face], height: int, width: int) -> Tensor:
    """Shares (5, H, W) of `ALL` regions in the picture, of each pixel by the nearest face."""
    if not faces:
        return torch.cat([torch.zeros(4, height, width), torch.ones(1, height, width)])
    rows, columns = (torch.arange(n, device=faces[0].frame.device) + 0.5 for n in (height, width))
    at = torch.stack([columns.expand(height, -1), rows[:, None].expand(-1, width)], 2)
    total, nearest = 0.0, torch.full((1, height, width), 1e-6, device=at.device)
    for face in faces:
        there = (at - face.frame[:, 2]) @ torch.linalg.inv(face.frame[:, :2]).T  # in [-1, 1] inside the square
        near = torch.sigmoid((FAR - there.abs().amax(2)) * 12)[None] / (0.2 + there.square().sum(2)[None])
        seen = F.grid_sample(face.shares[None], there[None], padding_mode="border", align_corners=False)[0]
        total, nearest = total + seen * near, nearest + near
    known = (nearest * 4).clamp(0, 1)
    return torch.cat([total / nearest * known, 1 - known])
