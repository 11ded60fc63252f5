"""Requests of the room Me."""

from __future__ import annotations

import mimetypes
import shlex
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from pydantic import Field

from kyara.app.context import Shared
from kyara.app.me import CARTOON, FILM_SIDE, MOST_STAYS
from kyara.app.routes_make import Body
from kyara.app.routes_project import save_body

router = APIRouter(prefix="/api/me")


class Example(Body):
    seed: Annotated[int, Field(ge=0, le=9999)] = 2


class Photo(Body):
    path: str


class Draw(Photo):
    face: Annotated[int, Field(ge=0, le=10_000)] = 0
    aligned: bool = False
    where: dict[str, str] = Field(default_factory=dict)
    child: str = ""
    stays: Annotated[int, Field(ge=0, le=MOST_STAYS)] | None = None
    pose: bool = False


@router.post("/example")
def example(context: Shared, body: Example) -> dict[str, Any]:
    return context.me.example(body.seed)


@router.get("/photo")
def photo(context: Shared, path: str) -> dict[str, Any]:
    return context.me.photo(path)


@router.post("/faces")
def faces(context: Shared, body: Photo) -> dict[str, Any]:
    return context.me.faces(body.path)


@router.post("/draw")
def draw(context: Shared, body: Draw) -> dict[str, Any]:
    """Starts the job that draws proposals."""
    words, out = context.me.draw(**body.model_dump())
    return context.start("me", "draw characters", words, step="avatar", path=body.path, out=out)


@router.post("/cartoon")
def cartoon(context: Shared, body: Photo) -> dict[str, Any]:
    """Starts the job that draws a cartoon of a photo or a film."""
    words, out = context.me.cartoon(body.path)
    return context.start("me", "draw a cartoon", words, step="cartoon", path=body.path, out=out)


@router.post("/film")
async def save_film(context: Shared, request: Request, name: str) -> dict[str, Any]:
    """Saves a film to the uploads, part by part: it may be larger than the memory."""
    file = await run_in_threadpool(context.me.film_file, name)
    try:
        command = shlex.join(["kyara", "translate", CARTOON, name, "--side", FILM_SIDE])
        advice = f"copy it into {context.project.folder} and run there: {command}"
        await save_body(request, file, name, advice, context.project.take)
        return await run_in_threadpool(context.me.save_film, name, file)
    finally:
        file.unlink(missing_ok=True)


@router.get("/film")
def film(context: Shared, path: str) -> FileResponse:
    """A film, to be played: the browser asks for parts of it."""
    found = context.me.film(path)
    return FileResponse(found, media_type=mimetypes.guess_type(found.name)[0] or "video/mp4")


@router.get("/proposals")
def proposals(context: Shared, path: str) -> dict[str, Any]:
    return context.me.proposals(path)
