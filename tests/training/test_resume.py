"""Stopping and resuming: signals, kill -9, a full disk, a moved dataset, a lost state."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from kyara import models
from kyara.files import checkpoint
from kyara.models import dcgan
from kyara.training.train import train
from kyara.training.trainer import Trainer

TINY: dict[str, Any] = {"preset": "tiny", "workers": 0, "precision": "32"}


def state(run: Path) -> dict[str, Any]:
    return checkpoint.load_training(run / "training.pt")


def test_the_same_command_resumes_and_others_do_not_mix(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    first = train("dcgan", faces, kimg=0.1, **TINY)
    assert str(first.out) == "runs/00000-dcgan-faces" and first.finished and first.kimg == 0.104
    again = train("dcgan", faces, kimg=0.2, **TINY)
    assert again.out == first.out and again.kimg == 0.2
    capsys.readouterr()
    assert train("dcgan", faces, kimg=0.1, **TINY).kimg == 0.2  # nothing left to do
    assert "is trained for 0.2 kimg already, so nothing is done; a larger --kimg" in capsys.readouterr().err
    assert str(train("dcgan", faces, kimg=0.1, seed=1, **TINY).out) == "runs/00001-dcgan-faces"
    with pytest.raises(FileExistsError, match="seed was 0, now 2"):
        train("dcgan", faces, out=first.out, kimg=0.1, seed=2, **TINY)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "drawing.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not a run"):
        train("dcgan", faces, out=tmp_path / "mine", kimg=0.1, **TINY)


def test_a_dataset_is_known_by_what_is_in_it(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    moved = tmp_path / "elsewhere" / "renamed.zip"
    moved.parent.mkdir()
    shutil.copy(faces, moved)
    first = train("mlp", faces, kimg=0.1, **TINY)
    assert train("mlp", moved, kimg=0.2, **TINY).out == first.out
    assert train("mlp", moved, out=first.out, kimg=0.3, **TINY).kimg == 0.304
    assert json.loads((first.out / "config.json").read_text())["data"]["name"] in ("faces.zip", "renamed.zip")


def test_options_that_were_left_out_are_a_difference(tagged_faces: Path, tmp_path: Path) -> None:
    train("mlp", tagged_faces, out=tmp_path / "run", attributes="hair", kimg=0, **TINY)
    with pytest.raises(FileExistsError, match=r"attributes\.hair was"):
        train("mlp", tagged_faces, out=tmp_path / "run", kimg=0, **TINY)


def test_fields_that_are_newer_than_a_run_are_no_difference(faces: Path, tmp_path: Path) -> None:
    run = train("mlp", faces, out=tmp_path / "run", kimg=0.04, **TINY).out
    file = run / "config.json"
    table = json.loads(file.read_text())
    del table["config"]["optimizer"]["ema_start_kimg"], table["config"]["losses"]
    file.write_text(json.dumps(table))
    assert train("mlp", faces, out=run, kimg=0.08, **TINY).kimg == 0.08
    file.write_text(json.dumps(table))
    with pytest.raises(FileExistsError, match=r"config\.optimizer\.ema_start_kimg was 0\.0, now 1\.0"):
        train("mlp", faces, out=run, kimg=0.08, set="optimizer.ema_start_kimg=1", **TINY)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_weights_without_their_state_are_never_replaced(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = train("mlp", faces, kimg=0.1, **TINY).out
    before = digest(first / "model.safetensors")
    (first / "training.pt").unlink()
    with pytest.raises(FileExistsError, match=r"no training\.pt.*--init"):
        train("mlp", faces, out=first, kimg=0.1, **TINY)
    second = train("mlp", faces, kimg=0.1, **TINY).out  # without --out there is a new one
    assert second.name == "00001-mlp-faces" and digest(first / "model.safetensors") == before
    (second / "training.pt").write_bytes(b"broken")
    with pytest.raises(ValueError, match="--init"):
        train("mlp", faces, out=second, kimg=0.2, **TINY)
    assert train("mlp", faces, init=str(first), out=tmp_path / "third", kimg=0, **TINY).finished


def test_a_run_that_was_never_trained_begins_again(faces: Path, tmp_path: Path) -> None:
    run = train("mlp", faces, out=tmp_path / "run", kimg=0, **TINY).out
    (run / "training.pt").unlink()
    assert train("mlp", faces, out=run, kimg=0.1, **TINY).kimg == 0.104


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops(
    number: signal.Signals, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves a snapshot of where it stopped, between two others, and the run continues to the very same bits."""
    step = Trainer.step

    def signalled(self: Trainer, *arguments: Any, **options: Any) -> None:
        step(self, *arguments, **options)
        if self.steps == 5:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", signalled)
        stopped = train("dcgan", faces, out=tmp_path / "run", kimg=0.08, snap=0.03, **TINY)
    assert not stopped.finished and stopped.kimg == 0.04 and "same command" in str(stopped)
    assert (stopped.out / "snapshots" / "000000.040" / "model.safetensors").is_file()
    assert json.loads((stopped.out / "config.json").read_text())["kimg"] > 0
    train("dcgan", faces, out=stopped.out, kimg=0.08, snap=0.03, **TINY)
    whole = train("dcgan", faces, out=tmp_path / "whole", kimg=0.08, snap=0.03, **TINY).out
    a, b = state(stopped.out)["model"], state(whole)["model"]
    assert all(torch.equal(a[key], b[key]) for key in b)


def test_a_run_that_is_killed_while_it_is_scored_was_saved_before(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores take up to minutes, and who stopped a run may not wait."""
    step, measure = Trainer.step, dcgan.Model.measure

    def signalled(self: Trainer, *arguments: Any, **options: Any) -> None:
        step(self, *arguments, **options)
        if self.steps == 5:
            os.kill(os.getpid(), signal.SIGINT)
            patch.setattr(dcgan.Model, "measure", killed)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", signalled)
        with pytest.raises(KeyboardInterrupt):
            train("dcgan", faces, out=tmp_path / "run", kimg=0.08, snap=0.03, **TINY)
    assert dcgan.Model.measure is measure and state(tmp_path / "run")["nimg"] == 40
    run = train("dcgan", faces, out=tmp_path / "run", kimg=0.08, snap=0.03, **TINY).out
    whole = train("dcgan", faces, out=tmp_path / "whole", kimg=0.08, snap=0.03, **TINY).out
    a, b = state(run)["model"], state(whole)["model"]
    assert all(torch.equal(a[key], b[key]) for key in b)


def test_a_signal_to_the_command(faces: Path, tmp_path: Path) -> None:
    small = ["--preset", "tiny", "--workers", "0", "--snap", "0.1", "--kimg", "1000", "--out", str(tmp_path / "run")]
    arguments = [sys.executable, "-m", "kyara", "train", "mlp", str(faces), *small]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:  # it has begun
            if "0.104 kimg" in line:
                break
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and "stopped and saved" in printed
    assert models.load(tmp_path / "run") and state(tmp_path / "run")["nimg"] >= 104


@pytest.mark.parametrize("model", ["dcgan", "stylegan2"])
def test_kill_9_at_every_point(model: str, faces: Path, tmp_path: Path) -> None:
    """Whatever was killed, the run goes on, and ends with the very bits of a run that nobody touched."""
    script = Path(__file__).with_name("killed.py")
    arguments = [sys.executable, str(script), model, str(faces), str(tmp_path / "run")]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "kills 13" in done.stdout


@pytest.mark.parametrize("name", ["model.safetensors", "training.pt", "fakes000000.png"])
def test_a_full_disk_is_a_sentence(name: str, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the same command resumes when there is room."""
    replace = Path.replace

    def full(self: Path, target: Path) -> Path:
        if target.name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(OSError, match=rf"{name}: cannot be written \(No space left on device\)"):
            train("mlp", faces, out=tmp_path / "run", kimg=0.1, **TINY)
    assert train("mlp", faces, out=tmp_path / "run", kimg=0.1, **TINY).finished


def test_curves_on_a_full_disk(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def full(self: Path, *arguments: Any, **options: Any) -> Any:
        if self.name == "stats.jsonl" and arguments[:1] == ("a",):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match=r"stats\.jsonl: cannot be written"):
        train("mlp", faces, out=tmp_path / "run", kimg=0.1, **TINY)
