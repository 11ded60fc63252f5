"""Augmentation: identity when off, adaptive, differentiable, and doing what it says."""

from __future__ import annotations

import math

import pytest
import torch

from kyara.training import augment
from kyara.training.augment import Ada, DiffAugment, make


@pytest.fixture
def pictures() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(16, 3, 24, 24) * 2 - 1


def test_ada_is_the_identity_at_zero(pictures: torch.Tensor) -> None:
    assert make("ada", colour=True, target=0.6)(pictures) is pictures
    assert make("none", colour=True, target=0.6)(pictures) is pictures


def test_ada_follows_the_discriminator() -> None:
    ada = Ada(target=0.6, kimg=10)
    for _ in range(5):
        ada.adapt(0.9, 1000)
    assert ada.p == pytest.approx(0.5)
    for _ in range(100):
        ada.adapt(0.1, 1000)
    assert ada.p == 0.0


@pytest.mark.parametrize("shape", [(24, 24), (16, 24), (33, 21)])
@pytest.mark.parametrize("policy", ["ada", "diffaugment"])
def test_pictures_change_but_keep_their_shape_and_gradient(policy: str, shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x = (torch.rand(8, 3, *shape) * 2 - 1).requires_grad_(True)
    change = make(policy, colour=True, target=0.6)  # type: ignore[arg-type]
    change.p = 1.0
    y = change(x)
    assert y.shape == x.shape and y.dtype == x.dtype
    assert not torch.allclose(y, x)
    y.square().sum().backward()
    assert torch.isfinite(x.grad).all() and x.grad.abs().sum() > 0


@pytest.mark.parametrize("policy", ["ada", "diffaugment"])
def test_colour_off_keeps_every_colour(policy: str) -> None:
    """A picture of one colour stays that colour, but for the grey of a cut-out or a shift's border."""
    change = make(policy, colour=False, target=0.6)  # type: ignore[arg-type]
    change.p = 1.0
    flat = torch.tensor([0.7, -0.2, 0.4])[None, :, None, None].expand(4, 3, 16, 16)
    y = change(flat)
    same = torch.isclose(y, flat, atol=1e-4).all(1) | (y == 0).all(1)
    assert same.all()
    assert torch.isclose(y, flat, atol=1e-4).all(1).any()


def test_share_of_changed_pictures_is_about_p() -> None:
    torch.manual_seed(0)
    ada = Ada(colour=True)
    ada.p = 0.05
    x = torch.rand(2000, 3, 4, 4)
    changed = (ada(x) - x).abs().amax((1, 2, 3)) > 1e-4
    # Nine geometric and colour changes at p, a rotation counted once; some draws change nothing at this size.
    assert 0.25 < changed.float().mean() < 1 - 0.95**12


def test_warps_and_colours_are_the_matrices_they_claim(pictures: torch.Tensor) -> None:
    count = len(pictures)
    turned = augment.warp(pictures, augment.rotation(torch.full((count,), math.pi / 2)))
    assert torch.allclose(turned, pictures.rot90(1, (2, 3)), atol=1e-4) or torch.allclose(
        turned, pictures.rot90(-1, (2, 3)), atol=1e-4
    )
    flipped = augment.warp(pictures, augment.scaling(-torch.ones(count), torch.ones(count)))
    assert torch.allclose(flipped, pictures.flip(3), atol=1e-4)
    moved = augment.warp(pictures, augment.translation(torch.tensor([[3.0, 0.0]]).expand(count, 2)))
    assert torch.allclose(moved[:, :, :, :-3], pictures[:, :, :, 3:], atol=1e-4)
    third = augment.recolour(pictures, augment.rotation_about_grey(torch.full((count,), 2 * math.pi / 3)))
    rolled = [pictures.roll(shift, 1) for shift in (1, 2)]
    assert any(torch.allclose(third, r, atol=1e-4) for r in rolled)


def test_diffaugment_moves_whole_pixels() -> None:
    torch.manual_seed(0)
    x = torch.arange(16.0).expand(1, 3, 16, 16) / 16
    moved = DiffAugment(colour=False)._shift(x)
    inside = moved[0, 0][moved[0, 0] > 0]
    assert torch.isin(inside, x.unique()).all()


def test_flips_are_half_of_what_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Karras et al. 2020, appendix B: i ~ U{0, 1}. At p = 1, so that all would be mirrored, and all dark and light
    exchanged."""
    chances: list[float] = []
    pick = augment.pick
    monkeypatch.setattr(augment, "pick", lambda change, p: (chances.append(float(p)), pick(change, p))[1])
    ada = Ada()
    ada.p = 1.0
    ada(torch.zeros(4, 3, 8, 8))
    mirror, *others = chances
    assert mirror == 0.5 and sorted(others) == [0.5, *[1.0] * 11]
