"""How long a person waits for the page of `kyara studio`, in headless Chromium.

    python benchmarks/studio.py

From the command to the first picture; from a click on another hair colour to the picture on the screen; frames a second
while a point is dragged."""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from common import machine, print_table, run

COLOURS = ("blue", "pink", "green", "red")
SHOWN = """(before) => {
    const image = document.querySelector('.panel.right .stage img');
    return image && image.getAttribute('src') !== before && image.complete && image.naturalWidth > 1;
}"""
"""Whether the enlarged picture is another one, and can be seen."""


@contextmanager
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])


@contextmanager
def opened(start: float) -> Iterator[tuple[Any, list[tuple[str, str]]]]:
    """A tab with a new project, and rows for the table."""
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        server = subprocess.Popen(
            [sys.executable, "-m", "kyara", "studio", folder, "--no-browser", "--port", "0"],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert server.stderr is not None
            address = next(found[0] for line in server.stderr if (found := re.search(r"http://\S+", line)))
            rows = [("the address is printed", f"{time.perf_counter() - start:.1f} s")]
            tab = browser.new_page(viewport={"width": 1280, "height": 800})
            tab.set_default_timeout(120_000)
            tab.goto(address)
            yield tab, rows
        finally:
            server.terminate()
            server.wait()


def changes(tab: Any, count: int) -> list[float]:
    """Seconds from each click on a hair colour to the picture."""
    took = []
    for i in range(count):
        before = tab.get_attribute(".panel.right .stage img", "src")
        began = time.perf_counter()
        tab.click(f"#change fieldset:has-text('hair') button:text-is('{COLOURS[i % len(COLOURS)]}')")
        tab.wait_for_function(SHOWN, arg=before, polling=10)
        took.append(time.perf_counter() - began)
    return took


def frames(tab: Any, seconds: float) -> float:
    """Frames a second while the chin is dragged."""
    arrived = list[float]()
    tab.on("response", lambda answer: arrived.append(time.perf_counter()) if "/drag/step" in answer.url else None)
    tab.click("#drag summary")
    box = tab.locator(".panel.right .stage").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.8
    tab.mouse.move(x, y)
    tab.mouse.down()
    tab.mouse.move(x - box["width"] * 0.3, y)
    tab.mouse.up()
    tab.click("button:text-is('Move')")
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(arrived) < 2:
        tab.wait_for_timeout(50)
    return (len(arrived) - 1) / (arrived[-1] - arrived[0])


def studio(*, clicks: int = 20, seconds: float = 5) -> None:
    """Prints the table.

    Args:
        clicks: Clicks on a hair colour.
        seconds: How long the point is dragged.
    """
    start = time.perf_counter()
    with opened(start) as (tab, rows):
        tab.fill("#seeds", "0")
        tab.click("#make-new")
        tab.wait_for_function(SHOWN, arg="", polling=10)
        rows.append(("the first picture is on the screen", f"{time.perf_counter() - start:.1f} s"))
        took = changes(tab, clicks)
        rows.append(("another hair colour, median", f"{statistics.median(took):.2f} s"))
        rows.append(("another hair colour, slowest", f"{max(took):.2f} s"))
        rows.append(("dragging", f"{frames(tab, seconds):.1f} frames a second"))
    print(machine())
    print_table({name: {"time": text} for name, text in rows}, "step")


def main(arguments: list[str] | None = None) -> None:
    run(studio, arguments)


if __name__ == "__main__":
    main()
