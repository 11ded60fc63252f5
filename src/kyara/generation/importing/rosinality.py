"""The layout of rosinality's stylegan2-pytorch, used by most editing tools: state dicts. Hyperparameters that cannot be
derived from them are the same in all its networks."""

from __future__ import annotations

import math
from typing import Any

from kyara.files.names import common_folder
from kyara.generation.importing.layout import Layout, Names, Network, config_of, named, pair, shape_of
from kyara.generation.importing.values import ForeignError
from kyara.models.stylegan2 import Config


def network(label: str, value: Any) -> Network:
    """A network's tensors by name, without a prefix of all names: `module.` of torch.nn.DataParallel, `_orig_mod.` of
    torch.compile, or the attribute of a module that contains the network."""
    if not isinstance(value, dict):
        raise ForeignError(f"{label} is not a state dict")
    tensors = named(label, value)
    common = common_folder(name.split(".")[:-1] for name in tensors)
    prefix = "".join(f"{part}." for part in common)
    return Network(label, {name.removeprefix(prefix): tensor for name, tensor in tensors.items()})


def config(generator: Network, discriminator: Network | None) -> Config:
    """Our Config of a generator."""
    layers = sum(f"style.{i}.weight" in generator.tensors for i in range(1, 65))
    doublings = sum(f"convs.{2 * i + 1}.conv.weight" in generator.tensors for i in range(32))
    convs = ["conv1.conv.weight"] + [f"convs.{2 * i + 1}.conv.weight" for i in range(doublings)]
    channels = [shape_of(generator, conv, 5)[1] for conv in convs]
    return config_of(generator, channels, "style.1.weight", layers, mapping_lr_multiplier=0.01, mbstd_group_size=4)


def generator_names(config: Config) -> Names:
    """Our names of the generator's tensors, and rosinality's."""
    yield "g_ema.mapping.w_average", "latent_avg"
    yield "g_ema.synthesis.constant", "input.input"
    for i in range(config.network.mapping_layers):
        yield from pair(f"g_ema.mapping.layers.{i}", f"style.{i + 1}")
    for level in range(config.levels + 1):
        ours = f"g_ema.synthesis.blocks.{level}"
        convs = [("conv0", f"convs.{2 * level - 2}"), ("conv1", f"convs.{2 * level - 1}" if level else "conv1")]
        convs = convs[level == 0 :]
        for i, (here, there) in enumerate(convs):
            yield f"{ours}.{here}.noise", f"noises.noise_{max(2 * level - 1, 0) + i}"
            yield f"{ours}.{here}.noise_strength", f"{there}.noise.weight"
            yield f"{ours}.{here}.bias", f"{there}.activate.bias"
        rgb = f"to_rgbs.{level - 1}" if level else "to_rgb1"
        yield f"{ours}.to_rgb.bias", f"{rgb}.bias"
        for here, there in [*convs, ("to_rgb", rgb)]:
            yield f"{ours}.{here}.conv.weight", f"{there}.conv.weight"
            yield from pair(f"{ours}.{here}.affine", f"{there}.conv.modulation")


def discriminator_names(config: Config) -> Names:
    """Our names of the discriminator's tensors, and rosinality's."""
    yield from _conv("d.from_rgb", "convs.0")
    for level in range(1, config.levels + 1):
        ours, theirs = f"d.blocks.{level - 1}", f"convs.{config.levels - level + 1}"
        yield from _conv(f"{ours}.conv0", f"{theirs}.conv1")
        yield from _conv(f"{ours}.conv1", f"{theirs}.conv2", 1)
        yield f"{ours}.skip.weight", f"{theirs}.skip.1.weight"
    yield from _conv("d.conv", "final_conv")
    yield from pair("d.hidden", "final_linear.0")
    yield from pair("d.output", "final_linear.1")


def _conv(ours: str, theirs: str, step: int = 0) -> Names:
    """A convolution and its bias are two modules of a Sequential, after a blur if it downsamples."""
    yield f"{ours}.weight", f"{theirs}.{step}.weight"
    yield f"{ours}.bias", f"{theirs}.{step + 1}.bias"


LAYOUT = Layout(
    program="rosinality", keys=("g_ema", "d"), extra=("latent_avg",), network=network, config=config,
    generator=generator_names, discriminator=discriminator_names, filter_gain=4.0, limit=lambda _: math.inf,
)  # fmt: skip
