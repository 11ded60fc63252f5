"""What painters know of pictures, on pictures whose painting is known."""

from __future__ import annotations

import numpy as np
import torch

from kyara.models.cartoongan import painting


def test_a_stroke_has_the_colour_of_the_square_that_varies_least() -> None:
    pictures = torch.rand(1, 3, 12, 14, generator=torch.Generator().manual_seed(0))
    radius = 2
    found = painting.kuwahara(pictures, radius)[0].numpy()
    x = np.pad(pictures[0].numpy(), ((0, 0), (radius, radius), (radius, radius)), mode="edge").astype(np.float64)
    light = np.tensordot([0.299, 0.587, 0.114], x, 1)
    for down, right in ((0, 0), (5, 7), (11, 13)):
        total, weights = np.zeros(3), 0.0
        for y in (down, down + radius):
            for z in (right, right + radius):
                part = (slice(y, y + radius + 1), slice(z, z + radius + 1))
                weight = (light[part].var() + 1e-4) ** -4
                total, weights = total + weight * x[(slice(None), *part)].mean((1, 2)), weights + weight
        assert np.allclose(found[:, down, right], total / weights, atol=1e-4)


def test_an_edge_stays_an_edge_and_noise_goes() -> None:
    step = torch.where(torch.arange(64) < 32, 0.2, 0.8).expand(1, 3, 64, 64)
    noise = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.05
    painted = painting.kuwahara(step + noise, 3)
    assert (painted[..., 8:30].std() < 0.03) and (painted[..., 34:56].std() < 0.03)
    assert torch.allclose(painting.kuwahara(step, 3), step, atol=1e-3)


def test_few_tones_are_few_and_keep_their_hue() -> None:
    ramp = torch.linspace(0.01, 0.99, 600).expand(1, 3, 4, 600) * torch.tensor([1.0, 0.8, 0.6])[:, None, None]
    toned = painting.few_tones(ramp)
    light = painting.luminance(toned)[0, 0, 0]
    near = (light * painting.TONES - (light * painting.TONES).round()).abs() < 0.12
    assert near.float().mean() > 0.75 and not ((light - painting.luminance(ramp)[0, 0, 0]).abs() > 0.09).any()
    assert torch.allclose(toned[:, 1] / toned[:, 0], torch.full((1, 4, 600), 0.8), atol=1e-4)


def test_a_line_is_what_is_darker_than_its_surroundings() -> None:
    pictures = torch.full((1, 3, 64, 64), 0.7)
    pictures[..., 30:32] = 0.2
    found = painting.lines(pictures)[0, 0]
    assert found[:, 30:32].max() < 0.2 and torch.allclose(found[:, :24], torch.ones(64, 24), atol=1e-4)
    assert torch.allclose(painting.lines(1 - pictures)[0, 0, :, 30:32], torch.ones(64, 2), atol=1e-4)  # light ones not


def test_blur_is_a_gaussian() -> None:
    point = torch.zeros(1, 1, 21, 21)
    point[..., 10, 10] = 1.0
    row = np.exp(-(np.arange(-6, 7) ** 2) / 8.0)
    row /= row.sum()
    assert np.allclose(painting.blur(point, 2.0)[0, 0, 4:17, 4:17].numpy(), np.outer(row, row), atol=1e-6)


def test_cels_have_any_size_and_lines_survive_bfloat16() -> None:
    pictures = torch.rand(2, 3, 33, 47, generator=torch.Generator().manual_seed(0)) * 2 - 1
    drawn = painting.cel(pictures)
    assert drawn.shape == pictures.shape and drawn.abs().max() <= 1
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(painting.cel(pictures), drawn)
    assert painting.cel(torch.zeros(1, 3, 1, 1)).shape == (1, 3, 1, 1)


def test_ink_darkens_lines_and_nothing_else() -> None:
    given = torch.full((1, 3, 64, 64), 0.5)
    given[:, :, :, 32] = 0.1
    assert torch.allclose(painting.ink(given, 0.0, 256), given, atol=1e-6)
    half, whole = painting.ink(given, 0.5, 256), painting.ink(given, 1.0, 256)
    assert torch.allclose(half, (given + whole) / 2, atol=1e-6)
    assert whole[0, 0, 30, 32] < -0.6, "a faint line becomes a black one"
    far = painting.lines_receptive_field(256)
    assert torch.equal(whole[..., : 32 - far], given[..., : 32 - far])
