"""A parent and a child, small and with random weights, that share their latents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from kyara import models
from kyara.files import checkpoint

NETWORK = {"z_dim": 16, "w_dim": 16, "mapping_layers": 2, "channel_base": 256, "channel_max": 16}
ATTRIBUTES = {"hair": ["black", "brown", "pink"], "eyes": ["brown", "red"]}


def write(
    path: Path, *, seed: int = 0, told: bool = False, near: str | None = None, width: int = 32, **network: Any
) -> str:
    """A stylegan2 with random weights; `near` a parent, it is that one moved a
    little. Told, it has rows for the labels of hair and eyes."""
    torch.manual_seed(seed)
    data = {"width": width, "height": 32, "attributes": ATTRIBUTES if told else {}}
    config = {"data": data, "network": {**NETWORK, **network, "labels_from": 4 if told else 0}}
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
