"""The upscaler: what it learns to undo, and that it learns it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw

import kyara
from kyara import models
from kyara.data import degradation
from kyara.files import checkpoint
from kyara.files.pictures import decode
from kyara.generation.tiles import translate_pictures
from kyara.models import upscaler
from kyara.models.base import Translator
from kyara.nn.batch import Batch


def drawing(seed: int, side: int) -> np.ndarray:
    """Even areas and dark lines (side, side, 3) uint8, drawn at four times the size."""
    random = np.random.RandomState(seed)
    picture = Image.new("RGB", (4 * side, 4 * side), tuple(random.randint(90, 256, 3)))
    pen = ImageDraw.Draw(picture)
    for _ in range(4):
        (x, y), r = random.randint(0, 4 * side, 2), random.randint(side // 2, 2 * side)
        colour = tuple(random.randint(40, 256, 3))
        pen.ellipse((x - r, y - r, x + r, y + r), fill=colour, outline=(20, 10, 10), width=side // 10)
    return np.asarray(picture.reduce(4))


def drawings(count: int, side: int, first: int = 0) -> torch.Tensor:
    pictures = np.stack([drawing(seed, side) for seed in range(first, first + count)])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


@pytest.fixture
def checkpoint_of(tmp_path: Path) -> str:
    """A Checkpoint of a small network with random weights."""
    torch.manual_seed(0)
    model = upscaler.Model(upscaler.PRESETS["tiny"])
    torch.nn.init.normal_(model.g_ema.tail.weight, std=0.02)
    config, weights = dataclasses.asdict(model.config), models.stored(model)
    checkpoint.write(tmp_path / "model", model="upscaler", config=config, weights=weights, card="test", about={})
    return str(tmp_path / "model")


def test_it_learns_to_undo_what_was_done_to_drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one simple degradation, as the real one takes longer than a test."""
    monkeypatch.setattr(upscaler, "degrade", lambda x: F.avg_pool2d(x, 2) + 0.3 * torch.randn(len(x), 3, 16, 16))
    torch.manual_seed(0)
    model = upscaler.Model(upscaler.PRESETS["tiny"].replace(losses={"adversarial": 0.0}))
    optimizer, data = torch.optim.Adam(model.g.parameters(), 4e-3), drawings(64, 32)
    for _ in range(150):
        optimizer.zero_grad()
        model.losses("g", Batch(real=data[torch.randint(64, (16,))]))["l1"].backward()
        optimizer.step()
    clean = drawings(32, 32, first=1000)
    seen = upscaler.degrade(clean)
    with torch.no_grad():
        made = model.g(seen)
    enlarged = F.interpolate(seen, scale_factor=2.0, mode="bilinear", align_corners=False)
    error, of_filter = (float((found - clean).square().mean()) for found in (made, enlarged))
    assert error < 0.85 * of_filter


def test_degraded_pictures_are_half_as_large_different_and_repeatable() -> None:
    clean = drawings(8, 64)
    first, again = upscaler.Model.frozen(clean), upscaler.Model.frozen(clean)
    assert first.shape == (8, 3, 32, 32) and torch.equal(first, again)
    assert first.abs().max() <= 1
    small = F.avg_pool2d(clean, 2)
    each = (first - small).abs().mean((1, 2, 3))
    assert each.min() > 0.005 and each.max() < 0.5
    state = torch.get_rng_state()
    upscaler.Model.frozen(clean)
    assert torch.equal(torch.get_rng_state(), state)  # measuring does not change the run


@pytest.mark.parametrize("change", ["wobbled", "softened", "fringed", "blotches", "grids", "framed"])
def test_every_part_of_the_degradation_changes_something_and_most_of_the_picture_is_kept(change: str) -> None:
    torch.manual_seed(0)
    pictures = drawings(16, 48)
    made = getattr(degradation, change)(pictures)
    assert made.shape == pictures.shape and torch.isfinite(made).all()
    apart = made if change in ("blotches", "grids") else made - pictures
    assert 0.001 < apart.abs().mean() < 0.6


def test_lines_are_moved_by_about_a_pixel() -> None:
    torch.manual_seed(0)
    ramp = torch.linspace(-1, 1, 64).expand(16, 3, 64, 64)  # the value says where a pixel is from
    inside = (degradation.wobbled(ramp) - ramp)[..., 8:-8] * 63 / 2  # pixels
    assert 0.1 < inside.std() < 1.0 and inside.abs().max() < 5


def test_large_pictures_are_enlarged_in_tiles_without_seams(
    monkeypatch: pytest.MonkeyPatch, checkpoint_of: str
) -> None:
    network = models.load(checkpoint_of, torch.device("cpu"))
    assert isinstance(network, Translator) and network.receptive_field is not None
    picture = np.random.RandomState(0).randint(0, 256, (1, 150, 209, 3), np.uint8)
    whole = translate_pictures(network.translate, picture, network)
    assert whole.shape == (1, 300, 418, 3)
    monkeypatch.setattr("kyara.generation.tiles.TILE", 48)
    tiled = translate_pictures(network.translate, picture, network)
    assert np.abs(tiled.astype(int) - whole).max() <= 1


def test_the_receptive_field_is_as_large_as_said() -> None:
    network = upscaler.Model(upscaler.PRESETS["two-core"]).eval()
    reach = network.receptive_field
    torch.manual_seed(0)
    for parameter in network.g_ema.parameters():  # those that are zero at first hide parts of the network
        torch.nn.init.normal_(parameter, std=0.05)
    with torch.no_grad():
        picture = torch.rand(1, 3, 8, 4 * reach)
        other = picture.clone()
        other[..., :reach] += 0.5
        apart = (network.g_ema(picture) - network.g_ema(other)).abs().amax((0, 1, 2))
    assert apart[2 * 2 * reach + 16 :].max() == 0
    assert apart[: 2 * reach].min() > 0


@pytest.mark.parametrize(
    ("size", "crop", "problem"),
    [
        ((96, 96), 64, r"losses\.crop=64: must be 8 or more, and at most half the size of the pictures"),
        ((96, 96), 4, r"losses\.crop=4: must be 8 or more"),
    ],
)
def test_sizes_that_cannot_be_trained_are_refused(size: tuple[int, int], crop: int, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        upscaler.Model(
            upscaler.PRESETS["two-core"].replace(data={"width": size[0], "height": size[1]}, losses={"crop": crop})
        )


def test_translate_enlarges_pictures_of_any_size(checkpoint_of: str, tmp_path: Path) -> None:
    Image.fromarray(drawing(3, 45)).save(tmp_path / "mine.png")
    result = kyara.translate(checkpoint_of, tmp_path / "mine.png", out=tmp_path / "large")
    assert result.made == 1
    assert decode(tmp_path / "large" / "mine.png").shape == (90, 90, 3)


def test_the_discriminator_sees_the_bands_of_every_colour_alike() -> None:
    critic, seen = upscaler.Discriminator((4, 8)), []
    critic[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    pictures = torch.rand(2, 1, 16, 16).expand(-1, 3, -1, -1)  # grey
    critic(pictures)
    red, green, blue = seen[0].unflatten(1, (3, 4)).unbind(1)
    assert torch.equal(red, green) and torch.equal(red, blue)
