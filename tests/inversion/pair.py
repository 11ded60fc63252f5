"""A small parent and child with random weights that share their latents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kyara import models
from kyara.files import checkpoint
from kyara.inversion import latents, pose, reverse

NETWORK = {"z_dim": 16, "w_dim": 16, "mapping_layers": 2, "channel_base": 256, "channel_max": 16}
ATTRIBUTES = {"hair": ["black", "brown", "pink"], "eyes": ["brown", "red"]}


@pytest.fixture(autouse=True, scope="module")
def few_samples() -> Iterator[None]:
    """Statistics of generators are estimated from fewer samples than usual, in the modules that import this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latents, "SAMPLES", 256)
        patch.setattr(pose, "SAMPLES", 64)
        patch.setattr(pose, "STEPS", 10)
        patch.setattr(reverse, "PAIRS", 8)
        yield


def write(
    path: Path, *, seed: int = 0, labels: bool = False, near: str | None = None, width: int = 32, **network: Any
) -> str:
    """A stylegan2 with random weights, or with those of the checkpoint `near` changed a little. With `labels` it is
    conditioned on hair and eyes."""
    torch.manual_seed(seed)
    data = {"width": width, "height": 32, "attributes": ATTRIBUTES if labels else {}}
    config = {"data": data, "network": {**NETWORK, **network, "labels_from": 4 if labels else 0}}
    model = models.build("stylegan2", config)
    weights = {k: t * 0.2 if "to_rgb.conv" in k else t for k, t in models.stored(model).items()}  # within [-1, 1]
    if near is not None:
        theirs = checkpoint.read(near).weights()
        weights = weights | {k: t + 0.05 * torch.randn_like(t) for k, t in theirs.items() if k in weights}
    for name in weights:
        if name.endswith("labels.rows"):
            weights[name] = torch.randn_like(weights[name])
    checkpoint.write(path, model="stylegan2", config=config, weights=weights, card="test", about={})
    return str(path)
