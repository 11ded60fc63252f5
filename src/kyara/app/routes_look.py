"""Requests of the room Look: rank, evaluate and compare."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import Field

from kyara.app.context import Shared
from kyara.app.project import ProjectError, word
from kyara.app.results import EVALUATIONS, find_results
from kyara.app.routes_make import Body
from kyara.curation.rank import REPORT
from kyara.curation.sources import open_pictures
from kyara.evaluation.shared import MOST_PICTURES
from kyara.files.dataset import Dataset
from kyara.files.gallery import thumbnail
from kyara.files.names import short_name
from kyara.files.pictures import encode_webp

router = APIRouter(prefix="/api/look")
Number = Annotated[int, Field(ge=4, le=MOST_PICTURES)]  # of pictures of each model
LARGEST = 512  # maximum side of an original
SANDBOX = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""A page of the project may have come from someone else: it runs no script, and has another origin than the app."""


class Rank(Body):
    path: str
    copies_of: str = ""  # a dataset in which the originals of copies are searched; empty searches none
    like: str = ""  # clean pictures to compare with; empty compares with the styles that Kyara knows


class Evaluate(Body):
    model: str
    data: str
    count: Number = 2048


class Compare(Body):
    models: list[str]
    data: str
    count: Number = 2048


@router.post("/rank")
def rank(context: Shared, body: Rank) -> dict[str, Any]:
    context.project.existing(body.path)
    out = context.project.free("galleries", f"rank-{short_name(body.path)}")
    words = ["rank", word(body.path), "--out", out]
    for option, path in (("--like", body.like), ("--copies-of", body.copies_of)):
        if path:
            context.project.existing(path)
            words += [option, word(path)]
    return context.start("look", f"rank {body.path}", words, step="rank", path=body.path, out=out)


@router.post("/evaluate")
def evaluate(context: Shared, body: Evaluate) -> dict[str, Any]:
    context.project.existing(body.data)
    out = context.project.free(EVALUATIONS, f"{short_name(body.model)}-{short_name(body.data)}", ".json")
    context.project.path(out).parent.mkdir(exist_ok=True)
    name = word(context.project.model(body.model))
    words = ["evaluate", name, word(body.data), "--count", str(body.count), "--out", out]
    return context.start("look", f"evaluate {body.model}", words, step="evaluate", out=out)


@router.post("/compare")
def compare(context: Shared, body: Compare) -> dict[str, Any]:
    context.project.existing(body.data)
    if len(body.models) < 2:
        raise ProjectError("choose two or more generators to compare")
    models = [word(context.project.model(name)) for name in body.models]
    out = context.project.free("comparisons", "models")
    words = ["compare", *models, "--data", word(body.data), "--count", str(body.count), "--out", out]
    return context.start("look", f"compare {len(models)} generators", words, step="compare", out=out)


@router.get("/results")
def results(context: Shared) -> list[dict[str, Any]]:
    """The comparisons and evaluations in the project, the newest first."""
    return find_results(context.project)


@router.get("/original")
def original(context: Shared, path: str, name: str) -> Response:
    """The picture `name` of the dataset in which the originals of the gallery's pictures were searched."""
    report = context.project.existing(f"{path}/{REPORT}")
    try:
        searched = str(json.loads(report.read_text(encoding="utf-8"))["copies_of"])
    except (ValueError, LookupError, TypeError) as error:
        raise ProjectError(f"{path}: ranked without a search for copies") from error
    found = context.project.existing(searched)
    dataset = _opened(found, found.stat().st_mtime_ns)
    if name not in dataset.names:
        raise ProjectError(f"{searched}: has no picture {name}")
    picture = dataset.picture(dataset.names.index(name), at_least=LARGEST)
    return Response(encode_webp(thumbnail(picture, LARGEST)), media_type="image/webp")


@functools.lru_cache(maxsize=2)
def _opened(path: Path, changed: int) -> Dataset:
    """Opened once, as long as it is not `changed`."""
    return open_pictures(path)


@router.get("/page")
def page(context: Shared, path: str) -> Response:
    """The page of a comparison, which has its pictures inside."""
    found: Path = context.project.existing(path)
    if found.suffix != ".html":
        raise ProjectError(f"{path}: not a page")
    return Response(found.read_bytes(), media_type="text/html", headers={"Content-Security-Policy": SANDBOX})
