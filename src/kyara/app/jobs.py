"""Jobs: commands of Kyara that take long, run one at a time, each in a process of its own.

A job runs exactly the command that the page shows, so its result is that of the command line, and a crash, a full disk
or too little memory ends the job, not the server."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Literal

State = Literal["waiting", "running", "stopping", "done", "failed", "cancelled"]
ACTIVE = ("waiting", "running", "stopping")
ENDING: dict[State, State] = {"waiting": "cancelled", "running": "stopping", "stopping": "stopping"}  # by Cancel
KEPT = 100  # finished jobs in the list
LINES = 40  # last lines of its messages
GROUP = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # what `start_new_session` is elsewhere, on Windows
GRACE, SAVING = 10.0, 600.0  # seconds between the request to stop and the kill; of a training, which saves its run
READING = 2.0  # seconds to read the last messages of a process that has ended
BAR = re.compile(r"(\d+)%\|.*?\| *([\d.]+\w*)/([\d.]+\w*) \[([\d:?]+)<([\d:?]+)")

RUN = """
import runpy, signal, sys
sys.stderr.isatty = lambda: True  # progress bars are silent elsewhere
if hasattr(signal, "SIGBREAK"):  # on Windows, the only signal that another process can send
    signal.signal(signal.SIGBREAK, lambda *_: signal.raise_signal(signal.SIGINT))
runpy.run_module("kyara", run_name="__main__", alter_sys=True)
"""
"""The program of the process."""


@dataclass
class Job:
    """One or more commands, run one after the other."""

    number: int
    title: str
    commands: Sequence[Sequence[str]]  # each without "kyara"
    about: Mapping[str, Any]  # for the page that started it
    state: State = "waiting"
    progress: float | None = None  # 0 to 1
    left: str = ""  # time left, such as 01:20
    error: str = ""
    results: list[dict[str, Any]] = field(default_factory=list)  # of each command
    lines: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def creates(self) -> set[str]:
        """The outputs that its commands create, as they name them. Those of --force exist already."""
        new = [words for words in self.commands if "--force" not in words and "--forecast" not in words]
        named = {after for words in new for word, after in pairwise(words) if word == "--out"}
        prepared = {str(self.about["out"]) for words in new if words[0] == "prepare" and "out" in self.about}
        return named | prepared

    def as_json(self) -> dict[str, Any]:
        shown = [shlex.join(["kyara", *words]) for words in self.commands]
        fields = ("number", "title", "about", "state", "progress", "left", "error", "results", "seconds")
        return {name: getattr(self, name) for name in fields} | {"commands": shown, "lines": self.lines[-LINES:]}


class Jobs:
    """The queue. `changed` is called with a job whenever it changes, in another thread."""

    def __init__(self, folder: Path, changed: Callable[[Job], None]) -> None:
        self.folder, self.changed = folder, changed
        self.jobs: list[Job] = []
        self._lock, self._wake, self._closed = threading.Lock(), threading.Condition(), False
        self._process: subprocess.Popen[str] | None = None
        self._grace = GRACE  # of this process
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
        self._thread.start()

    def add(self, title: str, commands: Iterable[Sequence[str]], about: Mapping[str, Any] | None = None) -> Job:
        """Appends a job to the queue. ValueError if one that has not ended yet creates the same output."""
        with self._wake:
            number = self.jobs[-1].number + 1 if self.jobs else 1
            job = Job(number, title, [*commands], about or {})
            if twice := [*(job.creates() & self.outputs())]:
                raise ValueError(f"{twice[0]}: another job is making it already; wait until it is done, or cancel it")
            finished = [one for one in self.jobs if one.state not in ACTIVE]
            for old in finished[: max(len(finished) - KEPT, 0)]:
                self.jobs.remove(old)
            self.jobs.append(job)
            self._wake.notify()
        self.changed(job)
        return job

    def active(self) -> list[Job]:
        """The jobs that run, wait or end."""
        return [job for job in [*self.jobs] if job.state in ACTIVE]

    def outputs(self) -> set[str]:
        """The outputs that jobs create, without one that is stopping: the run of a training can be continued then, by a
        job that waits until it has ended."""
        return {path for job in self.active() if job.state != "stopping" for path in job.creates()}

    def cancel(self, number: int) -> None:
        """Stops a running job, or removes a waiting one from the queue; kills one that is stopping already. ValueError
        if there is none of that number."""
        job = next((one for one in self.jobs if one.number == number), None)
        if job is None:
            raise ValueError(f"there is no job {number}; it may have ended long ago")
        with self._lock:
            before = job.state
            job.state = ENDING.get(before, before)
        if before == "running":
            self._stop()
        elif before == "stopping" and (process := self._process):
            _kill_after(process, 0)
        if before in ACTIVE:
            self.changed(job)

    def close(self) -> None:
        """Stops the running job and the thread, and waits until a training has saved its run."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        with self._lock:
            running = any(job.state == "running" for job in self.jobs)
            for job in self.active():
                job.state = ENDING[job.state]
        if running:  # one that is stopping saves its run, which a second signal would end
            self._stop()
        self._thread.join(self._grace + 1)

    def _stop(self) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        _interrupt(process)
        threading.Thread(target=_kill_after, args=(process, self._grace), daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._closed or self._next() is not None)
                job = self._next()
                if self._closed or job is None:
                    return
            with self._lock:
                if job.state != "waiting":
                    continue
                job.state = "running"
            self._tell(job)
            began = time.monotonic()
            try:
                for words in job.commands:
                    if job.state == "running":
                        self._run(job, words)
            except Exception as error:  # the thread must survive; the page shows the reason
                job.error = job.error or str(error)
            job.seconds = time.monotonic() - began
            with self._lock:
                if job.state == "running":
                    job.state = "failed" if job.error else "done"
                elif job.state == "stopping":
                    job.state = "cancelled"
            self._tell(job)

    def _tell(self, job: Job) -> None:
        """Calls `changed` where nobody else catches its errors: the queue must go on."""
        try:
            self.changed(job)
        except Exception:
            logging.getLogger(__name__).exception("job %d, %s: cannot be shown", job.number, job.title)

    def _next(self) -> Job | None:
        return next((job for job in self.jobs if job.state == "waiting"), None)

    def _run(self, job: Job, words: Sequence[str]) -> None:
        source = str(Path(__file__).parents[2])
        paths = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, *words, "--json"],
            cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, encoding="utf-8", errors="replace", start_new_session=True, creationflags=GROUP,
        )  # fmt: skip
        self._process, self._grace = process, SAVING if words[0] == "train" else GRACE
        if job.state == "stopping":  # while the process was created, when there was none to stop
            self._stop()
        output: list[str] = []
        readers = [
            threading.Thread(target=_collect, args=(process.stdout, output), daemon=True),
            threading.Thread(target=self._follow, args=(job, process.stderr), daemon=True),
        ]
        for reader in readers:
            reader.start()
        code = process.wait()
        _kill(process)  # what it started and left behind, which would keep the pipes open
        for reader in readers:
            reader.join(READING)
        self._process = None
        if job.state == "stopping":
            return
        if code:
            job.error = _failure(words[0], code, job.lines).replace(f"{self.folder}{os.sep}", "")
            raise RuntimeError(job.error)
        last = "".join(output).strip().splitlines()[-1:]
        with contextlib.suppress(ValueError):
            job.results.append(json.loads(last[0]) if last else {})

    def _follow(self, job: Job, messages: IO[str]) -> None:
        """Reads the messages of a process until nothing writes any more."""
        line, shown = "", 0.0
        while character := messages.read(1):
            if character not in "\r\n":
                line += character
                continue
            if bar := BAR.search(line):
                job.progress, job.left = int(bar[1]) / 100, bar[5].replace("?", "")
                if time.monotonic() - shown > 0.2:
                    shown = time.monotonic()
                    self._tell(job)
            elif line.strip():
                job.lines.append(line.rstrip())
                self._tell(job)
            line = ""
        if line.strip() and not BAR.search(line):
            job.lines.append(line.rstrip())


def _collect(output: IO[str], lines: list[str]) -> None:
    for line in output:
        lines.append(line)  # each at once: the end may never come


def _failure(verb: str, code: int, lines: Sequence[str]) -> str:
    """Why a process ended, as a sentence."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"{verb} was stopped by the system ({name}): perhaps the memory was full. Nothing else was affected."
    prefix = f"kyara {verb}: "
    return next((line.removeprefix(prefix) for line in reversed(lines) if line.startswith(prefix)), "") or (
        lines[-1] if lines else f"{verb} ended with status {code}"
    )


def _interrupt(process: subprocess.Popen[str]) -> None:
    """Asks a process to stop, as Ctrl-C does: a training saves its run after the step."""
    if sys.platform == "win32":
        try:
            process.send_signal(signal.CTRL_BREAK_EVENT)  # `RUN` makes SIGINT of it
        except OSError:  # there is no console to send it
            _kill(process)
    else:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGINT)


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)


def _kill_after(process: subprocess.Popen[str], seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        _kill(process)
