"""The room Rewrite: edits as `kyara rewrite` reads them, and strengths as it writes them."""

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
from kyara.app.context import Context
from kyara.files.checkpoint import read
from kyara.files.pictures import decode, read_recipe, resize
from kyara.models import load
from kyara.rewriting.edit import Picture, read_edit
from kyara.rewriting.rules import rules_of
from kyara.rewriting.samples import Samples

GLASSES = Path(__file__).parents[2] / "docs/edits/glasses.json"


def url(picture: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def example(**changes: Any) -> dict[str, Any]:
    mask, pattern = np.zeros((64, 64, 3), np.uint8), np.zeros((256, 256, 4), np.uint8)
    mask[20:40, 10:50] = 255
    pattern[100:140, 60:180] = (200, 30, 40, 255)
    return {"model": "builtin:anime", "seed": 10, "mask": url(mask), "pattern": url(pattern)} | changes


@pytest.fixture(scope="module")
def ruled(context: Context) -> str:
    """A model of the project with a rule, of few steps."""
    out = context.project.folder / "runs/ruled"
    kyara.rewrite("builtin:anime", [GLASSES], steps=4, extra_images=0, out=out, device="cpu")
    return "runs/ruled"


def test_the_picture_to_paint_on_may_be_enlarged(client: TestClient) -> None:
    about = {"model": "builtin:anime", "seed": 3}
    small, large = (
        decode(client.get("/api/rewrite/picture", params=about | {"large": big}).content) for big in (False, True)
    )
    assert small.shape == (64, 64, 3) and large.shape == (128, 128, 3)
    assert np.corrcoef(resize(large, 64, 64).ravel(), small.ravel())[0, 1] > 0.95


def test_seeds_are_those_of_generate(client: TestClient) -> None:
    for seed in (-1, 99999999999999999999):
        answer = client.get("/api/rewrite/picture", params={"model": "builtin:anime", "seed": seed})
        assert answer.status_code == 422 and answer.json()["error"].startswith("seed")
        answer = client.post("/api/rewrite/edit", json={"examples": [example(seed=seed)]})
        assert answer.status_code == 422 and "seed" in answer.json()["error"]


def test_an_edit_is_one_that_rewrite_reads(client: TestClient, context: Context) -> None:
    saved = client.post(
        "/api/rewrite/edit", json={"name": "red bar", "examples": [example(), example(seed=3, pattern=None)]}
    )
    assert saved.status_code == 200, saved.text
    path = context.project.folder / saved.json()["path"]
    edit = read_edit(path)
    assert edit.name == "red-bar" and edit.examples[0].target.seed == 10
    assert edit.examples[1].source is None  # erases
    source = edit.examples[0].source
    assert source is not None and source.rgba is not None and source.rgba.shape == (80, 160, 4)
    pasted = decode(base64.b64decode(saved.json()["pasted"][0].partition(",")[2]))
    assert np.abs(pasted[28, 28].astype(int) - (200, 30, 40)).max() < 6
    found = client.get("/api/project").json()["found"]
    assert any(one["kind"] == "edit" and one["path"] == saved.json()["path"] for one in found)
    for quick, more in ((False, []), (True, ["--steps", "400", "--extra-images", "192"])):
        body = {"model": "builtin:anime", "edit": saved.json()["path"], "name": "bar", "quick": quick}
        started = client.post("/api/rewrite/learn", json=body)
        words = shlex.split(started.json()["command"])
        wanted = ["kyara", "rewrite", "builtin:anime", saved.json()["path"], "--out", "runs/bar", "--preview", *more]
        assert words == wanted
        client.post(f"/api/jobs/{started.json()['job']}/cancel", json={})


def test_pictures_of_make_are_shown_and_saved_as_the_generator_draws_them(client: TestClient, context: Context) -> None:
    """Others are refused by `kyara rewrite`, after somebody has painted on them."""
    made = client.post("/api/make/new", json={"model": "builtin:anime", "seeds": "6", "truncation": 0.6}).json()
    straight = made["rows"][0][0]
    turned = client.post("/api/make/turn", json={"number": straight, "degrees": 9}).json()["rows"][0][0]
    context.collection.item(turned).mirror = True
    drawn = decode(client.get(f"/api/make/picture/{straight}.png").content)
    about = {"model": "builtin:anime", "number": turned}
    assert np.array_equal(decode(client.get("/api/rewrite/picture", params=about).content), drawn)
    one = example(number=turned)
    del one["seed"]
    saved = client.post("/api/rewrite/edit", json={"name": "x", "examples": [one]}).json()
    target = read_edit(context.project.folder / saved["path"]).examples[0].target
    assert target.path is not None and np.array_equal(decode(target.path), drawn)
    name = "builtin:anime"
    assert Samples(load(name), name).styles(target).shape[0] == 1


def test_blends_are_not_painted_on(client: TestClient, context: Context) -> None:
    made = client.post("/api/make/new", json={"model": "builtin:anime", "seeds": "6"}).json()
    number = made["rows"][0][0]
    context.collection.item(number).blend = {
        "parent": "builtin:photo", "checkpoint": "0" * 16, "position": 4.0, "width": 1.0
    }  # fmt: skip
    about = {"model": "builtin:anime", "number": number}
    for answer in (
        client.get("/api/rewrite/picture", params=about),
        client.post("/api/rewrite/edit", json={"name": "x", "examples": [example(number=number)]}),
    ):
        assert answer.status_code == 400 and "two generators are blended" in answer.json()["error"]
    assert context.collection.item(number).row()[-1] is True


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": url(np.zeros((64, 64, 3), np.uint8))}, "mask is empty"),
        ({"mask": url(np.zeros((32, 64, 3), np.uint8))}, "another size"),
        ({"pattern": url(np.zeros((256, 256, 4), np.uint8))}, "does not touch the mask"),
        ({"mask": "data:image/png;base64,AAAA"}, "mask of example 1"),
        ({"mask": "http://evil.example/x.png"}, "not a picture"),
        ({"mask": "data:image/png;base64,%%%"}, "cannot be read"),
        ({"model": "../x"}, "outside the project"),
    ],
)
def test_impossible_examples(client: TestClient, context: Context, changes: dict[str, Any], message: str) -> None:
    before = sorted(context.project.folder.glob("edits/*"))
    answer = client.post("/api/rewrite/edit", json={"name": "x", "examples": [example(**changes)]})
    assert answer.status_code == 400 and message in answer.json()["error"], answer.text
    assert sorted(context.project.folder.glob("edits/*")) == before


def test_files_that_are_there_stay(client: TestClient, context: Context) -> None:
    """An edit file that was renamed names pictures that a new one of the old name would replace."""

    def learn(**changes: Any) -> Any:
        return client.post("/api/rewrite/edit", json={"name": "hat", "examples": [example(), example(**changes)]})

    edits = context.project.folder / "edits"
    assert learn().json()["path"] == "edits/hat.json"
    (edits / "hat.json").rename(edits / "my hat.json")
    before = {file: file.read_bytes() for file in edits.iterdir()}
    assert learn(mask=url(np.full((64, 64, 3), 255, np.uint8))).json()["path"] == "edits/hat-2.json"
    assert learn(mask=url(np.zeros((64, 64, 3), np.uint8))).status_code == 400
    assert {file: file.read_bytes() for file in before} == before


def test_a_picture_of_a_rewritten_model_can_be_learned_from_by_its_root(
    client: TestClient, context: Context, ruled: str
) -> None:
    """Examples are kept for a root generator; the picture is made again by that from which the rule is learned."""
    new = client.post("/api/make/new", json={"model": ruled, "seeds": "6", "truncation": 0.7})
    number = new.json()["rows"][0][0]
    one = example(number=number, model=ruled)
    del one["seed"]
    for model, expected in (("builtin:anime", "builtin:anime"), (ruled, ruled), ("", ruled)):
        saved = client.post("/api/rewrite/edit", json={"name": "x", "model": model, "examples": [one]})
        assert saved.status_code == 200, saved.text
        picture = read_edit(context.project.folder / saved.json()["path"]).examples[0].target.path
        assert picture is not None and (read_recipe(picture) or {})["model"] == expected
        name = context.project.absolute(expected)
        assert Samples(load(name), name).styles(Picture(path=picture)).shape[0] == 1


def test_strengths_are_tried_without_writing(client: TestClient, context: Context, ruled: str) -> None:
    about = client.get("/api/rewrite/model", params={"name": ruled}).json()
    assert [rule["name"] for rule in about["rules"]] == ["glasses"] and not about["problem"]
    weights = read(context.project.folder / ruled).hash

    def compare(**strengths: float) -> dict[str, Any]:
        found: dict[str, Any] = client.post(
            "/api/rewrite/compare", json={"model": ruled, "strengths": strengths}
        ).json()
        return found

    off, full = compare(glasses=0), compare(glasses=1)
    assert len(full["before"]) == len(full["after"]) == 16
    assert off["after"] == off["before"] == full["before"] != full["after"]
    assert compare() == full and read(context.project.folder / ruled).hash == weights
    assert client.post("/api/rewrite/compare", json={"model": ruled, "strengths": {"glasses": -1}}).status_code == 400


def test_a_shared_rule_is_added(client: TestClient, context: Context, ruled: str) -> None:
    file = context.project.folder / ruled / "edits/glasses.safetensors"
    about = client.get("/api/rewrite/model", params={"name": ruled}).json()
    assert about["rules"][0]["file"] == file.name

    def add(model: str, data: bytes) -> Any:
        return client.post("/api/rewrite/rule", params={"model": model, "name": "my glasses.safetensors"}, content=data)

    started = add("builtin:anime", file.read_bytes())
    assert started.status_code == 200, started.text
    client.post(f"/api/jobs/{started.json()['job']}/cancel", json={})
    _, verb, model, rule, *_ = shlex.split(started.json()["command"])
    assert (verb, model) == ("rewrite", "builtin:anime")
    assert (context.project.folder / rule).read_bytes() == file.read_bytes()
    kept = sorted(context.project.folder.glob("edits/*"))
    for model, data in (("builtin:character", file.read_bytes()), ("builtin:anime", b"x" * 99)):
        answer = add(model, data)
        assert answer.status_code == 400 and "not a rule of builtin:" in answer.json()["error"]
    assert sorted(context.project.folder.glob("edits/*")) == kept


def test_one_command_writes_these_strengths(context: Context, ruled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the new model names the model that it was made from, and no folder between."""
    from kyara.app.rewrites import Rewrites

    monkeypatch.chdir(context.project.folder)
    for strength, kept in ((0.5, [("glasses", 0.5)]), (0, [])):
        words, out = Rewrites(context.maker).strength_command(ruled, {"glasses": strength}, "half")
        options: dict[str, Any] = {words[2].lstrip("-"): words[3]}
        assert words[:2] + words[4:] == ["rewrite", ruled, "--out", out]
        kyara.rewrite(words[1], **options, out=Path(out))
        assert [(rule.name, rule.strength) for rule in rules_of(read(out))] == kept
        assert read(out).about["rewritten"]["parent"] == ruled
