"""Learned corruptions: a generator is disturbed from inside, and its pictures break as those of a generator do.

Sawada et al. name the limit of parametric distortions: they do not look like a generator's errors (section 4.3). Here
feature maps of a trained generator are changed at a random layer: units (Bau et al. 2019, "GAN dissection") are removed
or amplified, regions are exchanged between pictures, moved, mirrored or made noisy. Nothing is known about the
generator that will be judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kyara.nn.activations import SampleFn, replace_output

SMALLEST = 8  # side of the coarsest feature maps that are disturbed: below it, another face results, not a broken one
NARROWEST = 8  # minimum number of channels


def break_pictures(model: nn.Module, sample_fn: SampleFn) -> tuple[Tensor, Tensor]:
    """The pictures (B, 3, H, W) of a generator, and the same ones with one random layer disturbed."""
    layers, whole = feature_layers(model, sample_fn)
    with replace_output(model, layers[int(torch.randint(len(layers), ()))], disturb):
        return whole, sample_fn()


def feature_layers(model: nn.Module, sample_fn: SampleFn) -> tuple[list[str], Tensor]:
    """Names of the modules that output a feature map (B, C, h, w), once a picture, of at least SMALLEST pixels and
    NARROWEST channels, in order of execution; and the pictures. RuntimeError if there is none."""
    shapes: dict[str, list[torch.Size]] = {}

    def record(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                shapes.setdefault(name, []).append(output.shape)

        return hook

    handles = [module.register_forward_hook(record(name)) for name, module in model.named_modules() if name]
    try:
        pictures = sample_fn()
    finally:
        for handle in handles:
            handle.remove()
    once = {name: found[0] for name, found in shapes.items() if len(found) == 1}
    names = [name for name, size in once.items() if min(size[2:]) >= SMALLEST and size[1] >= NARROWEST]
    if not names:
        raise RuntimeError(f"{type(model).__module__}: no feature maps of {SMALLEST} pixels that can be disturbed")
    return names, pictures


def disturb(x: Tensor) -> Tensor:
    """Feature maps (B, C, h, w) with a disturbance of one random kind, in a random region of each. Uses torch's global
    generator."""
    where = regions(len(x), x.shape[2], x.shape[3], x.device).to(x.dtype)
    other = KINDS[int(torch.randint(len(KINDS), ()))](x)
    return torch.lerp(x, other, where)


def regions(count: int, height: int, width: int, device: torch.device) -> Tensor:
    """Smooth masks (count, 1, height, width) in [0, 1] of random regions, a fifth of them the whole picture."""
    coarse = torch.randn(count, 1, 4, 4, device=device)
    field = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    level = 1.6 * torch.rand(count, 1, 1, 1, device=device) - 0.4
    everywhere = torch.rand(count, 1, 1, 1, device=device) < 0.2
    return (8 * (field - level)).sigmoid().masked_fill(everywhere, 1.0)


def _between(x: Tensor, low: float, high: float) -> Tensor:
    """A random number for each of the maps, (B, 1, 1, 1)."""
    return low + (high - low) * torch.rand(len(x), 1, 1, 1, device=x.device, dtype=x.dtype)


def _units(x: Tensor, low: float, high: float) -> Tensor:
    """A random share, from `low` to `high`, of the channels of each of the maps: (B, C, 1, 1) bool."""
    return torch.rand(len(x), x.shape[1], 1, 1, device=x.device, dtype=x.dtype) < _between(x, low, high)


def exchanged(x: Tensor) -> Tensor:
    """The maps of another picture of the batch."""
    return x.roll(1, 0)


def removed(x: Tensor) -> Tensor:
    return x.masked_fill(_units(x, 0.2, 0.8), 0.0)


def amplified(x: Tensor) -> Tensor:
    return torch.where(_units(x, 0.05, 0.4), x * _between(x, -3.0, 5.0), x)


def noisy(x: Tensor) -> Tensor:
    deviation = x.float().std((2, 3), keepdim=True).to(x.dtype)
    return x + torch.randn_like(x) * deviation * _between(x, 0.5, 2.5)


def moved(x: Tensor) -> Tensor:
    """Shifted by up to an eighth of a side, but at least one position."""
    most = (max(side // 8, 1) for side in x.shape[2:])
    steps = [int(torch.randint(1, n + 1, ())) * (1 - 2 * int(torch.rand(()) < 0.5)) for n in most]
    return x.roll(steps, (2, 3))


def mirrored(x: Tensor) -> Tensor:
    return x.flip(2 + int(torch.rand(()) < 0.7))


KINDS: Sequence[Callable[[Tensor], Tensor]] = (exchanged, removed, amplified, noisy, moved, mirrored)
