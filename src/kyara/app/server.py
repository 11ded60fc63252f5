"""The server: what the rooms share, and the application that answers their requests."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import sys
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import torch
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles

from kyara.app import routes_art, routes_fill, routes_look, routes_make, routes_me, routes_project, routes_rewrite
from kyara.app.context import Context
from kyara.app.safety import Guard

STATIC = Path(__file__).with_name("static")
WATCH = 2.0  # seconds between two looks at the project's folder


def make_app(folder: Path, token: str, *, device: torch.device, hosts: Collection[str] = ()) -> FastAPI:
    """The application for a project. `token` lets a browser in; `hosts` are accepted beside the loopback names."""
    context = Context(folder, device)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        context.events.start()
        watcher = asyncio.create_task(_watch(context))
        try:
            yield
        finally:
            watcher.cancel()
            context.events.close()
            if any(job.state != "waiting" for job in context.jobs.active()):
                print(
                    "waiting until the running task has stopped; a training saves its run", file=sys.stderr, flush=True
                )
            await asyncio.to_thread(context.close)

    app = FastAPI(title="kyara studio", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.context = context
    for router in (
        routes_project.router,
        routes_make.router,
        routes_rewrite.router,
        routes_fill.router,
        routes_me.router,
        routes_art.router,
        routes_look.router,
    ):
        app.include_router(router)
    for kind in (ValueError, OSError, KeyError):
        app.add_exception_handler(kind, _sentence)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.mount("/", StaticFiles(directory=STATIC, html=True))
    app.add_middleware(Guard, token=token, hosts=hosts)
    return app


async def _sentence(_: Request, error: Exception) -> Response:
    """An error that the user can correct, as the command line prints it. A file that is gone is no lack of space."""
    storage = isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
    return JSONResponse({"error": str(error)}, 507 if storage else 400)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:])
    return JSONResponse({"error": f"{place or 'the request'}: {first['msg']}"}, 422)


async def _watch(context: Context) -> None:
    """Publishes an event when a verb, in this app or in a terminal, changed the project."""
    before, said = b"", ""
    while True:
        await asyncio.to_thread(context.save)
        if context.events.tabs:
            found = await asyncio.to_thread(context.project.contents)
            now, problem = hashlib.sha256(repr(found).encode()).digest(), context.project.problem()
            if problem and problem != said:
                context.events.publish("problem", text=problem)
            said = problem
            if now != before:  # so also at first: a tab may have read the project before this
                context.events.publish("project")
            before = now
        await asyncio.sleep(WATCH)
