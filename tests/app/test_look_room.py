"""The room Look: the original of a copy, and only from the project."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from conftest import drawn_picture
from starlette.testclient import TestClient

from kyara.app.context import Context
from kyara.curation.rank import rank
from kyara.files.pictures import decode, encode_png


def test_a_copy_is_shown_beside_its_original(
    client: TestClient, context: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = context.project.folder
    for name, seeds in {"data": range(4), "mine": [2]}.items():
        (folder / name).mkdir()
        for seed in seeds:
            (folder / name / f"{seed}.png").write_bytes(encode_png(drawn_picture(seed, 96)))
    monkeypatch.setenv("KYARA_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(folder)
    asked = client.post("/api/look/rank", json={"path": "mine", "copies_of": "data"}).json()
    assert asked["command"].endswith("--copies-of data")
    rank(Path("mine"), by="quality", copies_of=Path("data"), out=Path("ranked"))
    (row,) = client.get("/api/gallery", params={"path": "ranked"}).json()["rows"]
    shown = client.get("/api/look/original", params={"path": "ranked", "name": row["copy_of"]})
    assert row["copy_of"] == "2.png" and shown.status_code == 200
    assert np.abs(decode(shown.content).astype(int) - drawn_picture(2, 96)).max() < 40  # WebP loses a little

    def refused(path: str, name: str) -> str:
        answer = client.get("/api/look/original", params={"path": path, "name": name})
        assert answer.status_code == 400
        return str(answer.json()["error"])

    assert "has no picture ../2.png" in refused("ranked", "../2.png")
    report = folder / "ranked" / "report.json"
    for text, reason in (
        (json.dumps({"copies_of": str(tmp_path)}), "project"),
        ("{}", "without a search"),
        ("[", "without"),
    ):
        report.write_text(text)
        assert reason in refused("ranked", "2.png")


def test_comparisons_and_evaluations_are_listed(client: TestClient, context: Context, tmp_path: Path) -> None:
    folder = context.project.folder
    score = {"name": "kid", "what": "distance", "value": 0.5, "better": "lower"}
    evaluation = {"kyara": "1", "a": {"path": "builtin:anime", "count": 1}, "scores": [score]}
    (folder / "comparisons/two").mkdir(parents=True)
    (folder / "comparisons/two/comparison.json").write_text(json.dumps({"models": [{"name": "a"}, {"name": "b"}]}))
    (folder / "evaluations").mkdir()
    (folder / "evaluations/anime.json").write_text(json.dumps(evaluation))
    (folder / "mine.json").write_text(json.dumps(evaluation | {"scores": [score | {"value": None}]}))
    for name, text in {"other": "[1]", "broken": "{", "deep": "[" * 100_000, "half": '{"a": 1}'}.items():
        (folder / f"{name}.json").write_text(text)
    outside = tmp_path / "secret.json"
    outside.write_text(json.dumps(evaluation))
    (folder / "link.json").symlink_to(outside)
    found = {one["path"]: one for one in client.get("/api/look/results").json()}
    assert set(found) == {"comparisons/two/comparison.json", "evaluations/anime.json", "mine.json"}
    first = found["comparisons/two/comparison.json"]
    assert (first["title"], first["page"]) == ("a and b", "comparisons/two/index.html")
    assert found["evaluations/anime.json"]["title"] == "builtin:anime, 1 picture"
    assert found["mine.json"]["scores"] == [{"name": "distance", "value": None, "better": "lower"}]


def test_an_evaluation_is_kept_in_the_project(client: TestClient, context: Context) -> None:
    (context.project.folder / "real").mkdir()
    body = {"model": "builtin:anime", "data": "real", "count": 16}
    started = client.post("/api/look/evaluate", json=body).json()
    client.post(f"/api/jobs/{started['job']}/cancel", json={})
    words = ["kyara", "evaluate", "builtin:anime", "real", "--count", "16", "--out", "evaluations/anime-real.json"]
    assert shlex.split(started["command"]) == words and started["out"] == words[-1]
    for count in (0, 3, 10**9):
        assert client.post("/api/look/evaluate", json=body | {"count": count}).status_code == 422
