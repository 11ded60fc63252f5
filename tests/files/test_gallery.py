"""The Gallery: what is written can be read, nothing else is touched, and hostile text stays text."""

from __future__ import annotations

import base64
import hashlib
import io
import math
import re
import shlex
import struct
import threading
import weakref
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from kyara.files import gallery
from kyara.files.errors import GalleryError
from kyara.files.gallery import (
    ON_PAGE,
    ON_SHEET,
    SPARE,
    WAITING,
    GalleryWriter,
    best_first,
    read_gallery,
    thumbnail,
)  # fmt: skip
from kyara.files.gallery_page import page
from kyara.files.names import counted, printable, short_name, slug
from kyara.files.pictures import decode, encode_png, read_recipe, sheet

PNG = encode_png(np.zeros((8, 12, 3), np.uint8))


def write(path: Path, scores: list[float | None], keep: int | None = None) -> list[dict[str, str]]:
    with GalleryWriter(path, ["seed", "hair", "score"]) as made:
        for seed, score in enumerate(scores):
            made.add(f"seed{seed:04d}.png", PNG, seed=seed, score=score, hair="blue, light\nand dark")
        return made.finish(command="kyara generate", keep=keep)


def test_no_open_file_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows refuses it."""
    replace = Path.replace
    with GalleryWriter(tmp_path / "g", ["seed"]) as made:

        def closed(source: Path, target: Path) -> Path:
            assert target.name != "gallery.csv" or made._table.closed
            return replace(source, target)

        monkeypatch.setattr(Path, "replace", closed)
        made.add("a.png", PNG, seed=1)
        made.finish(command="kyara generate")
    assert [row["seed"] for row in read_gallery(tmp_path / "g")] == ["1"]


def test_what_is_written_is_read_back_best_first(tmp_path: Path) -> None:
    first = write(tmp_path / "g", [0.2, 0.9, 0.5, 0.9])
    rows = read_gallery(tmp_path / "g")
    assert rows == first
    assert [row["seed"] for row in rows] == ["1", "3", "2", "0"]
    assert rows[0] == {
        "file_name": "seed0001.png", "seed": "1", "hair": "blue, light\nand dark", "score": "0.9000"
    }  # fmt: skip
    assert sorted(p.name for p in (tmp_path / "g").iterdir()) == sorted(
        ["gallery.csv", "index.html", "sheet.png", *(row["file_name"] for row in rows)]
    )


def test_without_scores_the_order_of_making_stays(tmp_path: Path) -> None:
    rows = write(tmp_path / "g", [None, None, None])
    assert [row["seed"] for row in rows] == ["0", "1", "2"]
    assert {row["score"] for row in rows} == {""}


def test_keep_deletes_the_others(tmp_path: Path) -> None:
    write(tmp_path / "g", [0.2, 0.9, 0.5], keep=2)
    assert [row["seed"] for row in read_gallery(tmp_path / "g")] == ["1", "2"]
    assert sorted(p.name for p in (tmp_path / "g").glob("seed*")) == ["seed0001.png", "seed0002.png"]


def test_an_interrupted_run_leaves_a_gallery(tmp_path: Path) -> None:
    path = tmp_path / "new one" / "g"
    with pytest.raises(KeyboardInterrupt) as stopped, GalleryWriter(path, ["seed"]) as made:
        made.add("a.png", PNG, seed=4)
        raise KeyboardInterrupt
    where = shlex.quote(str(path))
    assert stopped.value.args == (f"interrupted: 1 picture in {where}; --out {where} --force begins again",)
    with pytest.raises(FileExistsError, match="unfinished result of an interrupted command; add --force"):
        GalleryWriter(path, ["seed"])
    assert read_gallery(path) == [{"file_name": "a.png", "seed": "4"}]
    with GalleryWriter(path, ["seed"], force=True) as made:
        assert made.finish(command="") == []
    assert not (path / "a.png").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("existing", [False, True])
def test_an_interrupted_run_without_a_picture_leaves_nothing(
    tmp_path: Path, error: type[BaseException], existing: bool
) -> None:
    path = tmp_path / "galleries" / "g"
    if existing:
        path.mkdir(parents=True)
    before = [*tmp_path.rglob("*")]
    with pytest.raises(error) as stopped, GalleryWriter(path, ["seed"]) as made:
        (path / "steps").mkdir()
        (path / "steps" / "a-photo.png").write_bytes(PNG)
        made.announce("b.mp4")
        (path / "b.mp4").write_bytes(b"half a film")
        raise error
    assert [*tmp_path.rglob("*")] == before and stopped.value.args == ()


def test_an_interruption_that_says_something_keeps_its_text(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt, match="my text"), GalleryWriter(tmp_path / "g", ["seed"]) as made:
        made.add("a.png", PNG, seed=4)
        raise KeyboardInterrupt("my text")


def test_the_earlier_gallery_is_kept_until_a_picture_is_written(tmp_path: Path) -> None:
    path = tmp_path / "g"
    with GalleryWriter(path, ["seed"]) as made:
        (path / "steps").mkdir()
        (path / "steps" / "a-photo.png").write_bytes(PNG)
        made.add("a.png", PNG, seed=1)
        made.finish(command="")
    before = {file: file.is_file() and file.read_bytes() for file in path.rglob("*")}
    with pytest.raises(RuntimeError, match="no memory"), GalleryWriter(path, ["score"], force=True) as made:
        assert not (path / "a.png").exists()
        (path / "steps").mkdir()
        (path / "steps" / "a-photo.png").write_bytes(b"of this run")
        made.announce("b.mp4")
        (path / "b.mp4").write_bytes(b"half a film")
        raise RuntimeError("no memory")
    assert {file: file.is_file() and file.read_bytes() for file in path.rglob("*")} == before
    with pytest.raises(KeyboardInterrupt), GalleryWriter(path, ["seed"], force=True) as made:
        made.add("b.png", PNG, seed=2)
        raise KeyboardInterrupt
    assert read_gallery(path) == [{"file_name": "b.png", "seed": "2"}]
    assert sorted(file.name for file in path.iterdir()) == [".unfinished", "b.png", "gallery.csv"]


def test_files_of_the_user_are_kept_when_the_earlier_gallery_is_put_back(tmp_path: Path) -> None:
    path = tmp_path / "g"
    write(path, [0.1])
    with pytest.raises(RuntimeError), GalleryWriter(path, ["seed"], force=True):
        (path / "mine.txt").write_text("mine")
        (path / "seed0000.png").write_text("mine too")
        raise RuntimeError
    assert len(read_gallery(path)) == 1 and (path / "mine.txt").read_text() == "mine"
    assert (path / "seed0000.png").read_text() == "mine too"
    (kept,) = path.glob(".kyara.*.tmp/*")
    assert kept.read_bytes() == PNG


def test_the_earlier_gallery_is_put_back_if_there_can_be_no_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "g", [0.1])
    with monkeypatch.context() as patched:
        patched.setattr(gallery, "JOURNAL", "missing/journal")
        with pytest.raises(FileNotFoundError):
            GalleryWriter(tmp_path / "g", ["seed"], force=True)
    assert len(read_gallery(tmp_path / "g")) == 1 and decode(tmp_path / "g" / "seed0000.png").shape == (8, 12, 3)


def test_a_killed_run_leaves_both_galleries(tmp_path: Path) -> None:
    path = tmp_path / "g"
    write(path, [0.1])
    killed = GalleryWriter(path, ["seed"], force=True)
    (kept,) = path.glob(".kyara.*.tmp")
    assert len(read_gallery(kept)) == 1 and (kept / "seed0000.png").read_bytes() == PNG
    killed._table.close()
    killed._journal.close()
    with GalleryWriter(path, ["seed"], force=True) as made:
        made.finish(command="")
    assert sorted(file.name for file in path.iterdir()) == ["gallery.csv", "index.html"]


def test_nothing_of_the_user_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="contains other files"):
        GalleryWriter(tmp_path / "g", [], force=True)
    write(tmp_path / "h", [0.1])
    with pytest.raises(FileExistsError, match="--force"):
        GalleryWriter(tmp_path / "h", [])
    for source in (tmp_path / "h", tmp_path / "h" / "seed0000.png"):
        with pytest.raises(FileExistsError, match="contains the input"):
            GalleryWriter(tmp_path / "h", [], sources=[source], force=True)
    assert (tmp_path / "h" / "seed0000.png").exists()


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "a/../../b.png", "", "a\0.png"])
def test_a_row_that_leads_outside_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "gallery.csv").write_text(f'file_name,seed\n"{name}",1\n')
    with pytest.raises(GalleryError, match=r"gallery\.csv"):
        read_gallery(tmp_path)


def test_a_link_that_leads_outside_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(PNG)
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "a.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "g" / "gallery.csv").write_text("file_name\na.png\n")
    with pytest.raises(GalleryError, match="inside"):
        read_gallery(tmp_path / "g")


@pytest.mark.parametrize("table", [b"", b"seed,score\n1,2\n", b'file_name\n"' + b"x" * 200_000])
def test_a_garbled_table_says_so(tmp_path: Path, table: bytes) -> None:
    (tmp_path / "gallery.csv").write_bytes(table)
    with pytest.raises(GalleryError, match=r"gallery\.csv"):
        read_gallery(tmp_path)


def test_a_table_from_a_spreadsheet_is_read(tmp_path: Path) -> None:
    (tmp_path / "gallery.csv").write_bytes(b"\xef\xbb\xbffile_name,seed,hair\r\na.png,1\r\n\r\nb.png,2,red,extra\r\n")
    rows = read_gallery(tmp_path)
    assert rows == [
        {"file_name": "a.png", "seed": "1", "hair": ""},
        {"file_name": "b.png", "seed": "2", "hair": "red"},
    ]


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_hostile_text_stays_text() -> None:
    evil = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
    row = {"file_name": f"{evil}.png", "score": evil, "seed": evil, evil: evil, "source": f"{evil}\udcff"}
    html = page(evil, [row, {"file_name": "javascript:alert(1)"}], 2, about=evil, command=evil)
    seen = Tags(html).tags
    assert "script" not in {tag for tag, _ in seen}
    assert not {key for _, attributes in seen for key in attributes if key.startswith("on")}
    assert [a["src"] for tag, a in seen if tag == "img"] == [
        "%22%3E%3Cscript%3Ealert%281%29%3C/script%3E%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E.png",
        "javascript%3Aalert%281%29",
    ]


def test_the_page_needs_nothing_from_outside(tmp_path: Path) -> None:
    write(tmp_path / "g", [0.5, 0.25])
    html = (tmp_path / "g" / "index.html").read_text()
    assert not re.search(r"https?:|//|<script|<link|@import|url\(", html)
    for tag, attributes in Tags(html).tags:
        target = attributes.get("src") or attributes.get("href") or "#"
        assert target.startswith("#") or (tmp_path / "g" / target).is_file(), (tag, target)
    assert "aspect-ratio: 1.5000" in html
    assert "kyara generate" in html
    assert "50%" in html
    assert "seed 1" in html


def test_the_page_is_cut_and_says_so() -> None:
    rows = [{"file_name": f"{i}.png"} for i in range(ON_PAGE)]
    html = page("many", rows, 100_000)
    assert "100,000 pictures" in html
    assert "the first 1,000 are on this page" in html
    assert "are on this page" not in page("few", rows[:3], 3)


def test_a_name_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[31mb\nc\udcffキャラ") == "a\ufffd[31mb\ufffdc\ufffdキャラ"


def test_names_of_folders(tmp_path: Path) -> None:
    (tmp_path / "run.1").mkdir()
    names = {"builtin:anime": "anime", "hf-hub:owner/name": "name", "data/faces.zip": "faces"}
    names |= {
        str(tmp_path / "run.1"): "run-1",
        "a b/c d.png": "c-d",
        "日本語": "日本語",
        "///": "pictures",
    }
    assert {text: short_name(text) for text in names} == names
    assert slug("x" * 100) == "x" * 60
    assert [counted(1, "picture"), counted(2000, "picture"), counted(0, "child", "children")] == [
        "1 picture", "2,000 pictures", "0 children"
    ]  # fmt: skip


def test_the_sheet_is_made_of_what_was_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = ON_SHEET + 2 * SPARE + 10
    random = np.random.RandomState(0)
    pictures = random.randint(0, 255, (count, 6, 4, 3)).astype(np.uint8)
    scores = random.permutation(count) // 2 / count  # each occurs twice
    monkeypatch.setattr("kyara.files.gallery.decode", None)  # nothing is decoded again
    with GalleryWriter(tmp_path / "g", ["score"]) as made:
        for i, picture in enumerate(pictures):
            made.add(f"{i}.png", picture, {"seed": i}, score=float(scores[i]))
            assert len(made._thumbnails) < ON_SHEET + SPARE
        rows = made.finish(command="")
    order = sorted(range(count), key=lambda i: -scores[i])
    assert [row["file_name"] for row in rows] == [f"{i}.png" for i in order]
    assert read_recipe(tmp_path / "g" / "7.png") == {"seed": 7}
    assert np.array_equal(decode(tmp_path / "g" / "sheet.png"), sheet(pictures[order[:ON_SHEET]]))


def test_the_sheet_of_png_files(tmp_path: Path) -> None:
    large = np.random.RandomState(0).randint(0, 255, (300, 600, 3)).astype(np.uint8)
    with GalleryWriter(tmp_path / "g", []) as made:
        made.add("a.png", encode_png(large))
        made.add("b.png", large)
        made.finish(command="")
    assert thumbnail(large).shape == (128, 256, 3)
    assert np.array_equal(decode(tmp_path / "g" / "sheet.png"), sheet([thumbnail(large)] * 2))


def test_a_column_may_have_any_name(tmp_path: Path) -> None:
    columns = ["picture", "recipe", "self", "file"]
    with GalleryWriter(tmp_path / "g", columns) as made:
        made.add("a.png", PNG, **dict.fromkeys(columns, "x"))
    assert read_gallery(tmp_path / "g") == [{"file_name": "a.png"} | dict.fromkeys(columns, "x")]


def test_the_page_plays_films() -> None:
    html = page("a film", [{"file_name": "a.png"}], 1, films=["walk <1>.mp4", "interpolation.webp"])
    videos = [a for tag, a in Tags(html).tags if tag == "video"]
    assert [video["src"] for video in videos] == ["walk%20%3C1%3E.mp4"] and "controls" in videos[0]
    assert "img-src 'self' file:; media-src 'self' file:" in html
    assert '<img src="interpolation.webp"' in html and "<p>1 picture</p>" in html
    assert "media-src" not in page("pictures", [{"file_name": "a.png"}], 1, films=["interpolation.webp"])


def test_threads_write_and_the_rows_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "processors", lambda: 3)
    encode, slow, encoders = gallery.encode_png, threading.Event(), set()

    def watched(picture: np.ndarray, recipe: dict[str, int]) -> bytes:
        encoders.add(threading.get_ident())
        if recipe["seed"] == 0:
            slow.wait(10)  # the first picture is the last to be encoded
        return encode(picture, recipe)

    monkeypatch.setattr(gallery, "encode_png", watched)
    with GalleryWriter(tmp_path / "g", ["seed"]) as made:
        for seed in range(3 * WAITING):
            made.add(f"{seed}.png", np.full((4, 4, 3), seed, np.uint8), {"seed": seed}, seed=seed)
        assert not read_gallery(tmp_path / "g") and len(made) == 3 * WAITING  # no row before its file
        slow.set()
        for seed in range(3 * WAITING, 99):
            made.add(f"{seed}.png", np.full((4, 4, 3), seed, np.uint8), {"seed": seed}, seed=seed)
            assert len(made._waiting) <= 3 * WAITING and len(made) == seed + 1
        made.flush()
        assert [row["seed"] for row in read_gallery(tmp_path / "g")] == [str(seed) for seed in range(99)]
    assert all(decode(tmp_path / "g" / f"{seed}.png")[0, 0, 0] == seed for seed in range(99))
    assert threading.get_ident() not in encoders


@pytest.mark.parametrize("last", ["flush", "finish", "leave"])
def test_a_picture_that_cannot_be_written_is_an_error(tmp_path: Path, last: str) -> None:
    with pytest.raises(OSError, match=r"missing/a\.png: cannot be written"), GalleryWriter(tmp_path / "g", []) as made:
        made.add("first.png", PNG)
        made.add("missing/a.png", np.zeros((4, 4, 3), np.uint8))
        if last == "flush":
            made.flush()
        if last == "finish":
            made.finish(command="")
    assert read_gallery(tmp_path / "g") == [{"file_name": "first.png"}]


def test_the_order_of_a_gallery() -> None:
    scores = [0.5, math.nan, 0.9, 0.5, 0.9, math.nan]
    assert best_first(scores, range(6)) == [2, 4, 0, 3, 1, 5]
    assert best_first(scores, [5, 3, 0]) == [3, 0, 5]


def test_every_gallery_has_that_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "best_first", lambda scores, indices: sorted(indices, key=lambda i: scores[i]))
    with GalleryWriter(tmp_path / "made", ["score"]) as made:
        for i, score in enumerate([0.5, 0.1, 0.9]):
            made.add(f"{i}.png", np.zeros((8, 8, 3), np.uint8), score=score)
        assert [row["file_name"] for row in made.finish(command="")] == ["1.png", "0.png", "2.png"]


def test_a_slider_between_a_picture_and_what_it_was_made_from(tmp_path: Path) -> None:
    """Only with such pictures has the page a script, which is the only one that it allows."""
    photo, drawn = np.full((30, 20, 3), 200, np.uint8), np.zeros((30, 20, 3), np.uint8)
    with GalleryWriter(tmp_path / "pairs", ["before"]) as gallery:
        gallery.add("a.png", drawn, {}, photo, before="a column")
        gallery.add("b.png", drawn)
        gallery.finish(command="kyara translate")
    html = (tmp_path / "pairs" / "index.html").read_text("utf-8")
    assert html.count('type="range"') == 1 and html.count("<script>") == 1
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{allowed}'" in html
    (embedded,) = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    assert np.abs(decode(base64.b64decode(embedded), "a.jpg").astype(int) - photo).max() < 4
    assert read_gallery(tmp_path / "pairs")[0]["before"] == "a column"


def test_a_contact_sheet_holds_few_pictures_of_full_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "processors", lambda: 2)
    files = [tmp_path / f"{i}.png" for i in range(40)]
    for i, file in enumerate(files):
        file.write_bytes(encode_png(np.full((40, 60, 3), 6 * i, np.uint8)))
    alive, most, lock = 0, 0, threading.Lock()

    def count(change: int) -> None:
        nonlocal alive, most
        with lock:
            alive, most = alive + change, max(most, alive + change)

    def counted(file: Path) -> np.ndarray:
        picture = decode(file)
        count(1)
        weakref.finalize(picture, count, -1)
        return picture

    monkeypatch.setattr(gallery, "decode", counted)
    made = decode(gallery.contact_sheet(files))
    assert made.shape == (6 * 42 + 2, 7 * 62 + 2, 3)
    assert [made[20, 62 * i + 30, 0] for i in range(7)] == [*range(0, 42, 6)]
    assert most <= 4


def test_a_png_whose_first_chunk_is_another(tmp_path: Path) -> None:
    """Those of iPhone programs begin with CgBI."""
    png = encode_png(np.zeros((8, 12, 3), np.uint8))
    note = b"tEXta\0b"
    chunk = struct.pack(">I", len(note) - 4) + note + struct.pack(">I", zlib.crc32(note))
    with GalleryWriter(tmp_path / "g", []) as made:
        made.add("a.png", png[:8] + chunk + png[8:])
        made.finish(command="", sheet=gallery.contact_sheet)
    assert "1.5000" in (tmp_path / "g" / "index.html").read_text()


def test_the_page_shows_a_turned_picture_upright(tmp_path: Path) -> None:
    """Browsers turn it by its EXIF rotation."""
    turned, exif = io.BytesIO(), Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (12, 8)).save(turned, "PNG", exif=exif)
    with GalleryWriter(tmp_path / "g", []) as made:
        made.add("a.png", turned.getvalue())
        made.finish(command="")
    assert "aspect-ratio: 0.6667" in (tmp_path / "g" / "index.html").read_text()


def test_the_page_lists_what_is_left_out(tmp_path: Path) -> None:
    with GalleryWriter(tmp_path / "g", ["seed"]) as made:
        made.finish(command="", left_out=[(f"<b>{i}.png", "not a picture\n") for i in range(22)])
    text = (tmp_path / "g" / "index.html").read_text()
    assert "left out: 22<" in text and "<li>&lt;b&gt;19.png: not a picture\N{REPLACEMENT CHARACTER}</li>" in text
    assert "20.png" not in text and "<li>and 2 more</li>" in text


def test_parts_of_a_score_are_rounded_as_the_score_is(tmp_path: Path) -> None:
    with GalleryWriter(tmp_path / "g", ["score", "score_eyes"]) as made:
        made.add("a.png", PNG, score=0.9851, score_eyes="0.9851")
        made.finish(command="")
    text = (tmp_path / "g" / "index.html").read_text()
    assert "eyes 0.99" in text and ">99%<" in text
