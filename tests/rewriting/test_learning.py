"""From an edit to a rule: what is trained on, what is measured, and masks that do not fit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from networks import edit, generator, pattern, projector_of, untrained
from PIL import Image

from kyara import models, rewrite
from kyara.files import checkpoint
from kyara.files.dataset import Dataset, open_dataset
from kyara.rewriting import learning
from kyara.rewriting.learning import TEST_PICTURES, TEST_SEED, TRAINING_SEED, RuleTrainer
from kyara.rewriting.rules import rules_of
from kyara.rewriting.samples import Samples

FAST: dict[str, Any] = {"steps": 2, "extra_images": 8}


def test_an_outside_error_is_not_reported_if_the_pattern_covers_everything(tmp_path: Path) -> None:
    name = generator(tmp_path / "g")
    whole = edit("whole", mask=[0, 0, 32, 32], source={"picture": np.full((8, 8, 3), (250, 10, 10), np.uint8)})
    result = rewrite(name, whole, projector=projector_of(tmp_path / "p", name), out=tmp_path / "out", **FAST)
    (rule,) = result.rules
    assert rule.outside_error is None and (rule.inside_error or 0) > 0
    assert "inside error" in str(result) and "outside error" not in str(result)
    (stored,) = rules_of(checkpoint.read(tmp_path / "out"))
    assert "outside_error" not in stored.about and all(weight.isfinite().all() for weight in stored.weights.values())
    (again,) = rewrite(str(tmp_path / "out"), strength=0.5, out=tmp_path / "half").rules
    assert again.outside_error is None


@pytest.mark.parametrize("kind", ["munit", "inpainting"])
@pytest.mark.parametrize("taught", [{"source": {"picture": "disc.png"}}, {"erase": True}])
def test_a_mask_that_vanishes_at_the_size_of_the_network_is_refused(
    kind: str, taught: dict[str, Any], faces: Path, tmp_path: Path
) -> None:
    run = untrained(tmp_path / "run", kind)
    Image.new("RGB", (512, 512), "gray").save(tmp_path / "large.png")
    Image.new("L", (512, 512), 255).save(tmp_path / "hole.png")
    Image.fromarray(pattern()).save(tmp_path / "disc.png")
    target = {"hole": "hole.png"} if kind == "inpainting" else {"style": 2}
    good = {"picture": "large.png", "mask": [100, 100, 300, 300], **target, **taught}
    table = {"name": "line", "examples": [good, {**good, "mask": [100, 100, 300, 2]}]}
    (tmp_path / "line.json").write_text(json.dumps(table))
    options: dict[str, Any] = {"projector": projector_of(tmp_path / "p", run), "data": faces, "out": tmp_path / "x"}
    problem = r"line, example 2, mask: .* make the mask larger"
    if kind == "inpainting" and "erase" in taught:  # whatever its mask, and before any learning
        problem = "line, example 1: .* cannot be taught to erase"
    with pytest.raises(ValueError, match=problem):
        rewrite(run, tmp_path / "line.json", **options, **FAST)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("count", [8, 384, 1000, 1001, 1040, 100_000])
def test_errors_are_measured_on_pictures_that_were_not_trained_on(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "capture", lambda model, layers, sample_fn: sample_fn)
    samples = SimpleNamespace(model=None, random=lambda count, seed, holes, part: seed)
    trainer = RuleTrainer(samples, None)  # type: ignore[arg-type]
    trained: list[Any] = trainer.random(None, count, TRAINING_SEED)  # type: ignore[arg-type]
    tested: list[Any] = trainer.random(None, TEST_PICTURES, TEST_SEED)  # type: ignore[arg-type]
    assert len(set(trained)) == len(trained) == -(-count // 8) and not {*trained} & {*tested}
    assert trained[:125] == [*range(1000, 2000, 8)][: len(trained)] and tested == [2000, 2008, 2016, 2024]


@pytest.mark.parametrize("count", [2, 5, 50])
def test_pictures_of_the_data_that_are_measured_on_were_not_trained_on(
    count: int, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "capture", lambda model, layers, sample_fn: sample_fn)
    used = set[str]()

    def decode(data: Dataset, indices: list[int], width: int, height: int) -> list[np.ndarray]:
        used.update(data.names[i] for i in indices)
        return [np.zeros((height, width, 3), np.uint8)] * len(indices)

    monkeypatch.setattr(Dataset, "decode", decode)
    preset = models.architecture("inpainting").presets["tiny"]
    network = models.build("inpainting", dataclasses.asdict(preset)).requires_grad_(False)
    trainer = RuleTrainer(Samples(network, "inpainting", open_dataset(faces).subset(range(count))), None)  # type: ignore[arg-type]
    trainer.random(None, 384, TRAINING_SEED)  # type: ignore[arg-type]
    trained = {*used}
    used.clear()
    trainer.random(None, TEST_PICTURES, TEST_SEED)  # type: ignore[arg-type]
    assert trained and used and not trained & used


def test_nothing_is_measured_on_a_single_picture(tmp_path: Path) -> None:
    """It is trained on."""
    run = untrained(tmp_path / "run", "munit")
    (tmp_path / "data").mkdir()
    shown = Image.fromarray(pattern().repeat(4, 0).repeat(4, 1)[:, :, :3])
    shown.save(tmp_path / "data" / "shown.png")
    example = {"picture": "data/shown.png", "mask": [15, 18, 18, 12], "style": 2, "source": {"picture": "disc.png"}}
    Image.fromarray(pattern()).save(tmp_path / "disc.png")
    (tmp_path / "disc.json").write_text(json.dumps({"examples": [example]}))
    options: dict[str, Any] = {"projector": projector_of(tmp_path / "p", run), "data": tmp_path / "data"}
    result = rewrite(run, tmp_path / "disc.json", **options, out=tmp_path / "out", **FAST)
    (rule,) = result.rules
    assert rule.inside_error is None and rule.outside_error is None and "no error was measured" in str(result)
