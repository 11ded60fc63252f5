"""The run folder: a Checkpoint that grows.

config.json          what is trained, how, on what; with the best snapshot's scores
model.safetensors    the best snapshot's weights (README.md is their card)
training.pt          everything needed to resume, as of the last snapshot
snapshots/000200/    a Checkpoint for every snapshot, named by thousands of pictures; 000200.512 if 000200 is taken
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
from kyara.files.atomic import write_atomic, write_errors
from kyara.files.checkpoint import CONFIG, WEIGHTS
from kyara.models import stored
from kyara.models.base import Config, Model

STATE, SNAPSHOTS, UNTRAINED = "training.pt", "snapshots", "000000"
SETTINGS = ("model", "config", "data", "photos", "training", "init", "tuning")
"""What config.json says about how a run was started."""
NAMES = {"data.name", "photos.name"}
"""Settings that may differ when a run is resumed: a dataset is known by its fingerprint, wherever it is."""


@dataclasses.dataclass
class Run:
    """One run folder, and what is written into it. OSError if it cannot be written."""

    folder: Path
    model_name: str
    description: dict[str, Any]
    """What config.json holds besides the architecture: how the run is trained."""
    resume: bool = False
    """Whether an earlier process left a state to resume from."""

    def begin(self, config: Config) -> None:
        """Makes the folder, and removes what a killed process left half-written."""
        with write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            for leftover in self.folder.rglob(".*.tmp"):
                leftover.unlink()
        if not (self.folder / CONFIG).exists():
            content = {"model": self.model_name, "config": dataclasses.asdict(config), **self.description}
            text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
            write_atomic(self.folder / CONFIG, lambda temporary: temporary.write_text(text, encoding="utf-8"))

    def sheet(self, name: str, batch: Tensor, columns: int | None = None) -> None:
        """Writes pictures (N, 3, H, W) in [-1, 1] as one PNG."""
        pictures.write_png(self.folder / name, pictures.sheet(pictures.to_uint8(batch.float().cpu()), columns))

    def snapshot_name(self, nimg: int) -> str:
        """The name of the snapshot after `nimg` pictures: thousands of pictures, such as 000200; with a fraction, such
        as 000200.512, if an earlier snapshot has that name."""
        name = f"{nimg // 1000:06d}"
        try:
            taken = json.loads((self.folder / SNAPSHOTS / name / CONFIG).read_text(encoding="utf-8"))["kimg"]
        except (OSError, ValueError, KeyError):  # not there, or half-written
            return name
        return name if round(taken * 1000) == nimg else f"{name}.{nimg % 1000:03d}"

    def snapshot(self, name: str, model: Model, nimg: int, scores: Mapping[str, float], *, best: bool) -> None:
        """Writes the weights as a Checkpoint, and as the run's own if they are the best so far."""
        about = {**self.description, "kimg": nimg / 1000, "scores": dict(scores)}
        for folder in [self.folder / SNAPSHOTS / name, self.folder][: 1 + best]:
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


def find_run(out: Path | None, model_name: str, stem: str, settings: Mapping[str, Any]) -> Path:
    """The folder for this command: `out`, or the newest runs/NNNNN-MODEL-STEM that was started with the same settings
    and can be resumed, or the next free number. FileExistsError if `out` holds another run or something else."""
    if out is not None:
        if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / CONFIG).is_file()):
            raise FileExistsError(f"--out {out}: holds something that is not a run; choose another folder")
        if (out / CONFIG).is_file():
            if changed := changed_settings(out, settings):
                raise FileExistsError(f"--out {out}: holds another run ({changed}); choose another folder")
            if lost_state(out):
                raise FileExistsError(
                    f"--out {out}: holds trained weights but no {STATE}, so it cannot be resumed. Continue from its "
                    f"weights in another folder: --init {out} --out NEW"
                )
        return out
    base, name = Path("runs"), f"{model_name}-{re.sub(r'[^A-Za-z0-9._-]+', '-', stem)}"
    runs = sorted(p for p in base.glob("[0-9]*-*") if p.is_dir()) if base.is_dir() else []
    for run in reversed(runs):
        if (run / CONFIG).is_file() and not changed_settings(run, settings) and not lost_state(run):
            return run
    number = 1 + max((int(p.name.split("-", 1)[0]) for p in runs if p.name.split("-", 1)[0].isdigit()), default=-1)
    return base / f"{number:05d}-{name}"


def lost_state(run: Path) -> bool:
    """Whether a run was trained but has nothing to resume from: a new start would replace its best weights."""
    trained = any(path.name != UNTRAINED for path in (run / SNAPSHOTS).glob("[0-9]*"))
    return trained and not (run / STATE).is_file()


def changed_settings(run: Path, settings: Mapping[str, Any]) -> str:
    """The settings in which a run differs from `settings`, as text; empty if there are none."""
    try:
        there = json.loads((run / CONFIG).read_text(encoding="utf-8"))
        was = _flat({key: there[key] for key in SETTINGS if key in there})
    except (OSError, ValueError, TypeError) as error:
        return f"its {CONFIG} cannot be read: {error}"
    now = _flat(json.loads(json.dumps(dict(settings))))
    changed = [key for key in {**was, **now} if key not in NAMES and was.get(key) != now.get(key)]
    return ", ".join(f"{key} was {was.get(key)!r}, now {now.get(key)!r}" for key in changed)


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
