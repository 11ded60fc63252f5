"""Scores of whole datasets by quality, content or both, in known styles or in the owner's."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from kyara.curation import content
from kyara.curation.content import CONTENT, PARTS, Judge
from kyara.curation.scoring import Measure, half_precision, measure_all, score
from kyara.files.dataset import Dataset
from kyara.files.gallery_page import PART_COLUMNS, UNFAMILIAR
from kyara.models.base import Scorer
from kyara.perception.face_parts import describe

By = Literal["both", "quality", "content"]
SCORE = {"quality": 0, "content": len(PARTS), "both": len(PARTS) + 1}  # columns of `Judge`
STYLE = len(PARTS) + 2
QUALITY_COLUMNS = 2  # of the quality alone
FIRST_STEP = 4  # if the content is not judged, the style is, on every so many pictures of the first batch
MOSTLY = 0.5  # if a larger share of the pictures is in an unfamiliar style, all count as unfamiliar
FEW = 0.1  # and a threshold is refused if the share is larger than this


@dataclasses.dataclass(frozen=True)
class Judged:
    """Scores of a dataset's pictures; NaN for unreadable ones."""

    scores: list[float]  # in [0, 1]
    parts: np.ndarray | None  # (N, 5) of `content.PARTS`, in [0, 1]; None if only the quality was judged
    unfamiliar: list[bool]  # Whether the style is far from what is known, so that scores are not calibrated

    @property
    def unfamiliar_share(self) -> float:
        """Of the readable pictures."""
        flags = [flag for flag, score in zip(self.unfamiliar, self.scores, strict=True) if not math.isnan(score)]
        return sum(flags) / max(len(flags), 1)

    def cells(self, i: int) -> dict[str, str]:
        """Columns of the Gallery for the i-th picture, beside its score."""
        flag = {UNFAMILIAR: "yes"} if self.unfamiliar[i] else {}
        if self.parts is None:
            return flag
        return {column: f"{value:.4f}" for column, value in zip(PART_COLUMNS, self.parts[i], strict=True)} | flag


def judge_all(
    dataset: Dataset,
    scorer: Scorer,
    *,
    by: By,
    judge: Judge | None,
    check_style: bool,
    batch: int | None,
    workers: int,
    failed: dict[int, Exception],
    contents: dict[int, bytes] | None = None,
) -> Judged:
    """Scores all pictures. `judge` is the owner's; None compares with drawn faces in the styles that Kyara knows.
    `check_style` is for the quality alone: a scorer other than the built-in one knows other styles. The other options
    are those of `scoring.measure_all`."""
    measure = measure_of(scorer, by=by, judge=judge, check_style=check_style)
    rows = measure_all(dataset, scorer, measure, batch=batch, workers=workers, failed=failed, contents=contents)
    return judged(rows, by=by)


def measure_of(scorer: Scorer, *, by: By, judge: Judge | None, check_style: bool) -> Measure:
    """What `judged` needs of pictures; see `judge_all`."""
    known = judge or content.builtin(device_of(scorer))
    whole = by != "quality" or judge is not None
    return _all_parts(scorer, known) if whole else _quality(scorer, known, check_style)


def judged(rows: np.ndarray, *, by: By) -> Judged:
    """The scores in rows (N, C) of `measure_of`, NaN for unreadable pictures."""
    if rows.shape[1] == 1:  # nothing is readable
        return Judged(rows[:, 0].tolist(), None, [False] * len(rows))
    whole = rows.shape[1] > QUALITY_COLUMNS
    style = rows[:, STYLE if whole else 1]
    unfamiliar = style > 1
    if unfamiliar.sum() > MOSTLY * (~np.isnan(style)).sum():
        unfamiliar[:] = True
    if whole:
        return Judged(rows[:, SCORE[by]].tolist(), rows[:, : len(PARTS)], unfamiliar.tolist())
    return Judged(rows[:, 0].tolist(), None, [bool(unfamiliar.all())] * len(rows))


def device_of(scorer: Scorer) -> torch.device:
    return next(scorer.parameters()).device


def _all_parts(scorer: Scorer, judge: Judge) -> Measure:
    """The columns of `Judge`."""

    def measure(pictures: Tensor) -> Tensor:
        return judge.judge(coordinates(pictures, judge), score(pictures, scorer))

    return measure


def _quality(scorer: Scorer, judge: Judge, check_style: bool) -> Measure:
    """The quality, and for a few pictures of each batch the distance of the style; NaN for the others."""
    step = FIRST_STEP

    def measure(pictures: Tensor) -> Tensor:
        nonlocal step
        quality = score(pictures, scorer)
        style = torch.full_like(quality, torch.nan)
        if check_style:
            style[::step] = judge.style(coordinates(pictures[::step], judge))
            step = len(pictures)
        return torch.stack([quality, style], 1)

    return measure


@torch.inference_mode()
def coordinates(pictures: Tensor, judge: Judge) -> dict[str, Tensor]:
    """Coordinates (B, k) of the parts of the content, for pictures (B, 3, H, W) in [-1, 1]."""
    with half_precision(pictures.device):
        descriptors = describe(pictures)
    return judge.basis.coordinates({part: found.float() for part, found in descriptors.items()})


def learn_style(art: Dataset, scorer: Scorer, *, batch: int | None, workers: int) -> Judge:
    """The Judge that compares with the owner's own clean pictures. Raises ValueError if fewer than `content.LEAST` of
    them, without copies, can be read."""
    rows = measure_all(art, scorer, measure_style(scorer), batch=batch, workers=workers, failed={})
    try:
        return learned(rows[~np.isnan(rows[:, 0])], scorer)
    except TooFewError as error:
        raise ValueError(f"--like {art.path}: {error}") from error


def measure_style(scorer: Scorer) -> Measure:
    """What `learned` needs of pictures."""
    known = content.builtin(device_of(scorer))

    def measure(pictures: Tensor) -> Tensor:
        found = coordinates(pictures, known)
        return torch.cat([*(found[part] for part in CONTENT), score(pictures, scorer)[:, None]], 1)

    return measure


class TooFewError(ValueError):
    """There are too few different pictures to compare with."""


def learned(rows: np.ndarray, scorer: Scorer) -> Judge:
    """The Judge that compares with clean pictures, of which there are rows of `measure_style`. Raises TooFewError if
    fewer than `content.LEAST` of them, without copies, are left."""
    if len(rows):  # the distance of a copy to the others is 0
        rows = rows[np.sort(np.unique(rows.round(3), axis=0, return_index=True)[1])]
    if len(rows) < content.LEAST:
        raise TooFewError(f"{len(rows)} different readable pictures; give {content.LEAST} or more clean ones")
    known = content.builtin(device_of(scorer))
    widths = [known.basis.whiten[part].shape[1] for part in CONTENT]
    *parts, quality = torch.from_numpy(rows).split([*widths, 1], 1)
    return content.of_owner(dict(zip(CONTENT, parts, strict=True)), quality[:, 0], known)
