"""One exported generator for all tests: tracing it takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from small import small, written

from kyara import export, models
from kyara.generation.exporting.export import ExportResult
from kyara.models.base import Generator


class Exported(NamedTuple):
    """A Checkpoint, its generator, and the result of exporting it."""

    folder: Path
    generator: Generator
    result: ExportResult


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed (extra `onnx`)")
    folder = written(small(), tmp_path_factory.mktemp("exported") / "faces")
    result = export(str(folder), out=folder.parent)
    generator = models.load(folder)
    assert isinstance(generator, Generator)
    return Exported(folder, generator, result)
