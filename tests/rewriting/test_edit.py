"""What an edit may hold, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kyara.files import checkpoint
from kyara.rewriting.edit import as_mask, crop, overlay, read_edit

ROOT = Path(__file__).parents[2]
RED = np.full((4, 4, 3), (255, 0, 0), np.uint8)
GOOD: dict[str, Any] = {"seed": 3, "mask": [1, 2, 3, 4], "source": {"picture": RED}}


def written(folder: Path, example: dict[str, Any], **more: Any) -> Path:
    path = folder / "edit.json"
    path.write_text(json.dumps({"examples": [example], **more}), encoding="utf-8")
    return path


def test_an_edit_file_is_read_with_its_pictures(tmp_path: Path) -> None:
    Image.fromarray(RED).save(tmp_path / "red.png")
    mask = np.zeros((8, 10), np.uint8)
    mask[2:5, 3:7] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    edit = read_edit(
        written(tmp_path, {"seed": 3, "mask": "mask.png", "source": {"picture": "red.png"}}, checkpoint="ab")
    )
    (example,) = edit.examples
    assert (edit.name, edit.checkpoint, example.target.seed) == ("edit", "ab", 3)
    assert isinstance(example.mask, np.ndarray) and example.mask.sum() == 12
    assert example.source is not None and example.source.rgba is not None
    assert example.source.rgba.shape == (4, 4, 4) and (example.source.rgba[:, :, 3] == 255).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": [1, 2, 3]}, "a box is x, y, width, height"),
        ({"mask": [1, 2, 0, 3]}, "a box is"),
        ({"mask": [-1, 2, 3, 3]}, "a box is"),
        ({"mask": np.zeros((8, 8), np.float32)}, "empty"),
        ({"mask": np.full((8, 8), np.nan)}, "numbers from 0 to 1"),
        ({"mask": None}, "is not the name of a picture"),
        ({"source": None}, "give either a source or erase"),
        ({"erase": True}, "give either a source or erase"),
        ({"source": {"picture": RED, "box": [2, 2, 3, 3]}}, "reaches beyond the picture of 4x4"),
        ({"source": {"picture": np.zeros((4, 4, 4), np.uint8)}}, "is fully transparent"),
        ({"source": {"picture": RED.astype(float)}}, "of uint8"),
        ({"source": {"seed": 1, "picture": RED}}, "give either a seed or a picture"),
        ({"source": {"picture": RED, "colour": 3}}, "unknown key colour"),
        ({"seed": -1}, "not a whole number"),
        ({"seed": 2**32}, "not a whole number"),
        ({"seed": None}, "give either a seed or a picture"),
        ({"seed": True}, "not a whole number"),
        ({"sed": 1}, "unknown key sed"),
    ],
)
def test_errors_name_the_part_that_is_wrong(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        read_edit({"name": "x", "examples": [GOOD, {**GOOD, **change}]})
    assert "x, example 2" in str(error.value)


@pytest.mark.parametrize("name", ["/etc/passwd", "../red.png", "a/../../red.png", "..\\red.png", "C:\\red.png"])
def test_a_file_only_names_files_beside_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="put the picture beside the edit file"):
        read_edit(written(tmp_path, {"seed": 3, "mask": [1, 2, 3, 4], "source": {"picture": name}}))


@pytest.mark.parametrize("name", ["", ".", "./"])
def test_a_folder_is_no_picture(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"example 1, source: .* is not the name of a picture"):
        read_edit(written(tmp_path, {"seed": 3, "mask": [1, 2, 3, 4], "source": {"picture": name}}))


def test_an_edit_is_known_by_its_pixels(tmp_path: Path) -> None:
    """Also if its files keep their names, or arrays have none."""
    example = {"seed": 3, "mask": "mask.png", "source": {"picture": "red.png"}}
    found = []
    for red, marked in ((255, 5), (255, 5), (200, 5), (255, 6)):
        Image.new("RGB", (4, 4), (red, 0, 0)).save(tmp_path / "red.png")
        mask = np.zeros((8, 10), np.uint8)
        mask[2:marked] = 255
        Image.fromarray(mask).save(tmp_path / "mask.png")
        found.append(read_edit(written(tmp_path, example)).description)
    assert found[0] == found[1] and found[2] != found[0] != found[3] != found[2]
    one, other = ({"examples": [{**GOOD, "source": {"picture": RED + np.uint8(i)}}]} for i in (0, 1))
    assert read_edit(one).description != read_edit(other).description


@pytest.mark.parametrize("text", ["", "[]", "{", "3", '{"examples": []}', '{"examples": {}}', "[" * 100000])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "edit.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="edit"):
        read_edit(tmp_path / "edit.json")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"example 1, source: .*broken\.png"):
        read_edit(written(tmp_path, {"seed": 3, "mask": [1, 2, 3, 4], "source": {"picture": "broken.png"}}))
    with pytest.raises(ValueError, match="name"):
        read_edit({"name": "../x", "examples": [GOOD]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"examples": [\n1, ]}', r"not valid JSON: line 2, column \d: a comma too many$"),
        ('{"name": "a",}', r"not valid JSON: line 1, column \d+: a comma too many$"),
        ('{"name": "a", "examples": }', "not valid JSON: line 1, column 27: expecting value$"),
        (b"\x89PNG\r\n\x1a\n", "not a text file; give an edit, which is a JSON file"),
        ('{"nmae": "a"}', "the edit: unknown key nmae; did you mean name[?] the keys are checkpoint, examples, name"),
    ],
)
def test_an_edit_file_that_cannot_be_read_says_where(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "edit.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message) as error:
        read_edit(path)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize("path", sorted((ROOT / "docs/edits").glob("*.json")), ids=lambda path: path.stem)
def test_supplied_edits_name_their_generator(path: Path) -> None:
    model = "character" if path.stem in ("beard", "character-flower") else "anime"
    assert read_edit(path).checkpoint == checkpoint.read(f"builtin:{model}").hash
    assert path.stem in (ROOT / "docs/guide/rewrite.md").read_text()


def test_masks_must_fit_the_picture() -> None:
    assert as_mask((1, 2, 3, 4), 8, 8, "x").sum() == 12
    with pytest.raises(ValueError, match="reaches beyond the picture of 8x8"):
        as_mask((6, 2, 3, 4), 8, 8, "x")
    with pytest.raises(ValueError, match="8x9, but the picture is 8x8"):
        as_mask(np.ones((9, 8), np.float32), 8, 8, "x")


def test_a_source_is_resized_to_the_mask() -> None:
    """Transparent pixels change nothing, and their colours do not bleed into others."""
    source = np.zeros((2, 2, 4), np.uint8)
    source[:, 0] = (255, 0, 0, 255)
    source[:, 1] = (0, 255, 0, 0)
    mask = np.zeros((8, 8), np.float32)
    mask[2:6, 2:6] = 1
    mask[5, 5] = 0.5
    laid = overlay(source, mask)
    assert laid.shape == (8, 8, 4) and laid[:, :, 3][mask == 0].max() == 0
    assert (laid[2:6, 2, 3] > 0.9).all() and (laid[2:6, 5, 3] < 0.1).all()
    assert np.allclose(laid[2:6, 2:6, :3], (1, -1, -1))
    assert crop(source, (0, 0, 1, 2), "x").shape == (2, 1, 4)
