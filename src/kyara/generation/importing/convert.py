"""Converts the StyleGAN2 of another program to Kyara's, tensor by tensor.

All implement the network of the paper and store the weights before equalised learning rate scaling, so the values are
copied. NVIDIA demodulates before that scaling instead of after it, which only changes the effect of the epsilon 1e-8,
by less than the precision of float32."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from kyara.generation.importing import nvidia, rosinality
from kyara.generation.importing.layout import SUPPORTED, Layout, Network, listed, named, shown
from kyara.generation.importing.values import ForeignError, LazyTensor
from kyara.models import stored
from kyara.models.base import latents
from kyara.models.stylegan2 import Config, Discriminator, GeneratorNet, MappingNet, Model, StyledConv, ToRGB
from kyara.nn.filters import BINOMIAL

LAYOUTS = (nvidia.LAYOUT, rosinality.LAYOUT)
STYLES = 4096  # Number of latents from which the mean style is computed if the file does not contain it
LOOKED_AT = 4  # Number of pictures over which the largest activation is computed
MEAN_STYLE = "g_ema.mapping.w_average"
NOISE = ".noise"  # Suffix of our names of the constant noise maps
FILTERS = (".resample_filter", ".kernel")  # Suffixes of the resampling filters, which are a constant in Kyara


@dataclasses.dataclass
class Converted:
    """The contents of the new Checkpoint."""

    program: str  # The program that wrote the file
    config: Config
    weights: dict[str, Tensor]
    notes: list[str]  # What was left out, and what was not in the file


def convert(value: Any, size: int, *, generator_only: bool = False) -> Converted:
    """Converts the value in a file of `size` bytes; its tensors must still be loadable. Raises ForeignError for
    missing, unexpected or unsupported parts."""
    layout = _layout(value)
    generator = layout.network(layout.keys[0], value[layout.keys[0]])
    generator.tensors |= named("the file", {key: value[key] for key in layout.extra if value.get(key) is not None})
    discriminator = None
    if value.get(layout.keys[1]) is not None and not generator_only:
        discriminator = layout.network(layout.keys[1], value[layout.keys[1]])
    config = layout.config(generator, discriminator)

    tensors = [*generator.tensors.values(), *(discriminator.tensors.values() if discriminator else ())]
    if sum(tensor.nbytes for tensor in tensors) > size:
        raise ForeignError("damaged: its tensors declare more data than the file contains")
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in stored(Model(config)).items()}
    names = list(layout.generator(config))
    optional = {MEAN_STYLE: [MEAN_STYLE], NOISE: [ours for ours, _ in names if ours.endswith(NOISE)]}
    known = {ours for ours, theirs in names if theirs in generator.tensors}
    absent = {ours for several in optional.values() if not known & {*several} for ours in several}
    plan = _matched((pair for pair in names if pair[0] not in absent), generator, shapes, layout.filter_gain)
    if discriminator is not None:
        plan |= _matched(layout.discriminator(config), discriminator, shapes, 1.0)
    weights = {name: _load(name, tensor, shapes[name]) for name, tensor in plan.items()}
    weights["path_average"] = torch.zeros(())

    notes = []
    if noise := {name: shapes[name] for name in sorted(absent) if name.endswith(NOISE)}:
        weights |= _drawn(noise)
        notes.append("the constant noise maps are not in the file: drawn anew, so details differ")
    if MEAN_STYLE not in weights:
        weights[MEAN_STYLE] = mean_style(config, weights)
        notes.append(f"the mean style, which truncation needs, is not in the file: computed from {STYLES:,} latents")
    limit = layout.limit(generator)
    if limit < math.inf and (largest := largest_activation(config, weights)) >= limit:
        notes.append(f"activations reach {largest:.0f} and are not clamped to {limit:g}: pictures may differ")
    if discriminator is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same file gives the same Checkpoint
            weights |= {f"d.{name}": tensor for name, tensor in Discriminator(config).state_dict().items()}
        notes.append("the discriminator is newly initialised")
    used = {layout.keys[0], *layout.extra, *([layout.keys[1]] if discriminator else [])}
    if left := [key for key in value if key not in used]:
        notes.append(f"left out: {listed(left)}")
    return Converted(layout.program, config, weights, notes)


def _drawn(shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Noise maps of these shapes, the same for every file."""
    random = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}


def _layout(value: Any) -> Layout:
    """The layout of the file, recognised by the name of the EMA generator."""
    if not isinstance(value, dict):
        raise ForeignError(
            f"contains {shown(value)}, not the dict of networks that NVIDIA's and rosinality's programs write"
        )
    for layout in LAYOUTS:
        if layout.keys[0] in value:
            return layout
    raise ForeignError(f"contains neither G_ema (NVIDIA) nor g_ema (rosinality), but {listed(value)}")


def _matched(
    names: Iterable[tuple[str, str]], network: Network, shapes: Mapping[str, torch.Size], gain: float
) -> dict[str, LazyTensor]:
    """Our name -> their tensor. Raises ForeignError for a missing or unexpected tensor or a wrong shape; dimensions of
    size 1 are ignored."""
    plan, left = {}, dict(network.tensors)
    for ours, theirs in names:
        tensor = left.pop(theirs, None)
        if tensor is None:
            raise ForeignError(f"{network.label}.{theirs} is missing; {SUPPORTED}")
        if [n for n in tensor.shape if n != 1] != [n for n in shapes[ours] if n != 1]:
            there, here = (" x ".join(map(str, shape)) or "1" for shape in (tensor.shape, shapes[ours]))
            raise ForeignError(f"{network.label}.{theirs} has shape {there}, expected {here}; {SUPPORTED}")
        plan[ours] = tensor
    row = torch.tensor(BINOMIAL)
    expected = torch.outer(row, row) * (gain / row.sum() ** 2)
    for theirs, tensor in left.items():
        if not theirs.endswith(FILTERS):
            raise ForeignError(f"{network.label}.{shown(theirs)} is unexpected; {SUPPORTED}")
        if tensor.shape != (4, 4) or not torch.allclose(tensor.load().float(), expected, atol=1e-6):
            raise ForeignError(f"{network.label}.{shown(theirs)} is not the filter [1, 3, 3, 1]; {SUPPORTED}")
    return plan


def _load(name: str, tensor: LazyTensor, shape: torch.Size) -> Tensor:
    loaded = tensor.load().reshape(shape)
    if not loaded.is_floating_point() or not loaded.isfinite().all():
        raise ForeignError(f"damaged: the tensor of {name} has values that are not finite")
    return loaded


@torch.no_grad()
def mean_style(config: Config, weights: Mapping[str, Tensor]) -> Tensor:
    """The mean w (w_dim,) of the mapping network in `weights`."""
    mapping, prefix = MappingNet(config), "g_ema.mapping.layers."
    mapping.layers.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
    return mapping(latents(range(STYLES), config.network.z_dim), torch.empty(STYLES, 0, dtype=torch.int64)).mean(0)


@torch.no_grad()
def largest_activation(config: Config, weights: Mapping[str, Tensor]) -> float:
    """The largest absolute convolution output of the generator in `weights`, over a few pictures."""
    generator, largest = GeneratorNet(config).eval(), [0.0]
    generator.load_state_dict({k.removeprefix("g_ema."): v for k, v in weights.items() if k.startswith("g_ema.")})
    for module in generator.modules():
        if isinstance(module, StyledConv | ToRGB):
            module.register_forward_hook(lambda _, __, x: largest.append(float(x.abs().max())))
    ws = generator.mapped(latents(range(LOOKED_AT), config.network.z_dim), torch.empty(LOOKED_AT, 0, dtype=torch.int64))
    generator.synthesis(ws, noise=False)
    return max(largest)
