"""A web page that runs an exported generator: one file with the model, ONNX Runtime Web and its own script. It works
from the disk and loads nothing else."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import tempfile
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from kyara import __version__
from kyara.files.atomic import write_atomic
from kyara.files.checkpoint import BUILTIN
from kyara.files.gallery_page import BASE_STYLE, HEAD
from kyara.generation.exporting.card import Card
from kyara.generation.exporting.convert import write_onnx
from kyara.generation.exporting.graphs import Graph
from kyara.generation.exporting.runtime import VERSION, Runtime
from kyara.models.base import Generator, Model
from kyara.nn.label_table import exclusions

SEEDS, RECIPE = (Path(__file__).with_name(name) for name in ("seeds.js", "recipe.js"))
_STYLE, _REST, _SCRIPT, _PROGRAMS = (
    Path(__file__).with_name(name).read_text("utf-8") for name in ("page.css", "page.html", "page.js", "programs.txt")
)


def write_page(
    path: Path, graph: Graph, model: Model, metadata: Mapping[str, str], card: Card, runtime: Runtime
) -> float:
    """Writes the page `path`. Returns the largest difference to PyTorch, as `write_onnx`, and raises its errors."""
    assert isinstance(model, Generator)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        difference = write_onnx(file, graph, metadata)
        text = page(metadata["model"], model, file.read_bytes(), card, runtime)
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return difference


def page(name: str, generator: Generator, model: bytes, card: Card, runtime: Runtime) -> str:
    """The text of the page of a generator, whose ONNX file is `model`."""
    script = SEEDS.read_text("utf-8") + RECIPE.read_text("utf-8") + _SCRIPT
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    size = f"{generator.config.data.width} x {generator.config.data.height} pixels"
    return (HEAD + _REST).format(
        # No other script runs, and no request is possible.
        images=f"'none'; script-src 'sha256-{allowed}' 'wasm-unsafe-eval' blob:",
        title=escape(name),
        about=f"{size} · made in this browser, which sends and loads nothing",
        style=BASE_STYLE + _STYLE,
        rights="".join(f"<li>{escape(part)}</li>" for part in (*card.rights, f"licence in the card: {card.license}")),
        card=escape(card.text),
        programs=escape(_PROGRAMS.format(version=VERSION, kyara=__version__)),
        data=_data(name, generator),
        runtime_script=_packed(runtime.script),
        runtime_wasm=_packed(runtime.wasm),
        model=_packed(model),
        script=script,
    )


def _packed(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, mtime=0)).decode()


def _model(name: str, generator: Generator) -> str:
    """What recipes call the model: a built-in one can be found by its name; of others, no path is given away."""
    path = generator.checkpoint.path
    return f"builtin:{path.name}" if path.parent == BUILTIN else name


def _data(name: str, generator: Generator) -> str:
    """The data of the script as JSON that is safe inside <script>."""
    table, config = generator.label_table, generator.config.data
    rows = [[*labels, count] for labels, count in zip(table.rows.tolist(), table.counts.tolist(), strict=True)]
    data: dict[str, Any] = {
        "name": name,
        "z_dim": generator.z_dim,
        "width": config.width,
        "height": config.height,
        "attributes": [[attribute, list(values)] for attribute, values in config.attributes.items()],
        "table": {"rows": rows, "exclusions": exclusions(table.rows, table.counts)},
        "recipe": {"kyara": __version__, "model": _model(name, generator), "checkpoint": generator.checkpoint.hash},
    }
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
