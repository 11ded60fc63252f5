"""An edit: masked regions in pictures of a model, and their new contents.

    {"name": "glasses",
     "examples": [
        {"seed": 12, "mask": "mask.png", "source": {"picture": "glasses.png"}},
        {"picture": "seed0007.png", "mask": [20, 24, 24, 10], "source": {"seed": 3, "box": [20, 24, 24, 10]}},
        {"seed": 4, "mask": "fringe.png", "erase": true}]}

The target of an example is a seed or a picture: of a generator one that it made, of a translator a photo (with "style",
a seed), of an inpainter a picture with "hole". The mask is a picture of the target's size, white where something
changes, or a box: x, y, width, height in pixels. The source is a picture file or a seed, optionally with a box; it is
resized to the bounding box of the mask, and its transparent parts leave the target unchanged. In Python, arrays may
replace picture files and masks."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from kyara.files import pictures
from kyara.files.errors import PictureError
from kyara.files.masks import MARKED, read_mask
from kyara.files.names import did_you_mean

HASH = "pixels"  # of an edit's description: the hash of all its pictures and masks
MAX_EXAMPLES = 32
MAX_BYTES = 1 << 20  # of an edit file
Box = tuple[int, int, int, int]  # x, y, width, height in pixels


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture in an edit: generated from a seed, or given as file or array."""

    seed: int | None = None
    path: Path | None = None
    rgba: np.ndarray | None = None  # (H, W, 4) uint8; None with a seed
    style: int | None = None  # seed of a style, for a translator
    hole: np.ndarray | None = None  # (H, W) bool, for an inpainter
    label: str = ""  # in messages


@dataclass(frozen=True, eq=False)
class Example:
    """One edited picture."""

    target: Picture
    mask: np.ndarray | Box  # (H, W) in [0, 1], or a box
    source: Picture | None  # None erases what is under the mask
    box: Box | None  # part of the source; None is all of it
    label: str  # in messages


@dataclass(frozen=True, eq=False)
class Edit:
    """A new rule, given by examples."""

    name: str
    examples: tuple[Example, ...]
    checkpoint: str | None  # hash of the Checkpoint it was made for, if given
    description: dict[str, Any]
    """The edit as JSON, with a hash of all pixels in place of arrays; stored with the rule, which is known by it."""


def read_edit(given: str | os.PathLike[str] | Mapping[str, Any]) -> Edit:
    """Reads an edit from a JSON file or a dict. Raises ValueError with the invalid part."""
    if isinstance(given, Mapping):
        return _edit(given, None, str(given.get("name", "edit")))
    path = Path(given)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES >> 10} KiB")
        table = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not valid JSON: {_where(error)}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file; give an edit, which is a JSON file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read as an edit ({error})") from error
    if not isinstance(table, dict):
        raise ValueError(f"{path}: an edit must be a JSON object with examples")
    try:
        return _edit(table, path.parent, path.stem)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _where(error: json.JSONDecodeError) -> str:
    """Where the text is not JSON, and why."""
    before, after = error.doc[: error.pos].rstrip(), error.doc[error.pos :]
    if after.startswith(","):  # newer versions of Python point at the comma
        before, after = ",", after[1:].lstrip()
    comma = before.endswith(",") and after.startswith(("]", "}"))
    why = "a comma too many" if comma else error.msg[:1].lower() + error.msg[1:]
    return f"line {error.lineno}, column {error.colno}: {why}"


def _edit(table: Mapping[str, Any], folder: Path | None, stem: str) -> Edit:
    _check_keys(table, {"name", "examples", "checkpoint"}, "the edit")
    name = table.get("name", stem)
    if not isinstance(name, str) or not name or not all(c.isalnum() or c in "-_ " for c in name) or len(name) > 60:
        raise ValueError(f"name {name!r}: a name is up to 60 letters, digits, spaces, - and _")
    examples = table.get("examples")
    if not isinstance(examples, list | tuple) or not 0 < len(examples) <= MAX_EXAMPLES:
        raise ValueError(f"{name}: 'examples' must be a list of 1 to {MAX_EXAMPLES} of them")
    if not isinstance(made_for := table.get("checkpoint"), str | None):
        raise ValueError(f"{name}: 'checkpoint' must be the hash of a checkpoint")
    read = tuple(_example(one, folder, f"{name}, example {i}") for i, one in enumerate(examples, 1))
    described = json.loads(json.dumps(dict(table), default=lambda value: type(value).__name__))
    return Edit(name, read, made_for, {**described, HASH: _hash(read)})


def _hash(examples: Sequence[Example]) -> str:
    """SHA-256 of all pictures and masks: a corrected picture makes another edit, whatever its file is called."""
    digest = hashlib.sha256()
    for one in examples:
        source = None if one.source is None else one.source.rgba
        for pixels in (one.target.rgba, one.target.hole, one.mask, source):
            if isinstance(pixels, np.ndarray):
                digest.update(f"{pixels.dtype} {pixels.shape}".encode() + pixels.tobytes())
    return digest.hexdigest()


def _example(table: Any, folder: Path | None, label: str) -> Example:
    if not isinstance(table, Mapping):
        raise ValueError(f"{label}: must be a JSON object")
    _check_keys(table, {"seed", "picture", "style", "hole", "mask", "source", "erase"}, label)
    target = _picture(table, folder, label)
    mask = _mask(table.get("mask"), folder, f"{label}, mask")
    given, of_source = table.get("source"), f"{label}, source"
    if bool(table.get("erase")) == (given is not None):
        raise ValueError(f"{label}: give either a source or erase: true")
    if given is None:
        return Example(target, mask, None, None, label)
    if not isinstance(given, Mapping):
        given = {"picture": given}
    _check_keys(given, {"seed", "picture", "box"}, of_source)
    box = None if given.get("box") is None else _box(given["box"], of_source)
    source = _picture(given, folder, of_source)
    if source.rgba is not None and not crop(source.rgba, box, of_source)[:, :, 3].any():
        raise ValueError(f"{of_source}: is fully transparent")
    return Example(target, mask, source, box, label)


def _picture(table: Mapping[str, Any], folder: Path | None, label: str) -> Picture:
    seed, given, style = table.get("seed"), table.get("picture"), table.get("style")
    if (seed is None) == (given is None):
        raise ValueError(f"{label}: give either a seed or a picture")
    for name, number in (("seed", seed), ("style", style)):
        if number is not None and (type(number) is not int or not 0 <= number < 2**32):
            raise ValueError(f"{label}: {name} {number!r} is not a whole number from 0 to {2**32 - 1}")
    if seed is not None:
        return Picture(seed=seed, label=label)
    hole = None if table.get("hole") is None else _mask(table["hole"], folder, f"{label}, hole")
    if isinstance(hole, tuple):
        raise ValueError(f"{label}, hole: must be a picture of the same size, white where it is filled")
    source = given if isinstance(given, np.ndarray) else _path(given, folder, label)
    path, rgba = source if isinstance(source, Path) else None, _rgba(source, label)
    if hole is not None and hole.shape != rgba.shape[:2]:
        raise ValueError(f"{label}, hole: {_size(hole)}, but the picture is {_size(rgba)}")
    return Picture(None, path, rgba, style, None if hole is None else hole >= MARKED, label)


def _mask(given: Any, folder: Path | None, label: str) -> np.ndarray | Box:
    if isinstance(given, np.ndarray):
        mask = given.astype(np.float32)
        if mask.ndim != 2 or not np.isfinite(mask).all() or mask.min() < 0 or mask.max() > 1:
            raise ValueError(f"{label}: must be an array (H, W) of numbers from 0 to 1")
    elif isinstance(given, list | tuple):
        return _box(given, label)
    else:
        try:
            return read_mask(_path(given, folder, label))
        except PictureError as error:
            raise ValueError(f"{label}: {error}") from error
    if not (mask >= MARKED).any():
        raise ValueError(f"{label}: empty; values of {MARKED} and more mark where something changes")
    return mask


def _box(given: Any, label: str) -> Box:
    whole = isinstance(given, list | tuple) and len(given) == 4 and all(type(n) is int for n in given)
    if not whole or given[0] < 0 or given[1] < 0 or given[2] < 1 or given[3] < 1:
        raise ValueError(f"{label}: a box is x, y, width, height in whole pixels, not {given!r}")
    return (given[0], given[1], given[2], given[3])


def _path(given: Any, folder: Path | None, label: str) -> Path:
    name = PurePosixPath(os.fspath(given).replace("\\", "/") if isinstance(given, str | os.PathLike) else "")
    if not name.parts:
        raise ValueError(f"{label}: {given!r} is not the name of a picture")
    if folder is None:
        return Path(given)
    if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:  # an edit file may come from anybody
        raise ValueError(f"{label}: {given} is in another folder; put the picture beside the edit file")
    return folder / name


def _rgba(given: Path | np.ndarray, label: str) -> np.ndarray:
    if isinstance(given, np.ndarray):
        if given.dtype != np.uint8 or given.ndim != 3 or given.shape[2] not in (3, 4) or not given.size:
            raise ValueError(f"{label}: must be an array (H, W, 3 or 4) of uint8")
        opaque = np.full((*given.shape[:2], 1), 255, np.uint8)
        return given if given.shape[2] == 4 else np.concatenate([given, opaque], 2)
    try:
        return pictures.decode_rgba(given)
    except PictureError as error:
        raise ValueError(f"{label}: {error}") from error


def crop(rgba: np.ndarray, box: Box | None, label: str) -> np.ndarray:
    """The part of a picture (H, W, C) in a box. Raises ValueError if the box exceeds the picture."""
    if box is None:
        return rgba
    x, y, width, height = box
    if x + width > rgba.shape[1] or y + height > rgba.shape[0]:
        raise ValueError(f"{label}: the box {list(box)} reaches beyond the picture of {_size(rgba)}")
    return rgba[y : y + height, x : x + width]


def as_mask(mask: np.ndarray | Box, height: int, width: int, label: str) -> np.ndarray:
    """A mask (H, W) in [0, 1] for a picture of this size. ValueError if it does not fit."""
    if isinstance(mask, tuple):
        full = np.zeros((height, width), np.float32)
        crop(full[:, :, None], mask, f"{label}, mask")[:] = 1
        return full
    if mask.shape != (height, width):
        raise ValueError(f"{label}, mask: {_size(mask)}, but the picture is {width}x{height}")
    return mask


def overlay(source: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A source (h, w, 4) uint8, resized to the bounding box of a mask (H, W) in [0, 1] and cut to it: (H, W, 4)
    float32, colours in [-1, 1] and alpha in [0, 1]."""
    rows, columns = (np.flatnonzero((mask >= MARKED).any(axis)) for axis in (1, 0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    alpha = source[:, :, 3:]
    # Transparent pixels have arbitrary colours; replace them by the mean of the others to avoid bleeding when resized.
    colours = np.where(alpha > 0, source[:, :, :3], source[source[:, :, 3] > 0][:, :3].mean(0)).astype(np.uint8)
    gray, full = np.repeat(source[:, :, 3:], 3, 2), np.zeros((*mask.shape, 4), np.float32)
    inside, size = full[top:bottom, left:right], (right - left, bottom - top)
    inside[:, :, :3] = pictures.resize(colours, *size) / np.float32(127.5) - 1
    inside[:, :, 3] = pictures.resize(gray, *size)[:, :, 0] / np.float32(255)
    full[:, :, 3] *= mask
    return full


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"


def _check_keys(table: Mapping[str, Any], known: set[str], label: str) -> None:
    if unknown := sorted(map(str, set(table) - known)):
        hint = did_you_mean(unknown[0], known)
        raise ValueError(f"{label}: unknown key {', '.join(unknown)}; {hint}the keys are {', '.join(sorted(known))}")
