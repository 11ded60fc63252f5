"""Taggers behind one function: what a face shows, as probabilities."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from kyara.files import hub
from kyara.files.pictures import center_crop
from kyara.labels.onnx import COMPANIONS, Kind, OnnxTagger
from kyara.models import base, load
from kyara.training.runtime import has_bfloat16

NETWORK = "model.onnx"
"""What the hub's repositories call it."""


class Tagger(Protocol):
    """What tells attributes of pictures. The built-in kind also has `embed(pictures) -> (B, F)` of length 1."""

    device: torch.device

    @property
    def attributes(self) -> Mapping[str, tuple[str, ...]]:
        """Attribute -> values, in the order of what `probabilities` gives."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels that it looks at."""

    def fit(self, picture: np.ndarray) -> np.ndarray:
        """A picture (H, W, 3) uint8 brought to `size`, as this tagger wants it."""

    def probabilities(self, pictures: Tensor) -> dict[str, Tensor]:
        """For each attribute (B, V) float32 on the CPU: how likely each value is for each of the pictures (B, 3, H, W)
        in [-1, 1]. They may sum to less than 1; the rest is that none of them shows."""


class CheckpointTagger:
    """A `kyara train tagger`."""

    def __init__(self, name: str | os.PathLike[str], device: torch.device) -> None:
        model = load(name, device)
        if not isinstance(model, base.Tagger):
            raise ValueError(f"{name}: this model does not classify attributes; builtin:tagger does")
        self.model, self.device = model, device
        self.attributes: Mapping[str, tuple[str, ...]] = model.attributes
        self.size = model.config.data.width, model.config.data.height

    def fit(self, picture: np.ndarray) -> np.ndarray:
        return center_crop(picture, *self.size)

    @torch.inference_mode()
    def probabilities(self, pictures: Tensor) -> dict[str, Tensor]:
        with self._precision():
            found = self.model.probabilities(pictures.to(self.device))
        return {name: values.float().cpu() for name, values in found.items()}

    @torch.inference_mode()
    def embed(self, pictures: Tensor) -> Tensor:
        """Embeddings (B, F) float32 of length 1 on the CPU, of pictures (B, 3, H, W) in [-1, 1]."""
        with self._precision():
            return self.model.embed(pictures.to(self.device)).float().cpu()

    def _precision(self) -> torch.autocast:
        """bfloat16 where the device computes in it: two to three times as fast."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=has_bfloat16(self.device))


def load_tagger(name: str | os.PathLike[str], device: str | torch.device = "cpu", kind: Kind | None = None) -> Tagger:
    """The tagger of a Checkpoint (`builtin:tagger`, a folder, `hf-hub:OWNER/NAME`) or of an ONNX file or a folder or
    repository with one. `kind` says which ONNX tagger it is where the files beside it do not. ValueError says what is
    missing and what to do."""
    device, text = torch.device(device), os.fspath(name)
    if text.startswith("hf-hub:"):
        repository = text.removeprefix("hf-hub:")
        path = hub.download(repository, (NETWORK, *COMPANIONS.values()))
        if not (path / NETWORK).is_file():
            return CheckpointTagger(text, device)
    else:
        path = Path(text)
    if path.is_dir() and (networks := sorted(path.glob("*.onnx"))):
        if len(networks) > 1:
            raise ValueError(f"{path}: holds several networks ({networks[0].name}, {networks[1].name}); name one")
        path = networks[0]
    if path.suffix.lower() == ".onnx":
        return OnnxTagger(path, device, kind)
    if kind is not None:
        raise ValueError(f"--kind {kind}: says what an ONNX file is; {text} is none")
    return CheckpointTagger(text, device)
