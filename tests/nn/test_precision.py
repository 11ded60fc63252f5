"""Under autocast to bfloat16: what must be in float32 is, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from kyara.data import alterations, variation
from kyara.models import swapping
from kyara.models.drawing import layout
from kyara.nn.losses import ssim
from kyara.nn.precision import affine_grid
from kyara.nn.wavelets import haar, inverse_haar
from kyara.perception.features import gram

PICTURES = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
POINTS = (PICTURES[:, :2, :5, 0].mT + 1) / 2  # (4, 5, 2)
MAPS = torch.tensor([[30.3, -9.7, 31.1], [9.7, 30.3, 29.9]]).expand(4, -1, -1)  # to pixels
THETA = torch.tensor([[0.83, -0.29, 0.07], [0.29, 0.83, -0.05]]).expand(4, -1, -1)

CASES: dict[str, Callable[[], Any]] = {
    "affine_grid": lambda: affine_grid(THETA, PICTURES.shape),
    "warp": lambda: variation.warp(PICTURES, THETA, "reflection"),
    "warp_points": lambda: variation.warp_points(POINTS, THETA),
    "cover": lambda: alterations.cover(PICTURES),
    "random_patches": lambda: swapping.random_patches(PICTURES, swapping.PRESETS["tiny"]),
    "crop": lambda: layout.crop(PICTURES, MAPS, 24),
    "place": lambda: layout.place(POINTS, MAPS),
    "find_place": lambda: layout.find_place(POINTS * 64, MAPS),
    "compose": lambda: layout.compose(MAPS, THETA),
    "ssim": lambda: ssim(PICTURES, PICTURES * 0.9),
    "haar": lambda: haar(PICTURES),
    "inverse_haar": lambda: inverse_haar(haar(PICTURES)),
    "gram": lambda: gram(PICTURES),
}


@pytest.mark.parametrize("name", CASES)
def test_autocast_changes_nothing(name: str) -> None:
    def made(enabled: bool) -> Tensor:
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found: Tensor = CASES[name]()
            return found

    plain, cast = made(False), made(True)
    assert cast.dtype == torch.float32 and torch.equal(cast, plain)


def test_what_autocast_made_is_float32_again() -> None:
    """Predictions are in bfloat16 there, and the maps that they are placed with are not."""
    points, maps = POINTS.bfloat16(), MAPS.bfloat16()
    cases: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "place": lambda points, _: layout.place(points, maps=MAPS),
        "place, narrow maps": lambda points, maps: layout.place(points.float(), maps=maps),
        "find_place": lambda points, _: layout.find_place(points, MAPS),
        "compose": lambda _, maps: layout.compose(maps, THETA),
        "warp_points": lambda points, _: variation.warp_points(points, THETA),
        "affine_grid": lambda _, maps: affine_grid(maps, PICTURES.shape),
    }
    for name, case in cases.items():
        expected = case(points.float(), maps.float())
        with torch.autocast("cpu", torch.bfloat16):
            found = case(points, maps)
        assert found.dtype == torch.float32 and torch.equal(found, expected), name
