"""What many tests need: small pictures, small datasets, small trained models. Nothing from outside."""

from __future__ import annotations

import importlib.util
import io
import itertools
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["OMP_NUM_THREADS"] = "1"  # for NumPy, which reads it once, and for the processes that tests start

import numpy as np
import pytest
import torch
from PIL import Image

if TYPE_CHECKING:
    from kyara.perception.vgg16 import VGG16

pytest_plugins = ("serving",)  # fixtures of tests/app
collect_ignore = [] if importlib.util.find_spec("fastapi") else ["app"]  # extra `studio`


def drawn_picture(seed: int, size: int = 48) -> np.ndarray:
    """A face of sorts, (size, size, 3) uint8: flat colours, a disc, two eyes, all places and colours random."""
    random = np.random.RandomState(seed)
    y, x = np.mgrid[:size, :size] / size - 0.5
    picture = np.full((size, size, 3), random.randint(150, 255, 3), np.uint8)
    centre, radius = random.uniform(-0.1, 0.1, 2), random.uniform(0.25, 0.4)
    picture[(x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2] = random.randint(90, 255, 3)
    for side in (-1, 1):
        eye = (x - centre[0] - side * radius / 2.5) ** 2 + (y - centre[1]) ** 2 < (radius / 5) ** 2
        picture[eye] = random.randint(0, 90, 3)
    return picture


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 64 drawn pictures of 48 pixels, as a .zip."""
    path = tmp_path_factory.mktemp("data") / "faces.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for seed in range(64):
            buffer = io.BytesIO()
            Image.fromarray(drawn_picture(seed)).save(buffer, "PNG")
            archive.writestr(f"images/{seed:04d}.png", buffer.getvalue())
    return path


def with_metadata(source: Path, path: Path, rows: list[str]) -> Path:
    """Copies a dataset without metadata to the .zip `path`, with these rows of metadata.csv."""
    with zipfile.ZipFile(source) as pictures, zipfile.ZipFile(path, "w") as archive:
        for name in pictures.namelist():
            archive.writestr(name, pictures.read(name))
        archive.writestr("metadata.csv", "\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="session")
def tagged_faces(tmp_path_factory: pytest.TempPathFactory, faces: Path) -> Path:
    """The same with hair (3 values) and eyes (2); every ninth picture's hair and every seventh's eyes are unknown."""
    path = tmp_path_factory.mktemp("tagged") / "tagged-faces.zip"
    hair, eyes = ("black", "blonde", "blue"), ("green", "red")
    rows = ["file_name,hair,eyes"]
    for i in range(64):
        rows.append(f"images/{i:04d}.png,{hair[i % 3] if i % 9 else ''},{eyes[i % 2] if i % 7 else ''}")
    return with_metadata(faces, path, rows)


@pytest.fixture(scope="session")
def pointed_faces(tmp_path_factory: pytest.TempPathFactory, faces: Path) -> Path:
    """The same with twelve points each; every ninth picture's are unknown."""
    return with_points(faces, tmp_path_factory.mktemp("pointed") / "pointed-faces.zip", 12)


@pytest.fixture(scope="session")
def contoured_faces(tmp_path_factory: pytest.TempPathFactory, faces: Path) -> Path:
    """The same with the contours of `drawing`."""
    return with_points(faces, tmp_path_factory.mktemp("contoured") / "contoured-faces.zip", 124)


def with_points(faces: Path, path: Path, count: int) -> Path:
    rows = ["file_name,points"]
    for i in range(64):
        random = np.random.RandomState(i).uniform(0.2, 0.8, 2 * count)
        rows.append(f"images/{i:04d}.png,{' '.join(f'{x:.4f}' for x in random) if i % 9 else ''}")
    return with_metadata(faces, path, rows)


@pytest.fixture(scope="session")
def boxed_faces(tmp_path_factory: pytest.TempPathFactory, faces: Path) -> Path:
    """The same with boxes; of every third picture the points are known, and every ninth has no face."""
    path = tmp_path_factory.mktemp("boxed") / "boxed-faces.zip"
    rows = ["file_name,boxes"]
    for i in range(64):
        random = np.random.RandomState(i)
        box = [*random.uniform(2, 20, 2).round(1).tolist(), *random.uniform(15, 25, 2).round(1).tolist()]
        points = random.uniform(10, 40, 10).round(1).tolist() if i % 3 == 0 else []
        rows.append(f'images/{i:04d}.png,"{[[*box, *points]] if i % 9 else []}"')
    return with_metadata(faces, path, rows)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty pictures of another kind: blurred and dark."""
    path = tmp_path_factory.mktemp("photos") / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for seed in range(50):
            buffer = io.BytesIO()
            Image.fromarray(drawn_picture(1000 + seed) // 2).resize((12, 12)).resize((48, 48)).save(buffer, "PNG")
            archive.writestr(f"images/{seed:04d}.png", buffer.getvalue())
    return path


@pytest.fixture(scope="session")
def vgg16() -> VGG16:
    """VGG16 with random weights, laid out as the real ones are."""
    from kyara.perception.vgg16 import BLOCKS, VGG16

    random = np.random.RandomState(0)
    weights: dict[str, Any] = {"VGG16_0": {}}
    for b, block in enumerate(BLOCKS):
        for i, o in itertools.pairwise(block):
            kernel = random.rand(3, 3, i, o).astype(np.float32) * (0.3 / i) - 0.1 / i
            name = f"Conv_{len(weights['VGG16_0'])}"
            weights["VGG16_0"][name] = {"kernel": kernel, "bias": np.full(o, 0.01, np.float32)}
        head = random.rand(1, 1, block[-1], 1).astype(np.float32)
        weights[f"NetLinLayer_{b}"] = {"Conv_0": {"kernel": head}}
    made = VGG16(weights)
    made.source = weights  # type: ignore[assignment]
    return made


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test leaves or finds anything in the user's cache."""
    monkeypatch.setenv("KYARA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Networks this small are quickest on one thread, and sums are taken in the same order on every machine."""
    torch.set_num_threads(1)
