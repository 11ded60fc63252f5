"""The rooms My art, Look and Me in a browser: what is kept, what is disabled, where things are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from art_project import dataset, dataset_and_run, enter, gallery
from conftest import drawn_picture

from kyara.files.pictures import encode_png

Server = tuple[str, Path]


@pytest.fixture
def project(server: Server) -> Iterator[Path]:
    """A project with a dataset and a run; the galleries are removed afterwards."""
    _, folder = server
    dataset_and_run(folder)
    yield folder
    shutil.rmtree(folder / "galleries", ignore_errors=True)


def texts(tab: Any, selector: str) -> list[str]:
    found: list[str] = tab.eval_on_selector_all(selector, "(all) => all.map((one) => one.textContent)")
    return found


@pytest.mark.parametrize("end", ["Stop and use the answers", "Discard"])
def test_esc_asks_what_becomes_of_the_answers(tab: Any, end: str) -> None:
    script = """async () => {
        const { ask } = await import("/questions.js");
        window.given = [];
        const done = (answers) => window.given.push(answers), picture = () => "icon.svg";
        ask({ title: "mood", values: ["glad", "sad"], names: ["a", "b", "c"], picture, done });
    }"""
    tab.evaluate(script)
    tab.keyboard.down("2")
    tab.keyboard.down("2")  # it is held, which answers nothing more
    tab.keyboard.up("2")
    tab.keyboard.press("?")
    for _ in range(2):
        tab.keyboard.press("Escape")
    tab.wait_for_selector("dialog.ask p:has-text('or discard them?')")
    tab.click(f"dialog.ask button:text-is('{end}')")
    tab.wait_for_selector("dialog.ask", state="detached")
    assert tab.evaluate("() => window.given") == [{} if end == "Discard" else {"a": "sad", "b": "?"}]
    tab.evaluate(script)
    tab.keyboard.press("Escape")  # nothing was answered
    tab.wait_for_selector("dialog.ask", state="detached")


def test_a_damaged_report_is_said(tab: Any, project: Path) -> None:
    dataset(project, "aa-damaged")
    (project / "aa-damaged/report.json").write_text("")
    sentence = "#no-report:text-is('aa-damaged: its report is of another version or damaged; prepare it again')"
    try:
        tab.reload()
        enter(tab, "My art")  # which opens the first dataset
        tab.wait_for_selector(sentence)
        tab.select_option("select[aria-label='Dataset']", "scenes")
        tab.wait_for_selector(".weed .cell")
        assert tab.is_hidden("#no-report")
        tab.reload()
        tab.wait_for_selector(".weed .cell")  # the same one
        tab.select_option("select[aria-label='Dataset']", "aa-damaged")
        tab.wait_for_selector(sentence)
        assert not tab.is_visible(".weed .cell") and not tab.is_visible(".label")
        assert tab.is_disabled("#prepare-again")
    finally:
        shutil.rmtree(project / "aa-damaged")
        shutil.rmtree(project / "art/aa-damaged")


def test_two_tabs_tick_the_same_dataset(tab: Any, project: Path) -> None:
    dataset(project, "two-tabs")
    try:
        other = tab.context.new_page()
        other.goto(tab.url.partition("#")[0])
        for one in (tab, other):
            enter(one, "My art")
            one.wait_for_selector("option[value='two-tabs']", state="attached")
            one.select_option("select[aria-label='Dataset']", "two-tabs")
            one.wait_for_selector("[role=status]:has-text('2 of 4 kept, 0 ticked')")
        for one, cell in ((tab, 1), (other, 2)):
            one.click(f"#cell-{cell}")
            one.keyboard.press("x")
        for one in (tab, other):
            one.wait_for_selector("[role=status]:has-text('2 ticked')")
        other.click("#undo-tick")  # its own
        for one in (tab, other):
            one.wait_for_selector("[role=status]:has-text('1 ticked')")
        assert "leave out" in tab.inner_text("#cell-1") and "leave out" not in tab.inner_text("#cell-2")
    finally:
        shutil.rmtree(project / "two-tabs")
        shutil.rmtree(project / "art/two-tabs")


def test_folders_do_not_hide_the_names_of_pictures(tab: Any, project: Path) -> None:
    enter(tab, "My art")
    tab.wait_for_selector(".weed .cell")

    def deeper(route: Any) -> None:
        found = route.fetch().json()
        route.fulfill(json=found | {"rows": [row | {"file": f"images/00/{row['file']}"} for row in found["rows"]]})

    tab.route("**/api/mine/report*", deeper)
    tab.dispatch_event("label:has-text('Dataset') select", "change")
    tab.wait_for_selector("#cell-1[title^='images/00/1.png']")
    assert tab.locator("#cell-1 .caption span").inner_text() == "1.png"


def test_a_zip_can_be_chosen(tab: Any, project: Path, tmp_path: Path) -> None:
    (tmp_path / "scans.zip").write_bytes(b"x")
    enter(tab, "My art")
    tab.set_input_files("#art-files", [tmp_path / "scans.zip"])
    tab.wait_for_selector("#toasts p:has-text('1 of 1 files were copied to art/scans.zip')")
    (project / "art/scans.zip").unlink()


def test_what_is_prepared_first_is_said(tab: Any, server: Server) -> None:
    about = {"room": "art", "step": "prepare", "out": "new.zip", "sources": ["art/new"]}
    fields = {"title": "a job", "state": "running", "progress": 0.5, "left": "", "error": "", "seconds": 1.0}
    job = {"number": 999, "about": about, "results": [], "commands": [], "lines": [], **fields}
    tab.route("**/api/project", lambda route: route.fulfill(json=route.fetch().json() | {"found": [], "jobs": [job]}))
    tab.route("**/api/mine/sources", lambda route: route.fulfill(json=["art/new"]))
    tab.reload()
    enter(tab, "My art")
    tab.wait_for_selector(".drop-here:has-text('The pictures are being prepared.')")


def test_curves_and_ticks_are_there_after_a_reload(tab: Any, project: Path) -> None:
    enter(tab, "My art")
    tab.wait_for_selector(".curve")
    tab.click("#cell-0")
    assert tab.locator("#weed-one .face").count() == 2
    assert "difference 0.20" in tab.inner_text("#weed-one")  # beside it is what is most like it
    written = (project / "scenes/report.json").stat().st_mtime_ns
    assert tab.locator(f"#weed-one img[src*='&version={written}']").count() == 2
    tab.click("#weed-one .face >> nth=1")
    tab.click("#cell-1")
    tab.keyboard.press("x")
    tab.wait_for_selector("[role=status]:has-text('2 of 4 kept, 2 ticked')")
    tab.reload()
    tab.wait_for_selector("[role=status]:has-text('2 of 4 kept, 2 ticked')")
    tab.wait_for_selector(".curve")
    assert texts(tab, ".curve b")[0] == "Fréchet distance to real pictures (lower is better)"
    assert tab.locator("#train-init option[value='runs/mine']").count() == 1
    tab.click("#cell-2")
    tab.keyboard.press("x")
    tab.wait_for_selector("[role=status]:has-text('3 ticked')")
    tab.keyboard.press("Control+z")
    tab.wait_for_selector("[role=status]:has-text('2 ticked')")
    with tab.expect_response("**/api/mine/ticks"):
        tab.keyboard.press("x")
        tab.click("#undo-tick")


def test_ticks_stay_if_the_report_was_read_before_they_were_saved(tab: Any, project: Path) -> None:
    """As when a job ends while somebody ticks, on a slow machine."""
    enter(tab, "My art")
    tab.wait_for_selector(".curve")
    held: list[Any] = []
    tab.route("**/api/mine/report*", lambda route: held.append((route, route.fetch())))
    with tab.expect_response("**/api/mine/labels*"):
        tab.dispatch_event("label:has-text('Dataset') select", "change")
    before = tab.inner_text(".card .count")
    tab.click("#cell-0")
    with tab.expect_response("**/api/mine/ticks"):
        tab.keyboard.press("x")
    ticked = tab.inner_text(".card .count")
    assert ticked != before
    with tab.expect_response("**/api/mine/report*"):
        held[0][0].fulfill(response=held[0][1])
    tab.wait_for_timeout(300)
    assert tab.inner_text(".card .count") == ticked


def test_a_run_goes_on_as_it_began(tab: Any, project: Path) -> None:
    """Whatever the page shows as attributes and as the start: they are of the next run."""
    (project / "runs/mine/command.txt").write_text("cd /\nkyara train stylegan2 weeded --kimg 3 --seed 4\n")
    enter(tab, "My art")
    tab.wait_for_selector(".curve")
    with tab.expect_response("**/api/mine/resume") as answer:
        tab.click("#resume")
    started = answer.value.json()
    tab.evaluate("(job) => fetch(`/api/jobs/${job}/cancel`, { method: 'POST', body: '{}' })", started["job"])
    assert started["command"] == "kyara train stylegan2 weeded --kimg 3 --seed 4 --out runs/mine"
    tab.fill("#kimg", "0")
    tab.click("#resume")
    tab.wait_for_selector("#toasts p:has-text('give a number above 0')")
    tab.fill("#kimg", "7")
    with tab.expect_response("**/api/mine/resume") as answer:
        tab.click("#resume")
    started = answer.value.json()
    tab.evaluate("(job) => fetch(`/api/jobs/${job}/cancel`, { method: 'POST', body: '{}' })", started["job"])
    assert started["command"] == "kyara train stylegan2 weeded --seed 4 --out runs/mine --kimg 7"


def test_questions_of_another_tab_say_nothing_here(tab: Any, project: Path) -> None:
    enter(tab, "My art")
    tab.wait_for_selector(".weed .cell")
    about = {"room": "art", "step": "ask", "out": "scenes", "attribute": "mood", "values": "glad,sad"}
    job = {"number": 999, "state": "done", "about": about, "results": [{"unknown": 0}], "lines": [], "left": ""}
    send = "async (job) => (await import('/art.js')).room.event('job', { job })"
    with tab.expect_response("**/api/mine/labels*"):  # its labels are read anew
        tab.evaluate(send, job)
    assert tab.locator("#toasts p").count() == 0


def test_the_steps_of_my_art_are_in_order(tab: Any, project: Path) -> None:
    tab.set_viewport_size({"width": 390, "height": 844})
    enter(tab, "My art")
    tab.wait_for_selector("h2:text-is('4. Train')")
    headings = tab.locator(".cards h2")
    assert texts(tab, ".cards h2") == ["1. Pictures", "2. Weed", "3. Label", "4. Train"]
    tops = [headings.nth(i).bounding_box()["y"] for i in range(4)]
    assert tops == sorted(tops)


def test_a_double_click_starts_one_job(tab: Any, project: Path) -> None:
    enter(tab, "My art")
    tab.wait_for_selector("#prepare:not([disabled])")
    waiting: list[Any] = []
    tab.route("**/api/mine/prepare", lambda route: waiting.append(route))
    tab.dblclick("#prepare")
    tab.wait_for_selector("#prepare[disabled]")
    assert len(waiting) == 1
    waiting[0].fulfill(status=400, json={"error": "no"})
    tab.wait_for_selector("#prepare:not([disabled])")


def test_an_answer_that_comes_late_is_not_shown(tab: Any, project: Path) -> None:
    asked: list[Any] = []
    tab.route("**/api/mine/sources", lambda route: asked.append(route) if len(asked) < 2 else route.continue_())
    enter(tab, "My art")
    another = project / "art/another"
    another.mkdir()
    (another / "1.png").write_bytes(encode_png(drawn_picture(1, 96)))
    try:
        for _ in range(1200):
            if len(asked) == 2:  # asked again when the project changed
                break
            tab.wait_for_timeout(50)
        assert len(asked) == 2
        asked[1].fulfill(json=["art/another"])
        tab.wait_for_selector("#prepare:not([disabled])")
        with tab.expect_response("**/api/mine/sources"):
            asked[0].fulfill(json=[])
        tab.wait_for_timeout(200)
        assert tab.locator("#prepare:not([disabled])").count() == 1
    finally:
        shutil.rmtree(another)


def test_a_refused_drop_is_one_message(tab: Any, project: Path, tmp_path: Path) -> None:
    for i in range(30):
        (tmp_path / f"{i:02d}.png").write_bytes(b"x")
    enter(tab, "My art")
    sent: list[Any] = []

    def refuse(route: Any) -> None:
        sent.append(route)
        route.fulfill(status=400, json={"error": "uploads already take 4 GiB"})

    tab.route("**/api/art?*", refuse)
    tab.set_input_files("#art-folder", str(tmp_path))
    message = tab.wait_for_selector("#toasts p.error").inner_text()
    assert message.startswith("0 of 30 files were copied") and "uploads already take 4 GiB" in message
    assert tab.locator("#toasts p").count() == 1 and len(sent) == 10  # then it gives up


def test_texts_of_selects_are_not_cut(tab: Any, project: Path) -> None:
    tab.set_viewport_size({"width": 1024, "height": 800})
    enter(tab, "Look")
    script = """() => {
        const select = [...document.querySelectorAll("select")].find((one) => one.options[0]?.text.startsWith("known"));
        const style = getComputedStyle(select), context = document.createElement("canvas").getContext("2d");
        context.font = style.font;
        const room = select.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
        return room - context.measureText(select.options[0].text).width;
    }"""
    tab.wait_for_selector("option:text-is('known drawing styles')", state="attached")
    assert tab.evaluate(script) > 0


def test_a_deleted_gallery_is_no_longer_shown(tab: Any, project: Path) -> None:
    gallery(project, "one")
    enter(tab, "Look")
    tab.click(".list button:has-text('one')")
    tab.wait_for_selector("main.look .cell")
    assert not tab.inner_text("#command")  # nothing was run
    tab.locator("select[multiple]").select_option(["builtin:character", "builtin:anime"])
    shutil.rmtree(project / "galleries/one")
    gallery(project, "two")  # a change that is noticed, however soon it follows the last look at the folder
    tab.wait_for_selector("main.look .cell", state="detached")
    tab.wait_for_selector(".empty:has-text('Choose a gallery on the left')")
    assert tab.eval_on_selector("select[multiple]", "(one) => one.selectedOptions.length") == 2
    enter(tab, "Make")
    enter(tab, "Look")
    tab.wait_for_selector(".list button[aria-pressed=true]:has-text('two')")
    assert tab.locator("#toasts p").count() == 0


def test_results_stay(tab: Any, project: Path) -> None:
    score = {"name": "kid", "what": "distance", "value": 0.5, "better": "lower"}
    (project / "scores.json").write_text(
        json.dumps({"kyara": "1", "a": {"path": "mine", "count": 8}, "scores": [score]})
    )
    enter(tab, "Look")
    tab.click("#results summary:has-text('mine, 8 pictures')")
    for room in ("Make", "Look"):
        enter(tab, room)
    tab.wait_for_selector("#results details[open] td:has-text('distance (lower is better)')")


def test_nothing_can_be_started_without_pictures(tab: Any, server: Server) -> None:
    tab.route("**/api/project", lambda route: route.fulfill(json=route.fetch().json() | {"found": []}))
    tab.route("**/api/mine/sources", lambda route: route.fulfill(json=[]))
    tab.reload()
    enter(tab, "My art")
    tab.wait_for_selector(".drop-here:has-text('Drop a folder of drawings')")
    assert tab.is_disabled("#prepare") and "no pictures yet" in tab.inner_text("main.art")
    enter(tab, "Look")
    tab.wait_for_selector("#rank[disabled]")
    assert tab.is_disabled("#evaluate") and "no dataset yet" in tab.inner_text("main.look")


def test_a_reload_keeps_the_photo(tab: Any, server: Server) -> None:
    _, folder = server
    (folder / ".studio/uploads").mkdir(parents=True, exist_ok=True)
    (folder / ".studio/uploads/again.png").write_bytes(encode_png(drawn_picture(1, 96)))
    job = {"number": 999, "title": "a job", "state": "failed", "error": "no memory", "progress": None, "left": ""}
    job |= {"about": {"room": "me", "step": "avatar", "path": ".studio/uploads/again.png", "out": "x"}}
    job |= {"results": [], "commands": [], "lines": [], "seconds": 1.0}
    tab.route("**/api/project", lambda route: route.fulfill(json=route.fetch().json() | {"jobs": [job]}))
    tab.reload()
    enter(tab, "Me")
    tab.wait_for_selector(".photo img[src*='again.png'][width='96']")
    tab.wait_for_selector(".panel.right .error-text:text-is('no memory')")


@pytest.mark.parametrize("width", [390, 1280])
def test_draw_characters_is_in_view(tab: Any, width: int, tmp_path: Path) -> None:
    (tmp_path / "me.png").write_bytes(encode_png(drawn_picture(1, 96)))
    tab.set_viewport_size({"width": width, "height": 800})
    enter(tab, "Me")
    tab.wait_for_selector("#me-chips fieldset")
    tab.select_option("#draw-by", "photo")
    tab.locator("#stays").fill("4")
    assert "much" in tab.inner_text("label:has(#stays)")
    box = tab.locator("#propose").bounding_box()
    assert box["y"] + box["height"] < tab.locator("footer").bounding_box()["y"]
    tab.check("#aligned")
    tab.set_input_files("#photo-file", str(tmp_path / "me.png"))
    tab.route("**/api/me/draw", lambda route: route.fulfill(status=400, json={"error": "no"}))
    with tab.expect_request("**/api/me/draw") as request:
        tab.click("#propose:not([disabled])")
    assert request.value.post_data_json["stays"] == 4
