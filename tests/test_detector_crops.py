"""The script that cuts labelled illustrations to training pictures for the face detector."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kyara.files import face_boxes
from kyara.files.dataset import open_dataset


def labelled(root: Path) -> Path:
    """One picture with a red face and a doubtful blue one, one with two red faces, and one without."""
    (root / "pictures").mkdir(parents=True)
    rows = ["file_name,x,y,width,height,ignore"]
    for name, faces in {
        "a.png": [(40, 40, 60, 80, 0), (300, 40, 60, 60, 1)],
        "b.png": [(10, 100, 30, 30, 0), (200, 200, 90, 120, 0)],
        "c.png": [],
    }.items():
        picture = np.full((400, 500, 3), 200, np.uint8)
        for x, y, width, height, doubtful in faces:
            picture[y : y + height, x : x + width] = (0, 0, 255) if doubtful else (255, 0, 0)
            rows.append(f"{name},{x},{y},{width},{height},{doubtful}")
        Image.fromarray(picture).save(root / "pictures" / name)
    (root / "boxes.csv").write_text("\n".join(rows))
    return root


@pytest.fixture
def crops(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "tools")
    return import_module("detector_crops")


def run(crops: Any, monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["detector_crops.py", *map(str, arguments)])
    crops.main()


def test_boxes_are_where_the_faces_are(crops: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = labelled(tmp_path / "art")
    run(crops, monkeypatch, folder, "--each", 6, "--out", tmp_path / "a.zip")
    dataset = open_dataset(tmp_path / "a.zip")
    assert len(dataset) == 6 + 8 + 4
    found = 0
    for i in range(len(dataset)):
        picture = dataset.picture(i).astype(int)
        assert picture.shape == (320, 320, 3)
        red = (picture[..., 0] > 180) & (picture[..., 1:].max(-1) < 90)
        covered = np.zeros_like(red)
        for x0, y0, x1, y1 in face_boxes.parse(dataset.box_cells[i], "")[:, :2].reshape(-1, 4):
            rows, columns = slice(max(round(y0), 0), round(y1)), slice(max(round(x0), 0), round(x1))
            assert red[rows, columns][2:-2, 2:-2].mean() > 0.9
            covered[rows, columns] = True
            found += 1
        border = (picture == picture[0, 0]).all(-1) | (picture == picture[-1, -1]).all(-1)  # it has any colour
        assert (red & ~covered & ~border).sum() < 0.005 * red.size  # a face cut off is blurred
        assert ((picture[..., 2] > 230) & (picture[..., :2].max(-1) < 30) & ~border).sum() < 0.005 * red.size
    assert found >= 14


def test_the_same_seed_makes_the_same_and_datasets_are_added(
    crops: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = labelled(tmp_path / "art")
    made = tmp_path / "a.zip"
    run(crops, monkeypatch, folder, "--each", 3, "--out", made)
    run(crops, monkeypatch, folder, "--each", 3, "--add", made, "--limit", 2, "--out", tmp_path / "b.zip")
    one, two = open_dataset(made), open_dataset(tmp_path / "b.zip")
    assert len(two) == len(one) + 2
    assert [two.read(i) for i in range(len(one))] == [one.read(i) for i in range(len(one))]
    assert two.box_cells[len(one) :] == one.box_cells[:2]


def test_what_is_there_is_kept_and_what_is_missing_is_named(
    crops: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = labelled(tmp_path / "art")
    (tmp_path / "a.zip").write_bytes(b"mine")
    with pytest.raises(SystemExit, match=r"--out .*: exists already"):
        run(crops, monkeypatch, folder, "--out", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == b"mine"
    with pytest.raises(SystemExit, match="has no column `boxes`"):
        run(crops, monkeypatch, folder, "--add", folder / "pictures", "--out", tmp_path / "b.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "art"]


def test_rows_without_a_picture_are_an_error(crops: Any, tmp_path: Path) -> None:
    folder = labelled(tmp_path / "art")
    (folder / "pictures" / "b.png").unlink()
    with pytest.raises(SystemExit, match=r"boxes\.csv: .* has no b\.png"):
        crops.read(folder)
