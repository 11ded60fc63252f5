"""Masks: what is marked, and which mask belongs to a picture."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kyara.files import masks as masks_module
from kyara.files.errors import DatasetError, PictureError
from kyara.files.masks import MARKED, Masks, read_mask

HOLE = np.zeros((8, 8), np.uint8)
HOLE[2:5, 3:7] = 255


def save(path: Path, *channels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[len(channels)]
    Image.merge(mode, [Image.fromarray(channel) for channel in channels]).save(path)
    return path


WHITE, BLACK = np.full_like(HOLE, 255), np.zeros_like(HOLE)


@pytest.mark.parametrize(
    "channels",
    [(HOLE,), (HOLE, HOLE, HOLE), (WHITE, HOLE), (WHITE, WHITE, WHITE, HOLE), (HOLE, BLACK, BLACK), (HOLE, WHITE)],
    ids=["grey", "rgb", "white on nothing", "white on nothing, rgb", "red", "opaque"],
)
def test_what_is_painted_is_marked(tmp_path: Path, channels: tuple[np.ndarray, ...]) -> None:
    mask = read_mask(save(tmp_path / "m.png", *channels))
    assert mask.dtype == np.float32 and np.array_equal(mask >= MARKED, HOLE > 0)


def test_palettes_one_bit_and_16_bits(tmp_path: Path) -> None:
    for i, image in enumerate([
        Image.fromarray(HOLE).convert("1"), Image.fromarray(HOLE).quantize(2),
        Image.fromarray(HOLE.astype(np.uint16) * 257),
    ]):  # fmt: skip
        image.save(tmp_path / f"{i}.png")
        assert np.array_equal(read_mask(tmp_path / f"{i}.png") >= MARKED, HOLE > 0)


@pytest.mark.parametrize(
    ("channels", "message"), [((BLACK,), "is empty"), ((HOLE // 255,), "from 0 to 1"), ((WHITE, BLACK), "is empty")]
)
def test_a_mask_that_marks_nothing(tmp_path: Path, channels: tuple[np.ndarray, ...], message: str) -> None:
    with pytest.raises(PictureError, match=rf"m\.png: the mask .*{message}.*paint"):
        read_mask(save(tmp_path / "m.png", *channels))


def test_each_mask_is_found_without_looking_at_all_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(20):
        save(tmp_path / "masks" / f"{i}.png", HOLE)
    masks, keys, seen = Masks(tmp_path / "masks"), masks_module._keys, list[str]()
    monkeypatch.setattr(masks_module, "_keys", lambda name: (seen.append(name), keys(name))[1])
    for i in range(20):
        masks.read(f"{i}.jpg")
    assert len(seen) == 20


def test_masks_of_a_folder(tmp_path: Path) -> None:
    for i, name in enumerate(["a/1.png", "b/1.png", "2.png", "2.bmp", "か\u3099.png"]):
        save(tmp_path / "masks" / name, np.where(np.arange(64).reshape(8, 8) == i, 255, 0).astype(np.uint8))
    (tmp_path / "masks" / "2.json").write_text("{}")
    with zipfile.ZipFile(tmp_path / "masks.zip", "w") as archive:
        for path in (tmp_path / "masks").rglob("*.*"):
            archive.write(path, path.relative_to(tmp_path))
    for masks in (Masks(tmp_path / "masks"), Masks(tmp_path / "masks.zip")):
        found = {name: int(masks.read(name).argmax()) for name in ("a/1.jpg", "b/1.png", "2.png", "2.bmp", "が.jpg")}
        assert found == {"a/1.jpg": 0, "b/1.png": 1, "2.png": 2, "2.bmp": 3, "が.jpg": 4}
        for name, message in [
            ("1.png", "several masks for 1.png: .*a/1.png and .*b/1.png"),
            ("3.png", "no mask named 3"),
        ]:
            with pytest.raises(DatasetError, match=message):
                masks.read(name)
