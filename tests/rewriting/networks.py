"""A small generator with random weights, its projector, and edits for it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kyara import models
from kyara.files import checkpoint
from kyara.models import projector

SIZE: dict[str, Any] = {
    "data": {"width": 32, "height": 32},
    "network": {"z_dim": 16, "w_dim": 16, "mapping_layers": 2, "channel_base": 512, "channel_max": 32},
}  # fmt: skip
MASK = [10, 12, 12, 8]


def generator(path: Path, seed: int = 0) -> str:
    torch.manual_seed(seed)
    model = models.build("stylegan2", SIZE)
    weights = {k: t * 0.2 if "to_rgb.conv" in k else t for k, t in models.stored(model).items()}  # within [-1, 1]
    checkpoint.write(path, model="stylegan2", config=SIZE, weights=weights, card="# small\n", about={})
    return str(path)


def untrained(path: Path, kind: str) -> str:
    """The preset `tiny` of an architecture, with random weights."""
    torch.manual_seed(2)
    config = models.architecture(kind).presets["tiny"]
    numbers, model = dataclasses.asdict(config), models.architecture(kind)(config)
    checkpoint.write(path, model=kind, config=numbers, weights=models.stored(model), card="", about={})
    return str(path)


def projector_of(path: Path, of: str) -> str:
    """A projector with random weights."""
    torch.manual_seed(1)
    config = projector.PRESETS["tiny"].replace(**projector.Model.describe_source(of, "auto"))
    model = projector.Model(config)
    model.deviation.fill_(0.5)
    numbers, weights = dataclasses.asdict(config), models.stored(model)
    checkpoint.write(path, model="projector", config=numbers, weights=weights, card="", about={})
    return str(path)


def pattern(colour: tuple[int, int, int] = (250, 10, 10)) -> np.ndarray:
    """A disc on a transparent background, (12, 12, 4) uint8."""
    y, x = np.mgrid[:12, :12] - 5.5
    full = np.zeros((12, 12, 4), np.uint8)
    full[x**2 + y**2 < 34] = (*colour, 255)
    return full


def edit(name: str = "disc", colour: tuple[int, int, int] = (250, 10, 10), **changes: Any) -> dict[str, Any]:
    example = {"seed": 3, "mask": MASK, "source": {"picture": pattern(colour)}} | changes
    return {"name": name, "examples": [example]}
