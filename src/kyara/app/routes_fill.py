"""Requests of the room Fill."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from kyara.app.context import Shared
from kyara.app.data_urls import to_url
from kyara.app.routes_make import Body

router = APIRouter(prefix="/api/fill")


class Source(Body):
    """A picture: the seed of an example, the number of a picture of Make, or a path."""

    seed: int | None = None
    number: int | None = None
    path: str = ""


class Hole(Body):
    source: Source
    model: str
    mask: str  # data URL of a PNG


@router.post("/try")
def attempt(context: Shared, body: Hole) -> dict[str, Any]:
    """The filled picture; nothing is written."""
    return {"picture": to_url(context.fills.fill(body.model, body.mask, **body.source.model_dump()))}


@router.post("/keep")
def keep(context: Shared, body: Hole) -> dict[str, Any]:
    """Starts the job that writes the Gallery."""
    words, out = context.fills.keep(body.model, body.mask, **body.source.model_dump())
    return context.start("fill", f"fill {words[2].rpartition('/')[2]}", words, out=out)
