"""Labels on disk: every form of a Dataset, whose word counts, hostile cells, and an end at any moment."""

from __future__ import annotations

import csv
import io
import json
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from dataset_files import fill, png, zipped

from kyara.files import archive as files
from kyara.files.dataset import NOT_PICTURES, Dataset, open_dataset
from kyara.files.errors import DatasetError
from kyara.labels import attributes
from kyara.labels.attributes import Label, read_labels, write_labels


@pytest.fixture(params=["folder", "zip", "zipped folder"])
def make(request: pytest.FixtureRequest, tmp_path: Path):
    """Makes a Dataset of some files: a folder, a .zip, and a .zip in which a folder lies."""

    def made(contents: Mapping[str, bytes | str]) -> Dataset:
        if request.param == "folder":
            return open_dataset(fill(tmp_path / "data", contents))
        top = "顔/" if request.param == "zipped folder" else ""
        return open_dataset(zipped(tmp_path / "data.zip", {top + name: data for name, data in contents.items()}))

    return made


def stored(path: Path) -> dict[str, bytes]:
    """Every file of a Dataset."""
    if path.is_dir():
        return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert len(set(names)) == len(names)
        return {name: archive.read(name) for name in names}


def said(dataset: Dataset) -> dict[str, list[tuple[str, str, str, float | None]]]:
    """Base name of the picture -> what is said about it."""
    found: dict[str, list[tuple[str, str, str, float | None]]] = {}
    for label in read_labels(dataset):
        row = (label.attribute, label.value, label.by, label.probability)
        found.setdefault(label.file_name.rsplit("/", 1)[-1], []).append(row)
    return found


def label(dataset: Dataset, i: int, value: str, by: str, attribute: str = "hair", p: float | None = None) -> Label:
    return Label(dataset.names[i], attribute, value, p, by)


TWO = {"metadata.csv": "file_name,hair\na.png,red\n", "a.png": png(1), "b.png": png(2)}


@pytest.mark.parametrize(
    "table",
    [
        "file_name;hair\na.png;red, dark\n",
        "file_name\thair\r\na.png\tred, dark\r\n",
        'sep=;\nfile_name;hair\na.png;"red, dark"\n',
        "hair;file_name;;\nred, dark;a.png;;\n",
    ],
)
def test_the_table_of_any_spreadsheet_is_written_as_it_was(make, table: str) -> None:
    dataset = make({"metadata.csv": table, "a.png": png(1), "b.png": png(2)})
    write_labels(dataset, [label(dataset, 1, "blue", "person"), label(dataset, 0, "no; or yes", "person", "hat")])
    again = open_dataset(dataset.path)
    assert again.attributes == {"hair": ["red, dark", "blue"], "hat": ["no; or yes", ""]}
    written = stored(dataset.path)[f"{again.base}metadata.csv"].decode()
    assert written.startswith("sep=;\n") == table.startswith("sep=;\n")
    separator = "\t" if "\t" in table else ";"
    assert written.splitlines()[-1].count(separator) == 2  # of three columns


def test_labels_come_back_with_their_origin(make) -> None:
    dataset = make({"metadata.csv": "file_name,hair,eyes\na.png,red,\n", "a.png": png(1), "b.png": png(2)})
    before = stored(dataset.path)
    write_labels(
        dataset, [label(dataset, 1, "blue", "tagger:x", p=0.87654321), label(dataset, 0, "no", "person", "hat")]
    )
    again = open_dataset(dataset.path)
    assert said(again) == {
        "a.png": [("hair", "red", "source", None), ("hat", "no", "person", None)],
        "b.png": [("hair", "blue", "tagger:x", 0.8765)],
    }
    assert again.attributes == {"hair": ["red", "blue"], "eyes": ["", ""], "hat": ["no", ""]}
    assert dataset.attributes == again.attributes and dataset.fingerprint == again.fingerprint
    assert [again.picture(i)[0, 0, 0] for i in range(2)] == [dataset.picture(i)[0, 0, 0] for i in range(2)] == [1, 2]
    after = stored(dataset.path)
    assert {name: data for name, data in after.items() if name.endswith(".png")} == {
        name: data for name, data in before.items() if name.endswith(".png")
    }
    assert len(after) == 4


RANKS = ["tagger:x", "committee", "source", "person"]


@pytest.mark.parametrize("first", RANKS)
@pytest.mark.parametrize("second", RANKS)
def test_whose_word_counts(tmp_path: Path, first: str, second: str) -> None:
    dataset = open_dataset(fill(tmp_path, {"a.png": png()}))
    write_labels(dataset, [label(dataset, 0, "red", first)])
    write_labels(dataset, [label(dataset, 0, "blue", second)])
    order = {"tagger:x": 0, "committee": 0, "source": 1, "person": 2}
    winner = ("blue", second) if order[second] >= order[first] else ("red", first)
    assert [(found.value, found.by) for found in read_labels(open_dataset(tmp_path))] == [winner]


def test_what_a_person_edits_in_metadata_counts_again_as_source(make) -> None:
    dataset = make(TWO)
    write_labels(dataset, [label(dataset, 1, "blue", "tagger:x", p=0.5)])
    files_ = stored(dataset.path)
    name = next(name for name in files_ if name.endswith("metadata.csv"))
    dataset.files.write({name: files_[name].replace(b"blue", b"green")})
    assert said(open_dataset(dataset.path))["b.png"] == [("hair", "green", "source", None)]
    write_labels(dataset, [label(dataset, 1, "aqua", "tagger:x")])
    assert said(dataset)["b.png"] == [("hair", "green", "source", None)]


def test_a_person_who_cannot_tell_is_believed(make) -> None:
    dataset = make(TWO)
    write_labels(dataset, [label(dataset, 0, "", "person"), label(dataset, 1, "", "person")])
    write_labels(dataset, [label(dataset, 0, "blue", "tagger:x"), label(dataset, 1, "blue", "source")])
    assert dataset.attributes == {"hair": ["", ""]}
    assert said(open_dataset(dataset.path))["b.png"] == [("hair", "", "person", None)]


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        ({"metadata.jsonl": '{"file_name": "x/a.png", "n": 1.0, "source": "s", "boxes": [1]}\n'}, {"n": ["1", ""]}),
        ({"dataset.json": json.dumps({"labels": [["x\\a.png", 3], ["y/b.png", 4]]})}, {"class": ["3", "4"]}),
        ({}, {"class": ["x", "y"]}),
    ],
)
def test_every_form_gains_a_metadata_csv(make, described: dict[str, str], expected: dict[str, list[str]]) -> None:
    dataset = make({"x/a.png": png(1), "y/b.png": png(2), **described})
    assert dataset.attributes == expected
    write_labels(dataset, [label(dataset, 1, "red", "person")])
    assert open_dataset(dataset.path).attributes == dataset.attributes == {**expected, "hair": ["", "red"]}
    files_ = {name.removeprefix(dataset.base): data for name, data in stored(dataset.path).items()}
    assert all(files_[name] == data.encode() for name, data in described.items())
    if "metadata.jsonl" in described:
        assert b"source" in files_["metadata.csv"].splitlines()[0]


def test_other_columns_rows_and_marks_stay(make) -> None:
    table = "\ufefffile_name,source,hair,empty\r\nb.png,http://x,,\r\ngone.png,y,green,\r\n"
    gone = "file_name,attribute,value,probability,by\ngone.png,hair,green,0.5,tagger:x\n"
    dataset = make({**TWO, "metadata.csv": table, "labels.csv": gone})
    write_labels(dataset, [label(dataset, 0, "red", "person")])
    files_ = {name.removeprefix(dataset.base): data for name, data in stored(dataset.path).items()}
    assert files_["metadata.csv"].startswith(b"\xef\xbb\xbf")
    assert list(csv.reader(io.StringIO(files_["metadata.csv"].decode("utf-8-sig")))) == [
        ["file_name", "source", "hair", "empty"],
        ["b.png", "http://x", "", ""],
        ["gone.png", "y", "green", ""],
        ["a.png", "", "red", ""],
    ]
    assert b"gone.png,hair,green,0.5,tagger:x" in files_["labels.csv"]


HOSTILE = [
    "a,b",
    'quo"te',
    "two\nlines",
    "two\r\nlines",
    "=HYPERLINK(1)",
    "青",
    "-1",
    "'; DROP",
    "\t.",
    "a\0b",
    "e\u0301",
]


def test_hostile_cells_are_data(make) -> None:
    values = {f"{i}.png": value for i, value in enumerate(HOSTILE)}
    dataset = make({name: png(i) for i, name in enumerate(values)})
    write_labels(
        dataset, [Label(dataset.base + name, value, value, 0.5, "tagger:" + value) for name, value in values.items()]
    )
    found = {name: rows[0] for name, rows in said(open_dataset(dataset.path)).items()}
    stripped = {name: value.strip() for name, value in values.items()}
    assert found == {n: (v, v, ("tagger:" + values[n]).strip(), 0.5) for n, v in stripped.items()}


def test_names_of_every_kind(make) -> None:
    names = ["青い髪.png", "a b\tc.png", "Über\nzwei.png", "e\u0301.png", "=1,2.png"]
    dataset = make({name: png(i) for i, name in enumerate(names)})
    write_labels(dataset, [label(dataset, i, dataset.names[i], "person") for i in range(len(dataset))])
    assert open_dataset(dataset.path).attributes == {"hair": dataset.names}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Label("gone.png", "hair", "red", None, "person"), "no picture gone.png"),
        (Label("a.png", "source", "red", None, "person"), "not an attribute"),
        (Label("a.png", "points", "red", None, "person"), "'points' is a reserved column"),
        (Label("a.png", "boxes", "red", None, "person"), "'boxes' is a reserved column"),
        (Label("a.png", " ", "red", None, "person"), "not an attribute"),
        (Label("a.png", "hair", "red", 1.5, "tagger:x"), "probability"),
        (Label("a.png", "hair", "red", float("nan"), "tagger:x"), "probability"),
        (Label("a.png", "hair", "red", None, "me"), "must be person"),
        (Label("a.png", "hair", "red", None, "tagger:"), "must be person"),
        (Label("a.png", "hair", "", None, "tagger:x"), "only a person"),
        (Label("a.png", "hair", "x" * 200_000, None, "person"), "shorten"),
        (Label("a.png", "hair", "\ud800", None, "person"), "cannot be written"),
    ],
)
def test_what_cannot_be_stored_changes_nothing(tmp_path: Path, wrong: Label, message: str) -> None:
    dataset = open_dataset(fill(tmp_path, TWO))
    before = stored(tmp_path)
    with pytest.raises(DatasetError, match=message):
        write_labels(dataset, [Label("b.png", "hair", "red", None, "person"), wrong])
    assert stored(tmp_path) == before


@pytest.mark.parametrize("name", [" a.png", "a\\b.png"])
def test_a_name_that_no_table_can_hold_is_refused(tmp_path: Path, name: str) -> None:
    dataset = open_dataset(fill(tmp_path, {name: png(), "b.png": png()}))
    with pytest.raises(DatasetError, match=r"no picture|rename"):
        write_labels(dataset, [Label(name, "hair", "red", None, "person")])
    assert not (tmp_path / "metadata.csv").exists()


@pytest.mark.parametrize(
    "line",
    ["a.png,hair,red,2,person", "a.png,hair,red,nan,person", "a.png,hair,red,x,person", "a.png,hair,red,1,",
     "a.png,,red,1,person", "a.png,hair,red,1", 'a.png,hair,"red,1,person'],
)  # fmt: skip
def test_a_damaged_labels_csv_is_named_and_kept(make, line: str) -> None:
    dataset = make({**TWO, "labels.csv": f"file_name,attribute,value,probability,by\n{line}\n"})
    before = stored(dataset.path)
    with pytest.raises(DatasetError, match=r"labels\.csv, line 2"):
        read_labels(dataset)
    with pytest.raises(DatasetError, match=r"labels\.csv, line 2"):
        write_labels(dataset, [label(dataset, 0, "red", "person")])
    assert stored(dataset.path) == before


def test_a_subset_and_an_older_view_lose_nothing(make) -> None:
    dataset = make({f"{i}.png": png(i) for i in range(6)})
    older, part = open_dataset(dataset.path), dataset.subset([4, 1])
    write_labels(dataset, [label(dataset, 0, "red", "person")])
    write_labels(part, [label(part, 0, "blue", "person")])
    assert part.attributes == {"hair": ["blue", ""]} and len(part) == 2
    write_labels(older, [label(older, 5, "green", "person")])
    assert older.attributes == open_dataset(dataset.path).attributes == {"hair": ["red", "", "", "", "blue", "green"]}
    assert [int(p[0, 0, 0]) for p in part.decode([0, 1], 8, 8, workers=1)] == [4, 1]


@pytest.mark.parametrize("moment", range(4))
def test_an_end_at_any_moment(make, moment: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tagger's blue becomes a person's red. Whenever the process ends, each value has its true origin, and a second
    attempt completes it."""
    dataset = make(TWO)
    write_labels(dataset, [label(dataset, 1, "blue", "tagger:x", p=0.5)])
    old, new = ("hair", "blue", "tagger:x", 0.5), ("hair", "red", "person", None)
    replace, calls = Path.replace, []

    def dying(self: Path, target: Path) -> Path:
        if len(calls) == moment:
            raise KeyboardInterrupt
        calls.append(target)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", dying)
    answers = [label(dataset, 1, "red", "person")]
    try:
        write_labels(dataset, answers)
        survived = True
    except KeyboardInterrupt:
        survived = False
    monkeypatch.undo()
    assert survived == (moment >= (3 if dataset.path.is_dir() else 1))
    found = said(open_dataset(dataset.path))
    assert found["b.png"] in ([old], [new]) and (not survived or found["b.png"] == [new])
    assert found["a.png"] == [("hair", "red", "source", None)]
    beside = [p for p in dataset.path.parent.rglob("*") if p.name.endswith(".tmp")]
    assert not beside
    write_labels(open_dataset(dataset.path), answers)
    assert said(open_dataset(dataset.path))["b.png"] == [new]


def test_a_full_disk_leaves_the_zip_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kyara.files import zip_update as archive

    path = zipped(tmp_path / "data.zip", TWO)
    before = path.read_bytes()

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive, "_finish", full)
    dataset = open_dataset(path)
    with pytest.raises(OSError, match="No space"):
        write_labels(dataset, [label(dataset, 0, "red", "person")])
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["data.zip"]
    assert dataset.picture(1)[0, 0, 0] == 2


def test_a_zip_stays_as_it_was_but_for_the_two_tables(tmp_path: Path) -> None:
    path = tmp_path / "odd.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.comment = b"mine"
        archive.writestr("metadata.csv", "file_name,hair\na.png,red\n")
        archive.writestr(zipfile.ZipInfo("a.png", (1999, 1, 2, 3, 4, 6)), png(1), zipfile.ZIP_STORED)
        archive.writestr("b.png", png(2), zipfile.ZIP_DEFLATED, 9)
        archive.writestr("inner/movie.xyz", b"kept", zipfile.ZIP_LZMA)
        with archive.open("streamed.png", "w", force_zip64=True) as entry:
            entry.write(png(3))
        archive.writestr("KOREWA.png", png(4))
    data = path.read_bytes().replace(b"KOREWA", "これ".encode("shift_jis") + b"\x83\x41")  # no flag for UTF-8
    path.write_bytes(data)
    path.chmod(0o600)
    first = {entry.filename: entry for entry in zipfile.ZipFile(path).infolist()}
    sizes = []
    for round_ in range(4):
        dataset = open_dataset(path)
        assert len(dataset) == 4
        write_labels(dataset, [label(dataset, i, f"v{round_}", "person") for i in range(4)])
        assert [int(dataset.picture(i)[0, 0, 0]) for i in range(4)] == [4, 1, 2, 3] or len(dataset) == 4
        sizes.append(path.stat().st_size)
    assert sizes[1] == sizes[2] == sizes[3]  # nothing piles up
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None and archive.comment == b"mine"
        for entry in archive.infolist():
            if entry.filename not in ("metadata.csv", "labels.csv"):
                was = first.pop(entry.filename)
                for field in ("header_offset", "date_time", "compress_type", "CRC", "external_attr", "flag_bits"):
                    assert getattr(entry, field) == getattr(was, field), (entry.filename, field)
    assert list(first) == ["metadata.csv"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("limit", ["count", "size"])
def test_large_archives(tmp_path: Path, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The records with 64 bits, as zipfile reads them."""
    from kyara.files import zip_update as archive

    monkeypatch.setattr(archive, "MANY" if limit == "count" else "LARGE", 3)
    path = zipped(tmp_path / "data.zip", {f"{i}.png": png(i) for i in range(5)})
    with path.open("rb") as old, zipfile.ZipFile(path) as whole:
        lines = list(archive._directory(old, whole))
    with path.open("r+b") as file:
        file.seek(whole.start_dir)
        archive._finish(file, lines, b"")
    assert len(stored(path)) == 5 and b"PK\6\6" in path.read_bytes()


def test_an_archive_that_cannot_be_rewritten_safely_is_left(tmp_path: Path) -> None:
    path = zipped(tmp_path / "data.zip", TWO)
    path.write_bytes(b"#!/bin/sh\n" + path.read_bytes())
    before = path.read_bytes()
    dataset = open_dataset(path)
    with pytest.raises(DatasetError, match="before"):
        write_labels(dataset, [label(dataset, 0, "red", "person")])
    assert path.read_bytes() == before


def test_metadata_that_could_not_be_read_are_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_BYTES", 1000)
    path = zipped(tmp_path / "data.zip", {**TWO, "metadata.csv": "file_name\n" + "x\n" * 1000})
    dataset = open_dataset(path)
    with pytest.raises(DatasetError, match=r"metadata\.csv: larger"):
        write_labels(dataset, [label(dataset, 0, "red", "person")])


def test_the_names_are_used() -> None:
    assert {attributes.METADATA, attributes.LABELS} <= NOT_PICTURES
