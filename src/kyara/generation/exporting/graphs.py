"""What is exported of each kind of model: the inputs and outputs of its graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kyara.models.base import (
    Descriptor,
    Detector,
    Generator,
    LandmarkDetector,
    Model,
    Scorer,
    StyledGenerator,
    StyledTranslator,
    Tagger,
    Translator,
)
from kyara.nn.conditioning import UNKNOWN


class Graph(NamedTuple):
    """A network with tensors as inputs and outputs. Inputs have the batch as first dimension, if they have any."""

    kind: str
    network: nn.Module
    example: Callable[[int], dict[str, Tensor]]  # batch size -> inputs by name, in the order of the arguments
    outputs: tuple[str, ...]


class Generation(nn.Module):
    """z (B, z_dim), truncation (), and for a conditional generator labels (B, A) -> pictures (B, 3, H, W)."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, z: Tensor, truncation: Tensor, labels: Tensor | None = None) -> tuple[Tensor]:
        generator, names = self.generator, self.generator.config.data.attributes
        given = {} if labels is None else dict(zip(names, labels.unbind(1), strict=True))
        if not isinstance(generator, StyledGenerator):
            return (generator.sample(z, truncation=truncation, labels=given),)  # type: ignore[arg-type]
        ws, mean = generator.styles(z, given), generator.mean_w(z.shape[0], given)
        return (generator.synthesise(mean + truncation * (ws - mean)),)


class Perception(nn.Module):
    """Pictures (B, 3, H, W) in [-1, 1], and perhaps more -> the results of a method of a model."""

    def __init__(self, model: Model, function: Callable[..., tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.model, self.function = model, function

    def forward(self, pictures: Tensor, *more: Tensor) -> tuple[Tensor, ...]:
        return self.function(pictures, *more)


def picture_size(model: Model) -> tuple[int, int]:
    """Height and width of the pictures that a model takes or, if it is a generator, makes."""
    scale = model.scale if isinstance(model, Translator) else 1  # the data are of the size of its output
    return model.config.data.height // scale, model.config.data.width // scale


def graph(model: Model) -> Graph | None:
    """The graph of a model, in eval mode and on the CPU; None if models of its kind cannot be exported."""
    height, width = picture_size(model)

    def pictures(batch: int) -> dict[str, Tensor]:
        return {"pictures": torch.rand(batch, 3, height, width) * 2 - 1}

    def perceived(kind: str, function: Callable[..., tuple[Tensor, ...]], *outputs: str) -> Graph:
        return Graph(kind, Perception(model, function), pictures, outputs)

    if isinstance(model, Generator):
        return Graph("generator", Generation(model), lambda batch: _latents(model, batch), ("pictures",))
    if isinstance(model, StyledTranslator):
        styled = Perception(model, lambda pictures, styles: (model.translate(pictures, styles),))
        styles = lambda batch: {**pictures(batch), "styles": torch.randn(batch, model.style_dim)}  # noqa: E731
        return Graph("translator", styled, styles, ("translated",))
    if isinstance(model, Translator) and model.traceable:
        return perceived("translator", lambda pictures: (model.translate(pictures),), "translated")
    if isinstance(model, Tagger):
        names = (f"probabilities.{name}" for name in model.attributes)
        return perceived("tagger", lambda pictures: tuple(model.probabilities(pictures).values()), *names)
    if isinstance(model, Scorer):
        return perceived("ranker", lambda pictures: (model.scores(pictures),), "scores")
    if isinstance(model, LandmarkDetector):
        return perceived("landmark detector", lambda pictures: (model.find(pictures),), "points")
    if isinstance(model, Detector):
        return perceived("face detector", model.detect, "boxes", "scores", "points")
    if isinstance(model, Descriptor):
        return perceived("descriptor", lambda pictures: (model.embed(pictures),), "descriptors")
    return None


def _latents(generator: Generator, batch: int) -> dict[str, Tensor]:
    """Random inputs of a generator: every attribute has every label, and is unknown, about equally often."""
    sizes = [len(values) for values in generator.config.data.attributes.values()]
    columns = [torch.randint(UNKNOWN, size, (batch,)) for size in sizes]
    inputs = {"z": torch.randn(batch, generator.z_dim), "truncation": torch.rand(())}
    return {**inputs, "labels": torch.stack(columns, 1)} if columns else inputs
