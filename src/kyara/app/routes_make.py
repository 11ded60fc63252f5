"""Requests of the room Make."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from kyara.app.collection import Item
from kyara.app.context import Context, Shared
from kyara.app.make import FIND
from kyara.app.routes_project import read_body, save_picture
from kyara.app.words import Worded, in_words
from kyara.files.pictures import read_recipe

router = APIRouter(prefix="/api/make", route_class=Worded)
MOST_TOGETHER = 64  # pictures of one request
FOREVER = "private, max-age=31536000, immutable"


class Body(BaseModel):
    """A request; unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class New(Body):
    model: str
    seeds: str | None = None
    count: int | None = None
    first: int | None = None
    where: dict[str, str] = Field(default_factory=dict)
    truncation: float = 0.7


class Change(Body):
    number: int
    where: dict[str, str]


class Vary(Body):
    number: int
    count: int = 8
    strength: float = 0.3


class Mix(Body):
    coarse: int
    fine: int
    layer: int
    keep: bool = True


class Turn(Body):
    number: int
    degrees: float
    keep: bool = True


class Walk(Body):
    numbers: list[int]
    frames: int = 24


class Flag(Body):
    numbers: list[int]
    flag: str
    value: bool


class Numbers(Body):
    numbers: list[int]


class Pictures(Numbers):
    large: list[int] = []  # those of the numbers that are enlarged


class Export(Pictures):
    name: str = ""


class Load(Body):
    path: str


class Find(Load):
    model: str


class DragStart(Body):
    number: int
    handles: list[tuple[float, float]]
    targets: list[tuple[float, float]]


class Session(Body):
    session: int


def answer(context: Context, items: list[Item], command: str = "", notes: list[str] | None = None) -> dict[str, Any]:
    context.made()
    rows = [item.row() for item in items]
    return {"rows": rows, "version": context.collection.version, "command": command, "notes": notes or []}


def as_url(webp: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(webp).decode()


@router.get("/state")
def state(context: Shared, id: str = "", since: int = -1) -> dict[str, Any]:
    """What changed in the list with this `id` after the version `since`; of another list, everything."""
    collection, version = context.collection, context.collection.version
    known = id == collection.id and collection.first <= since <= version
    changed, removed = collection.since(since) if known else (collection.visible(), [])
    return {
        "id": collection.id,
        "version": version,  # read before the rows, so that what changes meanwhile is asked for again
        "all": not known,
        "rows": [item.row() for item in changed],
        "removed": removed,
        "undo": collection.done[-1].name if collection.done else "",
        "redo": collection.undone[-1].name if collection.undone else "",
        "problem": collection.problem,
    }


@router.get("/model")
def model(context: Shared, name: str) -> dict[str, Any]:
    return context.maker.about(name)


@router.post("/new")
def new(context: Shared, body: New) -> dict[str, Any]:
    made = context.maker.new(body.model, body.seeds, body.count, body.first, body.where, body.truncation)
    return answer(context, *made)


@router.post("/change")
def change(context: Shared, body: Change) -> dict[str, Any]:
    return answer(context, *context.maker.change(body.number, body.where))


@router.post("/vary")
def vary(context: Shared, body: Vary) -> dict[str, Any]:
    return answer(context, context.maker.vary(body.number, body.count, body.strength))


@router.post("/turn")
def turn(context: Shared, body: Turn) -> dict[str, Any]:
    if body.keep:
        return answer(context, *context.maker.turn(body.number, body.degrees))
    return {"picture": as_url(context.maker.turned(body.number, body.degrees))}


@router.post("/mix")
def mix(context: Shared, body: Mix) -> dict[str, Any]:
    if body.keep:
        return answer(context, context.maker.mix(body.coarse, body.fine, body.layer))
    return {"picture": as_url(context.maker.mixed(body.coarse, body.fine, body.layer))}


@router.post("/walk")
def walk(context: Shared, body: Walk) -> dict[str, Any]:
    return answer(context, *context.maker.walk(body.numbers, body.frames))


@router.post("/flag")
def flag(context: Shared, body: Flag) -> dict[str, Any]:
    context.collection.flag(body.numbers, body.flag, body.value)
    return answer(context, [])


@router.post("/remove")
def remove(context: Shared, body: Numbers) -> dict[str, Any]:
    context.collection.remove(body.numbers)
    return answer(context, [])


@router.post("/undo")
def undo(context: Shared) -> dict[str, Any]:
    context.collection.undo()
    return answer(context, [])


@router.post("/redo")
def redo(context: Shared) -> dict[str, Any]:
    context.collection.redo()
    return answer(context, [])


@router.post("/export")
def export(context: Shared, body: Export) -> dict[str, Any]:
    said = -1

    def progress(share: float) -> None:
        nonlocal said
        if (percent := int(share * 100)) != said:  # a tab takes no more than some hundred events at once
            said = percent
            context.events.publish("export", share=share)

    done = context.maker.export(body.numbers, body.name, {*body.large}, progress)
    context.events.publish("project")  # in which the gallery is from now on
    return done


@router.post("/load")
def load(context: Shared, body: Load) -> dict[str, Any]:
    """Adds the picture that a PNG of the project describes."""
    return answer(context, context.maker.load(context.project.existing(body.path)))


@router.post("/drop")
async def drop(context: Shared, request: Request, name: str) -> dict[str, Any]:
    """Adds the picture that a dropped PNG describes. Another picture is kept, so that it can be searched: its path."""
    data = await read_body(request)
    return await run_in_threadpool(_drop, context, data, name)


def _drop(context: Context, data: bytes, name: str) -> dict[str, Any]:
    path, _, _ = save_picture(context.project, name, data)
    saved = context.project.existing(path)
    if read_recipe(saved) is None:
        return answer(context, []) | {"searchable": path}
    try:
        return answer(context, context.maker.load(saved))
    finally:
        saved.unlink(missing_ok=True)


@router.post("/find")
def find(context: Shared, body: Find) -> dict[str, Any]:
    """Starts the job that searches a picture in a generator. What it finds is added when it is done."""
    words, out = context.maker.find(body.path, body.model)
    return context.start("make", f"find {Path(body.path).stem}", words, step=FIND, out=out)


@router.get("/details/{number}")
def details(context: Shared, number: int) -> dict[str, Any]:
    return context.maker.details(number)


@router.post("/pictures")
def pictures(context: Shared, body: Pictures) -> dict[str, dict[int, str]]:
    """Several pictures at once, as PNG in base64: a browser makes only six requests at a time. `errors` says why some
    cannot be made."""
    numbers = [number for number in body.numbers[:MOST_TOGETHER] if number in context.collection.items]
    found, folder = context.maker.pngs(numbers, {*body.large}), context.project.folder
    pngs = {number: base64.b64encode(png).decode() for number, png in found.items() if isinstance(png, bytes)}
    errors = {number: in_words(str(error), folder) for number, error in found.items() if isinstance(error, Exception)}
    return {"pictures": pngs, "errors": errors}


@router.get("/picture/{number}.png")
def picture(context: Shared, number: int, download: bool = False, large: bool = False) -> Response:
    png = context.maker.png(number, large)
    headers = {"Cache-Control": FOREVER}
    if download:
        name = context.maker.file(context.collection.item(number))
        headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return Response(png, media_type="image/png", headers=headers)


@router.post("/drag")
def drag(context: Shared, body: DragStart) -> dict[str, Any]:
    return context.painter.call(lambda: context.dragging.start(body.number, body.handles, body.targets))


@router.post("/drag/step")
def drag_step(context: Shared, body: Session) -> dict[str, Any]:
    picture, about = context.painter.call(lambda: context.dragging.step(body.session))
    return about | {"picture": as_url(picture)}


@router.post("/drag/keep")
def drag_keep(context: Shared, body: Session) -> dict[str, Any]:
    number, shot = context.painter.call(lambda: context.dragging.finish(body.session))
    return answer(context, context.maker.keep(number, shot))
