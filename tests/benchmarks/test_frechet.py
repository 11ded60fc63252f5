"""The measuring scripts against other ways of computing the same; no weights are needed."""

from __future__ import annotations

import io
import itertools
import os
import pickle
import sys
import zipfile
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kyara.data import pictures
from kyara.data.dataset import open_dataset

ROOT = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def scripts() -> Any:
    """frechet.py and vgg16.py, which are no package: a script finds its neighbours beside it."""
    sys.path.insert(0, str(ROOT))
    try:
        return import_module("frechet"), import_module("vgg16")
    finally:
        sys.path.remove(str(ROOT))


@pytest.fixture(scope="module")
def frechet(scripts: tuple[ModuleType, ModuleType]) -> ModuleType:
    return scripts[0]


@pytest.fixture(scope="module")
def network(scripts: tuple[ModuleType, ModuleType]) -> Any:
    """VGG16 with random weights, laid out as the real ones are."""
    vgg16, random = scripts[1], np.random.RandomState(0)
    weights: dict[str, Any] = {"VGG16_0": {}}
    for b, block in enumerate(vgg16.BLOCKS):
        for i, o in itertools.pairwise(block):
            kernel = random.rand(3, 3, i, o).astype(np.float32) * (0.3 / i) - 0.1 / i
            name = f"Conv_{len(weights['VGG16_0'])}"
            weights["VGG16_0"][name] = {"kernel": kernel, "bias": np.full(o, 0.01, np.float32)}
        head = random.rand(1, 1, block[-1], 1).astype(np.float32)
        weights[f"NetLinLayer_{b}"] = {"Conv_0": {"kernel": head}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vgg16, "read_weights", lambda: weights)
        made = vgg16.VGG16()
    made.source = weights
    return made


@pytest.mark.parametrize(("n", "m", "d"), [(200, 150, 12), (9, 30, 24), (9, 7, 24)])
def test_frechet_is_the_trace_formula_also_with_fewer_pictures_than_features(
    frechet: ModuleType, n: int, m: int, d: int
) -> None:
    random = np.random.RandomState(n)
    a = random.randn(n, d) @ random.randn(d, d)
    b = random.randn(m, d) @ random.randn(d, d) + 1
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).astype(complex)).real.sum()
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(cov_a) + np.trace(cov_b) - 2 * root
    assert frechet.frechet(frechet.statistics(a), frechet.statistics(b)) == pytest.approx(expected, rel=1e-5)


def test_frechet_of_numbers_on_a_line(frechet: ModuleType) -> None:
    a, b = np.array([[0.0], [2.0]]), np.array([[1.0], [7.0]])  # means 1 and 4, deviations 2^.5 and 18^.5
    expected = (4 - 1) ** 2 + (18**0.5 - 2**0.5) ** 2
    assert frechet.frechet(frechet.statistics(a), frechet.statistics(b)) == pytest.approx(expected)


def test_frechet_is_nothing_to_itself_and_symmetric(frechet: ModuleType) -> None:
    random = np.random.RandomState(0)
    a, b = (frechet.statistics(random.rand(40, 8).astype(np.float32)) for _ in range(2))
    assert frechet.frechet(a, a) == pytest.approx(0, abs=1e-10)
    assert frechet.frechet(a, b) == pytest.approx(frechet.frechet(b, a))


def test_statistics_need_two_pictures(frechet: ModuleType) -> None:
    with pytest.raises(ValueError, match="at least 2 pictures"):
        frechet.statistics(np.zeros((1, 4)))


def test_kernel_is_the_mean_over_pairs(frechet: ModuleType) -> None:
    random = np.random.RandomState(0)
    a, b = random.randn(5, 3), random.randn(4, 3) + 1

    def mean(x: np.ndarray, y: np.ndarray) -> float:
        pairs = [(u, v) for i, u in enumerate(x) for j, v in enumerate(y) if x is not y or i != j]
        return float(np.mean([(np.dot(u, v) / 3 + 1) ** 3 for u, v in pairs]))

    assert frechet.kernel(a, b) == pytest.approx(mean(a, a) + mean(b, b) - 2 * mean(a, b))


def test_kernel_sums_sets_larger_than_a_slice(frechet: ModuleType) -> None:
    a, b = np.random.RandomState(0).rand(2300, 2), np.random.RandomState(1).rand(1200, 2)
    expected = ((a @ b.T / 2 + 1) ** 3).sum()
    assert frechet._cubes(a, b) == pytest.approx(expected)


def test_kernel_is_unbiased(frechet: ModuleType) -> None:
    random = np.random.RandomState(0)
    found = [frechet.kernel(random.randn(8, 4), random.randn(8, 4)) for _ in range(400)]
    assert abs(np.mean(found)) < 4 * np.std(found) / 20
    assert frechet.kernel(random.randn(50, 4), random.randn(50, 4) + 1) > 1


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


def test_kernels_are_read_as_height_width_in_out(network: Any) -> None:
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    seen = ((x - network.shift) / network.scale)[0].movedim(0, -1).numpy()  # (H, W, 3)
    layer = network.source["VGG16_0"]["Conv_0"]
    at = np.einsum("hwi,hwio->o", seen[4:7, 8:11], layer["kernel"]) + layer["bias"]  # around (5, 9)
    first: Tensor = network.blocks[0][0]((x - network.shift) / network.scale)
    np.testing.assert_allclose(first[0, :, 5, 9].numpy(), np.maximum(at, 0), atol=1e-5)
    assert [tuple(maps.shape[1:]) for maps in network(x)] == [
        (64, 16, 16),
        (128, 8, 8),
        (256, 4, 4),
        (512, 2, 2),
        (512, 1, 1),
    ]


def test_lpips_is_nothing_to_itself_and_positive_otherwise(network: Any) -> None:
    a, b = torch.rand(2, 2, 3, 16, 16).unbind()
    assert network.distance(a, a).tolist() == [0, 0]
    assert (network.distance(a, b) > 0).all()


def test_features_do_not_depend_on_the_batch(frechet: ModuleType, network: Any) -> None:
    images = list(np.random.RandomState(0).randint(0, 256, (frechet.BATCH + 2, 24, 16, 3)).astype(np.uint8))
    found = frechet.features(images, network, 16)
    assert found.shape == (len(images), 1024) and found.std(axis=0).max() > 0
    np.testing.assert_allclose(frechet.features(images[-3:], network, 16), found[-3:], rtol=1e-4, atol=1e-6)


def test_features_of_an_archive_are_kept_until_it_changes(
    frechet: ModuleType, network: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frechet, "CACHE", tmp_path)
    archive = tmp_path / "faces.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*.png")):
            file.write(path, path.name)
    first = frechet.dataset_features(open_dataset(archive), [0, 3], network, 16, 16, 16)
    again = frechet.dataset_features(open_dataset(archive), [0, 3], None, 16, 16, 16)
    np.testing.assert_array_equal(first, again)
    other = frechet.dataset_features(open_dataset(archive), [0, 4], network, 16, 16, 16)
    assert np.abs(first - other).max() > 0


def test_weights_may_hold_arrays_only(scripts: tuple[ModuleType, ModuleType]) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return os.system, ("true",)

    with pytest.raises(pickle.UnpicklingError, match="not allowed"):
        scripts[1].ArrayUnpickler(io.BytesIO(pickle.dumps(Hostile()))).load()
