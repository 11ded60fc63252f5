"""Filters of single pictures."""

from __future__ import annotations

import math

import torch

from kyara.models.drawing import filters


def stripes(angle: float, size: int = 64) -> torch.Tensor:
    """Dark lines (1, S, S) in a direction."""
    rows, columns = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing="ij")
    across = rows * math.cos(angle) - columns * math.sin(angle)
    return 0.5 + 0.4 * torch.sin(across * 0.9)[None]


def test_flow_runs_along_the_lines() -> None:
    for angle in (0.0, 0.4, 1.2):
        x, y = filters.flow(stripes(angle), 3.0)[:, 16:-16, 16:-16]
        assert (x * math.cos(angle) + y * math.sin(angle)).abs().mean() > 0.98


def test_smoothing_along_the_flow_keeps_lines_and_removes_noise() -> None:
    torch.manual_seed(0)
    lines = stripes(0.4)
    noisy = lines + torch.randn_like(lines) * 0.1
    smooth = filters.along(noisy, filters.flow(lines, 3.0), 4.0)
    inside = (slice(None), slice(12, -12), slice(12, -12))
    assert (smooth - lines)[inside].abs().mean() < 0.5 * (noisy - lines)[inside].abs().mean()


def test_only_known_pixels_count() -> None:
    picture, known = torch.full((3, 40, 40), 0.2), torch.zeros(1, 40, 40)
    picture[:, :, 20:], known[:, :, :20] = 0.9, 1.0
    assert torch.allclose(filters.known_blur(picture, known, 4.0), torch.tensor(0.2), atol=1e-3)


def test_wide_blurs_are_computed_on_a_smaller_copy() -> None:
    picture = torch.zeros(1, 96, 96)
    picture[:, 48:] = 1.0
    edge = filters.blur(picture, 10.0)[0, :, 48]
    expected = 0.5 + 0.5 * torch.erf((torch.arange(96) - 47.5) / (10.0 * math.sqrt(2)))
    assert (edge - expected).abs().max() < 0.04


def test_the_guided_filter_follows_the_guide() -> None:
    guide = torch.zeros(3, 48, 48)
    guide[0, :, 25:], guide[2, :, :25] = 0.8, 0.6
    coarse = filters.blur((torch.arange(48) >= 22).float().expand(1, 48, 48).clone(), 3.0)  # soft, and beside the edge
    sharp = filters.guided(coarse, guide, 8, 1e-4)
    assert sharp[0, 24, 27] - sharp[0, 24, 22] > 1.5 * (coarse[0, 24, 27] - coarse[0, 24, 22])
    assert torch.allclose(filters.guided(torch.full((2, 30, 31), 0.3), guide[:, :30, :31], 4, 1e-4), torch.tensor(0.3))


def test_a_border_has_its_width() -> None:
    share = torch.linspace(-1.5, 2.5, 64).expand(1, 64, 64)
    assert abs(float(filters.border(share, 3.0).sum(2).mean()) - 3.0) < 0.2


def test_weighted_quantiles() -> None:
    values = torch.arange(300.0).view(1, 1, 300) / 300
    weight = (values >= 0.5).float()
    assert torch.allclose(
        filters.quantile(values, weight, (0.02, 0.5, 1.0)), torch.tensor([0.51, 0.75, 0.99]), atol=0.02
    )
