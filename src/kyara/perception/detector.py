"""The face detector: finds drawn faces and faces in photos, in whole illustrations of any size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kyara.files import checkpoint, pictures
from kyara.files.errors import CheckpointError
from kyara.perception.face_network import Network, cells, decode
from kyara.perception.face_refiner import Refiner, confirm, cut, squares

BUILTIN = "builtin:face-detector"
SIZES = (320, 640, 1024)  # longer sides, in pixels, to which a picture is resized
PADDED = 0.5  # and the size, relative to a canvas of the first of them, of a copy with a margin, for very large faces
CANDIDATE = 0.08  # minimum score by the first stage of what the second stage looks at
THRESHOLD = 0.84  # default of `FaceDetector.threshold`: a precision of 0.87 on validation pictures
SAME_FACE = 0.45  # of two boxes with a larger intersection over union, the one with the lower score is removed
PART = 0.7
"""Of two boxes, one with a larger share inside the other: the inner one, if it scores lower, is a part of a face."""
WHOLE = 0.84
"""The outer one, if it scores lower, is kept from this score on, as a face behind another figure."""
CANDIDATES = 400  # maximum number of boxes before that
MIRRORED = (1, 0, 2, 4, 3)  # index of each point after mirroring


@dataclass(frozen=True)
class Faces:
    """The faces in a picture, those with the highest scores first."""

    boxes: np.ndarray  # (N, 4) float32: x0, y0, x1, y1 in pixels, from hairline to chin and from cheek to cheek
    scores: np.ndarray  # (N,) float32 in [0, 1]
    points: np.ndarray  # (N, 5, 2) float32: x, y in pixels, in the order of `face_network.POINTS`

    def __len__(self) -> int:
        return len(self.scores)


class FaceDetector:
    """Finds faces from 12 pixels of 1,024 to those that fill the picture."""

    def __init__(
        self,
        name: str | Path = BUILTIN,
        device: torch.device | str = "cpu",
        *,
        threshold: float = THRESHOLD,
        flip: bool = False,
    ) -> None:
        """`threshold` is the minimum score. With `flip` the first stage searches mirrored copies too, in twice the
        time; the second always sees both. Raises CheckpointError if `name` is no face detector."""
        self.device, self.threshold, self.flip = torch.device(device), threshold, flip
        found = checkpoint.read(name)
        if found.model != "detector":
            raise CheckpointError(f"{found.path}: a {found.model}, not a face detector; use {BUILTIN}")
        weights = {k.removeprefix("net_ema."): t for k, t in found.weights().items()}
        with torch.random.fork_rng(devices=[]):
            self.network = Network(**found.config["network"])
        self.network.load_state_dict({key: tensor.float() for key, tensor in weights.items()})
        self.network.to(self.device).eval().requires_grad_(False)

    @torch.inference_mode()
    def __call__(self, picture: np.ndarray) -> Faces:
        """The faces in a picture (H, W, 3) uint8 with a score of at least `threshold`. In float32, even if the caller
        computes in bfloat16."""
        with torch.autocast(self.device.type, enabled=False):
            return self._faces(picture)

    def _faces(self, picture: np.ndarray) -> Faces:
        found = [self._search(copy, scale, offset) for copy, scale, offset in _copies(picture)]
        boxes, scores, points = (torch.cat(parts) for parts in zip(*found, strict=True))
        kept = candidates(self.network, boxes, scores)
        shares = votes(boxes, scores, kept)
        height, width = picture.shape[:2]
        limits = boxes.new_tensor([width, height, width, height])
        boxes, scores = (shares @ boxes).clamp_min(0).minimum(limits), scores[kept]
        points = (shares @ points.flatten(1)).view(-1, *points.shape[1:])
        if self.network.refiner is not None and len(boxes):
            boxes, scores = self._confirm(self.network.refiner, picture, boxes, scores)
            kept = suppress(boxes, scores)  # the boxes of two candidates can be corrected to the same face
            kept = kept[scores[kept] >= self.threshold]
            boxes, scores, points = boxes[kept].clamp_min(0).minimum(limits), scores[kept], points[kept]
        return Faces(boxes.numpy(), scores.numpy(), points.numpy())

    def _confirm(self, refiner: Refiner, picture: np.ndarray, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes and scores after the second stage."""
        where = squares(boxes)
        crops = pictures.to_float(cut(picture, where.numpy())).to(self.device)
        boxes, scores = confirm(refiner, crops, where.to(self.device), scores.to(self.device))
        return boxes.cpu(), scores.cpu()

    def _search(self, copy: np.ndarray, scale: np.ndarray, offset: int) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, scores and points, in pixels of the picture, of a copy (H, W, 3) that is `scale` (2,) times as large
        and shifted by `offset`."""
        pixels = pictures.to_float(copy[None]).to(self.device)
        centres, strides = cells(copy.shape[0], copy.shape[1], self.device)
        boxes, scores, points = predict(self.network, pixels, centres, strides)
        if self.flip:
            width = copy.shape[1]
            mirrored = predict(self.network, pixels.flip(3), centres, strides)
            boxes = torch.cat([boxes, (boxes.new_tensor([width, 0, width, 0]) - mirrored[0]).abs()[:, [2, 1, 0, 3]]])
            scores = torch.cat([scores, mirrored[1]])
            back = mirrored[2][:, list(MIRRORED)]
            points = torch.cat([points, torch.stack([width - back[..., 0], back[..., 1]], 2)])
        least = self.threshold if self.network.refiner is None else min(CANDIDATE, self.threshold)
        best = (scores >= least).nonzero().flatten()
        ratio = torch.from_numpy(np.tile(scale, 2).astype(np.float32))
        boxes, points = (boxes[best].cpu() - offset) / ratio, (points[best].cpu() - offset) / ratio[:2]
        return boxes, scores[best].cpu(), points


def predict(network: Network, pixels: Tensor, centres: Tensor, strides: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (A, 4), scores (A,) and points (A, 5, 2) of all cells of one picture (1, 3, H, W) in [-1, 1]."""
    raw = network(pixels)
    boxes, points = decode(raw, centres, strides)
    return boxes[0], raw[0, :, 0].sigmoid(), points[0]


def _copies(picture: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """Resized copies (h, w, 3) of a picture, their sizes relative to it as (x, y), and their offsets."""
    longest, smallest = max(picture.shape[:2]), SIZES[0]
    found, source = [], picture
    for size in reversed([size for size in SIZES if size == smallest or size <= 2 * longest]):
        copy = _resized(source, picture, size)
        found.append((copy, _ratio(copy, picture), 0))
        if size <= longest:  # a reduced copy is enough for the smaller ones, at a fraction of the time
            source = copy
    small = _resized(source, picture, round(smallest * PADDED))
    margin = (smallest - max(small.shape[:2])) // 2
    canvas = np.pad(small, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    return [*reversed(found), (canvas, _ratio(small, picture), margin)]


def _resized(source: np.ndarray, picture: np.ndarray, longest: int) -> np.ndarray:
    """A copy of `picture` with a longer side of `longest`, from `source`, which is the same at this size or larger."""
    height, width = (max(1, round(side * longest / max(picture.shape[:2]))) for side in picture.shape[:2])
    return pictures.resize(source, width, height, by="box" if longest < max(source.shape[:2]) else "lanczos")


def _ratio(copy: np.ndarray, picture: np.ndarray) -> np.ndarray:
    return np.array([copy.shape[1] / picture.shape[1], copy.shape[0] / picture.shape[0]])


def candidates(network: Network, boxes: Tensor, scores: Tensor) -> Tensor:
    """`suppress` after the first stage. Boxes around others remain for the second stage, which decides, if there is
    one."""
    return suppress(boxes, scores, WHOLE if network.refiner is None else 0.0)


def suppress(boxes: Tensor, scores: Tensor, whole: float = WHOLE) -> Tensor:
    """Non-maximum suppression: indices of the boxes (N, 4) that overlap no box with a higher score (N,), best first.
    Boxes around another one with a higher score are kept from a score of `whole` on."""
    order = scores.argsort(descending=True, stable=True)[:CANDIDATES]
    one, other = boxes[order][:, None], boxes[order][None]
    both, areas = shared(one, other), (boxes[order][:, 2:] - boxes[order][:, :2]).prod(1)
    inside = both > PART * areas[:, None]  # in the other one
    around = (both > PART * areas) & (scores[order] < whole)[:, None]
    same = ((iou(one, other) > SAME_FACE) | inside | around).cpu().numpy()
    kept: list[int] = []
    for i in range(len(order)):
        if not same[i, kept].any():
            kept.append(i)
    return order[kept]


def votes(boxes: Tensor, scores: Tensor, kept: Tensor) -> Tensor:
    """Weights (K, N), with a sum of 1, of all boxes (N, 4) in the mean of those that overlap each of the `kept` ones
    (K,): the squares of their scores (N,). All cells that found a face are together more exact than the best one ("box
    voting", Gidaris and Komodakis 2015)."""
    same = iou(boxes[kept][:, None], boxes[None]) > SAME_FACE
    weights = same * scores.square()
    return weights / weights.sum(1, keepdim=True).clamp_min(1e-12)


def shared(one: Tensor, other: Tensor) -> Tensor:
    """Area of the intersection of boxes (..., 4), broadcast."""
    sides = torch.minimum(one[..., 2:], other[..., 2:]) - torch.maximum(one[..., :2], other[..., :2])
    return sides.clamp_min(0).prod(-1)


def iou(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 4), broadcast."""
    both = shared(one, other)
    areas = [(box[..., 2:] - box[..., :2]).prod(-1) for box in (one, other)]
    return both / (areas[0] + areas[1] - both).clamp_min(1e-6)
