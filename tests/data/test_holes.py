"""Holes: on the device of the pictures."""

from __future__ import annotations

import torch

from kyara.data.holes import HoleConfig, draw_holes


def test_every_kind_is_drawn_on_the_device() -> None:
    """Tensors of two devices would not mix."""
    holes = draw_holes(HoleConfig(), 4, 16, 24, device=torch.device("meta"))
    assert holes.device.type == "meta" and holes.shape == (4, 1, 16, 24)
