"""Requests of the room Rewrite."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from pydantic import Field

from kyara.app.context import Shared
from kyara.app.rewrites import Rewrites
from kyara.app.routes_make import FOREVER, Body
from kyara.app.routes_project import read_body
from kyara.verbs import LAST_SEED

router = APIRouter(prefix="/api/rewrite")


Seed = Annotated[int, Field(ge=0, le=LAST_SEED)]


class Example(Body):
    model: str
    seed: Seed | None = None
    number: int | None = None
    mask: str
    pattern: str | None = None


class Edit(Body):
    name: str = ""
    model: str = ""  # from which it is learned
    examples: list[Example]


class Learn(Body):
    model: str
    edit: str
    name: str = ""
    quick: bool = False


class Strengths(Body):
    model: str
    strengths: dict[str, float] = Field(default_factory=dict)
    name: str = ""


@router.get("/model")
def model(context: Shared, name: str) -> dict[str, Any]:
    return Rewrites(context.maker).about(name)


@router.get("/picture")
def picture(
    context: Shared, model: str, seed: Seed = 0, number: int | None = None, hash: str = "", large: bool = False
) -> Response:
    """The picture of a seed, or of Make by its number, as an edit names it; with the hash of the Checkpoint in the
    address, browsers may keep it."""
    rewrites = Rewrites(context.maker)
    png = rewrites.picture(model, seed, large) if number is None else rewrites.made(number, model, large)
    return Response(png, media_type="image/png", headers={"Cache-Control": FOREVER} if hash else {})


@router.post("/edit")
def edit(context: Shared, body: Edit) -> dict[str, Any]:
    return Rewrites(context.maker).save_edit(body.name, [example.model_dump() for example in body.examples], body.model)


@router.post("/learn")
def learn(context: Shared, body: Learn) -> dict[str, Any]:
    """Starts the job that learns an edit."""
    words, out = Rewrites(context.maker).learn_command(body.model, body.edit, body.name, quick=body.quick)
    return context.start("rewrite", f"learn {body.name or body.edit}", words, out=out)


@router.post("/rule")
async def rule(context: Shared, request: Request, model: str, name: str) -> dict[str, Any]:
    """Starts the job that adds a rule in a file to a model."""
    data = await read_body(request)
    words, out = await run_in_threadpool(Rewrites(context.maker).add_rule, model, name, data)
    return context.start("rewrite", f"add {name}", words, out=out)


@router.post("/compare")
def compare(context: Shared, body: Strengths) -> dict[str, Any]:
    return Rewrites(context.maker).compare(body.model, body.strengths)


@router.post("/save")
def save(context: Shared, body: Strengths) -> dict[str, Any]:
    """Starts the job that writes a Checkpoint with other strengths."""
    words, out = Rewrites(context.maker).strength_command(body.model, body.strengths, body.name)
    return context.start("rewrite", f"save {out}", words, out=out)
