"""Requests of the room Look: rank, evaluate and compare."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from kyara.app.context import Context, Shared
from kyara.app.project import ProjectError
from kyara.app.routes_make import Body
from kyara.files.names import short_name

router = APIRouter(prefix="/api/look")
SANDBOX = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""A page of the project may have come from someone else: it runs no script, and has another origin than the app."""


class Rank(Body):
    path: str
    like: str = ""  # clean pictures to compare with; empty compares with the styles that Kyara knows


class Evaluate(Body):
    model: str
    data: str
    count: int = 2048


class Compare(Body):
    models: list[str]
    data: str
    count: int = 2048


def start(context: Context, title: str, words: list[str], **about: Any) -> dict[str, Any]:
    job = context.jobs.add(title, [words], {"room": "look", **about})
    return {"job": job.number, "command": shlex.join(["kyara", *words]), **about}


@router.post("/rank")
def rank(context: Shared, body: Rank) -> dict[str, Any]:
    context.project.existing(body.path)
    out = context.project.free("galleries", f"rank-{short_name(body.path)}")
    words = ["rank", body.path, "--out", out]
    if body.like:
        context.project.existing(body.like)
        words += ["--like", body.like]
    return start(context, f"rank {body.path}", words, step="rank", out=out)


@router.post("/evaluate")
def evaluate(context: Shared, body: Evaluate) -> dict[str, Any]:
    context.project.existing(body.data)
    words = ["evaluate", context.project.model(body.model), body.data, "--count", str(body.count)]
    return start(context, f"evaluate {body.model}", words, step="evaluate")


@router.post("/compare")
def compare(context: Shared, body: Compare) -> dict[str, Any]:
    context.project.existing(body.data)
    if len(body.models) < 2:
        raise ProjectError("choose two or more models to compare")
    models = [context.project.model(name) for name in body.models]
    out = context.project.free("comparisons", "models")
    words = ["compare", *models, "--data", body.data, "--count", str(body.count), "--out", out]
    return start(context, f"compare {len(models)} models", words, step="compare", out=out)


@router.get("/page")
def page(context: Shared, path: str) -> Response:
    """The page of a comparison, which has its pictures inside."""
    found: Path = context.project.existing(path)
    if found.suffix != ".html":
        raise ProjectError(f"{path}: not a page")
    return Response(found.read_bytes(), media_type="text/html", headers={"Content-Security-Policy": SANDBOX})
