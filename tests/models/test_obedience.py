"""The test that cannot lie: where a label is a colour, generated pictures have the colour that was asked for."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from kyara import models
from kyara.files import pictures
from kyara.models.base import Generator, latents
from kyara.training.train import train

TOPS = {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (210, 50, 40)}
BOTTOMS = {"dark": 40, "light": 220}


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of two halves, each attribute the colour of one; every tenth label is unknown."""
    path, random = tmp_path_factory.mktemp("colours") / "colours.zip", np.random.RandomState(0)
    rows = ["file_name,top,bottom"]
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(120):
            top, bottom = list(TOPS)[i % 3], list(BOTTOMS)[i // 3 % 2]
            picture = np.empty((16, 16, 3))
            picture[:8], picture[8:] = TOPS[top], BOTTOMS[bottom]
            picture += random.randint(-20, 20, (16, 1, 3))
            archive.writestr(f"{i}.png", pictures.encode_png(picture.clip(0, 255).astype(np.uint8)))
            rows.append(f"{i}.png,{top if random.rand() > 0.1 else ''},{bottom if random.rand() > 0.1 else ''}")
        archive.writestr("metadata.csv", "\n".join(rows) + "\n")
    return path


TRAINED = [
    ("acgan", "network.channels=8,optimizer.lr=2e-3", 3),
    ("cgan", "network.channels=8,optimizer.lr=2e-3", 5),
    ("dcgan", "network.channels=8,optimizer.lr=2e-3", 7),
    ("dcgan", "network.channels=8,optimizer.lr=2e-3,losses.label_weight=1", 2),
    ("mlp", "optimizer.lr=2e-3", 6),
    ("stylegan2", "optimizer.lr=0.01,losses.path_weight=0,losses.r1_interval=16", 6),
]
"""What is set, and for how many thousand pictures it is trained."""


@pytest.mark.parametrize(("name", "changes", "kimg"), TRAINED, ids=lambda value: str(value))
def test_pictures_show_what_was_asked_for(name: str, changes: str, kimg: int, colours: Path, tmp_path: Path) -> None:
    run = train(
        name, colours, out=tmp_path / "run", preset="tiny", size="16", batch=16, kimg=kimg, snap=kimg, mirror=False,
        attributes="top,bottom", augment="none", workers=0, precision="32", seed=1,
        set=f"{changes},optimizer.ema_kimg=0.2",
    ).out  # fmt: skip
    model = models.load(run / "snapshots" / f"{kimg:06d}")
    assert isinstance(model, Generator)
    tops, bottoms = (model.config.data.attributes[attribute] for attribute in ("top", "bottom"))
    assert tops == tuple(TOPS) and bottoms == tuple(BOTTOMS)
    asked_top, asked_bottom = torch.arange(60) % 3, torch.arange(60) // 3 % 2
    with torch.inference_mode():
        made = model.sample(latents(range(60), model.z_dim), labels={"top": asked_top, "bottom": asked_bottom})
    seen = pictures.to_uint8(made).astype(float)  # (60, 16, 16, 3)
    top, bottom = seen[:, 1:7].mean((1, 2)), seen[:, 9:15].mean((1, 2, 3))
    nearest = np.abs(top[:, None] - np.array(list(TOPS.values()))).sum(2).argmin(1)
    obeyed_top = float((nearest == asked_top.numpy()).mean())
    obeyed_bottom = float(((bottom > 130) == (asked_bottom.numpy() == 1)).mean())
    assert obeyed_top >= 0.9 and obeyed_bottom >= 0.9, (obeyed_top, obeyed_bottom)
