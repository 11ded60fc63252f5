"""The pages while something runs: nothing is started twice, ranked half, or lost when the room is left."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from art_project import dataset_and_run, enter, gallery
from conftest import drawn_picture
from starlette.testclient import TestClient

from kyara.app.context import Context
from kyara.files.pictures import encode_png

Server = tuple[str, Path]


@pytest.fixture
def project(server: Server) -> Iterator[Path]:
    """A project with a dataset and a run; the galleries are removed afterwards."""
    _, folder = server
    dataset_and_run(folder)
    yield folder
    shutil.rmtree(folder / "galleries", ignore_errors=True)


def job(**about: Any) -> dict[str, Any]:
    """A running job, as the server describes it."""
    fields = {"title": "a job", "state": "running", "progress": 0.5, "left": "", "error": "", "seconds": 1.0}
    return {"number": 999, "about": about, "results": [], "commands": [], "lines": [], **fields}


def with_jobs(tab: Any, jobs: list[dict[str, Any]]) -> None:
    """The server also tells of these jobs."""

    def answer(route: Any) -> None:
        found = route.fetch().json()
        route.fulfill(json=found | {"jobs": [*found["jobs"], *jobs]})

    tab.route("**/api/project", answer)
    tab.reload()


def test_a_gallery_is_listed_when_it_is_complete(
    client: TestClient, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = client.post("/api/make/new", json={"model": "builtin:anime", "seeds": "61-62"}).json()["rows"]
    listed: list[bool] = []

    def publish(kind: str, **_: Any) -> None:
        if kind in ("export", "project"):
            listed.append(any(one.kind == "gallery" for one in context.project.contents()))

    monkeypatch.setattr(context.events, "publish", publish)
    client.post("/api/make/export", json={"numbers": [row[0] for row in made], "name": "whole"})
    assert listed == [False, False, True]
    monkeypatch.setattr(context.project, "promised", lambda: {"galleries/whole"})  # as by a job
    assert not [one for one in context.project.contents() if one.kind == "gallery"]


def test_export_is_disabled_while_it_runs(tab: Any) -> None:
    tab.fill("#seeds", "5")
    tab.click("#make-new:not([disabled])")
    tab.wait_for_selector("#export:not([disabled])")
    waiting: list[Any] = []
    tab.route("**/api/make/export", lambda route: waiting.append(route))
    tab.click("#export")
    enter(tab, "Look")
    enter(tab, "Make")
    tab.wait_for_selector("#cell-0[aria-selected=true]")
    assert tab.is_disabled("#export") and tab.inner_text("#export") == "Exporting …"
    waiting[0].fulfill(status=400, json={"error": "no"})
    tab.wait_for_selector("#export:not([disabled])")


def test_a_gallery_that_changes_is_read_again(tab: Any, project: Path) -> None:
    gallery(project, "grows", range(3))
    table = project / "galleries/grows/gallery.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[:3]))  # as while it is written in a terminal
    tab.reload()  # to know the gallery, which is shown at once
    enter(tab, "Look")
    tab.wait_for_selector(".bar .count:text-is('2 of 2')")
    tab.click("#cell-1")
    table.write_text("".join(lines))
    tab.wait_for_selector(".bar .count:text-is('3 of 3')")
    assert tab.get_attribute("#cell-1", "aria-selected") == "true"


def test_curves_follow_a_run_that_never_pauses(tab: Any, project: Path) -> None:
    enter(tab, "My art")
    tab.wait_for_selector(".curve")
    running = job(room="art", step="train", out="runs/mine")
    script = """async (job) => {
        const { room } = await import("/art.js"), before = performance.getEntriesByType("resource").length;
        for (let i = 0; i < 10; i++) {
            room.event("job", { job });
            await new Promise((done) => setTimeout(done, 100));
        }
        const asked = performance.getEntriesByType("resource").slice(before);
        return asked.filter((one) => one.name.includes("mine/run")).length;
    }"""
    assert tab.evaluate(script, running) >= 1  # while the events came


@pytest.mark.parametrize(
    ("room", "button", "about"),
    [
        ("My art", "#prepare", {"room": "art", "step": "prepare", "out": "new.zip", "sources": ["art/scenes"]}),
        ("My art", "#prepare-again", {"room": "art", "step": "prepare", "out": "scenes", "sources": ["art/scenes"]}),
        ("Look", "#rank", {"room": "look", "step": "rank", "out": "galleries/rank-one", "path": "galleries/one"}),
    ],
)
def test_a_step_is_not_started_twice(tab: Any, project: Path, room: str, button: str, about: dict[str, Any]) -> None:
    gallery(project, "one")
    jobs = [job(**about)]
    with_jobs(tab, jobs)
    enter(tab, room)
    tab.wait_for_selector(".field .quiet:text-is('a job: running')")
    tab.wait_for_selector(f"{button}[disabled]")
    jobs.clear()
    gallery(project, "two")  # a change: the project is read again, and the job has ended
    tab.wait_for_selector(f"{button}:not([disabled])")


def test_a_photo_is_drawn_once_at_a_time(tab: Any, tmp_path: Path) -> None:
    (tmp_path / "me.png").write_bytes(encode_png(drawn_picture(1, 96)))
    enter(tab, "Me")
    tab.check("#aligned")
    tab.set_input_files("#photo-file", str(tmp_path / "me.png"))
    tab.wait_for_selector("#propose:not([disabled])")
    path = tab.get_attribute(".photo img", "src").partition("path=")[2].replace("%2F", "/")
    tab.route("**/api/me/draw", lambda route: route.fulfill(json={"job": 999, "command": "kyara avatar"}))
    found = tab.evaluate("async () => (await fetch('/api/project')).json()")
    about = {"room": "me", "step": "avatar", "path": path, "out": "galleries/x"}
    tab.route("**/api/project", lambda route: route.fulfill(json=found | {"jobs": [job(**about)]}))
    tab.click("#propose")
    tab.wait_for_selector(".field .quiet:text-is('a job: running')")
    assert tab.is_disabled("#propose") and tab.is_enabled("#cartoon")


@pytest.mark.parametrize(("typed", "known"), [("glad,sad", ["tired"]), ("", ["glad", "sad"])])
def test_questions_that_nobody_answered_are_offered(tab: Any, project: Path, typed: str, known: list[str]) -> None:
    """With the values that were typed, or else with those that the command found in the data."""
    about = {"room": "art", "step": "ask", "out": "scenes", "attribute": "mood", "values": typed}
    result = {"questions": ["x/sheet.png", "x/mood.csv"], "unknown": 1, "values": known}
    with_jobs(tab, [job(**about) | {"state": "done", "results": [result]}])
    tab.route("**/api/mine/questions?path=x%2Fmood.csv", lambda route: route.fulfill(json=["images/1.png"]))
    tab.route("**/api/mine/answers", lambda route: route.fulfill(status=400, json={"error": "no"}))
    enter(tab, "My art")
    tab.click("#answer:text-is('Answer the question about mood')")
    with tab.expect_request("**/api/mine/answers") as request:
        tab.keyboard.press("2")
    assert request.value.post_data_json["answers"] == {"images/1.png": "sad"}


def test_a_question_without_answers_is_not_asked(tab: Any, project: Path) -> None:
    about = {"room": "art", "step": "ask", "out": "scenes", "attribute": "mood", "values": ""}
    result = {"questions": ["x/sheet.png", "x/mood.csv"], "unknown": 1, "values": []}
    with_jobs(tab, [job(**about) | {"state": "done", "results": [result]}])
    tab.route("**/api/mine/questions?path=x%2Fmood.csv", lambda route: route.fulfill(json=["images/1.png"]))
    enter(tab, "My art")
    tab.click("#answer")
    tab.wait_for_selector("#toasts p:has-text('no values of mood yet')")
    assert not tab.locator("dialog.ask").count()
