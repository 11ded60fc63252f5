"""The run folder: names of snapshots, and which one is the best."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from torch import Tensor

from kyara import models
from kyara.files import checkpoint
from kyara.files.atomic import check_free
from kyara.files.checkpoint import CONFIG
from kyara.models import dcgan
from kyara.models.base import Batch
from kyara.perception.features import builtin_hash
from kyara.training.run import LOCK, Run, check_no_run, locked, recorded_command
from kyara.training.train import train

TINY: dict[str, Any] = {"preset": "tiny", "workers": 0, "precision": "32"}


def test_snapshots_have_names_of_their_own(faces: Path, tmp_path: Path) -> None:
    """Whole thousands as long as nothing else has that name; sheets are called the same."""
    run = train("mlp", faces, out=tmp_path / "run", kimg=1.1, snap=0.5, **TINY).out
    names = [path.name for path in sorted((run / "snapshots").iterdir())]
    assert names == ["000000", "000000.504", "000001", "000001.104"]
    kimg = [json.loads((run / "snapshots" / name / "config.json").read_text())["kimg"] for name in names]
    assert kimg == [0, 0.504, 1, 1.104]
    assert {path.name for path in run.glob("fakes*")} == {f"fakes{name}.png" for name in names}
    assert Run(run, "mlp", {}).snapshot_name(504) == "000000.504"
    assert Run(run, "mlp", {}).snapshot_name(1000) == "000001"
    assert Run(run, "mlp", {}).snapshot_name(2040) == "000002"


@pytest.mark.parametrize("name", ["training.pt", "snapshots", ".lock", "command.txt", "stats.jsonl"])
def test_any_file_of_a_run_marks_it(tmp_path: Path, name: str) -> None:
    """For `check_no_run` and for `check_free` alike."""
    checkpoint.write(tmp_path, model="mlp", config={}, weights={"w": torch.zeros(1)}, card="", about={})
    check_no_run(tmp_path)
    check_free(tmp_path, CONFIG, force=True)
    (tmp_path / name).write_text("")
    for check in (check_no_run, lambda path: check_free(path, CONFIG, force=True)):
        with pytest.raises(FileExistsError, match="contains a training run, which --force does not replace"):
            check(tmp_path)


def test_a_run_remembers_how_it_was_last_called(faces: Path, tmp_path: Path) -> None:
    """Beside config.json, which is published with the weights."""
    run = tmp_path / "a run"
    for kimg in (0, 0.008):  # the second continues the first
        train("mlp", faces, out=run, kimg=kimg, mirror=False, **TINY)
    words = ["train", "mlp", str(faces), "--out", str(run), "--preset", "tiny", "--kimg", "0.008", "--no-mirror"]
    assert recorded_command(run) == (Path.cwd(), [*words, "--precision", "32", "--workers", "0"])
    assert str(tmp_path) not in (run / CONFIG).read_text()


def test_two_processes_do_not_train_one_run(faces: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options: dict[str, Any] = {"preset": "tiny", "out": run, "workers": 0}
    with locked(run):
        with pytest.raises(FileExistsError, match=r"run: another process is training this run; wait .* with --out"):
            train("mlp", faces, kimg=0.032, **options)
        assert [path.name for path in run.iterdir()] == [LOCK]
    assert not run.exists()  # nothing was written
    result = train("mlp", faces, kimg=0.032, **options)
    assert result.finished and not (run / LOCK).exists()
    before = (run / "training.pt").read_bytes()
    with locked(run), pytest.raises(FileExistsError, match="another process"):
        train("mlp", faces, kimg=0.064, **options)
    assert (run / "training.pt").read_bytes() == before
    (run / LOCK).touch()  # as left by a process that was killed
    assert train("mlp", faces, kimg=0.064, **options).kimg == 0.064


def test_a_killed_process_locks_nobody_out(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    hold = "lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print('locked', flush=True); time.sleep(99)"
    code = f"import sys, time, filelock; {hold}"
    with subprocess.Popen([sys.executable, "-c", code, str(run / LOCK)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"locked\n"
        with pytest.raises(FileExistsError, match="another process"), locked(run):
            pass
        other.kill()
    assert (run / LOCK).exists()
    with locked(run):
        pass


def test_file_systems_without_locks_have_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def acquire(code: int) -> Callable[..., None]:
        def fail(*_: object, **__: object) -> None:
            raise OSError(code, "no locks")

        return fail

    monkeypatch.setattr(FileLock, "acquire", acquire(errno.ENOLCK))
    with locked(tmp_path / "run"):
        pass
    monkeypatch.setattr(FileLock, "acquire", acquire(errno.EACCES))
    with pytest.raises(OSError, match="run"), locked(tmp_path / "run"):
        pass


def scored(monkeypatch: pytest.MonkeyPatch, scores: dict[int, float]) -> None:
    """Gives the snapshots of DCGAN, in order, these scores."""
    found = iter(scores.values())

    def measure(self: dcgan.Model, batch: Batch, distance: object) -> dict[str, float]:
        return {"frechet": next(found)}

    monkeypatch.setattr(dcgan.Model, "measure", measure)


def marked(run: Path) -> float:
    kimg: float = json.loads((run / "config.json").read_text())["kimg"]
    return kimg


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ({0: 1.0, 8: 9.0, 16: 8.0, 24: 10.0}, 0.016),  # the untrained network has the lowest score
        ({0: 1.0, 8: float("nan"), 16: float("nan"), 24: float("nan")}, 0.024),
        ({0: 9.0, 8: 3.0, 16: 3.0, 24: 4.0}, 0.016),
    ],
)
def test_the_untrained_network_is_never_the_best(
    scores: dict[int, float], best: float, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, scores)
    run = train("dcgan", faces, out=tmp_path / "run", kimg=0.024, snap=0.008, **TINY).out
    assert marked(run) == best
    snapshot = run / "snapshots" / f"000000.{int(best * 1000):03d}"
    ours, other = (models.load(path).state_dict() for path in (run, snapshot))
    assert all(torch.equal(tensor, other[key]) for key, tensor in ours.items())


def test_a_run_without_a_trained_snapshot_has_the_untrained_one(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, {0: 1.0, 8: 9.0})
    run = train("dcgan", faces, out=tmp_path / "run", kimg=0, snap=0.008, **TINY).out
    assert marked(run) == 0 and models.load(run)
    train("dcgan", faces, out=run, kimg=0.008, snap=0.008, **TINY)
    assert marked(run) == 0.008


def test_a_healthy_run_is_not_called_collapsed(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def sure(self: dcgan.Model, phase: str, batch: Batch) -> dict[str, Tensor]:
        batch.log["real_sign"], batch.log["fake_sign"] = torch.ones(()), -torch.ones(())
        return losses(self, phase, batch)

    losses = dcgan.Model.losses
    monkeypatch.setattr(dcgan.Model, "losses", sure)
    train("dcgan", faces, out=tmp_path / "run", kimg=0.3, snap=0.1, **TINY)
    assert "warning: the" not in capsys.readouterr().err  # the samples, or the discriminator


@pytest.mark.parametrize(("features", "best"), [(None, 0.008), ("of another version", 0.016)])
def test_scores_in_other_features_are_no_measure(
    features: str | None, best: float, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is continued with other features: its old distance, although lower, says nothing about new snapshots."""
    scored(monkeypatch, {0: 9.0, 8: 1.0, 16: 5.0})
    run = train("dcgan", faces, out=tmp_path / "run", kimg=0.008, snap=1, **TINY).out
    rows = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    assert {row["features"] for row in rows if "score/frechet" in row} == {builtin_hash()}
    state = checkpoint.load_training(run / "training.pt")
    torch.save({**state, "features": features or state["features"]}, run / "training.pt")
    train("dcgan", faces, out=run, kimg=0.016, snap=1, **TINY)
    assert marked(run) == best
