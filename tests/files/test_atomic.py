"""Writing files: the old one or the new one, nothing of others, and a full disk ends in a sentence."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kyara.files import ownership
from kyara.files.atomic import (
    check_free,
    free_folder,
    numbered_folder,
    replaced_folder,
    result_folder,
    write_atomic,
    write_errors,
    write_text,
)
from kyara.files.gallery import GalleryWriter
from kyara.files.pictures import write_png


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_atomic(target, lambda temporary: temporary.write_text("old"))

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        write_atomic(target, fail)
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_files_are_open_for_writing_when_they_are_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows flushes no others."""
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.write(descriptor, b"")))
    write_text(tmp_path / "file", "new")
    assert flushed == [0] and (tmp_path / "file").read_text() == "new"


def test_any_name_that_the_file_system_allows_can_be_written(tmp_path: Path) -> None:
    target = tmp_path / ("\u3042" * 81 + ".json")  # 248 of 255 bytes
    write_text(target, "a \udc8a name that is not UTF-8")
    assert target.read_text("utf-8") == "a ? name that is not UTF-8"


def test_folders_of_others_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "drawing.png").write_text("mine")
    for force in (False, True):
        with pytest.raises(FileExistsError, match="contains other files"):
            free_folder(tmp_path / "mine", "gallery.csv", force=force)
    assert (tmp_path / "mine" / "drawing.png").exists()
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "gallery.csv").write_text("")
    with pytest.raises(FileExistsError, match="--force"):
        free_folder(tmp_path / "ours", "gallery.csv")
    assert not freed(tmp_path / "ours")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="a file of that name"):
        free_folder(tmp_path / "file", "gallery.csv", force=True)


def test_check_free_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "gallery.csv").write_text("")
    check_free(tmp_path / "ours", "gallery.csv", force=True)
    assert (tmp_path / "ours" / "gallery.csv").exists()
    with pytest.raises(FileExistsError, match="contains the input"):
        check_free(tmp_path / "ours", "gallery.csv", force=True, sources=[tmp_path / "ours" / "gallery.csv"])
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file, not a folder"):
        check_free(tmp_path / "file" / "inside" / "deep", "gallery.csv")
    check_free(tmp_path / "new" / "deep", "gallery.csv")
    assert not (tmp_path / "new").exists()


def test_writing_does_not_change_the_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is that of the whole process: other threads create files meanwhile."""
    (tmp_path / "usual").touch()
    monkeypatch.setattr(os, "umask", None)
    write_text(tmp_path / "new", "text")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_folders_are_numbered(tmp_path: Path) -> None:
    base = tmp_path / "galleries"
    assert numbered_folder(base, "generate-anime") == base / "00000-generate-anime"
    for name in ("00000-rank-faces", "00007-generate-anime", "mine", "2024-holiday"):
        (base / name).mkdir(parents=True)
    assert numbered_folder(base, "rank-faces") == base / "00008-rank-faces"
    how = {"marker": "gallery.csv", "force": False, "sources": [tmp_path / "faces"]}
    assert result_folder(None, f"{base}/rank-faces", **how) == base / "00008-rank-faces"
    assert result_folder(tmp_path / "mine", f"{base}/rank-faces", **how) == tmp_path / "mine"
    assert not (base / "00008-rank-faces").exists()


def freed(path: Path) -> list[Path]:
    """What remains of a folder that is replaced."""
    hidden = free_folder(path, "gallery.csv", force=True)
    assert hidden is not None
    shutil.rmtree(hidden)
    return [*path.iterdir()]


def gallery_at(path: Path, *names: str, finished: bool = True) -> Path:
    with GalleryWriter(path, ["seed"]) as made:
        for name in names:
            (path / name).parent.mkdir(exist_ok=True)
            made.add(name, np.zeros((8, 8, 3), np.uint8))
        if finished:
            made.finish(command="kyara generate")
    return path


@pytest.mark.parametrize("mine", ["notes.txt", "picked/0001.png", "labels.csv", "given/mine.png", "steps/mine.png"])
def test_force_deletes_nothing_of_the_user(tmp_path: Path, mine: str) -> None:
    path = gallery_at(tmp_path / "g", "0001.png", "given/0001.png")
    (path / mine).parent.mkdir(exist_ok=True)
    (path / mine).write_text("mine")
    before = sorted(path.rglob("*"))
    with pytest.raises(FileExistsError, match=rf"contains {mine}, no part .* move {mine} to another place"):
        free_folder(path, "gallery.csv", force=True)
    assert sorted(path.rglob("*")) == before


def test_the_error_says_how_many_files_are_in_the_way(tmp_path: Path) -> None:
    path = gallery_at(tmp_path / "g", "0001.png")
    for name, text in (("notes.txt", "contains notes.txt, no"), ("o.txt", "contains notes.txt and 1 other file, no"),
                       ("p.txt", "contains notes.txt and 2 other files, no")):  # fmt: skip
        (path / name).write_text("mine")
        with pytest.raises(FileExistsError, match=text):
            free_folder(path, "gallery.csv", force=True)


def test_force_deletes_all_that_a_gallery_has(tmp_path: Path) -> None:
    path = gallery_at(tmp_path / "g", "0001.png", "given/0001.png")
    for name in ("sheet.png", "report.json", "nearest.csv", "tuned/config.json", "tuned/model.safetensors"):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text("")
    for name in ("steps/me-photo.png", "steps/me-other12.png", "steps/me-blend4-wide.png", ".DS_Store", "Thumbs.db"):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text("")
    with (path / "index.html").open("a") as page:
        page.write('<video src="my%20film.mp4">')
    (path / "my film.mp4").write_text("")
    (path / ".gallery.csv.abcd1234.tmp").write_text("")  # of a killed run
    (path / "empty").mkdir()
    assert not freed(path)


def test_force_replaces_what_a_killed_run_left(tmp_path: Path) -> None:
    """Pictures are written before their rows: those are in the journal only."""
    path = gallery_at(tmp_path / "g", "0001.png", "0002.png", finished=False)
    (path / "gallery.csv").write_text("file_name,seed\n")
    assert not freed(path)


def test_force_replaces_what_a_killed_run_of_an_earlier_version_left(tmp_path: Path) -> None:
    """Such a gallery has no journal: pictures without a row are known by their recipe."""
    path = gallery_at(tmp_path / "g", "0001.png", finished=False)
    (path / ".unfinished").unlink()
    write_png(path / "0002.png", np.zeros((8, 8, 3), np.uint8), {"seed": 2})
    assert ownership.foreign(path, "gallery.csv") is None
    mine = path / "mine"
    mine.mkdir()
    (mine / "0002.png").write_bytes((path / "0002.png").read_bytes())  # somebody put it there
    write_png(path / "drawn.png", np.zeros((8, 8, 3), np.uint8))
    (path / "link.png").symlink_to(mine / "0002.png")
    with pytest.raises(FileExistsError, match=r"contains drawn\.png and 2 other files"):
        free_folder(path, "gallery.csv", force=True)
    for name in ("drawn.png", "link.png", "mine/0002.png"):
        (path / name).unlink()
    (path / "index.html").write_text("")  # a finished gallery has a row for each of its pictures
    assert ownership.foreign(path, "gallery.csv") == "0002.png"
    (path / "index.html").unlink()
    assert not freed(path)


def test_a_marker_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    for marker, text in (("config.json", '{"name": "app"}'), ("comparison.json", "[]"), ("gallery.csv", "a,b\n1,2\n")):
        path = tmp_path / marker
        path.mkdir()
        (path / marker).write_text(text)
        with pytest.raises(FileExistsError, match=rf"its {marker} is not of an earlier result"):
            check_free(path, marker, force=True)


def test_force_keeps_the_folder_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = gallery_at(tmp_path / "g", "0001.png")
    monkeypatch.chdir(path)
    assert not freed(Path()) and path.is_dir()
    gallery_at(Path(), "0001.png")
    (tmp_path / "link").symlink_to(path)
    assert not freed(tmp_path / "link") and (tmp_path / "link").is_symlink()
    (tmp_path / "to-come").symlink_to(tmp_path / "new")
    free_folder(tmp_path / "to-come", "gallery.csv")
    assert (tmp_path / "new").is_dir()


def test_a_link_to_a_folder_is_not_followed(tmp_path: Path) -> None:
    path = gallery_at(tmp_path / "g", "0001.png")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "0001.png").write_text("mine")
    (path / "given").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError, match="contains given"):
        free_folder(path, "gallery.csv", force=True)
    assert (tmp_path / "elsewhere" / "0001.png").read_text() == "mine"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_reported_with_the_file(tmp_path: Path, error: Exception) -> None:
    def fail(temporary: Path) -> None:
        raise error

    with pytest.raises(OSError, match=r"a\.bin: cannot be written \(No space left on device\); free some space"):
        write_atomic(tmp_path / "a.bin", fail)
    assert not list(tmp_path.iterdir())


def test_other_errors_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^mistake$"), write_errors(tmp_path / "a"):
        raise ValueError("mistake")
    with pytest.raises(FileNotFoundError, match="source"), write_errors(tmp_path / "a"):
        (tmp_path / "elsewhere" / "source").read_bytes()
    with pytest.raises(OSError, match=r"^explained$"), write_errors(tmp_path / "a"):
        raise OSError("explained")
    with pytest.raises(FileNotFoundError, match="cannot be written"):
        write_atomic(tmp_path / "missing" / "a", lambda temporary: temporary.write_text("x"))


def test_errors_that_are_not_about_the_file_are_not_blamed_on_it(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"^\[Errno \d+\] Too many open files: "), write_errors(tmp_path / "a"):
        raise OSError(errno.EMFILE, "Too many open files", str(tmp_path / "a"))


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX resource limits")
def test_libraries_that_write_files_themselves(tmp_path: Path) -> None:
    script = f"""
import resource, signal, sys, torch
from pathlib import Path
from safetensors.torch import save_file
from kyara.files.atomic import write_atomic
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
state = {{"a": torch.zeros(10_000)}}
for name, write in (("a.pt", torch.save), ("a.safetensors", save_file)):
    try:
        write_atomic(Path({str(tmp_path)!r}) / name, lambda temporary: write(state, temporary))
    except OSError as error:
        print(error)
"""
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown.count("cannot be written") == shown.count("free some space") == 2, shown
    assert not list(tmp_path.iterdir())


def test_an_interrupted_result_leaves_no_new_folder(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "new"
    with pytest.raises(KeyboardInterrupt), replaced_folder(path, "config.json") as new:
        (new / "config.json").write_text("{}")
        raise KeyboardInterrupt
    assert not (tmp_path / "runs").exists()
    path.mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt), replaced_folder(path, "config.json") as new:
        raise KeyboardInterrupt
    assert [*path.iterdir()] == []
    with replaced_folder(path, "config.json") as new:
        (new / "config.json").write_text("{}")
    assert [one.name for one in path.iterdir()] == ["config.json"]
