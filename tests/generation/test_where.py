"""Asking for attributes: what is asked for is made, named, recorded and repeated; and a tagger may confirm it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kyara import models
from kyara.files import checkpoint
from kyara.files.errors import CheckpointError
from kyara.files.gallery import read_gallery
from kyara.files.pictures import decode, encode_png, read_recipe
from kyara.generation.confirm import TRIES
from kyara.generation.generate import generate

ATTRIBUTES = {"hair": ["black", "blonde", "silver"], "eyes": ["green", "red"]}
COUNTS = [[0, 0, 6], [1, 0, 3], [2, 1, 1]]


def make(path: Path, name: str = "dcgan", **told: Any) -> str:
    """A Checkpoint with random weights, in which labels matter."""
    torch.manual_seed(0)
    sizes = {"dcgan": {"channels": 12}, "stylegan2": {"w_dim": 8, "mapping_layers": 1, "channel_base": 128}}
    config = {"data": {"width": 16, "height": 24, **told}, "network": {"z_dim": 8, **sizes[name]}}
    model = models.build(name, config)
    weights = {k: t + torch.randn_like(t) if t.is_floating_point() and t.ndim > 1 else t for k, t in
               models.stored(model).items()}  # fmt: skip
    checkpoint.write(path, model=name, config=config, weights=weights, card="test", about={})
    return str(path)


@pytest.fixture
def model(tmp_path: Path) -> str:
    return make(tmp_path / "model", attributes=ATTRIBUTES, label_counts=COUNTS)


def test_what_is_asked_for_stands_in_the_table_and_in_every_picture(model: str, tmp_path: Path) -> None:
    out = generate(model, count=40, where="eyes=red", rank="none", out=tmp_path / "out")
    rows = read_gallery(out)
    assert list(rows[0]) == ["file_name", "seed", "hair", "eyes"]
    assert {(row["hair"], row["eyes"]) for row in rows} == {("silver", "red")}  # red comes with nothing else
    assert read_recipe(out / rows[0]["file_name"])["labels"] == {"hair": "silver", "eyes": "red"}  # type: ignore[index]
    other = generate(model, count=1, where={"eyes": "green", "hair": "silver"}, rank="none", out=tmp_path / "other")
    assert (decode(other / "seed0000.png") != decode(out / "seed0000.png")).any()
    assert "--where eyes=red" in (out / "index.html").read_text()


def test_what_is_not_asked_for_comes_as_often_as_in_the_data(model: str, tmp_path: Path) -> None:
    rows = read_gallery(generate(model, count=200, rank="none", out=tmp_path / "out"))
    share = {hair: sum(row["hair"] == hair for row in rows) / 200 for hair in ATTRIBUTES["hair"]}
    assert share == pytest.approx({"black": 0.6, "blonde": 0.3, "silver": 0.1}, abs=0.1)
    again = read_gallery(generate(model, seeds="150-160", rank="none", out=tmp_path / "again"))
    assert again == rows[150:161]  # a seed's labels depend on nothing beside it


@pytest.mark.parametrize("name", ["dcgan", "stylegan2"])
def test_like_repeats_labels(name: str, tmp_path: Path) -> None:
    model = make(tmp_path / "m", name, attributes=ATTRIBUTES, label_counts=COUNTS)
    old = generate(model, seeds="3-9", where="hair=blonde", rank="none", out=tmp_path / "old")
    new = generate(like=old / "seed0007.png", rank="none", out=tmp_path / "new")
    assert (new / "seed0007.png").read_bytes() == (old / "seed0007.png").read_bytes()
    assert read_gallery(new)[0]["hair"] == "blonde"
    with pytest.raises(ValueError, match="leave one of the two out"):
        generate(like=old / "seed0007.png", where="hair=blonde", out=tmp_path / "newer")


def test_like_refuses_labels_that_the_model_does_not_know(model: str, tmp_path: Path) -> None:
    made_by = {"model": model, "checkpoint": checkpoint.read(model).hash, "truncation": 1, "mirror": False, "seed": 1}
    for labels, told in (({"hair": "green"}, "silver"), ({"mood": "sad"}, "hair, eyes"), ({"hair": 3}, "no|not one")):
        png = encode_png(np.zeros((4, 4, 3), np.uint8), {**made_by, "labels": labels})
        (tmp_path / "x.png").write_bytes(png)
        with pytest.raises(ValueError, match=rf"--like .*x\.png: .*({told})"):
            generate(like=tmp_path / "x.png", out=tmp_path / "out")


def test_a_film_does_not_flicker(model: str, tmp_path: Path) -> None:
    rows = read_gallery(generate(model, interpolate="3-8-1", frames=7, out=tmp_path / "film"))
    assert len({(row["hair"], row["eyes"]) for row in rows}) == 1
    like = generate(like=tmp_path / "film" / "frame0003.png", out=tmp_path / "again")
    assert (like / "frame0000.png").read_bytes() == (tmp_path / "film" / "frame0003.png").read_bytes()


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("mood=sad", "hair, eyes"),
        ("hair=pink", "black, blonde, silver"),
        ("hair", "write hair=silver"),
        ("hair=,eyes=red", "write hair=silver"),
        ("hair=black,hair=blonde", "twice"),
    ],
)
def test_what_cannot_be_asked_for_is_told(model: str, tmp_path: Path, where: str, told: str) -> None:
    with pytest.raises(ValueError, match=f"--where.*{told}"):
        generate(model, where=where, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_that_learned_no_attributes_says_so(tmp_path: Path) -> None:
    plain = make(tmp_path / "plain")
    with pytest.raises(ValueError, match="learned no attributes"):
        generate(plain, where="hair=black", out=tmp_path / "out")


@pytest.mark.parametrize(
    "told",
    [
        {"attributes": {"seed": ["a"]}},
        {"attributes": {"hair": []}},
        {"attributes": {"hair": ["a", "a"]}},
        {"attributes": {"hair": "abc"}},
        {"attributes": ["hair"]},
        {"attributes": {"hair": ["a", "b"]}, "label_counts": [[2, 1]]},
        {"attributes": {"hair": ["a", "b"]}, "label_counts": [[0, 0]]},
        {"attributes": {"hair": ["a", "b"]}, "label_counts": [[0, 0, 1]]},
    ],
)
def test_a_checkpoint_with_impossible_attributes_is_refused(tmp_path: Path, told: dict[str, Any]) -> None:
    folder = make(tmp_path / "model")
    described = json.loads((tmp_path / "model" / "config.json").read_text())
    described["config"]["data"] |= told
    (tmp_path / "model" / "config.json").write_text(json.dumps(described))
    with pytest.raises(CheckpointError, match=r"attribute|label_counts"):
        models.load(folder)


class Redness:
    """Stands in for a tagger: hair is silver where a picture is redder than `threshold`."""

    attributes = {"hair": ("black", "silver"), "mood": ("sad",)}  # noqa: RUF012
    size = (8, 8)
    threshold = 0.0

    def probabilities(self, pictures: Tensor) -> dict[str, Tensor]:
        silver = (pictures[:, 0].mean((1, 2)) > self.threshold).float()
        return {"hair": torch.stack([1 - silver, silver], 1)}


@pytest.fixture
def tagger(monkeypatch: pytest.MonkeyPatch) -> Redness:
    found = Redness()
    module: Any = ModuleType("kyara.labels.tagger")
    module.load_tagger = lambda name, device: found
    if "kyara.labels" not in sys.modules:
        monkeypatch.setitem(sys.modules, "kyara.labels", SimpleNamespace(tagger=module))  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "kyara.labels.tagger", module)
    return found


def test_a_tagger_confirms_what_was_made(
    model: str, tagger: Redness, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    every = generate(model, count=60, where="hair=silver", rank="none", out=tmp_path / "all")
    redness = [decode(every / f"seed{i:04d}.png")[..., 0].mean() / 127.5 - 1 for i in range(60)]
    tagger.threshold = float(np.median(redness))
    red = [i for i in range(60) if redness[i] > tagger.threshold]
    assert len(red) == 30
    capsys.readouterr()
    out = generate(model, count=6, where="hair=silver", confirm="builtin:tagger", rank="none", out=tmp_path / "out")
    rows = read_gallery(out)
    assert [int(row["seed"]) for row in rows] == red[:6]
    assert f"6 of {red[5] + 1} pictures made" in capsys.readouterr().out
    assert (out / rows[0]["file_name"]).read_bytes() == (every / rows[0]["file_name"]).read_bytes()


def test_a_tagger_that_is_never_satisfied_is_not_asked_for_ever(
    model: str, tagger: Redness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tagger, "probabilities", lambda pictures: {"hair": torch.eye(2)[0].expand(len(pictures), -1)})
    options: dict[str, Any] = {"count": 2, "where": "hair=silver", "confirm": "builtin:tagger", "rank": "none"}
    out = generate(model, out=tmp_path / "out", json=True, **options)
    report = json.loads(capsys.readouterr().out)
    assert (report["kept"], report["confirmed"], report["tried"]) == (0, 0, 2 * TRIES)
    assert read_gallery(out) == []
    generate(model, out=tmp_path / "again", **options)
    assert "0 of 20 pictures made, fewer than the 2 asked for" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"where": "eyes=red"}, "cannot tell eyes; it tells hair, mood"),
        ({"where": "hair=blonde"}, "it tells hair as black, silver"),
        ({}, "needs --where"),
        ({"where": "hair=silver", "seeds": "1-3"}, "no --seeds"),
        ({"where": "hair=silver", "interpolate": "1-3"}, "no --seeds"),
    ],
)
def test_what_cannot_be_confirmed_is_told(
    model: str, tagger: Redness, tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValueError, match=f"--confirm.*{told}"):
        generate(model, confirm="builtin:tagger", out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
