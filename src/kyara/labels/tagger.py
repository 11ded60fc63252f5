"""A common interface of taggers: probabilities of attribute values."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from kyara.files import hub
from kyara.files.pictures import center_crop
from kyara.labels.kinds import TAG_LISTS, Kind
from kyara.labels.onnx import OnnxTagger
from kyara.models import base, load
from kyara.training.inference import fit_batch
from kyara.training.runtime import has_bfloat16

BATCH, GPU_BATCH = 64, 256  # Batch size on a CPU and of ONNX networks, and the largest one of others on a GPU
NETWORK = "model.onnx"  # File name of the network in repositories of the hub


class Tagger(Protocol):
    """A network that predicts attributes of pictures."""

    device: torch.device
    attributes: Mapping[str, tuple[str, ...]]  # Attribute -> values, in the order of the columns of `probabilities`
    size: tuple[int, int]  # Width and height of its input in pixels
    hash: str  # First 16 hexadecimal digits of the SHA-256 of its file of weights

    def fit(self, picture: np.ndarray) -> np.ndarray:
        """Resizes a picture (H, W, 3) uint8 to `size` with the preprocessing of this tagger."""

    def probabilities(self, pictures: Tensor) -> dict[str, Tensor]:
        """For each attribute the probability of each value, (B, V) float32, for pictures (B, 3, H, W) in [-1, 1]. A row
        may sum to less than 1: the rest is the probability that no value applies. The values of a Checkpoint are on its
        device, so that the caller decides when to wait for them."""

    def embed(self, pictures: Tensor) -> Tensor:
        """Features (B, F) float32 on the CPU, of pictures (B, 3, H, W) in [-1, 1]."""


class CheckpointTagger:
    """A Checkpoint of `kyara train tagger`."""

    def __init__(self, name: str | os.PathLike[str], device: torch.device) -> None:
        model = load(name, device)
        if not isinstance(model, base.Tagger):
            raise ValueError(f"{name}: a {model.checkpoint.model}, but a tagger is needed, such as builtin:tagger")
        self.model, self.device = model, device
        self.hash = model.checkpoint.hash
        self.attributes: Mapping[str, tuple[str, ...]] = model.attributes
        self.size = model.config.data.width, model.config.data.height

    def fit(self, picture: np.ndarray) -> np.ndarray:
        return center_crop(picture, *self.size)

    @torch.inference_mode()
    def probabilities(self, pictures: Tensor) -> dict[str, Tensor]:
        with self._precision():
            found = self.model.probabilities(pictures.to(self.device))
        return {name: values.float() for name, values in found.items()}

    @torch.inference_mode()
    def embed(self, pictures: Tensor) -> Tensor:
        """Embeddings (B, F) float32 of length 1 on the CPU, of pictures (B, 3, H, W) in [-1, 1]."""
        with self._precision():
            return self.model.embed(pictures.to(self.device)).float().cpu()

    def _precision(self) -> torch.autocast:
        """bfloat16 where the device supports it: two to three times as fast."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=has_bfloat16(self.device))


def batch_size(tagger: Tagger) -> int:
    """The number of pictures to tag at once: 64, and on a GPU up to 256, as its memory allows."""
    if not isinstance(tagger, CheckpointTagger):  # onnxruntime manages its own memory
        return BATCH
    width, height = tagger.size
    blank = functools.partial(torch.zeros, device=tagger.device)
    return fit_batch(
        lambda count: tagger.probabilities(blank(count, 3, height, width)), tagger.device, cpu=BATCH, most=GPU_BATCH
    )


def load_tagger(name: str | os.PathLike[str], device: str | torch.device = "cpu", kind: Kind | None = None) -> Tagger:
    """Loads a tagger from a Checkpoint (`builtin:tagger`, a folder, `hf-hub:OWNER/NAME`) or from an ONNX file or a
    folder or repository with one. `kind` is the kind of ONNX tagger, if it cannot be derived from the files in its
    folder. Raises ValueError with a hint if it cannot be loaded."""
    device, text = torch.device(device), os.fspath(name)
    if text.startswith("hf-hub:"):
        repository = text.removeprefix("hf-hub:")
        path = hub.download(repository, (NETWORK, *TAG_LISTS.values()))
        if not (path / NETWORK).is_file():
            return CheckpointTagger(text, device)
    else:
        path = Path(text)
    if path.is_dir() and (networks := sorted(path.glob("*.onnx"))):
        if len(networks) > 1:
            raise ValueError(f"{path}: contains several networks ({networks[0].name}, {networks[1].name}); give one")
        path = networks[0]
    if path.suffix.lower() == ".onnx":
        return OnnxTagger(path, device, kind)
    if kind is not None:
        raise ValueError(f"--kind {kind}: only for an ONNX file, and {text} is not one")
    return CheckpointTagger(text, device)
