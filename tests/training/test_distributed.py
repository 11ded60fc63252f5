"""Several processes: they train as one that accumulates the same shares, and decide everything alike."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from kyara import models
from kyara.files import checkpoint
from kyara.training.train import train

SCRIPT = Path(__file__).with_name("two_processes.py")
NAMES = ("toy", "dcgan", "mlp", "stylegan2")


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("states")
    for devices in ("1", "2"):
        done = subprocess.run([sys.executable, str(SCRIPT), devices, str(out)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return {path.stem: torch.load(path, weights_only=True) for path in out.glob("*.pt")}


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_are_one_that_accumulates(name: str, states: dict[str, Any]) -> None:
    """Weights, statistics, moments of the optimisers (so gradients) and the strength of augmentation."""
    one, ranks = states[f"{name}-1-0"], [states[f"{name}-2-{rank}"] for rank in (0, 1)]
    for other in ranks:
        assert other["augment"] == one["augment"]
        different = [key for key, tensor in one["model"].items() if not torch.equal(tensor, other["model"][key])]
        assert not different
        for a, b in zip(one["optimizers"], other["optimizers"], strict=True):
            for index, moments in a["state"].items():
                assert all(torch.equal(moments[key], b["state"][index][key]) for key in moments)


def test_the_strength_of_augmentation_follows_all_signs(states: dict[str, Any]) -> None:
    """One rank is sure of its pictures and the other is not: neither follows itself."""
    expected = 0.3 + 3 * 2 * 8 / 500_000  # the mean sign, 0, is above the target
    assert states["toy-2-0"]["augment"]["p"] == states["toy-2-1"]["augment"]["p"] == pytest.approx(expected)


def command(data: Path, run: Path, *options: str) -> list[str]:
    small = ["--preset", "tiny", "--workers", "0", "--kimg", "0.2", "--snap", "0.1", "--out", str(run)]
    return [sys.executable, "-m", "kyara", "train", "mlp", str(data), *small, *options]


def test_the_command_with_two_devices(faces: Path, tmp_path: Path) -> None:
    """It prints its result once, writes one run, and what it started on two devices it continues on one."""
    more = ("--devices", "2", "--device", "cpu")
    done = subprocess.run(command(faces, tmp_path / "two", *more), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("done: ") == 1 and done.stderr.count("0.2 kimg: ") == 1
    assert models.load(tmp_path / "two")
    done = subprocess.run(command(faces, tmp_path / "one", "--micro-batch", "4"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    two, one = (checkpoint.load_training(tmp_path / run / "training.pt") for run in ("two", "one"))
    assert two["nimg"] == one["nimg"] == 200
    assert all(torch.equal(two["model"][key], tensor) for key, tensor in one["model"].items())


@pytest.mark.parametrize("where", ["before", "snapshot"])
def test_an_error_on_rank_zero_ends_every_process(where: str, faces: Path, tmp_path: Path) -> None:
    """One sentence, and nobody waits for the others."""
    run = tmp_path / "run"
    if where == "before":
        run.mkdir()
        (run / "notes.txt").write_text("mine")
    else:  # a run that begins, and then cannot write its first snapshot
        train("mlp", faces, out=run, kimg=0, preset="tiny", workers=0, micro_batch=4)
        (run / "training.pt").unlink()
        shutil.rmtree(run / "snapshots")
        (run / "snapshots").write_text("in the way")
    more = ("--devices", "2", "--device", "cpu")
    done = subprocess.run(command(faces, run, *more), capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.count("kyara train: ") == 1 and "Traceback" not in done.stderr
