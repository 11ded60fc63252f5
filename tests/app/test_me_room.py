"""The room Me: the faces of a photo, the same commands as in a terminal, and proposals that Make can open."""

from __future__ import annotations

import io
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from needs import need
from PIL import Image
from starlette.testclient import TestClient

import kyara
from kyara.app.context import Context
from kyara.files.gallery import GalleryWriter
from kyara.files.pictures import decode, encode_png, resize


def people(context: Context, *seeds: int) -> np.ndarray:
    """Generated people side by side, each 192 pixels wide or less."""
    faces = [decode(context.project.path(context.me.example(seed)["path"])) for seed in seeds]
    large = [resize(face, 192 - 64 * i, 192 - 64 * i) for i, face in enumerate(faces)]
    return np.concatenate(
        [np.pad(one, ((0, 192 - len(one)), (16, 16), (0, 0)), constant_values=180) for one in large], 1
    )


def upload(client: TestClient, name: str, data: bytes) -> str:
    answer = client.post("/api/upload", params={"name": name}, content=data)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["path"])


def post(client: TestClient, step: str, /, **body: Any) -> dict[str, Any]:
    answer = client.post(f"/api/me/{step}", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_faces_are_numbered_as_the_command_numbers_them(client: TestClient, context: Context) -> None:
    path = upload(client, "two.png", encode_png(people(context, 4, 6)))
    found = post(client, "faces", path=path)
    (left, top, right, bottom), (other, *_) = found["faces"]
    assert found["problem"] == "" and 0 <= left < right <= 224 < other and 0 <= top < bottom <= 192
    second = post(client, "draw", path=path, face=2, where={"hair": "pink"})
    client.post(f"/api/jobs/{second['job']}/cancel", json={})
    options = ["--face", "2", "--where", "hair=pink", "--out", second["out"]]
    assert shlex.split(second["command"]) == ["kyara", "avatar", path, *options]
    aligned = post(client, "draw", path=path, aligned=True)
    client.post(f"/api/jobs/{aligned['job']}/cancel", json={})
    assert shlex.split(aligned["command"]) == ["kyara", "avatar", path, "--aligned", "--out", aligned["out"]]


def test_a_photo_is_found_again(client: TestClient) -> None:
    path = upload(client, "wide.png", encode_png(np.zeros((6, 8, 3), np.uint8)))
    found = client.get("/api/me/photo", params={"path": path}).json()
    assert found == {"path": path, "width": 8, "height": 6, "film": False}
    assert client.get("/api/me/photo", params={"path": "gone.png"}).status_code == 400


def test_a_photo_without_a_face_is_a_sentence(client: TestClient) -> None:
    file = io.BytesIO()
    Image.new("RGB", (200, 150), (40, 160, 90)).save(file, "JPEG")
    found = post(client, "faces", path=upload(client, "meadow.jpg", file.getvalue()))
    assert found["faces"] == [] and found["problem"].startswith("No face was found in this photo.")


def test_an_empty_gallery_has_no_proposals(client: TestClient, context: Context) -> None:
    with GalleryWriter(context.project.folder / "galleries/empty", ["seed"]):
        pass
    answer = client.get("/api/me/proposals", params={"path": "galleries/empty"})
    assert answer.status_code == 400 and "galleries/empty: has no drawings" in answer.json()["error"]


@pytest.mark.parametrize("step", ["faces", "draw", "cartoon"])
def test_photos_are_inside_the_project(client: TestClient, step: str) -> None:
    answer = client.post(f"/api/me/{step}", json={"path": "../secret.png"})
    assert answer.status_code == 400 and "outside the project" in answer.json()["error"]


def test_every_proposal_opens_in_make(client: TestClient, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    path = post(client, "example", seed=4)["path"]
    started = post(client, "draw", path=path, aligned=True)
    client.post(f"/api/jobs/{started['job']}/cancel", json={})
    monkeypatch.chdir(context.project.folder)
    kyara.avatar(path, aligned=True, out=Path(started["out"]), device="cpu", force=True)
    found = client.get("/api/me/proposals", params={"path": started["out"]}).json()
    assert len(found["drawings"]) == 8 and (context.project.folder / found["photo"]).is_file()
    read = {trait["name"]: trait for trait in found["read"]}
    assert {"gender", "hair", "glasses", "skin", "eyes"} <= {*read} and 0 < read["gender"]["certainty"] <= 1
    for file in (found["drawings"][0], found["drawings"][7]):
        row = client.post("/api/make/load", json={"path": file}).json()["rows"][0]
        png = client.get(f"/api/make/picture/{row[0]}.png?large=true").content
        assert np.array_equal(decode(png), decode(Path(file))), file
        Path("saved.png").write_bytes(png)
        assert kyara.generate(like=Path("saved.png"), rank="none", out=Path(f"again{row[0]}"), device="cpu").identical
    changed = client.post("/api/make/change", json={"number": row[0], "where": {"hair": "pink"}}).json()
    vary = client.post("/api/make/vary", json={"number": changed["rows"][0][0], "count": 1}).json()
    assert not np.array_equal(
        decode(client.get(f"/api/make/picture/{vary['rows'][0][0]}.png?large=true").content), decode(png)
    )


def test_mixing_a_blend_with_another_generator_is_refused(
    client: TestClient, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = post(client, "example", seed=4)["path"]
    monkeypatch.chdir(context.project.folder)
    blend: dict[str, Any] = {"method": "reverse", "aligned": True, "steps": 2, "pose": False, "blend": 3.0}
    kyara.avatar(path, out=Path("blended"), device="cpu", **blend)
    client.post("/api/make/load", json={"path": f"blended/{Path(path).name}"})
    items = context.collection.visible()
    blended = next(item.number for item in items if item.blend)
    plain = client.post("/api/make/new", json={"model": "builtin:anime", "seeds": "1"}).json()["rows"][0][0]
    answer = client.post("/api/make/mix", json={"coarse": blended, "fine": plain, "layer": 3})
    assert answer.status_code == 400 and "different generators" in answer.json()["error"]
    walk = client.post("/api/make/walk", json={"numbers": [blended, plain], "frames": 8})
    assert walk.status_code == 400


def test_how_much_of_the_photo_stays(client: TestClient, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    path = post(client, "example", seed=4)["path"]
    commands = []
    for stays in (0, 3):
        started = post(client, "draw", path=path, aligned=True, stays=stays, pose=stays > 0)
        client.post(f"/api/jobs/{started['job']}/cancel", json={})
        commands.append(shlex.split(started["command"])[3:-2])
    words = ["--method", "reverse", "--space", "w+", "--start", "encoder", "--colours", "labels"]
    assert commands == [[*words, "--aligned"], [*words, "--blend", "3", "--pose", "--aligned"]]
    answer = client.post("/api/me/draw", json={"path": path, "stays": 7})
    assert answer.status_code == 422 and answer.json()["error"].startswith("stays")
    monkeypatch.chdir(context.project.folder)
    options: dict[str, Any] = {"method": "reverse", "space": "w+", "start": "encoder", "colours": "labels"}
    tried = kyara.avatar(path, aligned=True, blend=3.0, pose=True, device="cpu", dry_run=True, **options)
    assert tried.child == "builtin:anime" and tried.drawn == 1  # the verb accepts them together


def test_films_need_the_extra(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    answer = client.post("/api/me/film", params={"name": "me.mp4"}, content=b"x")
    assert answer.status_code == 400 and "films need PyAV" in answer.json()["error"]


def test_films_are_written_part_by_part(client: TestClient, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kyara.app.me.load_av", lambda: None)
    monkeypatch.setattr("kyara.app.project.MAX_UPLOAD", 10)
    monkeypatch.setattr("kyara.app.routes_project.MAX_UPLOAD", 10)
    monkeypatch.setattr("kyara.app.me.video.read", lambda file: (None, iter([(0.0, np.zeros((6, 8, 3), np.uint8))])))
    parts = [b"x" * 600, b"y" * 600]
    saved = client.post("/api/me/film", params={"name": "long.mp4"}, content=iter(parts)).json()
    assert (saved["path"], saved["width"]) == (".studio/uploads/long.mp4", 8)
    assert (context.project.folder / saved["path"]).read_bytes() == b"".join(parts)
    monkeypatch.setattr("kyara.app.routes_project.MAX_STREAM", 1000)
    refused = client.post("/api/me/film", params={"name": "longer.mp4"}, content=iter(parts))
    assert refused.status_code == 400
    assert "run there: kyara translate builtin:cartoon longer.mp4 --side 384" in refused.json()["error"]
    uploads = context.project.folder / ".studio/uploads"
    assert not [*uploads.glob("longer*"), *uploads.glob(".*")]


def test_a_film_becomes_a_cartoon(client: TestClient, context: Context, tmp_path: Path) -> None:
    av = need("av", "video")
    uploads = context.project.folder / ".studio/uploads"
    for name, reason in {"me.txt": "not a film", "bad.mp4": "bad.mp4: not a readable film"}.items():
        answer = client.post("/api/me/film", params={"name": name}, content=b"no film")
        assert answer.status_code == 400 and reason in answer.json()["error"] and str(uploads) not in answer.text
    assert not [*uploads.glob("bad*"), *uploads.glob(".*")]
    with av.open(str(tmp_path / "me.mp4"), "w") as film:
        stream = film.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")
        film.mux([*stream.encode(picture), *stream.encode()])
    data = (tmp_path / "me.mp4").read_bytes()
    saved = client.post("/api/me/film", params={"name": "me.mp4"}, content=data).json()
    assert (saved["width"], saved["height"]) == (64, 48)
    assert client.get("/api/me/photo", params={"path": saved["path"]}).json() == {**saved, "film": True}
    part = client.get("/api/me/film", params={"path": saved["path"]}, headers={"Range": "bytes=0-9"})
    assert (part.status_code, part.content, part.headers["content-type"]) == (206, data[:10], "video/mp4")
    assert client.get("/api/me/film", params={"path": ".studio/make.json"}).status_code == 400
    started = post(client, "cartoon", path=saved["path"])
    client.post(f"/api/jobs/{started['job']}/cancel", json={})
    assert shlex.split(started["command"])[2:6] == ["builtin:cartoon", saved["path"], "--side", "384"]
