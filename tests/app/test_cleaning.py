"""What the app keeps for itself does not grow for ever, and nothing that is needed disappears."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from kyara.app.cleaning import AGE, clean
from kyara.app.collection import Collection, Item
from kyara.app.items import number_name
from kyara.app.project import Project


def test_only_what_nobody_names_is_deleted(tmp_path: Path) -> None:
    project = Project(tmp_path)
    collection = Collection(project.state("make.json"))
    (item,) = collection.add([Item(0, "m", {"seed": 1, "labels": {}}, 0.7)], "make")
    own, gone = f"pictures/{collection.id}", "pictures/0a0a0a0a"
    kept = [f"{own}/{number_name(item)}.png", f"{gone}/named-2.png", "uploads/photo.png", "uploads/絵-1.png",
            "uploads/new.png", "uploads/film.mp4"]  # fmt: skip
    unused = [f"{own}/removed-9.png", f"{gone}/other-3.png", "pictures/0b0b0b0b/x-1.png", "uploads/old.png",
              "uploads/photo.png.png"]  # fmt: skip
    for name in [*kept, *unused]:
        project.state(name).write_bytes(b"x")
    long_ago = time.time() - AGE - 60
    for name in [*kept, *unused]:
        os.utime(project.state(name), (long_ago, long_ago))
    project.state("uploads/new.png").touch()
    (tmp_path / "galleries/a").mkdir(parents=True)
    (tmp_path / "galleries/a/index.html").write_text(
        "<code>kyara avatar .studio/uploads/photo.png --out galleries/a; "
        f"kyara generate --like &#x27;.studio/{gone}/named-2.png&#x27;</code>",
        encoding="utf-8",
    )
    (tmp_path / "link.txt").symlink_to("nowhere")
    (tmp_path / "data").mkdir()
    named = [str(tmp_path / ".studio/uploads/film.mp4"), ".studio/uploads/絵-1.png"]
    (tmp_path / "data/report.json").write_text(json.dumps({"sources": named}))
    deleted = clean(project, collection)
    assert sorted(deleted) == sorted(unused)
    left = {path.relative_to(tmp_path / ".studio").as_posix() for path in (tmp_path / ".studio").rglob("*.*")}
    assert left == set(kept)
    assert not project.state("pictures/0b0b0b0b").exists() and clean(project, collection) == []


def test_nothing_is_deleted_if_a_file_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path)
    file = project.state("uploads/old.png")
    file.touch()
    os.utime(file, (0, 0))
    (tmp_path / "notes.txt").touch()

    def refused(_: Path) -> bytes:
        raise PermissionError("notes.txt")

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(PermissionError):
        clean(project, Collection(project.state("make.json")))
    assert file.exists()


def test_nothing_is_deleted_in_a_folder_with_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a home folder, which would take minutes to read."""
    project = Project(tmp_path)
    file = project.state("uploads/old.png")
    file.touch()
    os.utime(file, (0, 0))
    (tmp_path / "notes.txt").write_text("x" * 100)
    monkeypatch.setattr("kyara.app.cleaning.MOST", 2**14)
    with pytest.raises(OSError, match="too many files"):
        clean(project, Collection(project.state("make.json")))
    assert file.exists()
