"""When a run ends before --kimg: it no longer improves, or it repeats its pictures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

MEMORISED = 0.5
"""Samples that are, in the median, less than this share as far from the nearest real picture as that one is from its
own nearest neighbour are copies; the same limit as that of the score `copies` of `kyara evaluate`."""


@dataclasses.dataclass
class EarlyStop:
    """Follows the scores of the snapshots that --snap schedules. Others, where a run was interrupted, do not count:
    a run that was interrupted ends where it would have ended anyway."""

    lowest: float = math.inf  # the lowest first score so far
    waited: int = 0  # snapshots since then
    nearest: float = math.inf  # see `perception.features.nearest_ratio`

    def read(self, scores: Mapping[str, float]) -> None:
        """Takes note of the scores of a snapshot. The first one is the one that counts; lower is better."""
        score = next(iter(scores.values()), -math.inf)
        self.waited = 0 if score < self.lowest else self.waited + 1
        self.lowest = min(self.lowest, score)
        self.nearest = scores.get("nearest", math.inf)

    def reason(self, patience: int) -> str | None:
        """Why the run ends now, if it does; never with a patience of 0."""
        if patience and self.nearest < MEMORISED:
            return f"the samples are copies of the data (nearest {self.nearest:.2f}); --patience 0 trains on"
        if patience and self.waited >= patience:
            return f"no better snapshot among the last {self.waited}; a larger --patience trains on"
        return None
