"""The Checkpoint: a self-describing folder with a trained model.

    config.json         architecture, its hyperparameters, training details, scores
    model.safetensors   the weights for inference
    README.md           the model card
    training.pt         the training state, while a run can be resumed (see kyara.training)

Checkpoints are untrusted: config.json is plain JSON, the weights are safetensors, and nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kyara.files import hub
from kyara.files.atomic import write_atomic, write_text
from kyara.files.errors import CheckpointError
from kyara.files.names import did_you_mean
from kyara.files.ownership import CARD, CONFIG, FILES, WEIGHTS  # The files of a Checkpoint required for inference

REWRITTEN = "rewritten"  # Key of config.json in a Checkpoint with rules, see `kyara.rewriting.rules`
NUMBERS = re.compile(r"\[\n([-+.\deE,\s]+)\]")  # in indented JSON, a list of numbers; no string contains a line break
BUILTIN = Path(__file__).parents[1] / "weights"


@dataclass(frozen=True)
class Checkpoint:
    """The description of a Checkpoint on disk; the weights are loaded by `weights()`."""

    path: Path
    model: str  # Name of the architecture: a file in kyara/models
    config: Mapping[str, Any]  # Hyperparameters of the architecture: keyword arguments of its Config
    about: Mapping[str, Any]  # The other fields of config.json: data, kimg, scores, training

    @cached_property
    def hash(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the weights' file. Recipes identify a model by it."""
        with (self.path / WEIGHTS).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]

    @property
    def root(self) -> str:
        """Hash of the Checkpoint to which `kyara rewrite` added rules; "" if it has none."""
        table = self.about.get(REWRITTEN)
        return str(table.get("root", "")) if isinstance(table, Mapping) else ""

    def weights(self) -> dict[str, Tensor]:
        """State dict in float32 on the CPU (built-in Checkpoints are stored in half precision)."""
        try:
            tensors = load_file(self.path / WEIGHTS)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{self.path / WEIGHTS}: not a readable safetensors file ({error})") from error
        return {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}


def builtin_names() -> list[str]:
    """Names of the Checkpoints that ship with Kyara, for `builtin:NAME`."""
    return sorted(p.parent.name for p in BUILTIN.glob(f"*/{CONFIG}"))


def find(name: str | os.PathLike[str]) -> Path:
    """The local folder of `builtin:NAME`, `hf-hub:OWNER/NAME` (downloaded) or a path."""
    text = os.fspath(name)
    if text.startswith("builtin:"):
        short = text.removeprefix("builtin:")
        if short not in (known := builtin_names()):
            hint = did_you_mean(short, known, "builtin:")
            raise CheckpointError(f"{text}: no such built-in checkpoint; {hint}there are: {', '.join(known)}")
        return BUILTIN / short
    if text.startswith("hf-hub:"):
        return hub.download(text.removeprefix("hf-hub:"), FILES)
    return Path(text)


def read(name: str | os.PathLike[str]) -> Checkpoint:
    """Reads the description of a Checkpoint (a name as in `find`) without loading its weights. Raises CheckpointError
    if it is incomplete or invalid."""
    path = find(name)
    if not (path / CONFIG).is_file():
        hint = "give a folder that `kyara train` wrote, builtin:NAME or hf-hub:OWNER/NAME"
        if path.suffix.lower() == ".zip" and path.is_file():
            hint = f"if it is a dataset, train a model with it: kyara train stylegan2 {path}"
        why = f"not a checkpoint (it has no {CONFIG})" if path.exists() else "does not exist"
        raise CheckpointError(f"{path}: {why}; {hint}")
    try:
        about = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        model, config = about.pop("model"), about.pop("config")
        if not isinstance(model, str) or not isinstance(config, dict):
            raise TypeError("'model' must be a string and 'config' an object")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path / CONFIG}: not a valid Kyara config ({error!r})") from error
    if not (path / WEIGHTS).is_file():
        raise CheckpointError(f"{path}: has no {WEIGHTS} yet; training writes it with the first snapshot")
    return Checkpoint(path, model, config, about)


def write(
    path: Path,
    *,
    model: str,
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    card: str,
    about: Mapping[str, Any],
) -> None:
    """Writes a Checkpoint to the folder `path`, each file atomically, config.json last."""
    path.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.detach().cpu().contiguous() for name, t in weights.items()}
    write_atomic(path / WEIGHTS, lambda temporary: save_file(tensors, temporary))
    write_text(path / CARD, card)
    write_text(path / CONFIG, config_text({"model": model, "config": dict(config), **about}))


def config_text(content: Mapping[str, Any]) -> str:
    """The text of config.json: indented JSON with each list of numbers on one line, such as a row of label_counts."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    return NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text)


def load_training(path: Path) -> dict[str, Any]:
    """The training state to resume from. Only tensors and plain containers are loaded."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises various exceptions for a damaged file
        raise CheckpointError(
            f"{path}: cannot be read ({error}). The weights are intact: continue from them in "
            f"another folder with --init {path.parent} --out NEW"
        ) from error
