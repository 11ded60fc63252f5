"""Detects failed training runs that produce no NaN."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from torch import Tensor

WARM_UP = 20_000  # pictures seen before anything is reported: an untrained network looks like a collapsed one
WON = 0.98  # mean signs of the discriminator's logits beyond which it is right about nearly every picture
PATIENCE = 32  # readings in a row after which a discriminator that is always right is reported
COLLAPSED = 0.1  # samples have collapsed if they differ by less than this share of what real pictures do
QUANTILE, IGNORED = 0.99, 0.03
"""A value has no effect if even where it changes pictures most, in one pixel of a hundred (eyes are small), the change
is less than this share of how much real pictures differ."""


@dataclasses.dataclass
class CollapseMonitor:
    """Recognises a discriminator that has won, and samples that have collapsed. Every method returns a message, or None
    while all is well or fewer than WARM_UP pictures have been seen."""

    won: int = 0  # readings in a row in which the discriminator was always right
    warned: bool = False

    def discriminator(self, real_sign: float, fake_sign: float, nimg: int) -> str | None:
        """A message, once, when the discriminator has been right about everything for PATIENCE readings in a row."""
        self.won = self.won + 1 if real_sign > WON and fake_sign < -WON else 0
        if not self.won:
            self.warned = False
        if self.won < PATIENCE or nimg < WARM_UP or self.warned:
            return None
        self.warned = True
        return (
            "the discriminator has won: it is right about every picture, so the generator learns nothing. Try more "
            "pictures, --augment ada, a lower learning rate (--set lr=...) or a larger r1_gamma, and continue from an "
            "earlier snapshot"
        )

    def diversity(self, fakes: Tensor, reals: Tensor, nimg: int) -> tuple[float, str | None]:
        """How much samples (N, 3, H, W) differ, as a share of how much real pictures do; a message if hardly at all."""
        ratio = float(fakes.float().std(0).mean() / reals.float().std(0).mean().clamp_min(1e-6))
        if ratio >= COLLAPSED or nimg < WARM_UP:
            return ratio, None
        return ratio, (
            f"the samples have collapsed: they differ from each other {ratio:.0%} as much as the real pictures do. "
            "Continue from an earlier snapshot with a lower learning rate, or with --augment ada"
        )

    def values(
        self, rows: Tensor, conditions: Sequence[tuple[str, str]], reals: Tensor, nimg: int
    ) -> tuple[dict[str, float], str | None]:
        """How much samples with the same value differ from each other, by attribute=value, as a share of how much real
        pictures (N, 3, H, W) do. The message names values whose samples are all the same, and values without effect:
        the same latents give the same pictures for another value.

        `rows` (V, K, 3, H, W) holds the samples of each (attribute, value) of `conditions`, of the same K latents."""
        rows = rows.float() / reals.float().std(0).mean().clamp_min(1e-6)
        names = ["=".join(condition) for condition in conditions]
        spread = dict(zip(names, rows.std(1).mean((1, 2, 3)).tolist(), strict=True))
        if nimg < WARM_UP:
            return spread, None
        problems = []
        if same := [name for name, share in spread.items() if share < COLLAPSED]:
            problems.append(f"the samples of {', '.join(same)} have collapsed: they hardly differ from each other")
        if ignored := [names[i] for i in range(len(rows)) if _has_twin(rows, conditions, i)]:
            problems.append(f"{', '.join(ignored)}: the same latents give the same pictures for another value")
        advice = ". Such values may be too rare in the data; train longer, or raise label_weight"
        return spread, "; ".join(problems) + advice if problems else None


def _has_twin(rows: Tensor, conditions: Sequence[tuple[str, str]], i: int) -> bool:
    """Whether another value of the same attribute gives the same pictures (K, 3, H, W) as the i-th."""
    others = [j for j, (attribute, _) in enumerate(conditions) if attribute == conditions[i][0] and j != i]
    changes = ((rows[i] - rows[j]).abs().mean((0, 1)).quantile(QUANTILE) for j in others)
    return any(float(change) < IGNORED for change in changes)
