"""Every form of a Dataset, several sources, and hostile archives."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from dataset_files import fill, png, zipped

from kyara.files import pictures
from kyara.files.archive import Zip
from kyara.files.dataset import Dataset, known_values, open_dataset, open_datasets
from kyara.files.errors import DatasetError


@pytest.fixture(params=["folder", "zip"])
def make(request: pytest.FixtureRequest, tmp_path: Path):
    """Makes a Dataset of some files, once as a folder and once as a .zip."""

    def made(files: Mapping[str, bytes | str]) -> Dataset:
        if request.param == "zip":
            return open_dataset(zipped(tmp_path / "data.zip", files))
        return open_dataset(fill(tmp_path / "data", files))

    return made


THREE = {"b/2.png": png(2), "a/1.png": png(1), "a/3.PNG": png(3)}


def test_plain(make) -> None:
    dataset = make({"x.png": png(1), "deep/er/y.jpg": png(2), "notes.txt": "hello", "._x.png": b"", ".DS_Store": b""})
    assert dataset.names == ["deep/er/y.jpg", "x.png"] and dataset.attributes == {} and len(dataset) == 2
    assert dataset.picture(0)[0, 0, 0] == 2 and dataset.read(1) == png(1)
    assert dataset.ignored == [("notes.txt", "not a picture, by its suffix")]


def test_a_column_is_made_once(make) -> None:
    """One for each cell would take quadratic time."""
    rows = "".join(f"{i}.png,red,blue\n" for i in range(20))
    dataset, asked = make({"metadata.csv": "file_name,hair,eyes\n" + rows} | {f"{i}.png": png(i) for i in range(20)}), 0

    class Counted(list[str]):
        def __len__(self) -> int:
            nonlocal asked
            asked += 1
            return super().__len__()

    dataset.names, dataset.attributes = Counted(dataset.names), {}
    dataset._read_metadata()
    assert dataset.attributes == {"hair": ["red"] * 20, "eyes": ["blue"] * 20} and asked == 2


def test_class_folders(make) -> None:
    dataset = make(THREE)
    assert dataset.names == ["a/1.png", "a/3.PNG", "b/2.png"] and dataset.attributes == {"class": ["a", "a", "b"]}


@pytest.mark.parametrize(
    "names",
    [
        ["00/00e3ab01ab77.png", "3f/3f9c01ab77e2-2.png"],
        ["images/00/00e3ab01ab77.png", "images/3f/3f9c01ab77e2.png"],
        ["a/1.png", "2.png"],
        ["a/1.png", "a/2.png"],
    ],
)
def test_folders_that_are_no_classes(make, names: list[str]) -> None:
    assert make({name: png() for name in names}).attributes == {}


@pytest.mark.parametrize("classes", [("01", "02"), ("10", "20"), ("ab", "be"), ("赤", "か\u3099")])
@pytest.mark.parametrize("above", ["", "art/", "art/faces/"])
def test_classes_of_any_name_and_files_beside_them(make, classes: tuple[str, str], above: str) -> None:
    first, second = classes
    names = [f"{above}{first}/1.png", f"{above}{second}/deep/1.png", f"{above}z.png"]
    dataset = make({"notes.txt": "hello", f"{above}about/notes.txt": "x", **{name: png() for name in names}})
    known = dict(zip(dataset.names, dataset.attributes["class"], strict=True))
    assert known == dict(zip(names, [first, "が" if second.startswith("か") else second, ""], strict=True))


@pytest.mark.parametrize(
    "text",
    [
        "\ufefffile_name;hair;eyes\r\na.png;light, blue;red\r\n;;\r\n",
        "hair\tfile_name\teyes\nlight, blue\ta.png\tred\n",
        'file_name,hair,eyes,,\na.png,"light, blue",red,,\n,,,,\n',
        'sep=;\n"file_name";hair;eyes\na.png;light, blue;red;\n',
        b"\xff\xfe" + "file_name\thair\teyes\r\na.png\tlight, blue\tred\r\n".encode("utf-16-le"),
    ],
)
def test_tables_of_spreadsheets(make, text: str | bytes) -> None:
    dataset = make({"metadata.csv": text, "a.png": png()})
    assert dataset.attributes == {"hair": ["light, blue"], "eyes": ["red"]} and not dataset.ignored


class RawName(zipfile.ZipInfo):
    """An entry whose name is written in another encoding than Python's."""

    encoding = ""

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802
        return self.filename.encode(self.encoding), self.flag_bits & ~0x800


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        ("cp932", ["キャラ/表.png", "ソ.png", "赤/1.png", "miku表情.png", "A.png"]),
        ("cp932", ["A案.png", "b.png"]),
        ("utf-8", ["か\u3099/U\u0308ber.png", "é.png"]),
        ("cp437", ["Müller.png", "château.png", "señor/Größe.png"]),
    ],
)
def test_names_in_a_zip_of_any_system(tmp_path: Path, encoding: str, names: list[str]) -> None:
    path = tmp_path / "names.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i, name in enumerate(names):
            entry = RawName(name)
            entry.encoding = encoding
            archive.writestr(entry, png(i))
        archive.writestr("__MACOSX/._x.png", b"x")
    dataset = open_dataset(path)
    assert dataset.names == sorted(names) and not dataset.ignored
    assert [dataset.picture(i)[0, 0, 0] for i in range(len(names))] == [names.index(name) for name in sorted(names)]
    assert isinstance(dataset.files, Zip)
    table = {f"{names[0].rpartition('/')[0] or 'x'}/metadata.csv": b"file_name\n"}
    for _ in range(2):
        dataset.files.write(table)
    assert {*open_dataset(path).names} == {*names} and len(zipfile.ZipFile(path).namelist()) == len(names) + 2


def test_names_of_an_unknown_encoding_and_names_given_twice(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for i, name in enumerate([b"\xfd\xfd\\.png", b"b.png", b"b.png"]):
            entry = RawName(name.decode("latin-1"))
            entry.encoding = "latin-1"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "b.png" again
                archive.writestr(entry, png(i))
    dataset = open_dataset(tmp_path / "a.zip")
    assert len(dataset) == 2 and dataset.picture(0)[0, 0, 0] == 2
    assert [name for name, _ in dataset.ignored] == ["b.png"]


def test_a_zipped_folder_is_looked_into(make) -> None:
    dataset = make({"art/metadata.csv": "file_name,hair\nx.png,blue\n", "art/x.png": png(), "art/y.png": png()})
    assert dataset.attributes == {"hair": ["blue", ""]}


def test_hidden_pictures_are_named(make) -> None:
    names = ["a.png", ".hack.png", "x/.b.JPG", "._a.png", "__MACOSX/._a.png", "__MACOSX/c.png", ".trash/d.png"]
    dataset = make({**dict.fromkeys([*names, "__MACOSX_e.png"], png()), ".notes": "", "Thumbs.db": ""})
    assert dataset.names == ["__MACOSX_e.png", "a.png"]
    assert sorted(name for name, reason in dataset.ignored if reason.startswith("hidden")) == [".hack.png", "x/.b.JPG"]
    assert len(dataset.ignored) == 2


def test_metadata_csv(make) -> None:
    table = (
        "\ufefffile_name,hair,eyes,source\r\n"
        'images\\b.png,"light, blue",,x\r\n'
        "images/a.png,red, green ,y\r\n\r\ngone.png,a,b,c\r\n"
    )
    dataset = make({"metadata.csv": table, "images/a.png": png(), "images/b.png": png(), "images/new.png": png()})
    assert dataset.attributes == {"hair": ["red", "light, blue", ""], "eyes": ["green", "", ""]}
    assert dataset.ignored == [("gone.png", "listed in metadata.csv, line 5, but there is no such picture")]


def test_metadata_jsonl(make) -> None:
    lines = [
        {"file_name": "a.png", "hair": "red", "n": 1.0, "glasses": True, "boxes": [1]},
        {"file_name": "b.png", "n": None},
    ]
    dataset = make({"metadata.jsonl": "\n".join(map(json.dumps, lines)) + "\n\n", "a.png": png(), "b.png": png()})
    assert dataset.attributes == {"hair": ["red", ""], "n": ["1", ""], "glasses": ["True", ""]}


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([["00000\\a.png", 3], ["00001/b.png", 10]], {"class": ["3", "10"]}),
        (
            [["00000/a.png", [1, 0.5]], ["00001/b.png", [0.0, -2]]],
            {"label_0": ["1", "0"], "label_1": ["0.5", "-2"]},
        ),
        (None, {}),
    ],
)
def test_stylegan(make, labels: object, expected: dict[str, list[str]]) -> None:
    files = {"dataset.json": json.dumps({"labels": labels}), "00000/a.png": png(), "00001/b.png": png()}
    assert make(files).attributes == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metadata.csv", "name,hair\na.png,x\n", "metadata.csv, line 1: no column file_name"),
        ("metadata.csv", "", "line 1"),
        ("metadata.csv", "file_name,,hair\na.png,x,y\n", "line 2: 'x' is in a column without a name"),
        ("metadata.csv", "file_name,hair,\na.png,x,y\n", "line 2: 3 fields, but the header has 2"),
        ("metadata.csv", "sep=;\nname;hair\na.png;x\n", "line 2: no column file_name"),
        ("metadata.csv", "file_name,hair,hair\n", "line 1"),
        ("metadata.csv", "file_name,hair\na.png\n", "line 2: 1 fields"),
        ("metadata.csv", "file_name,hair\na.png,x\na.png,y\n", "line 3.*duplicate of line 2"),
        ("metadata.csv", 'file_name,hair\na.png,"x\n', "line 2"),
        ("metadata.csv", b"file_name,hair\na.png,\xff\xfe\n", "UTF-8"),
        ("metadata.jsonl", '{"file_name": "a.png"}\n{oops\n', "line 2: not JSON"),
        ("metadata.jsonl", "[1]\n", "line 1: not an object"),
        ("metadata.jsonl", "[" * 100_000, "line 1: not JSON"),
        ("dataset.json", "{", "not JSON"),
        ("dataset.json", '{"labels": 5}', '"labels" must be'),
        ("dataset.json", '{"labels": [["a.png"]]}', r"labels\[0\]"),
        ("dataset.json", '{"labels": [["a.png", [1]], ["b.png", [1, 2]]]}', r"labels\[1\]: 2 numbers, but 1"),
    ],
)
def test_malformed_metadata_is_named(make, name: str, text: bytes | str, message: str) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        make({name: text, "a.png": png(), "b.png": png()})
    assert name in str(caught.value)


def test_hostile_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kyara.files import archive as files

    monkeypatch.setattr(files, "MAX_BYTES", 100_000)
    path = zipped(tmp_path / "bad.zip", {
        "good.png": png(1), "../up.png": png(), "/etc/abs.png": png(), "C:/win.png": png(),
        "a/../../b.png": png(),
        "win\\dows.png": png(2), "bomb.png": b"\0" * 10_000_000, "inner.zip": b"PK", "secret.png": png(),
        "__MACOSX/._good.png": b"", "lzma.png": png(), "link.png": "/etc/passwd",
    })  # fmt: skip
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
    data = bytearray(path.read_bytes())
    directory = data.rindex(b"secret.png") - 46  # the entry in the central directory
    data[directory + 8] |= 1
    data[data.rindex(b"lzma.png") - 46 + 10] = zipfile.ZIP_LZMA
    link = data.rindex(b"link.png") - 46
    data[link + 38 : link + 42] = (0o120777 << 16).to_bytes(4, "little")
    path.write_bytes(data)
    assert len(entries) == 12
    dataset = open_dataset(path)
    assert dataset.names == ["good.png", "win/dows.png"] and dataset.picture(1)[0, 0, 0] == 2
    reasons = dict(dataset.ignored)
    assert {name for name, reason in reasons.items() if "outside" in reason} == {
        "../up.png", "/etc/abs.png", "C:/win.png", "a/../../b.png",
    }  # fmt: skip
    assert "larger" in reasons["bomb.png"] and "archive" in reasons["inner.zip"] and "link" in reasons["link.png"]
    assert reasons["secret.png"] == "encrypted" and "compressed" in reasons["lzma.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.zip"]


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need administrator rights on Windows")
def test_links_and_odd_files_in_a_folder(tmp_path: Path) -> None:
    fill(tmp_path / "out", {"private.png": png()})
    root = fill(tmp_path / "data", {"a.png": png(), "sub/b.png": png()})
    (root / "loop").symlink_to(root, target_is_directory=True)
    (root / "leave").symlink_to(tmp_path / "out", target_is_directory=True)
    (root / "gone.png").symlink_to(root / "nowhere.png")
    (root / "self.png").symlink_to(root / "self.png")
    os.mkfifo(root / "pipe.png")
    dataset = open_dataset(root)
    assert dataset.names == ["a.png", "sub/b.png"]
    assert {name for name, _ in dataset.ignored} == {"loop", "leave", "gone.png", "self.png", "pipe.png"}


@pytest.mark.parametrize("name", ["missing", "empty", "text.zip", "cut.zip"])
def test_what_is_no_dataset(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("no zip")
    whole = zipped(tmp_path / "whole.zip", THREE).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:-30])
    with pytest.raises(DatasetError, match=name):
        open_dataset(tmp_path / name)


def test_odd_names(make) -> None:
    names = ["青い髪.png", "a b\tc.png", "Über\nzwei.png", "e\u0301.png"]
    dataset = make({**{name: png(i) for i, name in enumerate(names)}, "metadata.csv": "file_name,k\n\u00e9.png,v\n"})
    assert set(dataset.names) == set(names) and dataset.attributes["k"].count("v") == 1
    assert len(dataset.fingerprint) == 16


def test_the_fingerprint_does_not_depend_on_where_the_dataset_is(tmp_path: Path) -> None:
    one = fill(tmp_path / "one" / "art", THREE)
    before = open_dataset(one).fingerprint, open_dataset(tmp_path / "one").fingerprint
    one.rename(tmp_path / "one" / "drawings")
    (tmp_path / "one").rename(tmp_path / "moved")
    moved = open_dataset(tmp_path / "moved" / "drawings").fingerprint, open_dataset(tmp_path / "moved").fingerprint
    assert moved == before and moved[0] == moved[1]


def test_several_sources_are_one_dataset(tmp_path: Path) -> None:
    table = {"metadata.csv": "file_name,hair\na.png,red\n"}
    folder = fill(tmp_path / "folder", {"a.png": png(1), "notes.txt": "x", **table})
    packed = zipped(tmp_path / "packed.zip", {"b.png": png(2), "metadata.csv": "file_name,eyes\nb.png,blue\n"})
    fill(tmp_path, {"c.jpg": png(3), "broken.png": b"no"})
    dataset = open_datasets([tmp_path / "c.jpg", folder, tmp_path / "broken.png", packed])
    paths = [tmp_path / "c.jpg", folder / "a.png", tmp_path / "broken.png", packed / "b.png"]
    assert dataset.names == [path.as_posix() for path in paths] == [str(dataset.location(i)) for i in range(4)]
    assert dataset.attributes == {"hair": ["", "red", "", ""], "eyes": ["", "", "", "blue"]}
    assert dataset.ignored == [(str(folder / "notes.txt"), "not a picture, by its suffix")]
    found = [p if isinstance(p, Exception) else p[0, 0, 0] for p in dataset.map(pictures.decode, range(4), workers=1)]
    assert found[:2] == [3, 1] and found[3] == 2 and dataset.reason(2, found[2]).startswith("not a picture")
    (folder / "a.png").unlink()
    with pytest.raises(pictures.PictureError, match=r"folder/a\.png: cannot be read") as caught:
        dataset.read(1)
    assert dataset.reason(1, caught.value).startswith("cannot be read")


def test_single_pictures_and_the_sheet_of_a_gallery(tmp_path: Path) -> None:
    fill(tmp_path, {"0001.png": png(), "sheet.png": png(), "gallery.csv": "file_name\n0001.png\n"})
    dataset = open_datasets([tmp_path / "sheet.png", tmp_path / "0001.png", tmp_path / "0001.png"])
    assert dataset.names == [str(tmp_path / "0001.png")]
    assert dataset.ignored == [(str(tmp_path / "sheet.png"), "the contact sheet of a gallery")]
    with pytest.raises(DatasetError, match="gone: does not exist"):
        open_datasets([tmp_path / "0001.png", tmp_path / "gone"])


def test_fingerprint_tells_sets_apart(tmp_path: Path) -> None:
    a = open_dataset(zipped(tmp_path / "a.zip", THREE)).fingerprint
    assert a == open_dataset(zipped(tmp_path / "b.zip", THREE)).fingerprint
    assert a != open_dataset(zipped(tmp_path / "c.zip", {**THREE, "b/2.png": png(9)})).fingerprint
    csv = {"metadata.csv": "file_name,k\na/1.png,x\n"}
    assert a != open_dataset(zipped(tmp_path / "d.zip", {**THREE, **csv})).fingerprint


def test_attributes_of_a_generator_may_be_called_like_measurements(tmp_path: Path) -> None:
    """`translate` adds its styles to a gallery, `generate` what the generator knows."""
    for header, known in (
        ("file_name,style,source", []),
        ("file_name,seed,hair,style,kept,score", ["hair", "style", "kept"]),
    ):
        row = ",".join(["0001.png", *["1"] * header.count(",")])
        fill(tmp_path, {"0001.png": png(), "gallery.csv": f"{header}\n{row}\n"})
        assert [*open_dataset(tmp_path).attributes] == known


def test_a_gallery_opens_without_its_sheet(tmp_path: Path) -> None:
    fill(
        tmp_path,
        {"0001.png": png(), "sheet.png": png(), "gallery.csv": "file_name\n0001.png\n", "index.html": ""},
    )
    assert open_dataset(tmp_path).names == ["0001.png"]


def test_decode_fits_and_names_the_bad_one(make) -> None:
    dataset = make({"a.png": png(1, 8, 8), "b.png": png(2, 30, 10), "c.png": b"no"})
    assert [p.shape for p in dataset.decode([1, 0], 16, 8)] == [(8, 16, 3)] * 2
    with pytest.raises(pictures.PictureError, match=r"c\.png: not a picture"):
        list(dataset.decode([0, 2], 8, 8))


def test_workers_give_the_same_in_the_same_order(make) -> None:
    dataset = make({f"{i:03d}.png": png(i) for i in range(60)} | {"bad.png": b"no"})
    assert pickle.loads(pickle.dumps(dataset.files)).sizes == dataset.files.sizes
    alone = list(dataset.decode(range(60), 8, 8))
    assert np.array_equal(alone, list(dataset.decode(range(60), 8, 8, workers=2)))
    with pytest.raises(pictures.PictureError, match=r"bad\.png"):
        list(dataset.decode([60], 8, 8, workers=1))
    endless = dataset.decode(itertools.cycle([3, 1]), 8, 8, workers=1)
    assert [next(endless)[0, 0, 0] for _ in range(5)] == [3, 1, 3, 1, 3]
    endless.close()


def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    zipped(tmp_path / "d.zip", {f"{i}.png": png(i) for i in range(4)})
    script = tmp_path / "script.py"
    script.write_text(
        "import sys; from kyara.files.dataset import open_dataset; print('once')\n"
        "print(sum(int(p[0, 0, 0]) for p in open_dataset(sys.argv[1]).decode(range(4), 8, 8, workers=2)))\n"
    )
    run = subprocess.run([sys.executable, script, tmp_path / "d.zip"], capture_output=True, text=True, timeout=60)
    assert run.stdout.split() == ["once", "6"], run.stderr


def test_split_and_subset(make) -> None:
    dataset = make({f"{c}/{i}.png": png(i) for c in "ab" for i in range(10)})
    rest, held = dataset.split(0.2)
    assert len(held) == 4 and sorted(rest.names + held.names) == dataset.names
    assert held.names == dataset.split(0.2)[1].names
    assert held.attributes["class"] == [name[0] for name in held.names]
    assert len({dataset.fingerprint, rest.fingerprint, held.fingerprint}) == 3


def test_known_values_are_sorted_by_number() -> None:
    assert known_values(["10", "", "9", "b", "a", "9"]) == ["9", "10", "a", "b"]
    ids = ["9" * 19, "1" + "0" * 19]  # as text, the second would be first
    assert known_values([*reversed(ids), "5"]) == ["5", *ids]
    assert known_values(["9" * 5000, "10", "a"]) == ["10", "9" * 5000, "a"]  # Python refuses to convert it


def pointed(tmp_path: Path, *cells: str) -> Dataset:
    files = {f"{i}.png": png() for i in range(len(cells))}
    table = "file_name,hair,points\n" + "".join(f"{i}.png,red,{cell}\n" for i, cell in enumerate(cells))
    return open_dataset(fill(tmp_path, {**files, "metadata.csv": table.encode()}))


def test_points_are_not_an_attribute(tmp_path: Path) -> None:
    dataset = pointed(tmp_path, "0.1 0.2 0.3 0.4", "", "0.5 0.6 0.7 0.8")
    assert list(dataset.attributes) == ["hair"]
    assert dataset.points.shape == (3, 2, 2) and np.isnan(dataset.points[1]).all()
    assert np.allclose(dataset.points[2], [[0.5, 0.6], [0.7, 0.8]])
    assert dataset.subset([2]).points[0, 0, 0] == pytest.approx(0.5)
    assert np.array_equal(dataset.points[2], pointed(tmp_path / "again", "", "", "0.5 0.6 0.7 0.8").points[2])


def test_points_change_the_fingerprint(tmp_path: Path) -> None:
    one, other = pointed(tmp_path / "a", "0.1 0.2"), pointed(tmp_path / "b", "0.1 0.3")
    assert one.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (("0.1 0.2", "0.1 0.2 0.3 0.4"), "same number of points"),
        (("0.1 0.2 0.3",), "same number of points"),
        (("a b",), r"0\.png: its `points` are not numbers"),
        (("", ""), "no column `points`"),
    ],
)
def test_malformed_points(tmp_path: Path, cells: tuple[str, ...], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        _ = pointed(tmp_path, *cells).points


def test_names_that_differ_only_in_how_accents_are_composed(tmp_path: Path) -> None:
    csv = {"metadata.csv": "file_name,hair\ne\u0301.png,red\n\xe9.png,blue\n".encode()}
    dataset = open_dataset(zipped(tmp_path / "a.zip", {"\xe9.png": png(1), "e\u0301.png": png(2), **csv}))
    assert dict(zip(dataset.names, dataset.attributes["hair"], strict=True)) == {
        "e\u0301.png": "red",
        "\xe9.png": "blue",
    }
