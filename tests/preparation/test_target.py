"""What `kyara prepare --force` replaces, and what is there while it does."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kyara.files import pictures
from kyara.files.dataset import open_dataset
from kyara.files.errors import DatasetError
from kyara.preparation import prepare as prepare_module
from kyara.preparation.prepare import prepare


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "art").mkdir()
    for i in range(3):
        blobs = np.random.RandomState(i).randint(0, 256, (6, 6, 3), dtype=np.uint8)
        (tmp_path / "art" / f"{i}.png").write_bytes(pictures.encode_png(pictures.resize(blobs, 64, 64)))
    return tmp_path / "art"


@pytest.mark.parametrize("report", [None, '{"kept": 1, "pictures": 3, "left_out": []}', "[" * 100_000, "{"])
def test_force_replaces_only_what_prepare_wrote(folder: Path, tmp_path: Path, report: str | None) -> None:
    """A forgotten OUT makes the last source the output; ranked galleries have a report.json too."""
    with zipfile.ZipFile(tmp_path / "more-art.zip", "w") as archive:
        archive.writestr("thesis.docx", "mine")
    (tmp_path / "ranked").mkdir()
    (tmp_path / "ranked" / "a.png").write_bytes(b"mine")
    if report is not None:
        (tmp_path / "more-art.zip.report.json").write_text(report)
        (tmp_path / "ranked" / "report.json").write_text(report)
    for name in ("more-art.zip", "ranked"):
        for force in (False, True):
            with pytest.raises(FileExistsError) as refused:
                prepare(folder, tmp_path / name, size="32", force=force)
            assert "choose" in str(refused.value) and "add --force" not in str(refused.value)
    with pytest.raises(FileExistsError, match=r"more-art\.zip: exists, but .*if it is a source, give the output"):
        prepare(folder, tmp_path / "more-art.zip", force=True)
    assert zipfile.ZipFile(tmp_path / "more-art.zip").namelist() == ["thesis.docx"]
    assert (tmp_path / "ranked" / "a.png").exists()


def test_a_zip_never_lacks_its_report(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between both, a run could otherwise not go on: --force replaces no .zip without a report."""
    out, replace = tmp_path / "out.zip", Path.replace
    missing: list[Path] = []

    def replacing(self: Path, target: Path) -> Path:
        moved = replace(self, target)
        missing.extend([target] if out.exists() and not (tmp_path / "out.zip.report.json").is_file() else [])
        return moved

    monkeypatch.setattr(Path, "replace", replacing)
    prepare(folder, out, size="32")
    prepare(folder, out, size="32", force=True)
    assert not missing and out.is_file()


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_that_were_added_to_a_zip_stop_force(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zip"
    prepare(folder, out, size="32")
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("mine/extra.png", b"drawn by me")
        archive.writestr("notes.txt", "mine")
    before = out.read_bytes()
    with pytest.raises(FileExistsError, match=r"out\.zip: contains mine/extra\.png and 1 other file, which"):
        prepare(folder, out, size="48", force=True)
    assert out.read_bytes() == before


@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_what_was_there_is_put_back_if_it_cannot_be_replaced(
    folder: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, replace = tmp_path / name, Path.replace
    prepare(folder, out, size="32")
    before = content(tmp_path)

    def failing(self: Path, target: Path) -> Path:
        if target == out and self.name in ("new", "zip"):
            raise OSError(5, "Input/output error", str(target))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(OSError, match="cannot be written"):
        prepare(folder, out, size="48", force=True)
    after = content(tmp_path)
    assert {file for file in after if file not in before} == {f"{name}.unfinished/progress.sqlite"}
    assert {file: after[file] for file in before} == before


@pytest.mark.parametrize("name", ["out", "out.zip"])
@pytest.mark.parametrize("first", [False, True])
def test_a_file_that_is_put_there_meanwhile_is_not_deleted(
    folder: Path, tmp_path: Path, name: str, first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / name
    if not first:
        prepare(folder, out, size="32")

    def put(*args: Any) -> str:
        if out.suffix:
            with zipfile.ZipFile(out, "a") as archive:
                archive.writestr("mine.txt", "mine")
        else:
            out.mkdir(exist_ok=True)
            (out / "mine.txt").write_text("mine")
        return ""

    with monkeypatch.context() as patched:
        patched.setattr(prepare_module, "page", put)
        with pytest.raises(FileExistsError, match="is not replaced"):
            prepare(folder, out, size="48", force=True)
    files = zipfile.ZipFile(out).namelist() if out.suffix else [file.name for file in out.iterdir()]
    assert "mine.txt" in files and (first or open_dataset(out).picture(0).shape[0] == 32)
    assert (tmp_path / f"{name}.unfinished" / "progress.sqlite").is_file()


def test_what_a_killed_run_moved_away_is_put_back(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(folder, out, size="32")
    (tmp_path / "out.unfinished").mkdir()
    (tmp_path / "out.unfinished" / "progress.sqlite").touch()
    out.rename(tmp_path / "out.unfinished" / "old.out")  # killed before the new one was in its place
    with pytest.raises(FileExistsError, match="already exists; add --force"):
        prepare(folder, out, size="48")
    assert len(open_dataset(out)) == 3
    (tmp_path / "out.unfinished" / "old.out").mkdir()  # killed after that
    (tmp_path / "out.unfinished" / "old.out" / "report.json").touch()
    assert prepare(folder, out, size="48", force=True).kept == 3 and not (tmp_path / "out.unfinished").exists()


def test_an_error_keeps_what_was_done(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no picture was left"):
        prepare(folder, tmp_path / "out", size="32", min_size=1000)
    assert (tmp_path / "out.unfinished" / "progress.sqlite").is_file()
    assert prepare(folder, tmp_path / "out", size="32").kept == 3 and not (tmp_path / "out.unfinished").exists()


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_a_link_is_written_through(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / name).symlink_to(tmp_path / "disk" / name)
    for size in (32, 48):
        prepare(folder, tmp_path / name, size=str(size), force=size == 48)
        assert (tmp_path / name).is_symlink() and open_dataset(tmp_path / "disk" / name).picture(0).shape[0] == size


def test_a_link_to_a_zip_may_lead_to_another_name(folder: Path, tmp_path: Path) -> None:
    """As managers of large files keep them."""
    prepare(folder, tmp_path / "out.zip", size="32")
    content = (tmp_path / "out.zip").rename(tmp_path / "blob")
    (tmp_path / "out.zip.report.json").rename(tmp_path / "blob.report.json")
    (tmp_path / "out.zip").symlink_to(content)
    prepare(folder, tmp_path / "out.zip", size="48", force=True)
    assert (tmp_path / "out.zip").is_symlink() and open_dataset(tmp_path / "out.zip").picture(0).shape[0] == 48


def test_an_output_without_a_name_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = folder.parent / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for out in (".", ".."):
        with pytest.raises(ValueError, match=r"\.: has no name; give that of the folder, such as \.\./"):
            prepare(folder, Path(out), size="32")
