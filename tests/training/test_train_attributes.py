"""Training with attributes: what the loop does about them, whatever the architecture."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import torch

from kyara import models
from kyara.files import pictures
from kyara.training.settings import parse_changes
from kyara.training.train import train

CONDITIONAL = {"preset": "tiny", "workers": 0, "precision": "32", "attributes": "hair,eyes"}


def test_a_run_knows_its_attributes(tagged_faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train("cgan", tagged_faces, out=tmp_path / "run", kimg=0.1, **CONDITIONAL).out
    described = json.loads((run / "config.json").read_text())
    assert described["config"]["data"]["attributes"] == {"hair": ["black", "blonde", "blue"], "eyes": ["green", "red"]}
    assert not described["training"]["augment_colour"]
    note = "augmentation without colour transforms: the attributes hair, eyes may be colours"
    assert capsys.readouterr().err.count(note) == 1
    rows = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    assert any("diversity/hair=blue" in row for row in rows)
    sheet = pictures.decode(run / "fakes000000.png")
    assert sheet.shape[:2] == (5 * 34 + 2, 8 * 34 + 2)  # a row for each value
    assert models.load(run).config.data.attributes["eyes"] == ("green", "red")


def test_colours_may_be_changed_all_the_same(
    tagged_faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train("cgan", tagged_faces, out=tmp_path / "run", kimg=0.01, augment_colour=True, **CONDITIONAL).out
    assert json.loads((run / "config.json").read_text())["training"]["augment_colour"]
    assert "without colour" not in capsys.readouterr().err
    plain = train("dcgan", tagged_faces, out=tmp_path / "plain", kimg=0.01, preset="tiny", workers=0).out
    assert json.loads((plain / "config.json").read_text())["training"]["augment_colour"]


def test_an_unconditional_generator_becomes_a_conditional_one(tagged_faces: Path, tmp_path: Path) -> None:
    parent = train("stylegan2", tagged_faces, out=tmp_path / "parent", kimg=0.02, preset="tiny", workers=0).out
    child = train("stylegan2", tagged_faces, out=tmp_path / "child", kimg=0.0, init=str(parent), **CONDITIONAL).out
    a, b = models.load(parent), models.load(child)
    z = torch.randn(2, 16)
    with torch.inference_mode():
        assert torch.equal(a.sample(z), b.sample(z, labels={"hair": torch.tensor([0, 2])}))


def test_labels_that_exclude_each_other_are_kept(faces: Path, tmp_path: Path) -> None:
    """Eyes that are closed have no colour; config.json keeps them, and is a line for each row."""
    folder = tmp_path / "faces"
    with zipfile.ZipFile(faces) as archive:
        archive.extractall(folder)
    lines = [f"images/{i:04d}.png,{'' if i % 2 else 'green' if i % 4 else 'red'},{i % 2}" for i in range(64)]
    lines[0] = "images/0000.png,,0"  # a label that is merely missing
    (folder / "metadata.csv").write_text("\n".join(["file_name,eyes,closed", *lines]) + "\n")
    run = train("cgan", folder, out=tmp_path / "run", kimg=0, **CONDITIONAL | {"attributes": "eyes,closed"}).out
    text = (run / "config.json").read_text()
    assert json.loads(text)["config"]["data"]["label_counts"] == [[-1, 1, 32], [0, 0, 16], [1, 0, 15]]
    assert "        [-1, 1, 32],\n" in text
    drawn = models.load(run).draw(range(50))  # type: ignore[operator]
    assert torch.equal(drawn["eyes"] == -1, drawn["closed"] == 1)


def test_attributes_that_cannot_be_are_refused(tagged_faces: Path, tmp_path: Path) -> None:
    options = {"preset": "tiny", "workers": 0, "out": tmp_path / "run"}
    with pytest.raises(ValueError, match="needs one or more of hair, eyes"):
        train("acgan", tagged_faces, **options)
    with pytest.raises(ValueError, match="has hair, eyes"):
        train("acgan", tagged_faces, attributes="mood", **options)
    with pytest.raises(ValueError, match="does not support attributes"):
        train("distortion", tagged_faces, attributes="hair", **options)
    assert not (tmp_path / "run").exists()


def test_widths_are_whole_numbers() -> None:
    config = models.architecture("mlp").default_config()
    changes = parse_changes("network.widths=16/32,optimizer.betas=0/0.9", config)
    assert changes == {"network": {"widths": (16, 32)}, "optimizer": {"betas": (0.0, 0.9)}}
