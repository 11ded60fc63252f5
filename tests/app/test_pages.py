"""Each room in a browser, from click to file on disk."""

from __future__ import annotations

import io
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from serving import served, total, wait

import kyara
from kyara.files.checkpoint import read
from kyara.files.gallery import read_gallery
from kyara.files.pictures import decode

ROOT = Path(__file__).parents[2]
UPSCALER = "builtin:upscaler"
Server = tuple[str, Path]


def pictures(tab: Any) -> int:
    """How many cells of the grid show a picture."""
    script = "() => [...document.querySelectorAll('.cell img')].filter((i) => i.naturalWidth > 1).length"
    return int(tab.evaluate(script))


def grid_sizes(tab: Any) -> list[int]:
    """The widths of the pictures in the grid, in pixels."""
    return list(tab.evaluate("() => [...document.querySelectorAll('.cell img')].map((i) => i.naturalWidth)"))


def enlarged(tab: Any) -> str:
    return str(tab.get_attribute(".panel.right .stage img", "src"))


def test_make(tab: Any, server: Server, tmp_path: Path) -> None:
    _, folder = server
    tab.click("#new-chips fieldset:has-text('hair') button:text-is('pink')")
    tab.fill("#seeds", "5,6,7")
    tab.click("#make-new")
    wait(lambda: pictures(tab) == 3)
    assert wait(lambda: tab.inner_text("#command")) == "kyara generate --seeds 5,6,7 --where hair=pink"
    before = enlarged(tab)
    tab.click("#change fieldset:has-text('hair') button:text-is('blue')")
    wait(lambda: total(tab) == 4 and enlarged(tab) != before)
    tab.keyboard.press("Control+z")
    wait(lambda: total(tab) == 3)
    tab.click("#cell-0")
    tab.keyboard.press("s")
    tab.click("#export")
    tab.wait_for_selector("#toasts p:has-text('galleries/chosen')")
    rows = read_gallery(folder / "galleries/chosen")
    assert [(row["seed"], row["hair"]) for row in rows] == [("7", "pink")]
    options: dict[str, Any] = {"seeds": "7", "where": "hair=pink", "rank": "none", "device": "cpu"}
    kyara.generate(**options, out=tmp_path / "cli")
    exported = decode(folder / "galleries/chosen" / rows[0]["file_name"])
    assert np.array_equal(exported, decode(tmp_path / "cli/seed0007.png"))
    with tab.expect_download() as download:
        tab.click("text=Download")
    download.value.save_as(tmp_path / "mine.png")
    assert np.array_equal(decode(tmp_path / "mine.png"), exported)
    tab.click("#enlarge")
    tab.wait_for_function("() => document.querySelector('dialog.large img')?.naturalWidth === 256")
    tab.keyboard.press("Escape")
    assert tab.is_checked("#large") and grid_sizes(tab) == [256] * 3
    tab.uncheck("#large")
    wait(lambda: grid_sizes(tab) == [128] * 3)
    assert wait(lambda: tab.inner_text("#command").endswith(" --upscale none"))
    with tab.expect_download() as download:
        tab.click("text=Download")
    download.value.save_as(tmp_path / "small.png")
    kyara.generate(**options, upscale="none", out=tmp_path / "small")
    assert np.array_equal(decode(tmp_path / "small.png"), decode(tmp_path / "small/seed0007.png"))


def test_only_pictures_that_the_upscaler_is_made_for_are_enlarged_by_default(tab: Any) -> None:
    tab.wait_for_selector("#make-new:not([disabled])")
    for seed, model in enumerate(("builtin:character", "builtin:anime")):
        count = total(tab) + 1
        tab.select_option("form[aria-label='New pictures'] select >> nth=0", model)
        tab.fill("#seeds", f"{300 + seed}")
        tab.click("#make-new:not([disabled])")
        wait(lambda expected=count: total(tab) == expected)
    wait(lambda: grid_sizes(tab)[:2] == [64, 256])  # the newest first
    assert tab.evaluate("document.querySelector('#large').indeterminate") and not tab.is_checked("#large")
    tab.click("#large")
    wait(lambda: grid_sizes(tab)[:2] == [128, 256])  # clicked, it is for all
    tab.click("nav a:text-is('Look')")
    tab.click("nav a:text-is('Make')")
    wait(lambda: grid_sizes(tab)[:2] == [128, 256])
    assert tab.is_checked("#large")


def test_dragging_mixing_and_walking(tab: Any, server: Server) -> None:
    tab.wait_for_selector("#make-new:not([disabled])")
    count = total(tab) + 2
    tab.fill("#seeds", "20-21")
    tab.click("#make-new")
    wait(lambda: total(tab) == count and "seed 20" in tab.inner_text(".panel.right"))
    tab.click("#drag summary")
    box = tab.locator(".panel.right .stage").bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.8)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] / 2 - 20, box["y"] + box["height"] * 0.76)
    tab.mouse.up()
    tab.click("button:text-is('Move')")
    wait(lambda: total(tab) == count + 1)
    wait(lambda: "dragged" in tab.inner_text("#about-one"))
    tab.click("#cell-1", modifiers=["Control"])
    tab.click("#mix")
    wait(lambda: total(tab) == count + 2)
    wait(lambda: "shape of" in tab.inner_text(".panel.right"))
    tab.click("#cell-1", modifiers=["Control"])
    tab.locator("label:has-text('Pictures') input[type=range]").fill("8")
    tab.click("#walk")
    wait(lambda: total(tab) == count + 10)


def test_two_tabs_agree_and_a_closed_one_loses_nothing(tab: Any, server: Server) -> None:
    other = tab.context.new_page()
    other.goto(tab.url)
    other.fill("#seeds", "60-62")
    other.click("#make-new")
    wait(lambda: "seed 60" in other.inner_text(".panel.right"))
    number = total(other)
    wait(lambda: total(tab) == number)
    other.close()
    tab.reload()
    wait(lambda: total(tab) == number)


def test_25_000_pictures_scroll(tab: Any, server: Server) -> None:
    tab.fill("#count", "25000")
    tab.click("#make-new")
    wait(lambda: total(tab) >= 25_000)
    for share in (0.5, 1.0):
        tab.evaluate("(s) => { const g = document.querySelector('.grid'); g.scrollTop = g.scrollHeight * s; }", share)
        wait(lambda: pictures(tab) >= 8)
    assert tab.evaluate("() => document.querySelectorAll('.cell').length") < 100
    tab.keyboard.press("Control+z")
    wait(lambda: total(tab) < 25_000)


def test_rewrite(tab: Any, server: Server) -> None:
    _, folder = server
    rule = [ROOT / "docs/edits/glasses.json"]
    kyara.rewrite("builtin:anime", rule, steps=4, extra_images=0, out=folder / "runs/ruled", device="cpu")
    tab.click("nav a:text-is('Rewrite')")
    tab.click(".strip button[aria-label='seed 3']")
    tab.set_input_files("#pattern-file", str(ROOT / "docs/edits/glasses-10.png"))
    tab.click("#add-example:not([disabled])")
    tab.wait_for_selector("#examples img")
    tab.click("#take")
    tab.click(".strip button[aria-label='seed 5']")  # another picture, of which a painted part is taken
    tab.wait_for_selector("#add-example[disabled]")  # until something is painted
    box = tab.locator(".painting").bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] / 2 + 60, box["y"] + box["height"] / 2)
    tab.mouse.up()
    tab.click("#add-example:not([disabled])")
    wait(lambda: tab.locator("#examples img").count() == 2)
    assert tab.get_attribute("#rule-name", "placeholder") == "glasses"  # the pattern's file, glasses-10.png
    tab.click("#learn")
    tab.wait_for_selector("#learning:not([hidden]) progress")
    assert (folder / "edits/glasses.json").is_file() and (folder / "edits/glasses-1.png").is_file()
    kyara.generate(seeds="5", rank="none", upscale="none", out=folder / "galleries/five", device="cpu")
    other, mask = (decode(folder / name) for name in ("galleries/five/seed0005.png", "edits/glasses-2-mask.png"))
    taken = np.asarray(Image.open(folder / "edits/glasses-2.png"))
    shown = taken[taken[:, :, 3] > 200][:, :3].mean(0)
    assert np.abs(shown - other[mask[:, :, 0] > 127].mean(0)).max() < 6
    wait(lambda: "kyara rewrite builtin:character edits/glasses.json" in tab.inner_text("#command"))
    tab.click("#jobs-button")
    tab.click("#job-list button:text-is('Cancel')")
    tab.click("#jobs [data-close]")
    wait(lambda: "nothing running" in tab.inner_text("#jobs-label"))
    wait(lambda: tab.locator("main select option[value='runs/ruled']").count())  # made by a command meanwhile
    tab.select_option("main select", "runs/ruled")
    tab.wait_for_selector("#compare .pair")
    after = tab.get_attribute("#compare .pair .after", "src")
    tab.click(".rule button:text-is('on')")
    wait(lambda: tab.get_attribute("#compare .pair .after", "src") != after)
    tab.click("#save-strengths")
    wait(lambda: (folder / "runs/rules/config.json").is_file())
    assert not read(folder / "runs/rules").about["rewritten"]["rules"]


def test_what_is_painted_stays(tab: Any, server: Server) -> None:
    """In both rooms with a brush, also when another room is opened meanwhile. A stroke comes back after undo."""
    painted = "() => document.querySelector('{}').disabled"
    for room, button in (("Rewrite", "#add-example"), ("Fill", "#fill")):
        tab.click(f"nav a:text-is('{room}')")
        tab.wait_for_function("() => document.querySelector('.painting img')?.naturalWidth > 1")
        tab.locator(".painting").click()
        assert not tab.evaluate(painted.format(button))
        tab.click("#undo-stroke")
        assert tab.evaluate(painted.format(button))
        tab.keyboard.press("Tab")
        tab.click("#redo-stroke")
        tab.click("nav a:text-is('Look')")
        tab.click(f"nav a:text-is('{room}')")
        tab.wait_for_selector(f"{button}:not([disabled])")
    tab.click("nav a:text-is('Rewrite')")
    tab.click("#add-example")
    tab.wait_for_selector("#examples img")
    tab.click("nav a:text-is('Look')")
    tab.click("nav a:text-is('Rewrite')")
    tab.wait_for_selector("#examples img")


def test_pictures_are_used_that_the_browser_refuses_to_decode_ahead(tab: Any, server: Server) -> None:
    """Under load, Chromium rejects `decode()` of pictures that it shows."""
    tab.evaluate("() => { HTMLImageElement.prototype.decode = () => Promise.reject(new Error('EncodingError')); }")
    for room, button in (("Rewrite", "#add-example"), ("Fill", "#fill")):
        tab.click(f"nav a:text-is('{room}')")
        tab.wait_for_function("() => document.querySelector('.painting img')?.naturalWidth > 1")
        tab.locator(".painting").click()
        tab.wait_for_selector(f"{button}:not([disabled])")
    tab.click("nav a:text-is('Rewrite')")
    tab.click("#add-example")
    tab.wait_for_selector("#examples img")


def test_a_lost_server_is_said(browser: Any, tmp_path: Path) -> None:
    with served(tmp_path) as (address, process):
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector("#make-new:not([disabled])")
        assert page.locator("#lost").is_hidden()
        process.kill()
        page.wait_for_selector("#lost:not([hidden])")
        page.close()


def test_a_hidden_tab_listens_again(tab: Any) -> None:
    tab.wait_for_selector("#make-new:not([disabled])")
    hide = """(hidden) => {
        Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
    }"""
    tab.evaluate(hide, True)
    other = tab.context.new_page()
    other.goto(tab.url)
    other.fill("#seeds", "70")
    other.click("#make-new")
    wait(lambda: "seed 70" in other.inner_text(".panel.right"))
    number = total(other)
    tab.evaluate(hide, False)
    wait(lambda: total(tab) == number)
    other.close()


def test_my_art(tab: Any, server: Server, tmp_path: Path) -> None:
    _, folder = server
    art = tmp_path / "drawings"
    art.mkdir()
    with zipfile.ZipFile(ROOT / "examples/characters.zip") as archive:
        for name in [name for name in archive.namelist() if name.endswith(".webp")][:12]:
            (art / Path(name).name).write_bytes(archive.read(name))
    tab.click("nav a:text-is('My art')")
    tab.set_input_files("#art-folder", str(art))
    tab.wait_for_selector("#toasts p:has-text('12 of 12')")
    tab.click("#prepare")
    wait(lambda: pictures(tab) == 12)
    tab.click("#cell-2")
    tab.keyboard.press("x")
    tab.click("#prepare-again")
    wait(lambda: "11 of 12 kept" in tab.inner_text(".card .count"))
    with zipfile.ZipFile(folder / "drawings.zip") as archive:
        assert sum(name.startswith("images/") for name in archive.namelist()) == 11
    tab.click("#tag")
    tab.wait_for_selector("progress[aria-label='hair: known']")
    tab.click("#forecast")
    wait(lambda: "for 100 kimg, at" in tab.inner_text("#train-state"))
    assert not (folder / "runs/stylegan2-drawings").exists()


def test_look(tab: Any, server: Server) -> None:
    _, folder = server
    kyara.generate(count=3, rank="none", out=folder / "galleries/three", device="cpu")
    tab.click("nav a:text-is('Look')")
    tab.click(".list button:has-text('three')")
    wait(lambda: pictures(tab) == 3)
    tab.select_option("select[aria-label='What to rank']", "galleries/three")
    tab.click("#rank")
    wait(lambda: (folder / "galleries/rank-three/index.html").is_file())
    wait(lambda: tab.locator(".cell b:has-text('%')").count() == 3)
    wait(lambda: tab.locator(".panel.right td:text-is('eyes, score')").count() == 1)
    tab.dblclick("#cell-0")
    tab.wait_for_selector("dialog.large img")
    before = tab.get_attribute("dialog.large img", "src")
    tab.keyboard.press("ArrowRight")
    wait(lambda: tab.get_attribute("dialog.large img", "src") != before)
    tab.keyboard.press("Escape")
    tab.click("text=Open in Make")
    tab.wait_for_selector("#make-new")


@pytest.mark.parametrize("width", [390, 760, 1280])
@pytest.mark.parametrize("room", ["make", "me", "rewrite", "fill", "art", "look"])
def test_nothing_overflows(tab: Any, width: int, room: str) -> None:
    tab.set_viewport_size({"width": width, "height": 800})
    tab.evaluate("(room) => { location.hash = room; }", room)
    tab.wait_for_selector(f"main.{room} section")
    assert tab.evaluate("() => document.documentElement.scrollWidth") <= width
    assert (
        tab.evaluate("() => document.querySelector('nav').scrollWidth - document.querySelector('nav').clientWidth") <= 0
    )


@pytest.mark.parametrize(("room", "button"), [("Rewrite", "#undo-stroke"), ("Fill", "#fill")])
@pytest.mark.parametrize(("width", "height"), [(760, 900), (900, 700)])
def test_the_picture_and_its_tools_are_in_view(tab: Any, room: str, button: str, width: int, height: int) -> None:
    tab.set_viewport_size({"width": width, "height": height})
    tab.click(f"nav a:text-is('{room}')")
    tab.wait_for_function("() => document.querySelector('.painting img')?.naturalWidth > 1")
    foot = tab.locator("footer").bounding_box()["y"]
    boxes = [tab.locator(one).bounding_box() for one in (".painting", button)]
    assert all(box["y"] + box["height"] <= foot for box in boxes) and boxes[0]["width"] >= 250
    assert tab.evaluate(
        "() => [...document.querySelectorAll('.panel')].every((one) => one.scrollWidth <= one.clientWidth)"
    )


def test_a_page_of_another_site_gets_nothing(server: Server) -> None:
    address, _ = server
    request = urllib.request.Request(
        address.partition("?")[0] + "api/project", headers={"Origin": "http://evil.example"}
    )
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(address.partition("?")[0])


def test_a_hostile_picture_is_a_message(tab: Any) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    script = """async (bytes) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], "<img src=x onerror=alert(1)>.png"));
        document.querySelector("main").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
    }"""
    tab.wait_for_selector("#make-new")
    tab.evaluate(script, list(file.getvalue()))
    assert "<img src=x onerror=alert(1)>.png has no recipe" in tab.wait_for_selector("#find").inner_text()


def test_no_room_is_longer_than_the_window(tab: Any) -> None:
    tab.wait_for_selector("#make-new:not([disabled])")
    if not total(tab):
        tab.click("#make-new")
    wait(lambda: total(tab) > 0)
    sides = "() => [document.scrollingElement.scrollHeight, innerHeight]"
    rooms = {
        "Me": "#propose",
        "Rewrite": ".strip img",
        "Fill": "#fill",
        "My art": "#art-folder",
        "Look": "#search, input[type=search]",
    }
    for room, part in rooms.items():
        tab.click(f"nav a:text-is('{room}')")
        tab.wait_for_selector(part, state="attached")
        tab.wait_for_timeout(300)
        height, window = tab.evaluate(sides)
        assert height <= window, room
    tab.click("nav a:text-is('Make')")
    tab.click("#cell-0")
    tab.wait_for_selector("#change fieldset")
    height, window = tab.evaluate(sides)
    assert height <= window
