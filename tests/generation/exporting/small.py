"""A small generator with attributes, as a Checkpoint, exported once for all tests: tracing it takes seconds."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch
from needs import need

from kyara import export, models
from kyara.files import checkpoint
from kyara.generation.exporting.export import ExportResult
from kyara.models.base import Generator, Model

ATTRIBUTES = {"hair": ("black", "blonde", "blue"), "eyes": ("green", "red")}
COUNTS = ((0, 0, 50), (0, 1, 2), (1, 1, 30), (2, -1, 40), (2, 1, 1))
CARD = """---
library_name: kyara
license: "cc-by-4.0"
---
# A <b>generator</b>

| | |
|---|---|
| artwork | by **Someone**. Please credit `Someone` |
| trained for | 3 kimg |

Not for
sale: ask the artist.

Faces are small.

    {"license": "code"}
"""


def small(name: str = "stylegan2", side: int = 8) -> Model:
    """A tiny model of an architecture with random weights."""
    torch.manual_seed(0)
    cls = models.architecture(name)
    told = {"attributes": ATTRIBUTES, "label_counts": COUNTS} if cls.data_spec.attributes != "never" else {}
    model = cls(cls.presets["tiny"].replace(data={"width": side, "height": side, **told}))
    if name == "stylegan2":
        model = cls(model.config.replace(network={"labels_from": 2}))
        for module in (model.g, model.g_ema):
            torch.nn.init.normal_(module.mapping.labels.rows)  # zeros at first: labels would change nothing
    return model.eval().requires_grad_(False)


def written(model: Model, folder: Path, name: str = "stylegan2") -> Path:
    """The folder of a Checkpoint of a model."""
    config = dataclasses.asdict(model.config)
    checkpoint.write(folder, model=name, config=config, weights=models.stored(model), card=CARD, about={})
    return folder


class Exported(NamedTuple):
    """A Checkpoint, its generator, and the result of exporting it."""

    folder: Path
    generator: Generator
    result: ExportResult
    temporary: tempfile.TemporaryDirectory[str]  # exists as long as this


def need_exporter() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        need(package, "onnx")


@functools.cache
def export_once() -> Exported:
    temporary = tempfile.TemporaryDirectory()
    folder = written(small(), Path(temporary.name) / "faces")
    result = export(str(folder), out=folder.parent)
    generator = models.load(folder)
    assert isinstance(generator, Generator)
    return Exported(folder, generator, result, temporary)
