"""Requests of the room Me."""

from __future__ import annotations

import shlex
from typing import Any

from fastapi import APIRouter
from pydantic import Field

from kyara.app.context import Context, Shared
from kyara.app.routes_make import Body

router = APIRouter(prefix="/api/me")


class Example(Body):
    seed: int = 2


class Photo(Body):
    path: str


class Draw(Photo):
    face: int = 0
    aligned: bool = False
    where: dict[str, str] = Field(default_factory=dict)
    child: str = ""


def start(context: Context, title: str, words: list[str], **about: Any) -> dict[str, Any]:
    job = context.jobs.add(title, [words], {"room": "me", **about})
    return {"job": job.number, "command": shlex.join(["kyara", *words]), **about}


@router.post("/example")
def example(context: Shared, body: Example) -> dict[str, Any]:
    return context.me.example(body.seed)


@router.post("/faces")
def faces(context: Shared, body: Photo) -> dict[str, Any]:
    return context.me.faces(body.path)


@router.post("/draw")
def draw(context: Shared, body: Draw) -> dict[str, Any]:
    """Starts the job that draws proposals."""
    words, out = context.me.draw(**body.model_dump())
    return start(context, "draw characters", words, step="avatar", path=body.path, out=out)


@router.post("/cartoon")
def cartoon(context: Shared, body: Photo) -> dict[str, Any]:
    """Starts the job that draws a cartoon."""
    words, out = context.me.cartoon(body.path)
    return start(context, "draw a cartoon", words, step="cartoon", path=body.path, out=out)


@router.get("/proposals")
def proposals(context: Shared, path: str) -> dict[str, Any]:
    return context.me.proposals(path)
