"""Random affine maps and colours: nothing moves without strength, points move with the picture."""

from __future__ import annotations

import torch

from kyara.data import variation


def test_without_strength_nothing_changes() -> None:
    pictures = torch.rand(3, 3, 20, 32) * 2 - 1
    theta = variation.random_affine(pictures, degrees=0.0, scale=0.0, translate=0.0)
    assert torch.allclose(variation.warp(pictures, theta, "border"), pictures, atol=1e-5)
    assert torch.equal(variation.jitter(pictures, 0.0), pictures)


def test_points_move_with_the_picture() -> None:
    torch.manual_seed(0)
    points = torch.tensor([[[0.4, 0.6]]]).expand(16, 1, 2)
    x, y = (torch.arange(96) + 0.5) / 96, (torch.arange(64)[:, None] + 0.5) / 64
    blot = torch.exp(-((x - 0.4).square() * 2.25 + (y - 0.6).square()) / (2 * 0.03**2)).expand(16, 1, -1, -1)
    theta = variation.random_affine(blot, degrees=30.0, scale=0.2, translate=0.1)
    moved, there = variation.warp(blot, theta, "zeros"), variation.warp_points(points, theta)
    total = moved.sum((1, 2, 3))
    found = torch.stack([(moved * x).sum((1, 2, 3)), (moved * y).sum((1, 2, 3))], 1) / total[:, None]
    assert torch.allclose(found, there[:, 0], atol=0.01) and there.std(0).min() > 0.03


def test_jitter_is_one_straight_line_per_channel() -> None:
    torch.manual_seed(0)
    ramp = torch.linspace(-0.5, 0.5, 64).view(1, 1, 8, 8).expand(2, 3, -1, -1)
    for channels in (1, 3):
        varied = variation.jitter(ramp, 0.25, channels)
        step = varied.flatten(2).diff()
        assert torch.allclose(step, step[..., :1].expand_as(step), atol=1e-5)
        same = torch.equal(varied[:, 0], varied[:, 1])
        assert same == (channels == 1) and not torch.equal(varied[0], varied[1])
