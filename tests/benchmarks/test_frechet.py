"""benchmarks/frechet.py; no weights are needed."""

from __future__ import annotations

import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scripts import load

from kyara.files import pictures
from kyara.files.dataset import open_dataset
from kyara.perception.vgg16 import VGG16


@pytest.fixture(scope="module")
def frechet() -> Any:
    return load("frechet")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, stem in enumerate(["00aa", "3bcd", "7fee", "dafe", "db00", "ff12"]):
        (tmp_path / stem[:2]).mkdir()
        pictures.write_png(tmp_path / stem[:2] / f"{stem}.png", np.full((20, 20, 3), 40 * i, np.uint8))
    return tmp_path


def test_the_same_set_twice_gives_random_halves(frechet: ModuleType, folder: Path) -> None:
    a = open_dataset(folder)
    left, right = frechet.split(a, open_dataset(folder))
    assert len(left) == len(right) == 3 and sorted(left + right) == list(range(6))
    assert frechet.split(a, a, seed=1) != (left, right)
    assert frechet.split(a, a, limit=2) == (left[:2], right[:2])


def test_the_held_out_part_starts_at_the_prefix(frechet: ModuleType, folder: Path) -> None:
    dataset = open_dataset(folder)
    left, right = frechet.split(dataset, dataset, "db")
    assert [sorted(dataset.names[i][-8:-4] for i in part) for part in (left, right)] == [
        ["00aa", "3bcd", "7fee", "dafe"],
        ["db00", "ff12"],
    ]
    assert frechet.split(None, dataset, "db")[0] == []
    with pytest.raises(ValueError, match="--prefix-from zz"):
        frechet.split(None, dataset, "zz")


def test_features_do_not_depend_on_the_batch(frechet: ModuleType, vgg16: VGG16) -> None:
    images = list(np.random.RandomState(0).randint(0, 256, (frechet.BATCH + 2, 24, 16, 3)).astype(np.uint8))
    found = frechet.features(images, vgg16, 16)
    assert found.shape == (len(images), 1024) and found.std(axis=0).max() > 0
    np.testing.assert_allclose(frechet.features(images[-3:], vgg16, 16), found[-3:], rtol=1e-4, atol=1e-6)


def test_features_of_an_archive_are_kept_until_it_changes(
    frechet: ModuleType, vgg16: VGG16, folder: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "faces.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*.png")):
            file.write(path, path.name)
    first = frechet.dataset_features(open_dataset(archive), [0, 3], vgg16, 16, 16, 16)
    again = frechet.dataset_features(open_dataset(archive), [0, 3], None, 16, 16, 16)
    np.testing.assert_array_equal(first, again)
    other = frechet.dataset_features(open_dataset(archive), [0, 4], vgg16, 16, 16, 16)
    assert np.abs(first - other).max() > 0
