"""What a model is trained on in one step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


def identity(pictures: Tensor) -> Tensor:
    """No augmentation."""
    return pictures


@dataclasses.dataclass
class Batch:
    """The input of `Model.losses`."""

    real: Tensor  # pictures of the dataset: (B, 3, H, W), RGB in [-1, 1]
    step: int = 0  # number of previous optimiser steps
    labels: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)  # (B,) int64; -1 where unknown
    points: Tensor | None = None  # landmarks (B, K, 2) as fractions of width and height; NaN where unknown
    faces: Tensor | None = None
    """(B, M, 7, 2), as fractions of width and height: two opposite corners of each face's box, and its five points, NaN
    where unknown, or where a picture has fewer than M faces. For `data_spec.boxes`."""
    mirrored: Tensor | None = None  # which pictures and points were flipped horizontally, (B,) bool
    photos: Tensor | None = None  # unpaired photos (B, 3, H, W) in [-1, 1]. For `data_spec.photos`.
    augment: Callable[[Tensor], Tensor] = identity  # differentiable; applied to all inputs of a discriminator
    log: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    """Detached scalars to log in addition to the losses. `real_sign` and `fake_sign`, the mean signs of the logits of a
    discriminator, control the adaptive augmentation and the detection of failed training."""

    def log_signs(self, real: Tensor, fake: Tensor, threshold: float = 0.0) -> None:
        """Logs the mean signs of logits, minus the threshold between real and fake."""
        for name, logits in (("real_sign", real), ("fake_sign", fake)):
            self.log[name] = (logits.detach() - threshold).sign().mean()

    def __getitem__(self, part: slice) -> Batch:
        """A slice of the batch."""
        return self.map(lambda tensor: tensor[part], log={})

    def tensors(self) -> list[Tensor]:
        """Every tensor, always in the same order."""
        found: list[Tensor] = []
        self.map(lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
        return found

    def clone(self) -> Batch:
        return self.map(torch.clone)

    def to(self, device: torch.device) -> Batch:
        """Copies the batch to a device, and converts uint8 pictures to floats in [-1, 1] there."""

        def move(tensor: Tensor) -> Tensor:
            tensor = tensor.to(device, non_blocking=True)
            return tensor.float().div_(127.5).sub_(1) if tensor.dtype == torch.uint8 else tensor

        return self.map(move)

    def map(self, function: Callable[[Tensor], Tensor], **others: Any) -> Batch:
        """The same with every tensor replaced by the result of `function`, and `others`."""
        names = ("real", "points", "faces", "mirrored", "photos")
        others |= {name: function(tensor) for name in names if (tensor := getattr(self, name)) is not None}
        labels = {name: function(label) for name, label in self.labels.items()}
        return dataclasses.replace(self, labels=labels, **others)
