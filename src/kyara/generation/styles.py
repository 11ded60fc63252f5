"""Pictures made from styles instead of seeds: what `kyara invert` finds, and what can be changed about it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from kyara.data.pictures import to_uint8
from kyara.models.base import StyledGenerator


def pack(ws: Tensor) -> str:
    """Styles (layers, w_dim) as a recipe holds them: float32, little-endian, base64."""
    return base64.b64encode(ws.detach().cpu().numpy().astype("<f4").tobytes()).decode("ascii")


def unpack(text: str, generator: StyledGenerator) -> Tensor:
    """The inverse of `pack`: (layers, w_dim). ValueError if it holds no finite styles of this generator's shape."""
    shape = generator.centre(1).shape[1:]
    try:
        values = np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float32)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"the latent in the recipe cannot be read ({error})") from error
    if values.size != shape.numel() or not np.isfinite(values).all():
        wanted = " x ".join(map(str, shape))
        raise ValueError(f"the latent in the recipe has {values.size} numbers, or odd ones; the model wants {wanted}")
    return torch.from_numpy(values.copy()).view(shape).to(next(generator.parameters()).device)


@torch.inference_mode()
def render_styles(generator: StyledGenerator, ws: Tensor) -> np.ndarray:
    """The pictures of styles ws (B, layers, w_dim), one at a time, so that none depends on those beside it:
    (B, H, W, 3) uint8."""
    return np.concatenate([to_uint8(generator.synthesise(one[None])) for one in ws])


@torch.inference_mode()
def relabel(generator: StyledGenerator, ws: Tensor, asked: Mapping[str, int]) -> Tensor:
    """Styles (B, layers, w_dim) that show the labels `asked` by attribute instead of what they show now, which is taken
    to be the value whose mean lies nearest. All else stays: each moves from the mean of one value to that of the
    other."""
    moved = ws.clone()
    for name, wanted in asked.items():
        values = torch.arange(len(generator.config.attributes[name]), device=ws.device)
        means = generator.centre(len(values), {name: values})  # (V, layers, w_dim)
        now = torch.cdist(ws.flatten(1), means.flatten(1)).argmin(1)
        moved += means[wanted] - means[now]
    return moved
