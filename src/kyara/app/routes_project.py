"""Requests about the project: its contents, its files, uploads and jobs."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path, PurePosixPath
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from kyara import __version__
from kyara.app.context import Shared
from kyara.app.project import MAX_STREAM, MAX_UPLOAD, STATE, UPLOADS, Project, ProjectError
from kyara.files import checkpoint
from kyara.files.atomic import write_errors
from kyara.files.formats import SUFFIXES
from kyara.files.gallery import read_gallery, thumbnail
from kyara.files.pictures import decode, encode_png, encode_webp, read_recipe
from kyara.generation.recipe import BUILTIN
from kyara.preparation.report import encodable

router = APIRouter(prefix="/api")
SHOWN = (".png", ".jpg", ".jpeg", ".webp", ".gif")  # sent as pictures; everything else is a download
MOST_ROWS = 100_000


async def read_body(request: Request, advice: str = "save it with fewer pixels") -> bytes:
    """The body of an upload. ProjectError with this advice if it is too large."""
    parts, size, stream = [], 0, request.stream()
    async for part in stream:
        size += len(part)
        if size > MAX_UPLOAD:
            await drain(stream)
            raise ProjectError(f"larger than {MAX_UPLOAD >> 20} MiB; {advice}")
        parts.append(part)
    return b"".join(parts)


async def save_body(
    request: Request, file: Path, name: str, advice: str, take: Callable[[int], object] = lambda size: None
) -> None:
    """Writes the body of an upload to a file, part by part: it may be larger than the memory. `take` gets the size of
    every part, and may refuse it. ProjectError with this advice if it is too large."""

    def write(part: bytes) -> None:
        if opened.tell() + len(part) > MAX_STREAM:
            raise ProjectError(f"{name}: larger than {MAX_STREAM >> 30} GiB; {advice}")
        take(len(part))
        opened.write(part)

    stream = request.stream()
    try:
        with file.open("wb") as opened:
            async for part in stream:
                await run_in_threadpool(write, part)
    except (ProjectError, OSError):
        await drain(stream)
        raise


async def drain(stream: AsyncIterator[bytes]) -> None:
    """Reads what is left of an upload that is refused: browsers lose the answer if it comes while they send."""
    async for _ in stream:
        pass


@router.get("/project")
def project(context: Shared) -> dict[str, Any]:
    """All that the page knows of the project. `enlarged` are the generators whose pictures `builtin:upscaler` was made
    for."""
    found = [dataclasses.asdict(one) for one in context.project.contents()]
    builtin = [{"name": f"builtin:{name}", "model": _kind(f"builtin:{name}")} for name in checkpoint.builtin_names()]
    jobs = [job.as_json() for job in context.jobs.jobs]
    folder = encodable(context.project.folder.name), encodable(str(context.project.folder))
    root = checkpoint.read(BUILTIN).hash
    enlarged = [BUILTIN, *(one["path"] for one in found if one["root"] == root)]
    about = {"name": folder[0], "folder": folder[1], "version": __version__}
    return about | {"found": found, "builtin": builtin, "jobs": jobs, "enlarged": enlarged}


def _kind(name: str) -> str:
    return checkpoint.read(name).model


@router.get("/events")
async def events(context: Shared) -> StreamingResponse:
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(
        context.events.stream(context.project.problem()), media_type="text/event-stream", headers=headers
    )


@router.get("/file")
def file(context: Shared, path: str, side: int = 0) -> Response:
    """A file of the project; a picture with `side`, as a thumbnail of at most that many pixels."""
    found = context.project.existing(path)
    if not found.is_file():
        raise ProjectError(f"{path}: not a file")
    if side:
        return Response(encode_webp(thumbnail(decode(found), min(max(side, 16), 1024))), media_type="image/webp")
    if found.suffix.lower() in SHOWN:
        return FileResponse(found)
    return FileResponse(found, media_type="application/octet-stream", filename=found.name)


@router.get("/gallery")
def gallery(context: Shared, path: str) -> dict[str, Any]:
    rows = read_gallery(context.project.existing(path))
    return {"path": path, "total": len(rows), "rows": rows[:MOST_ROWS]}


@router.post("/upload")
async def upload(context: Shared, request: Request, name: str) -> dict[str, Any]:
    """Saves a picture to the uploads, after decoding it: what is kept is a PNG, with the recipe if it has one."""
    data = await read_body(request)
    saved, width, height = await run_in_threadpool(save_picture, context.project, name, data)
    recipe = read_recipe(context.project.path(saved)) is not None
    return {"path": saved, "width": width, "height": height, "recipe": recipe}


def save_picture(project: Project, name: str, data: bytes) -> tuple[str, int, int]:
    """Saves a picture to the uploads as a PNG: its path, width and height. ValueError if it cannot be decoded."""
    picture = decode(data, name)
    png = data if data[:8] == b"\x89PNG\r\n\x1a\n" else encode_png(picture)
    path = project.save_new(f"{STATE}/{UPLOADS}", name.rpartition(".")[0] or name, ".png", png)
    return path, picture.shape[1], picture.shape[0]


@router.post("/art")
async def art(context: Shared, request: Request, name: str) -> dict[str, Any]:
    """Saves one file of a dropped folder to art/NAME, undecoded: `prepare` checks it."""
    suffix = "." + name.rpartition(".")[2].lower()
    if suffix not in SUFFIXES and suffix not in (".csv", ".jsonl", ".json", ".zip"):
        return {"path": None, "skipped": name}
    if ".." in PurePosixPath(name).parts:
        raise ProjectError(f"{name!r}: not the name of a file in a dropped folder")
    target = context.project.path(f"art/{name}")
    with write_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
        try:
            await save_body(request, temporary, name, "copy it into the folder art of the project instead")
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
            context.project.planned.discard(f"art/{name}")  # the file has the name now, or nobody
    return {"path": context.project.relative(target)}


@router.post("/jobs/{number}/cancel")
def cancel(context: Shared, number: int) -> dict[str, Any]:
    context.jobs.cancel(number)
    return {}
