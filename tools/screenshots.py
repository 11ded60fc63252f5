"""The pictures of docs/guide that show the page of `kyara studio`, taken in headless Chromium.

    python tools/screenshots.py my-project docs/images --rooms rewrite

It does what the guide says, in an empty project, and prints when each step was done."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import tyro
from PIL import Image, ImageDraw
from playwright.sync_api import Page, sync_playwright

import kyara

ROOT = Path(__file__).parents[1]
WIDTH, HEIGHT, QUALITY = 1280, 800, 85
SCRATCH = ((0.3, 0.66), (0.48, 0.74), (0.66, 0.7))  # points of a line, in shares of the picture
LONG = 20 * 60 * 1000  # ms; learning takes minutes
Room = Literal["make", "me", "rewrite", "fill", "art", "look"]


class Camera:
    """Takes pictures of a page, and prints the time since it was made."""

    def __init__(self, page: Page, folder: Path) -> None:
        self.page, self.folder, self.start = page, folder, time.perf_counter()

    def __call__(self, name: str, step: str) -> None:
        print(f"{time.perf_counter() - self.start:6.1f} s  {step}", flush=True)
        self.page.wait_for_timeout(300)
        picture = Image.open(io.BytesIO(self.page.screenshot(animations="disabled")))
        picture.convert("RGB").save(self.folder / f"studio-{name}.jpg", quality=QUALITY, optimize=True)


def until(page: Page, condition: str) -> None:
    """Waits for a condition in JavaScript, or for an error that the page shows, also of a job: RuntimeError."""
    script = f"() => document.querySelector('#toasts .error')?.textContent || Boolean({condition})"
    found = page.wait_for_function(script, timeout=LONG).json_value()
    if isinstance(found, str):
        raise RuntimeError(found.removesuffix("×"))


def until_there(page: Page, selector: str) -> None:
    """The same for an element."""
    until(page, f'document.querySelector("{selector}")')


def drop(page: Page, selector: str, file: Path) -> None:
    """Drops a file on an element, as from the file manager."""
    data = page.evaluate_handle(
        """([bytes, name]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
            return data;
        }""",
        [list(file.read_bytes()), file.name],
    )
    page.dispatch_event(selector, "drop", {"dataTransfer": data})


def stroke(page: Page, selector: str, *points: tuple[float, float]) -> None:
    """A stroke of the pointer through points, in shares of an element's width and height."""
    box = page.locator(selector).bounding_box()
    assert box is not None
    for i, (x, y) in enumerate(points):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=8)
        if not i:
            page.mouse.down()
    page.mouse.up()


def rewrite(page: Page, take: Camera) -> None:
    """A flower in the hair of three pictures, and the rule that they teach."""
    page.click("nav a:text-is('Rewrite')")
    page.wait_for_timeout(5000)  # until the pictures to choose from are there
    for i, (seed, x, y) in enumerate([(10, 0.26, 0.35), (4, 0.24, 0.34), (17, 0.27, 0.34)], 1):
        page.click(f".strip button[aria-label='seed {seed}']")
        drop(page, ".painting", ROOT / "docs/edits/flower.png")
        page.wait_for_selector("[data-tool=move][aria-pressed=true]")
        stroke(page, ".painting", (0.5, 0.5), (x, y))
        for _ in range(5):
            page.mouse.wheel(0, 100)
        page.click("[data-tool=brush]")
        page.locator("label:has-text('% of the picture') input").fill("30")
        stroke(page, ".painting", (x, y))
        if i == 1:
            take("rewrite", "a flower is dropped, moved, made smaller, and painted over")
        page.click("#add-example:not([disabled])")
        until_there(page, f"#examples figure:nth-child({i})")
    take("rewrite-examples", "three examples are added")
    page.click("#learn")
    until(page, "document.querySelector('#learning progress')?.value > 0.3")
    take("rewrite-learning", "the rule is being learned")
    until_there(page, "#compare:not([hidden]) .pair")
    page.wait_for_timeout(5500)  # until the messages are gone
    take("rules", "it is learned")


def make(page: Page, take: Camera) -> None:
    """Characters with blue hair, and one of them with another colour."""
    page.fill("#count", "24")
    page.click("#make-new")
    until(page, "document.querySelectorAll('.cell img').length >= 12")
    page.wait_for_timeout(1500)
    page.click("#cell-1")
    page.click("#change fieldset:has-text('hair') button:text-is('pink')")
    until(page, "document.querySelector('.count').textContent.includes('25')")
    page.click("#cell-4")
    page.keyboard.press("s")
    page.wait_for_timeout(4000)  # scores come by themselves
    take("make", "the same face with pink hair")


def me(page: Page, take: Camera) -> None:
    """Two generated people on one photo, the proposals for one of them, and a cartoon of both."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "people"
        kyara.generate("builtin:photo", seeds="4,6", truncation=0.7, rank="none", out=folder, device="cpu")
        photo = Image.new("RGB", (440, 240), (170, 180, 175))
        for seed, side, left in ((4, 220, 10), (6, 180, 240)):
            face = Image.open(folder / f"seed{seed:04d}.png").resize((side, side), Image.Resampling.BICUBIC)
            photo.paste(face, (left, 120 - side // 2))
        photo.save(folder / "us.png")
        page.click("nav a:text-is('Me')")
        page.set_input_files("#photo-file", str(folder / "us.png"))
        page.wait_for_selector("#face-2")
    page.click("#propose:not([disabled])")
    page.click("#cartoon:not([disabled])")
    until_there(page, "#proposals button:nth-child(8)")
    until_there(page, "#cartoon-result:not([hidden])")
    page.wait_for_timeout(5500)  # until the messages are gone
    take("me", "eight proposals and a cartoon are drawn")


def fill(page: Page, take: Camera) -> None:
    """A scratch across the face of an example."""
    page.set_viewport_size({"width": WIDTH, "height": 960})  # the painted picture and the result
    page.click("nav a:text-is('Fill')")
    until(page, "document.querySelector('.painting img').naturalWidth > 1")
    with tempfile.TemporaryDirectory() as temporary:
        drop(page, ".painting", scratched(page, Path(temporary) / "scratched.png"))
        page.wait_for_timeout(2000)
    stroke(page, ".painting", *SCRATCH)
    page.click("#fill:not([disabled])")
    until_there(page, "#filled:not([hidden])")
    page.wait_for_timeout(1000)
    page.evaluate("document.querySelector('.painting').parentElement.scrollIntoView()")
    take("fill", "a scratch is filled")


def scratched(page: Page, file: Path) -> Path:
    """A copy of the example that is shown, with a scratch."""
    address = page.evaluate("document.querySelector('.painting img').src")
    picture = Image.open(io.BytesIO(page.request.get(address).body())).convert("RGB")
    line = [(x * picture.width, y * picture.height) for x, y in SCRATCH]
    ImageDraw.Draw(picture).line(line, fill=(250, 250, 245), width=max(picture.width // 40, 1))
    picture.save(file)
    return file


def art(page: Page, take: Camera) -> None:
    """The pictures of `examples/characters.zip`, prepared; one is selected, another ticked."""
    page.click("nav a:text-is('My art')")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "drawings"
        with zipfile.ZipFile(ROOT / "examples/characters.zip") as archive:
            for name in filter(lambda name: name.endswith(".webp"), archive.namelist()):
                (folder / Path(name).name).parent.mkdir(exist_ok=True)
                (folder / Path(name).name).write_bytes(archive.read(name))
        page.set_input_files("#art-folder", str(folder))
        page.wait_for_selector("#toasts p")
    page.click("#prepare:not([disabled])")
    until_there(page, ".weed .cell")
    page.dblclick("#cell-7")
    page.click("#cell-1")
    page.wait_for_timeout(8000)  # until the messages are gone, and all pictures are there
    take("art", "a dataset is prepared")


def look(page: Page, take: Camera) -> None:
    """A gallery, ranked."""
    page.fill("#seeds", "200-223")
    page.click("#make-new")
    until(page, "document.querySelector('.grid').textContent.includes('seed 223')")
    page.keyboard.press("Control+a")
    page.click("#export")
    until(page, "document.querySelector('#toasts').textContent.includes('galleries/chosen')")
    page.click("nav a:text-is('Look')")
    page.click(".list button:has-text('chosen')")
    page.click("#rank:not([disabled])")
    until(page, "document.querySelector('.list [aria-pressed=true]')?.textContent.startsWith('rank-')")
    page.wait_for_timeout(5500)
    page.click("#cell-0")
    take("look", "a ranked gallery")


ROOMS: dict[Room, Callable[[Page, Camera], None]] = {
    "make": make, "me": me, "rewrite": rewrite, "fill": fill, "art": art, "look": look
}  # fmt: skip


def main(
    project: Path, out: Path, /, rooms: tuple[Room, ...] = tuple(ROOMS), width: int = WIDTH, pause: int = 0
) -> None:
    """Takes the pictures.

    Args:
        project: An empty or missing folder for the project.
        out: Where the pictures go.
        rooms: Which rooms.
        width: Of the window, in pixels.
        pause: Milliseconds before every action, for the pace of a person.
    """
    server = subprocess.Popen(
        [sys.executable, "-m", "kyara", "studio", str(project), "--no-browser", "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        address = next(found[0] for line in server.stdout if (found := re.search(r"http://\S+", line)))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), slow_mo=pause)
            for room in rooms:
                page = browser.new_page(viewport={"width": width, "height": HEIGHT})
                page.goto(address)
                ROOMS[room](page, Camera(page, out))
                page.close()
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    tyro.cli(main)
