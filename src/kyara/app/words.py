"""The messages of the verbs in the words of the page."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

NAMES = {
    "--seeds": "Seeds",
    "--seed": "First seed",
    "--count": "How many",
    "--where": "Attributes",
    "--truncation": "Truncation",
}
"""Option -> the name of its control."""

OPTION = re.compile(r"--[a-z-]+")
LIKE = re.compile(r"--like (?:\S*/)?")  # the page names a picture by its file


def in_words(message: str, folder: Path) -> str:
    """A message about options and absolute paths, as one about controls and paths inside the project."""
    message = LIKE.sub("", message).replace(f"{folder}/", "")
    return OPTION.sub(lambda found: NAMES.get(found[0], found[0]), message)


class Worded(APIRoute):
    """Requests whose errors are worded for the page."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def worded(request: Request) -> Response:
            try:
                return await answer(request)
            except ValueError as error:
                raise ValueError(in_words(str(error), request.app.state.context.project.folder)) from error

        return worded
