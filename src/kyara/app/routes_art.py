"""Requests of the room My art."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import Field

from kyara.app.art import LARGEST, SIDE
from kyara.app.context import Shared
from kyara.app.drops import place_files
from kyara.app.project import MAX_STREAM, word
from kyara.app.routes_make import Body

router = APIRouter(prefix="/api/mine")
MOST_FILES = 1_000_000  # of one drop
HOUR = {"Cache-Control": "private, max-age=3600"}


class Prepare(Body):
    sources: list[str]
    out: str = ""
    size: str = ""
    drop: list[str] = Field(default_factory=list)


class Drop(Body):
    names: Annotated[list[Annotated[str, Field(max_length=4096)]], Field(min_length=1, max_length=MOST_FILES)]


class Ticks(Body):
    path: str
    added: list[str] = Field(default_factory=list)
    removed: list[str] = Field(default_factory=list)
    by: str = ""  # the tab, which knows it already


class Tag(Body):
    path: str


class Ask(Body):
    path: str
    attribute: str
    values: str = ""


class Answers(Ask):
    answers: dict[str, str]


Kimg = Annotated[float, Field(gt=0, allow_inf_nan=False)] | None  # None is what the model's preset says


class Train(Body):
    path: str
    init: str = ""
    attributes: str = ""
    kimg: Kimg = None


class Resume(Body):
    path: str
    kimg: Kimg = None


@router.get("/sources")
def sources(context: Shared) -> list[str]:
    return context.art.sources()


@router.post("/drop")
def drop(context: Shared, body: Drop) -> dict[str, Any]:
    """Where the files of a drop are to be sent, and how many bytes one may have."""
    return place_files(context.project, body.names) | {"limit": MAX_STREAM}


@router.post("/prepare")
def prepare(context: Shared, body: Prepare) -> dict[str, Any]:
    words, out = context.art.prepare(body.sources, body.out, body.size, body.drop)
    return context.start("art", f"prepare {out}", words, step="prepare", out=out, sources=body.sources)


@router.get("/report")
def report(context: Shared, path: str) -> dict[str, Any]:
    return context.art.weeding.rows(path)


@router.post("/ticks")
def ticks(context: Shared, body: Ticks) -> dict[str, Any]:
    """Remembers what is ticked to be left out, and tells the other tabs."""
    context.art.weeding.tick(body.path, body.added, body.removed)
    context.events.publish("ticks", path=body.path, by=body.by)
    return {}


@router.get("/ticks")
def ticked(context: Shared, path: str) -> list[str]:
    return context.art.weeding.ticked(path)


@router.get("/source")
def source(
    context: Shared,
    path: str,
    i: Annotated[int, Query(ge=0)],
    side: Annotated[int, Query(ge=16, le=LARGEST)] = SIDE,
    version: str = "",
) -> Response:
    """The i-th source picture of a report; with the version of the report in the address, browsers may keep it."""
    return _picture(context.art.source_picture(path, i, side), version)


@router.get("/picture")
def picture(context: Shared, path: str, name: str, version: str = "") -> Response:
    """The same for a picture of a dataset, and when that changed."""
    return _picture(context.art.picture(path, name), version)


def _picture(webp: bytes, version: str) -> Response:
    return Response(webp, media_type="image/webp", headers=HOUR if version else {})


@router.get("/labels")
def labels(context: Shared, path: str) -> dict[str, Any]:
    return context.art.labels(path)


@router.post("/tag")
def tag(context: Shared, body: Tag) -> dict[str, Any]:
    context.project.existing(body.path)
    return context.start("art", f"tag {body.path}", ["tag", word(body.path)], step="tag", out=body.path)


@router.post("/ask")
def ask(context: Shared, body: Ask) -> dict[str, Any]:
    words = context.art.ask(body.path, body.attribute, body.values)
    about = {"attribute": body.attribute, "values": body.values}
    return context.start("art", f"questions about {body.attribute}", words, step="ask", out=body.path, **about)


@router.get("/questions")
def questions(context: Shared, path: str) -> list[str]:
    return context.art.questions(path)


@router.post("/answers")
def answers(context: Shared, body: Answers) -> dict[str, Any]:
    words = context.art.answer(body.path, body.attribute, body.values, body.answers)
    about = {"attribute": body.attribute, "values": body.values}
    return context.start("art", f"answers about {body.attribute}", words, step="ask", out=body.path, **about)


@router.post("/train")
def train(context: Shared, body: Train) -> dict[str, Any]:
    words, out = context.art.train(body.path, body.init, body.attributes, body.kimg)
    return context.start("art", f"train {out}", words, step="train", out=out)


@router.post("/resume")
def resume(context: Shared, body: Resume) -> dict[str, Any]:
    """Continues a run, with the settings that it was begun with."""
    words = context.art.resume(body.path, body.kimg)
    return context.start("art", f"train {body.path}", words, step="train", out=body.path)


@router.post("/forecast")
def forecast(context: Shared, body: Train) -> dict[str, Any]:
    words, out = context.art.train(body.path, body.init, body.attributes, body.kimg)
    return context.start("art", f"forecast of {out}", [*words, "--forecast"], step="forecast", out=out)


@router.get("/run")
def run(context: Shared, path: str) -> dict[str, Any]:
    return context.art.run(path)
