"""What all rooms share: the project, its jobs, the painter, the pictures of Make, and the events for the tabs."""

from __future__ import annotations

import contextlib
import shlex
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from fastapi import Depends, Request

from kyara.app.art import Art
from kyara.app.cleaning import clean
from kyara.app.collection import Collection
from kyara.app.dragging import Dragging
from kyara.app.events import Events
from kyara.app.fills import Fills
from kyara.app.jobs import Job, Jobs
from kyara.app.make import FIND, Maker
from kyara.app.me import Me
from kyara.app.painter import Painter
from kyara.app.project import Project
from kyara.app.scoring import Scoring
from kyara.app.words import in_words
from kyara.files.workers import processors


class Context:
    """The state of the server. The tabs show it, and keep nothing that another tab would have to know."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        torch.set_num_threads(max(processors() // 2, 1))  # the browser and a job need the others
        self.project = Project(folder)
        self.events = Events()
        self.jobs = Jobs(self.project.folder, self._job_changed)
        self.project.promised = self.jobs.outputs
        self.collection = Collection(self.project.state("make.json"))
        self.painter = Painter(self.project, device)
        self.maker = Maker(self.painter, self.collection, self.events.publish)
        self.maker.adopt()
        self.scoring = Scoring(self.maker)
        self.dragging = Dragging(self.maker)
        self.painter.idle = self._idle
        self.art = Art(self.project)
        self.fills = Fills(self.maker)
        self.me = Me(self.maker)
        threading.Thread(target=self._clean, name="cleaning", daemon=True).start()
        self._reported, self._idle_problem = "", ""  # the problems of the last save, and of the last work when idle

    def _clean(self) -> None:
        with contextlib.suppress(OSError):  # at the next start
            clean(self.project, self.collection)

    def start(self, room: str, title: str, words: Sequence[str], **about: Any) -> dict[str, Any]:
        """Adds a job of one command to the queue. Returns its number, the command, and `about`, which is part of the
        job as well."""
        job = self.jobs.add(title, [words], {"room": room, **about})
        return {"job": job.number, "command": shlex.join(["kyara", *words]), **about}

    def _job_changed(self, job: Job) -> None:
        if job.state == "done" and job.about.get("step") == FIND:
            self._load_found(job)
        self.events.publish("job", job=job.as_json())

    def _load_found(self, job: Job) -> None:
        """Adds to Make what a search in a generator found."""
        try:
            self.maker.load_gallery(job.about["out"])
            self.made()
        except Exception as error:  # such as too little memory for the generator
            job.state, job.error = "failed", in_words(str(error), self.project.folder)

    def _idle(self) -> bool:
        """On the painter's thread, when nothing waits for a picture. Returns whether it did something."""
        if self.jobs.active():  # which needs the processors
            return False
        try:
            return self.scoring.score_some()
        except Exception as error:  # the painter's thread must go on
            if str(error) != self._idle_problem:  # which would be the same every second
                self.events.publish("problem", text=str(error))
            self._idle_problem = str(error)
            return False

    def save(self, *, last: bool = False) -> None:
        """Writes what changed. A full disk is reported once; what is in memory stays, and is tried again."""
        problem = ""
        try:
            self.collection.save(last=last)
        except OSError as error:
            problem = f"The list of pictures cannot be saved: {error}"
        if problem and problem != self._reported:
            self.events.publish("problem", text=problem)
        self._reported = problem

    def made(self) -> None:
        """Announces that the collection changed."""
        self.events.publish("made", version=self.collection.version)

    def close(self) -> None:
        self.jobs.close()
        self.painter.close()
        self.save(last=True)


def get_context(request: Request) -> Context:
    context = request.app.state.context
    assert isinstance(context, Context)
    return context


Shared = Annotated[Context, Depends(get_context)]
