"""Commands that pages show."""

from __future__ import annotations

import functools
import html
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro


def parsed(verb: Callable[..., Any], page: Path) -> dict[str, Any]:
    """The options of the command on a page, as the command line parses them."""
    text = page.read_text(encoding="utf-8").split("<code>")[1].split("</code>")[0]
    words = shlex.split(html.unescape(text).removeprefix("$ "))
    assert words[:2] == ["kyara", verb.__name__]
    options: dict[str, Any] = {}

    @functools.wraps(verb)
    def record(*arguments: Any, **given: Any) -> None:
        options.update(given, arguments=arguments)

    tyro.cli(record, args=words[2:])
    return options
