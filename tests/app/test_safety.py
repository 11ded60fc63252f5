"""Who is let in, and what they may touch."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.requests import Request
from starlette.testclient import TestClient

from kyara.app import routes_project
from kyara.app.context import Context
from kyara.app.project import MAX_UPLOAD, STATE, UPLOADS, Project, ProjectError
from kyara.app.safety import Guard, hostname
from kyara.app.studio import studio
from kyara.training.run import locked

HOST, TOKEN = "http://127.0.0.1:8642", "a-token-for-tests"

CHANGES = [("GET", "/api/project"), ("POST", "/api/make/undo"), ("GET", "/"), ("GET", "/app.js")]


@pytest.mark.parametrize(("method", "path"), CHANGES)
@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "evil.example:8642"},
        {"host": "127.0.0.1.evil.example"},
        {"host": ""},
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_requests_from_elsewhere_are_refused(
    client: TestClient, method: str, path: str, headers: dict[str, str]
) -> None:
    assert client.request(method, path, headers=headers).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1:8642", "localhost:8642", "[::1]:8642"])
def test_this_machine_is_let_in(client: TestClient, host: str) -> None:
    cookie = {"cookie": f"kyara-8642={TOKEN}"}  # the client keeps its own for 127.0.0.1 alone
    headers = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin", **cookie}
    assert client.get("/api/project", headers=headers).status_code == 200


def test_cookies_of_other_servers_do_not_matter(client: TestClient) -> None:
    """Those on other ports of this machine are sent too, whatever they hold."""
    cookies = f'ui={{"theme": "dark"}}; a=b=c; kyara-8642={TOKEN}; kyara-8643=x'
    assert client.get("/api/project", headers={"host": "localhost:8642", "cookie": cookies}).status_code == 200


@pytest.mark.parametrize("name", ["Annas-Mac.local", "annas-mac.local."])
def test_names_of_this_machine_in_any_form(app: Any, name: str) -> None:
    guard = Guard(app, token=TOKEN, hosts={name, "[fd00::1]"})
    for host in ("annas-mac.local:8642", "Annas-Mac.local.:8642", "[fd00::1]:8642"):
        answer = TestClient(guard, base_url=HOST).get("/", headers={"host": host})
        assert answer.status_code == 401  # not 403: it answers for this host


def test_a_project_is_open_once(tmp_path: Path) -> None:
    """Two servers would overwrite each other's list of pictures."""
    with locked(tmp_path / STATE), pytest.raises(FileExistsError, match="another kyara studio has this project open"):
        studio(tmp_path, port=0, browser=False, device="cpu")


@pytest.mark.parametrize("path", ["/", "/?token=wrong", "/?token=", "/api/project", "/api/events", "/app.js", "/../x"])
def test_without_the_token_there_is_nothing(app: Any, path: str) -> None:
    stranger = TestClient(app, base_url=HOST)
    answer = stranger.get(path, follow_redirects=False)
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert stranger.get("/api/project", headers={"cookie": "kyara-8642=wrong"}).status_code == 401


def test_the_token_becomes_a_cookie_that_scripts_and_other_sites_cannot_use(app: Any) -> None:
    answer = TestClient(app, base_url=HOST).get(f"/?token={TOKEN}", follow_redirects=False)
    assert answer.headers["location"] == "/"
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(answer.headers["set-cookie"].split("; "))


def test_pages_may_only_load_their_own_scripts(client: TestClient) -> None:
    headers = client.get("/").headers
    assert "script-src 'self';" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_hostname() -> None:
    assert hostname("[::1]:80") == "::1"
    assert hostname("a:b:c") == "a"
    assert hostname("[::1") == ""
    assert hostname("Annas-Mac.local.:80") == "annas-mac.local"


OUTSIDE = ["../secret.png", "/etc/passwd", "a/../../secret.png", "link/secret.png", "..", ".", "", "a\0b", "a\\..\\b"]


@pytest.mark.parametrize("path", OUTSIDE)
def test_no_path_leaves_the_project(client: TestClient, context: Context, path: str) -> None:
    folder = context.project.folder
    (folder.parent / "secret.png").write_bytes(b"secret")
    if not (folder / "link").exists():
        (folder / "link").symlink_to(folder.parent)
    for address in ("/api/file", "/api/gallery"):
        answer = client.get(address, params={"path": path})
        assert answer.status_code == 400 and "secret" not in answer.text.replace(json.dumps(path)[1:-1], "")
    assert client.post("/api/make/load", json={"path": path}).status_code == 400
    assert client.post("/api/art", params={"name": f"../{path}.png"}, content=b"x").status_code == 400
    model = client.get("/api/make/model", params={"name": path})
    assert model.status_code in (400, 422)


@pytest.mark.parametrize("name", ["builtin:../../x", "hf-hub:a/b", "builtin:nothing"])
def test_models_are_builtin_or_in_the_project(client: TestClient, name: str) -> None:
    assert client.get("/api/make/model", params={"name": name}).status_code == 400


def test_hostile_uploads_are_refused(client: TestClient, context: Context) -> None:
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")  # 400 million pixels in few bytes
    for data in (
        b"",
        b"not a picture",
        b"\x89PNG\r\n\x1a\n" + b"\0" * 40,
        bomb.getvalue(),
        b"<svg onload='alert(1)'/>",
    ):
        answer = client.post("/api/upload", params={"name": "../x.png"}, content=data)
        assert answer.status_code == 400, data[:20]
        assert client.post("/api/make/drop", params={"name": "x.png"}, content=data).status_code == 400
    uploads = context.project.folder / ".studio" / "uploads"
    assert not uploads.exists() or not [*uploads.iterdir()]


def test_an_upload_does_not_stop_other_requests(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    began, goes_on = threading.Event(), threading.Event()

    def slow(*_: object) -> tuple[str, int, int]:
        began.set()
        assert goes_on.wait(30), "the upload stopped the other request"
        return ".studio/uploads/x.png", 1, 1

    monkeypatch.setattr("kyara.app.routes_project.save_picture", slow)
    answers: list[int] = []
    upload = threading.Thread(
        target=lambda: answers.append(client.post("/api/upload", params={"name": "x.png"}, content=b"x").status_code)
    )
    upload.start()
    assert began.wait(30)
    assert client.get("/api/project").status_code == 200
    goes_on.set()
    upload.join(30)
    assert answers == [200]


def test_uploads_of_the_same_name_at_the_same_time_are_all_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As all pasted pictures have: image.png."""
    project, together, decode = Project(tmp_path), threading.Barrier(4), routes_project.decode

    def slow(*given: Any) -> Any:
        together.wait(30)
        return decode(*given)

    def upload(side: int) -> None:
        file = io.BytesIO()
        Image.new("RGB", (side, side)).save(file, "PNG")
        path, width, _ = routes_project.save_picture(project, "image.png", file.getvalue())
        assert decode(tmp_path / path).shape[1] == width == side
        saved.append(path)

    monkeypatch.setattr(routes_project, "decode", slow)
    saved: list[str] = []
    threads = [threading.Thread(target=upload, args=(side,)) for side in range(8, 12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len({*saved}) == 4


def test_a_large_upload_is_stopped(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = client.post("/api/upload", params={"name": "x.png"}, content=b"\0" * (MAX_UPLOAD + 1))
    assert answer.status_code == 400
    assert answer.json()["error"] == "larger than 64 MiB; save it with fewer pixels"


def test_files_of_my_art_may_be_larger_than_the_memory(
    client: TestClient, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A .zip of drawings is."""
    art, data = context.project.folder / "art/large", b"\0" * (MAX_UPLOAD + 1)
    for name in ("x.zip", "y.zip"):
        answer = client.post("/api/art", params={"name": f"large/{name}"}, content=data)
        assert answer.json() == {"path": f"art/large/{name}"}, answer.text
        monkeypatch.setattr(routes_project, "MAX_STREAM", len(data))
    answer = client.post("/api/art", params={"name": "large/z.zip"}, content=data + b"\0")
    assert answer.status_code == 400 and "copy it into the folder art of the project instead" in answer.text
    assert {file.name: file.stat().st_size for file in art.iterdir()} == {"x.zip": len(data), "y.zip": len(data)}


@pytest.mark.parametrize("streamed", [True, False])
def test_a_refused_upload_is_read_to_its_end(streamed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser that still sends does not see the answer."""
    parts = [{"type": "http.request", "body": b"12345", "more_body": more} for more in (True, True, False)]

    async def receive() -> dict[str, Any]:
        return parts.pop(0)

    monkeypatch.setattr(routes_project, "MAX_STREAM", 3)
    monkeypatch.setattr(routes_project, "MAX_UPLOAD", 3)
    request = Request({"type": "http"}, receive)
    if streamed:
        reading = routes_project.save_body(request, tmp_path / "x.zip", "x.zip", "copy it")
    else:
        reading = routes_project.read_body(request)
    with ThreadPoolExecutor(1) as thread, pytest.raises(ProjectError, match="larger than"):
        thread.submit(asyncio.run, reading).result()  # this thread may have the event loop of a browser
    assert not parts


def test_the_quota_is_of_uploads_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kyara.app.project.QUOTA", 10)
    project = Project(tmp_path)
    for i in range(2):  # what is in art belongs to the user, who may have copied it there
        assert project.save_upload(f"art/a/{i}.png", b"12345678") == f"art/a/{i}.png"
    first, second = (f"{STATE}/{UPLOADS}/{i}.png" for i in range(2))
    project.save_upload(first, b"12345678")
    with pytest.raises(ProjectError, match=r"uploads already take .*; delete some in .*\.studio/uploads$"):
        project.save_upload(second, b"12345678")
    (tmp_path / first).unlink()
    project.save_upload(second, b"12345678")  # there is room again


def test_uploads_are_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, counted = Project(tmp_path), list[int]()
    count = project.uploaded
    monkeypatch.setattr(project, "uploaded", lambda: counted.append(1) or count())
    for i in range(5):
        project.save_upload(f"{STATE}/{UPLOADS}/{i}.png", b"12345678")
    assert len(counted) == 1


def test_a_picture_is_kept_and_its_name_cannot_choose_the_place(client: TestClient, context: Context) -> None:
    file = io.BytesIO()
    Image.new("RGBA", (8, 6), (255, 0, 0, 128)).save(file, "PNG")
    found = client.post("/api/upload", params={"name": "../../../evil.png"}, content=file.getvalue()).json()
    assert found == {"path": ".studio/uploads/evil.png", "width": 8, "height": 6, "recipe": False}
    assert (context.project.folder / found["path"]).is_file()
    sent = client.get("/api/file", params={"path": found["path"]})
    assert sent.headers["content-type"] == "image/png"


def test_pages_of_the_project_are_downloads(client: TestClient, context: Context) -> None:
    (context.project.folder / "page.html").write_text("<script>fetch('/api/project')</script>")
    (context.project.folder / "x.svg").write_text("<svg/>")
    for name in ("page.html", "x.svg"):
        sent = client.get("/api/file", params={"path": name})
        assert sent.headers["content-type"] == "application/octet-stream"
        assert sent.headers["content-disposition"].startswith("attachment")


def test_a_full_disk_is_a_sentence(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "x")

    monkeypatch.setattr("kyara.app.project.Project.save_upload", full)
    file = io.BytesIO()
    Image.new("RGB", (8, 6)).save(file, "PNG")
    answer = client.post("/api/upload", params={"name": "a.png"}, content=file.getvalue())
    assert answer.status_code == 507
    assert "No space left" in answer.json()["error"]


def test_a_picture_that_is_deleted_while_it_is_read_is_no_lack_of_space(
    client: TestClient, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    (context.project.folder / "a.png").write_bytes(b"x")

    def gone(path: Any) -> Any:
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr("kyara.app.routes_project.decode", gone)
    assert client.get("/api/file", params={"path": "a.png", "side": 64}).status_code == 400
