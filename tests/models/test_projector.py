"""The backward projector, and what its losses are made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kyara import models
from kyara.files import checkpoint
from kyara.models import projector
from kyara.models.base import Batch
from kyara.nn.losses import sliced_wasserstein, ssim
from kyara.training.train import train


def test_ssim_is_that_of_the_paper() -> None:
    """Window by window, written out again."""
    random = np.random.RandomState(0)
    a, b = random.rand(2, 20, 17)
    x = np.arange(11) - 5
    row = np.exp(-(x**2) / (2 * 1.5**2))
    window = np.outer(row, row) / row.sum() ** 2
    found = []
    for i in range(10):
        for j in range(7):
            one, other = a[i : i + 11, j : j + 11], b[i : i + 11, j : j + 11]
            mean, mean_other = (window * one).sum(), (window * other).sum()
            spread = (window * (one - mean) ** 2).sum()
            spread_other = (window * (other - mean_other) ** 2).sum()
            both = (window * (one - mean) * (other - mean_other)).sum()
            light = (2 * mean * mean_other + 1e-4) / (mean**2 + mean_other**2 + 1e-4)
            found.append(light * (2 * both + 9e-4) / (spread + spread_other + 9e-4))
    pair = (torch.from_numpy(p).float().expand(1, 3, -1, -1) * 2 - 1 for p in (a, b))
    assert ssim(*pair).item() == pytest.approx(np.mean(found), abs=1e-5)
    picture = torch.rand(2, 3, 5, 8) * 2 - 1  # smaller than the window
    assert torch.allclose(ssim(picture, picture), torch.ones(2), atol=1e-5)


def test_sliced_wasserstein_of_what_is_moved() -> None:
    a = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    along = torch.tensor([[2.0, 0.0], [0.0, 5.0]])
    assert sliced_wasserstein(a, a[torch.randperm(500)], along).item() == pytest.approx(0, abs=1e-6)
    assert sliced_wasserstein(a + torch.tensor([3.0, 1.0]), a, along).item() == pytest.approx(2, abs=1e-5)


def tiny(altered: float = 0.75, **losses: float) -> projector.Model:
    torch.manual_seed(0)
    return projector.Model(projector.PRESETS["tiny"].replace(losses=losses, augment={"altered": altered})).train()


def test_each_loss_is_there_only_with_a_weight() -> None:
    batch = Batch(torch.zeros(4, 3, 64, 64))
    names = ("feature", "adversarial", "pixels", "ssim")
    for left_out in (None, *names):
        model = tiny(**({"features" if left_out == "feature" else left_out: 0.0} if left_out else {}))
        assert set(model.losses("g", batch)) == set(names) - {left_out}
        assert (model.d is None) == (left_out == "adversarial") and model.reg_interval("d") == int(model.d is not None)


def test_features_are_measured_again_after_an_estimate() -> None:
    """It takes late steps, and undoes them."""
    model, pictures = tiny(), torch.zeros(4, 3, 64, 64)
    model.losses("g", Batch(pictures, step=10**6))
    measured = model.deviation.clone()
    model.deviation.zero_()
    model.losses("g", Batch(pictures, step=0))
    assert torch.equal(model.deviation, measured)
    model.deviation.zero_()
    model.losses("g", Batch(pictures, step=1))  # a GPU is not asked
    assert not model.deviation.any()


def test_the_true_features_restore_the_picture() -> None:
    """With them nothing is lost but what is lost to the discriminator; with others something is."""
    model = tiny(altered=0.0, adversarial=0.0)
    batch = Batch(torch.zeros(4, 3, 64, 64))
    model.losses("g", batch)
    torch.manual_seed(1)
    host, pictures, altered = model._given(batch.real)
    assert torch.equal(pictures, host.pictures) and not altered.any()
    true = (host.value - model.mean) / model.deviation
    model.g.forward = lambda pictures, hosts: true  # type: ignore[method-assign,assignment]
    torch.manual_seed(1)
    found = model.losses("g", batch)
    assert all(abs(float(loss)) < 1e-4 for loss in found.values())
    model.g.forward = lambda pictures, hosts: true + 0.5  # type: ignore[method-assign,assignment]
    torch.manual_seed(1)
    off = model.losses("g", batch)
    assert off["feature"].item() == pytest.approx(0.5, rel=1e-4) and off["pixels"] > 0.05 and off["ssim"] > 0.01


def test_altered_pictures_are_altered_where_it_says() -> None:
    model = tiny(altered=1.0)
    torch.manual_seed(0)
    host, pictures, altered = model._given(torch.zeros(16, 3, 64, 64))
    same = (pictures == host.pictures).all(1, keepdim=True)
    near = torch.nn.functional.interpolate(altered.float(), (64, 64)) > 0
    assert (same | near).all() and not same.all((1, 2, 3)).any()


def test_the_layer_is_chosen() -> None:
    shapes = [(8, 4, 4), (8, 8, 8), (8, 8, 8), (4, 16, 16)]
    assert projector.choose_layer("auto", shapes, 16) == 2
    assert projector.choose_layer("0", shapes, 16) == 0
    few = [(24, 32, 32), (24, 64, 64), (24, 64, 64)]
    assert projector.choose_layer("auto", few, 64) == 2  # a memory of three layers ends there
    assert projector.choose_layer("auto", few[:2], 64) == 1
    for wrong in ("4", "-1", "last"):
        with pytest.raises(ValueError, match="3: 4 channels of 16x16"):
            projector.choose_layer(wrong, shapes, 16)


def test_training_needs_the_other_model(tmp_path: Path, faces: Path) -> None:
    with pytest.raises(ValueError, match="--of CHECKPOINT"):
        train("projector", faces, out=tmp_path / "a")
    with pytest.raises(ValueError, match="leave DATA out"):
        train("projector", faces, of="builtin:anime", out=tmp_path / "a")
    with pytest.raises(ValueError, match="give DATA"):
        train("projector", of="builtin:inpainting", out=tmp_path / "a")
    with pytest.raises(ValueError, match="no layers"):
        train("projector", of="builtin:tagger", data=faces, out=tmp_path / "a")
    with pytest.raises(ValueError, match="leave the option out"):
        train("dcgan", faces, of="builtin:anime", out=tmp_path / "a")
    with pytest.raises(ValueError, match="give auto or one of 0"):
        train("projector", of="builtin:anime", layer="9", out=tmp_path / "a")


def test_it_learns_of_a_translator_from_pictures(tmp_path: Path, faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projector, "MEASURED", 8)
    run = train(
        "projector", faces, of="builtin:inpainting", preset="tiny", out=tmp_path / "run", kimg=0.016, snap=1, workers=0
    ).out
    config = checkpoint.read(run).config
    assert config["generator"]["hash"] == checkpoint.read("builtin:inpainting").hash and config["data"]["width"] == 64
    found = models.load(run)
    assert isinstance(found, projector.Model)
    pictures = torch.rand(2, 3, 64, 64) * 2 - 1
    assert found.project(pictures, pictures).shape == (2, *config["generator"]["shape"])
