"""The script that composes training pictures for the face detector."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kyara.files import face_boxes
from kyara.files.dataset import open_dataset

TOOLS = Path(__file__).parents[1] / "tools"


def load(name: str) -> Any:
    if str(TOOLS) not in sys.path:
        sys.path.insert(0, str(TOOLS))
    return import_module(name)


def upright() -> np.ndarray:
    """Twelve plausible landmarks of a drawn face of 100 pixels: eyes at 50, chin at 90."""
    left = [(22, 50), (32, 44), (42, 50), (32, 56)]
    right = [(58, 50), (68, 44), (78, 50), (68, 56)]
    return np.array([*left, *right, (50, 66), (44, 76), (56, 76), (50, 90)], float)


def test_the_box_goes_from_hairline_to_chin() -> None:
    face = load("face_labels").from_landmarks(upright())
    x0, y0, x1, y1 = face.box()
    assert y1 == pytest.approx(90) and 10 < y0 < 20 and x0 + x1 == pytest.approx(100) and 12 < x0 < 22
    assert face.points.tolist() == [[32, 50], [68, 50], [50, 66], [44, 76], [56, 76]]
    upside_down = upright()
    upside_down[11] = (50, 10)
    assert load("face_labels").from_landmarks(upside_down) is None
    assert load("face_labels").from_landmarks(upright() * 0) is None


def test_a_face_is_mapped_with_its_points() -> None:
    face = load("face_labels").from_landmarks(upright())
    mirrored = face.mapped(np.diag([-1.0, 1.0]), np.array([100.0, 0.0]))
    assert np.allclose(mirrored.box(), face.box()) and np.allclose(mirrored.points, face.points)
    quarter = face.mapped(np.array([[0.0, -1.0], [1.0, 0.0]]), np.zeros(2))
    width, height = (quarter.box()[2:] - quarter.box()[:2]).tolist()
    assert (height, width) == pytest.approx(tuple(face.box()[2:] - face.box()[:2]))
    eighth = face.mapped(np.array([[1.0, -1.0], [1.0, 1.0]]) / math.sqrt(2), np.zeros(2))
    sides = eighth.box()[2:] - eighth.box()[:2]
    assert sides[0] == pytest.approx(sides[1]) and min(width, height) < sides[0] < max(width, height)
    clipped = face.clipped(np.array([50, 0, 100, 60]))
    assert clipped.box().tolist() == pytest.approx([50, face.box()[1], face.box()[2], 60])
    assert face.clipped(np.array([0, 0, 100, 100])) is face
    assert face.numbers()[4:6] == [32.0, 50.0] and len(face.numbers()) == 14


def test_poisson_keeps_gradients_and_takes_the_border() -> None:
    random = np.random.RandomState(0)
    patch, under = random.rand(9, 12, 3), random.rand(9, 12, 3)
    made = load("blending").poisson(patch, under)
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        assert np.allclose(made[edge], under[edge])

    def laplacian(x: np.ndarray) -> np.ndarray:
        return 4 * x[1:-1, 1:-1] - x[:-2, 1:-1] - x[2:, 1:-1] - x[1:-1, :-2] - x[1:-1, 2:]

    assert np.allclose(laplacian(made), laplacian(patch))
    assert np.allclose(load("blending").poisson(patch, patch + 0.25), patch + 0.25)


def test_panels_do_not_overlap() -> None:
    module = load("detector_pictures")
    for seed in range(20):
        frames = module.panels(np.random.RandomState(seed))
        covered = np.zeros((module.SIDE, module.SIDE), int)
        for left, top, right, bottom in frames:
            covered[top:bottom, left:right] += 1
        assert covered.max() == 1 and 2 <= len(frames) <= 7


def pictures_of(path: Path, boxes: str | None = None) -> str:
    """A .zip of six pictures of noise, with this cell for each."""
    random = np.random.RandomState(0)
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(6):
            data = io.BytesIO()
            Image.fromarray(random.randint(0, 255, (100, 80, 3)).astype(np.uint8)).save(data, "PNG")
            archive.writestr(f"{i}.png", data.getvalue())
        if boxes is not None:
            archive.writestr("metadata.csv", "\n".join(["file_name,boxes", *(f'{i}.png,"{boxes}"' for i in range(6))]))
    return str(path)


def test_it_composes_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load("detector_pictures")
    found = load("face_labels").from_landmarks(upright() * 0.8)
    monkeypatch.setattr(module, "label", lambda dataset, chosen, region: [(dataset, i, [found]) for i in chosen])
    names = ("faces", "busts", "bodies", "objects", "views")
    arguments = [part for name in names for part in (f"--{name}", pictures_of(tmp_path / f"{name}.zip"))]
    arguments += ["--scenes", pictures_of(tmp_path / "scenes.zip", "0.2,0.2,0.5,0.4;0.9,0.9,0.05,0.05")]
    out = tmp_path / "out.zip"
    monkeypatch.setattr(sys, "argv", ["x", *arguments, "--out", str(out), "--count", "40", "--jobs", "0"])
    module.main()
    dataset = open_dataset(out)
    assert len(dataset) == 40 and dataset.picture(0).shape == (module.SIDE, module.SIDE, 3)
    faces = [face_boxes.parse(cell, "x") for cell in dataset.box_cells]
    assert sum(len(f) == 0 for f in faces) >= 3 and sum(map(len, faces)) >= 30
    every = np.concatenate(faces)
    assert every[:, 0].max() < module.SIDE and every[:, 1].min() > 0
    with zipfile.ZipFile(out) as archive:
        rows = [*csv.DictReader(io.StringIO(archive.read("metadata.csv").decode()))]
    assert all(len(face) == 14 for row in rows for face in json.loads(row["boxes"]))
    module.main()
    assert open_dataset(out).fingerprint == dataset.fingerprint
