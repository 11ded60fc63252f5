"""The list of --drop: which pictures it names, and what is wrong with it."""

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kyara.files import pictures
from kyara.files.dataset import open_dataset
from kyara.files.errors import DatasetError
from kyara.preparation.drop import choose, read_list
from kyara.preparation.prepare import prepare


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "art" / "sub").mkdir(parents=True)
    for i, name in enumerate(("a.png", " a.png", "b,c.png", "sub/é.png", "sub/d.png")):
        random = np.random.RandomState(i).randint(0, 256, (6, 6, 3), dtype=np.uint8)
        (tmp_path / "art" / name).write_bytes(pictures.encode_png(pictures.resize(random, 64, 64)))
    (tmp_path / "art" / "notes.txt").write_text("hello")
    return tmp_path / "art"


def saved(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder.parent / "list.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("file_name\n a.png\n", [" a.png"]),
        ('\ufefffile_name\r\n"b,c.png"\r\n\r\n', ["b,c.png"]),
        ("reason,file_name\nugly,sub\\d.png\n", ["sub/d.png"]),
        (f"file_name\n{unicodedata.normalize('NFD', 'sub/é.png')}\na.png\n", ["sub/é.png", "a.png"]),
        ("file_name\n", []),
    ],
)
def test_names_are_found(folder: Path, text: str, names: list[str]) -> None:
    dataset = open_dataset(folder)
    dropped, missing = choose(dataset, saved(folder, text))
    assert [dataset.names[i] for i, _ in dropped] == names and not missing
    assert all(face is None for _, face in dropped)


def test_faces_are_found(folder: Path) -> None:
    dataset = open_dataset(folder)
    listed = "file_name\na.png#2\nsub/e\u0301.png#11\na.png#0\nnone.png#1\n"
    dropped, missing = choose(dataset, saved(folder, listed))
    assert [(dataset.names[i], face) for i, face in dropped] == [("a.png", 1), ("sub/é.png", 10)]
    assert [name for name, _ in missing] == ["a.png#0", "none.png#1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png\n", "line 1: no column file_name; give a list saved on the page"),
        ("", "line 1: no column file_name"),
        ("file_name\nb,c.png\n", "line 2: 2 fields, but line 1 has 1; quote names that contain a comma"),
        ('file_name\n"a.png\n', "line 2: unexpected end of data; save it as plain CSV"),
        ("file_name\ngone.png\nother.png\n", "the sources have none of its 2 pictures; give the sources in the same"),
        ("file_name\n\xe9.png\n", "cannot be read as UTF-8 text .*; save the list again"),
    ],
)
def test_what_is_wrong_is_named(folder: Path, tmp_path: Path, text: str, message: str) -> None:
    path = saved(folder, text, "latin-1")
    with pytest.raises(DatasetError, match=message) as error:
        prepare(folder, tmp_path / "out", size="64", drop=path)
    assert str(error.value).startswith(f"--drop {path}") and not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_the_report_says_what_was_dropped(folder: Path, tmp_path: Path, name: str) -> None:
    path = saved(folder, "file_name\nsub/d.png\nnotes.txt\ngone.png\n")
    result = prepare(folder, tmp_path / name, size="64", drop=path)
    assert result.kept == 4 and len(open_dataset(tmp_path / name)) == 4
    assert result.left_out == {
        "dropped": [{"file": "sub/d.png", "detail": "listed in list.csv, line 2"}],
        "passed over": [
            {"file": "notes.txt", "detail": "not a picture, by its suffix"},
            {"file": "gone.png", "detail": "listed in list.csv, line 4, but there is no such picture"},
        ],
    }


def test_a_copy_of_a_dropped_picture_takes_its_place(folder: Path, tmp_path: Path) -> None:
    (folder / "z.png").write_bytes((folder / "a.png").read_bytes())
    assert "exact duplicate" in prepare(folder, tmp_path / "before", size="64").left_out
    result = prepare(folder, tmp_path / "after", size="64", drop=saved(folder, "file_name\na.png\n"))
    assert [entry.file for entry in result.pictures if entry.kept][-1] == "z.png" and result.kept == 5


def test_all_can_be_dropped_only_with_an_error(folder: Path, tmp_path: Path) -> None:
    path = saved(folder, 'file_name\na.png\n a.png\n"b,c.png"\nsub/é.png\nsub/d.png\n')
    with pytest.raises(DatasetError, match=r"no picture was left \(5 dropped, 1 passed over\)"):
        prepare(folder, tmp_path / "out", size="64", drop=path)


def test_a_list_in_the_folder_that_is_replaced_is_not_deleted(folder: Path, tmp_path: Path) -> None:
    prepare(folder, tmp_path / "out", size="64")
    (tmp_path / "out" / "drop.csv").write_text("file_name\na.png\n")
    with pytest.raises(ValueError, match=r"out: must not contain .*drop\.csv"):
        prepare(folder, tmp_path / "out", size="64", drop=tmp_path / "out" / "drop.csv", force=True)
    assert (tmp_path / "out" / "drop.csv").exists()


@pytest.mark.parametrize(("value", "message"), [("gone.csv", "no such file"), (".", "is a folder"), ("", "is empty")])
def test_the_list_must_be_a_file(folder: Path, tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"--drop.*{message}"):
        prepare(folder, tmp_path / "out", size="64", drop=value)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="file names that are not UTF-8 exist on Linux only")
def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    folder = tmp_path / "bytes"
    folder.mkdir()
    for i, name in enumerate((b"x\xe4.png", b"y.png")):
        random = np.random.RandomState(i).randint(0, 256, (64, 64, 3), dtype=np.uint8)
        Path(str(folder), name.decode("utf-8", "surrogateescape")).write_bytes(pictures.encode_png(random))
    result = prepare(folder, tmp_path / "out", size="64")
    path = saved(folder, f"file_name\n{result.pictures[0].file}\n")
    assert prepare(folder, tmp_path / "again", size="64", drop=path).kept == 1 and len(read_list(path)) == 1
