"""Several processes: they train as one that accumulates the same shares, and decide everything alike."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import late
import one_dies
import pytest
import torch
import two_processes

from kyara import models
from kyara.files import checkpoint
from kyara.training.distributed import on_rank_zero, require_same, tell
from kyara.training.runtime import count_processes
from kyara.training.train import train

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The states of every model after some steps, from one process and, meanwhile, from two."""
    out = tmp_path_factory.mktemp("states")
    script = [sys.executable, str(HERE / "two_processes.py"), str(out)]
    with subprocess.Popen(script, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as two:
        for variant in two_processes.ALL:
            two_processes.run(variant, 1, out)
        shown, _ = two.communicate()
    assert two.returncode == 0, shown
    return {path.stem: torch.load(path, weights_only=True) for path in out.glob("*.pt")}


@pytest.mark.parametrize("name", [two_processes.label(variant) for variant in two_processes.ALL])
def test_two_processes_are_one_that_accumulates(name: str, states: dict[str, Any]) -> None:
    """Weights, statistics, moments of the optimisers (so gradients), and the strength of augmentation."""
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
    expected = 0.3 + two_processes.STEPS * two_processes.BATCH / 500_000  # the mean sign, 0, is above the target
    assert states["toy-2-0"]["augment"]["p"] == states["toy-2-1"]["augment"]["p"] == pytest.approx(expected)


def command(data: Path, run: Path, *options: str, kimg: str = "0.2") -> list[str]:
    small = ["--preset", "tiny", "--workers", "0", "--kimg", kimg, "--snap", "0.1", "--out", str(run)]
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


def test_a_forecast_with_two_devices(faces: Path, tmp_path: Path) -> None:
    more = ("--devices", "2", "--device", "cpu", "--forecast")
    done = subprocess.run(command(faces, tmp_path / "run", *more), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("about ") and done.stdout.count("pictures a second") == 1
    assert not (tmp_path / "run").exists()


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
    done = subprocess.run(command(faces, run, *more), capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert done.stderr.count("kyara train: ") == 1 and "Traceback" not in done.stderr


SAYS = {
    (0, "killed"): "rank 0 of 2 has died",
    (1, "killed"): "rank 1 of 2 has died",
    (1, "alone"): "rank 1 of 2: disk: full",
    (1, "crashed"): "rank 1 of 2: RuntimeError: out of memory",
}


@pytest.mark.parametrize(("rank", "how"), SAYS)
def test_a_process_that_dies_ends_the_others(rank: int, how: str, faces: Path, tmp_path: Path) -> None:
    """At once, with one sentence; and what was saved goes on."""
    run = tmp_path / "run"
    script = [sys.executable, str(HERE / "one_dies.py"), str(rank), how, str(faces), str(run)]
    done = subprocess.run(script, capture_output=True, text=True, timeout=240)  # waits for every process
    assert time.time() - (run / one_dies.DIED).stat().st_mtime < 20
    assert done.returncode == (-signal.SIGKILL if rank == 0 else 1), done.stderr
    assert done.stderr.count("kyara train: ") == 1 and f"kyara train: {SAYS[rank, how]}" in done.stderr
    assert done.stderr.count("Traceback") == (how == "crashed")  # of that rank, which has a bug
    if how == "killed":
        assert "the same command resumes" in done.stderr
        again = train("mlp", faces, out=run, kimg=0.2, micro_batch=4, **one_dies.ARGUMENTS)
        assert again.finished and again.kimg == 0.2
        assert (run / "snapshots" / "000000.096").is_dir()


@pytest.mark.parametrize(
    ("rank", "devices", "how"),
    [(0, 2, "launch"), (1, 2, "launch"), (0, 2, "connect"), (1, 2, "connect"), (2, 3, "connect")],
)
def test_a_process_that_dies_before_training_ends_the_others(
    rank: int, devices: int, how: str, faces: Path, tmp_path: Path
) -> None:
    """Before the processes are connected, or while they connect: at once, with one sentence."""
    arguments = [str(rank), how, str(faces), str(tmp_path / "run"), str(devices)]
    script = [sys.executable, str(HERE / "one_dies.py"), *arguments]
    alone = {name: value for name, value in os.environ.items() if name != "LOCAL_RANK"}  # of no earlier test
    done = subprocess.run(script, capture_output=True, text=True, timeout=240, env=alone)  # waits for every process
    assert time.time() - (tmp_path / one_dies.DIED).stat().st_mtime < 20
    assert done.returncode == (-signal.SIGKILL if rank == 0 else 1), done.stderr
    assert done.stderr.count("kyara train: ") == 1
    assert f"kyara train: rank {rank} of {devices} has died" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_process_that_is_late(faces: Path, tmp_path: Path) -> None:
    """It starts seconds after the other, is slower, and has another clock: first rank 1, then, in the resumed run, rank
    0. The result is that of one process, and so is what decides on early stopping."""
    for rank, kimg in ((1, "0.05"), (0, "0.1")):
        script = [sys.executable, str(HERE / "late.py"), str(rank), kimg, str(faces), str(tmp_path / "two")]
        done = subprocess.run(script, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
    for kimg in (0.05, 0.1):
        train("mlp", faces, out=tmp_path / "one", kimg=kimg, micro_batch=4, **late.ARGUMENTS)
    two, one = (checkpoint.load_training(tmp_path / run / "training.pt") for run in ("two", "one"))
    assert two["nimg"] == one["nimg"] >= 100
    assert two["stopping"] == one["stopping"] and two["best"] == one["best"]
    assert all(torch.equal(two["model"][key], tensor) for key, tensor in one["model"].items())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def torchrun(machines: int, arguments: list[str], folders: Path, attempts: int = 3) -> None:
    """Two processes on one machine, or one on each of two, here both this one, but each in a folder of its own. Another
    program may take the port that was free; then with another port."""
    each = ["--nnodes", str(machines), "--nproc_per_node", str(2 // machines), "--master_addr", "127.0.0.1"]
    launch = [sys.executable, "-m", "torch.distributed.run", *each, "--master_port", str(free_port())]
    nodes = []
    for node in range(machines):
        (folder := folders / str(node)).mkdir(exist_ok=True)
        rank = ["--node_rank", str(node)]
        nodes.append(subprocess.Popen([*launch, *rank, *arguments], stderr=subprocess.PIPE, text=True, cwd=folder))
    shown = "\n".join(node.communicate()[1] for node in nodes)
    if any(node.returncode for node in nodes):
        assert attempts > 1 and "address already in use" in shown.lower(), shown
        torchrun(machines, arguments, folders, attempts - 1)


@pytest.mark.parametrize("machines", [1, 2])
def test_torchrun(machines: int, faces: Path, tmp_path: Path) -> None:
    """Two processes on one machine or on two, of which only the first has the run, train as one that accumulates, also
    if they resume."""
    for kimg in ("0.1", "0.2"):
        torchrun(machines, command(faces, Path("run"), "--device", "cpu", kimg=kimg)[1:], tmp_path)
    train("mlp", faces, out=tmp_path / "one", kimg=0.2, snap=0.1, preset="tiny", workers=0, micro_batch=4)
    two, one = (checkpoint.load_training(tmp_path / run / "training.pt") for run in ("0/run", "one"))
    assert two["nimg"] == one["nimg"] == 200
    assert all(torch.equal(two["model"][key], tensor) for key, tensor in one["model"].items())
    assert machines == 1 or not [*(tmp_path / "1").iterdir()]


def test_what_torchrun_and_the_command_must_agree_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert count_processes(3) == (3, 1)
    monkeypatch.setattr(torch.distributed, "is_torchelastic_launched", lambda: True)
    for here, everywhere in ((2, 6), (4, 6)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(here))
        monkeypatch.setenv("WORLD_SIZE", str(everywhere))
        if everywhere % here:
            with pytest.raises(ValueError, match="the same number on every machine"):
                count_processes(1)
        else:
            assert count_processes(1) == count_processes(2) == (2, 3)
            with pytest.raises(ValueError, match="--devices 3: torchrun has started 2"):
                count_processes(3)


def test_every_process_needs_the_same_data() -> None:
    class Fabric:
        def broadcast(self, settings: dict[str, Any]) -> dict[str, Any]:
            return {**settings, "data.fingerprint": "another"}

    with pytest.raises(ValueError, match=r"same as on rank 0: data\.fingerprint"):
        require_same(Fabric(), {"data.fingerprint": "one", "seed": 0})  # type: ignore[arg-type]


def test_rank_zero_works_for_all() -> None:
    """Such as decoding the pictures that scores are measured on: the others only hear that it went well, or not."""

    class Fabric:
        is_global_zero = False

        def broadcast(self, outcome: tuple[bool, Any]) -> tuple[bool, Any]:
            return self.outcome

    other, called = Fabric(), []
    other.outcome = (False, "found")
    assert on_rank_zero(other, lambda: called.append(1)) == "found" and not called  # type: ignore[arg-type]
    other.outcome = (True, None)
    with pytest.raises(SystemExit):
        on_rank_zero(other, lambda: called.append(1))  # type: ignore[arg-type]


def test_a_training_goes_on_if_nobody_reads_its_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    closed = os.fdopen(write, "w", buffering=1)  # as stderr
    with monkeypatch.context() as changed:
        changed.setattr(sys, "stderr", closed)
        tell("saving the run")
    with contextlib.suppress(OSError):  # it writes again when it is closed
        closed.close()
