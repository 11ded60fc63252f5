"""Content of faces: whether eyes, mouth and the whole face look as they do in clean pictures.

`builtin:landmarks` looks at a picture once. The mean of its feature maps around the eyes, around the mouth and in the
whole picture, and the positions of the twelve points, are four descriptors. Each is compared with its distribution in
clean pictures by the Mahalanobis distance: a melted eye or a displaced mouth is far from all clean ones."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from kyara.perception import landmarks

FILE = Path(__file__).with_name("content.safetensors")  # written by benchmarks/content.py
CONTENT = ("eyes", "mouth", "face", "shape")
PARTS = ("quality", *CONTENT)
AROUND = {"left": (0.42, 0.38), "right": (0.42, 0.38), "mouth": (0.4, 0.3)}
"""Half the width and height of the regions around an eye and around nose and mouth, in distances between the eyes."""
GRID = 6  # samples in each direction of a region
SURE = math.log(19)  # logit of 0.95
LOWEST, HIGHEST = -6.0, 1.5  # limits of a deviation: beyond them one part alone decides nothing more
NEIGHBOURS = 3  # the style is unfamiliar if the mean distance to so many of the known pictures is too large
PRIOR = 100  # weight of the built-in covariance beside the owner's pictures, in pictures
LEAST = 20  # pictures of the owner


@dataclasses.dataclass(frozen=True)
class Basis:
    """Linear maps of the descriptors to whitened coordinates, in which clean drawings have zero mean and unit
    variance."""

    mean: Mapping[str, Tensor]  # part -> (D,)
    whiten: Mapping[str, Tensor]  # part -> (D, k)

    def coordinates(self, descriptors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Part -> (B, k), of `describe`."""
        return {part: (descriptors[part] - self.mean[part]) @ self.whiten[part] for part in CONTENT}


@dataclasses.dataclass(frozen=True)
class Reference:
    """What clean pictures look like: distributions of the coordinates, and quantiles of the distances."""

    centre: Mapping[str, Tensor]  # part -> (k,)
    root: Mapping[str, Tensor]  # part -> (k, k), the distance of y is |(y - centre) @ root|
    low: Tensor  # (7,): of each part, of the content and of both; 5 % of clean pictures are below
    middle: Tensor  # (7,): the median of clean pictures
    known: Tensor  # (N, k): coordinates of the part face of clean pictures
    limit: Tensor  # (): 99 % of clean pictures are nearer to the known ones

    def typicality(self, coordinates: Mapping[str, Tensor]) -> Tensor:
        """Negative logarithms (B, 4) of the distances to the clean pictures; higher is more typical."""
        columns = [(coordinates[p] - self.centre[p]) @ self.root[p] for p in CONTENT]
        return torch.stack([-column.norm(dim=1).clamp_min(1e-6).log() for column in columns], 1)

    def to(self, device: torch.device) -> Reference:
        """A copy on another device."""
        moved = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name, value in moved.items():
            moved[name] = value.to(device) if isinstance(value, Tensor) else {p: t.to(device) for p, t in value.items()}
        return Reference(**moved)

    def distance(self, coordinates: Mapping[str, Tensor]) -> Tensor:
        """Mean distances (B,) to the nearest known pictures, for the style."""
        return torch.cdist(coordinates["face"], self.known).topk(NEIGHBOURS, largest=False).values.mean(1)


def describe(pictures: Tensor) -> dict[str, Tensor]:
    """The descriptors of faces (B, 3, H, W) in [-1, 1] that fill the picture: part -> (B, D)."""
    points, levels = landmarks.find_with_levels(pictures)
    centres = {"left": points[:, landmarks.LEFT].mean(1), "right": points[:, landmarks.RIGHT].mean(1)}
    across = (centres["right"] - centres["left"]).norm(dim=1, keepdim=True).clamp(0.1, 0.6)  # (B, 1)
    centres["mouth"] = points[:, 8:11].mean(1)
    found = {name: _around(levels, centres[name], across, size) for name, size in AROUND.items()}
    middle = (centres["left"] + centres["right"]) / 2
    shape = (points - middle[:, None]) / across[:, :, None]  # (B, K, 2), in distances between the eyes
    return {
        "eyes": torch.cat([found["left"], found["right"]], 1),
        "mouth": found["mouth"],
        "face": torch.cat([level.float().mean((2, 3)) for level in levels], 1),
        "shape": shape.flatten(1),
    }


def _around(levels: list[Tensor], centre: Tensor, across: Tensor, size: tuple[float, float]) -> Tensor:
    """Means (B, F) of feature maps in regions around `centre` (B, 2) of the given size relative to `across` (B, 1)."""
    steps = torch.linspace(-1, 1, GRID, device=centre.device)
    offsets = torch.stack(torch.meshgrid(steps * size[0], steps * size[1], indexing="xy"), 2)  # (GRID, GRID, 2)
    places = (centre[:, None, None] + across[:, :, None, None] * offsets) * 2 - 1  # (B, GRID, GRID, 2)
    sampled = [F.grid_sample(m.float(), places, align_corners=False, padding_mode="border") for m in levels]
    return torch.cat([m.mean((2, 3)) for m in sampled], 1)


@dataclasses.dataclass(frozen=True)
class Judge:
    """The parts and the score of pictures, by a monotone model: no part that improves makes the score worse."""

    basis: Basis
    reference: Reference
    weights: Tensor  # (5,): of PARTS, not negative
    own: bool = False  # whether the reference is the owner's: then the quality too is relative to the owner's pictures

    def judge(self, coordinates: Mapping[str, Tensor], quality: Tensor) -> Tensor:
        """(B, 8) for pictures with these coordinates, and the probabilities `quality` (B,) that they are undistorted:
        the values of PARTS, the score by content, the score by both, all in [0, 1], and `style`."""
        clean = self.reference
        found = deviations(columns(clean, coordinates, quality), clean.low[:5], clean.middle[:5])
        if not self.own:  # the scorer's probability is calibrated already
            found[:, 0] = (logit(quality) / SURE - 1).clamp(LOWEST, HIGHEST)
        totals = deviations(self.totals(found), clean.low[5:], clean.middle[5:])
        values = torch.sigmoid(SURE * (torch.cat([found, totals], 1) + 1))
        return torch.cat([values, self.style(coordinates)[:, None]], 1)

    def style(self, coordinates: Mapping[str, Tensor]) -> Tensor:
        """Distance of the style (B,) relative to the limit: above 1 it is unfamiliar."""
        return self.reference.distance(coordinates) / self.reference.limit

    def totals(self, found: Tensor) -> Tensor:
        """Weighted sums (B, 2) of deviations (B, 5): of the content, and of all parts."""
        weighted = found * self.weights
        return torch.stack([weighted[:, 1:].sum(1), weighted.sum(1)], 1)


def logit(probability: Tensor) -> Tensor:
    return torch.logit(probability.float(), eps=1e-6)


def columns(reference: Reference, coordinates: Mapping[str, Tensor], quality: Tensor) -> Tensor:
    """What is compared with clean pictures (B, 5): the logit of the quality, and the typicality of the content."""
    return torch.cat([logit(quality)[:, None], reference.typicality(coordinates)], 1)


def deviations(values: Tensor, low: Tensor, middle: Tensor) -> Tensor:
    """Values relative to clean pictures: 0 for their median, -1 for their 5 % quantile. As a probability (see `Judge`)
    this is 0.95 and 0.5."""
    return ((values - middle) / (middle - low).clamp_min(1e-6)).clamp(LOWEST, HIGHEST)


def fit(coordinates: Mapping[str, Tensor], quality: Tensor, weights: Tensor, *, own: bool) -> Reference:
    """The Reference of clean pictures (N pictures). Quantiles are measured on pictures that the distributions were not
    fitted to: each half by the other."""
    count = len(quality)
    halves = torch.arange(count) % 2 == 0
    distributions = [_distribution(coordinates, part) for part in (halves, ~halves, torch.ones(count).bool())]
    empty = torch.zeros(7)
    references = [Reference(centre, root, empty, empty, empty, empty) for centre, root in distributions]
    seen = torch.empty(count, len(PARTS))
    for mask, reference in ((~halves, references[0]), (halves, references[1])):
        seen[mask] = columns(reference, {p: y[mask] for p, y in coordinates.items()}, quality[mask])
    low, middle = _quantiles(seen)
    found = deviations(seen, low, middle)
    if not own:
        found[:, 0] = (logit(quality) / SURE - 1).clamp(LOWEST, HIGHEST)
    judge = Judge(Basis({}, {}), references[2], weights, own)
    total_low, total_middle = _quantiles(judge.totals(found))
    known = coordinates["face"]
    apart = torch.cdist(known, known).fill_diagonal_(math.inf).topk(NEIGHBOURS, largest=False).values.mean(1)
    return dataclasses.replace(
        references[2],
        low=torch.cat([low, total_low]),
        middle=torch.cat([middle, total_middle]),
        known=known,
        limit=apart.quantile(0.99),
    )


def _distribution(coordinates: Mapping[str, Tensor], chosen: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Means, and inverse square roots of the covariances, shrunk towards the built-in ones: the identity."""
    centre, root = {}, {}
    for part, values in coordinates.items():
        rows = values[chosen].double()
        mean = rows.mean(0)
        deviation = rows - mean
        shrunk = deviation.T @ deviation + PRIOR * torch.eye(rows.shape[1], dtype=torch.float64)
        inverse = torch.linalg.inv(shrunk / (len(rows) + PRIOR))
        centre[part], root[part] = mean.float(), torch.linalg.cholesky(inverse).float()
    return centre, root


def _quantiles(values: Tensor) -> tuple[Tensor, Tensor]:
    low, middle = values.quantile(torch.tensor([0.05, 0.5]), 0)
    return low, middle


@functools.cache
def builtin(device: torch.device) -> Judge:
    """The Judge of drawn faces in the styles that Kyara knows, loaded once."""
    tensors = {name: tensor.float().to(device) for name, tensor in load_file(FILE).items()}
    groups: dict[str, dict[str, Tensor]] = {
        group: {part: tensors[f"{group}.{part}"] for part in CONTENT} for group in ("mean", "whiten", "centre", "root")
    }
    numbers = {name: tensors[name] for name in ("low", "middle", "known", "limit")}
    reference = Reference(groups["centre"], groups["root"], **numbers)
    return Judge(Basis(groups["mean"], groups["whiten"]), reference, tensors["weights"])


def of_owner(coordinates: Mapping[str, Tensor], quality: Tensor, known: Judge) -> Judge:
    """The Judge that compares with at least `LEAST` clean pictures of the owner, of coordinates (N, k) by the basis of
    `known` and qualities (N,). On the device of `known`."""
    reference = fit(coordinates, quality, known.weights.cpu(), own=True)
    return dataclasses.replace(known, reference=reference.to(known.weights.device), own=True)
