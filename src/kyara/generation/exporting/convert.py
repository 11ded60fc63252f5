"""From a model to an ONNX file that is checked against it."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kyara.files.atomic import write_atomic
from kyara.files.extras import install_hint
from kyara.generation.exporting.graphs import Graph
from kyara.labels.onnx import open_session

OPSET = 20
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
BATCHES = (1, 2, 5)  # the batch sizes of the check
TRACED = 3  # the batch size of the inputs that the graph is traced with: none of a network's own sizes
TOLERANCE = 1e-3  # largest accepted difference of an output to PyTorch's


def check_packages() -> None:
    """Raises ValueError if a package of the extra `onnx` is missing."""
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise ValueError(f"kyara export: needs {', '.join(missing)}; {install_hint('onnx')}")


@torch.no_grad()
def write_onnx(path: Path, graph: Graph, metadata: Mapping[str, str]) -> float:
    """Writes the file `path`. Returns the largest difference to PyTorch. Raises ValueError, and writes nothing, if the
    graph cannot be traced or differs by more than TOLERANCE. The model is unchanged afterwards."""
    found: list[float] = []

    def write(temporary: Path) -> None:
        temporary.write_bytes(_serialised(graph, metadata))
        found.append(largest_difference(temporary, graph))

    write_atomic(path, write)
    return found[0]


def _serialised(graph: Graph, metadata: Mapping[str, str]) -> bytes:
    """The bytes of an ONNX file, without the paths and lines of the source that PyTorch writes into it."""
    import onnx

    model = _program(graph).model_proto
    model.producer_name, model.producer_version = "kyara", metadata["kyara"]
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    model.graph.ClearField("metadata_props")
    model.graph.ClearField("value_info")
    model.ClearField("metadata_props")
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _program(graph: Graph) -> Any:
    """PyTorch's ONNXProgram of a graph, with any batch size."""
    inputs = graph.example(TRACED)
    batch = torch.export.Dim("batch")
    shapes = tuple({0: batch} if tensor.ndim else None for tensor in inputs.values())
    network, arguments = _Flat(graph.network), (*inputs.values(),)
    try:
        with _quiet():
            # Traced here, since torch.onnx.export would fix the batch size without a word if it found that easier.
            program = torch.export.export(network, arguments, dynamic_shapes=(shapes,), strict=False)
            return torch.onnx.export(
                program, dynamo=True, external_data=False, opset_version=OPSET, verbose=False,
                input_names=[*inputs], output_names=[*graph.outputs],
            )  # fmt: skip
    except Exception as error:  # its exceptions have no common base class
        raise ValueError(f"the {graph.kind} cannot be converted to ONNX: {error}; please report this model") from error


class _Flat(nn.Module):
    """A network with one signature for all, `*inputs`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.network(*inputs)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides what the exporter says about packages and functions of its own."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@torch.no_grad()
def largest_difference(path: Path, graph: Graph) -> float:
    """The largest difference between onnxruntime and PyTorch on random inputs of several batch sizes. Raises ValueError
    if it is more than TOLERANCE, or if a batch size fails."""
    session, largest = open_session(path, torch.device("cpu")), 0.0
    for batch in BATCHES:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(batch)
            inputs = graph.example(batch)
        try:
            made = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        except Exception as error:  # its exceptions have no common base class
            raise ValueError(f"the exported graph fails with a batch of {batch}: {error}") from error
        for name, found, tensor in zip(graph.outputs, made, graph.network(*inputs.values()), strict=True):
            expected = tensor.numpy()
            apart = float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")
            if not apart <= TOLERANCE:
                raise ValueError(
                    f"the exported graph differs from PyTorch by {apart:.2g} in {name} with a batch of {batch}, more "
                    f"than {TOLERANCE:g}; nothing was written. Please report this model"
                )
            largest = max(largest, apart)
    return largest
