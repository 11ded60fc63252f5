"""Every architecture of the registry in every way that it can be trained, small, and batches for it."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from kyara import models
from kyara.models.base import Batch, Model

ATTRIBUTES = {"hair": ("black", "blonde", "blue"), "eyes": ("green", "red")}
COUNTS = ((0, 0, 5), (0, 1, 2), (1, 1, 3), (2, 0, 1))


class Variant(NamedTuple):
    """An architecture, without attributes or with them."""

    name: str
    told: bool


def variants() -> list[Variant]:
    """Each architecture in every way that it can be trained."""
    found = []
    for name in models.names():
        use = models.architecture(name).data_spec.attributes
        found += [Variant(name, False)] * (use != "must") + [Variant(name, True)] * (use != "never")
    return found


def tiny(variant: Variant, **size: int) -> Model:
    torch.manual_seed(0)
    cls = models.architecture(variant.name)
    data: dict[str, Any] = {"attributes": ATTRIBUTES, "label_counts": COUNTS} if variant.told else {}
    return cls(cls.presets["tiny"].replace(data={**data, **size}))


def batch_of(model: Model, count: int = 8) -> Batch:
    """Random pictures, and labels of which some are unknown."""
    real = torch.rand(count, 3, model.config.data.height, model.config.data.width) * 2 - 1
    labels = {name: torch.arange(count) % (len(v) + 1) - 1 for name, v in model.config.data.attributes.items()}
    points = mirrored = None
    if model.data_spec.points:
        points, mirrored = torch.rand(count, model.data_spec.points, 2), torch.arange(count) % 2 > 0
        points[1] = torch.nan
    faces = None
    if model.data_spec.boxes:
        faces, mirrored = torch.rand(count, 3, 7, 2) * 0.6 + 0.2, torch.arange(count) % 2 > 0
        faces[:, :, 0], faces[:, :, 1] = faces[:, :, 2] - 0.2, faces[:, :, 2] + 0.2
        faces[0], faces[1, 1:], faces[2, :, 2:] = torch.nan, torch.nan, torch.nan
    photos = real.flip(0, 1) if model.data_spec.photos else None
    return Batch(real, labels=labels, points=points, faces=faces, mirrored=mirrored, photos=photos)
