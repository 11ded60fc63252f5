"""The distortion recogniser: its frozen sets, what it varies, and that it learns."""

from __future__ import annotations

from pathlib import Path

import torch

from kyara import models
from kyara.data.distortions import DISTORTIONS
from kyara.models.distortion import PRESETS, Model, frozen_set
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
