"""The queue: one command at a time, each in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kyara.app import jobs as module
from kyara.app.jobs import BAR, RUN, Job, Jobs
from kyara.app.project import Project


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    found = Jobs(tmp_path, lambda job: None)
    yield found
    found.close()


def wait(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.02)


def ended(job: Job) -> Callable[[], bool]:
    return lambda: job.state in ("done", "failed", "cancelled")


def test_a_job_is_the_command_line(jobs: Jobs, tmp_path: Path) -> None:
    job = jobs.add("make", [["generate", "--count", "2", "--rank", "none", "--out", "made"]])
    wait(ended(job))
    assert job.state == "done", job.error
    assert job.results[0]["kept"] == 2 and (tmp_path / "made/gallery.csv").is_file()
    assert job.as_json()["commands"] == ["kyara generate --count 2 --rank none --out made"]


def test_errors_cancellation_and_a_kill_do_not_stop_the_queue(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    program = """
import os, sys, time
if sys.argv[1] == "fail":
    sys.exit(f"kyara fail: {os.getcwd()}/runs/x: no such file")
if sys.argv[1] == "quick":
    print("{}")
else:
    time.sleep(60)
"""
    monkeypatch.setattr("kyara.app.jobs.RUN", program)
    failing = jobs.add("fail", [["fail"], ["quick"]])
    killed = jobs.add("long", [["long"]])
    stopped = jobs.add("longer", [["longer"]])
    waiting = jobs.add("waiting", [["waiting"]])
    quick = jobs.add("quick", [["quick"]])
    wait(ended(failing))
    assert (failing.state, failing.error, failing.results) == ("failed", "runs/x: no such file", [])
    wait(lambda: killed.state == "running" and jobs._process is not None)
    assert stopped.state == "waiting"  # one at a time
    time.sleep(0.2)
    assert jobs._process is not None
    os.kill(jobs._process.pid, signal.SIGKILL)
    wait(ended(killed))
    assert killed.state == "failed" and "SIGKILL" in killed.error
    jobs.cancel(waiting.number)
    wait(lambda: stopped.state == "running" and jobs._process is not None)
    time.sleep(0.3)
    jobs.cancel(stopped.number)
    wait(ended(quick))
    assert (stopped.state, waiting.state, quick.state) == ("cancelled", "cancelled", "done")
    with pytest.raises(ValueError, match="there is no job 99"):
        jobs.cancel(99)


def test_the_queue_goes_on_when_a_change_cannot_be_shown(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def changed(job: Job) -> None:
        if threading.current_thread().name != "MainThread":
            raise RuntimeError("no memory left")

    monkeypatch.setattr("kyara.app.jobs.RUN", "import sys; print('working', file=sys.stderr); print('{}')")
    jobs.changed = changed
    first, second = (jobs.add(name, [["quick"]]) for name in ("first", "second"))
    wait(ended(second))
    assert (first.state, second.state, second.lines) == ("done", "done", ["working"])
    assert "job 1, first: cannot be shown" in caplog.text and "no memory left" in caplog.text


@pytest.mark.skipif(os.name == "nt", reason="Windows has no groups of processes that can be killed")
@pytest.mark.parametrize("detached", [False, True])
def test_a_job_ends_with_its_process(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, detached: bool
) -> None:
    """Not with what it left behind, which has the same pipes, and is killed if it is in the same group."""
    child = "import pathlib, time\nfor _ in range(600): pathlib.Path('alive').touch(); time.sleep(0.05)"
    program = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {child!r}], start_new_session={detached})
print(child.pid, file=sys.stderr)
print('{{"made": 1}}')
"""
    monkeypatch.setattr("kyara.app.jobs.RUN", program)
    monkeypatch.setattr("kyara.app.jobs.READING", 0.2)
    job = jobs.add("leaves", [["quick"]])
    wait(ended(job), 20)
    assert (job.state, job.results) == ("done", [{"made": 1}])
    if detached:
        wait((tmp_path / "alive").exists)
        os.kill(int(job.lines[0]), signal.SIGKILL)
        return
    (tmp_path / "alive").unlink(missing_ok=True)
    time.sleep(0.3)
    assert not (tmp_path / "alive").exists()


@pytest.mark.parametrize("command", [0, 1])
def test_a_cancellation_while_the_process_is_created_is_not_lost(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch, command: int
) -> None:
    monkeypatch.setattr("kyara.app.jobs.RUN", "import sys, time; time.sleep(60 * (sys.argv[1] == 'long')); print('{}')")
    made: list[list[str]] = []
    popen = subprocess.Popen

    def slow(words: list[str], **options: Any) -> subprocess.Popen[str]:
        made.append(words)
        process: subprocess.Popen[str] = popen(words, **options)
        if len(made) == command + 1:
            jobs.cancel(job.number)
        return process

    monkeypatch.setattr("kyara.app.jobs.subprocess.Popen", slow)
    with jobs._lock:  # the job begins when its number is known
        job = jobs.add("two", [["quick"]] * command + [["long"], ["never"]])
    wait(lambda: job.seconds > 0, 30)
    assert job.state == "cancelled" and len(made) == command + 1


def test_an_output_is_made_by_one_job_at_a_time(jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kyara.app.jobs.RUN", "import time; time.sleep(60)")
    project = Project(tmp_path)
    project.promised = jobs.outputs
    first, second = project.free("runs", "mine"), project.free("runs", "other")
    jobs.add("train", [["train", "--out", first]], {"out": first})
    assert jobs.add("prepare", [["prepare", "art", "art.zip"]], {"out": "art.zip"}).state in ("waiting", "running")
    assert project.free("runs", "mine") == "runs/mine-2" and project.free(".", "art", ".zip") == "./art-2.zip"
    with pytest.raises(ValueError, match="runs/mine: another job is making it already"):
        jobs.add("train", [["train", "--out", first]], {"out": first})
    jobs.add("forecast", [["train", "--out", second, "--forecast"]])
    assert project.free("runs", "other") == second
    for _ in range(2):  # what exists may be made anew several times
        jobs.add("prepare again", [["prepare", "art", "x.zip", "--force"]], {"out": "x.zip"})
    for job in jobs.active():
        jobs.cancel(job.number)
    assert project.free("runs", "mine") == first


SLOW = """
import signal, time
from pathlib import Path
def save(*_):
    time.sleep(1)
    Path("saved").touch()
    raise SystemExit
signal.signal(signal.SIGINT, save)
Path("begun").touch()
time.sleep(60)
"""


@pytest.mark.parametrize(("verb", "presses", "saved"), [("train", 1, True), ("train", 2, False), ("rank", 1, False)])
def test_a_training_has_time_to_save_its_run(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, presses: int, saved: bool
) -> None:
    monkeypatch.setattr("kyara.app.jobs.RUN", SLOW)
    monkeypatch.setattr("kyara.app.jobs.GRACE", 0.3)
    job = jobs.add("slow", [[verb, "--out", "runs/slow"]])
    wait((tmp_path / "begun").exists)
    for _ in range(presses):
        jobs.cancel(job.number)
        assert job.state == "stopping" and "runs/slow" not in jobs.outputs()
    wait(lambda: job.state != "stopping")
    assert job.state == "cancelled" and (tmp_path / "saved").exists() == saved


@pytest.mark.parametrize("cancelled", [False, True])
def test_closing_waits_for_a_training(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    monkeypatch.setattr("kyara.app.jobs.RUN", SLOW)
    monkeypatch.setattr("kyara.app.jobs.GRACE", 0.3)
    job = jobs.add("slow", [["train"]])
    wait((tmp_path / "begun").exists)
    if cancelled:  # it saves already, and a second signal would kill it
        jobs.cancel(job.number)
        time.sleep(0.2)
    jobs.close()
    assert (tmp_path / "saved").exists()


def test_progress_is_read_from_the_bar() -> None:
    found = BAR.search("learning:  45%|####5     | 271/600 [00:31<00:38,  8.61step/s]")
    assert found and (found[1], found[5]) == ("45", "00:38")
    found = BAR.search("  0%|          | 0/16 [00:00<?, ?picture/s]")
    assert found and (found[1], found[5]) == ("0", "?")


@pytest.mark.skipif(os.name == "nt", reason="SIGUSR1 stands for the SIGBREAK of Windows")
def test_the_request_of_windows_to_stop_is_an_interrupt() -> None:
    """As training replaces the handler of SIGINT, and no other, while it runs."""
    program = """
import runpy, signal
def verb(*_, **__):
    signal.signal(signal.SIGINT, lambda *_: print("saved"))
    signal.raise_signal(signal.SIGBREAK)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGBREAK)
signal.SIGBREAK, runpy.run_module = signal.SIGUSR1, verb
"""
    done = subprocess.run([sys.executable, "-c", program + RUN], capture_output=True, text=True)
    assert done.stdout == "saved\n" and done.stderr.strip().endswith("KeyboardInterrupt")


def test_a_process_on_windows_is_asked_before_it_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []

    def waits(seconds: float) -> None:
        raise subprocess.TimeoutExpired("kyara", seconds)

    process: Any = SimpleNamespace(send_signal=done.append, kill=lambda: done.append("killed"), wait=waits)
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setattr(signal, "CTRL_BREAK_EVENT", "CTRL_BREAK_EVENT", raising=False)
    module._interrupt(process)
    module._kill_after(process, 0)
    assert done == ["CTRL_BREAK_EVENT", "killed"]

    def refuses(_: object) -> None:
        raise OSError("there is no console")

    process.send_signal = refuses
    module._interrupt(process)
    assert done == ["CTRL_BREAK_EVENT", "killed", "killed"]
