"""What benchmarks/munit.py measures; no weights are needed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scripts import load

from kyara.perception.vgg16 import VGG16


@pytest.fixture(scope="module")
def munit() -> Any:
    return load("munit")


def test_structure_tells_its_own_photo(munit: Any) -> None:
    torch.manual_seed(0)
    photos = torch.rand(6, 3, 64, 64) * 2 - 1
    recoloured = torch.stack([photos, -0.5 * photos, photos.flip(1) * 0.7 + 0.1], 1)  # (6, 3, 3, 64, 64)
    kept = munit.structure(photos, recoloured)
    assert kept.own == pytest.approx(1, abs=1e-3) and kept.nearest == 1 and kept.others < 0
    lost = munit.structure(photos, recoloured.roll(1, 0))
    assert lost.nearest == 0 and lost.own < 0
    assert munit.edges(torch.full((1, 3, 64, 64), 0.3)).abs().max() < 1e-6
    step = torch.full((1, 3, 64, 64), -1.0)
    step[..., 32:] = 1
    found = munit.edges(step).view(16, 16)
    assert (found[:, 7:9] > 0).all() and found[:, :7].max() == 0 and found[:, 9:].max() == 0


def test_lpips_is_the_mean_over_pairs(munit: Any, vgg16: VGG16) -> None:
    torch.manual_seed(0)
    pictures = torch.rand(3, 3, 32, 32) * 2 - 1
    pictures[1] = pictures[0]
    with torch.no_grad():
        other = float(vgg16.distance(pictures[:1], pictures[2:]))
        assert munit.lpips_of_pairs(vgg16, pictures, [(0, 1), (0, 2)]) == pytest.approx(other / 2, rel=1e-4)
