"""Training metrics: running means on the device, stats.jsonl and TensorBoard."""

from __future__ import annotations

import contextlib
import json
import math
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
    """Running means of the finite ones of scalars, kept on their device to avoid synchronisation until they are read.
    One step that was dropped must not hide what the others of a tick say."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, ...], Tensor] = {}  # sums, and numbers of values (2, N), of what is added together

    def add(self, values: Mapping[str, Tensor]) -> None:
        if not values:
            return
        names, now = (*values,), torch.stack([value.detach().float().reshape(()) for value in values.values()])
        finite = now.isfinite()
        added = torch.stack([now.where(finite, 0.0), finite.float()])
        self._kept[names] = self._kept[names] + added if names in self._kept else added

    def tensors(self) -> list[Tensor]:
        """What is averaged over ranks."""
        return [*self._kept.values()]

    def take(self) -> dict[str, float]:
        """The means since the last call, of what was finite at least once."""
        kept = torch.cat([*self._kept.values()], 1).tolist() if self._kept else [[], []]  # one transfer for all
        sums, counts = defaultdict[str, float](float), defaultdict[str, float](float)
        for name, total, count in zip((name for names in self._kept for name in names), *kept, strict=True):
            sums[name], counts[name] = sums[name] + total, counts[name] + count
        self._kept = {}
        return {name: total / counts[name] for name, total in sums.items() if counts[name]}

    def state_dict(self) -> dict[str, Any]:
        return {"names": [list(names) for names in self._kept], "kept": [*self._kept.values()]}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Also restores means that have not been read yet, since the adaptive augmentation depends on them."""
        if "sums" in state:  # of a run from before non-finite values were left out
            each = {(name,): [[float(total)], [state["counts"][name]]] for name, total in state["sums"].items()}
            self._kept = {names: torch.tensor(pair, device=device) for names, pair in each.items()}
            return
        pairs = zip(state["names"], state["kept"], strict=True)
        self._kept = {tuple(names): kept.to(device) for names, kept in pairs}


class Log:
    """Writes the metrics of a run to stats.jsonl, one JSON object per line, and to TensorBoard."""

    def __init__(self, folder: Path, nimg: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = folder / STATS
        if self.path.exists():
            self._drop_after(nimg)
        self._board = SummaryWriter(str(folder), purge_step=nimg + 1)  # the scores at nimg are kept

    def _drop_after(self, nimg: int) -> None:
        """Removes the lines that an interrupted run wrote after the snapshot from which it is resumed."""
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError, KeyError):  # an incomplete line
                if json.loads(line)["nimg"] <= nimg:
                    kept.append(line + "\n")
        write_atomic(self.path, lambda temporary: temporary.write_text("".join(kept), encoding="utf-8"))

    def write(self, nimg: int, values: Mapping[str, Any]) -> None:
        """Appends one line, without what is not finite, which is no JSON. Raises OSError with the file name."""
        values = {name: value for name, value in values.items() if isinstance(value, str) or math.isfinite(value)}
        with write_errors(self.path):
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"nimg": nimg, **values}) + "\n")
            for name, value in values.items():
                if name != FEATURES:
                    self._board.add_scalar(name, value, nimg)

    def close(self) -> None:
        self._board.close()
