"""The styles of `kyara translate`: random ones, those of drawings, and interpolated ones."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from kyara.files.dataset import open_dataset
from kyara.files.formats import SUFFIXES
from kyara.files.pictures import center_crop, decode, to_float
from kyara.models.base import StyledTranslator, latents


def choose_styles(
    network: StyledTranslator, styles: int | None, style: Path | None, between: int | None, seed: int
) -> list[tuple[str, Callable[[Tensor], Tensor]]]:
    """(name of the style, `network.translate` with that style) for each style. Raises ValueError if `between` is given
    with fewer than two styles."""
    found = list(_random(network, styles, seed) if style is None else _of_drawings(network, style))
    if between:
        if len(found) < 2:
            raise ValueError(f"--between {between}: needs two or more styles: --styles N, or a folder as --style")
        found = list(_interpolated(found, between))
    return [(name, functools.partial(network.translate, styles=code)) for name, code in found]


def _random(network: StyledTranslator, count: int | None, seed: int) -> Iterator[tuple[str, Tensor]]:
    """(name, style (1, S)) of `count` seeds; the default style if `count` is None."""
    device = next(network.parameters()).device
    if count is None:
        yield "", torch.zeros(1, network.style_dim, device=device)
    for i in range(seed, seed + (count or 0)):
        yield f"{i}", latents([i], network.style_dim).to(device)


def _of_drawings(network: StyledTranslator, path: Path) -> Iterator[tuple[str, Tensor]]:
    """(name, style (1, S)) of the drawing at `path`, or of each drawing in a folder."""
    device = next(network.parameters()).device
    size = network.config.data.width, network.config.data.height  # of the training data
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        drawings = iter([(path.name, decode(path))])
    else:
        dataset = open_dataset(path)
        drawings = ((name, dataset.picture(i)) for i, name in enumerate(dataset.names))
    for name, drawing in drawings:
        with torch.inference_mode():
            yield name, network.style_of(to_float(center_crop(drawing, *size)[None]).to(device))


def _interpolated(found: list[tuple[str, Tensor]], count: int) -> Iterator[tuple[str, Tensor]]:
    """`found`, with `count` interpolated styles between consecutive ones."""
    for (a, first), (b, second) in itertools.pairwise(found):
        yield a, first
        for i in range(1, count + 1):
            yield f"{a} to {b}, {i}/{count + 1}", torch.lerp(first, second, i / (count + 1))
    yield found[-1]
