"""The verb `kyara export`: a Checkpoint as an ONNX file, or as a web page that runs it."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from kyara import __version__
from kyara.files.atomic import numbered_folder, write_errors
from kyara.files.names import printable, short_name
from kyara.generation.exporting.runtime import ARCHIVE, Runtime, read_runtime
from kyara.verbs import DryRun, Force, Result, checked

if TYPE_CHECKING:
    from kyara.generation.exporting.card import Card
    from kyara.generation.exporting.graphs import Graph
    from kyara.models.base import Model

MARKS = {
    ".onnx": re.compile(rb"made_by\x12.{1,3}kyara export ", re.DOTALL),  # metadata; a length is between
    ".html": re.compile(rb'<script type="text/plain" id="runtime-wasm">'),
}
"""By these, the files that `export` wrote are recognised."""
SUFFIXES = {"onnx": ".onnx", "page": ".html"}


@dataclasses.dataclass(frozen=True)
class ExportResult(Result):
    """The file that `export` wrote."""

    out: Path
    model: str
    kind: str  # generator, translator, tagger, ranker or landmark detector
    license: str  # of the model's card
    inputs: Mapping[str, list[int | str]]  # Shapes by name, with "batch" for the batch size
    outputs: tuple[str, ...]
    difference: float | None = None  # The largest difference to PyTorch in the check; None with `dry_run`
    size: int | None = None  # Bytes of the file
    dry_run: bool = False

    def __str__(self) -> str:
        shapes = ", ".join(f"{name} ({', '.join(map(str, shape))})" for name, shape in self.inputs.items())
        lines = [f"the {self.kind} {printable(self.model)}: {shapes} -> {', '.join(map(printable, self.outputs))}"]
        lines += [f"licence of the model: {printable(self.license)}"]
        if self.dry_run:
            return "\n".join([f"would write {self.out}", *lines])
        apart = f"at most {self.difference:.1g} from PyTorch"
        return "\n".join([f"wrote {self.out} ({(self.size or 0) / 1e6:.1f} MB), {apart}", *lines])


@checked
def export(
    model: Positional[str],
    *,
    to: Literal["onnx", "page"] = "onnx",
    out: Path | None = None,
    runtime: Path | None = None,
    force: Force = False,
    dry_run: DryRun = False,
) -> ExportResult:
    """Write a model as an ONNX file, or a generator as a web page that runs in any browser without a network.

    The file is compared with PyTorch on batches of 1, 2 and 5 pictures before it is put in place. Needs the extra
    `onnx`.

    Args:
        model: A Checkpoint: a folder, builtin:NAME or hf-hub:OWNER/NAME.
        to: onnx for a file that ONNX Runtime and others run; page for one HTML file with the generator inside.
        out: The file, NAME.onnx or NAME.html, or a folder for it; by default a new numbered folder in exports.
        runtime: For page: the archive of ONNX Runtime Web that `npm pack onnxruntime-web@1.30.0` downloads; by
            default onnxruntime-web-1.30.0.tgz in the current folder.
    """
    if runtime is not None and to != "page":
        raise ValueError(f"--runtime {runtime}: only applies to --to page")
    path = output_file(out, short_name(model), to, force)
    web = read_runtime(Path(ARCHIVE) if runtime is None else runtime) if to == "page" else None
    network, graph, card, metadata = _load(model, to)
    inputs: dict[str, list[int | str]] = {
        name: ["batch", *tensor.shape[1:]] if tensor.ndim else [] for name, tensor in graph.example(1).items()
    }
    result = ExportResult(path, model, graph.kind, card.license, inputs, graph.outputs, dry_run=dry_run)
    if dry_run:
        return result
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    difference = _write(path, graph, network, metadata, card, web)
    return dataclasses.replace(result, difference=difference, size=path.stat().st_size)


def output_file(out: Path | None, name: str, to: str, force: bool) -> Path:
    """The file to write. Raises OSError if it exists (without `force`) or cannot be written."""
    suffix = SUFFIXES[to]
    if out is None:
        return numbered_folder(Path("exports"), name) / f"{name}{suffix}"
    path = out if out.suffix.lower() == suffix else out / f"{name}{suffix}"
    if out.suffix.lower() in {*SUFFIXES.values()} - {suffix}:
        raise ValueError(f"--out {out}: --to {to} writes a {suffix} file; choose that suffix or a folder")
    parent = next(one for one in path.absolute().parents if one.exists())
    if not parent.is_dir():
        raise NotADirectoryError(f"--out {path}: {parent} is a file, not a folder; choose another folder")
    if not os.access(parent, os.W_OK):
        raise PermissionError(f"--out {path}: not writable; choose another folder")
    if path.is_dir():
        raise FileExistsError(f"--out {path}: is a folder; choose another name")
    if path.exists() and not force:
        raise FileExistsError(f"--out {path}: already exists; add --force to replace it, or choose another name")
    if path.exists() and not _is_export(path):
        raise FileExistsError(
            f"--out {path}: was not written by kyara export, so it is not replaced; choose another name"
        )
    return path


def _is_export(path: Path) -> bool:
    """Whether `kyara export` can have written the file."""
    with path.open("rb") as file:
        overlap = b""
        while block := file.read(2**20):
            if MARKS[path.suffix.lower()].search(overlap + block):
                return True
            overlap = block[-64:]  # longer than any of them
    return False


def _load(name: str, to: str) -> tuple[Model, Graph, Card, dict[str, str]]:
    """The model, its graph, its card and the metadata. Raises ValueError if it cannot be exported."""
    from kyara import models
    from kyara.generation.exporting.card import read_card
    from kyara.generation.exporting.convert import check_packages
    from kyara.generation.exporting.graphs import graph

    check_packages()
    model = models.load(name).requires_grad_(False)
    found, card = graph(model), read_card(model.checkpoint)
    if found is None:
        kinds = "generators, translators, taggers, rankers, detectors and descriptors can"
        raise ValueError(f"{name}: {model.checkpoint.model} models cannot be exported; {kinds}")
    if to == "page" and found.kind != "generator":
        raise ValueError(f"{name}: is a {found.kind}; only generators have a page. Use --to onnx")
    return model, found, card, _metadata(name, model, found, card)


def _metadata(name: str, model: Model, graph: Graph, card: Card) -> dict[str, str]:
    """The metadata of the ONNX file. Everything that is not text is JSON."""
    from kyara.generation.exporting.graphs import picture_size

    data, (height, width) = model.config.data, picture_size(model)
    return {
        "kyara": __version__,
        "kind": graph.kind,
        "model": short_name(name),
        "architecture": model.checkpoint.model,
        "checkpoint": model.checkpoint.hash,
        "made_by": f"kyara export {short_name(name)}, Kyara {__version__}",
        "pictures": json.dumps({"width": width, "height": height, "channels": "RGB", "range": [-1, 1]}),
        "attributes": json.dumps({attribute: list(values) for attribute, values in data.attributes.items()}),
        "license": card.license,
        "rights": "\n".join(card.rights),
        "card": card.text,
    }


def _write(
    path: Path, graph: Graph, model: Model, metadata: Mapping[str, str], card: Card, runtime: Runtime | None
) -> float:
    """Writes the ONNX file, or with a runtime the page. Returns the largest difference to PyTorch."""
    from kyara.generation.exporting import convert

    if runtime is None:
        return convert.write_onnx(path, graph, metadata)
    from kyara.generation.exporting.page import write_page

    return write_page(path, graph, model, metadata, card, runtime)
