"""The room Rewrite in a browser: examples are what was painted, and stay; late answers are not shown."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from kyara.files.pictures import decode

SEND = "async (job) => (await import('/rewrite.js')).room.event('job', { job })"


@pytest.fixture
def room(tab: Any) -> Any:
    tab.click("nav a:text-is('Rewrite')")
    shown(tab)
    return tab


def shown(tab: Any, part: str = "") -> None:
    """Waits until the picture to paint on is there."""
    script = """(part) => {
        const image = document.querySelector(".painting img");
        return image?.naturalWidth > 1 && image.src.includes(part);
    }"""
    tab.wait_for_function(script, arg=part)


def add(tab: Any, seed: int, count: int) -> None:
    tab.click(f".strip button[aria-label='seed {seed}']")
    tab.locator(".painting").click()
    tab.click("#add-example:not([disabled])")
    tab.wait_for_selector(f"#examples figure:nth-child({count})")


def hold(tab: Any, pattern: str) -> list[Any]:
    """Requests that are not answered yet."""
    held: list[Any] = []
    tab.route(pattern, lambda route: held.append(route))
    return held


def arrived(tab: Any, held: list[Any], count: int) -> None:
    for _ in range(600):
        if len(held) >= count:
            return
        tab.wait_for_timeout(50)
    raise AssertionError("the request never came")


def finished(**about: Any) -> dict[str, Any]:
    fields = {"number": 999, "title": "learn x", "state": "done", "progress": 1, "left": "", "error": ""}
    return fields | {"results": [], "lines": [], "commands": []} | about


def test_an_example_is_what_was_painted_when_it_was_added(room: Any) -> None:
    held = hold(room, "**/api/rewrite/picture?*seed=3&*large=true")
    add(room, 3, 1)  # its picture is still on its way
    room.click(".strip button[aria-label='seed 5']")
    shown(room, "seed=5")
    for route in held:
        route.continue_()
    room.wait_for_function("() => document.querySelector('#examples img').naturalWidth > 1")
    room.route("**/api/rewrite/edit", lambda route: route.fulfill(status=400, json={"error": "no"}))
    with room.expect_request("**/api/rewrite/edit") as request:
        room.click("#learn:not([disabled])")
    (example,) = request.value.post_data_json["examples"]
    assert example["seed"] == 3
    assert (decode(base64.b64decode(example["mask"].partition(",")[2])) > 127).sum() > 10


def test_a_refusal_is_said_below_the_button(room: Any) -> None:
    add(room, 3, 1)
    room.route("**/api/rewrite/edit", lambda route: route.fulfill(status=400, json={"error": "the mask is empty"}))
    room.click("#learn")
    room.wait_for_selector("#why-not:text-is('the mask is empty')")
    failed = finished(about={"room": "rewrite", "out": "runs/x"}, state="failed", error="no memory")
    room.evaluate(SEND, failed)
    room.wait_for_selector("#why-not:text-is('learn x: no memory')")
    room.click("#learn")
    room.wait_for_selector("#why-not:text-is('the mask is empty')")


def test_a_picture_that_was_loading_is_there_when_the_room_is_opened_again(room: Any) -> None:
    held = hold(room, "**/api/rewrite/picture?*seed=7&*large=true")
    add(room, 7, 1)
    room.click("nav a:text-is('Look')")
    room.click("nav a:text-is('Rewrite')")
    for route in held:
        route.continue_()
    shown(room, "seed=7")
    assert room.locator("#examples figure").count() == 1 and room.is_enabled("#add-example")


def test_examples_stay_with_their_generator(room: Any) -> None:
    add(room, 3, 1)
    room.select_option("main select", "builtin:anime")
    room.wait_for_selector("#examples figure", state="detached")
    room.select_option("main select", "builtin:character")
    room.wait_for_selector("#examples figure")


def test_a_rule_is_learned_again_with_one_more_example(room: Any) -> None:
    """From where it was learned, not on top of itself."""
    root = room.evaluate("async () => (await fetch('/api/rewrite/model?name=builtin:character')).json()")["root"]

    def rewritten(route: Any) -> None:
        route.fulfill(json=route.fetch().json() | {"root": root})

    room.route("**/api/rewrite/model?name=builtin%3Aanime", rewritten)  # as if it was rewritten from the other one
    room.route("**/api/rewrite/edit", lambda route: route.fulfill(json={"path": "edits/x.json"}))
    learned = {"job": 999, "out": "builtin:anime", "command": "kyara rewrite"}
    room.route("**/api/rewrite/learn", lambda route: route.fulfill(json=learned))
    add(room, 3, 1)
    room.click("#learn")
    room.wait_for_selector("#learning:not([hidden])")
    room.evaluate(SEND, finished(about={"room": "rewrite", "out": "builtin:anime"}))
    room.wait_for_selector("#again:has-text('from builtin:character')")
    shown(room, "anime")
    add(room, 4, 2)
    with room.expect_request("**/api/rewrite/learn") as request:
        room.click("#learn")
    assert request.value.post_data_json["model"] == "builtin:character"
    for _ in range(2):
        room.click("#examples figure:first-child button")
    assert room.locator("#again").is_hidden()  # without examples, another rule begins by itself
    add(room, 4, 1)
    with room.expect_request("**/api/rewrite/learn") as request:
        room.click("#learn")
    assert request.value.post_data_json["model"] == "builtin:anime"
    room.evaluate(SEND, finished(about={"room": "rewrite", "out": "builtin:anime"}))
    room.click("#another-rule")
    room.wait_for_selector("#examples figure", state="detached")
    add(room, 5, 1)
    with room.expect_request("**/api/rewrite/learn") as request:
        room.click("#learn")
    assert request.value.post_data_json["model"] == "builtin:anime"


def test_late_answers_are_not_shown_and_one_comparison_runs(room: Any) -> None:
    rules = [{"name": "hat", "file": "hat.safetensors", "strength": 1}]
    late: list[Any] = []

    def model(route: Any) -> None:
        late.append(lambda: route.fulfill(json=route.fetch().json() | {"rules": rules}))

    room.route("**/api/rewrite/model?name=builtin%3Aanime", model)
    compared = hold(room, "**/api/rewrite/compare")
    room.select_option("main select", "builtin:anime")
    room.select_option("main select", "builtin:character")
    arrived(room, late, 1)
    with room.expect_response("**/api/rewrite/model?name=builtin%3Aanime"):
        late.pop()()
    room.wait_for_timeout(300)
    assert room.locator(".rule").count() == 0 and room.input_value("main select") == "builtin:character"
    room.select_option("main select", "builtin:anime")
    arrived(room, late, 1)
    late.pop()()
    arrived(room, compared, 1)
    room.wait_for_selector(".rule input")
    for value in ("0.2", "0.4", "0.6"):
        room.locator(".rule input").fill(value)
        room.wait_for_timeout(150)
    assert len(compared) == 1
    pairs = {"before": ["icon.svg"], "after": ["icon.svg"]}
    compared[0].fulfill(json=pairs)
    arrived(room, compared, 2)
    assert compared[1].request.post_data_json["strengths"] == {"hat": 0.6}
    room.select_option("main select", "builtin:character")
    room.wait_for_selector(".rule", state="detached")
    compared[1].fulfill(json=pairs)
    room.wait_for_timeout(200)
    assert room.locator("#compare").is_hidden()


def test_a_starred_picture_is_painted_on_as_the_generator_draws_it(tab: Any) -> None:
    script = """async () => {
        const { api } = await import("/dom.js");
        const made = await api("make/new", { model: "builtin:character", seeds: "6" });
        const turned = await api("make/turn", { number: made.rows[0][0], degrees: 9 });
        await api("make/flag", { numbers: [turned.rows[0][0]], flag: "star", value: true });
        return turned.rows[0][0];
    }"""
    number = tab.evaluate(script)
    tab.click("nav a:text-is('Rewrite')")
    tab.click(f".strip button:has(img[src*='/rewrite/picture?'][src*='number={number}&'])")
    shown(tab, f"number={number}&")
    tab.locator(".painting").click()
    tab.click("#add-example:not([disabled])")
    tab.wait_for_selector("#examples img")


def test_a_wrong_file_is_a_message_and_examples_are_not_lost(room: Any, tmp_path: Path) -> None:
    leaves = "() => dispatchEvent(new Event('beforeunload', { cancelable: true }))"
    (tmp_path / "wrong.safetensors").write_text("no rule")
    room.set_input_files("#rule-file", str(tmp_path / "wrong.safetensors"))
    room.wait_for_selector("#toasts p.error")  # and no error of the page, which the tab would report
    assert room.evaluate(leaves)
    add(room, 3, 1)
    room.click(".strip button[aria-label='seed 5']")
    shown(room, "seed=5")
    assert not room.evaluate(leaves)
    room.click("#examples button")
    room.wait_for_selector("#examples figure", state="detached")
    assert room.evaluate(leaves)
