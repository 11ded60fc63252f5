"""The run folder: a Checkpoint that is updated during training.

config.json          architecture, hyperparameters, data, options; scores of the best snapshot
model.safetensors    weights of the best snapshot (README.md is their card)
training.pt          state to resume from, as of the last snapshot, or of where the run was stopped
snapshots/000200/    a Checkpoint for every snapshot, named by thousands of pictures (or 000200.512)
reals.png fakes000200.png   sheets; all fakes are from the same latents
stats.jsonl, events.out.tfevents.*
command.txt          the command that trains it, as it was last given, and in which folder
trace.json           with --profile
.lock                locked while a process trains
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from kyara import __version__
from kyara.files import checkpoint, pictures
from kyara.files.atomic import numbered_folder, write_atomic, write_errors
from kyara.files.checkpoint import CONFIG
from kyara.files.ownership import OF_RUN, is_run
from kyara.models import architecture, stored
from kyara.models.base import Config, Generator, Inpainter, Model, Translator

RUNS, UNTRAINED, TRACE = Path("runs"), "000000", "trace.json"
STATE, SNAPSHOTS, LOCK, COMMAND, _ = OF_RUN
"""LOCK is locked while a process trains the run. COMMAND is not in config.json, which is published: paths may be
private."""
NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}  # errors of file systems without locks
TRAINED = "another process is training this run; wait until it has ended, stop it, or give another folder with --out"
CARD = Path(__file__).with_name("card.md")
SETTINGS = ("model", "config", "data", "photos", "training", "init", "tuning")  # fields that define a run
LONGEST = 200  # characters of a setting in a message
NAMES = {"data.name", "photos.name"}
"""Settings that may change when a run is resumed: datasets are identified by fingerprint, not by name."""


@dataclasses.dataclass
class Run:
    """Writes a run folder. Raises OSError if it cannot be written."""

    folder: Path
    model_name: str
    description: dict[str, Any]  # fields of config.json other than the architecture
    resume: bool = False  # whether the folder has a state to resume from
    profile: bool = False  # whether a trace of some steps is written
    command: str = ""  # the command that trains it

    def begin(self, config: Config) -> None:
        """Creates the folder, and removes temporary files of an interrupted process."""
        with write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            for leftover in self.folder.rglob(".*.tmp"):
                leftover.unlink()
        if not (self.folder / CONFIG).exists():
            content = {"model": self.model_name, "config": dataclasses.asdict(config), **self.description}
            text = checkpoint.config_text(content)
            write_atomic(self.folder / CONFIG, lambda temporary: temporary.write_text(text, encoding="utf-8"))
        lines = f"cd {shlex.quote(str(Path.cwd()))}\n{self.command}\n".encode(errors="surrogateescape")
        write_atomic(self.folder / COMMAND, lambda temporary: temporary.write_bytes(lines))

    def sheet(self, name: str, batch: Tensor, columns: int | None = None) -> None:
        """Writes pictures (N, 3, H, W) in [-1, 1] as one PNG."""
        pictures.write_png(self.folder / name, pictures.sheet(pictures.to_uint8(batch.float().cpu()), columns))

    def snapshot_name(self, nimg: int) -> str:
        """Name of a snapshot in thousands of pictures, such as 000200, or 000200.512 if that name exists."""
        name = f"{nimg // 1000:06d}"
        try:
            taken = json.loads((self.folder / SNAPSHOTS / name / CONFIG).read_text(encoding="utf-8"))["kimg"]
        except (OSError, ValueError, KeyError):  # missing or incomplete
            return name
        return name if round(taken * 1000) == nimg else f"{name}.{nimg % 1000:03d}"

    def snapshot(self, name: str, model: Model, nimg: int, scores: Mapping[str, float], *, best: bool) -> None:
        """Writes the weights as a Checkpoint in snapshots/, and also in the run folder if they are the best."""
        about = {**self.description, "kimg": nimg / 1000, "scores": dict(scores), "snapshot": name}
        config, weights, text = dataclasses.asdict(model.config), stored(model), card(self.model_name, about)
        for folder in [self.folder / SNAPSHOTS / name, self.folder][: 1 + best]:
            checkpoint.write(folder, model=self.model_name, config=config, weights=weights, card=text, about=about)

    def scores(self) -> dict[str, float]:
        """The scores of the best snapshot; empty if there is none yet."""
        found: dict[str, float] = json.loads((self.folder / CONFIG).read_text(encoding="utf-8")).get("scores", {})
        return found

    def save_state(self, state: Mapping[str, Any]) -> None:
        write_atomic(self.folder / STATE, lambda temporary: torch.save(dict(state), temporary))


@contextlib.contextmanager
def locked(folder: Path, problem: str = TRAINED) -> Iterator[None]:
    """Keeps other processes from writing to this folder, which is created. The system releases the lock of a process
    that was killed. Raises FileExistsError with the `problem` if another process has it. File systems without locks
    have none."""
    lock, taken = FileLock(folder / LOCK, fallback_to_soft=False), False
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            taken = True
        except NotImplementedError:
            pass
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
    if taken:
        raise FileExistsError(f"{folder}: {problem}")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / LOCK).unlink()  # before the lock is released: afterwards it can be another process's
        lock.release()
        with contextlib.suppress(OSError):
            folder.rmdir()  # if nothing was written


def check_no_run(out: Path) -> None:
    """FileExistsError if `out` contains a training run, which other verbs do not replace, not even with --force."""
    if is_run(out):
        raise FileExistsError(f"{out}: contains a training run, which --force does not replace; choose another folder")


def find_run(out: Path | None, name: str, settings: Mapping[str, Any]) -> Path:
    """The folder of a run: `out`, or the newest folder in runs/ with the same settings that can be resumed, or a new
    numbered one. Raises FileExistsError if `out` contains another run or other files."""
    if out is not None:
        others = out.is_dir() and any(path.name != LOCK for path in out.iterdir())
        if out.is_file() or (others and not (out / CONFIG).is_file()):
            raise FileExistsError(f"--out {out}: contains files that are not a run; choose another folder")
        if (out / CONFIG).is_file() and (problem := _problem(out, settings)):
            raise FileExistsError(f"--out {out}: contains {problem}")
        return out
    for run in sorted(RUNS.glob("[0-9]*-*"), reverse=True):
        if (run / CONFIG).is_file() and not _problem(run, settings):
            return run
    return numbered_folder(RUNS, name)


def _problem(run: Path, settings: Mapping[str, Any]) -> str:
    """Why a run cannot be resumed, or "". Training must not restart in a folder with trained weights."""
    if changed := changed_settings(run, settings):
        return f"another run ({changed}); choose another folder"
    if (run / STATE).is_file() or all(path.name == UNTRAINED for path in (run / SNAPSHOTS).glob("[0-9]*")):
        return ""
    lost = f"trained weights but no {STATE}, so it cannot be resumed"
    return f"{lost}. Continue from its weights in another folder: --init {run} --out NEW"


def changed_settings(run: Path, settings: Mapping[str, Any]) -> str:
    """The settings of a run that differ from `settings`, as text; empty if there are none."""
    settings = json.loads(json.dumps(dict(settings)))
    try:
        there = json.loads((run / CONFIG).read_text(encoding="utf-8"))
        if there.get("model") == settings["model"] and "config" in there:
            there["config"] = _completed(there["config"], architecture(there["model"]).default_config())
        was, now = (identity({key: one[key] for key in SETTINGS if key in one}) for one in (there, settings))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return f"its {CONFIG} cannot be read: {error}"
    changed = [key for key in {**was, **now} if was.get(key) != now.get(key)]
    return ", ".join(f"{key} was {_shortened(was.get(key))}, now {_shortened(now.get(key))}" for key in changed)


def _completed(config: Mapping[str, Any], default: Config) -> dict[str, Any]:
    """A run's config with the defaults of what is missing there: fields newer than the run have not changed."""
    parts: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(default)))
    return {**config, **{name: {**values, **config.get(name, {})} for name, values in parts.items()}}


def _shortened(value: Any) -> str:
    """A setting for a message: label_counts may have thousands of rows."""
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, flattened, that must not change during a run."""
    return {key: value for key, value in flat(settings).items() if key not in NAMES}


def flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested mappings, with keys such as config.optimizer.lr."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def recorded_command(run: Path) -> tuple[Path, list[str]]:
    """The folder in which the command that trained a run was given, and its words without `kyara`; no words if there is
    no record of it."""
    try:
        text = (run / COMMAND).read_bytes().decode(errors="surrogateescape")
        (change, folder), (program, *words) = map(shlex.split, text.strip().split("\n", 1))
    except (OSError, ValueError):  # older runs have none; a file that was changed may have an open quotation mark
        return Path(), []
    return Path(folder), words if (change, program, words[:1]) == ("cd", "kyara", ["train"]) else []


def card(model_name: str, about: Mapping[str, Any]) -> str:
    """The Checkpoint's README.md."""
    sets = [about[kind] for kind in ("data", "photos") if kind in about]
    return CARD.read_text(encoding="utf-8").format(
        model=model_name, kimg=about["kimg"], version=__version__, init=about.get("init") or "random weights",
        trained_on="; ".join("{name}, {pictures} pictures, fingerprint {fingerprint}".format_map(one) for one in sets),
        rows="\n".join(f"| {name} | {value:.5g} |" for name, value in about["scores"].items()) or "| – | – |",
    )  # fmt: skip


def next_command(architecture: type[Model], folder: Path) -> str:
    """The command that uses the model in `folder`, or ""."""
    if issubclass(architecture, Generator):
        return shlex.join(["kyara", "generate", str(folder)])
    if issubclass(architecture, Translator | Inpainter):
        return f"{shlex.join(['kyara', 'translate', str(folder)])} PICTURES"
    return ""
