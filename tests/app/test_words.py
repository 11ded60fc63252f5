"""Paths as words of a command, in every room."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from starlette.testclient import TestClient

from kyara.app.commands import generate_command
from kyara.app.context import Context

NAME = "-old"


@pytest.mark.parametrize(
    ("request_", "body"),
    [
        ("mine/prepare", {"sources": [NAME], "out": "-new.zip"}),
        ("mine/tag", {"path": NAME}),
        ("mine/ask", {"path": NAME, "attribute": "mood"}),
        ("mine/answers", {"path": NAME, "attribute": "mood", "answers": {}}),
        ("mine/forecast", {"path": NAME, "init": NAME}),
        ("mine/resume", {"path": NAME}),
        ("look/rank", {"path": NAME, "like": NAME, "copies_of": NAME}),
        ("look/evaluate", {"model": NAME, "data": NAME}),
        ("look/compare", {"models": [NAME, "builtin:anime"], "data": NAME}),
        ("me/draw", {"path": NAME, "child": NAME}),
        ("me/cartoon", {"path": NAME}),
        ("make/find", {"path": NAME, "model": NAME}),
        ("rewrite/learn", {"model": NAME, "edit": NAME}),
    ],
)
def test_a_name_with_a_hyphen_is_no_option(
    client: TestClient, context: Context, monkeypatch: pytest.MonkeyPatch, request_: str, body: dict[str, Any]
) -> None:
    folder = context.project.folder / NAME
    folder.mkdir(exist_ok=True)
    (folder / "command.txt").write_text("cd /\nkyara train dcgan faces.zip\n")
    monkeypatch.setattr(context.jobs, "_run", lambda job, words: None)
    answer = client.post(f"/api/{request_}", json=body)
    assert answer.status_code == 200, answer.text
    words = shlex.split(answer.json()["command"])
    assert f"./{NAME}" in words and not {NAME, "-new.zip"} & {*words}


def test_a_generator_with_a_hyphen_is_no_option(context: Context) -> None:
    assert generate_command(0.7, NAME, seeds="1") == "kyara generate ./-old --seeds 1"
