"""Face detector: boxes and five points of the faces in whole illustrations and photos, in two stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.data.restyle import restyle
from kyara.models import base
from kyara.models.detector import second
from kyara.models.detector.config import PRESETS, Config
from kyara.models.detector.matching import Match, assign, giou
from kyara.models.detector.views import Targets, targets, vary
from kyara.nn.constants import constant
from kyara.nn.seeding import fixed_seed
from kyara.perception.detector import CANDIDATE, MIRRORED, candidates, iou, suppress
from kyara.perception.face_network import Network, cells, decode
from kyara.perception.face_refiner import confirm, sampled, squares

RECALL_AT = 0.95  # precision at which `measure` reports the recall


class Model(base.Detector):
    """Single-shot detector with SimOTA (Ge et al. 2021) and the quality focal loss (Li et al. 2020), and a second stage
    that confirms and corrects what it finds."""

    presets = PRESETS
    phases = ("train",)
    augments = False
    averages: ClassVar[Mapping[str, str]] = {"net": "net_ema"}
    data_spec = base.DataSpec(boxes=True, holdout=0.03)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config = config
        if not config.losses.first and not (config.losses.second and config.network.refiner):
            raise ValueError("losses.first=0 needs a second stage to train: losses.second and network.refiner")
        self.net = Network(**vars(config.network))
        self.net_ema = self.average(self.net)

    def losses(self, phase: str, batch: base.Batch) -> dict[str, Tensor]:
        with torch.no_grad(), torch.autocast(batch.real.device.type, enabled=False):
            pictures, found = vary(batch.real, unmirrored(batch), self.config.augment)
        centres, strides = cells(pictures.shape[2], pictures.shape[3], pictures.device)
        weights, losses = self.config.losses, dict[str, Tensor]()
        with torch.set_grad_enabled(torch.is_grad_enabled() and weights.first > 0):
            raw = self.net(pictures)
        with torch.autocast(pictures.device.type, enabled=False):
            boxes, points = decode(raw, centres, strides)
            logits = raw[..., 0]
            if weights.first:
                with torch.no_grad():
                    match = assign(boxes, logits, found, centres, strides)
                batch.log["positives"] = match.positive.sum() / found.learned.sum().clamp_min(1)
                losses |= self._compare(boxes, points, logits, found, match, centres)
        if self.net.refiner is not None and weights.second:
            with torch.no_grad(), torch.autocast(pictures.device.type, enabled=False):
                chosen = second.choose(boxes, logits, found)
            score, box = second.compare(self.net.refiner, pictures, chosen)
            losses |= {"second/score": score * weights.second, "second/box": box * weights.second}
        return losses

    def _compare(
        self, boxes: Tensor, points: Tensor, logits: Tensor, found: Targets, match: Match, centres: Tensor
    ) -> dict[str, Tensor]:
        """The losses of predictions of all cells, given the face of each."""
        weights, count = self.config.losses, match.positive.sum().clamp_min(1)
        target = found.boxes.gather(1, match.face[..., None].expand(-1, -1, 4))
        quality = iou(boxes.detach(), target) * match.positive
        focus = (quality - logits.detach().sigmoid()).abs() ** weights.focus
        inside = ((centres > found.boxes[:, :, None, :2]) & (centres < found.boxes[:, :, None, 2:])).all(3)
        free = match.positive | ~(inside & found.ignored[..., None]).any(1)
        score = F.binary_cross_entropy_with_logits(logits, quality, reduction="none") * focus * free
        box = (1 - giou(boxes, target)) * match.positive
        place = found.points.gather(1, match.face[..., None, None].expand(-1, -1, *found.points.shape[2:]))
        known = place.isfinite() & match.positive[..., None, None]
        size = (target[..., 2:] - target[..., :2]).amax(2).clamp_min(1)[..., None, None]
        off = torch.where(known, (points - place.nan_to_num()) / size, 0.0)
        off = F.smooth_l1_loss(off, torch.zeros_like(off), beta=0.05, reduction="none")
        return {
            "score": score.sum() / count * weights.first,
            "box": box.sum() / count * weights.box * weights.first,
            "points": off.sum() / known.sum().clamp_min(1) * weights.points * weights.first * weights.points_scale,
        }

    def detect(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        raw = self.net_ema(pictures)
        boxes, points = decode(raw, *cells(pictures.shape[2], pictures.shape[3], pictures.device))
        return boxes, raw[..., 0].sigmoid(), points

    def measure(self, batch: base.Batch, distance: base.Distance) -> dict[str, float]:
        """1 - average precision at an IoU of 0.5, and the recall at a precision of 0.95, on the pictures as they are
        and restyled with a fixed seed."""
        with fixed_seed(0, batch.real.device):
            other = torch.cat([restyle(part, 1.0) for part in batch.real.split(16)])
        found: dict[str, float] = {}
        for name, pictures in (("", batch.real), ("/restyled", other)):
            scores, right, total = self._search(pictures, unmirrored(batch))
            precision, recall = curve(scores, right, total)
            found[f"missed{name}"] = 1 - average_precision(precision, recall)
            enough = recall[precision >= RECALL_AT]
            found[f"recall{name}"] = float(enough.max()) if len(enough) else 0.0
        return {
            "missed": (found["missed"] + found["missed/restyled"]) / 2,
            "missed/plain": found.pop("missed"),
            **found,
        }

    def _search(self, pictures: Tensor, faces: Tensor) -> tuple[Tensor, Tensor, int]:
        """Scores (N,) of everything found in the pictures, whether it is a face, and the number of faces."""
        sides = constant((pictures.shape[3], pictures.shape[2]), faces)
        there = faces * sides
        ordered = torch.cat([there[:, :, :2].amin(2, keepdim=True), there[:, :, :2].amax(2, keepdim=True)], 2)
        known = targets(
            torch.cat([ordered, there[:, :, 2:]], 2), (pictures.shape[2], pictures.shape[3]), self.config.augment
        )
        scores, right = [], []
        for i in range(len(pictures)):
            boxes, certain = self._found(pictures[i])
            free = known.learned[i].clone()
            for score, overlap in zip(certain, iou(boxes[:, None], known.boxes[i][None]), strict=True):
                if not (overlap * free > 0.5).any() and ((overlap > 0.3) & known.ignored[i]).any():
                    continue
                scores.append(score)
                right.append((overlap * free).max() > 0.5)
                free[(overlap * free).argmax()] &= ~right[-1]
        total = int(known.learned.sum())
        if not scores:
            return torch.zeros(0), torch.zeros(0, dtype=torch.bool), total
        return torch.stack(scores).cpu(), torch.stack(right).cpu(), total

    def _found(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """The boxes (N, 4) and scores (N,) of both stages in a picture (3, H, W), best first."""
        boxes, scores, _ = (x[0].float() for x in self.detect(picture[None]))
        likely = (scores > CANDIDATE).nonzero().flatten()
        best = likely[candidates(self.net_ema, boxes[likely], scores[likely])]
        boxes, scores = boxes[best], scores[best]
        if self.net_ema.refiner is not None:
            where = squares(boxes)
            boxes, scores = confirm(self.net_ema.refiner, sampled(picture[None], where[None]), where, scores)
        kept = suppress(boxes, scores)
        return boxes[kept], scores[kept]

    def preview(self, batch: base.Batch) -> Tensor | None:
        """The pictures with the boxes found."""
        pictures = batch.real.clone()
        for i in range(len(pictures)):
            boxes, scores = self._found(pictures[i])
            for x0, y0, x1, y1 in boxes[scores > 0.5].round().int().tolist():
                x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, pictures.shape[3] - 1), min(y1, pictures.shape[2] - 1)
                colour = constant((1.0, -1.0, -1.0), pictures)[:, None]
                pictures[i, :, [y0, y1], x0 : x1 + 1] = colour[..., None]
                pictures[i, :, y0 : y1 + 1, [x0, x1]] = colour[..., None]
        return pictures


def curve(scores: Tensor, right: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """Precision and recall (N,) at each of the scores (N,) from the highest, of detections that are `right` or not."""
    hits = right[scores.argsort(descending=True, stable=True)].cumsum(0)
    return hits / torch.arange(1, len(hits) + 1), hits / max(total, 1)


def average_precision(precision: Tensor, recall: Tensor) -> float:
    """The area under the precision-recall curve, with the best precision at each recall or a higher one."""
    best = precision.flip(0).cummax(0).values.flip(0) if len(precision) else precision
    return float((best * recall.diff(prepend=torch.zeros(1))).sum())


def unmirrored(batch: base.Batch) -> Tensor:
    """The faces (B, M, 7, 2) with their points in the order of `POINTS`, also in mirrored pictures."""
    if batch.faces is None:
        raise ValueError("a detector learns from pictures with the column `boxes`")
    if batch.mirrored is None:
        return batch.faces
    order = constant((0, 1, *(2 + k for k in MIRRORED)), batch.faces, torch.int64)
    return torch.where(batch.mirrored[:, None, None, None], batch.faces.index_select(2, order), batch.faces)
