"""Models that change or vanish while Make has pictures of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

import kyara
from kyara.app.collection import Item
from kyara.app.context import Context
from kyara.files import checkpoint
from kyara.files.pictures import decode, read_recipe


def post(client: TestClient, path: str, /, **body: Any) -> dict[str, Any]:
    answer = client.post(f"/api/make/{path}", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture
def run(context: Context) -> str:
    """A run of the project, with a snapshot of its weights."""
    folder = context.project.folder / "runs/mine"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(checkpoint.find("builtin:anime"), folder)
    shutil.copytree(checkpoint.find("builtin:anime"), folder / "snapshots/000200")
    return "runs/mine"


def train_on(context: Context, run: str) -> None:
    """Replaces the weights in the run's folder."""
    found = checkpoint.read(context.project.folder / run)
    weights = {name: value + 0.02 * torch.randn_like(value) for name, value in found.weights().items()}
    parts: dict[str, Any] = {"model": found.model, "config": found.config, "weights": weights}
    checkpoint.write(found.path, **parts, card="", about=found.about)


def new(client: TestClient, model: str, seeds: str = "5") -> list[int]:
    return [row[0] for row in post(client, "new", model=model, seeds=seeds)["rows"]]


def pixels(client: TestClient, number: int) -> np.ndarray:
    answer = client.get(f"/api/make/picture/{number}.png")
    assert answer.status_code == 200, answer.text
    return decode(answer.content)


def restart(context: Context) -> None:
    """Forgets the pictures and generators that the painter keeps in memory."""
    context.painter._cache.clear()
    context.painter._generators.clear()


def test_pictures_stay_when_their_run_trains_on(client: TestClient, context: Context, run: str, tmp_path: Path) -> None:
    (before,) = new(client, run)
    old = pixels(client, before)
    assert client.get(f"/api/make/details/{before}").json()["command"].startswith(f"kyara generate {run} --seeds 5")
    train_on(context, run)
    (after,) = new(client, run)
    assert not np.array_equal(pixels(client, after), old)
    assert np.array_equal(pixels(client, before), old)
    restart(context)
    assert np.array_equal(pixels(client, before), old)
    words = client.get(f"/api/make/details/{before}").json()["command"].split()
    assert words[2] == f"{run}/snapshots/000200"
    (child,) = (row[0] for row in post(client, "vary", number=before, count=1, strength=0.0)["rows"])
    assert np.abs(pixels(client, child).astype(int) - old).max() <= 1
    mixed = client.post("/api/make/mix", json={"coarse": before, "fine": after, "layer": 2})
    assert mixed.status_code == 400 and "different generators" in mixed.json()["error"]
    out = context.project.folder / post(client, "export", numbers=[before, after], name="both")["path"]
    files = [next(out.glob(f"*-{number}.png")) for number in (before, after)]  # the table is sorted by score, if known
    recipes = [read_recipe(file) or {} for file in files]
    assert recipes[0]["model"] == words[2] and recipes[1]["model"] == run
    assert f"from 2 checkpoints of {run}" in (out / "index.html").read_text(encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(context.project.folder)
        assert kyara.generate(like=files[0], rank="none", out=tmp_path / "out", device="cpu").identical
    loaded = post(client, "load", path=f"{out.relative_to(context.project.folder)}/{files[0].name}")["rows"][0][0]
    assert np.array_equal(pixels(client, loaded), old)


def test_a_lost_checkpoint_is_an_error_that_says_so(client: TestClient, context: Context, run: str) -> None:
    (number,) = new(client, run)
    shutil.rmtree(context.project.folder / run / "snapshots/000200")
    train_on(context, run)
    for request in (client.get(f"/api/make/picture/{number}.png"),
                    client.post("/api/make/export", json={"numbers": [number], "name": "lost"})):  # fmt: skip
        assert request.status_code == 400
        assert f"{run} was trained further since: none of its snapshots is the checkpoint" in request.json()["error"]
    assert not (context.project.folder / "galleries/lost").exists()
    (context.project.folder / run / "snapshots").rmdir()
    assert f"{run} was replaced since" in client.get(f"/api/make/picture/{number}.png").json()["error"]
    assert client.get(f"/api/make/details/{number}").json()["command"] == ""


def test_an_older_list_takes_the_weights_of_now(client: TestClient, context: Context, run: str) -> None:
    collection = context.collection
    (item,) = collection.add([Item(0, run, {"seed": 1, "labels": {}}, 0.7)], "as an earlier version")
    context.maker.adopt()
    assert item.checkpoint == checkpoint.read(context.project.folder / run).hash and collection.unsaved
    old = pixels(client, item.number)
    train_on(context, run)
    restart(context)
    assert np.array_equal(pixels(client, item.number), old)


def test_a_deleted_model_blocks_nothing(
    client: TestClient, context: Context, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context.painter, "idle", None)  # nothing is scored before the folder is gone
    context.collection.remove([item.number for item in context.collection.visible()])
    lost, kept = new(client, run, "1-3"), new(client, "builtin:anime", "1-3")
    shutil.rmtree(context.project.folder / run)
    restart(context)
    said: list[str] = []
    monkeypatch.setattr(context.maker, "changed", lambda kind, **about: said.append(about.get("text", kind)))
    while context.painter.call(context.scoring.score_some):
        pass
    message = f"its generator {run} is gone: put it back or remove these pictures"
    assert [text for text in said if text != "scores"] == [f"Pictures of {run} cannot be scored: {message}"]
    scores = [context.collection.item(number).score for number in [*lost, *kept]]
    assert scores[:3] == [None] * 3 and None not in scores[3:]
    found = post(client, "pictures", numbers=[lost[0], kept[0], lost[1]])
    assert [*found["pictures"]] == [str(kept[0])]
    assert found["errors"] == {str(lost[0]): message, str(lost[1]): message}
    shutil.copytree(checkpoint.find("builtin:anime"), context.project.folder / run)
    monkeypatch.setattr("kyara.app.scoring.AGAIN", 0.0)
    while context.painter.call(context.scoring.score_some):
        pass
    assert None not in [context.collection.item(number).score for number in lost]


def test_one_bad_picture_of_a_batch_fails_alone(client: TestClient, context: Context) -> None:
    bad = Item(0, "builtin:anime", {"seed": 2**40, "labels": {}}, 0.7)
    good = Item(0, "builtin:anime", {"seed": 2, "labels": {}}, 0.7)
    numbers = [item.number for item in context.collection.add([bad, good], "made")]
    found = post(client, "pictures", numbers=numbers)
    assert [*found["pictures"]] == [str(numbers[1])] and [*found["errors"]] == [str(numbers[0])]
    context.collection.remove(numbers)
