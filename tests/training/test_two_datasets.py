"""Models that learn from photos and drawings which are no pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kyara import models
from kyara.files import checkpoint
from kyara.models.base import Batch
from kyara.models.cartoongan import model as cartoongan
from kyara.training.train import train

OPTIONS: dict[str, Any] = {"preset": "tiny", "kimg": 0.08, "snap": 0.08, "workers": 0, "augment": "none"}


def test_both_are_seen_each_in_its_own_order(
    faces: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Batch] = []
    losses = cartoongan.Model.losses

    def watched(self: cartoongan.Model, phase: str, batch: Batch) -> dict[str, torch.Tensor]:
        seen.append(batch)
        return losses(self, phase, batch)

    monkeypatch.setattr(cartoongan.Model, "losses", watched)
    out = train("cartoongan", photos=photos, drawings=faces, out=tmp_path / "run", mirror=False, **OPTIONS).out
    given = [batch for batch in seen[::2] if batch.photos is not None]  # two phases see the same
    assert len(given) == 10
    drawn, lit = ({tuple(p.flatten().tolist()) for b in given for p in x(b)} for x in (_real, _photos))
    assert len(drawn) == 64 and len(lit) == 50 and not drawn & lit  # 80 pictures: all of both, some twice
    assert all(batch.photos.mean() < batch.real.mean() for batch in given)  # these photos are dark
    about = json.loads((out / "config.json").read_text())
    assert about["photos"]["pictures"] == 50 and about["data"]["pictures"] == 64
    card = (out / "README.md").read_text()
    assert "photos.zip, 50 pictures" in card and "faces.zip, 64 pictures" in card


def _real(batch: Batch) -> torch.Tensor:
    return batch.real


def _photos(batch: Batch) -> torch.Tensor:
    assert batch.photos is not None
    return batch.photos


def test_a_phase_that_returns_nothing_rests(faces: Path, photos: Path, tmp_path: Path) -> None:
    out = train(
        "cartoongan", photos=photos, drawings=faces, out=tmp_path / "run", set="losses.content_kimg=1", **OPTIONS
    ).out
    state = checkpoint.load_training(out / "training.pt")
    critics, artist = state["optimizers"]
    assert not critics["state"] and artist["state"]
    torch.manual_seed(0)
    first, last = models.build("cartoongan", checkpoint.read(out).config).state_dict(), state["model"]
    assert all(torch.equal(first[name], last[name]) for name in first if name.startswith("d."))
    assert any(not torch.equal(first[name], last[name]) for name in first if name.startswith("g_ema."))


def test_what_is_missing_or_too_much_is_told(faces: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--photos PHOTOS --drawings DRAWINGS"):
        train("cartoongan", faces, out=tmp_path / "run", **OPTIONS)
    with pytest.raises(ValueError, match="--photos PHOTOS --drawings DRAWINGS"):
        train("cartoongan", photos=photos, out=tmp_path / "run", **OPTIONS)
    with pytest.raises(ValueError, match="one dataset"):
        train("dcgan", faces, photos=photos, out=tmp_path / "run", **OPTIONS)
    with pytest.raises(ValueError, match="no column `points`"):
        train("landmarks", faces, out=tmp_path / "points", **OPTIONS)


def test_other_photos_are_another_run(faces: Path, photos: Path, tmp_path: Path) -> None:
    out = train("cartoongan", photos=photos, drawings=faces, out=tmp_path / "run", **OPTIONS).out
    with pytest.raises(FileExistsError, match=r"photos\.pictures was 50, now 64"):
        train("cartoongan", photos=faces, drawings=faces, out=out, **OPTIONS)
