"""kyara prepare: what people really have in their folders becomes a Dataset, or is named in the report."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from kyara import models
from kyara.curation.rank import rank
from kyara.files import checkpoint, pictures
from kyara.files.dataset import open_dataset
from kyara.files.errors import DatasetError
from kyara.files.gallery import read_gallery
from kyara.labels.attributes import Label, write_labels
from kyara.models import distortion
from kyara.preparation import detect
from kyara.preparation.duplicates import Seen, impression
from kyara.preparation.faces import Box
from kyara.preparation.prepare import prepare


def art(seed: int, height: int = 64, width: int = 64) -> np.ndarray:
    """A picture unlike those of other seeds: soft blobs of colour."""
    blobs = np.random.RandomState(seed).randint(0, 256, (6, 6, 3), dtype=np.uint8)
    return pictures.resize(blobs, width, height)


def save(path: Path, image: np.ndarray | Image.Image, encoding: str = "PNG", **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, encoding, **options)


def report_of(path: Path) -> dict[str, Any]:
    report = path.with_name(path.name + ".report.json") if path.suffix == ".zip" else path / "report.json"
    return json.loads(report.read_text(encoding="utf-8"))


def left_out(path: Path) -> dict[str, str]:
    """File -> reason: detail."""
    reasons = report_of(path)["left_out"].items()
    return {entry["file"]: f"{reason}: {entry['detail']}" for reason, entries in reasons for entry in entries}


def rows(path: Path) -> dict[str, dict[str, str]]:
    """Source -> row of metadata.csv."""
    text = zipfile.ZipFile(path).read("metadata.csv") if path.suffix == ".zip" else (path / "metadata.csv").read_bytes()
    return {row["source"]: row for row in csv.DictReader(io.StringIO(text.decode(), newline=""))}


def result_of(path: Path, source: str) -> np.ndarray:
    dataset = open_dataset(path)
    return dataset.picture(dataset.names.index(rows(path)[source]["file_name"]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(12):
        save(tmp_path / "art" / f"{i:02d}.png", art(i))
    return tmp_path / "art"


# The hostile folder


def hostile(root: Path) -> dict[str, np.ndarray]:
    """200 good pictures and 40 odd files; what must come of those that can be used, at 64x64."""
    for i in range(200):
        save(root / f"good/{i // 50}/{i:03d}.png", art(i))
    used: dict[str, np.ndarray] = {}

    def use(name: str, seed: int, image: Image.Image | None = None, encoding: str = "PNG", **options: Any) -> None:
        used[name] = art(seed)
        save(root / name, image or Image.fromarray(used[name]), encoding, **options)

    def image(seed: int) -> Image.Image:
        return Image.fromarray(art(seed))

    use("wrong.png", 300, encoding="JPEG", quality=95)
    use("wrong.jpg", 301, encoding="PNG")
    use("upper.JPEG", 302, encoding="JPEG", quality=95)
    use("青い髪 の/子.png", 303)
    use("Über\ncool.png", 304)
    use('a,b "c".png', 305)
    use("deep/er/and/deeper/x.webp", 306, encoding="WEBP", lossless=True)
    use("x.bmp", 307, encoding="BMP")
    use("x.tiff", 308, encoding="TIFF")
    use("rgba.png", 309, image(309).convert("RGBA"))
    use("cmyk.jpg", 310, image(310).convert("CMYK"), "JPEG", quality=95)
    use("palette.png", 311, image(311).quantize(256))
    transparent = image(312).quantize(255)
    use("palette-transparent.png", 312, transparent, transparency=255)
    use(
        "animated.gif",
        313,
        image(313).quantize(256),
        "GIF",
        save_all=True,
        append_images=[image(1).quantize()],
    )
    use("animated.webp", 314, encoding="WEBP", lossless=True, save_all=True, append_images=[image(2)])
    grey = art(315)[:, :, :1].repeat(3, 2)
    use("sixteen.png", 315, Image.fromarray(grey[:, :, 0].astype(np.uint16) * 257))
    used["sixteen.png"] = grey
    grey = art(316)[:, :, :1].repeat(3, 2)
    use("grey.png", 316, Image.fromarray(grey[:, :, 0]))
    used["grey.png"] = grey
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    use(
        "turned.jpg",
        317,
        Image.fromarray(np.ascontiguousarray(np.rot90(art(317)))),
        "JPEG",
        quality=95,
        exif=exif,
    )
    use("broken-exif.jpg", 318, encoding="JPEG", quality=95, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    wide = np.concatenate([np.zeros((64, 20, 3), np.uint8), art(319), np.zeros((64, 20, 3), np.uint8)], 1)
    use("wide.png", 319, Image.fromarray(wide))

    whole = pictures.encode_png(np.random.RandomState(0).randint(0, 256, (64, 64, 3), dtype=np.uint8))
    header = struct.pack(">IIBBBBB", 90_000, 90_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("../../escape.png", whole)
    bad = {
        "bad/truncated.png": whole[:-2000], "bad/cut.jpg": (root / "wrong.png").read_bytes()[:500],
        "bad/text.png": b"no picture", "bad/huge.png": pictures.PNG_SIGNATURE + chunk + whole[33:],
        "bad/nested.zip": inner.getvalue(), "bad/movie.mp4": b"\0\0\0\x18ftyp", "bad/zero.png": b"",
        "bad/svg.png": b"<svg xmlns='http://www.w3.org/2000/svg'/>", "bad/script.ps.png": b"%!PS-Adobe-3.0",
        "bad/cut.webp": (root / "deep/er/and/deeper/x.webp").read_bytes()[:300], "bad/notes.txt": b"hello",
        "bad/escape\x1b[31m.png": b"", "bad/cut.bmp": (root / "x.bmp").read_bytes()[:900],
        "bad/header.gif": b"GIF89a\xff\xff\xff\xff",
    }  # fmt: skip
    for name, data in bad.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(data)
    save(root / "bad/tiny.png", art(0, 1, 1))
    save(root / "bad/thin.png", art(0, 3, 500))
    if os.name != "nt":
        (root / "loop").symlink_to(root, target_is_directory=True)
        (root / "bad/gone.png").symlink_to(root / "nowhere.png")
        os.mkfifo(root / "bad/pipe.png")
    save(root / "copy.png", art(7))
    return used


def test_hostile_folder(tmp_path: Path) -> None:
    root, out = tmp_path / "art", tmp_path / "out.zip"
    used = hostile(root)
    result = prepare(root, out, size="64", workers=0)
    kept, gone = rows(out), left_out(out)
    files = {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_symlink() or not p.is_dir()}
    assert files == kept.keys() | gone.keys() and not kept.keys() & gone.keys()
    assert len(kept) == 200 + len(used)
    for name, expected in used.items():
        difference = abs(result_of(out, name).astype(int) - expected).mean()
        assert difference < (0.5 if name.endswith(("bmp", "tiff", "wide.png", "grey.png")) else 9), name
    for name in gone:
        assert name.startswith("bad/") or name in ("loop", "good/0/007.png"), f"{name}: {gone[name]}"
    for name in ("bad/truncated.png", "bad/cut.jpg", "bad/cut.webp", "bad/cut.bmp"):
        assert "truncated" in gone[name]
    assert "empty" in gone["bad/zero.png"] and "limit" in gone["bad/huge.png"]
    assert "give it as a source of its own" in gone["bad/nested.zip"]
    assert gone["bad/tiny.png"].startswith("too small: 1x1") and "not followed" in gone["loop"]
    assert gone["good/0/007.png"] == "exact duplicate: of copy.png"
    assert not list(tmp_path.rglob("escape.png")) and "\x1b" not in str(result)
    beside = [f"out.zip.report.{what}" for what in ("html", "json", "thumbnails")]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["art", "out.zip", *beside]


def test_workers_and_folder_or_zip_change_nothing(folder: Path, tmp_path: Path) -> None:
    prepare(folder, tmp_path / "a.zip", size="32", workers=0)
    prepare(folder, tmp_path / "b.zip", size="32", workers=2)
    prepare(folder, tmp_path / "c", size="32", workers=0)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert all((tmp_path / "c" / name).read_bytes() == archive.read(name) for name in archive.namelist())
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
    assert open_dataset(tmp_path / "c").names == open_dataset(tmp_path / "a.zip").names


# Attributes


def test_attributes_are_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name, files, expected in [
        (
            "csv",
            {"metadata.csv": "file_name,hair,eyes\nb/1.png,red,\na/0.png,,blue\n"},
            [("", "blue"), ("red", "")],
        ),
        ("json", {"dataset.json": '{"labels": [["a\\\\0.png", 4], ["b/1.png", 2]]}'}, [("4",), ("2",)]),
        ("classes", {}, [("a",), ("b",)]),
    ]:
        root = tmp_path / name
        for i, sub in enumerate("ab"):
            save(root / sub / f"{i}.png", art(i))
        for file, text in files.items():
            (root / file).write_text(text)
        prepare(root, out / name if out.exists() else (out.mkdir() or out / name), size="32")
        dataset = open_dataset(out / name)
        found = {rows(out / name)[s]["file_name"]: i for i, s in enumerate(("a/0.png", "b/1.png"))}
        for attribute_row, picture in zip(zip(*dataset.attributes.values(), strict=True), dataset.names, strict=True):
            assert attribute_row == expected[found[picture]]


def test_attributes_of_a_gallery_are_kept(tmp_path: Path) -> None:
    for i in range(2):
        save(tmp_path / "made" / f"{i}.png", art(i))
    table = b"file_name,hair,mood,score,source,kept\n0.png,red,,0.9,b\xe4r.png,0.5\n1.png,blue,glad,0.8,,0.4\n"
    (tmp_path / "made" / "gallery.csv").write_bytes(table)
    prepare(tmp_path / "made", tmp_path / "out", size="32")
    found = rows(tmp_path / "out")
    assert [(found[name]["hair"], found[name]["mood"]) for name in ("0.png", "1.png")] == [
        ("red", ""),
        ("blue", "glad"),
    ]
    assert set(found["0.png"]) == {"file_name", "hair", "mood", "source"}


def test_whatever_the_metadata_has_the_result_can_be_opened(folder: Path, tmp_path: Path) -> None:
    row = {"file_name": "00.png", "hair": "red", " hair": "blue", "": "x", "mask": "1" * 200_000, "note": "a\rb"}
    (folder / "metadata.jsonl").write_text(json.dumps(row) + "\n")
    prepare(folder, tmp_path / "out", size="32")
    dataset = open_dataset(tmp_path / "out")
    i = dataset.names.index(rows(tmp_path / "out")["00.png"]["file_name"])
    assert {name: column[i] for name, column in dataset.attributes.items()} == {"hair": "blue", "note": "a\rb"}


def test_prepared_can_be_prepared_again(folder: Path, tmp_path: Path) -> None:
    prepare(folder, tmp_path / "a.zip", size="32")
    prepare(tmp_path / "a.zip", tmp_path / "b.zip", size="32")
    assert open_dataset(tmp_path / "a.zip").names == open_dataset(tmp_path / "b.zip").names
    assert open_dataset(tmp_path / "b.zip").attributes == {}


# Size and shape


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ([100] * 9 + [40], 96),
        ([100] * 8 + [40] * 2, 64),
        ([100] * 4 + [40] * 6, 32),
        ([300] * 10, 256),
        ([20] * 10, 32),
    ],
)
def test_the_size_suits_most(tmp_path: Path, sides: list[int], expected: int) -> None:
    for i, side in enumerate(sides):
        save(tmp_path / "art" / f"{i}.png", art(i, side, side + 5))
    prepare(tmp_path / "art", tmp_path / "out", min_size=1)
    report = report_of(tmp_path / "out")
    assert report["size"] == [expected, expected] and report["chosen"] and report["kept"] == 10


def test_height_comes_first(folder: Path, tmp_path: Path) -> None:
    prepare(folder, tmp_path / "out", size="48x32")
    assert {open_dataset(tmp_path / "out").picture(i).shape for i in range(12)} == {(48, 32, 3)}
    with pytest.raises(ValueError, match="--size 48:32"):
        prepare(folder, tmp_path / "other", size="48:32")


def test_whole_pictures_get_white_sides(tmp_path: Path) -> None:
    save(tmp_path / "art" / "a.png", np.zeros((32, 64, 3), np.uint8))
    prepare(tmp_path / "art", tmp_path / "out", size="64", frame="whole", pad="white", detect="none", min_size=1)
    result = open_dataset(tmp_path / "out").picture(0)
    assert (result[:16] == 255).all() and (result[16:48] == 0).all() and (result[48:] == 255).all()


def test_a_large_size_is_not_enlarged_from_a_smaller_one(tmp_path: Path) -> None:
    noise = np.random.RandomState(0).randint(0, 256, (1100, 1100, 3), dtype=np.uint8)
    save(tmp_path / "art" / "a.bmp", noise, "BMP")
    prepare(tmp_path / "art", tmp_path / "out", size="1100", frame="whole", detect="none")
    assert np.array_equal(open_dataset(tmp_path / "out").picture(0), noise)


def test_min_size_and_limit(folder: Path, tmp_path: Path) -> None:
    save(folder / "small.png", art(50, 30, 30))
    prepare(folder, tmp_path / "a", size="64")
    assert left_out(tmp_path / "a")["small.png"].startswith("too small: 30x30")
    prepare(folder, tmp_path / "b", size="64", min_size=30)
    assert report_of(tmp_path / "b")["kept"] == 13
    prepare(folder, tmp_path / "c", size="64", limit=5)
    assert len(open_dataset(tmp_path / "c")) == 5
    reasons = [entry["reason"] for entry in report_of(tmp_path / "c")["pictures"]]
    assert len(reasons) == 13 and reasons.count("over the limit") in (7, 8) and reasons.count("") == 5
    with pytest.raises(DatasetError, match=r"no picture was left \(13 too small\); the first is 00\.png: 64x64"):
        prepare(folder, tmp_path / "d", size="64", min_size=1000)
    assert not (tmp_path / "d").exists()


# Nothing is overwritten


@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_existing_results_need_force(folder: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    prepare(folder, out, size="32")
    with pytest.raises(FileExistsError, match="--force"):
        prepare(folder, out, size="48")
    assert report_of(out)["size"] == [32, 32]
    prepare(folder, out, size="48", force=True)
    assert report_of(out)["size"] == [48, 48] and open_dataset(out).picture(0).shape == (48, 48, 3)


def test_files_that_were_added_to_a_result_stop_force(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(folder, out, size="32")
    write_labels(open_dataset(out), [Label(open_dataset(out).names[0], "hair", "red", None, "person")])
    prepare(folder, out, size="48", force=True)  # labels are taken over
    (out / "images" / "mine.png").write_bytes(b"drawn by me")
    (out / ".DS_Store").touch()
    with pytest.raises(FileExistsError, match=r"out: contains images/mine\.png, which kyara prepare did not write"):
        prepare(folder, out, size="32", force=True)
    assert (out / "images" / "mine.png").exists() and report_of(out)["size"] == [48, 48]


def test_what_is_not_ours_is_never_replaced(folder: Path, tmp_path: Path) -> None:
    save(tmp_path / "mine" / "a.png", art(0))
    (tmp_path / "mine.zip").write_text("a letter")
    (tmp_path / "file").write_text("a letter")
    for name in ("mine", "mine.zip", "file"):
        with pytest.raises(FileExistsError):
            prepare(folder, tmp_path / name, size="32", force=True)
    for out in (folder, folder / "inside", tmp_path):
        with pytest.raises((ValueError, FileExistsError)):
            prepare(folder, out, size="32", force=True)
    with pytest.raises(FileNotFoundError, match="create it first"):
        prepare(folder, tmp_path / "no" / "out", size="32")
    assert (tmp_path / "mine" / "a.png").exists() and len(list(folder.iterdir())) == 12


def test_dry_run_writes_nothing(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = prepare(folder, tmp_path / "out", size="32", dry_run=True)
    assert (result.kept, result.size, result.chosen, result.left_out) == (12, (32, 32), False, {})
    assert str(result) == "12 of 12 kept, 32x32 pixels\nnothing was written"
    assert capsys.readouterr() == ("", "")
    assert [p.name for p in tmp_path.iterdir()] == ["art"]


def test_the_result_says_what_the_report_says(folder: Path, tmp_path: Path) -> None:
    save(folder / "copy.png", art(0))
    result = prepare(folder, tmp_path / "out", size="32")
    written = report_of(tmp_path / "out")
    assert written == {key: value for key, value in result.as_json().items() if key in written}
    assert written["sources"] == [str(folder)] and result.report == tmp_path / "out" / "report.json"
    assert "1 exact duplicate\n    copy.png: of 00.png" in str(result)


def test_counts_are_of_pictures(folder: Path, tmp_path: Path) -> None:
    for name in ("notes.txt", "x.json", "drawing.clip"):
        (folder / name).write_text("x")
    result = prepare(folder, tmp_path / "out", size="32")
    assert str(result).startswith("12 of 13 kept, 32x32 pixels\n1 unreadable\n    drawing.clip: a file of Clip Studio")
    assert "\n2 passed over\n    notes.txt: " in str(result)


# Several sources


def test_several_sources(folder: Path, tmp_path: Path) -> None:
    save(tmp_path / "one.png", art(20))
    save(tmp_path / "again.png", art(3))
    save(tmp_path / "classes" / "a" / "00.png", art(21))
    save(tmp_path / "classes" / "b" / "00.png", art(22))
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.writestr("00.png", pictures.encode_png(art(23)))
        archive.writestr("metadata.csv", "file_name,hair\n00.png,red\n")
    sources = [folder, tmp_path / "one.png", tmp_path / "again.png", tmp_path / "classes", tmp_path / "more.zip"]
    result = prepare(*sources, tmp_path / "out", size="32", workers=0)
    assert result.kept == 16 and result.sources == [str(path) for path in sources]
    copy = {"file": (tmp_path / "again.png").as_posix(), "detail": f"of {(folder / '03.png').as_posix()}"}
    assert result.left_out == {"exact duplicate": [copy]}
    found = rows(tmp_path / "out")
    assert found[(tmp_path / "more.zip/00.png").as_posix()]["hair"] == "red"
    assert found[(tmp_path / "classes/b/00.png").as_posix()]["class"] == "b"
    assert np.array_equal(
        result_of(tmp_path / "out", (tmp_path / "one.png").as_posix()), pictures.resize(art(20), 32, 32)
    )
    named = prepare(*map(str, sources), out=tmp_path / "named", size="32", workers=2)  # type: ignore[arg-type]
    assert (
        named.kept == 16 and open_dataset(tmp_path / "named").fingerprint == open_dataset(tmp_path / "out").fingerprint
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [("size", ""), ("size", "0"), ("size", "-1"), ("size", "99999"), ("size", "nan"), ("min_size", 0), ("min_size", -1),
     ("min_size", 2**70), ("limit", 0), ("limit", -3), ("limit", 2**70), ("workers", -1), ("workers", 10**6),
     ("detect", ""), ("detect", "anime")],
)  # fmt: skip
def test_invalid_options_are_named(folder: Path, tmp_path: Path, option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"--{option.replace('_', '-')}"):
        prepare(folder, tmp_path / "out", **{option: value})
    assert not (tmp_path / "out").exists()


def test_invalid_places_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"SOURCE\.\.\. OUT"):
        prepare(folder)
    with pytest.raises(ValueError, match="gone: does not exist"):
        prepare(folder, tmp_path / "gone", tmp_path / "out")
    with pytest.raises(ValueError, match="art: is a source, too"):
        prepare(tmp_path / "other", folder, folder)
    with pytest.raises(ValueError, match=r"misspelled\.png: has the suffix of a picture"):
        prepare(folder, tmp_path / "misspelled.png")
    with pytest.raises(ValueError, match="must not contain"):
        prepare(tmp_path, folder, out=folder / "out")


def test_a_full_disk_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"out: cannot be written \(No space left on device\); free some space"):
        prepare(folder, tmp_path / "out", size="32")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["art", "out.unfinished"]
    monkeypatch.undo()
    prepare(folder, tmp_path / "out", size="32")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["art", "out"]


# Copies


def copies(picture: np.ndarray) -> dict[str, np.ndarray]:
    def jpeg(p: np.ndarray, quality: int) -> np.ndarray:
        buffer = io.BytesIO()
        Image.fromarray(p).save(buffer, "JPEG", quality=quality)
        return pictures.decode(buffer.getvalue())

    image = Image.fromarray(picture)
    return {
        "jpeg": jpeg(picture, 40),
        "half": pictures.resize(picture, 32, 32),
        "double": jpeg(pictures.resize(picture, 128, 128), 60),
        "brighter": np.array(ImageEnhance.Brightness(image).enhance(1.15)),
        "darker": np.array(ImageEnhance.Brightness(image).enhance(0.8)),
        "contrast": np.array(ImageEnhance.Contrast(image).enhance(0.8)),
        "mirrored": jpeg(np.ascontiguousarray(picture[:, ::-1]), 60),
        "shifted": np.roll(picture, 2, 1),
    }


def test_copies_are_found_and_others_kept(tmp_path: Path) -> None:
    for i in range(20):
        save(tmp_path / "art" / f"{i:02d}-0.png", art(i))
        save(tmp_path / "art" / f"{i:02d}-same.bmp", art(i), "BMP")
        for kind, copy in copies(art(i)).items():
            save(tmp_path / "art" / f"{i:02d}-{kind}.png", copy)
    prepare(tmp_path / "art", tmp_path / "near", size="64", detect="none")
    gone = left_out(tmp_path / "near")
    assert report_of(tmp_path / "near")["kept"] >= 20 and not [n for n in gone if n.endswith("-0.png")]
    assert len([n for n, why in gone.items() if why.startswith("near")]) > 0.95 * 20 * 8
    assert all(f"of {name[:2]}-" in why for name, why in gone.items())
    prepare(tmp_path / "art", tmp_path / "exact", size="64", detect="none", duplicates="exact")
    assert set(left_out(tmp_path / "exact")) == {f"{i:02d}-same.bmp" for i in range(20)}
    prepare(tmp_path / "art", tmp_path / "all", size="64", detect="none", duplicates="keep")
    assert len(open_dataset(tmp_path / "all")) == 20 * 10 and len(rows(tmp_path / "all")) == 20 * 10


def test_plain_colours_are_no_copies_of_each_other() -> None:
    seen = Seen("near")
    for colour in [(200, 100, 50), (160, 80, 40), (90, 90, 90), (200, 200, 200), (0, 0, 255)]:
        one = impression(np.full((64, 64, 3), colour, np.uint8))
        assert seen.find(one) is None, colour
        seen.add(one)


def test_many_pictures_are_searched(tmp_path: Path) -> None:
    seen = Seen("near")
    for i in range(3000):  # more than the first array holds
        one = impression(np.random.RandomState(i).randint(0, 256, (32, 32, 3), dtype=np.uint8))
        assert seen.find(one) is None
        seen.add(one)
    assert seen.find(impression(np.random.RandomState(1234).randint(0, 256, (32, 32, 3), dtype=np.uint8))) == (
        "exact duplicate",
        1234,
    )


def faces_of(monkeypatch: pytest.MonkeyPatch, faces: dict[int, list[Box]]) -> None:
    """The faces that the detector finds, by the width of the picture."""
    monkeypatch.setattr(detect, "load", lambda name: lambda picture: faces[picture.shape[1]])


def test_of_copies_in_pictures_with_several_faces_the_largest_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, crop, one = np.full((500, 900, 3), 255, np.uint8), np.full((400, 400, 3), 255, np.uint8), art(1, 220, 220)
    scene[50:450, 50:450], scene[200:310, 650:760] = art(0, 400, 400), pictures.resize(one, 110, 110)
    crop[90:310, 90:310] = one
    save(tmp_path / "art" / "scene.png", scene)
    save(tmp_path / "art" / "crop.png", crop)
    small = Box(680, 230, 730, 280)  # of the same part of the face as in the crop
    faces_of(monkeypatch, {900: [Box(150, 150, 350, 350), small], 400: [Box(150, 150, 250, 250)]})
    prepare(tmp_path / "art", tmp_path / "out", size="64", min_size=1, detect="drawn", workers=0)
    assert set(rows(tmp_path / "out")) == {"scene.png#1", "crop.png#1"}
    assert left_out(tmp_path / "out") == {"scene.png#2": "near duplicate: of crop.png#1"}


def test_faces_in_the_list_of_drop_that_there_are_not_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "art" / "a.png", art(0, 300, 300))
    save(tmp_path / "art" / "b.png", art(1, 310, 310))
    faces_of(monkeypatch, {300: [Box(50, 50, 120, 120), Box(180, 180, 250, 250)], 310: [Box(100, 100, 200, 200)]})
    (tmp_path / "drop.csv").write_text("file_name\na.png#2\na.png#3\n")
    options: dict[str, Any] = {"size": "64", "min_size": 1, "workers": 0, "drop": tmp_path / "drop.csv"}
    prepare(tmp_path / "art", tmp_path / "cut", detect="drawn", **options)
    gone = left_out(tmp_path / "cut")
    assert set(gone) == {"a.png#2", "a.png#3"} and gone["a.png#2"].startswith("dropped")
    assert gone["a.png#3"] == "passed over: listed in drop.csv, line 3, but no such face was cut out"
    prepare(tmp_path / "art", tmp_path / "whole", detect="none", **options)
    assert set(left_out(tmp_path / "whole")) == {"a.png#2", "a.png#3"}


@pytest.mark.parametrize(
    "options",
    [
        {"detect": "none", "pad": "white"},
        {"frame": "whole", "faces": "largest"},
        {"detect": "none", "faces": "largest"},
        {"detect": "none", "frame": "bust"},
    ],
)
def test_options_without_effect_are_refused(folder: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^--(pad white|faces largest|frame bust): "):
        prepare(folder, tmp_path / "out", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["art"]


# Detection and the command line


def test_command_line(folder: Path, tmp_path: Path) -> None:
    (folder / "日本語.png").write_bytes(b"not a picture")
    run = [sys.executable, "-m", "kyara", "prepare"]
    options = ["--size", "48x32", "--workers", "0"]
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}  # cannot show that name
    done = subprocess.run([*run, folder, tmp_path / "out.zip", *options], capture_output=True, env=environment)
    assert done.returncode == 0 and done.stderr == b"" and b"12 of 13 kept, 48x32" in done.stdout
    help_ = subprocess.run([*run, "--help"], capture_output=True, text=True).stdout
    assert "SOURCE... OUT" in help_ and "HEIGHTxWIDTH" in help_


def test_the_hostile_folder_goes_through_rank(tmp_path: Path) -> None:
    """Ranking needs no preparation: every file is in the gallery, or named with the reason."""
    used = hostile(tmp_path / "art")
    config = dataclasses.asdict(distortion.PRESETS["tiny"])
    weights = models.stored(distortion.Model(distortion.PRESETS["tiny"]))
    checkpoint.write(tmp_path / "net", model="distortion", config=config, weights=weights, card="", about={})
    out = tmp_path / "ranked"
    rank(tmp_path / "art", out=out, model=str(tmp_path / "net"))
    ranked = {row["source"].removeprefix(f"{(tmp_path / 'art').as_posix()}/") for row in read_gallery(out)}
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    named = {entry["file_name"]: entry["reason"] for entry in report["left_out"]}
    assert all(named.values())
    files = {p.relative_to(tmp_path / "art").as_posix() for p in (tmp_path / "art").rglob("*") if p.is_file()}
    visible = {name for name in files if not any(part.startswith((".", "__MACOSX")) for part in name.split("/"))}
    assert len([name for name in ranked if name.startswith("good/")]) == 200
    assert set(used) <= ranked
    assert visible <= ranked | set(named), visible - ranked - set(named)
