"""What a person asks for: places in pictures of the model, and what shall be seen there instead.

    {"name": "glasses",
     "examples": [
        {"seed": 12, "mask": "mask.png", "source": {"picture": "glasses.png"}},
        {"picture": "seed0007.png", "mask": [20, 24, 24, 10], "source": {"seed": 3, "box": [20, 24, 24, 10]}},
        {"seed": 4, "mask": "fringe.png", "erase": true}]}

A host is a seed, or a picture: one that the model made, or for a translator a photo (with "style", a seed), for an
inpainter a picture with "hole". A mask is a picture of the host's size, white where something shall change, or a box:
x, y, width, height in pixels. A source is a picture file or a seed, and a box in it; it is brought to the bounding box
of the mask, and what is transparent in it stays as it was. In Python, arrays serve as pictures and masks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from kyara.files import pictures
from kyara.files.errors import PictureError

MOST = 32
"""Examples in an edit: a handful is meant."""
LARGEST = 1 << 20
"""Bytes of an edit file."""
Box = tuple[int, int, int, int]
"""x, y, width, height in pixels."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture that an edit names: the model's own of a seed, or one from outside."""

    seed: int | None = None
    path: Path | None = None
    rgba: np.ndarray | None = None
    """(H, W, 4) uint8, if it is from outside."""
    style: int | None = None
    """Of a translator: the seed of a style."""
    hole: np.ndarray | None = None
    """Of an inpainter: (H, W) bool."""
    where: str = ""
    """How messages call it."""


@dataclass(frozen=True, eq=False)
class Example:
    """One picture as it shall be."""

    host: Picture
    mask: np.ndarray | Box
    """(H, W) in [0, 1], or a box."""
    source: Picture | None
    """None: what is there shall be erased."""
    box: Box | None
    """The part of the source that is meant; None: all of it."""
    where: str


@dataclass(frozen=True, eq=False)
class Edit:
    """A new rule, by its examples."""

    name: str
    examples: tuple[Example, ...]
    checkpoint: str | None
    """Hash of the Checkpoint it was made for, if it says."""
    source: dict[str, Any]
    """As it was given, without arrays: kept with what is learned."""


def read_edit(given: str | os.PathLike[str] | Mapping[str, Any]) -> Edit:
    """The edit in a JSON file, or the same as a dict. ValueError says which part makes no sense."""
    if isinstance(given, Mapping):
        return _edit(given, None, str(given.get("name", "edit")))
    path = Path(given)
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"larger than {LARGEST >> 10} KiB")
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read as an edit ({error})") from error
    if not isinstance(table, dict):
        raise ValueError(f"{path}: an edit is a table with examples; this is none")
    return _edit(table, path.parent, path.stem)


def _edit(table: Mapping[str, Any], folder: Path | None, stem: str) -> Edit:
    _only(table, {"name", "examples", "checkpoint"}, "the edit")
    name = table.get("name", stem)
    if not isinstance(name, str) or not name or not all(c.isalnum() or c in "-_ " for c in name) or len(name) > 60:
        raise ValueError(f"name {name!r}: a name is up to 60 letters, digits, spaces, - and _")
    examples = table.get("examples")
    if not isinstance(examples, list | tuple) or not 0 < len(examples) <= MOST:
        raise ValueError(f"{name}: 'examples' must be a list of 1 to {MOST} of them")
    if not isinstance(made_for := table.get("checkpoint"), str | None):
        raise ValueError(f"{name}: 'checkpoint' must be the hash of a checkpoint")
    read = tuple(_example(one, folder, f"{name}, example {i}") for i, one in enumerate(examples, 1))
    return Edit(name, read, made_for, json.loads(json.dumps(dict(table), default=lambda value: type(value).__name__)))


def _example(table: Any, folder: Path | None, where: str) -> Example:
    if not isinstance(table, Mapping):
        raise ValueError(f"{where}: must be a table")
    _only(table, {"seed", "picture", "style", "hole", "mask", "source", "erase"}, where)
    host = _picture(table, folder, where)
    mask = _mask(table.get("mask"), folder, f"{where}, mask")
    erase, given = table.get("erase", False), table.get("source")
    if bool(erase) == (given is not None):
        raise ValueError(f"{where}: give a source, or erase: true, and not both")
    if given is None:
        return Example(host, mask, None, None, where)
    if not isinstance(given, Mapping):
        given = {"picture": given}
    _only(given, {"seed", "picture", "box"}, f"{where}, source")
    box = None if given.get("box") is None else _box(given["box"], f"{where}, source")
    source = _picture(given, folder, f"{where}, source")
    if source.rgba is not None:
        part = cropped(source.rgba, box, f"{where}, source")
        if not part[:, :, 3].any():
            raise ValueError(f"{where}, source: nothing is to be seen there, all of it is transparent")
    return Example(host, mask, source, box, where)


def _picture(table: Mapping[str, Any], folder: Path | None, where: str) -> Picture:
    seed, given, style = table.get("seed"), table.get("picture"), table.get("style")
    if (seed is None) == (given is None):
        raise ValueError(f"{where}: give a seed or a picture, and not both")
    for name, number in (("seed", seed), ("style", style)):
        if number is not None and (not isinstance(number, int) or not 0 <= number < 2**32):
            raise ValueError(f"{where}: {name} {number!r} is no whole number from 0 to {2**32 - 1}")
    if seed is not None:
        return Picture(seed=seed, where=where)
    hole = None if table.get("hole") is None else _mask(table["hole"], folder, f"{where}, hole")
    if isinstance(hole, tuple):
        raise ValueError(f"{where}, hole: must be a picture of the same size, white where it is to be filled")
    named = given if isinstance(given, np.ndarray) else _path(given, folder, where)
    path, rgba = named if isinstance(named, Path) else None, _rgba(named, where)
    if hole is not None and hole.shape != rgba.shape[:2]:
        raise ValueError(f"{where}, hole: {_size(hole)}, but the picture is {_size(rgba)}")
    return Picture(None, path, rgba, style, None if hole is None else hole >= 0.5, where)


def _mask(given: Any, folder: Path | None, where: str) -> np.ndarray | Box:
    if isinstance(given, np.ndarray):
        mask = given.astype(np.float32)
        if mask.ndim != 2 or not np.isfinite(mask).all() or mask.min() < 0 or mask.max() > 1:
            raise ValueError(f"{where}: must be an array (H, W) of numbers from 0 to 1")
    elif isinstance(given, list | tuple):
        return _box(given, where)
    else:
        grey = _rgba(_path(given, folder, where), where).astype(np.float32)
        mask = grey[:, :, :3].mean(2) * grey[:, :, 3] / 255**2
    if not (mask >= 0.5).any():
        raise ValueError(f"{where}: empty; white is where something shall change")
    return mask


def _box(given: Any, where: str) -> Box:
    whole = isinstance(given, list | tuple) and len(given) == 4 and all(type(n) is int for n in given)
    if not whole or given[0] < 0 or given[1] < 0 or given[2] < 1 or given[3] < 1:
        raise ValueError(f"{where}: a box is x, y, width, height in whole pixels, not {given!r}")
    return (given[0], given[1], given[2], given[3])


def _path(given: Any, folder: Path | None, where: str) -> Path:
    if not isinstance(given, str | os.PathLike) or not os.fspath(given):
        raise ValueError(f"{where}: {given!r} names no picture")
    if folder is None:
        return Path(given)
    name = PurePosixPath(os.fspath(given).replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:  # an edit file may come from anybody
        raise ValueError(f"{where}: {given} lies elsewhere; put the picture beside the edit file")
    return folder / name


def _rgba(given: Path | np.ndarray, where: str) -> np.ndarray:
    if isinstance(given, np.ndarray):
        if given.dtype != np.uint8 or given.ndim != 3 or given.shape[2] not in (3, 4) or not given.size:
            raise ValueError(f"{where}: must be an array (H, W, 3 or 4) of uint8")
        opaque = np.full((*given.shape[:2], 1), 255, np.uint8)
        return given if given.shape[2] == 4 else np.concatenate([given, opaque], 2)
    try:
        return pictures.decode_rgba(given)
    except PictureError as error:
        raise ValueError(f"{where}: {error}") from error


def cropped(rgba: np.ndarray, box: Box | None, where: str) -> np.ndarray:
    """The part of a picture (H, W, C) that a box means. ValueError if that is not all inside."""
    if box is None:
        return rgba
    x, y, width, height = box
    if x + width > rgba.shape[1] or y + height > rgba.shape[0]:
        raise ValueError(f"{where}: the box {list(box)} reaches beyond the picture of {_size(rgba)}")
    return rgba[y : y + height, x : x + width]


def as_mask(mask: np.ndarray | Box, height: int, width: int, where: str) -> np.ndarray:
    """A mask (H, W) in [0, 1] for a picture of this size. ValueError if it does not fit."""
    if isinstance(mask, tuple):
        full = np.zeros((height, width), np.float32)
        cropped(full[:, :, None], mask, f"{where}, mask")[:] = 1
        return full
    if mask.shape != (height, width):
        raise ValueError(f"{where}, mask: {_size(mask)}, but the picture is {width}x{height}")
    return mask


def overlay(source: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """What is laid over a picture: a source (h, w, 4) uint8, brought to the bounding box of a mask (H, W) in [0, 1],
    and nowhere outside the mask: (H, W, 4) float32, colours in [-1, 1] and how much of them in [0, 1]."""
    rows, columns = (np.flatnonzero((mask >= 0.5).any(axis)) for axis in (1, 0))
    top, left, bottom, right = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
    alpha = source[:, :, 3:].astype(np.float32) / 255
    colours = np.where(alpha > 0, source[:, :, :3], _mean_colour(source)).astype(np.uint8)
    size = int(right - left), int(bottom - top)
    full = np.zeros((*mask.shape, 4), np.float32)
    full[top:bottom, left:right, :3] = pictures.resize(colours, *size) / np.float32(127.5) - 1
    shade = np.repeat(np.round(alpha * 255).astype(np.uint8), 3, 2)
    full[top:bottom, left:right, 3] = pictures.resize(shade, *size)[:, :, 0] / np.float32(255)
    full[:, :, 3] *= mask
    return full


def _mean_colour(source: np.ndarray) -> np.ndarray:
    """Of what is not transparent: what is transparent has any colour, which must not bleed in."""
    seen = source[source[:, :, 3] > 0][:, :3]
    colour: np.ndarray = seen.mean(0)
    return colour


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"


def _only(table: Mapping[str, Any], known: set[str], where: str) -> None:
    if strange := sorted(map(str, set(table) - known)):
        raise ValueError(f"{where}: knows no {', '.join(strange)}; it knows {', '.join(sorted(known))}")
