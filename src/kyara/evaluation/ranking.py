"""The score of `kyara rank` as a score of sets: whether pictures are whole, and typical of the real pictures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from kyara.curation.content import LEAST, Judge
from kyara.curation.judging import FEW, SCORE, STYLE, By, TooFewError, learned, measure_of, measure_style
from kyara.curation.scoring import BATCH, Measure, crop, fitted
from kyara.evaluation.features import Size, chunked, resized
from kyara.evaluation.sets import evenly_spaced
from kyara.files.dataset import Dataset
from kyara.files.errors import PictureError
from kyara.files.pictures import center_crop, to_float
from kyara.files.workers import processors, thread_map
from kyara.models.base import Scorer

BY: By = "both"  # quality and content: the quality alone takes noise, which it never saw, for whole pictures
KNOWN = 1000  # real pictures that others are compared with, at most


@dataclass
class RankScore:
    """The score of pictures as `kyara rank --like REALS` gives it; without enough real pictures, as `kyara rank`."""

    scorer: Scorer
    size: Size  # to which all pictures are resized first, so that their resolution says nothing
    reals: Dataset | None = None

    @property
    def resizer(self) -> str:
        """Describes how pictures are resized."""
        data = self.scorer.config.data
        return resized(self.size, (data.width, data.height))

    @cached_property
    def judge(self) -> Judge | None:
        """The Judge that compares with every second real picture, without copies; None for the built-in one."""
        if self.reals is None or len(self.reals) < 2 * LEAST:
            return None
        with contextlib.suppress(TooFewError):
            return learned(self._reals(0, measure_style(self.scorer)), self.scorer)
        return None

    @cached_property
    def of_reals(self) -> np.ndarray | None:
        """Scores (n,) of real pictures with which no others are compared; None without a Judge of real pictures."""
        rows = None if self.judge is None else self._reals(1, self._measure)
        return None if rows is None or not len(rows) else rows[:, SCORE[BY]]

    @cached_property
    def _measure(self) -> Measure:
        return measure_of(self.scorer, by=BY, judge=self.judge, check_style=True)

    def __call__(self, pictures: list[np.ndarray]) -> np.ndarray:
        """Scores and distances of the style, (B, 2), of pictures (H, W, 3) uint8 of any size."""
        return self._rows(pictures, self._measure)[:, [SCORE[BY], STYLE]]

    @torch.inference_mode()
    def _rows(self, pictures: list[np.ndarray], measure: Measure) -> np.ndarray:
        rows: np.ndarray = measure(to_float(fitted(pictures, self.scorer))).float().cpu().numpy()
        return rows

    def unfamiliar(self, styles: np.ndarray) -> bool:
        """Whether scores are not calibrated, since the built-in Judge does not know the style of many pictures."""
        return self.judge is None and float((styles > 1).mean()) > FEW

    def _reals(self, first: int, measure: Measure) -> np.ndarray:
        """Rows of `measure` for every second real picture from `first` on, at most KNOWN; unreadable ones are left
        out."""
        rows = [self._rows(group, measure) for group in chunked(self._decode(first), BATCH)]
        return np.concatenate(rows) if rows else np.empty((0, 0), np.float32)

    def _decode(self, first: int) -> Iterator[np.ndarray]:
        assert self.reals is not None
        dataset, threads = self.reals, processors()

        def load(i: int) -> np.ndarray:
            return crop(center_crop(dataset.picture(i), *self.size), self.scorer)

        indices = (2 * i + first for i in evenly_spaced(len(dataset) // 2, KNOWN))
        for _, picture in thread_map(load, indices, threads, 4 * threads):
            if isinstance(picture, np.ndarray):
                yield picture
            elif not isinstance(picture, PictureError | OSError):
                raise picture
