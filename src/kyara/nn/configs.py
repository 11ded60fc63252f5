"""What a model needs from data, and the parts of a Config: frozen dataclasses, which architectures extend."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, Self

import torch

from kyara.files.gallery_page import UNTAGGED
from kyara.nn import conditioning

SMALLEST_BAND = 4  # least shorter side of the wavelet bands of a picture


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """What a model needs from data."""

    attributes: Literal["never", "may", "must"] = "never"  # whether it learns `train --attributes`
    photos: bool = False  # it learns from two unpaired datasets, `train --photos` and `--drawings`
    points: int = 0  # it learns the column `points`, of so many points
    boxes: bool = False  # it learns the column `boxes`
    of_model: Literal["never", "may", "must"] = "never"  # whether it learns from other models, `train --of`
    keeps_attributes: bool = False  # with --init it learns from pictures without labels and keeps its attributes
    holdout: float = 0.0  # share of the pictures that is held out from training, for `measure`


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The pictures, and what is known about them."""

    width: int = 64  # width in pixels
    height: int = 64  # height in pixels
    attributes: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)  # its values in order
    label_counts: tuple[tuple[int, ...], ...] = ()
    """A row for each combination of labels that occurs, and its count, at most 4,096; see `kyara.nn.label_table`. With
    `unlabelled` the table is that of --init."""
    unlabelled: tuple[str, ...] = ()  # attributes that --init knows, and of which no picture has a label

    def __post_init__(self) -> None:
        if unknown := [name for name in self.unlabelled if name not in self.attributes]:
            raise ValueError(f"unlabelled: {', '.join(unknown)} is not one of the attributes")
        conditioning.check(self.attributes, self.label_counts, reserved=UNTAGGED)


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the networks. Each architecture has its own."""


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights of the losses. Each architecture has its own."""


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Adam, the schedule of its learning rate, and the moving average of the weights."""

    batch: int = 32  # pictures in one step
    lr: float = 2e-4  # learning rate
    betas: tuple[float, float] = (0.0, 0.99)  # decay rates of the first and second moment
    ema_kimg: float = 10.0  # half-life of the moving average of the weights, in thousands of pictures
    ema_ramp: float = 0.05  # maximum half-life, as a share of the pictures seen so far
    ema_start_kimg: float = 0.0  # pictures, in thousands, that count as seen at the start; 20 with --init
    warmup: float = 0.0  # share of the run, at its start, over which the learning rate rises linearly
    decay: float = 0.0  # share of the run, at its end, over which the learning rate falls to zero along a cosine

    def __post_init__(self) -> None:
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError("optimizer.betas: must be two numbers from 0 to below 1, such as 0.5/0.99")

    def create(self, parameters: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Fused, so that a step with a NaN can be skipped without a host sync."""
        return torch.optim.Adam(parameters, lr=self.lr, betas=self.betas, fused=True)

    def lr_scale(self, progress: float) -> float:
        """Factor on the learning rate at `progress` in [0, 1] of the run."""
        if progress < self.warmup:
            return (progress + 1e-3) / (self.warmup + 1e-3)
        start = max(self.warmup, 1 - self.decay)
        if progress <= start or start >= 1:
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * min((progress - start) / (1 - start), 1.0)))


@dataclasses.dataclass(frozen=True)
class CosineConfig(OptimizerConfig):
    """Adam whose learning rate rises linearly and then falls along a cosine for the rest of the run."""

    warmup: float = 0.05
    decay: float = 1.0


@dataclasses.dataclass(frozen=True)
class AdamWConfig(CosineConfig):
    """AdamW, with the same schedule."""

    weight_decay: float = 0.05  # decoupled weight decay

    def create(self, parameters: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, lr=self.lr, betas=self.betas, weight_decay=self.weight_decay, fused=True)


@dataclasses.dataclass(frozen=True)
class Config:
    """All numbers of an architecture, in parts. Presets are instances that differ in numbers only. Architectures
    override `network`, `losses` and `optimizer`, and may add parts."""

    data: DataConfig = DataConfig()
    network: NetworkConfig = NetworkConfig()
    losses: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()

    def check_new(self) -> None:
        """Raises ValueError for numbers that a new run cannot have. Runs of older versions may have them, and can be
        read."""
        for name in ("warmup", "decay"):
            if not 0 <= (share := getattr(self.optimizer, name)) <= 1:
                raise ValueError(f"optimizer.{name}={share}: is a share of the run; must be from 0 to 1")
        wavelets, shorter = getattr(self.network, "wavelets", 0), min(self.data.width, self.data.height)
        if wavelets and shorter >> wavelets < SMALLEST_BAND:
            most = max((shorter // SMALLEST_BAND).bit_length() - 1, 0)
            raise ValueError(f"network.wavelets={wavelets}: must be at most {most} for pictures of {shorter} pixels")

    def warning(self) -> str | None:
        """What a new run with these numbers learns badly; None if nothing is known."""
        return None

    def replace(self, **parts: Mapping[str, Any]) -> Self:
        """A copy with some numbers replaced, e.g. `replace(losses={"style": 2.0})`. ValueError names unknown ones."""
        known, replaced = {field.name for field in dataclasses.fields(self)}, {}
        if unknown := sorted(set(parts) - known):
            raise ValueError(f"config: unknown part {', '.join(unknown)}; the parts are {', '.join(sorted(known))}")
        for name, values in parts.items():
            part = getattr(self, name)
            if not isinstance(values, Mapping):
                raise ValueError(f"config: {name} must be a table of numbers, not {values!r}")
            numbers = {field.name for field in dataclasses.fields(part)}
            if unknown := sorted(set(values) - numbers):
                wrong = ", ".join(f"{name}.{key}" for key in unknown)
                raise ValueError(f"config: unknown {wrong}; {name} has {', '.join(sorted(numbers))}")
            replaced[name] = dataclasses.replace(part, **values)
        return dataclasses.replace(self, **replaced)
