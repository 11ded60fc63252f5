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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kyara import __version__
from kyara.files import checkpoint, pictures
from kyara.files.atomic import numbered_folder, write_atomic, write_errors
from kyara.files.checkpoint import CONFIG
from kyara.models import stored
from kyara.models.base import Config, Model

RUNS, STATE, SNAPSHOTS, UNTRAINED = Path("runs"), "training.pt", "snapshots", "000000"
CARD = Path(__file__).with_name("card.md")
SETTINGS = ("model", "config", "data", "photos", "training", "init", "tuning")  # in config.json, how a run was started
LONGEST = 200  # characters of a setting in a message
NAMES = {"data.name", "photos.name"}
"""Settings that may differ when a run is resumed: a dataset is known by its fingerprint, wherever it is."""


@dataclasses.dataclass
class Run:
    """One run folder, and what is written into it. OSError if it cannot be written."""

    folder: Path
    model_name: str
    description: dict[str, Any]  # what config.json holds besides the architecture: how the run is trained
    resume: bool = False  # whether an earlier process left a state to resume from

    def begin(self, config: Config) -> None:
        """Makes the folder, and removes what a killed process left half-written."""
        with write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            for leftover in self.folder.rglob(".*.tmp"):
                leftover.unlink()
        if not (self.folder / CONFIG).exists():
            content = {"model": self.model_name, "config": dataclasses.asdict(config), **self.description}
            text = checkpoint.config_text(content)
            write_atomic(self.folder / CONFIG, lambda temporary: temporary.write_text(text, encoding="utf-8"))

    def sheet(self, name: str, batch: Tensor, columns: int | None = None) -> None:
        """Writes pictures (N, 3, H, W) in [-1, 1] as one PNG."""
        pictures.write_png(self.folder / name, pictures.sheet(pictures.to_uint8(batch.float().cpu()), columns))

    def snapshot_name(self, nimg: int) -> str:
        """Thousands of pictures, such as 000200; or 000200.512 if an earlier snapshot has that name."""
        name = f"{nimg // 1000:06d}"
        try:
            taken = json.loads((self.folder / SNAPSHOTS / name / CONFIG).read_text(encoding="utf-8"))["kimg"]
        except (OSError, ValueError, KeyError):  # not there, or half-written
            return name
        return name if round(taken * 1000) == nimg else f"{name}.{nimg % 1000:03d}"

    def snapshot(self, name: str, model: Model, nimg: int, scores: Mapping[str, float], *, best: bool) -> None:
        """Writes the weights as a Checkpoint, and as the run's own if they are the best so far."""
        about = {**self.description, "kimg": nimg / 1000, "scores": dict(scores), "snapshot": name}
        config, weights, text = dataclasses.asdict(model.config), stored(model), card(self.model_name, about)
        for folder in [self.folder / SNAPSHOTS / name, self.folder][: 1 + best]:
            checkpoint.write(folder, model=self.model_name, config=config, weights=weights, card=text, about=about)

    def save_state(self, state: Mapping[str, Any]) -> None:
        write_atomic(self.folder / STATE, lambda temporary: torch.save(dict(state), temporary))


def find_run(out: Path | None, name: str, settings: Mapping[str, Any]) -> Path:
    """The folder for this command: `out`, or the newest in runs/ that was started with the same settings
    and can be resumed, or the next free number. FileExistsError if `out` holds another run or something else."""
    if out is not None:
        if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / CONFIG).is_file()):
            raise FileExistsError(f"--out {out}: holds something that is not a run; choose another folder")
        if (out / CONFIG).is_file() and (problem := _problem(out, settings)):
            raise FileExistsError(f"--out {out}: holds {problem}")
        return out
    for run in sorted(RUNS.glob("[0-9]*-*"), reverse=True):
        if (run / CONFIG).is_file() and not _problem(run, settings):
            return run
    return numbered_folder(RUNS, name)


def _problem(run: Path, settings: Mapping[str, Any]) -> str:
    """Why a run cannot be continued; empty if it can. A new start would replace the best weights of a trained one."""
    if changed := changed_settings(run, settings):
        return f"another run ({changed}); choose another folder"
    if (run / STATE).is_file() or all(path.name == UNTRAINED for path in (run / SNAPSHOTS).glob("[0-9]*")):
        return ""
    lost = f"trained weights but no {STATE}, so it cannot be resumed"
    return f"{lost}. Continue from its weights in another folder: --init {run} --out NEW"


def changed_settings(run: Path, settings: Mapping[str, Any]) -> str:
    """The settings in which a run differs from `settings`, as text; empty if there are none."""
    settings = json.loads(json.dumps(dict(settings)))
    try:
        there = json.loads((run / CONFIG).read_text(encoding="utf-8"))
        was, now = (flat({key: one[key] for key in SETTINGS if key in one}) for one in (there, settings))
    except (OSError, ValueError, TypeError) as error:
        return f"its {CONFIG} cannot be read: {error}"
    changed = [key for key in {**was, **now} if key not in NAMES and was.get(key) != now.get(key)]
    return ", ".join(f"{key} was {_shortened(was.get(key))}, now {_shortened(now.get(key))}" for key in changed)


def _shortened(value: Any) -> str:
    """A setting for a message: label_counts may have thousands of rows."""
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, with names such as config.optimizer.lr."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def card(model_name: str, about: Mapping[str, Any]) -> str:
    """The Checkpoint's README.md."""
    sets = [about[kind] for kind in ("data", "photos") if kind in about]
    return CARD.read_text(encoding="utf-8").format(
        model=model_name, kimg=about["kimg"], version=__version__,
        trained_on="; ".join("{name}, {pictures} pictures, fingerprint {fingerprint}".format_map(one) for one in sets),
        rows="\n".join(f"| {name} | {value:.5g} |" for name, value in about["scores"].items()) or "| – | – |",
    )  # fmt: skip
