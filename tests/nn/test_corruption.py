"""Disturbances of feature maps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from kyara.nn import corruption


class Small(nn.Module):
    """A generator with one layer below SMALLEST, one that is too narrow, one that runs twice, and two that fit."""

    def __init__(self) -> None:
        super().__init__()
        self.coarse = nn.Conv2d(8, 8, 1)
        self.wide, self.wider = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.twice, self.rgb = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 3, 1)

    def forward(self, z: Tensor) -> Tensor:
        x = nn.functional.interpolate(self.coarse(z), scale_factor=4)
        return self.rgb(self.twice(self.twice(self.wider(self.wide(x)))))


def test_layers_that_can_be_disturbed() -> None:
    net, z = Small(), torch.randn(2, 8, 4, 4)
    names, pictures = corruption.feature_layers(net, lambda: net(z))
    assert names == ["wide", "wider"]
    assert torch.equal(pictures, net(z))
    assert not any(module._forward_hooks for module in net.modules())
    with pytest.raises(RuntimeError, match="no feature maps of 8 pixels"):
        corruption.feature_layers(net.coarse, lambda: net.coarse(z))


def test_breaking_leaves_the_network_as_it_was() -> None:
    torch.manual_seed(0)
    net, z = Small(), torch.randn(4, 8, 4, 4)
    whole, broken = corruption.break_pictures(net, lambda: net(z))
    assert torch.equal(whole, net(z)) and not torch.equal(whole, broken)


def test_regions_are_soft_and_some_are_everywhere() -> None:
    torch.manual_seed(0)
    masks = corruption.regions(400, 16, 24, torch.device("cpu"))
    assert masks.shape == (400, 1, 16, 24) and masks.min() >= 0 and masks.max() <= 1
    share = (masks == 1).flatten(1).all(1).float().mean()
    assert 0.1 < share < 0.35
    assert 0.2 < masks.mean() < 0.8


@pytest.mark.parametrize("kind", corruption.KINDS)
def test_each_kind_changes_maps(kind: object) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 32, 16, 16)
    changed = kind(x)  # type: ignore[operator]
    assert changed.shape == x.shape and torch.isfinite(changed).all()
    assert (changed != x).flatten(1).any(1).all()


def test_kinds_do_what_they_say() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 32, 16, 16)
    assert torch.equal(corruption.exchanged(x)[1], x[0])
    removed = corruption.removed(x)
    gone = (removed == 0).flatten(2).all(2)  # (B, C)
    assert torch.equal(removed[~gone], x[~gone]) and 0 < gone.float().mean() < 1
    ratio = corruption.amplified(x) / x
    assert (ratio.std((2, 3)) < 1e-3).all()  # one factor for each channel
    moved = corruption.moved(x)
    assert torch.equal(moved.sort().values.sum(), x.sort().values.sum()) or moved.sum().isclose(x.sum(), atol=1e-2)
