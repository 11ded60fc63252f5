"""The room Make, from request to picture: the same as on the command line."""

from __future__ import annotations

import io
import json
import shlex
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import kyara
from kyara.app.collection import Collection, Item
from kyara.app.context import Context
from kyara.app.jobs import Job
from kyara.app.painter import Sheet
from kyara.app.words import in_words
from kyara.files import checkpoint
from kyara.files.gallery import GalleryWriter, read_gallery
from kyara.files.pictures import decode, read_recipe
from kyara.generation.shots import Shot
from kyara.rewriting import rules


def post(client: TestClient, path: str, /, **body: Any) -> dict[str, Any]:
    answer = client.post(f"/api/make/{path}", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def save(client: TestClient, number: int, path: Path) -> Path:
    path.write_bytes(client.get(f"/api/make/picture/{number}.png").content)
    return path


def test_pictures_are_those_of_generate(client: TestClient, tmp_path: Path) -> None:
    made = post(client, "new", model="builtin:character", seeds="3-4,9", where={"hair": "silver"}, truncation=0.6)
    assert made["command"] == "kyara generate --seeds 3-4,9 --where hair=silver --truncation 0.6"
    assert [row[1] for row in made["rows"]] == [3, 4, 9] and made["rows"][0][2]["hair"] == "gray"
    kyara.generate(
        seeds="3-4,9", where="hair=silver", truncation=0.6, rank="none", upscale="none", out=tmp_path / "cli"
    )
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
    words = shlex.split(changed["command"])
    assert words[:5] == ["kyara", "generate", "builtin:anime", "--seeds", "5"] and "hair=blue" in words[6]
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
    turned = post(client, "turn", number=a, degrees=-12)
    assert "--turn=-12" in turned["command"] or "--turn -12" in turned["command"]
    preview = post(client, "turn", number=a, degrees=-12, keep=False)["picture"]
    assert preview.startswith("data:image/webp") and turned["rows"][0][10] == -12
    numbers.append(turned["rows"][0][0])
    numbers.append(post(client, "change", number=numbers[-1], where={"hair": "blue"})["rows"][0][0])
    numbers.append(post(client, "turn", number=numbers[2], degrees=12)["rows"][0][0])  # of a mixture
    refused = client.post("/api/make/drag", json={"number": numbers[-1], "handles": [[30, 40]], "targets": [[34, 40]]})
    assert refused.status_code == 400 and "turned" in refused.json()["error"]
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
    post(client, "remove", numbers=[])  # nothing is selected: nothing to undo, and Redo stays
    post(client, "redo")
    assert [row[0] for row in state()["rows"]] == [row[0] for row in after]


def test_a_picture_comes_back_with_its_recipe(client: TestClient, context: Context, tmp_path: Path) -> None:
    kyara.generate("builtin:anime", seeds="77", where="eyes=green", rank="none", out=tmp_path / "cli", device="cpu")
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


def test_models_rewritten_from_the_default_are_enlarged_as_it_is(client: TestClient, context: Context) -> None:
    for name, root in (("mine", checkpoint.read("builtin:character").hash), ("other", "0" * 64)):
        folder = context.project.folder / "runs" / name
        folder.mkdir(parents=True)
        (folder / checkpoint.WEIGHTS).write_bytes(b"")
        (folder / checkpoint.CONFIG).write_text(json.dumps({"model": "stylegan2", rules.KEY: {"root": root}}))
    assert client.get("/api/project").json()["enlarged"] == ["builtin:character", "runs/mine"]


def test_pictures_of_twice_the_size_are_those_of_generate(client: TestClient, context: Context, tmp_path: Path) -> None:
    (row,) = post(client, "new", model="builtin:anime", seeds="40", where={"hair": "pink"})["rows"]
    done = post(client, "export", numbers=[row[0]], name="large", large=[row[0]])
    out = context.project.folder / done["path"]
    exported = decode(out / read_gallery(out)[0]["file_name"])
    assert exported.shape == (128, 128, 3) and "--upscale builtin:upscaler" in done["command"]
    for size, words in (([], "--upscale none"), ("large", "")):  # of the generator that the upscaler was made for
        (other,) = post(client, "new", model="builtin:character", seeds="40")["rows"]
        made = post(client, "export", numbers=[other[0]], name="other", large=[other[0]] if size else [])
        assert ("--upscale" in made["command"]) == bool(words) and words in made["command"]
    kyara.generate("builtin:anime", seeds="40", where="hair=pink", upscale="builtin:upscaler", out=tmp_path / "cli")
    assert np.array_equal(exported, decode(tmp_path / "cli/seed0040.png"))
    (tmp_path / "mine.png").write_bytes(client.get(f"/api/make/picture/{row[0]}.png?large=true&download=true").content)
    assert np.array_equal(decode(tmp_path / "mine.png"), exported)
    small = client.get(f"/api/make/picture/{row[0]}.png").content
    dropped = client.post("/api/make/drop", params={"name": "mine.png"}, content=(tmp_path / "mine.png").read_bytes())
    again = client.get(f"/api/make/picture/{dropped.json()['rows'][0][0]}.png").content  # at the generator's size
    (tmp_path / "again.png").write_bytes(again)
    (tmp_path / "small.png").write_bytes(small)
    assert np.array_equal(decode(tmp_path / "again.png"), decode(tmp_path / "small.png"))


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("new", {"model": "builtin:anime", "seeds": "5-2"}, "must be ascending"),
        ("new", {"model": "builtin:anime", "seeds": "x"}, "Seeds x: "),
        ("new", {"model": "builtin:anime", "count": 0}, "How many 0: must be 1 or more"),
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
    number = post(client, "new", model="builtin:character", seeds="12")["rows"][0][0]
    while context.painter.call(context.scoring.score_some):
        pass
    result = kyara.generate(seeds="12", out=tmp_path / "cli", device="cpu")
    assert context.collection.item(number).score == pytest.approx(float(result.best[0]["score"]), abs=1e-3)


def test_a_batch_of_the_generator_is_never_wasted(
    client: TestClient, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It computes 8 pictures at once, or many more on a GPU, however few are wanted."""
    counts: dict[str, list[int]] = {"pictures": [], "scores": []}

    def counted(name: str) -> None:
        function = getattr(context.painter, name)

        def run(sheet: Sheet, shots: list[Shot]) -> Any:
            counts[name].append(len(shots))
            return function(sheet, shots)

        monkeypatch.setattr(context.painter, name, run)

    counted("pictures")
    counted("scores")
    monkeypatch.setattr(context.painter, "idle", None)
    monkeypatch.setattr("kyara.generation.sampler.BATCH", 4)
    rows = post(client, "new", model="builtin:anime", seeds="700-705")["rows"]
    post(client, "export", numbers=[row[0] for row in rows], name="batches")
    assert counts["pictures"] == [4, 2]
    while context.painter.call(context.scoring.score_some):
        pass
    assert max(counts["scores"]) == 4


def test_the_collection_survives(tmp_path: Path) -> None:
    first = Collection(tmp_path / "make.json")
    first.add([Item(0, "m", {"seed": i, "labels": {}}, 0.7) for i in range(3)], "make")
    first.flag([2], "star", True)
    first.save()
    again = Collection(tmp_path / "make.json")
    assert again.visible() == first.visible() and again.id == first.id
    assert again.add([Item(0, "m", {"seed": 9, "labels": {}}, 0.7)], "more")[0].number == 4


def a_list(path: Path, seeds: Iterable[int] = range(3)) -> Collection:
    made = Collection(path)
    made.add([Item(0, "m", {"seed": seed, "labels": {}}, 0.7) for seed in seeds], "make")
    made.save()
    return made


def test_fields_of_another_version_are_ignored(tmp_path: Path) -> None:
    before = a_list(tmp_path / "make.json")
    stored = json.loads(before.path.read_text())
    stored["items"][1]["of_the_future"] = 1
    before.path.write_text(json.dumps(stored))
    after = Collection(before.path)
    assert after.visible() == before.visible() and not after.problem


@pytest.mark.parametrize(
    "damage",
    ["{", "[]", '{"items": 3}', '{"items": [{"number": 1}], "next": 2, "id": "x"}',
     '{"items": [{"number": 1, "model": "m", "shot": 3, "truncation": 1}], "next": 2, "id": "x"}'],
)  # fmt: skip
def test_a_damaged_list_is_put_aside_and_never_overwritten(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "make.json"
    for i in range(2):
        path.write_text(damage + " " * i)
        found = Collection(path)
        assert not found.visible() and "make.json.damaged" in found.problem
        found.add([Item(0, "m", {"seed": 1, "labels": {}}, 0.7)], "make")
        found.save()
    assert [(tmp_path / f"make.json.damaged{n}").read_text() for n in ("", "1")] == [damage, damage + " "]
    assert len(Collection(path).visible()) == 1


def test_a_full_disk_is_tried_again_and_reported_once(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(context.events, "publish", lambda kind, **about: said.append(f"{kind} {about.get('text')}"))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    context.collection.unsaved = True
    with monkeypatch.context() as patch:
        patch.setattr("kyara.app.collection.write_atomic", full)
        context.save()
        context.save()
    assert len(said) == 1 and "No space left" in said[0] and context.collection.unsaved
    context.save()
    assert not context.collection.unsaved
    assert len(json.loads(context.collection.path.read_text())["items"]) == len(context.collection.visible())


def test_what_changed_since_a_version(tmp_path: Path) -> None:
    made = a_list(tmp_path / "make.json")
    version = made.version
    made.flag([2], "star", True)
    made.remove([1])
    made.set_scores({3: 0.5})
    changed, removed = made.since(version)
    assert ({item.number for item in changed}, removed) == ({2, 3}, [1])
    version = made.version
    made.undo()
    assert ([item.number for item in made.since(version)[0]], made.since(version)[1]) == ([1], [])
    assert made.since(made.version) == ([], [])


def test_a_tab_fetches_only_what_changed(client: TestClient, context: Context) -> None:
    number = post(client, "new", model="builtin:anime", seeds="200-209")["rows"][0][0]

    def state(**known: Any) -> dict[str, Any]:
        found: dict[str, Any] = client.get("/api/make/state", params=known).json()
        return found

    first = state()
    assert first["all"] and len(first["rows"]) == len(context.collection.visible())
    post(client, "flag", numbers=[number], flag="star", value=True)
    then = state(id=first["id"], since=first["version"])
    assert not then["all"] and [row[0] for row in then["rows"]] == [number] and then["undo"] == "star"
    assert state(id="another", since=first["version"])["all"]
    assert state(id=first["id"], since=context.collection.first - 1)["all"]  # of a server that was restarted


def test_new_seeds_are_free_ones(tmp_path: Path) -> None:
    assert a_list(tmp_path / "a", []).free_seed(16) == 0
    assert a_list(tmp_path / "b", [3, 10]).free_seed(5) == 11
    last = 2**32 - 1
    assert a_list(tmp_path / "c", [3, 10, last]).free_seed(5) == 11
    assert a_list(tmp_path / "d", [5, last - 2]).free_seed(2) == last - 1
    assert a_list(tmp_path / "e", [5, last - 2]).free_seed(3) == 6


def test_pictures_can_be_made_after_the_last_seed(client: TestClient) -> None:
    post(client, "new", model="builtin:anime", seeds="4294967295")
    made = post(client, "new", model="builtin:anime", count=2)
    assert [row[1] for row in made["rows"]] == sorted(row[1] for row in made["rows"]) and len(made["rows"]) == 2


def test_the_command_of_every_picture_works(
    client: TestClient, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = (row[0] for row in post(client, "new", model="builtin:anime", seeds="31,32")["rows"])
    mixed = post(client, "mix", coarse=a, fine=b, layer=4)["rows"][0][0]
    changed = post(client, "change", number=mixed, where={"hair": "blue"})
    command = client.get(f"/api/make/details/{mixed}").json()["command"]
    monkeypatch.chdir(context.project.folder)
    for number, text in ((mixed, command), (changed["rows"][0][0], changed["command"])):
        words = shlex.split(text)
        like, where = words[words.index("--like") + 1], words[words.index("--where") + 1] if "--where" in words else ""
        result = kyara.generate(like=like, where=where, rank="none", out=tmp_path / str(number), device="cpu")
        made = decode(result.out / result.best[0]["file_name"])
        assert np.array_equal(decode(save(client, number, tmp_path / "x.png")), made)


def test_a_walk_is_exported_from_its_first_picture_on(client: TestClient, context: Context) -> None:
    a, b = (row[0] for row in post(client, "new", model="builtin:anime", seeds="51,52")["rows"])
    walk = [row[0] for row in post(client, "walk", numbers=[a, b], frames=3)["rows"]]
    out = context.project.folder / post(client, "export", numbers=walk[::-1], name="walk")["path"]
    with Image.open(out / "walk.webp") as film:
        frame = np.asarray(film.convert("RGB")).astype(int)
    first, last = (decode(client.get(f"/api/make/picture/{n}.png").content).astype(int) for n in (walk[0], walk[-1]))
    assert np.abs(frame - first).mean() < np.abs(frame - last).mean()


def test_export_tells_its_progress(client: TestClient, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = [row[0] for row in post(client, "new", model="builtin:anime", seeds="61-64")["rows"]]
    shares: list[float] = []
    publish = context.events.publish
    monkeypatch.setattr(
        context.events,
        "publish",
        lambda kind, **about: shares.append(about["share"]) if kind == "export" else publish(kind, **about),
    )
    post(client, "export", numbers=numbers, name="progress")
    assert shares == [0.25, 0.5, 0.75, 1.0]


def test_no_scores_while_a_job_runs(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context.scoring, "score_some", lambda: True)
    assert context._idle()
    monkeypatch.setattr(context.jobs, "active", lambda: ["a job"])
    assert not context._idle()


def test_a_picture_without_recipe_is_found_in_a_generator(
    client: TestClient, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(context.project.folder)
    number = post(client, "new", model="builtin:anime", seeds="8")["rows"][0][0]
    plain = io.BytesIO()
    Image.fromarray(decode(save(client, number, tmp_path / "a.png"))).save(plain, "WEBP")
    dropped = client.post("/api/make/drop", params={"name": "mine.webp"}, content=plain.getvalue()).json()
    assert dropped["rows"] == [] and (context.project.folder / dropped["searchable"]).is_file()

    like = save(client, post(client, "vary", number=number, count=1, strength=0.2)["rows"][0][0], tmp_path / "b.png")

    def found(job: Job, words: list[str]) -> None:  # a gallery as that of kyara invert, which takes long
        out = context.project.folder / words[4]
        with GalleryWriter(out, ["seed"]) as gallery:
            gallery.add("given-mine.png", plain.getvalue())  # has no recipe
            gallery.add("mine.png", like.read_bytes())
            gallery.finish(command="", about="")

    monkeypatch.setattr(context.jobs, "_run", found)
    before = context.collection.version
    started = post(client, "find", path=dropped["searchable"], model="builtin:anime")
    words = "kyara invert builtin:anime .studio/uploads/mine.png --out galleries/found-mine"
    assert started["command"] == words
    job = next(job for job in context.jobs.jobs if job.number == started["job"])
    while context.collection.version == before:
        assert job.state != "failed", job.error
        time.sleep(0.01)
    item = context.collection.visible()[-1]
    recipe = read_recipe(like)
    assert recipe and item.shot == {key: recipe[key] for key in item.shot} and item.origin.startswith("from ")
    assert post(client, "vary", number=item.number, count=1, strength=0.2)["rows"]


def test_what_a_search_found_cannot_be_loaded(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(path: str) -> None:
        raise RuntimeError("no memory left")

    monkeypatch.setattr(context.maker, "load_gallery", load)
    job = Job(1, "find", [], {"step": "find", "out": "galleries/found"}, "done")
    context._job_changed(job)
    assert (job.state, job.error) == ("failed", "no memory left")


def test_messages_are_in_the_words_of_the_page(context: Context) -> None:
    folder = context.project.folder
    assert in_words("--seeds 5-2: '5-2' must be ascending", folder) == "Seeds 5-2: '5-2' must be ascending"
    assert in_words(f"--like {folder}/a/b.png: has no recipe", folder) == "b.png: has no recipe"
    assert in_words(f"{folder}/runs/x: no such file", folder) == "runs/x: no such file"
