"""Content of faces: whether eyes, mouth and the whole face look as they do in clean pictures.

`builtin:landmarks` looks at a picture once. The mean of its feature maps around the eyes, around the mouth and in the
whole picture, and the positions of the twelve points, are four descriptors. The distance of each to the nearest clean
pictures says how typical it is: a melted eye is far from all clean ones. Rare is not broken: glasses, closed eyes or
dark skin have neighbours too, as long as clean pictures have them."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

FILE = Path(__file__).with_name("content.safetensors")  # written by benchmarks/content.py
CONTENT = ("eyes", "mouth", "face", "shape")
PARTS = ("quality", *CONTENT)
FACE = CONTENT.index("face")
GROUPS = ("mean", "whiten", "known")  # of tensors in FILE, one for each part
SURE = math.log(19)  # logit of 0.95
LOWEST, HIGHEST = -6.0, 1.5  # limits of a deviation: beyond them one part alone decides nothing more
NEIGHBOURS = 3  # clean pictures that a picture is compared with
AT_ONCE = 1024  # rows that are compared with all clean pictures
LEAST = 20  # pictures of the owner


@dataclasses.dataclass(frozen=True)
class Basis:
    """Linear maps of the descriptors to whitened coordinates, in which clean drawings have zero mean and unit
    variance."""

    mean: Mapping[str, Tensor]  # part -> (D,)
    whiten: Mapping[str, Tensor]  # part -> (D, k)

    def coordinates(self, descriptors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Part -> (B, k), of `perception.face_parts.describe`."""
        return {part: (descriptors[part] - self.mean[part]) @ self.whiten[part] for part in CONTENT}


@dataclasses.dataclass(frozen=True)
class Reference:
    """Clean pictures, and how far they are from each other."""

    known: Mapping[str, Tensor]  # part -> (N, k), coordinates of the clean pictures
    low: Tensor  # (7,): of each part, of the content and of both; 5 % of clean pictures are below
    middle: Tensor  # (7,): the median of clean pictures
    limit: Tensor  # (): distance of the part face that 1 % of clean pictures exceed

    def distances(self, coordinates: Mapping[str, Tensor]) -> Tensor:
        """Mean distances (B, 4) to the nearest clean pictures, of each part of the content."""
        return torch.stack([nearest(coordinates[part], self.known[part]) for part in CONTENT], 1)

    def to(self, device: torch.device) -> Reference:
        """A copy on another device."""
        known = {part: rows.to(device) for part, rows in self.known.items()}
        return Reference(known, self.low.to(device), self.middle.to(device), self.limit.to(device))


def nearest(rows: Tensor, known: Tensor, *, skip_itself: bool = False) -> Tensor:
    """Mean distances (B,) of rows (B, k) to their nearest in `known` (N, k), where each is itself one of them if
    `skip_itself`."""
    found = []
    for begin in range(0, max(len(rows), 1), AT_ONCE):  # all distances of many pictures would fill the memory
        apart = torch.cdist(rows[begin : begin + AT_ONCE], known)
        if skip_itself:
            apart.diagonal(begin).fill_(math.inf)
        found.append(apart.topk(NEIGHBOURS, largest=False).values.mean(1))
    return torch.cat(found)


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
        clean, distances = self.reference, self.reference.distances(coordinates)
        found = self.deviations(quality, distances)
        totals = deviations(self.totals(found), clean.low[5:], clean.middle[5:])
        values = torch.sigmoid(SURE * (torch.cat([found, totals], 1) + 1))
        return torch.cat([values, distances[:, FACE, None] / clean.limit], 1)

    def style(self, coordinates: Mapping[str, Tensor]) -> Tensor:
        """Distance of the style (B,) relative to the limit: above 1 it is unfamiliar."""
        return nearest(coordinates["face"], self.reference.known["face"]) / self.reference.limit

    def deviations(self, quality: Tensor, distances: Tensor) -> Tensor:
        """Deviations (B, 5) of PARTS from clean pictures, for the probabilities (B,) and distances (B, 4)."""
        clean = self.reference
        found = deviations(raw(quality, distances), clean.low[:5], clean.middle[:5])
        if not self.own:  # the scorer's probability is calibrated already
            found[:, 0] = (logit(quality) / SURE - 1).clamp(LOWEST, HIGHEST)
        return found

    def totals(self, found: Tensor) -> Tensor:
        """Weighted sums (B, 2) of deviations (B, 5): of the content, and of all parts."""
        weighted = found * self.weights
        return torch.stack([weighted[:, 1:].sum(1), weighted.sum(1)], 1)


def logit(probability: Tensor) -> Tensor:
    return torch.logit(probability.float(), eps=1e-6)


def raw(quality: Tensor, distances: Tensor) -> Tensor:
    """What is compared with clean pictures (B, 5), higher is better: the logit of the quality, and the negative
    logarithms of the distances."""
    return torch.cat([logit(quality)[:, None], -distances.clamp_min(1e-6).log()], 1)


def deviations(values: Tensor, low: Tensor, middle: Tensor) -> Tensor:
    """Values relative to clean pictures: 0 for their median, -1 for their 5 % quantile. As a probability (see `Judge`)
    this is 0.95 and 0.5."""
    return ((values - middle) / (middle - low).clamp_min(1e-6)).clamp(LOWEST, HIGHEST)


def fit(basis: Basis, coordinates: Mapping[str, Tensor], quality: Tensor, weights: Tensor, *, own: bool) -> Judge:
    """The Judge that compares with clean pictures of these coordinates (N, k) and probabilities (N,). Its quantiles are
    those of the distances of each clean picture to the others."""
    distances = torch.stack([nearest(coordinates[p], coordinates[p], skip_itself=True) for p in CONTENT], 1)
    low, middle = _quantiles(raw(quality, distances))
    judge = Judge(basis, Reference(coordinates, low, middle, distances[:, FACE].quantile(0.99)), weights, own)
    total_low, total_middle = _quantiles(judge.totals(judge.deviations(quality, distances)))
    low, middle = torch.cat([low, total_low]), torch.cat([middle, total_middle])
    return dataclasses.replace(judge, reference=dataclasses.replace(judge.reference, low=low, middle=middle))


def _quantiles(values: Tensor) -> tuple[Tensor, Tensor]:
    """The 5 % quantile and the median of each column."""
    low, middle = values.quantile(torch.tensor([0.05, 0.5]), 0)
    return low, middle


@functools.cache
def builtin(device: torch.device) -> Judge:
    """The Judge of drawn faces in the styles that Kyara knows, loaded once."""
    tensors = {name: tensor.float().to(device) for name, tensor in load_file(FILE).items()}
    mean, whiten, known = ({part: tensors[f"{group}.{part}"] for part in CONTENT} for group in GROUPS)
    reference = Reference(known, tensors["low"], tensors["middle"], tensors["limit"])
    return Judge(Basis(mean, whiten), reference, tensors["weights"])


def of_owner(coordinates: Mapping[str, Tensor], quality: Tensor, known: Judge) -> Judge:
    """The Judge that compares with at least `LEAST` clean pictures of the owner, of coordinates (N, k) by the basis of
    `known` and probabilities (N,). On the device of `known`."""
    judge = fit(known.basis, coordinates, quality, known.weights.cpu(), own=True)
    return dataclasses.replace(judge, reference=judge.reference.to(known.weights.device), weights=known.weights)
