"""The room Look: the original of a copy, and only from the project."""

from __future__ import annotations

import json
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
