"""Few pictures: other defaults, which options override; warnings; and runs that end by themselves."""

from __future__ import annotations

import importlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kyara import models
from kyara.files import checkpoint
from kyara.files.dataset import open_dataset
from kyara.files.pictures import to_float
from kyara.models import dcgan
from kyara.models.base import Batch
from kyara.perception.features import nearest_ratio
from kyara.training import estimate, loop, small_sets
from kyara.training.batches import Batches
from kyara.training.settings import choose_data
from kyara.training.stopping import EarlyStop
from kyara.training.train import train
from kyara.training.trainer import Options, Trainer

TINY: dict[str, Any] = {"workers": 0, "precision": "32"}
DEFAULTS = {
    "freeze": "mapping,d=4", "lr": 0.001, "augment": "diffaugment", "augment_colour": False, "kimg": 300.0,
    "snap": 10.0, "patience": 5,
}  # fmt: skip


@pytest.fixture(scope="module")
def parent(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("parent") / "run"
    return str(train("stylegan2", faces, out=out, preset="tiny", kimg=0.02, **TINY).out)


def settings(faces: Path, **options: Any) -> dict[str, Any]:
    return dict(train("stylegan2", faces, dry_run=True, **{**TINY, **options}).settings)


def test_few_pictures_have_other_defaults(faces: Path, parent: str) -> None:
    found = settings(faces, init=parent)
    assert found["few_pictures"] == DEFAULTS
    assert found["config"]["optimizer"]["lr"] == 0.001 and found["tuning"]["freeze"] == "mapping,d=4"
    assert found["training"]["augment"] == "diffaugment" and not found["training"]["augment_colour"]
    scratch = settings(faces, preset="tiny")
    assert "few_pictures" not in scratch and "tuning" not in scratch and scratch["training"]["augment"] == "ada"
    config = models.load(parent).config
    assert small_sets.defaults("stylegan2", config, parent, 501) == small_sets.REGULAR
    assert small_sets.defaults("stylegan2", config, None, 80) == small_sets.REGULAR


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"freeze": "g=1"}, {"freeze"}),
        ({"freeze": "none"}, {"freeze"}),
        ({"tune_layers": 2}, {"freeze"}),
        ({"set": "optimizer.lr=0.0005"}, {"lr"}),
        ({"set": "optimizer.ema_kimg=5, optimizer.lr =0.0005"}, {"lr"}),
        ({"augment": "ada", "augment_colour": True}, {"augment", "augment_colour"}),
        ({"kimg": 1000.0, "snap": 50.0, "patience": 0}, {"kimg", "snap", "patience"}),
    ],
)
def test_options_win(faces: Path, parent: str, options: dict[str, Any], changed: set[str]) -> None:
    found = settings(faces, init=parent, **options)
    assert found["few_pictures"] == {name: value for name, value in DEFAULTS.items() if name not in changed}
    if "freeze" in changed:
        assert found.get("tuning", {}).get("freeze", "") == {"g=1": "g=1"}.get(options.get("freeze", ""), "")
    assert found["config"]["optimizer"]["lr"] == (0.0005 if "lr" in changed else 0.001)
    assert (found["training"]["augment"] == "ada") == ("augment" in changed)


def test_a_plan_needs_no_weights(faces: Path, parent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read of a parent before its weights are copied is in its config.json."""
    importlib.import_module("kyara.models.projector")  # it imports `load`, if no test has imported it before
    monkeypatch.delattr(models, "load")
    assert settings(faces, init=parent)["few_pictures"] == DEFAULTS
    assert choose_data("projector", None, None, None, parent) == (None, None)


def test_what_the_parent_lacks_is_not_frozen(faces: Path, tagged_faces: Path, parent: str, tmp_path: Path) -> None:
    assert settings(tagged_faces, init=parent, attributes="hair")["few_pictures"]["freeze"] == "d=4"
    assert "freeze" not in settings(faces, init=parent, size="64")["few_pictures"]
    assert "freeze" not in settings(faces, init=parent, set="network.mapping_layers=1")["few_pictures"]
    run = train("stylegan2", tagged_faces, out=tmp_path / "run", init=parent, attributes="hair", kimg=0.02, **TINY).out
    same = settings(tagged_faces, init=str(run), attributes="hair")["few_pictures"]
    assert same["freeze"] == "mapping,d=4"


def test_few_labels_keep_the_meaning_that_they_had(tagged_faces: Path, parent: str, tmp_path: Path) -> None:
    """A small set rarely has every value that its parent knows."""
    options: dict[str, Any] = {"attributes": "hair,eyes", "kimg": 0, **TINY}
    run = train("stylegan2", tagged_faces, out=tmp_path / "parent", init=parent, **options).out
    small = tmp_path / "small"
    with zipfile.ZipFile(tagged_faces) as archive:
        archive.extractall(small)
        lines = archive.read("metadata.csv").decode().splitlines()
    (small / "metadata.csv").write_text("\n".join(line.replace("black", "") for line in lines))
    found = settings(small, init=str(run), attributes="hair,eyes")
    assert found["config"]["data"]["attributes"]["hair"] == ("black", "blonde", "blue")
    assert found["few_pictures"]["freeze"] == "mapping,d=4"
    (small / "metadata.csv").write_text("\n".join(line.replace("black", "green") for line in lines))
    found = settings(small, init=str(run), attributes="hair,eyes")
    assert found["config"]["data"]["attributes"]["hair"] == ("blonde", "blue", "green")
    assert found["few_pictures"]["freeze"] == "d=4"


def test_a_run_says_and_keeps_what_was_chosen(
    faces: Path, parent: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train("stylegan2", faces, out=tmp_path / "run", init=parent, kimg=0.02, **TINY).out
    told = capsys.readouterr().err
    chosen = "--freeze mapping,d=4 --set optimizer.lr=0.001 --augment diffaugment --no-augment-colour --snap 10"
    line = f"64 pictures are few; options chosen for them: {chosen} --patience 5\n"
    assert told.index(line) < told.index("0 kimg:")
    described = json.loads((run / "config.json").read_text())
    assert described["few_pictures"] == {name: value for name, value in DEFAULTS.items() if name != "kimg"}
    assert "nearest" in described["scores"]
    assert train("stylegan2", faces, out=run, init=parent, kimg=0.03, **TINY).kimg == 0.032


def test_a_model_without_a_discriminator_is_not_augmented(faces: Path, tmp_path: Path) -> None:
    parent = str(train("vae", faces, out=tmp_path / "parent", preset="tiny", kimg=0, **TINY).out)
    found = train("vae", faces, init=parent, dry_run=True, **TINY).settings
    assert found["few_pictures"] == {"lr": 0.001, "kimg": 300.0, "snap": 10.0, "patience": 5}
    assert found["training"]["augment"] == "ada"  # as without --init
    told = small_sets.warning("vae", 64, None)
    assert told and "collapses" not in told and "it repeats them. Use 500 or more" in told


def test_a_model_without_a_discriminator_gets_no_advice_about_one(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kyara.training.monitor.WARM_UP", 0)
    monkeypatch.setattr("kyara.training.monitor.COLLAPSED", 100.0)
    for model in ("vae", "dcgan"):
        train(model, faces, out=tmp_path / model, preset="tiny", kimg=0, **TINY)
        assert ("samples have collapsed" in capsys.readouterr().err) == (model == "dcgan")


def test_too_few_pictures_are_said(
    faces: Path, parent: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for model, init in (("stylegan2", "--init builtin:anime or "), ("dcgan", "--init CHECKPOINT")):
        train(model, faces, out=tmp_path / model, preset="tiny", kimg=0, **TINY)
        told = capsys.readouterr().err
        assert told.count("warning: 64 pictures are too few") == 1 and init in told.replace(
            "--init builtin:character or ", ""
        )
    assert small_sets.warning("stylegan2", 49, parent) and not small_sets.warning("stylegan2", 64, parent)
    assert not small_sets.warning("stylegan2", 500, None) and not small_sets.warning("tagger", 10, None)


def test_a_run_ends_when_it_no_longer_improves(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = iter([9.0, 5.0, 6.0, 4.0, 7.0, 4.0, 3.0])  # of the untrained network, then every 8 pictures
    monkeypatch.setattr(dcgan.Model, "measure", lambda *_: {"frechet": next(scores)})
    options: dict[str, Any] = {"out": tmp_path / "run", "preset": "tiny", "kimg": 1, "snap": 0.008, **TINY}
    done = train("dcgan", faces, patience=2, **options)
    assert done.finished and done.kimg == 0.04
    assert "ended: no better snapshot among the last 2; a larger --patience trains on" in capsys.readouterr().err
    assert json.loads((done.out / "config.json").read_text())["kimg"] == 0.04  # equal to the best, and later
    assert train("dcgan", faces, patience=2, **options).kimg == 0.04
    more = train("dcgan", faces, patience=3, **options | {"kimg": 0.048})
    assert more.kimg == 0.048


def test_a_run_that_was_interrupted_ends_where_it_would_have(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = {0: 9.0, 8: 5.0, 12: 1.0, 16: 6.0, 24: 4.0, 32: 7.0, 40: 4.0}
    seen: list[int] = []
    monkeypatch.setattr(loop.Recorder, "_is_best", lambda self, found: False)
    monkeypatch.setattr(dcgan.Model, "measure", lambda *_: {"frechet": scores[seen[-1]]})
    snapshot = loop.Recorder._snapshot
    monkeypatch.setattr(
        loop.Recorder, "_snapshot", lambda self, *a: (seen.append(self.trainer.nimg), snapshot(self, *a))[1]
    )
    options: dict[str, Any] = {"out": tmp_path / "run", "preset": "tiny", "batch": 4, "snap": 0.008, "patience": 2}
    assert train("dcgan", faces, kimg=0.012, **options, **TINY).kimg == 0.012  # between two snapshots
    assert train("dcgan", faces, kimg=1, **options, **TINY).kimg == 0.04


def test_copies_end_a_run() -> None:
    stopping = EarlyStop()
    stopping.read({"frechet": 5.0, "nearest": 0.9})
    assert stopping.reason(3) is None
    stopping.read({"frechet": 4.0, "nearest": 0.4})
    assert "copies of the data (nearest 0.40)" in str(stopping.reason(3)) and stopping.reason(0) is None


def some_pictures(faces: Path, count: int) -> Tensor:
    """Pictures (count, 3, 48, 48) of the data."""
    return to_float(np.stack(list(open_dataset(faces).decode(range(count), 48, 48))))


def test_copies_are_near(faces: Path) -> None:
    data, others = some_pictures(faces, 40).split(20)
    with torch.inference_mode():
        assert nearest_ratio(data.flip(3), data) == 0
        assert nearest_ratio(data + 0.02 * torch.randn_like(data), data) < 0.5 < 0.7 < nearest_ratio(others, data) < 1.5


@pytest.mark.parametrize("again", [lambda x: x, lambda x: x.flip(3), lambda x: (x + 0.5 / 255).clamp(-1, 1)])
def test_copies_are_near_if_the_data_have_each_picture_twice(again: Callable[[Tensor], Tensor], faces: Path) -> None:
    """The copy of a real picture is no measure for how near others are."""
    data = some_pictures(faces, 20)
    made, both = data + 0.02 * torch.randn_like(data), torch.cat([data, again(data)])
    with torch.inference_mode():
        assert nearest_ratio(made, both) == pytest.approx(nearest_ratio(made, data), rel=0.1)


def test_the_estimate_changes_nothing(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run with an estimate before its first step, and again after it was continued, ends with the same bits."""
    states = []
    for worth in (10**9, 1):
        monkeypatch.setattr(estimate, "WORTH", worth)
        for kimg in (0.04, 0.08):
            run = train("stylegan2", faces, out=tmp_path / str(worth), preset="tiny", kimg=kimg, **TINY).out
        states.append(checkpoint.load_training(run / "training.pt"))
    a, b = states
    assert all(torch.equal(a["model"][name], b["model"][name]) for name in a["model"])
    assert str(a["optimizers"]) == str(b["optimizers"]) and str(a["means"]) == str(b["means"])


def test_the_estimate_is_printed_before_the_first_step(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(estimate, "time_step", lambda trainer, batch: 4.0)
    train("dcgan", faces, out=tmp_path / "run", preset="tiny", kimg=0.8, snap=10, **TINY)
    told = capsys.readouterr().err
    assert told.index("about 6.7 minutes for 0.8 kimg, at 2 pictures a second\n") < told.index("0 kimg:")
    train("dcgan", faces, out=tmp_path / "short", preset="tiny", kimg=0.1, **TINY)
    assert "about" not in capsys.readouterr().err


def test_durations_have_words() -> None:
    described = [estimate.describe(seconds) for seconds in (5, 100, 3000, 8000, 100_000, 400_000)]
    assert described == ["a minute", "1.7 minutes", "50 minutes", "2.2 hours", "28 hours", "4.6 days"]


def test_a_step_is_timed(faces: Path) -> None:
    model = models.architecture("dcgan")(models.architecture("dcgan").presets["tiny"])
    trainer = Trainer(model, Options(batch=8, micro_batch=8))
    batch = next(Batches(model, open_dataset(faces), None, workers=0).stream(trainer.options, trainer.fabric, 0))
    assert isinstance(batch, Batch) and 0 < estimate.time_step(trainer, batch) < 10
    assert trainer.nimg == trainer.steps == 0 and not trainer.optimizers[model.d].state  # type: ignore[index]


def test_every_phase_counts_in_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that the phases move: main phases by 1, regularisations by 8 and 32 every 4 and 16 steps."""
    model = models.architecture("mlp")(models.architecture("mlp").presets["tiny"])
    trainer, now, seen = Trainer(model, Options(batch=8, micro_batch=8)), [0.0], set[int]()
    costs, intervals = {"d": 1, "g_a": 8, "g_b": 32}, {"d": 1, "g_a": 4, "g_b": 16}

    def work(phase: str, batch: Batch) -> dict[str, torch.Tensor]:
        seen.add(batch.step)
        now[0] += costs[phase] if batch.step * 8 > 60_000 else 0  # as CartoonGAN's first steps, which cost less
        return {}

    monkeypatch.setattr(estimate.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(model, "phases", tuple(costs))
    monkeypatch.setattr(model, "reg_interval", intervals.get)
    monkeypatch.setattr(trainer, "players", {"d": model.d, "g_a": model.g, "g_b": model.g})
    monkeypatch.setattr(trainer, "losses", work)
    monkeypatch.setattr(model, "losses", work)
    batch = Batch(torch.zeros(8, 3, model.config.data.height, model.config.data.width))
    assert estimate.time_step(trainer, batch) == pytest.approx(1 + 8 / 4 + 32 / 16)
    assert {tuple(step % k == 0 for k in (4, 16)) for step in seen} == {(False, False), (True, False), (True, True)}
