"""Styles as latents: their encoding in recipes, relabelling, and blending of generators."""

from __future__ import annotations

import base64
import binascii
import copy
import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from kyara import models
from kyara.models.base import StyledGenerator


def load_styled(name: str, device: torch.device) -> StyledGenerator:
    """The generator of a Checkpoint. Raises ValueError if it is not style-based."""
    model = models.load(name, device)
    if not isinstance(model, StyledGenerator):
        raise ValueError(f"{name}: not a style-based generator; builtin:anime is one")
    return model


def pack(ws: Tensor) -> str:
    """Encodes styles (layers, w_dim) for a recipe: float32, little-endian, base64."""
    return base64.b64encode(ws.detach().cpu().numpy().astype("<f4").tobytes()).decode("ascii")


def unpack(text: str, generator: StyledGenerator) -> Tensor:
    """The inverse of `pack`: (layers, w_dim). Raises ValueError unless the styles are finite and fit the generator."""
    shape = generator.mean_w(1).shape[1:]
    try:
        values = np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float32)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"the latent in the recipe cannot be read ({error})") from error
    if values.size != shape.numel() or not np.isfinite(values).all():
        wanted = " x ".join(map(str, shape))
        found = f"{values.size} numbers" if values.size != shape.numel() else "numbers that are not finite"
        raise ValueError(f"the latent in the recipe has {found}; the model needs {wanted} finite numbers")
    return torch.from_numpy(values.copy()).view(shape).to(next(generator.parameters()).device)


@torch.inference_mode()
def relabel(generator: StyledGenerator, ws: Tensor, labels: Mapping[str, int]) -> Tensor:
    """Changes the labels of styles (B, layers, w_dim). The current label of an attribute is assumed to be the one with
    the nearest mean style; the difference between the means of the new and the current label is added."""
    moved = ws.clone()
    for name, wanted in labels.items():
        values = torch.arange(len(generator.config.data.attributes[name]), device=ws.device)
        means = generator.mean_w(len(values), {name: values})  # (V, layers, w_dim)
        now = torch.cdist(ws.flatten(1), means.flatten(1)).argmin(1)
        moved += means[wanted] - means[now]
    return moved


def blend(parent: StyledGenerator, child: StyledGenerator, position: float, width: float = 0.0) -> StyledGenerator:
    """Interpolates the weights of two generators of the same shape, layer by layer: the child's weight in layer i is
    logistic((i + 0.5 - position) / width); with width 0, layers before `position` are the parent's and the others the
    child's. Layers are convolutions, counted from the coarsest (0, with the learned constant); a block's ToRGB layer
    belongs to its second convolution. Raises ValueError if the shapes differ."""
    mixed = copy.deepcopy(child)
    of_parent, of_child = parent.layers()["g"], mixed.layers()["g"]
    for i, (old, new) in enumerate(zip(of_parent, of_child, strict=True)):
        share = _logistic((i + 0.5 - position) / width) if width else float(i >= position)
        for a, b in zip(old, new, strict=True):
            if a.shape != b.shape:
                raise ValueError("the two generators differ in shape; train the child with --init PARENT")
            b.data.lerp_(a.data, 1 - share)
    for source, average in mixed.averages.items():
        mixed.get_submodule(average).load_state_dict(mixed.get_submodule(source).state_dict())
    return mixed


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-max(min(x, 60.0), -60.0)))
