"""The numbers of a ConvNeXt (Liu et al. 2022), as transformers builds it."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import ConvNextConfig


def convnext(
    patch: int, depths: Sequence[int], widths: Sequence[int], layer_scale: float, drop_path: float = 0.0
) -> ConvNextConfig:
    """A stage for each of `depths` and `widths`: so many blocks of so many channels, on patches of `patch` pixels."""
    return ConvNextConfig(
        patch_size=patch,
        num_stages=len(depths),
        depths=list(depths),
        hidden_sizes=list(widths),
        drop_path_rate=drop_path,
        layer_scale_init_value=layer_scale,
    )
