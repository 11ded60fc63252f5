"""What report.json says of every source picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kyara.files import pictures
from kyara.files.dataset import open_dataset
from kyara.preparation.prepare import prepare


def blobs(seed: int, height: int = 64, width: int = 64) -> np.ndarray:
    return pictures.resize(np.random.RandomState(seed).randint(0, 256, (6, 6, 3), dtype=np.uint8), width, height)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "art").mkdir()
    similar = blobs(0)
    similar[20:44, 20:44] = blobs(9)[20:44, 20:44]
    images = {"a": blobs(0), "b": blobs(1, 80, 100), "copy": blobs(0), "similar": similar, "small": blobs(3, 20, 30)}
    for name, image in images.items():
        (tmp_path / "art" / f"{name}.png").write_bytes(pictures.encode_png(image))
    (tmp_path / "art" / "text.png").write_text("no picture")
    (tmp_path / "art" / "notes.txt").write_text("hello")
    return tmp_path / "art"


@pytest.mark.parametrize("workers", [0, 2])
def test_every_file_is_in_the_report(folder: Path, tmp_path: Path, workers: int) -> None:
    result = prepare(folder, tmp_path / "out", size="64", workers=workers)
    entries = {entry["file"]: entry for entry in json.loads(result.report.read_text(encoding="utf-8"))["pictures"]}
    assert set(entries) == {path.name for path in folder.iterdir()}
    assert {entry["kept"] for entry in entries.values()} - {None} == set(open_dataset(tmp_path / "out").names)
    sizes = {name: entry["size"] for name, entry in entries.items()}
    assert sizes == {
        "a.png": [64, 64], "b.png": [80, 100], "copy.png": [64, 64], "similar.png": [64, 64], "small.png": [20, 30],
        "text.png": None, "notes.txt": None,
    }  # fmt: skip
    assert entries["copy.png"]["nearest"] == "a.png" and entries["copy.png"]["distance"] == 0
    assert entries["similar.png"]["nearest"] == "a.png" and entries["a.png"]["nearest"] == "similar.png"
    assert 0 < entries["a.png"]["distance"] == entries["similar.png"]["distance"] < entries["b.png"]["distance"]
    assert entries["text.png"]["reason"] == "unreadable" and entries["notes.txt"]["reason"] == "passed over"
    assert not any(entry["faces"] for entry in entries.values())


def test_blurred_pictures_are_less_sharp(folder: Path, tmp_path: Path) -> None:
    noise = np.random.RandomState(0).randint(0, 256, (64, 64, 3), dtype=np.uint8)
    (folder / "sharp.png").write_bytes(pictures.encode_png(noise))
    found = {entry.file: entry.sharpness for entry in prepare(folder, tmp_path / "out", size="64").pictures}
    assert found["sharp.png"] > 5 * found["a.png"] > 0 and found["text.png"] is None


def test_thumbnails_are_no_pictures_of_a_dataset(folder: Path, tmp_path: Path) -> None:
    prepare(folder, tmp_path / "out", size="64")
    assert (tmp_path / "out" / "report.thumbnails" / "000.jpg").is_file()
    assert len(open_dataset(tmp_path / "out")) == 3 and not open_dataset(tmp_path / "out").ignored
    prepare(folder, folder / "faces.zip", size="64")
    beside = {"faces.zip", "faces.zip.report.json", "faces.zip.report.html", "faces.zip.report.thumbnails"}
    assert beside <= {path.name for path in folder.iterdir()}
    assert not [name for name in open_dataset(folder).names if "thumbnails" in name]


def test_a_zip_and_what_is_beside_it_are_replaced_together(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zip"
    for name in ("report.json", "report.html", "report.thumbnails"):
        place = tmp_path / f"out.zip.{name}"
        place.mkdir()
        with pytest.raises(FileExistsError, match=f"{name}: exists, but .*report.json is no report"):
            prepare(folder, out, size="64", force=True)
        place.rmdir()
    prepare(folder, out, size="64")
    (tmp_path / "out.zip.report.thumbnails" / "007.jpg").write_bytes(b"old")
    prepare(folder, out, size="64", force=True)
    assert [path.name for path in (tmp_path / "out.zip.report.thumbnails").iterdir()] == ["000.jpg"]
    assert len(list(tmp_path.iterdir())) == 5
