"""The loop: what it writes, what happens to what is not finite, and that it learns."""

from __future__ import annotations

import json
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kyara import models
from kyara.files import checkpoint, pictures
from kyara.models import dcgan
from kyara.models.base import Batch
from kyara.training.log import Log, Means
from kyara.training.settings import configure, parse_changes
from kyara.training.train import train

TINY = {"preset": "tiny", "workers": 0, "precision": "32"}


def stats(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]


def test_a_run_folder_has_everything(faces: Path, tmp_path: Path) -> None:
    run = train("dcgan", faces, out=tmp_path / "run", kimg=0.6, snap=0.2, **TINY).out
    names = {p.name for p in run.iterdir()}
    assert {
        "config.json",
        "model.safetensors",
        "README.md",
        "training.pt",
        "stats.jsonl",
        "reals.png",
    } <= names
    assert {"fakes000000.png"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    described = json.loads((run / "config.json").read_text())
    assert described["model"] == "dcgan" and described["data"]["pictures"] == 64
    scores = [row["score/frechet"] for row in stats(run) if "score/frechet" in row and row["nimg"]]
    assert described["scores"]["frechet"] == min(scores)
    assert pictures.decode(run / "reals.png").ndim == 3


def test_diversity_is_compared_with_all_of_the_data(tmp_path: Path) -> None:
    """Not with the first pictures by name, which may be of one kind."""
    folder = tmp_path / "faces"
    folder.mkdir()
    for i in range(128):  # the first half is black
        pictures.write_png(folder / f"{i:03}.png", np.full((16, 16, 3), 0 if i < 64 else 255, np.uint8))
    run = train("dcgan", folder, out=tmp_path / "run", kimg=0.1, **TINY).out
    assert 50 < pictures.decode(run / "reals.png").mean() < 205
    assert max(row.get("score/diversity", 0.0) for row in stats(run)) < 5


def test_the_scores_of_the_snapshot_that_a_run_goes_on_from_stay_visible(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for begin, end in ((0, 100), (100, 200)):
        log = Log(tmp_path, begin)
        for nimg in {0, 100, 200} & {begin if not begin else end, end}:
            log.write(nimg, {"score/frechet": float(nimg)})
        log.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Scalars("score/frechet")] == [0, 100, 200]


def poison(monkeypatch: pytest.MonkeyPatch, when: range, kind: float = float("nan")) -> None:
    """Makes DCGAN's losses, and the statistics of its batch normalisation, not finite at some steps."""
    losses = dcgan.Model.losses

    def poisoned(self: dcgan.Model, phase: str, batch: Batch) -> dict[str, torch.Tensor]:
        if batch.step in when:
            batch.real.mul_(kind)
        found = losses(self, phase, batch)
        return {key: loss * kind if batch.step in when else loss for key, loss in found.items()}

    monkeypatch.setattr(dcgan.Model, "losses", poisoned)


@pytest.mark.parametrize("kind", [float("nan"), float("inf")])
def test_what_is_not_finite_never_reaches_the_weights(
    kind: float, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, range(10, 13), kind)
    run = train("dcgan", faces, out=tmp_path / "run", kimg=0.52, snap=10, **TINY).out
    state = checkpoint.load_training(run / "training.pt")
    assert all(torch.isfinite(t).all() for t in state["model"].values() if t.is_floating_point())
    for optimizer in state["optimizers"]:
        assert all(torch.isfinite(t).all() for moments in optimizer["state"].values() for t in moments.values())
    assert stats(run)[1]["dropped"] == pytest.approx(3 / 32)


def test_repeated_failure_goes_back_and_then_gives_up(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    poison(monkeypatch, range(70, 10**9))
    with pytest.raises(FloatingPointError, match="lower lr"):
        train("dcgan", faces, out=tmp_path / "run", kimg=2, snap=0.5, **TINY)
    assert capsys.readouterr().err.count("returning to the last snapshot") == 3
    assert [row["nimg"] for row in stats(tmp_path / "run") if "dropped" in row] == [256, 512, 768]  # none twice
    state = checkpoint.load_training(tmp_path / "run" / "training.pt")
    assert state["nimg"] == 504  # the snapshot before the trouble is still there


def test_a_run_that_recovers_goes_on(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure that does not come back after the retry (its random numbers differ) costs only time."""
    losses, seen = dcgan.Model.losses, []

    def once(self: dcgan.Model, phase: str, batch: Batch) -> dict[str, torch.Tensor]:
        seen.append(batch.step)
        bad = batch.step >= 70 and seen.count(batch.step) <= 2
        return {key: loss * float("nan") if bad else loss for key, loss in losses(self, phase, batch).items()}

    monkeypatch.setattr(dcgan.Model, "losses", once)
    run = train("dcgan", faces, out=tmp_path / "run", kimg=0.9, snap=0.5, **TINY).out
    assert checkpoint.load_training(run / "training.pt")["nimg"] >= 900
    assert checkpoint.load_training(run / "training.pt")["retries"] == 1


def test_it_learns_a_colour(tmp_path: Path) -> None:
    """From pictures that are all nearly one colour comes that colour."""
    data, generator = tmp_path / "red.zip", random.Random(0)
    with zipfile.ZipFile(data, "w") as archive:
        for i in range(32):
            picture = torch.tensor([200, 60 + generator.randint(-9, 9), 40], dtype=torch.uint8).expand(32, 32, 3)
            archive.writestr(f"{i}.png", pictures.encode_png(picture.numpy()))
    run = train(
        "stylegan2",
        data,
        out=tmp_path / "run",
        kimg=1.2,
        snap=10,
        set="optimizer.lr=0.01,optimizer.ema_kimg=0.05",
        **TINY,
    ).out
    model = models.load(run / "snapshots" / "000001")
    with torch.inference_mode():
        mean = pictures.to_uint8(model.sample(torch.randn(16, 16))).reshape(-1, 3).mean(0)
    assert mean == pytest.approx([200, 60, 40], abs=30)


def test_a_network_grows_from_a_smaller_one(faces: Path, tmp_path: Path) -> None:
    small = train("stylegan2", faces, out=tmp_path / "small", kimg=0.02, size="16", **TINY).out
    large = train("stylegan2", faces, out=tmp_path / "large", kimg=0.0, size="32", init=str(small), **TINY).out
    a, b = models.load(small).state_dict(), models.load(large).state_dict()
    shared = [key for key in b if key in a and a[key].shape == b[key].shape]
    assert all(torch.equal(a[key], b[key]) for key in shared)
    assert "g_ema.synthesis.blocks.2.conv1.conv.weight" in shared
    assert "g_ema.synthesis.blocks.3.conv1.conv.weight" not in shared


def test_settings_from_the_command_line() -> None:
    changes = "optimizer.lr=0.5, optimizer.betas=0.1/0.9,network.z_dim=7"
    config = configure("stylegan2", preset=None, size="64x32", batch=4, changes=changes)
    assert (config.data.height, config.data.width, config.optimizer.batch, config.optimizer.lr) == (64, 32, 4, 0.5)
    assert config.optimizer.betas == (0.1, 0.9) and config.network.z_dim == 7  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="no such hyperparameter"):
        parse_changes("speed=3", config)
    with pytest.raises(ValueError, match="must be of type int"):
        parse_changes("network.z_dim=many", config)
    with pytest.raises(ValueError, match="--preset huge"):
        configure("dcgan", preset="huge", size=None, batch=None, changes="")


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        ("stylegan2", "network.mapping_layers=0,network.z_dim=8", "network.mapping_layers=0: "),
        ("gansnroses", "network.d_patch_level=0", "network.d_patch_level=0: must be from 1"),
        ("gansnroses", "network.d_patch_level=9", "network.d_patch_level=9: must be from 1"),
        ("munit", "network.d_scales=0", "network.d_scales=0: must be"),
    ],
)
def test_values_that_do_not_fit_together_are_named(model: str, changes: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        configure(model, preset="tiny", size=None, batch=None, changes=changes)


def test_labels_must_enter_at_a_layer_that_there_is() -> None:
    """They would be ignored without a word."""
    tiny = models.architecture("stylegan2").presets["tiny"]
    data = {"attributes": {"hair": ("black", "blonde")}}
    assert tiny.replace(data=data, network={"labels_from": 7}) and tiny.replace(network={"labels_from": 8})
    with pytest.raises(ValueError, match=r"network\.labels_from=8: must be below 8"):
        tiny.replace(data=data, network={"labels_from": 8})


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("ON", True), ("no", False), ("off", False)])
def test_booleans_have_several_names(text: str, value: bool) -> None:
    config = models.architecture("distortion").presets["tiny"]
    assert parse_changes(f"augment.pairs={text}", config) == {"augment": {"pairs": value}}
    with pytest.raises(ValueError, match=r"--set augment\.pairs=ture: must be of type bool"):
        parse_changes("augment.pairs=ture", config)


def test_the_parent_stays_in_the_average_with_any_preset() -> None:
    how: dict[str, Any] = {"size": None, "batch": None, "preset": "tiny"}
    assert configure("stylegan2", changes="", **how).optimizer.ema_start_kimg == 0
    assert configure("stylegan2", changes="", seen=20.0, **how).optimizer.ema_start_kimg == 20
    assert configure("stylegan2", changes="optimizer.ema_start_kimg=3", seen=20.0, **how).optimizer.ema_start_kimg == 3


def test_what_is_not_finite_is_not_logged(tmp_path: Path) -> None:
    """One bad step must not hide a whole tick, and the log must stay JSON."""
    means = Means()
    for bad in (float("nan"), float("inf")):
        for value in (1.0, bad, 3.0):
            means.add({"a": torch.tensor(value), "b": torch.tensor(bad)})
    assert means.take() == {"a": 2.0}
    log = Log(tmp_path, 0)
    log.write(8, {"x": float("nan"), "y": 1.0, "features": "0ab"})
    log.close()
    assert stats(tmp_path) == [{"nimg": 8, "y": 1.0, "features": "0ab"}]


def test_means_of_a_run_from_before_are_continued() -> None:
    means = Means()
    means.load_state_dict({"sums": {"a": torch.tensor(3.0)}, "counts": {"a": 2}}, torch.device("cpu"))
    means.add({"a": torch.tensor(6.0), "b": torch.tensor(1.0)})
    other = Means()
    other.load_state_dict(means.state_dict(), torch.device("cpu"))
    assert means.take() == other.take() == {"a": 3.0, "b": 1.0}


def test_curves_forget_what_came_after_the_snapshot(tmp_path: Path) -> None:
    log = Log(tmp_path, 0)
    for nimg in (100, 200, 300):
        log.write(nimg, {"x": 1.0})
    log.close()
    with (tmp_path / "stats.jsonl").open("a") as file:
        file.write('{"nimg": 40')
    Log(tmp_path, 200).close()
    assert [row["nimg"] for row in stats(tmp_path)] == [100, 200]
    means = Means()
    means.add({"a": torch.tensor(1.0)})
    means.add({"a": torch.tensor(3.0), "b": torch.tensor(5.0)})
    assert means.take() == {"a": 2.0, "b": 5.0} and means.take() == {}
