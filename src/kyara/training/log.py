"""Training metrics: running means on the device, stats.jsonl and TensorBoard."""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kyara.files.atomic import write_atomic, write_errors

STATS, FEATURES = "stats.jsonl", "features"
"""The log, and its column with the hash of the features in which a snapshot is scored."""


class Means:
    """Running means of scalars, kept on their device to avoid synchronisation until they are read."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = defaultdict(int)

    def add(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            value = value.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()
            self._counts[name] += 1

    def take(self) -> dict[str, float]:
        """The means since the last call."""
        sums = torch.stack([*self.sums.values()]).tolist() if self.sums else []  # one transfer for all
        means = {name: total / self._counts[name] for name, total in zip(self.sums, sums, strict=True)}
        self.sums, self._counts = {}, defaultdict(int)
        return means

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self.sums, "counts": dict(self._counts)}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Also restores means that have not been read yet, since the adaptive augmentation depends on them."""
        self.sums = {name: total.to(device) for name, total in state["sums"].items()}
        self._counts = defaultdict(int, state["counts"])


class Log:
    """Writes the metrics of a run to stats.jsonl, one JSON object per line, and to TensorBoard."""

    def __init__(self, folder: Path, nimg: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = folder / STATS
        if self.path.exists():
            self._drop_after(nimg)
        self._board = SummaryWriter(str(folder), purge_step=nimg)

    def _drop_after(self, nimg: int) -> None:
        """Removes the lines that an interrupted run wrote after the snapshot from which it is resumed."""
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError, KeyError):  # an incomplete line
                if json.loads(line)["nimg"] <= nimg:
                    kept.append(line + "\n")
        write_atomic(self.path, lambda temporary: temporary.write_text("".join(kept), encoding="utf-8"))

    def write(self, nimg: int, values: Mapping[str, Any]) -> None:
        """Appends one line. Raises OSError with the file name."""
        with write_errors(self.path):
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"nimg": nimg, **values}) + "\n")
            for name, value in values.items():
                if name != FEATURES:
                    self._board.add_scalar(name, value, nimg)

    def close(self) -> None:
        self._board.close()
