"""The room My art: where dropped files go, what is ticked, and requests that are refused."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from art_project import dataset
from starlette.testclient import TestClient

from kyara.app.context import Context
from kyara.app.project import Project
from kyara.files.pictures import decode


def post(client: TestClient, step: str, /, **body: Any) -> dict[str, Any]:
    answer = client.post(f"/api/mine/{step}", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_drop_gets_a_folder_of_its_own(client: TestClient, context: Context) -> None:
    first = post(client, "drop", names=["faces/a.png", "faces/more/a.png", "faces/metadata.csv"])
    assert (first["source"], first["left_out"]) == ("art/faces", "")
    assert first["files"] == ["faces/a.png", "faces/more/a.png", "faces/metadata.csv"]
    for path in first["files"]:
        assert client.post("/api/art", params={"name": path}, content=path.encode()).status_code == 200
    again = post(client, "drop", names=["faces/a.png"])
    assert (again["source"], again["files"]) == ("art/faces-2", ["faces-2/a.png"])
    loose = [post(client, "drop", names=names)["source"] for names in (["a.png"], ["a.png"], ["b.png", "faces/a.png"])]
    assert loose == ["art/dropped", "art/dropped-2", "art/dropped-3"]
    assert (context.project.folder / "art/faces/a.png").read_bytes() == b"faces/a.png"


def test_names_that_are_too_long_here_are_shortened(client: TestClient, context: Context) -> None:
    names = [f"long/{'絵' * 90}{i}.png" for i in range(2)] + ["long/a\\b.png", "long/c.png"]
    files = post(client, "drop", names=names)["files"]
    folder = f"a.{'b' * 300}"  # no suffix of a file
    assert len(post(client, "drop", names=[f"{folder}/c.png"])["files"][0].split("/")[0]) < 100
    assert len({*files}) == 4 and files[3] == "long/c.png" and files[2].startswith("long/a-b-")
    for path in files:
        assert client.post("/api/art", params={"name": path}, content=b"x").status_code == 200
    assert len([*(context.project.folder / "art/long").iterdir()]) == 4


def test_a_zip_is_used_by_itself_only(client: TestClient, context: Context) -> None:
    alone = post(client, "drop", names=["scans.zip"])
    another = post(client, "drop", names=["scans.zip"])  # before the first is there
    assert another["source"] == "art/scans-2.zip"
    assert (alone["source"], alone["files"]) == ("art/scans.zip", ["scans.zip"])
    client.post("/api/art", params={"name": "scans.zip"}, content=b"x")
    assert "art/scans.zip" in client.get("/api/mine/sources").json()
    assert post(client, "drop", names=["scans.zip"])["source"] == "art/scans-3.zip"
    inside = post(client, "drop", names=["book/1.png", "book/evil.zip", "book/notes.txt"])
    assert inside["files"] == ["book/1.png", "", ""]
    assert inside["left_out"].startswith("book/evil.zip: not opened. Drop a .zip by itself")
    assert inside["left_out"].endswith("no pictures: 1 (.txt).")
    refused = client.post("/api/mine/drop", json={"names": ["book/evil.zip", "book/notes.txt"]})
    assert refused.status_code == 400 and not (context.project.folder / "art/book-2").exists()
    assert refused.json()["error"].startswith("there is no picture among the dropped files. book/evil.zip: not opened.")


def test_the_name_of_an_upload_that_failed_is_free(
    client: TestClient, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert post(client, "drop", names=["late.zip"])["source"] == "art/late.zip"
    monkeypatch.setattr("kyara.app.routes_project.MAX_STREAM", 0)
    refused = client.post("/api/art", params={"name": "late.zip"}, content=b"x")
    assert refused.status_code == 400 and not (context.project.folder / "art/late.zip").exists()
    assert post(client, "drop", names=["late.zip"])["source"] == "art/late.zip"


def test_a_report_has_the_faces_and_the_nearest_copy_of_a_drawing(client: TestClient, context: Context) -> None:
    dataset(context.project.folder, "scenes")
    report = client.get("/api/mine/report", params={"path": "scenes"}).json()
    scene, _, copied, broken = report["rows"]
    assert [row["kept"] for row in report["rows"]] == [True, True, False, False]
    assert [(face["name"], face["kept"]) for face in scene["faces"]] == [("0.png#1", True), ("0.png#2", False)]
    assert scene["faces"][0]["box"] == [10, 20, 30, 40] and scene["size"] == [96, 96]
    assert (scene["nearest"], scene["distance"], scene["reason"]) == (1, 0.2, "")  # of the face that is most alike
    assert (copied["nearest"], copied["reason"], broken["size"]) == (1, "near copy", None)
    picture = client.get("/api/mine/source", params={"path": "scenes", "i": 1, "side": 64})
    assert decode(picture.content).shape == (64, 64, 3)
    assert client.get("/api/mine/source", params={"path": "scenes", "i": 1, "side": 9999}).status_code == 422
    (context.project.folder / "scenes/report.json").write_text('{"pictures": [{"file": "0.png"}]}')
    damaged = client.get("/api/mine/report", params={"path": "scenes"})
    assert damaged.status_code == 400 and "prepare it again" in damaged.json()["error"]


def test_damaged_files_are_named(client: TestClient, context: Context) -> None:
    dataset(context.project.folder, "broken")
    post(client, "ticks", path="broken", added=["1.png"])
    ticks = next((context.project.folder / ".studio/ticks").glob("broken*"))
    asked = lambda: client.get("/api/mine/report", params={"path": "broken"})  # noqa: E731
    for text in ("", "3", "[[]]"):
        ticks.write_text(text)
        assert asked().status_code == 400 and f"delete .studio/ticks/{ticks.name}" in asked().json()["error"]
    for data in (b"", b"[]", b"\xff", b'{"pictures": [3]}'):
        (context.project.folder / "broken/report.json").write_bytes(data)
        expected = "broken: its report is of another version or damaged; prepare it again"
        assert asked().status_code == 400 and asked().json()["error"] == expected
        refused = client.post("/api/mine/ticks", json={"path": "broken", "added": ["1.png"]})
        assert refused.status_code == 400 and refused.json()["error"] == expected


def test_pictures_are_kept_by_the_version_of_the_report(client: TestClient, context: Context) -> None:
    """After preparing again, a row or a name may be another picture."""
    dataset(context.project.folder, "versions")
    report = context.project.folder / "versions/report.json"
    before = client.get("/api/mine/report", params={"path": "versions"}).json()["version"]
    os.utime(report, (1, 1))
    after = client.get("/api/mine/report", params={"path": "versions"}).json()["version"]
    assert before != after == str(report.stat().st_mtime_ns)
    for step, which in (("source", {"i": 1}), ("picture", {"name": "images/1.png"})):
        for version in ({}, {"version": after}):
            answer = client.get(f"/api/mine/{step}", params={"path": "versions", **which, **version})
            assert answer.status_code == 200 and ("cache-control" in answer.headers) == bool(version)


def test_pictures_that_a_report_does_not_have(client: TestClient, context: Context) -> None:
    dataset(context.project.folder, "few")
    get = lambda i: client.get("/api/mine/source", params={"path": "few", "i": i})  # noqa: E731
    assert get(-1).status_code == 422 and get(4).json()["error"].startswith("few: its report has no picture 4;")
    for text in ('{"sources": ["art/few"], "pictures": []}', "{}", "[]"):
        (context.project.folder / "few/report.json").write_text(text)
        assert get(0).status_code == 400 and "prepare it again" in get(0).json()["error"]


def test_answers_that_wait_are_not_overwritten(client: TestClient, context: Context) -> None:
    """Datasets of the same name have answers of their own, and so has each request."""
    tables = []
    for i, data in enumerate(("kept/mine.zip", "other/mine.zip", "kept/mine.zip")):
        path = context.project.folder / data
        path.parent.mkdir(exist_ok=True)
        path.touch()
        words = context.art.answer(data, "mood", "", {"a.png": str(i)})
        tables.append(context.project.folder / words[-1])
    assert [table.read_text().splitlines()[-1] for table in tables] == ["a.png,0", "a.png,1", "a.png,2"]


def test_ticks_survive(client: TestClient, context: Context) -> None:
    dataset(context.project.folder, "weeded")
    ticked = lambda: client.get("/api/mine/report", params={"path": "weeded"}).json()["ticked"]  # noqa: E731
    assert ticked() == []
    post(client, "ticks", path="weeded", added=["1.png", "0.png#2", "gone.png"])
    assert ticked() == ["1.png", "0.png#2"]  # only what the report has
    report = context.project.folder / "weeded/report.json"
    text = report.read_text()
    report.write_text(text.replace("near copy", "dropped"))
    assert ticked() == ["1.png", "0.png#2"]
    file = next((context.project.folder / ".studio/ticks").glob("weeded*"))
    file.rename(file.with_name("weeded.json"))
    assert ticked() == ["1.png", "0.png#2"]  # of an earlier version
    file.with_name("weeded.json").unlink()
    assert ticked() == ["2.png"]  # those of --drop, as long as nothing was ticked here


def test_two_tabs_tick_together(client: TestClient, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset(context.project.folder, "shared")
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(context.events, "publish", lambda kind, **about: told.append({"kind": kind, **about}))
    post(client, "ticks", path="shared", added=["1.png"], by="one")
    post(client, "ticks", path="shared", added=["2.png"], by="two")
    post(client, "ticks", path="shared", added=["0.png#2"], removed=["1.png"], by="one")
    assert client.get("/api/mine/ticks", params={"path": "shared"}).json() == ["2.png", "0.png#2"]
    about = {"kind": "ticks", "path": "shared"}
    assert [one for one in told if one["kind"] == "ticks"] == [{**about, "by": by} for by in ("one", "two", "one")]


def test_ticks_of_similar_names_are_apart(client: TestClient, context: Context) -> None:
    for name, names in (("my-faces", ["1.png"]), ("my faces", ["0.png#2"])):
        dataset(context.project.folder, name)
        post(client, "ticks", path=name, added=names)
    assert context.art.weeding.ticked("my-faces") == ["1.png"]


@pytest.mark.parametrize("kimg", ["-5", "0", "1e999", '"long"'])
def test_the_length_of_training_is_a_positive_number(client: TestClient, context: Context, kimg: str) -> None:
    before = len(context.jobs.jobs)
    body = f'{{"path": "any", "kimg": {kimg}}}'
    for step in ("train", "forecast", "resume"):
        answer = client.post(f"/api/mine/{step}", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422 and answer.json()["error"].startswith("kimg")
    assert len(context.jobs.jobs) == before


def test_own_runs_are_trained_further(client: TestClient, context: Context) -> None:
    dataset(context.project.folder, "more")
    run = context.project.folder / "runs/mine"
    run.mkdir(parents=True)
    for kimg, text in ((2.5, "2.5"), (25000, "25000"), (1234567, "1234567")):
        started = post(client, "train", path="more", init="runs/mine", kimg=kimg)
        client.post(f"/api/jobs/{started['job']}/cancel", json={})
        options = ["--init", "runs/mine", "--kimg", text, "--out", started["out"]]
        assert shlex.split(started["command"]) == ["kyara", "train", "stylegan2", "more", *options]


def test_a_run_is_continued_with_its_own_settings(client: TestClient, context: Context, tmp_path: Path) -> None:
    """Not with what the page shows, which a reload or new labels change."""
    run = context.project.folder / "runs/older"
    run.mkdir(parents=True)
    refused = client.post("/api/mine/resume", json={"path": "runs/older", "kimg": 9})
    assert refused.status_code == 400 and "command.txt" in refused.json()["error"]
    (run / "command.txt").write_text(
        f"cd {shlex.quote(str(tmp_path))}\n"
        "kyara train dcgan 'my art.zip' --kimg 2 --out elsewhere --init there --seed 4\n"
    )
    (tmp_path / "there").mkdir()
    started = post(client, "resume", path="runs/older", kimg=9)
    client.post(f"/api/jobs/{started['job']}/cancel", json={})
    expected = ["kyara", "train", "dcgan", "my art.zip", "--init", str(tmp_path / "there"), "--seed", "4"]
    assert (
        shlex.split(started["command"]) == [*expected, "--out", "runs/older", "--kimg", "9"]
        and started["out"] == "runs/older"
    )


def test_a_run_goes_on_to_its_own_length(client: TestClient, context: Context) -> None:
    """Unless another one is written: a reload shows the length of the next run."""
    run = context.project.folder / "runs/long"
    run.mkdir(parents=True)
    assert client.get("/api/mine/run", params={"path": "runs/long"}).json()["kimg"] is None
    (run / "command.txt").write_text("cd /\nkyara train stylegan2 a.zip --kimg 3000\n")
    assert client.get("/api/mine/run", params={"path": "runs/long"}).json()["kimg"] == 3000
    started = post(client, "resume", path="runs/long", kimg=None)
    client.post(f"/api/jobs/{started['job']}/cancel", json={})
    assert started["command"] == "kyara train stylegan2 a.zip --kimg 3000 --out runs/long"


def test_only_paths_of_a_command_are_made_absolute(client: TestClient, context: Context, tmp_path: Path) -> None:
    for name in ("train", "stylegan2", "hair", "64", "a.zip", "p.zip"):
        (tmp_path / name).mkdir()
    run = context.project.folder / "runs/words"
    run.mkdir(parents=True)
    options = "--attributes hair --size 64"
    there = shlex.quote(str(tmp_path))
    (run / "command.txt").write_text(f"cd {there}\nkyara train stylegan2 a.zip {options} --init p.zip\n")
    words = context.art.resume("runs/words", None)
    paths = [str(tmp_path / name) for name in ("a.zip", "p.zip")]
    assert words == ["train", "stylegan2", paths[0], *options.split(), "--init", paths[1], "--out", "runs/words"]


def test_scores_of_a_long_run_are_all_shown(client: TestClient, context: Context) -> None:
    """They are lines of their own, which are few."""
    run = context.project.folder / "runs/scored"
    run.mkdir(parents=True)
    rows = [{"nimg": i * 1000, "score/kid" if i % 20 == 19 else "loss/g": float(i)} for i in range(4001)]
    (run / "stats.jsonl").write_text("[]\n3\n{}\n" + "\n".join(map(json.dumps, rows)) + '\n{"nimg": 9')
    curves = client.get("/api/mine/run", params={"path": "runs/scored"}).json()["curves"]
    assert [x for x, _ in curves["score/kid"]] == [*range(19, 4001, 20)]
    assert curves["loss/g"][-1] == [4000, 4000] and 400 <= len(curves["loss/g"]) < 800


def test_runs_are_found_among_many_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("art/mine/anna", "library/anna", "library/berta", "library/clara", "runs/r"):
        (tmp_path / path).mkdir(parents=True)
    for name in ("config.json", "stats.jsonl"):
        (tmp_path / "runs/r" / name).write_text("{}")
    project = Project(tmp_path)
    monkeypatch.setattr("kyara.app.project.MOST", 9)
    assert [one.path for one in project.contents() if one.kind == "checkpoint"] == ["runs/r"]
    assert project.problem() == ""  # pictures in art are not looked at
    monkeypatch.setattr("kyara.app.project.MOST", 7)
    assert [one.path for one in project.contents() if one.kind == "checkpoint"] == ["runs/r"]
    assert "more than 7 folders, so library/berta and the rest were not searched" in project.problem()


def test_results_are_not_offered_as_pictures(client: TestClient, context: Context) -> None:
    folder = context.project.folder
    for name in ("evaluations/a.json", "comparisons/models/1.png", "notes/a.txt", "-old/more/1.png", "drawn/1.jpg"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(b"x")
    sources = client.get("/api/mine/sources").json()
    assert {"-old", "drawn"} <= {*sources} and not {"evaluations", "comparisons", "notes"} & {*sources}
    words, out = context.art.prepare(["-old"], "", "64", [])
    assert words == ["prepare", "./-old", "old.zip", "--size", "64"] and out == "old.zip"


@pytest.mark.parametrize("text", ["rm -rf kyara\nkyara train", "cd /\nkyara rank x", "cd /\n", "cd /\nkyara 'train"])
def test_only_commands_that_train_are_run(client: TestClient, context: Context, text: str) -> None:
    run = context.project.folder / "runs/hostile"
    run.mkdir(parents=True, exist_ok=True)
    (run / "command.txt").write_text(text)
    refused = client.post("/api/mine/resume", json={"path": "runs/hostile", "kimg": 9})
    assert refused.status_code == 400 and "command.txt" in refused.json()["error"]


def test_a_job_of_questions_says_what_it_asks(client: TestClient, context: Context) -> None:
    """So that another tab, or the same after a reload, does not answer for what it did not ask."""
    dataset(context.project.folder, "asked")
    started = post(client, "ask", path="asked", attribute="mood", values="glad,sad")
    client.post(f"/api/jobs/{started['job']}/cancel", json={})
    about = context.jobs.jobs[-1].about
    assert (about["attribute"], about["values"]) == ("mood", "glad,sad")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="file names that are not UTF-8 exist on Linux only")
def test_names_that_are_not_utf_8_are_left_out_and_named(client: TestClient, context: Context) -> None:
    folder, bad = context.project.folder, b"\x93\xfa\x96{"  # as a Japanese archive unpacked with the wrong encoding
    made = [folder / os.fsdecode(name) for name in (b"art/" + bad, bad, bad + b".zip", b"art/" + bad + b".zip")]
    (folder / "art/good").mkdir(parents=True, exist_ok=True)
    for path in made:
        path.touch() if path.suffix else path.mkdir()
    try:
        found = client.get("/api/project")
        assert found.status_code == 200 and "art/good" in [one["path"] for one in found.json()["found"]]
        sources = client.get("/api/mine/sources")
        assert sources.status_code == 200 and "art/good" in sources.json()
        named = "art/\\udc93\\udcfa\\udc96{"
        assert named in context.project.problem() and "Rename them" in context.project.problem()
    finally:
        for path in made:
            path.unlink() if path.suffix else path.rmdir()
    client.get("/api/project")
    assert context.project.problem() == ""


def test_a_config_of_someone_else_cannot_close_the_project(client: TestClient, context: Context) -> None:
    run = context.project.folder / "runs/odd"
    run.mkdir(parents=True)
    (run / "stats.jsonl").touch()
    (run / "config.json").write_text('{"model": "\\ud800", "config": {}}')
    found = client.get("/api/project")
    assert found.status_code == 200 and "\\ud800" in [one["detail"] for one in found.json()["found"]]
