"""The distortion recogniser: its frozen sets, what it varies, and that it learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kyara import models
from kyara.data.distortions import DISTORTIONS
from kyara.models import base
from kyara.models.distortion import BROKEN, PRESETS, UNCLEAR, WHOLE, Model, frozen_set
from kyara.training.train import train


def smooth(count: int, size: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 6, 6, generator=generator) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")


def test_frozen_sets_stay_as_they_are() -> None:
    real = smooth(40)
    pictures, kinds = frozen_set(real)
    again, same = frozen_set(real)
    assert torch.equal(pictures, again) and torch.equal(kinds, same)
    assert [int((kinds == kind).sum()) for kind in range(-1, len(DISTORTIONS))] == [20, 5, 5, 5, 5]
    assert torch.equal(pictures[kinds < 0], real[kinds < 0])
    assert (pictures[kinds >= 0] != real[kinds >= 0]).flatten(1).any(1).all()
    other, _ = frozen_set(real, seed=1)
    assert not torch.equal(other, pictures)


def test_it_learns_to_tell_bent_from_whole(faces: Path, tmp_path: Path) -> None:
    """From a few small pictures, seen for a few seconds, it is right clearly more often than chance."""
    changes = "optimizer.lr=0.002,augment.jitter=0,augment.enlarged=0,optimizer.ema_kimg=0.2"
    run = train(
        "distortion", faces, out=tmp_path / "run", preset="tiny", kimg=6, snap=10, batch=32, set=changes, workers=0
    ).out
    model = models.load(run / "snapshots" / "000006")
    from kyara.files.dataset import open_dataset
    from kyara.files.pictures import to_float

    dataset = open_dataset(faces)
    real = torch.cat([to_float(picture[None]) for picture in dataset.decode(range(64), 32, 32)])
    pictures, kinds = frozen_set(real, seed=3)
    with torch.inference_mode():
        scores = model.scores(pictures)
    right = ((scores >= 0.5) == (kinds < 0)).float().mean()
    assert right > 0.65


def test_pairs_show_every_picture_both_ways() -> None:
    torch.manual_seed(0)
    config = PRESETS["tiny"].replace(augment={"jitter": 0.0, "enlarged": 0.0})
    real = smooth(8)
    pictures, labels = Model(config)._examples(real)
    assert labels.tolist() == [0] * 8 + [1] * 8
    assert torch.equal(pictures[:8], real)
    assert (pictures[8:] != real).flatten(1).any(1).all()
    pictures, labels = Model(config.replace(augment={"pairs": False, "probability": 0.0}))._examples(real)
    assert torch.equal(pictures, real) and not labels.any()


# --- learned corruptions


OF_ANIME = Model.describe_source("builtin:anime", "auto")


def test_generated_pairs_are_whole_and_broken() -> None:
    """Same latents, so a pair shows the same face; what hardly changed is not called broken."""
    torch.manual_seed(0)
    model = Model(PRESETS["tiny"].replace(augment={"jitter": 0.0}, **OF_ANIME))
    like = smooth(2)
    drawn = [model.generated_pairs(4, like) for _ in range(6)]
    assert all(pictures.shape == (8, 3, 32, 32) and pictures.abs().max() <= 1 for pictures, _ in drawn)
    whole = torch.cat([pictures[:4] for pictures, _ in drawn])
    broken = torch.cat([pictures[4:] for pictures, _ in drawn])
    classes = torch.cat([found[4:] for _, found in drawn])
    assert all((found[:4] == WHOLE).all() for _, found in drawn)
    assert set(classes.tolist()) <= {BROKEN, UNCLEAR} and (classes == BROKEN).float().mean() > 0.5
    apart = (whole - broken).abs().mean(1)
    assert apart[classes == BROKEN].amax((1, 2)).min() >= model.config.augment.visible
    assert apart.mean((1, 2)).median() < (whole - whole.roll(1, 0)).abs().mean((1, 2, 3)).median()
    hidden = Model(model.config.replace(augment={"visible": 2.0}))
    assert (hidden.generated_pairs(4, like)[1][4:] == UNCLEAR).all()


def test_unclear_pictures_have_no_loss() -> None:
    torch.manual_seed(0)
    model = Model(PRESETS["tiny"].replace(augment={"visible": 2.0}, **OF_ANIME))
    batch = base.Batch(smooth(8))
    loss = model.losses("train", batch)["cross_entropy"]
    assert torch.isfinite(loss) and 0 <= batch.log["accuracy"] <= 1


def test_no_pairs_are_generated_without_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(PRESETS["tiny"].replace(augment={"generated": 0.0}, **OF_ANIME))
    monkeypatch.delattr(Model, "generated_pairs")
    assert torch.isfinite(model.losses("train", base.Batch(smooth(2)))["cross_entropy"])


def test_it_is_measured_on_both_kinds() -> None:
    model = Model(PRESETS["tiny"].replace(**OF_ANIME))
    found = model.measure(base.Batch(smooth(16)), lambda a, b: 0.0)
    assert next(iter(found)) == "error"
    assert found["error"] == pytest.approx((found["error/distorted"] + found["error/generated"]) / 2)
    assert model._generated_error(smooth(1)) == model._generated_error(smooth(1))  # fixed pictures


def test_of_names_generators(faces: Path, tmp_path: Path) -> None:
    common = {"preset": "tiny", "kimg": 0.016, "workers": 0}
    run = train("distortion", faces, of="builtin:anime,builtin:photo", out=tmp_path / "run", **common).out
    found = models.read_config(run).generator
    assert found.checkpoints == ("builtin:anime", "builtin:photo") and all(found.hashes)
    child = train("distortion", faces, init=str(run), out=tmp_path / "child", **common | {"preset": None}).out
    assert models.read_config(child).generator.checkpoints == ()  # learned from, but not required again
    with pytest.raises(ValueError, match="builtin:distortion: a distortion, not a generator"):
        train("distortion", faces, of="builtin:distortion", out=tmp_path / "no", **common)
    with pytest.raises(ValueError, match="--layer 3"):
        train("distortion", faces, of="builtin:anime", layer="3", out=tmp_path / "no", **common)
