"""An interrupted `kyara prepare` goes on where it stopped."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kyara.files import pictures
from kyara.files.archive import Folder
from kyara.files.dataset import open_dataset
from kyara.files.errors import DatasetError, PictureError
from kyara.preparation import fit as fitting
from kyara.preparation import prepare as module
from kyara.preparation.duplicates import Seen, impression
from kyara.preparation.faces import Box, Face
from kyara.preparation.fit import Found, Made
from kyara.preparation.prepare import prepare
from kyara.preparation.progress import TEMPORARY, Progress

COUNT = 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "art").mkdir()
    for i in range(COUNT):
        blobs = np.random.RandomState(i).randint(0, 256, (6, 6, 3), dtype=np.uint8)
        (tmp_path / "art" / f"{i:02d}.png").write_bytes(pictures.encode_png(pictures.resize(blobs, 64, 64)))
    (tmp_path / "art" / "text.png").write_text("no picture")
    return tmp_path / "art"


def content(path: Path) -> dict[str, bytes]:
    """The files of a result, except the report, which names the result itself."""
    files = [file for file in path.rglob("*") if file.is_file() and file.suffix not in (".json", ".html")]
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def stop_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    find = Seen.find

    def stop(self: Seen, seen: Any) -> Any:
        if self.count == count:
            raise KeyboardInterrupt
        return find(self, seen)

    monkeypatch.setattr(Seen, "find", stop)


@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_what_was_there_stays_until_the_new_result_is_complete(
    folder: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / name
    prepare(folder, out, size="32")
    before = sorted(tmp_path.iterdir())
    stop_after(monkeypatch, 5)
    with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
        prepare(folder, out, size="48", workers=1, force=True)
    unfinished = tmp_path / f"{name}.unfinished"
    assert sorted(tmp_path.iterdir()) == sorted([*before, unfinished]) and open_dataset(out).picture(0).shape[0] == 32
    monkeypatch.undo()
    prepare(folder, out, size="48", force=True)
    assert sorted(tmp_path.iterdir()) == before and open_dataset(out).picture(0).shape[0] == 48


def test_a_run_that_is_stopped_before_it_did_anything_leaves_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "start", stop)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt, match="before a picture was done"):
        prepare(folder, tmp_path / "out", size="32", workers=1)
    assert sorted(tmp_path.iterdir()) == before


def test_no_picture_is_done_twice(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(folder, tmp_path / "whole", size="32")
    decoded: list[str] = []
    decode = pictures.decode

    def counting(source: Any, name: str | None = None) -> np.ndarray:
        if name is not None and isinstance(source, bytes):
            decoded.append(name)
            if decoded.count("07.png") == 2:  # once for its faces, once to be cut
                raise KeyboardInterrupt
        return decode(source, name)

    monkeypatch.setattr(fitting.pictures, "decode", counting)
    with pytest.raises(KeyboardInterrupt):
        prepare(folder, tmp_path / "out", size="32", workers=0)
    assert len(decoded) == COUNT + 1 + 8
    decoded.clear()
    prepare(folder, tmp_path / "out", size="32", workers=0)
    assert sorted(decoded) == [*(f"{i:02d}.png" for i in range(7, COUNT)), "text.png", "text.png"]  # again
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_other_options_begin_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_after(monkeypatch, 5)
    with pytest.raises(KeyboardInterrupt):
        prepare(folder, tmp_path / "out", size="32")
    monkeypatch.undo()
    assert prepare(folder, tmp_path / "out", size="48").kept == COUNT
    assert {open_dataset(tmp_path / "out").picture(i).shape for i in range(COUNT)} == {(48, 48, 3)}


def test_a_picture_that_was_changed_meanwhile_is_read_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = folder / "00.bmp"
    for seed in (50, 51):
        noise = np.random.RandomState(seed).randint(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(first)  # of the same number of bytes
        os.utime(first, (seed, seed))
        if seed == 50:
            stop_after(monkeypatch, 5)
            with pytest.raises(KeyboardInterrupt):
                prepare(folder, tmp_path / "out", size="32", workers=0)
            monkeypatch.undo()
    prepare(folder, tmp_path / "out", size="32", workers=0)
    prepare(folder, tmp_path / "fresh", size="32", workers=0)
    assert content(tmp_path / "out") == content(tmp_path / "fresh")


@pytest.mark.parametrize("times", [1, 2])
def test_a_picture_that_can_be_read_again_is_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """As after a network drive was away while its faces were searched, or still when it was to be cut."""
    read, tried = Folder.read, list[str]()

    def away(self: Folder, name: str) -> bytes:
        tried.append(name)
        if name == "00.png" and tried.count(name) <= times:
            raise PictureError(f"{name}: the drive is away")
        return read(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "read", away)
        stop_after(patch, 5)
        with pytest.raises(KeyboardInterrupt):
            prepare(folder, tmp_path / "out", size="32", workers=0)
    assert tried.count("00.png") == 2
    assert prepare(folder, tmp_path / "out", size="32", workers=0).kept == COUNT
    prepare(folder, tmp_path / "whole", size="32", workers=0)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_a_folder_that_is_not_ours_is_not_touched(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out.unfinished").mkdir()
    (tmp_path / "out.unfinished" / "letter.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"out\.unfinished: exists and is not what an interrupted run left"):
        prepare(folder, tmp_path / "out", size="32")
    assert (tmp_path / "out.unfinished" / "letter.txt").read_text() == "mine"


def test_two_runs_do_not_write_the_same_output(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out.unfinished").mkdir()
    first = Progress(tmp_path / "out.unfinished" / "progress.sqlite")
    with pytest.raises(OSError, match="another `kyara prepare` may be writing the same output"):
        prepare(folder, tmp_path / "out", size="32")
    first.close()
    assert prepare(folder, tmp_path / "out", size="32").kept == COUNT


@pytest.mark.parametrize("damage", ["file", "page", "row"])
def test_a_damaged_file_is_named_with_what_to_do(folder: Path, tmp_path: Path, damage: str) -> None:
    unfinished = tmp_path / "out.unfinished"
    with pytest.raises(DatasetError, match="no picture was left"):
        prepare(folder, tmp_path / "out", size="32", min_size=1000, detect="none")
    file = unfinished / "progress.sqlite"
    if damage == "row":
        with closing(sqlite3.connect(file)) as opened, opened:
            opened.execute("UPDATE results SET result = '{'")
    else:
        begin = 0 if damage == "file" else 4096
        file.write_bytes(file.read_bytes()[:begin] + b"x" * 20_000)
    kept = file.read_bytes()
    with pytest.raises(OSError, match=r"damaged, as after a power failure; delete .*out\.unfinished to begin again"):
        prepare(folder, tmp_path / "out", size="32", min_size=1000, detect="none")
    assert file.read_bytes() == kept


def test_a_temporary_file_has_no_folder_to_delete() -> None:
    progress = Progress(TEMPORARY)
    progress.start("faces", ["a"])
    progress._file.execute("INSERT INTO results VALUES ('faces', 0, '{')")
    with pytest.raises(OSError, match=r"^the temporary file: cannot be used .* power failure; run the command again$"):
        progress.get("faces", 0)


def test_results_are_read_back_as_they_were() -> None:
    progress = Progress(TEMPORARY)
    progress.start("faces", ["a"])
    points = np.arange(4.0).reshape(2, 2)
    face = Face(1, 2, 30, 40, 0.75, eyes=points, mouth=points + 5, nose=points[0], trusted=False)
    progress.add("faces", 0, Found((50, 60), [face, Box(0, 0, 5, 5)]))
    progress.add("faces", 1, PictureError("b.png: damaged"))
    found = progress.get("faces", 0)
    assert found.size == (50, 60) and found.faces[1] == Box(0, 0, 5, 5) and not found.faces[0].trusted
    assert np.array_equal(found.faces[0].mouth, points + 5) and found.faces[0].score == 0.75
    assert str(progress.get("faces", 1)) == "b.png: damaged" and progress.done("faces") == {0, 1}
    progress.start("faces", ["a"])
    assert progress.done("faces") == {0, 1}
    progress.start("faces", ["b"])
    assert progress.done("faces") == set()


def test_what_a_worker_made_is_not_made_again() -> None:
    """The impression is that of another picture here, so it was not derived from the data."""
    random, progress = np.random.RandomState(0), Progress(TEMPORARY)
    picture, other = random.randint(0, 256, (2, 40, 48, 3), dtype=np.uint8)
    encoded, seen = pictures.encode_webp(picture), impression(other)
    kept, doubtful = Made(None, "", "", 0.5, b"small", encoded, seen), Made(1, "uncertain", "why", 0.1, b"s")
    progress.add("pictures", 0, ((40, 48), [kept, doubtful]))
    size, (made, left_out) = progress.get("pictures", 0)
    assert size == (40, 48) and (made.thumbnail, made.data, made.sharpness) == (b"small", encoded, 0.5)
    assert (made.impression.digest, made.impression.detail) == (seen.digest, seen.detail)
    assert np.array_equal(made.impression.outline, seen.outline) and made.impression.outline.dtype == np.float32
    assert left_out == doubtful


def test_pictures_of_an_older_version_are_made_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(folder, tmp_path / "whole", size="32")
    stop_after(monkeypatch, 5)
    monkeypatch.setattr(module, "RULES", 1)
    with pytest.raises(KeyboardInterrupt):
        prepare(folder, tmp_path / "out", size="32", workers=0)
    monkeypatch.undo()
    with closing(sqlite3.connect(tmp_path / "out.unfinished" / "progress.sqlite")) as file, file:
        query = "SELECT result FROM results WHERE stage = 'pictures' AND result NOT LIKE '%error%'"
        rows = file.execute(query).fetchall()
        for (row,) in rows:  # as it was stored before the impressions were
            result = json.loads(row)
            result["made"] = [{**made, "impression": None} for made in result["made"]]
            file.execute("UPDATE results SET result = ? WHERE result = ?", [json.dumps(result), row])
    assert len(rows) >= 5
    prepare(folder, tmp_path / "out", size="32", workers=0)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_run_goes_on(folder: Path, tmp_path: Path) -> None:
    slow = (
        "import sys, time; from pathlib import Path; from kyara.preparation import prepare as p; fit = p.fit\n"
        "def slowly(*a, **k): time.sleep(0.2); return fit(*a, **k)\n"
        "p.fit = slowly; p.prepare(Path(sys.argv[1]), Path(sys.argv[2]), size='32', workers=0)"
    )
    out = tmp_path / "out.zip"
    run = subprocess.Popen([sys.executable, "-c", slow, folder, out])
    file = tmp_path / "out.zip.unfinished" / "progress.sqlite"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (file.is_file() and len(_stored(file)) >= 3):
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    run.wait()
    done = Progress(file)
    assert 3 <= len(done.done("pictures")) < COUNT
    done.close()
    assert prepare(folder, out, size="32").kept == COUNT
    assert not (tmp_path / "out.zip.unfinished").exists()


def _stored(file: Path) -> list[bytes]:
    """The pictures in the file so far, without opening it, as it is locked."""
    return file.read_bytes().split(b'"made": [{')[1:]
