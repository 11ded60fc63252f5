"""What a run tells about itself: stats.jsonl, TensorBoard, and the alarms that a person would want to hear."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kyara.files.atomic import write_atomic

STATS = "stats.jsonl"
SURE = 0.98
"""Mean signs of the discriminator's logits beyond which it is right about nearly every picture."""
PATIENCE = 32
"""Ticks in a row that a discriminator may be that sure before it is said."""

COLLAPSED = 0.1
"""Samples that differ from each other less than this share of how much the real pictures do have collapsed."""
TOUCHED, IGNORED = 0.99, 0.03
"""A value makes no difference if even where it changes pictures most, in one pixel of a hundred (eyes are small), the
change is less than this share of how much the real pictures differ."""


class Means:
    """Running means of scalars, kept on their device: nothing waits for the GPU until they are read."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = defaultdict(int)

    def add(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            value = value.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value.clone()
            self._counts[name] += 1

    def take(self) -> dict[str, float]:
        """The means since the last call."""
        means = {name: float(total) / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts = {}, defaultdict(int)
        return means

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self._sums, "counts": dict(self._counts)}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Half-finished means matter: the adaptive augmentation follows them."""
        self._sums = {name: total.to(device) for name, total in state["sums"].items()}
        self._counts = defaultdict(int, state["counts"])


class Log:
    """The curves of a run folder: one JSON object a line, and the same in TensorBoard."""

    def __init__(self, folder: Path, nimg: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = folder / STATS
        self._forget_after(nimg)
        self._board = SummaryWriter(str(folder), purge_step=nimg)

    def _forget_after(self, nimg: int) -> None:
        """Drops what a killed run had written beyond the snapshot that it is resumed from."""
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["nimg"] <= nimg:
                    kept.append(line + "\n")
            except (ValueError, KeyError):  # a line that was cut off
                continue
        write_atomic(self.path, lambda temporary: temporary.write_text("".join(kept), encoding="utf-8"))

    def write(self, nimg: int, values: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"nimg": nimg, **values}) + "\n")
        for name, value in values.items():
            self._board.add_scalar(name, value, nimg)

    def close(self) -> None:
        self._board.close()


class Watch:
    """Notices a run that has gone wrong without a NaN."""

    def __init__(self) -> None:
        self.sure, self.told = 0, False

    def discriminator(self, real_sign: float, fake_sign: float) -> str | None:
        """A message once the discriminator has been right about everything for PATIENCE ticks in a row."""
        self.sure = self.sure + 1 if real_sign > SURE and fake_sign < -SURE else 0
        if self.sure < PATIENCE:
            self.told = self.told and self.sure > 0
            return None
        first, self.told = not self.told, True
        return (
            "the discriminator has won: it tells every picture apart, so the generator learns nothing. Try more "
            "pictures, --augment ada, a lower learning rate (--set lr=...) or a larger r1_gamma, and go on from an "
            "earlier snapshot"
            if first
            else None
        )

    def diversity(self, fakes: Tensor, reals: Tensor) -> tuple[float, str | None]:
        """How much samples (N, 3, H, W) differ from each other, as a share of how much reals do, and a message if that
        is next to nothing."""
        ratio = float(fakes.float().std(0).mean() / reals.float().std(0).mean().clamp_min(1e-6))
        return ratio, (
            f"the samples have collapsed: they differ from each other {ratio:.0%} as much as the real pictures do. "
            "Go on from an earlier snapshot with a lower learning rate, or with --augment ada"
            if ratio < COLLAPSED
            else None
        )

    def values(
        self, rows: Tensor, asked: Sequence[tuple[str, str]], reals: Tensor
    ) -> tuple[dict[str, float], str | None]:
        """How much samples that were asked for the same value differ from each other, by attribute=value, as a share of
        how much reals (N, 3, H, W) do; and a message about values of which the samples are all the same, and about
        values that make no difference: the same latents give the same pictures for another value too.

        `rows` (V, K, 3, H, W) holds the samples of each (attribute, value) of `asked`, of the same K latents."""
        scale = reals.float().std(0).mean().clamp_min(1e-6)
        rows = rows.float() / scale
        spread = dict(zip(map("=".join, asked), rows.std(1).mean((1, 2, 3)).tolist(), strict=True))
        same = [name for name, share in spread.items() if share < COLLAPSED]
        ignored = []
        for i, (attribute, value) in enumerate(asked):
            others = [j for j, (other, _) in enumerate(asked) if other == attribute and j != i]
            if any(self._change(rows[i], rows[j]) < IGNORED for j in others):
                ignored.append(f"{attribute}={value}")
        told = []
        if same:
            told.append(f"the samples of {', '.join(same)} have collapsed: they hardly differ from each other")
        if ignored:
            told.append(f"{', '.join(ignored)}: the same latents give the same pictures for another value")
        advice = ". Such values may be too rare in the data; later snapshots may know them, else raise label_weight"
        return spread, "; ".join(told) + advice if told else None

    @staticmethod
    def _change(ours: Tensor, theirs: Tensor) -> float:
        """How much pictures (K, 3, H, W) differ where they differ most."""
        return float((ours - theirs).abs().mean((0, 1)).quantile(TOUCHED))

    def state_dict(self) -> dict[str, Any]:
        return {"sure": self.sure, "told": self.told}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.sure, self.told = state["sure"], state["told"]
