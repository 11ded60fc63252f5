"""Alterations of copies: JPEG against Pillow's, and what each one changes and leaves alone."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from conftest import drawn_picture
from PIL import Image
from torch import Tensor

from kyara.data import alterations
from kyara.files.pictures import to_float, to_uint8


def drawings(count: int = 6, height: int = 48, width: int = 48) -> Tensor:
    return to_float(np.stack([drawn_picture(seed, max(height, width))[:height, :width] for seed in range(count)]))


EVERY: dict[str, Callable[[Tensor], Tensor]] = {
    "crop": partial(alterations.crop, smallest=0.4, degrees=10),
    "turn": alterations.turn,
    "recolour": partial(alterations.recolour, strength=0.4, hue=0.1),
    "decolour": alterations.decolour,
    "blur": partial(alterations.blur, most=2),
    "jpeg": partial(alterations.jpeg, worst=10),
    "cover": alterations.cover,
    "recolour_part": lambda pictures: alterations.recolour_part(pictures)[0],
}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("shape", [(48, 48), (40, 56), (31, 17)])
def test_every_alteration_changes_pictures_of_any_shape(name: str, shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    before = drawings(6, *shape)
    after = EVERY[name](before.clone())
    assert after.shape == before.shape and after.dtype == before.dtype
    assert after.isfinite().all() and after.abs().max() <= 1 + 1e-5
    assert ((after - before).abs().amax((1, 2, 3)) > 0.02).float().mean() > 0.5


def test_only_some_are_altered() -> None:
    torch.manual_seed(0)
    before = drawings(40)
    after = alterations.some(before, 0.3, torch.neg)
    altered = (after != before).flatten(1).any(1)
    assert 4 < altered.sum() < 22
    assert torch.equal(after[altered], -before[altered]) and torch.equal(after[~altered], before[~altered])
    assert torch.equal(alterations.some(before, 0.0, torch.neg), before)


@pytest.mark.parametrize("quality", [10, 30, 80])
def test_jpeg_is_that_of_pillow(quality: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same loss, to within the rounding of an 8 bit file and another filter for the chrominance."""
    monkeypatch.setattr(alterations, "_share", lambda pictures: torch.zeros(len(pictures)))  # the worst quality
    random = np.random.RandomState(0)
    before = np.stack([drawn_picture(seed, 64) // 2 + random.randint(0, 90, (64, 64, 1), "u1") for seed in range(3)])
    ours = to_uint8(alterations.jpeg(to_float(before), worst=quality)).astype(float)
    for picture, made in zip(before, ours, strict=True):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=quality, subsampling="4:2:0")
        theirs = np.asarray(Image.open(file).convert("RGB")).astype(float)
        lost = np.abs(theirs - picture).mean()
        assert np.abs(made - theirs).mean() < 0.25 * lost + 0.7
        assert np.abs(made - picture).mean() == pytest.approx(lost, rel=0.1)


def test_a_crop_of_everything_is_the_picture_and_a_small_one_is_enlarged() -> None:
    torch.manual_seed(0)
    ramp = torch.linspace(-1, 1, 64).expand(50, 3, 64, 64)
    assert torch.allclose(alterations.crop(ramp[:, :, :1], smallest=1, degrees=0).amax(), torch.tensor(1.0), atol=0.02)
    shown = alterations.crop(ramp, smallest=0.25, degrees=0)[:, 0, 32]
    share = (shown[:, -1] - shown[:, 0]) / 2  # of the width
    assert 0.4 < share.min() < 0.6 and share.max() > 0.85
    assert (shown.diff(dim=1) >= -1e-5).all()  # none is mirrored


def test_turns_are_quarter_turns() -> None:
    torch.manual_seed(0)
    before = drawings(30)
    after = alterations.turn(before)
    quarters = [torch.rot90(before, k, (2, 3)) for k in (1, 2, 3)]
    apart = torch.stack([(after - quarter).abs().amax((1, 2, 3)) for quarter in quarters])
    assert (apart.amin(0) < 1e-3).all() and set(apart.argmin(0).tolist()) == {0, 1, 2}


def test_colours_change_by_what_is_asked() -> None:
    torch.manual_seed(0)
    before = drawings(20)
    assert torch.allclose(alterations.recolour(before, strength=0, hue=0), before, atol=1e-5)
    grey = before.mean(1, keepdim=True).expand_as(before)
    assert torch.allclose(alterations.recolour(grey, strength=0, hue=0.3), grey, atol=1e-5)  # grey has no hue
    turned = alterations.recolour(before * 0.3, strength=0, hue=0.5)
    assert torch.allclose(turned.mean(1), before.mean(1) * 0.3, atol=1e-5) and not torch.allclose(turned, before * 0.3)
    assert (alterations.decolour(before).diff(dim=1) == 0).all()


def test_blur_keeps_the_mean_and_removes_detail() -> None:
    torch.manual_seed(0)
    noise = torch.rand(8, 3, 48, 48) - 0.5
    blurred = alterations.blur(noise, most=2)
    assert torch.allclose(blurred.mean((1, 2, 3)), noise.mean((1, 2, 3)), atol=0.01)
    assert (blurred.std((1, 2, 3)) < 0.95 * noise.std((1, 2, 3))).all()
    assert torch.allclose(alterations.blur(torch.ones(2, 3, 9, 9), most=2), torch.ones(2, 3, 9, 9))


def test_stickers_cover_a_part() -> None:
    torch.manual_seed(0)
    before = torch.zeros(60, 3, 48, 48)
    covered = (alterations.cover(before) != 0).any(1).float().mean((1, 2))
    assert 0.02 < covered.mean() < 0.5 and covered.max() < 0.9


def test_one_colour_becomes_clearly_another() -> None:
    """Of two colours, the one that is chosen changes in its half, and the other stays."""
    torch.manual_seed(0)
    before = torch.tensor([0.8, -0.8]).repeat_interleave(16).expand(40, 3, 32, 32)
    after, share = alterations.recolour_part(before)
    change = (after - before).norm(dim=1)  # (B, H, W)
    left, right = change[:, :, :16].mean((1, 2)), change[:, :, 16:].mean((1, 2))
    assert torch.allclose(share, torch.tensor(0.5), atol=0.01)
    assert (torch.maximum(left, right) > 0.4).all() and (torch.minimum(left, right) < 0.01).all()
    assert 5 < (left > right).sum() < 35
