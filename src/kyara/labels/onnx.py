"""Taggers from ONNX files, run by onnxruntime, each with the preprocessing of its authors.

    WD v3              selected_tags.csv   whole picture on a white square, bicubic, BGR, 0 to 255, NHWC
    DeepDanbooru       tags.txt            whole picture, edge padding, box filter, RGB, 0 to 1, NHWC
    Illustration2Vec   tag_list.json       resized without keeping the aspect ratio, bilinear, BGR minus a mean, NCHW

They predict hundreds of tags that are not mutually exclusive. Tags that correspond to a value of an attribute are used.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.files.extras import install_hint
from kyara.files.pictures import resize, to_uint8
from kyara.labels.kinds import TAG_LISTS, Kind
from kyara.nn.conditioning import SYNONYMS

MEAN = np.array([164.76139251, 167.47864617, 181.13838569], np.float32)
"""Mean of blue, green and red that Illustration2Vec subtracts (rezoo/illustration2vec)."""
COLOURS = re.compile(
    r"(?:light_|dark_)?(aqua|black|blonde|blue|brown|gray|grey|silver|green|orange|pink|purple|red|white|yellow)"
    r"_(hair|eyes)"
)
ROWS = 256  # of a picture on white that are resized at once
YES_NO = frozenset({"glasses", "hat", "smile", "open_mouth", "closed_eyes"})
GENDER = {"1girl": "female", "1boy": "male"}


class Preprocessing(NamedTuple):
    """The preprocessing of a kind of tagger."""

    side: int  # Input width and height if the network does not fix them
    fit: Callable[[np.ndarray, int, int], np.ndarray]  # Resizes a picture (H, W, 3) uint8 to a width and height
    scale: Callable[[np.ndarray], np.ndarray]  # Scales pictures (B, H, W, 3) uint8: float32 of the same shape


def on_white(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """Pads the picture with white to a square and resizes it: first the rows, some at a time, then the columns, with
    the same result. The square of a page of 800 x 30,000 pixels would take gigabytes."""
    h, w = picture.shape[:2]
    side = max(h, w)
    y, x = (side - h) // 2, (side - w) // 2
    narrow = np.full((side, width, 3), 255, np.uint8)
    for top in range(0, h, ROWS):
        some = picture[top : top + ROWS]
        wide = np.full((len(some), side, 3), 255, np.uint8)
        wide[:, x : x + w] = some
        narrow[y + top : y + top + len(some)] = resize(wide, width, len(some), "bicubic")
    return resize(narrow, width, height, "bicubic")


def edge_padded(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resizes the whole picture to fit, and pads it by repeating its edges."""
    h, w = picture.shape[:2]
    scale = min(width / w, height / h)
    small = resize(picture, max(1, round(w * scale)), max(1, round(h * scale)), "box")
    y, x = height - small.shape[0], width - small.shape[1]
    return np.pad(small, ((y // 2, y - y // 2), (x // 2, x - x // 2), (0, 0)), mode="edge")


PREPROCESSING: Mapping[Kind, Preprocessing] = {
    "wd": Preprocessing(448, on_white, lambda pictures: pictures[..., ::-1].astype(np.float32)),
    "deepdanbooru": Preprocessing(512, edge_padded, lambda pictures: pictures.astype(np.float32) / 255),
    "illustration2vec": Preprocessing(
        224, functools.partial(resize, by="bilinear"), lambda pictures: pictures[..., ::-1].astype(np.float32) - MEAN
    ),
}


class OnnxTagger:
    """A Tagger from an ONNX file. Raises ValueError if the network is not a supported tagger."""

    def __init__(self, path: Path, device: torch.device, kind: Kind | None = None) -> None:
        self.path, self.device = path, device
        self.kind = kind or guess(path)
        self.preprocessing = PREPROCESSING[self.kind]
        tags = read_tags(path.parent / TAG_LISTS[self.kind], self.kind)
        self._session = open_session(path, device)
        with path.open("rb") as file:
            self.hash = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        entry = self._session.get_inputs()[0]
        shape = entry.shape
        if len(shape) != 4 or 3 not in (shape[1], shape[3]) or len(self._session.get_inputs()) > 1:
            raise ValueError(f"{path}: has input shape {shape}; a tagger needs (B, 3, H, W) or (B, H, W, 3)")
        self._channels_first = shape[1] == 3
        height, width = shape[2:] if self._channels_first else shape[1:3]
        side = self.preprocessing.side
        self.size = (width if isinstance(width, int) else side, height if isinstance(height, int) else side)
        self._batch = shape[0] if isinstance(shape[0], int) and shape[0] > 0 else None
        self._dtype = np.float16 if "float16" in entry.type else np.float32
        self._input, self._tags = entry.name, tags
        self._sources = attributes_of(tags)
        self.attributes: Mapping[str, tuple[str, ...]] = {name: tuple(values) for name, values in self._sources.items()}
        if not self.attributes:
            raise ValueError(f"{path.parent / TAG_LISTS[self.kind]}: contains no tag such as blue_hair or red_eyes")

    def fit(self, picture: np.ndarray) -> np.ndarray:
        """A picture (H, W, 3) uint8, resized to `size`."""
        return self.preprocessing.fit(picture, *self.size)

    def probabilities(self, pictures: Tensor) -> dict[str, Tensor]:
        """See `Tagger.probabilities`. Tags are not mutually exclusive: if the probabilities of an attribute's values
        sum to more than 1, they are normalised; if to less, the rest is unknown. Yes and no always sum to 1."""
        tags = torch.from_numpy(self.tags(to_uint8(pictures)))  # (B, T)
        found = {}
        for attribute, sources in self._sources.items():
            columns = [tags[:, i].amax(1) if i else 1 - tags[:, sources["yes"]].amax(1) for i in sources.values()]
            values = torch.stack(columns, 1)  # (B, V)
            found[attribute] = values / values.sum(1, keepdim=True).clamp_min(1)
        return found

    def embed(self, pictures: Tensor) -> Tensor:
        """See `Tagger.embed`: the square roots of all tag probabilities, scaled to length 1."""
        return F.normalize(torch.from_numpy(np.sqrt(self.tags(to_uint8(pictures)))))

    def tags(self, pictures: np.ndarray) -> np.ndarray:
        """The probability of every tag, (B, T) float32, of pictures (B, H, W, 3) uint8."""
        scaled = self.preprocessing.scale(np.stack([self.fit(picture) for picture in pictures]))
        scaled = np.ascontiguousarray(scaled.transpose(0, 3, 1, 2) if self._channels_first else scaled, self._dtype)
        step = self._batch or len(scaled)
        padded = np.concatenate([scaled, np.repeat(scaled[-1:], -len(scaled) % step, 0)])
        parts = [self._session.run(None, {self._input: padded[i : i + step]})[0] for i in range(0, len(padded), step)]
        out = np.concatenate(parts).astype(np.float32)[: len(scaled)]
        if out.shape != (len(scaled), len(self._tags)):
            hint = f"{TAG_LISTS[self.kind]} must be the list of this network"
            raise ValueError(f"{self.path}: outputs {out.shape[1:]} tags, but {len(self._tags)} are listed; {hint}")
        if not (out.min() >= -1e-3 and out.max() <= 1 + 1e-3):
            raise ValueError(f"{self.path}: does not output probabilities; export the network with its final sigmoid")
        return out.clip(0, 1)


def guess(path: Path) -> Kind:
    """The kind of tagger, from the list of tags in the same folder."""
    found = [kind for kind, file in TAG_LISTS.items() if (path.parent / file).is_file()]
    if len(found) != 1:
        files = ", ".join(f"{file} ({kind})" for kind, file in TAG_LISTS.items())
        what = "several lists of tags" if found else "no list of tags"
        raise ValueError(f"{path}: {what} in its folder; put one of {files} there, or give its kind with --kind")
    return found[0]


def read_tags(path: Path, kind: Kind) -> list[str]:
    """The names of the tags, such as blue_hair, in the order of the network's outputs; empty for tags that do not
    describe the picture, such as names of characters. Raises ValueError if the file is not a list of tags."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if kind == "wd":
            rows = csv.DictReader(text.splitlines(), strict=True)
            tags = [row["name"] if row["category"] == "0" else "" for row in rows]
        elif kind == "deepdanbooru":
            tags = [line for line in text.splitlines() if line.strip()]
        else:
            tags = json.loads(text)
        if not isinstance(tags, list):
            raise TypeError("not a list of strings")
        return [tag.strip().lower().replace(" ", "_") for tag in tags]
    except FileNotFoundError as error:
        raise ValueError(f"{path}: missing; it is published with the network and lists its tags") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error, RecursionError) as error:
        raise ValueError(f"{path}: not the list of tags of a {kind} tagger ({error!r})") from error


def attributes_of(tags: Sequence[str]) -> dict[str, dict[str, list[int]]]:
    """The attributes in a list of tags: attribute -> value -> indices of its tags. The value `no` has no tag."""
    sources: dict[str, dict[str, list[int]]] = {}
    for i, tag in enumerate(tags):
        if match := COLOURS.fullmatch(tag):
            colour, attribute = match.groups()
            sources.setdefault(attribute, {}).setdefault(SYNONYMS.get(colour, colour), []).append(i)
        elif tag in GENDER:
            sources.setdefault("gender", {}).setdefault(GENDER[tag], []).append(i)
        elif tag in YES_NO:
            sources[tag] = {"no": [], "yes": [i]}
    return {name: dict(sorted(values.items())) for name, values in sources.items() if len(values) > 1}


def open_session(path: Path, device: torch.device) -> Any:
    """An onnxruntime session. Raises ValueError if the file cannot be loaded."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(f"{path}: needs the package onnxruntime; {install_hint('onnx')}") from error
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    wanted = ["CUDAExecutionProvider"] if device.type == "cuda" else []
    providers = [p for p in [*wanted, "CPUExecutionProvider"] if p in onnxruntime.get_available_providers()]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # its exceptions have no common base class
        raise ValueError(f"{path}: not a network that onnxruntime can run ({error})") from error
