"""The room Fill: the same pictures as `kyara translate`."""

from __future__ import annotations

import base64
import io
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import kyara
from kyara.app import fills
from kyara.app.context import Context
from kyara.files.pictures import decode


def url(mask: np.ndarray) -> str:
    """A mask (H, W) bool as the browser sends it."""
    file = io.BytesIO()
    Image.fromarray((mask * 255).astype(np.uint8)).convert("RGB").save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def hole(height: int = 64, width: int = 64) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[height // 2 : height // 2 + 12, 10:30] = True
    return mask


def body(source: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"source": source, "model": "builtin:inpainting", "mask": url(hole())} | changes


@pytest.fixture(scope="module")
def gallery(context: Context) -> str:
    kyara.generate("builtin:anime", seeds="3", rank="none", out=context.project.folder / "galleries/one", device="cpu")
    return "galleries/one/seed0003.png"


def test_it_fills_as_the_command_that_it_shows(
    client: TestClient, context: Context, gallery: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = client.post("/api/make/new", json={"model": "builtin:anime", "seeds": "3"}).json()["rows"][0][0]
    for source in ({"path": gallery}, {"number": number}, {"seed": 3}):
        found = client.post("/api/fill/try", json=body(source))
        assert found.status_code == 200, found.text
        filled = decode(base64.b64decode(found.json()["picture"].partition(",")[2]))
        kept = client.post("/api/fill/keep", json=body(source)).json()
        client.post(f"/api/jobs/{kept['job']}/cancel", json={})
        _, verb, model, picture, _, mask, _, out = shlex.split(kept["command"])
        assert (verb, model, out) == ("translate", "builtin:inpainting", kept["out"])
        monkeypatch.chdir(context.project.folder)
        kyara.translate(model, picture, mask=mask, out=Path(out), device="cpu", force=True)
        written = decode(Path(out) / Path(picture).name)
        assert np.array_equal(written, filled)
        before = decode(Path(gallery))
        assert np.array_equal(filled[~hole()], before[~hole()]) and not np.array_equal(filled, before)


@pytest.mark.parametrize(
    ("source", "changes", "message"),
    [
        ({"seed": 3}, {"mask": url(np.zeros((64, 64), bool))}, "the mask is empty"),
        ({"seed": 3}, {"mask": url(hole(32, 64))}, "differ in size: 64x32 and 64x64 pixels"),
        ({"seed": 3}, {"mask": "data:image/png;base64,AAAA"}, "the mask"),
        ({"seed": 3}, {"mask": "http://evil.example/x.png"}, "not a picture"),
        ({"seed": 3}, {"model": "builtin:cartoon"}, "does not fill holes"),
        ({"seed": 3}, {"model": "../x"}, "outside the project"),
        ({}, {}, "choose a picture first"),
        ({"path": "../secret.png"}, {}, "outside the project"),
        ({"path": "galleries/one/gallery.csv"}, {}, "not a picture"),
        ({"number": 10**6}, {}, "no longer exists"),
    ],
)
def test_mistakes_are_sentences(
    client: TestClient, gallery: str, source: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    answer = client.post("/api/fill/try", json=body(source, **changes))
    assert answer.status_code == 400 and message in answer.json()["error"], answer.text


def test_a_mistake_writes_nothing(client: TestClient, context: Context) -> None:
    before = sorted(context.project.folder.rglob("*"))
    assert client.post("/api/fill/keep", json=body({"seed": 3}, mask=url(hole(32, 64)))).status_code == 400
    assert sorted(context.project.folder.rglob("*")) == before


def test_a_huge_picture_is_refused(client: TestClient, gallery: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fills, "MAX_PIXELS", 64 * 64 - 1)
    answer = client.post("/api/fill/try", json=body({"path": gallery}))
    assert answer.status_code == 400 and "million pixels" in answer.json()["error"]
