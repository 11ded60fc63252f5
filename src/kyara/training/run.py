"""The run folder: a Checkpoint that grows.

config.json          what is trained, how, on what; with the best snapshot's scores
model.safetensors    the best snapshot's weights (README.md is their card)
training.pt          everything needed to go on, as of the last snapshot
snapshots/000200/    a Checkpoint for every snapshot
reals.png fakes000200.png   sheets; fakes show the same latents every time
stats.jsonl, events.out.tfevents.*
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kyara import __version__
from kyara.files import checkpoint, pictures
from kyara.files.atomic import write_atomic
from kyara.files.checkpoint import CONFIG, WEIGHTS
from kyara.models import stored
from kyara.models.base import Model

STATE = "training.pt"


@dataclasses.dataclass
class Run:
    """One run folder, and what is written into it."""

    folder: Path
    model_name: str
    description: dict[str, Any]
    """What config.json says besides the architecture: how the run is trained."""

    @property
    def resumable(self) -> bool:
        return (self.folder / STATE).is_file()

    def begin(self, model: Model) -> None:
        """Makes the folder, clears what a killed process left half-written, and says what will be trained."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.rglob(".*.tmp"):
            leftover.unlink()
        if not (self.folder / CONFIG).exists():
            content = {
                "model": self.model_name,
                "config": dataclasses.asdict(model.config),
                **self.description,
            }
            self._write_text(CONFIG, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def _write_text(self, name: str, text: str) -> None:
        write_atomic(self.folder / name, lambda temporary: temporary.write_text(text, encoding="utf-8"))

    def sheet(self, name: str, batch: Tensor, columns: int | None = None) -> None:
        """Writes pictures (N, 3, H, W) in [-1, 1] as one PNG."""
        pictures.write_png(self.folder / name, pictures.sheet(pictures.to_uint8(batch.float().cpu()), columns))

    def snapshot(self, model: Model, nimg: int, scores: Mapping[str, float], *, best: bool) -> None:
        """Writes the weights as a Checkpoint, and as the run's own if they are the best so far."""
        name = f"{nimg // 1000:06d}"
        about = {**self.description, "kimg": nimg / 1000, "scores": dict(scores)}
        folders = [self.folder / "snapshots" / name] + ([self.folder] if best else [])
        for folder in folders:
            checkpoint.write(
                folder,
                model=self.model_name,
                config=dataclasses.asdict(model.config),
                weights=stored(model),
                card=card(self.model_name, about),
                about={**about, "snapshot": name},
            )

    @property
    def has_weights(self) -> bool:
        return (self.folder / WEIGHTS).is_file()

    def save_state(self, state: Mapping[str, Any]) -> None:
        write_atomic(self.folder / STATE, lambda temporary: torch.save(dict(state), temporary))

    def load_state(self) -> dict[str, Any]:
        return checkpoint.load_training(self.folder / STATE)


def find_run(out: Path | None, model_name: str, data: Path, same: Mapping[str, Any]) -> Path:
    """The folder for this command: `out`, or the newest runs/NNNNN-MODEL-DATA that the same command began, or the
    next free number. FileExistsError if `out` holds another run or something else."""
    if out is not None:
        if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / CONFIG).is_file()):
            raise FileExistsError(f"--out {out}: holds something that is not a run; choose another folder")
        if (out / CONFIG).is_file() and (differs := difference(out, same)):
            raise FileExistsError(f"--out {out}: holds another run ({differs}); choose another folder")
        return out
    base, stem = Path("runs"), f"{model_name}-{re.sub(r'[^A-Za-z0-9._-]+', '-', data.stem)}"
    runs = sorted(p for p in base.glob("[0-9]*-*") if p.is_dir()) if base.is_dir() else []
    for run in reversed(runs):
        if run.name.split("-", 1)[1] == stem and (run / CONFIG).is_file() and not difference(run, same):
            return run
    number = 1 + max((int(p.name.split("-", 1)[0]) for p in runs if p.name.split("-", 1)[0].isdigit()), default=-1)
    return base / f"{number:05d}-{stem}"


def difference(run: Path, same: Mapping[str, Any]) -> str:
    """In what a run was begun otherwise than `same` says; empty if in nothing."""
    try:
        there = json.loads((run / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"its {CONFIG} cannot be read: {error}"
    wanted = json.loads(json.dumps(dict(same)))
    flat_there, flat_wanted = _flat(there), _flat(wanted)
    return ", ".join(
        f"{key} was {flat_there.get(key)!r}, now {value!r}"
        for key, value in flat_wanted.items()
        if flat_there.get(key) != value
    )


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def card(model_name: str, about: Mapping[str, Any]) -> str:
    """The Checkpoint's README.md."""
    scores = about["scores"]
    sets = [about[kind] for kind in ("data", "photos") if kind in about]
    trained_on = "; ".join(
        f"{one['name']}, {one['pictures']} pictures, fingerprint {one['fingerprint']}" for one in sets
    )
    rows = "\n".join(f"| {name} | {value:.5g} |" for name, value in scores.items()) or "| – | – |"
    return f"""---
library_name: kyara
license: unknown
---
# A {model_name} trained with Kyara

| | |
|---|---|
| data | {trained_on} |
| trained for | {about["kimg"]:g} kimg (thousand pictures) |
| made with | Kyara {__version__} |

| measured while training | |
|---|---|
{rows}

The licence of these weights follows from that of the pictures they were trained on: whoever publishes them states
both here. config.json holds every number of the architecture and of the training.
"""
