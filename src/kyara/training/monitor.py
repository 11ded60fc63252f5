"""Detects training failures other than non-finite losses: an overconfident discriminator, and mode collapse."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

WARM_UP = 20_000  # no reports before this many pictures: untrained networks look collapsed
WON = 0.98  # absolute mean sign of the logits above which the discriminator is always right
PATIENCE = 32  # consecutive readings before a discriminator that is always right is reported
COLLAPSED = 0.1  # samples have collapsed if their diversity relative to real pictures is below this
QUANTILE, IGNORED = 0.99, 0.03
"""An attribute value has no effect if this quantile of the absolute change over pixels (eyes are small) is below this
fraction of the standard deviation of real pictures."""
COMPARED = 256  # longer side in pixels to which samples of values are reduced, at least


@dataclasses.dataclass
class CollapseMonitor:
    """Detects a discriminator that is always right, and samples that have collapsed. The methods return a warning, or
    None if nothing is detected or during the first WARM_UP pictures."""

    won: int = 0  # consecutive readings with a discriminator that is always right
    warned: bool = False

    def discriminator(self, real_sign: float, fake_sign: float, nimg: int) -> str | None:
        """Warns once if the discriminator has classified everything correctly for PATIENCE consecutive readings."""
        self.won = self.won + 1 if real_sign > WON and fake_sign < -WON else 0
        if not self.won:
            self.warned = False
        if self.won < PATIENCE or nimg < WARM_UP or self.warned:
            return None
        self.warned = True
        return (
            "the discriminator classifies every picture correctly, so the generator cannot learn from it. Try more "
            "pictures, --augment ada, a lower learning rate (--set lr=...) or a larger r1_gamma, and continue from an "
            "earlier snapshot"
        )

    def diversity(self, fakes: Tensor, reals: Tensor, nimg: int) -> tuple[float, str | None]:
        """Standard deviation of samples (N, 3, H, W) relative to real pictures, and a warning if it is too low."""
        ratio = float(fakes.float().std(0).mean() / reals.float().std(0).mean().clamp_min(1e-6))
        if ratio >= COLLAPSED or nimg < WARM_UP:
            return ratio, None
        return ratio, (
            f"the samples have collapsed: their diversity is {ratio:.0%} of that of the real pictures. "
            "Continue from an earlier snapshot with a lower learning rate, or with --augment ada"
        )

    def values(
        self, rows: Tensor, conditions: Sequence[tuple[str, str]], reals: Tensor, nimg: int
    ) -> tuple[dict[str, float], str | None]:
        """Diversity of the samples of each attribute value, relative to that of real pictures (N, 3, H, W), with keys
        attribute=value. The warning lists values whose samples have collapsed, and values without effect: another value
        gives the same pictures for the same latents.

        `rows` (V, K, 3, H, W) are samples for each (attribute, value) in `conditions`, all from the same K latents."""
        rows = rows.float() / reals.float().std(0).mean().clamp_min(1e-6)
        names = ["=".join(condition) for condition in conditions]
        spread = dict(zip(names, rows.std(1).mean((1, 2, 3)).tolist(), strict=True))
        if nimg < WARM_UP:
            return spread, None
        problems = []
        if same := [name for name, share in spread.items() if share < COLLAPSED]:
            problems.append(f"the samples of {', '.join(same)} have collapsed: they are nearly identical")
        if ignored := [names[i] for i in sorted(_twins(rows, conditions))]:
            problems.append(f"{', '.join(ignored)}: the same latents give the same pictures for another value")
        advice = ". Such values may be too rare in the data; train longer, or raise label_weight"
        return spread, "; ".join(problems) + advice if problems else None


def _twins(rows: Tensor, conditions: Sequence[tuple[str, str]]) -> set[int]:
    """The conditions for which another value of the same attribute gives the same pictures, of `rows` (V, K, 3, H,
    W)."""
    pairs = [(i, j) for i, j in itertools.combinations(range(len(rows)), 2) if conditions[i][0] == conditions[j][0]]
    if not pairs:
        return set()
    if (factor := max(rows.shape[3:]) // COMPARED) > 1:  # `quantile` takes at most 16 million numbers
        rows = F.avg_pool2d(rows.flatten(1, 2), factor)[:, :, None]
    changes = torch.stack([(rows[i] - rows[j]).abs().mean((0, 1)).quantile(QUANTILE) for i, j in pairs])
    return {one for pair, change in zip(pairs, changes.tolist(), strict=True) if change < IGNORED for one in pair}
