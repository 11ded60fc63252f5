"""The Checkpoint: a folder with a trained model that describes itself.

    config.json         architecture, its numbers, how it was trained, its scores
    model.safetensors   the weights that inference uses
    README.md           the card, for people
    training.pt         all that resuming needs, while a run can be resumed (see kyara.training)

A Checkpoint that someone else made is hostile until checked: config.json is plain JSON, weights are safetensors,
nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
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
from kyara.files.atomic import write_atomic
from kyara.files.errors import CheckpointError

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
FILES = (CONFIG, WEIGHTS, CARD)
"""The files of a Checkpoint that inference needs."""
BUILTIN = Path(__file__).parents[1] / "weights"


@dataclass(frozen=True)
class Checkpoint:
    """A Checkpoint on disk, described but not yet loaded."""

    path: Path
    model: str
    """Name of the architecture: a file in kyara/models."""
    config: Mapping[str, Any]
    """The architecture's numbers: keyword arguments of its Config."""
    about: Mapping[str, Any]
    """Everything else that config.json says: data, kimg, scores, training."""

    @cached_property
    def hash(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the weights' file: what a picture's recipe names."""
        with (self.path / WEIGHTS).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]

    def weights(self) -> dict[str, Tensor]:
        """The tensors by name, as float32 on the CPU (built-in ones are stored in half precision)."""
        try:
            tensors = load_file(self.path / WEIGHTS)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{self.path / WEIGHTS}: not a readable safetensors file ({error})") from error
        return {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}


def builtin_names() -> list[str]:
    """The Checkpoints that ship with Kyara, as `builtin:NAME` takes them."""
    return sorted(p.parent.name for p in BUILTIN.glob(f"*/{CONFIG}"))


def find(name: str | os.PathLike[str]) -> Path:
    """The folder that `builtin:NAME`, `hf-hub:OWNER/NAME` or a path stands for."""
    text = os.fspath(name)
    if text.startswith("builtin:"):
        short = text.removeprefix("builtin:")
        if short not in builtin_names():
            raise CheckpointError(f"{text}: no such built-in checkpoint; there are: {', '.join(builtin_names())}")
        return BUILTIN / short
    if text.startswith("hf-hub:"):
        return hub.download(text.removeprefix("hf-hub:"), FILES)
    return Path(text)


def read(name: str | os.PathLike[str]) -> Checkpoint:
    """Describes the Checkpoint that `name` stands for, without loading its weights. CheckpointError says what is
    missing."""
    path = find(name)
    if not (path / CONFIG).is_file():
        hint = "give a folder that `kyara train` wrote, builtin:NAME or hf-hub:OWNER/NAME"
        raise CheckpointError(f"{path}: not a checkpoint (it has no {CONFIG}); {hint}")
    try:
        about = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        model, config = about.pop("model"), about.pop("config")
        if not isinstance(model, str) or not isinstance(config, dict):
            raise TypeError("'model' must be a name and 'config' a table")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path / CONFIG}: not a description that Kyara understands ({error!r})") from error
    if not (path / WEIGHTS).is_file():
        raise CheckpointError(f"{path}: has no {WEIGHTS} yet; a run writes the first one with its first snapshot")
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
    """Writes a Checkpoint into the folder `path`, each file atomically, the description last."""
    path.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.detach().cpu().contiguous() for name, t in weights.items()}
    write_atomic(path / WEIGHTS, lambda temporary: save_file(tensors, temporary))
    write_atomic(path / CARD, lambda temporary: temporary.write_text(card, encoding="utf-8"))
    text = json.dumps({"model": model, "config": dict(config), **about}, indent=2, ensure_ascii=False)
    write_atomic(path / CONFIG, lambda temporary: temporary.write_text(text + "\n", encoding="utf-8"))


def load_training(path: Path) -> dict[str, Any]:
    """The state that a run left to be resumed from: tensors and plain containers only."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error}). The weights beside it are untouched: continue from them in "
            f"another folder with --init {path.parent} --out NEW"
        ) from error
    return state
