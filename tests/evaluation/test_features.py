"""Feature extractors by name, and the cache of features."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import drawn_picture
from needs import need
from torch import Tensor

from kyara import models
from kyara.evaluation import features
from kyara.evaluation.features import load_extractor
from kyara.evaluation.sets import FileSet, RealSet
from kyara.files import cache, checkpoint, pictures
from kyara.files.cache import cached, folder, identity
from kyara.files.dataset import open_dataset
from kyara.files.errors import PictureError
from kyara.models.base import Config, DataConfig, Scorer

CPU = torch.device("cpu")
TINY = {"data": {"width": 32, "height": 32}, "network": {"depths": [1, 1, 1, 1], "widths": [8, 16, 24, 32]}}


@pytest.fixture
def recogniser(tmp_path: Path) -> str:
    torch.manual_seed(0)
    model = models.build("distortion", TINY)
    checkpoint.write(tmp_path / "net", model="distortion", config=TINY, weights=models.stored(model), card="", about={})
    return str(tmp_path / "net")


def fitted(count: int, size: int) -> np.ndarray:
    return np.stack([pictures.center_crop(drawn_picture(i), size, size) for i in range(count)])


def test_penultimate_features_of_a_recogniser(recogniser: str) -> None:
    extractor = load_extractor(recogniser, CPU)
    assert extractor.size == (32, 32) and extractor.hash == checkpoint.read(recogniser).hash
    found = extractor(fitted(3, 32))
    network: Any = models.load(recogniser)
    logits = network.net_ema.classifier(torch.from_numpy(found))
    expected = network.net_ema(pictures.to_float(fitted(3, 32)))
    torch.testing.assert_close(logits, expected)
    assert extractor.resizer((64, 64)) == "64x64 -> 32x32, cropped, Lanczos"
    assert extractor.resizer((32, 32)) == "32x32, cropped, Lanczos"
    assert extractor.resize(drawn_picture(0), (20, 40)).shape == (32, 32, 3)


def test_a_generator_has_no_features(tmp_path: Path) -> None:
    config = {"data": {"width": 16, "height": 16}, "network": {"z_dim": 8, "channels": 4}}
    weights = models.stored(models.build("dcgan", config))
    checkpoint.write(tmp_path / "g", model="dcgan", config=config, weights=weights, card="", about={})
    with pytest.raises(ValueError, match="not a feature extractor; use builtin"):
        load_extractor(str(tmp_path / "g"), CPU)


def test_a_model_with_embed_is_an_extractor(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Scorer(Config(DataConfig(24, 32)))
    monkeypatch.setattr(model, "embed", means)
    monkeypatch.setattr(features, "load", lambda name, device: model)
    monkeypatch.setattr(features.checkpoint, "read", lambda name: SimpleNamespace(hash="ab" * 8))
    extractor = load_extractor("builtin:tagger", CPU)
    assert extractor.size == (24, 32) and extractor.hash == "ab" * 8
    assert extractor(np.full((2, 32, 24, 3), 255, np.uint8)).tolist() == [[1, 1, 1]] * 2


def test_vgg16_brings_lpips_along(vgg16: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kyara.perception.vgg16.read_weights", lambda path: vgg16.source)
    (tmp_path / "weights").write_bytes(b"weights")
    extractor = load_extractor(f"vgg16:{tmp_path / 'weights'}", CPU)
    small = extractor(fitted(2, 12))  # smaller than the network can see: enlarged
    assert small.shape == (2, 1024) and extractor.distance is not None
    a = pictures.to_float(fitted(2, 16))
    assert extractor.distance(a, a).tolist() == [0, 0]


def test_dinov2_without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"needs transformers; .*\[eval\]"):
        load_extractor("dinov2", CPU)


def test_dinov2_from_a_folder(tmp_path: Path) -> None:
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
    network = Dinov2Model(config).eval()
    network.save_pretrained(tmp_path / "dino")
    digest = hashlib.sha256((tmp_path / "dino/model.safetensors").read_bytes()).hexdigest()
    extractor = load_extractor(f"dinov2:{tmp_path / 'dino'}#{digest}", CPU)
    assert extractor.size == (28, 28) and extractor.hash == digest[:16]
    seen = fitted(2, 28)
    shift, scale = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normal = torch.from_numpy(((seen / 255 - shift) / scale).transpose(0, 3, 1, 2)).float()
    with torch.no_grad():
        expected = network(normal).pooler_output
    np.testing.assert_allclose(extractor(seen), expected.numpy(), atol=1e-5)
    with pytest.raises(ValueError, match="expected 00ff"):
        load_extractor(f"dinov2:{tmp_path / 'dino'}#00ff", CPU)


@pytest.mark.parametrize("layout", ["normalised", "bytes"])
def test_sscd_takes_what_the_network_says_it_takes(layout: str, tmp_path: Path) -> None:
    onnx = need("onnx", "onnx")
    need("onnxruntime", "onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    shape, axes, kind = ([None, 3, 8, 8], [2, 3], kinds.FLOAT) if layout == "normalised" else (
        [None, 8, 8, 3], [1, 2], kinds.UINT8,
    )  # fmt: skip
    nodes = [
        helper.make_node("Cast", ["image"], ["numbers"], to=kinds.FLOAT),
        helper.make_node("ReduceMean", ["numbers"], ["mean"], axes=axes, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("image", kind, shape)],
        [helper.make_tensor_value_info("mean", kinds.FLOAT, [None, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "net.onnx")
    extractor = load_extractor(f"sscd:{tmp_path / 'net.onnx'}", CPU)
    assert extractor.size == (8, 8)
    seen = np.random.RandomState(0).randint(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    mean = seen.mean((1, 2))
    if layout == "normalised":
        mean = (mean / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(extractor(seen), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["vgg16:/nowhere", "vgg16", "dinov2:/nowhere"])
def test_weights_that_are_not_there(name: str) -> None:
    with pytest.raises(ValueError, match="no such file; give NAME:PATH"):
        load_extractor(name, CPU)


def means(x: Tensor) -> Tensor:
    return x.mean((2, 3))


@pytest.fixture
def reference(faces: Path) -> Any:
    def make(path: Path = faces, digest: str = "0" * 16) -> RealSet:
        extractor = features.FeatureExtractor("means", digest, CPU, means, (8, 8))
        return RealSet(open_dataset(path), extractor, (16, 16), batch=7)

    return make


def test_features_of_a_dataset_are_cached(reference: Any, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = reference()
    expected = np.stack([pictures.center_crop(pictures.center_crop(drawn_picture(i), 16, 16), 8, 8) for i in range(64)])
    np.testing.assert_allclose(first.features, pictures.to_float(expected).mean((2, 3)).numpy(), atol=1e-6)
    near, root = first.neighbours, first.gaussian.root
    monkeypatch.setattr(RealSet, "_extract", lambda self: pytest.fail("computed again"))
    again = reference()
    np.testing.assert_array_equal(again.features, first.features)
    np.testing.assert_array_equal(again.neighbours, near)
    np.testing.assert_array_equal(again.gaussian.root, root)
    with pytest.raises(pytest.fail.Exception):
        _ = reference(digest="1" * 16).features  # other weights
    assert sorted(p.name.split("-")[0] for p in own_cache.iterdir()) == ["features", "neighbours", "statistics"]


def test_pictures_that_can_be_read_again_are_in_the_cached_features(
    reference: Any, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(8):
        pictures.write_png(tmp_path / f"{seed}.png", drawn_picture(seed))
    extracted = [0]
    extract = RealSet._extract

    def counted(self: RealSet) -> dict[str, np.ndarray]:
        extracted[0] += 1
        return extract(self)

    def away(number: int) -> RealSet:
        """The set while the last ones cannot be read, with their names, sizes and times unchanged."""
        made = reference(tmp_path)
        read, lost = type(made.dataset.files).read, {f"{i}.png" for i in range(8 - number, 8)}

        def fails(self: Any, name: str) -> bytes:
            if name in lost:
                raise PictureError(f"{name}: the drive is away")
            return read(self, name)

        monkeypatch.setattr(type(made.dataset.files), "read", fails)
        _ = made.features, made.gaussian, made.neighbours
        monkeypatch.setattr(type(made.dataset.files), "read", read)
        return made

    monkeypatch.setattr(RealSet, "_extract", counted)
    for number, times in ((3, 1), (3, 1), (1, 2), (1, 2), (0, 3), (0, 3)):
        made = away(number)
        assert len(made.features) == len(made.neighbours) == 8 - number and extracted == [times]
        np.testing.assert_allclose(made.gaussian.mean, made.features.mean(0), atol=1e-6)
    for path in own_cache.glob("features-*"):  # as older versions wrote them
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files if name != "missing"}
        np.savez(path, **arrays)
    assert len(away(0).features) == 8


@pytest.mark.parametrize("damage", [b"", b"PK\x05\x06 no archive", None])
def test_a_damaged_file_of_the_cache_is_computed_again(damage: bytes | None) -> None:
    calls: list[int] = []

    def compute() -> dict[str, np.ndarray]:
        calls.append(1)
        return {"x": np.arange(1000.0)}

    cached("test", {"a": 1}, compute)
    (file,) = folder().iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content if damage is None else damage)
    np.testing.assert_array_equal(cached("test", {"a": 1}, compute)["x"], np.arange(1000.0))
    cached("test", {"a": 1}, compute)
    assert len(calls) == 2
    cached("test", {"a": 2}, compute)
    assert len(calls) == 3


def test_a_cache_that_cannot_be_written_stores_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("KYARA_CACHE", str(tmp_path / "file"))
    assert cached("test", {}, lambda: {"x": np.ones(2)})["x"].sum() == 2


def test_without_a_key_nothing_is_stored(own_cache: Path) -> None:
    for value in (1.0, 2.0):
        assert cached("test", None, lambda value=value: {"x": np.array(value)})["x"] == value
    assert not own_cache.exists() or not list(own_cache.iterdir())


def test_the_least_recently_used_files_are_deleted(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(key: str) -> None:
        cached("test", {"key": key}, lambda: {"x": np.zeros(1000)})

    for i, key in enumerate("abc"):
        fill(key)
        (new,) = [path for path in own_cache.iterdir() if path.stat().st_mtime > 3]
        os.utime(new, (i, i))
    (own_cache / "mine.npy").write_bytes(bytes(10**6))
    first = {path.stat().st_mtime: path for path in own_cache.glob("test-*")}
    fill("a")  # used again
    monkeypatch.setattr(cache, "LIMIT", 3 * new.stat().st_size)
    rows = cache.mapped("rows", {}, (500, 8), lambda rows: None)
    assert {*own_cache.glob("test-*")} == {first[0], first[2]} and rows.shape == (500, 8)
    monkeypatch.setattr(cache, "LIMIT", 1)
    fill("d")
    assert len([*own_cache.iterdir()]) == 2 and (own_cache / "mine.npy").exists()


def test_a_file_that_cannot_be_deleted_does_not_keep_the_others(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows, a file that is mapped."""
    for i, key in enumerate("abc"):
        cached("test", {"key": key}, lambda: {"x": np.zeros(1000)})
        (new,) = [path for path in own_cache.iterdir() if path.stat().st_mtime > 3]
        os.utime(new, (i, i))
    oldest = min(own_cache.iterdir(), key=lambda path: path.stat().st_mtime)
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == oldest:
            raise PermissionError(str(path))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(cache, "LIMIT", 2 * new.stat().st_size)
    cache.mapped("rows", {}, (500, 8), lambda rows: None)
    assert len([*own_cache.glob("test-*")]) == 1 and oldest.exists()


def test_an_array_is_in_memory_if_the_disk_is_full(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing to a mapped file that the disk has no room for ends the process."""

    def full(descriptor: int, begin: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    rows = cache.mapped("rows", {}, (500, 8), lambda rows: rows.fill(2))
    assert not isinstance(rows, np.memmap) and rows.shape == (500, 8) and (rows == 2).all()
    assert not [*own_cache.iterdir()]


def test_a_picture_changed_in_a_folder_is_noticed(tmp_path: Path) -> None:
    for seed in range(3):
        pictures.write_png(tmp_path / f"{seed}.png", drawn_picture(seed))
    before = identity(open_dataset(tmp_path))
    assert identity(open_dataset(tmp_path)) == before
    (tmp_path / "metadata.csv").write_text("file_name,hair,points\n1.png,red,0.1 0.2\n")
    assert open_dataset(tmp_path).attributes and identity(open_dataset(tmp_path)) == before  # labels do not count
    os.utime(tmp_path / "1.png", ns=(1, 1))
    assert identity(open_dataset(tmp_path)) != before


def test_files_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    for seed in range(5):
        pictures.write_png(tmp_path / f"{seed}.png", drawn_picture(seed))
    (tmp_path / "3.png").write_bytes(b"no picture")
    source = FileSet(tmp_path)
    assert len(list(source)) == 4 and [name for name, _ in source.left_out] == ["3.png"]
    extractor = features.FeatureExtractor("means", "0" * 16, CPU, means)
    assert len(RealSet(open_dataset(tmp_path), extractor, (16, 16)).features) == 4
