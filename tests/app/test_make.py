"""The room Make, from request to picture: the same as on the command line."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

import kyara
from kyara.app.collection import Collection, Item
from kyara.app.context import Context
from kyara.app.make import seed_text
from kyara.files.gallery import read_gallery
from kyara.files.pictures import decode, read_recipe


def post(client: TestClient, path: str, **body: Any) -> dict[str, Any]:
    answer = client.post(f"/api/make/{path}", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def save(client: TestClient, number: int, path: Path) -> Path:
    path.write_bytes(client.get(f"/api/make/picture/{number}.png").content)
    return path


def test_pictures_are_those_of_generate(client: TestClient, tmp_path: Path) -> None:
    made = post(client, "new", model="builtin:anime", seeds="3-4,9", where={"hair": "silver"}, truncation=0.6)
    assert made["command"] == "kyara generate --seeds 3-4,9 --where hair=silver --truncation 0.6"
    assert [row[1] for row in made["rows"]] == [3, 4, 9] and made["rows"][0][2]["hair"] == "gray"
    kyara.generate(seeds="3-4,9", where="hair=silver", truncation=0.6, rank="none", out=tmp_path / "cli", device="cpu")
    for row in made["rows"]:
        saved = save(client, row[0], tmp_path / f"{row[0]}.png")
        there = tmp_path / f"cli/seed{row[1]:04d}.png"
        assert np.array_equal(decode(saved), decode(there))
        ours, theirs = read_recipe(saved), read_recipe(there)
        assert ours == theirs


def test_another_hair_colour_is_like_with_where(client: TestClient, tmp_path: Path) -> None:
    number = post(client, "new", model="builtin:anime", seeds="5")["rows"][0][0]
    changed = post(client, "change", number=number, where={"hair": "blue"})
    saved = save(client, number, tmp_path / "a.png")
    kyara.generate(like=saved, where="hair=blue", rank="none", out=tmp_path / "cli", device="cpu")
    png = save(client, changed["rows"][0][0], tmp_path / "b.png")
    assert np.array_equal(decode(png), decode(tmp_path / "cli/seed0005.png"))
    assert shlex.split(changed["command"])[2] == "--like"
    wrong = client.post("/api/make/change", json={"number": number, "where": {"hair": "plaid"}})
    assert wrong.status_code == 400 and "the values of hair are" in wrong.json()["error"]


def test_variations_mixtures_walks_and_drags_can_be_repeated(client: TestClient, tmp_path: Path) -> None:
    a, b = (
        row[0]
        for row in post(client, "new", model="builtin:anime", seeds="1,2", where={"hair": "red", "eyes": "red"})["rows"]
    )
    numbers = [row[0] for row in post(client, "vary", number=a, count=2, strength=0.3)["rows"]]
    numbers.append(post(client, "mix", coarse=a, fine=b, layer=4)["rows"][0][0])
    numbers.append(post(client, "vary", number=numbers[-1], count=1, strength=0.2)["rows"][0][0])
    walk = post(client, "walk", numbers=[a, b], frames=4)
    assert "--interpolate 1-2 --frames 4" in walk["command"]
    numbers.append(walk["rows"][1][0])
    numbers.append(post(client, "walk", numbers=[a, numbers[2]], frames=3)["rows"][1][0])
    session = post(client, "drag", number=a, handles=[[30, 40]], targets=[[34, 40]])["session"]
    frame = post(client, "drag/step", session=session)
    assert frame["steps"] >= 1 and frame["picture"].startswith("data:image/webp")
    numbers.append(post(client, "drag/keep", session=session)["rows"][0][0])
    pictures = []
    for number in numbers:
        saved = save(client, number, tmp_path / f"{number}.png")
        assert kyara.generate(like=saved, rank="none", out=tmp_path / f"out{number}", device="cpu").identical
        pictures.append(decode(saved).tobytes())
    assert len(set(pictures)) == len(numbers)
    gone = client.post("/api/make/drag/step", json={"session": session})
    assert gone.status_code == 400


def test_undo_and_redo(client: TestClient) -> None:
    def state() -> dict[str, Any]:
        found: dict[str, Any] = client.get("/api/make/state").json()
        return found

    before = state()["rows"]
    number = post(client, "new", model="builtin:anime", count=3, first=100)["rows"][0][0]
    post(client, "flag", numbers=[number], flag="star", value=True)
    post(client, "remove", numbers=[number])
    after = state()["rows"]
    assert len(after) == len(before) + 2
    for _ in range(3):
        post(client, "undo")
    assert [row[0] for row in state()["rows"]] == [row[0] for row in before]
    post(client, "redo")
    post(client, "redo")
    row = next(row for row in state()["rows"] if row[0] == number)
    assert row[4] is True
    post(client, "redo")
    assert [row[0] for row in state()["rows"]] == [row[0] for row in after]


def test_a_picture_comes_back_with_its_recipe(client: TestClient, context: Context, tmp_path: Path) -> None:
    kyara.generate(seeds="77", where="eyes=green", rank="none", out=tmp_path / "cli", device="cpu")
    data = (tmp_path / "cli/seed0077.png").read_bytes()
    answer = client.post("/api/make/drop", params={"name": "seed0077.png"}, content=data)
    number = answer.json()["rows"][0][0]
    assert np.array_equal(decode(save(client, number, tmp_path / "x.png")), decode(tmp_path / "cli/seed0077.png"))


def test_export_is_a_gallery_and_its_command_makes_the_same(
    client: TestClient, context: Context, tmp_path: Path
) -> None:
    numbers = [
        row[0] for row in post(client, "new", model="builtin:anime", seeds="40-42", where={"hair": "pink"})["rows"]
    ]
    done = post(client, "export", numbers=numbers, name="best of")
    out = context.project.folder / done["path"]
    rows = read_gallery(out)
    assert sorted(row["seed"] for row in rows) == ["40", "41", "42"]
    assert (out / "sheet.png").is_file() and (out / "index.html").is_file()
    words = shlex.split(done["command"])
    assert words[words.index("--seeds") + 1] == "40-42"
    found = client.get("/api/project").json()["found"]
    assert any(one["path"] == done["path"] and one["kind"] == "gallery" for one in found)


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("new", {"model": "builtin:anime", "seeds": "5-2"}, "must be ascending"),
        ("new", {"model": "builtin:anime", "count": 30_000}, "the maximum is 25,000"),
        ("new", {"model": "builtin:tagger", "count": 1}, "does not generate"),
        ("vary", {"number": 10**6}, "no longer exists"),
        ("walk", {"numbers": [1]}, "two or more"),
        ("export", {"numbers": []}, "nothing is selected"),
        ("drag", {"number": 1, "handles": [[1, 1]], "targets": []}, "a target for each handle"),
        ("drag", {"number": 1, "handles": [[1, 1]], "targets": [[900, 1]]}, "inside the picture"),
    ],
)
def test_mistakes_are_sentences(client: TestClient, path: str, body: dict[str, Any], message: str) -> None:
    post(client, "new", model="builtin:anime", seeds="0")
    answer = client.post(f"/api/make/{path}", json=body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]


def test_scores_come_by_themselves(client: TestClient, context: Context, tmp_path: Path) -> None:
    number = post(client, "new", model="builtin:anime", seeds="12")["rows"][0][0]
    while context.painter.call(context.maker.score_some):
        pass
    result = kyara.generate(seeds="12", out=tmp_path / "cli", device="cpu")
    assert context.collection.item(number).score == pytest.approx(float(result.best[0]["score"]), abs=1e-3)


def test_the_collection_survives(tmp_path: Path) -> None:
    first = Collection(tmp_path / "make.json")
    first.add([Item(0, "m", {"seed": i, "labels": {}}, 0.7) for i in range(3)], "make")
    first.flag([2], "star", True)
    first.save()
    again = Collection(tmp_path / "make.json")
    assert again.visible() == first.visible() and again.id == first.id
    assert again.add([Item(0, "m", {"seed": 9, "labels": {}}, 0.7)], "more")[0].number == 4
    (tmp_path / "make.json").write_text(json.dumps({"items": [{"bad": 1}]}))
    assert not Collection(tmp_path / "make.json").visible()


def test_seed_text() -> None:
    assert seed_text([0, 1, 2, 7, 9, 10]) == "0-2,7,9-10"
