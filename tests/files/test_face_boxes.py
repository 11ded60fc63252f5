"""The column `boxes`."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kyara.files import face_boxes
from kyara.files.dataset import open_dataset
from kyara.files.errors import DatasetError
from kyara.files.stream import Stream

POINTS = [12, 14, 28, 14, 20, 20, 15, 25, None, None]


def boxed(path: Path, cells: list[str], size: tuple[int, int] = (60, 40), **save: object) -> Path:
    """A dataset of grey pictures of `size` (width, height), with these cells."""
    rows = ["file_name,boxes"]
    with zipfile.ZipFile(path, "w") as archive:
        for i, cell in enumerate(cells):
            buffer = io.BytesIO()
            Image.new("RGB", size, (i, i, i)).save(buffer, "JPEG", **save)
            archive.writestr(f"{i}.jpg", buffer.getvalue())
            quoted = cell.replace('"', '""')
            rows.append(f'{i}.jpg,"{quoted}"')
        archive.writestr("metadata.csv", "\n".join(rows) + "\n")
    return path


def cell(*faces: list[float | None]) -> str:
    return str(list(faces)).replace("None", "null")


def test_faces_are_shares_of_the_crop(tmp_path: Path) -> None:
    path = boxed(tmp_path / "d.zip", [cell([15, 10, 20, 15, *POINTS], [50, 0, 10, 10]), "[]"])
    faces = face_boxes.read(open_dataset(path), 32, 32)  # the middle 40 of 60 columns
    assert faces.shape == (2, 2, 7, 2) and faces.dtype == np.float32
    assert np.isnan(faces[1]).all() and np.isnan(faces[0, 1, 2:]).all() and np.isnan(faces[0, 0, 6]).all()
    assert np.allclose(faces[0, 0, :2], [[5 / 40, 10 / 40], [25 / 40, 25 / 40]])
    assert np.allclose(faces[0, 0, 2], [2 / 40, 14 / 40])
    assert np.allclose(faces[0, 1, :2], [[1.0, 0.0], [1.25, 0.25]])  # outside the crop
    assert np.allclose(face_boxes.read(open_dataset(path), 60, 40)[0, 0, 0], [15 / 60, 10 / 40])


def test_pixels_are_those_of_the_upright_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = boxed(tmp_path / "d.zip", [cell([0, 0, 40, 60])], exif=exif)
    assert np.allclose(face_boxes.read(open_dataset(path), 40, 60)[0, 0, :2], [[0, 0], [1, 1]])


def test_a_stream_mirrors_faces(tmp_path: Path) -> None:
    path = boxed(tmp_path / "d.zip", [cell([15, 10, 20, 15, *POINTS])] * 4)
    stream = Stream(open_dataset(path), width=60, height=40, batch=8, seed=0, mirror=True, boxes=True, values={})
    batch = next(iter(stream))
    assert batch.faces is not None and {*batch.mirrored.tolist()} == {False, True}
    for face, mirrored in zip(batch.faces[:, 0], batch.mirrored, strict=True):
        x = face[[0, 1, 2], 0] * 60
        assert np.allclose(x, [45, 25, 48] if mirrored else [15, 35, 12])
    again = next(iter(Stream(open_dataset(path), width=60, height=40, batch=8, seed=0, values={})))
    assert again.faces is None


@pytest.mark.parametrize(
    "wrong",
    ["", "[[1, 2, 3]]", "[[1, 2, 0, 4]]", "[[1, 2, null, 4]]", "1 2 3 4", "[1, 2, 3, 4]", "[" * 99_999],
    ids=range(7),
)
def test_a_malformed_cell_is_named(tmp_path: Path, wrong: str) -> None:
    path = boxed(tmp_path / "d.zip", ["[]", wrong])
    with pytest.raises(DatasetError, match=r"1\.jpg: its `boxes` must be"):
        face_boxes.read(open_dataset(path), 32, 32)


def test_a_dataset_without_the_column_is_refused(tmp_path: Path, faces: Path) -> None:
    with pytest.raises(DatasetError, match="no column `boxes`"):
        face_boxes.read(open_dataset(faces), 32, 32)


def test_boxes_are_no_attribute_and_part_of_the_fingerprint(tmp_path: Path) -> None:
    some = [open_dataset(boxed(tmp_path / f"{x}.zip", [cell([x, 0, 9, 9]), "[]"])) for x in (1, 2)]
    assert not some[0].attributes and some[0].fingerprint != some[1].fingerprint
    assert some[0].subset([1]).box_cells == ["[]"]
