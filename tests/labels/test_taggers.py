"""Taggers that others made: what they are fed, and what their tags mean. The networks are made here, byte by byte."""

from __future__ import annotations

import json
import struct
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from needs import need
from PIL import Image

from kyara.files import hub
from kyara.files.errors import CheckpointError
from kyara.files.pictures import resize
from kyara.labels.onnx import MEAN, OnnxTagger, attributes_of, guess, on_white
from kyara.labels.tagger import CheckpointTagger, load_tagger


def varint(n: int) -> bytes:
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes([*out, n])


def field(number: int, value: int | bytes | str) -> bytes:
    """One field of a protocol buffer."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor_type(name: str, shape: tuple[int | str, ...]) -> bytes:
    dims = b"".join(field(1, field(1, d) if isinstance(d, int) else field(2, d)) for d in shape)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))


def constant(name: str, values: list[float]) -> bytes:
    packed = struct.pack(f"<{len(values)}f", *values)
    return field(1, len(values)) + field(2, 1) + field(8, name) + field(9, packed)


def node(kind: str, inputs: list[str], output: str, **ints: list[int]) -> bytes:
    attributes = [
        field(5, field(1, key) + b"".join(field(8, i) for i in values) + field(20, 7)) if key == "axes"
        else field(5, field(1, key) + field(3, values[0]) + field(20, 2))
        for key, values in ints.items()
    ]  # fmt: skip
    return b"".join(field(1, i) for i in inputs) + field(2, output) + field(4, kind) + b"".join(attributes)


def network(path: Path, shape: tuple[int | str, ...], scale: float, offset: list[float]) -> Path:
    """An ONNX file: the mean of each channel, times `scale`, plus `offset`: (B, 3)."""
    axes = [2, 3] if shape[1] == 3 else [1, 2]
    graph = (
        field(1, node("ReduceMean", ["x"], "m", axes=axes, keepdims=[0]))
        + field(1, node("Mul", ["m", "s"], "n"))
        + field(1, node("Add", ["n", "o"], "y"))
        + field(2, "g")
        + field(5, constant("s", [scale]))
        + field(5, constant("o", offset))
        + field(11, tensor_type("x", shape))
        + field(12, tensor_type("y", ("n", 3)))
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13)))
    return path


WD_TAGS = "tag_id,name,category,count\n1,blue_hair,0,5\n2,green_hair,0,5\n3,red_hair,0,9\n"


def wd(folder: Path, side: int = 16, tags: str = WD_TAGS) -> Path:
    path = network(folder / "model.onnx", ("batch", side, side, 3), 1 / 255, [0.0, 0.0, 0.0])
    (folder / "selected_tags.csv").write_text(tags)
    return path


class Spy:
    """Instead of the network: keeps what it is fed."""

    def run(self, _: None, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        (self.fed,) = feed.values()
        return [np.zeros((len(self.fed), 3), np.float32)]


def fed(tagger: Any, picture: np.ndarray) -> np.ndarray:
    """What the network of a tagger would be fed for this picture (H, W, 3) uint8."""
    spy = tagger._session = Spy()
    tagger.probabilities(torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] / 127.5 - 1)
    assert spy.fed.dtype == np.float32
    return np.asarray(spy.fed[0])


def noise(height: int, width: int) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (30, 20), (7, 40)])
def test_wd_sees_a_white_square_in_bgr(tmp_path: Path, height: int, width: int) -> None:
    need("onnxruntime", "onnx")
    picture = noise(height, width)
    side = max(height, width)  # as the authors' demonstration does it, with Pillow
    square = Image.new("RGB", (side, side), (255, 255, 255))
    square.paste(Image.fromarray(picture), ((side - width) // 2, (side - height) // 2))
    expected = np.asarray(square.resize((16, 16), Image.Resampling.BICUBIC), np.float32)[:, :, ::-1]
    assert np.array_equal(fed(load_tagger(wd(tmp_path)), picture), expected)


def test_illustration2vec_sees_it_stretched_in_bgr_less_the_mean(tmp_path: Path) -> None:
    need("onnxruntime", "onnx")
    path = network(tmp_path / "i2v.onnx", (1, 3, 224, 224), 0.001, [0.5, 0.5, 0.5])
    (tmp_path / "tag_list.json").write_text(json.dumps(["blue hair", "green hair", "red hair"]))
    tagger = load_tagger(path)
    assert tagger.size == (224, 224) and tagger.attributes == {"hair": ("blue", "green", "red")}
    flat = np.full((50, 100, 3), (10, 20, 30), np.uint8)
    expected = np.array([30 - 164.76139251, 20 - 167.47864617, 10 - 181.13838569])
    assert np.allclose(fed(tagger, flat), expected[:, None, None], atol=1e-4)
    halves = np.zeros((60, 448, 3), np.uint8)
    halves[:, 224:, 0] = 200  # the right half is red, and is still half of it
    red = fed(tagger, halves)[2] + MEAN[2]
    assert np.allclose(red[:, :110], 0, atol=1e-3) and np.allclose(red[:, 114:], 200, atol=1e-3)


def test_deepdanbooru_sees_its_rim_repeated(tmp_path: Path) -> None:
    need("onnxruntime", "onnx")
    path = network(tmp_path / "dd.onnx", ("n", 16, 16, 3), 1.0, [0.0, 0.0, 0.0])
    (tmp_path / "tags.txt").write_text("blue_eyes\nred_eyes\n1girl\n")
    picture = noise(16, 32)  # half its size is 8 x 16: means of 2 x 2, then 4 rows more above and below
    small = picture.reshape(8, 2, 16, 2, 3).mean((1, 3))
    expected = np.concatenate([small[:1]] * 4 + [small] + [small[-1:]] * 4) / 255
    assert (
        np.abs(fed(load_tagger(path), picture) - expected).max() <= 1.01 / 255
    )  # Pillow rounds after each of two passes


def test_what_the_network_says_comes_out(tmp_path: Path) -> None:
    need("onnxruntime", "onnx")
    tagger = load_tagger(tmp_path) if wd(tmp_path) else None
    assert isinstance(tagger, OnnxTagger)
    colours = torch.tensor([[0.1, 0.2, 0.6], [0.9, 0.0, 0.0], [1.0, 1.0, 1.0]])  # red, green, blue
    pictures = (colours * 2 - 1)[:, :, None, None].expand(-1, -1, 16, 16)
    told = tagger.probabilities(pictures)
    assert told.keys() == {"hair"} and tagger.attributes == {"hair": ("blue", "green", "red")}
    expected = torch.tensor([[0.6, 0.2, 0.1], [0.0, 0.0, 0.9], [1 / 3, 1 / 3, 1 / 3]])  # the last cannot all be
    assert torch.allclose(told["hair"], expected, atol=0.003)


def test_a_network_for_one_picture_at_a_time(tmp_path: Path) -> None:
    need("onnxruntime", "onnx")
    for at_once in (1, 2):
        path = network(tmp_path / str(at_once) / "m.onnx", (at_once, 8, 8, 3), 1 / 255, [0.0] * 3)
        (path.parent / "selected_tags.csv").write_text(WD_TAGS)
        pictures = (torch.rand(5, 3, 1, 1) * 2 - 1).expand(-1, -1, 8, 8)
        told = load_tagger(path).probabilities(pictures)["hair"]
        rows = torch.cat([load_tagger(path).probabilities(p[None])["hair"] for p in pictures])
        assert told.shape == (5, 3) and torch.allclose(told, rows)


def test_tags_become_attributes() -> None:
    tags = [
        "1girl",
        "",
        "light_blue_hair",
        "blue_hair",
        "grey_eyes",
        "silver_eyes",
        "red_eyes",
        "glasses",
        "solo",
        "1boy",
    ]
    assert attributes_of(tags) == {
        "gender": {"female": [0], "male": [9]},
        "eyes": {"gray": [4, 5], "red": [6]},
        "glasses": {"no": [], "yes": [7]},
    }


def test_yes_and_no_sum_to_one(tmp_path: Path) -> None:
    need("onnxruntime", "onnx")
    tags = "tag_id,name,category,count\n1,glasses,0,5\n2,smile,0,5\n3,red_hair,4,9\n"
    tagger = load_tagger(wd(tmp_path, tags=tags))
    assert tagger.attributes == {"glasses": ("no", "yes"), "smile": ("no", "yes")}  # category 4 names characters
    picture = torch.tensor([0.0, 0.0, 0.8])[None, :, None, None].expand(1, 3, 16, 16) * 2 - 1
    assert torch.allclose(tagger.probabilities(picture)["glasses"], torch.tensor([[0.2, 0.8]]), atol=0.003)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "selected_tags.csv").unlink(), "no list of tags"),
        (lambda folder: (folder / "tags.txt").write_text("red_hair"), "several lists"),
        (lambda folder: (folder / "selected_tags.csv").write_text("a,b\n1,2\n"), "selected_tags.csv: not the list"),
        (lambda folder: (folder / "selected_tags.csv").write_bytes(b"\xff\xfe\0"), "selected_tags.csv: not the list"),
        (lambda folder: (folder / "selected_tags.csv").write_text("name,category\nsolo,0\n"), "no tag such as"),
        (lambda folder: (folder / "model.onnx").write_bytes(b"no network"), "not a network"),
        (lambda folder: network(folder / "model.onnx", ("n", 9, 9, "c"), 1.0, [0.0] * 3), "a tagger needs"),
        (lambda folder: (folder / "other.onnx").write_bytes(b""), "several networks"),
    ],
)
def test_what_is_no_tagger_is_named(tmp_path: Path, change: Any, message: str) -> None:
    need("onnxruntime", "onnx")
    wd(tmp_path)
    change(tmp_path)
    with pytest.raises(ValueError, match=message) as caught:
        load_tagger(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_list_of_the_wrong_length_and_no_probabilities(tmp_path: Path) -> None:
    need("onnxruntime", "onnx")
    tagger = load_tagger(wd(tmp_path / "a", tags=WD_TAGS + "4,aqua_hair,0,1\n"))
    with pytest.raises(ValueError, match=r"outputs \(3,\) tags, but 4 are listed"):
        tagger.probabilities(torch.zeros(1, 3, 16, 16))
    wd(tmp_path / "b")
    network(tmp_path / "b" / "model.onnx", ("n", 16, 16, 3), 1.0, [0.0] * 3)
    with pytest.raises(ValueError, match="sigmoid"):
        load_tagger(tmp_path / "b").probabilities(torch.zeros(1, 3, 16, 16))


def test_the_kind_can_be_said(tmp_path: Path) -> None:
    need("onnxruntime", "onnx")
    path = wd(tmp_path)
    (tmp_path / "tags.txt").write_text("blue_hair\ngreen_hair\nred_hair\n")
    with pytest.raises(ValueError, match="--kind"):
        guess(path)
    assert np.array_equal(fed(load_tagger(path, kind="deepdanbooru"), noise(16, 16)), noise(16, 16) / np.float32(255))
    with pytest.raises(ValueError, match="ONNX"):
        load_tagger("builtin:tagger", kind="wd")


def test_without_onnxruntime_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"pip install .*\[onnx\]"):
        load_tagger(wd(tmp_path))


def test_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("onnxruntime", "onnx")
    asked = []

    def download(repository: str, files: Any) -> Path:
        asked.append((repository, "selected_tags.csv" in files))
        return tmp_path

    monkeypatch.setattr(hub, "download", download)
    wd(tmp_path)
    assert isinstance(load_tagger("hf-hub:them/wd-tagger"), OnnxTagger)
    assert asked == [("them/wd-tagger", True)]


def test_offline_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    huggingface_hub = need("huggingface_hub", "hub")

    def offline(*arguments: object, **options: object) -> str:
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(CheckpointError, match=r"hf-hub:a/b: download failed.*offline"):
        load_tagger("hf-hub:a/b")


def test_a_checkpoint_that_tells_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="builtin:distortion: a distortion, but a tagger is needed"):
        load_tagger("builtin:distortion")
    assert CheckpointTagger.__doc__


def test_embeddings_are_of_all_tags_and_have_length_one(tmp_path: Path) -> None:
    need("onnxruntime", "onnx")
    tags = WD_TAGS.replace("3,red_hair", "3,umbrella")  # belongs to no attribute
    tagger: Any = load_tagger(wd(tmp_path, tags=tags))
    picture = torch.from_numpy(noise(16, 16)).permute(2, 0, 1)[None] / 127.5 - 1
    expected = np.sqrt(tagger.tags(noise(16, 16)[None]))
    assert tagger.embed(picture).shape == (1, 3) and tagger.attributes == {"hair": ("blue", "green")}
    assert np.allclose(tagger.embed(picture), expected / np.linalg.norm(expected), atol=1e-6)


@pytest.mark.parametrize("shape", [(90, 61), (300, 211), (1000, 37), (37, 1000), (64, 64), (448, 448), (20, 448)])
@pytest.mark.parametrize("size", [448, 64])
def test_a_picture_on_white_is_a_resized_square(shape: tuple[int, int], size: int) -> None:
    """WD taggers were trained with pictures that were padded and then resized."""
    h, w = shape
    picture = np.random.RandomState(0).randint(0, 256, (h, w, 3), dtype=np.uint8)
    side = max(shape)
    square = np.full((side, side, 3), 255, np.uint8)
    square[(side - h) // 2 :, (side - w) // 2 :][:h, :w] = picture
    np.testing.assert_array_equal(on_white(picture, size, size), resize(square, size, size, "bicubic"))


@pytest.mark.parametrize("shape", [(12_000, 40, 3), (40, 12_000, 3)])
def test_a_long_page_needs_no_square_of_its_side(shape: tuple[int, int, int]) -> None:
    picture = np.zeros(shape, np.uint8)
    tracemalloc.start()
    on_white(picture, 448, 448)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**26  # the square has 432 MB
