"""A server for tests, in this process, and one in a process of its own for the browser."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from needs import need, need_program

TOKEN = "a-token-for-tests"
HOST = "http://127.0.0.1:8642"


def wait(condition: Callable[[], Any], seconds: float = 180.0) -> Any:
    """Waits until a condition is true, and returns what it gave."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.05)
    return found


def total(tab: Any) -> int:
    """How many pictures Make has, as its toolbar says."""
    return int(tab.inner_text(".bar .count").partition(" of ")[2].replace(",", "") or 0)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Any:
    need("fastapi", "studio")
    from kyara.app.server import make_app

    return make_app(tmp_path_factory.mktemp("project"), TOKEN, device=torch.device("cpu"))


@pytest.fixture(scope="module")
def client(app: Any) -> Iterator[Any]:
    """A browser that was let in."""
    from starlette.testclient import TestClient

    threads = torch.get_num_threads()
    with TestClient(app, base_url=HOST) as found:
        assert found.get(f"/?token={TOKEN}", follow_redirects=False).status_code == 303
        yield found
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def context(app: Any, client: Any) -> Any:
    return app.state.context


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address of `kyara studio` with its token, and its process."""
    need("fastapi", "studio")
    words = [sys.executable, "-m", "kyara", "studio", str(folder), "--port", "0", "--no-browser"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.stderr is not None
    address = next(found[0] for line in process.stderr if (found := re.search(r"http://\S+", line)))
    yield address, process
    process.terminate()
    process.wait(20)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of `kyara studio` with its token, and the project's folder."""
    folder = tmp_path_factory.mktemp("studio")
    with served(folder) as (address, _):
        yield address, folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    sync_api = need("playwright.sync_api", "dev")
    program = need_program("chromium", "chromium-browser", "google-chrome", package="Chromium")
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--use-fake-device-for-media-stream"]  # a webcam with a test picture
        started = playwright.chromium.launch(executable_path=program, args=arguments)
        yield started
        started.close()


@pytest.fixture
def tab(browser: Any, server: tuple[str, Path]) -> Iterator[Any]:
    """A tab with the app open. Errors of the page, and requests to other servers, fail the test."""
    address, _ = server
    context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    context.set_default_timeout(120_000)
    page, wrong = context.new_page(), list[str]()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    refused = "status of 400"  # the browser's line about a request that the page explains to the user
    page.on(
        "console",
        lambda message: wrong.append(message.text) if message.type == "error" and refused not in message.text else None,
    )
    local = (address.partition("?")[0], "blob:", "data:")
    page.on("request", lambda request: None if request.url.startswith(local) else wrong.append(request.url))
    page.goto(address)
    yield page
    page.unroute_all(behavior="ignoreErrors")  # an answer may still be on its way to a page that is left
    context.close()
    assert not wrong, wrong
