"""The numbers of a ConvNeXt (Liu et al. 2022), as transformers builds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import ConvNextConfig


def convnext(network: Mapping[str, Any]) -> ConvNextConfig:
    """Of the numbers of a NetworkConfig: `patch_size`, `depths`, `widths`, `layer_scale` and perhaps `drop_path`."""
    return ConvNextConfig(
        patch_size=network["patch_size"],
        num_stages=len(network["depths"]),
        depths=list(network["depths"]),
        hidden_sizes=list(network["widths"]),
        drop_path_rate=network.get("drop_path", 0.0),
        layer_scale_init_value=network["layer_scale"],
    )
