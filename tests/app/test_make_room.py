"""The room Make in a browser: keys, selection, search, the clipboard, and what a refusal leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from serving import total, wait

from kyara.files.gallery import read_gallery

Server = tuple[str, Path]


def make(tab: Any, seeds: str) -> None:
    before = total(tab)
    tab.fill("#seeds", seeds)
    tab.click("#make-new:not([disabled])")
    wait(lambda: total(tab) > before and tab.is_enabled("#make-new"))


def stars(tab: Any) -> int:
    return int(tab.evaluate("() => [...document.querySelectorAll('.cell .star')].filter((s) => s.textContent).length"))


CASES = {
    "seed 100": [1],
    "seed=100": [1],
    "100-103": [1, 2],
    "seed 101 - 200": [2],
    "score > 90": [1],
    "score<0.5": [3],
    "hair=red": [1],
    "hair red": [1],
    "red hair": [1],
    "hair length=long": [2, 3],
    "hair_length=long": [2, 3],
    "long hair": [2, 3],
    "red": [1, 2],
    "red eyes, long hair": [2],
    "semi-long": [1],
    "hair=色": [3],
    "dark red eyes": [],
    "walk": [3],
    "picture 3": [3],
    "hair=": [1, 2, 3],
    "": [1, 2, 3],
}
ITEMS = [
    {"number": 1, "seed": 100, "score": 0.95, "labels": {"hair": "red", "hair_length": "semi-long", "eyes": "blue"}},
    {"number": 2, "seed": 102, "score": None, "labels": {"hair": "blue", "hair_length": "long", "eyes": "red"}},
    {"number": 3, "seed": "", "score": 0.4, "labels": {"hair": "色", "hair_length": "long"}, "origin": "walk 1 of 2"},
]


def test_the_search_understands_the_words_of_the_page(tab: Any) -> None:
    script = """async ([cases, given]) => {
        const { search } = await import("/search.js"), labels = new Map();
        const items = given.map((item) => ({ origin: "new", model: "builtin:character", ...item }));
        for (const item of items) for (const [name, value] of Object.entries(item.labels)) {
            labels.set(name, (labels.get(name) || new Set()).add(value));
        }
        return cases.map((text) => items.filter(search(text, labels)).map((item) => item.number));
    }"""
    assert dict(zip(CASES, tab.evaluate(script, [[*CASES], ITEMS]), strict=True)) == CASES


def test_seed_0_comes_first(tab: Any) -> None:
    script = """async (seeds) => {
        const { sort } = await import("/search.js");
        return sort(seeds.map((seed) => ({ seed })), "seed").map((item) => item.seed);
    }"""
    assert tab.evaluate(script, ["", 7, "3–9", 0, 5]) == [0, 5, 7, "", "3–9"]


def test_the_selection_is_exported_and_a_walk_is_an_animation(tab: Any, server: Server) -> None:
    _, folder = server
    make(tab, "1-3")
    tab.click("#cell-0")
    tab.keyboard.press("s")
    tab.click("#cell-1")
    assert tab.inner_text("#export") == "Export 1 selected"
    tab.click("#export")
    tab.wait_for_selector("#toasts p:has-text('galleries/chosen,')")
    assert [row["seed"] for row in read_gallery(folder / "galleries/chosen")] == ["2"]
    tab.keyboard.press("Escape")
    assert tab.inner_text("#export") == "Export 1 starred"
    tab.click("#cell-1")
    tab.click("#cell-2", modifiers=["Control"])
    tab.locator("label:has-text('Pictures') input[type=range]").fill("8")
    tab.click("#walk")
    wait(lambda: tab.inner_text("#export") == "Export 8 selected")
    tab.click("#export:not([disabled])")
    tab.wait_for_selector("#toasts p:has-text('galleries/chosen-2')")
    assert (folder / "galleries/chosen-2/walk.webp").is_file()


def test_keys_work_after_a_click_on_the_right_and_nothing_is_folded(tab: Any) -> None:
    make(tab, "11-12")
    tab.click("#drag summary")
    box = tab.locator(".panel.right .stage").bounding_box()
    tab.mouse.click(box["x"] + 50, box["y"] + 50)
    assert tab.locator(".stage svg .handle").count() == 1
    before = stars(tab)
    tab.click("#flag-star")
    wait(lambda: stars(tab) == before + 1 and tab.get_attribute("#flag-star", "aria-pressed") == "true")
    assert tab.locator(".stage svg .handle").count() == 1  # the point is still there
    tab.locator("label:has-text('How different') input").fill("0.8")
    number = total(tab)
    tab.locator("label:has-text('How different') input").focus()
    tab.keyboard.press("Control+z")  # the slider has no text to undo
    wait(lambda: stars(tab) == before)
    tab.dblclick("#vary")  # once, not twice
    wait(lambda: total(tab) == number + 8)
    assert tab.input_value("label:has-text('How different') input") == "0.8"
    assert tab.get_attribute("#drag", "open") is not None
    tab.keyboard.press("s")
    wait(lambda: stars(tab) == before + 1)
    tab.keyboard.press("ArrowRight")  # from the first of the eight, the last of them in the grid
    assert tab.get_attribute("#cell-8", "aria-selected") == "true" and total(tab) == number + 8


def test_the_head_is_turned_with_a_preview(tab: Any) -> None:
    make(tab, "40")
    slider, image = tab.get_by_label("Turn of the head"), tab.locator(".panel.right .stage img")
    drawn, before = image.get_attribute("src"), total(tab)
    assert tab.is_disabled("#turn")
    slider.focus()
    for _ in range(3):
        tab.keyboard.press("ArrowLeft")
    wait(lambda: (image.get_attribute("src") or "").startswith("data:image/webp"))
    tab.click("#turn:not([disabled])")
    wait(lambda: total(tab) == before + 1)
    wait(lambda: "turned 3° to the left" in tab.inner_text("#about-one"))
    assert slider.input_value() == "-3" and tab.locator("#drag").count() == 0
    assert image.get_attribute("src") not in (drawn, None)
    slider.focus()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowLeft")  # back: nothing to keep
    assert tab.is_disabled("#turn")


def test_a_star_that_is_refused_is_taken_back(tab: Any) -> None:
    make(tab, "21")
    before = stars(tab)
    tab.route("**/api/make/flag", lambda route: route.fulfill(status=400, json={"error": "the disk is full"}))
    tab.keyboard.press("s")
    tab.wait_for_selector("#toasts p.error:has-text('the disk is full')")
    wait(lambda: stars(tab) == before)


def test_large_view(tab: Any) -> None:
    make(tab, "31-33")
    tab.dblclick("#cell-0")
    image = tab.wait_for_selector("dialog.large img")
    wait(lambda: image.evaluate("(i) => i.style.width !== ''"))
    wide, multiple = image.evaluate("(i) => [i.clientWidth, i.clientWidth / i.naturalWidth]")
    assert multiple == int(multiple) and wide > 500
    first = image.get_attribute("src")
    tab.keyboard.press("ArrowRight")
    wait(lambda: tab.get_attribute("dialog.large img", "src") != first)
    tab.keyboard.press("Escape")
    wait(lambda: tab.locator("dialog.large").count() == 0)
    assert tab.get_attribute("#cell-1", "aria-selected") == "true"
    tab.click("#cell-2", modifiers=["Control"])
    tab.click("#enlarge")
    wait(lambda: tab.locator("dialog.large img").count() == 2)


def test_copied_pictures_keep_their_recipes(tab: Any) -> None:
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    make(tab, "41")
    number = total(tab)
    tab.click("#copy")
    tab.wait_for_selector("#toasts p:has-text('seed 41 is copied')")
    tab.keyboard.press("Control+v")
    wait(lambda: total(tab) == number + 1)
    assert "seed 41" in tab.inner_text("#about-one")


def test_a_picture_without_recipe_can_be_searched(tab: Any, tmp_path: Path) -> None:
    mine = tmp_path / "mine.png"
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(mine)
    tab.wait_for_selector("#make-new:not([disabled])")
    tab.set_input_files("#load-file", str(mine))
    tab.select_option("#find select", "builtin:anime")
    tab.click("#find-it")
    wait(
        lambda: (
            tab.inner_text("#command")
            == "kyara invert builtin:anime .studio/uploads/mine.png --out galleries/found-mine"
        )
    )
    wait(lambda: "find mine" in tab.inner_text("#jobs-label"))
    tab.click("#jobs-button")
    tab.click("#job-list button:text-is('Cancel')")


def test_without_a_number_the_browser_asks_for_it(tab: Any) -> None:
    tab.wait_for_selector("#make-new:not([disabled])")
    tab.fill("#count", "")
    tab.click("#make-new")
    assert tab.evaluate("() => document.activeElement.id") == "count"
    tab.fill("#seeds", "3")
    assert tab.evaluate("() => document.querySelector('#count').checkValidity()")


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_hides_behind_the_button(tab: Any, width: int) -> None:
    tab.set_viewport_size({"width": width, "height": 800})
    tab.wait_for_selector("#make-new:not([disabled])")
    boxes = [tab.locator(name).bounding_box() for name in ("#count", "#make-new")]
    assert boxes[0]["y"] + boxes[0]["height"] <= boxes[1]["y"]


def test_what_was_chosen_stays_when_the_room_is_left(tab: Any) -> None:
    tab.fill("#count", "9")
    make(tab, "941-943")
    tab.fill(".bar input[type=search]", "seed 941-943")
    tab.select_option(".bar select[aria-label=Order]", "seed")
    tab.locator(".panel.left input[type=range]").fill("0.5")
    tab.select_option("#model", "builtin:anime")
    tab.click("#cell-1")
    tab.click("nav a:text-is('Look')")
    tab.click("nav a:text-is('Make')")
    tab.wait_for_selector("#cell-1[aria-selected=true]")
    assert tab.input_value("#count") == "9" and tab.input_value("#seeds") == "941-943"
    assert tab.input_value(".bar input[type=search]") == "seed 941-943"
    tab.wait_for_function("document.querySelectorAll('.grid .cell').length === 3")
    assert tab.input_value(".bar select[aria-label=Order]") == "seed"
    assert tab.input_value(".panel.left input[type=range]") == "0.5"
    assert tab.input_value("#model") == "builtin:anime"


def test_seeds_say_how_many(tab: Any) -> None:
    tab.fill("#count", "30000")
    make(tab, "7")  # not refused by the browser
    assert tab.is_disabled("#count")
    tab.fill("#seeds", "")
    assert tab.is_enabled("#count")


def test_a_file_that_is_read_is_named(tab: Any, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "large.png")
    held: list[Any] = []
    tab.route("**/api/make/drop*", lambda route: held.append(route))
    tab.set_input_files("#load-file", str(tmp_path / "large.png"))
    tab.wait_for_selector("#reading:text-is('Reading large.png…')")
    assert tab.is_disabled("#load-file")
    wait(lambda: tab.wait_for_timeout(20) or held)
    held[0].fulfill(status=400, json={"error": "no"})
    tab.wait_for_selector("#load-file:not([disabled])", state="attached")
    assert not tab.inner_text("#reading")


def test_the_end_of_a_search_is_said_in_other_rooms(tab: Any) -> None:
    tab.click("nav a:text-is('Look')")
    job = {"number": 999, "title": "find me", "state": "done", "about": {"room": "make", "step": "find"}}
    tab.evaluate("async (job) => (await import('/make.js')).room.event('job', { job })", job)
    tab.wait_for_selector("#toasts p:has-text('find me: done, see the room Make.')")
