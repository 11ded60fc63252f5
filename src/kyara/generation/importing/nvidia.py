"""NVIDIA's layout (stylegan2-ada-pytorch, and StyleGAN2 of the stylegan3 repository): pickled modules. The source code
of the modules in the file is not executed; instead, their attributes must match those of the known network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from kyara.generation.importing import layout
from kyara.generation.importing.layout import LONGEST, SUPPORTED, Layout, Names, Network, named, pair, shown
from kyara.generation.importing.values import ForeignError, ForeignObject
from kyara.models.stylegan2 import Config
from kyara.nn.layers import ACTIVATION

MOST_PARTS = 1000  # Maximum number of modules of a network. A network for 1024 pixels has 80.
LEAST_CLAMP = 256
"""Networks trained in half precision clamp activations to this range, ten times the usual maximum (Karras et al. 2020,
"Training generative adversarial networks with limited data", on mixed precision). Kyara does not clamp: networks with a
narrower range are rejected, and conversion checks whether activations reach this one."""
CLASSES: dict[str, dict[str, Any]] = {  # Class name -> required values of attributes
    "Generator": {"c_dim": 0, "img_channels": 3},
    "MappingNetwork": {"c_dim": 0},
    "SynthesisNetwork": {"img_channels": 3},
    "SynthesisBlock": {"architecture": "skip"},
    "SynthesisLayer": {"activation": "lrelu", "act_gain": ACTIVATION, "use_noise": True, "padding": 1},
    "ToRGBLayer": {},
    "FullyConnectedLayer": {},
    "Conv2dLayer": {"up": 1},
    "Discriminator": {"c_dim": 0, "img_channels": 3},
    "DiscriminatorBlock": {"architecture": "resnet"},
    "DiscriminatorEpilogue": {"architecture": "resnet", "cmap_dim": 0},
    "MinibatchStdLayer": {"num_channels": 1},
}


def network(label: str, value: Any) -> Network:
    """The modules of a pickled network, and their tensors, by name."""
    found = Network(label, {})
    waiting = [("", value)]
    while waiting:
        path, module = waiting.pop()
        modules, *tensors = _contents(f"{label}.{path}", module)
        found.modules[path] = module
        prefix = f"{path}." if path else ""
        waiting += [(f"{prefix}{name}", inner) for name, inner in modules.items()]
        for part in tensors:
            found.tensors |= {f"{prefix}{name}": tensor for name, tensor in named(f"{label}.{path}", part).items()}
        if len(found.modules) + len(waiting) > MOST_PARTS or path.count(".") > 8:
            raise ForeignError(f"{label} has more modules than any StyleGAN2")
    return found


def _contents(where: str, module: Any) -> list[dict[str, Any]]:
    """The modules, parameters and buffers of a module, without those that are None."""
    state = module.state if isinstance(module, ForeignObject) else None
    if not isinstance(state, dict):
        raise ForeignError(f"{where} is not a module")
    if module.name not in CLASSES:
        hint = "; StyleGAN3 is not supported" if module.name == "SynthesisInput" else ""
        raise ForeignError(f"{where} has the unknown type {shown(module.name)}{hint}; {SUPPORTED}")
    found = []
    for part in (state.get("_modules"), state.get("_parameters"), state.get("_buffers")):
        if not isinstance(part, dict) or len(part) > MOST_PARTS:
            raise ForeignError(f"{where} is not a module")
        if not all(isinstance(name, str) and len(name) <= LONGEST for name in part):
            raise ForeignError(f"{where} has children with invalid names")
        found.append({name: value for name, value in part.items() if value is not None})
    return found


def config(generator: Network, discriminator: Network | None) -> Config:
    """Our Config of a generator and its discriminator. Raises ForeignError for an attribute that would change the
    pictures."""
    first, mapping = generator.modules.get("mapping.fc0"), generator.modules.get("mapping")
    lr = first.state.get("bias_gain") if first else None
    more: dict[str, Any] = {"mapping_lr_multiplier": lr if isinstance(lr, float) and lr > 0 else 1.0}
    _check(generator, "Generator", more["mapping_lr_multiplier"])
    decay = mapping.state.get("w_avg_beta") if mapping else None
    if isinstance(decay, float) and 0 <= decay <= 1:
        more["w_avg_beta"] = decay
    if discriminator is not None:
        _check(discriminator, "Discriminator")
        deviation = discriminator.modules.get("b4.mbstd")
        group = deviation.state.get("group_size") if deviation else None
        if type(group) is not int or group < 1:
            raise ForeignError(f"{discriminator.label}.b4.mbstd has no fixed group_size; {SUPPORTED}")
        more["mbstd_group_size"] = group
    layers = sum(name.startswith("mapping.fc") for name in generator.modules)
    sizes = sum(name.startswith("synthesis.b") and name.count(".") == 1 for name in generator.modules)
    channels = [layout.shape_of(generator, f"synthesis.b{4 << i}.conv1.weight", 4)[0] for i in range(min(sizes, 32))]
    return layout.config_of(generator, channels, "mapping.fc0.weight", layers, **more)


def _check(network: Network, kind: str, mapping_lr: float = 1.0) -> None:
    if network.modules[""].name != kind:
        raise ForeignError(f"{network.label} is a {network.modules[''].name}, not a {kind}")
    for path, module in sorted(network.modules.items()):
        where = f"{network.label}.{path}".rstrip(".")
        for attribute, value in _expected(network, path, mapping_lr):
            found = module.state.get(attribute)
            if not _same(found, value):
                raise ForeignError(f"{where} has {attribute} {shown(found)}, expected {value}; {SUPPORTED}")
        clamp = module.state.get("conv_clamp")
        if clamp is not None and not (isinstance(clamp, int | float) and LEAST_CLAMP <= clamp < 1 << 32):
            raise ForeignError(f"{where} has conv_clamp {shown(clamp)}, expected {LEAST_CLAMP} or more")


def _expected(network: Network, path: str, mapping_lr: float) -> Iterator[tuple[str, Any]]:
    """The attributes of a module, and their required values."""
    name, leaf = network.modules[path].name, path.rpartition(".")[2]
    yield from CLASSES[name].items()
    linear = leaf in ("affine", "out", "skip")
    if name in ("FullyConnectedLayer", "Conv2dLayer"):
        yield "activation", "linear" if linear else "lrelu"
    if name == "SynthesisLayer":
        yield "up", 2 if leaf == "conv0" else 1
    if name == "Conv2dLayer":
        yield "act_gain", 1.0 if linear else ACTIVATION
        yield "down", 2 if leaf in ("conv1", "skip") else 1
        yield "padding", 0 if leaf in ("skip", "fromrgb") else 1
    if name in ("FullyConnectedLayer", "Conv2dLayer", "ToRGBLayer"):
        lr = mapping_lr if path.startswith("mapping.") else 1.0
        weight = network.tensors.get(f"{path}.weight")
        yield "weight_gain", lr / math.sqrt(math.prod(weight.shape[1:])) if weight else "that of its weight"
        if name == "FullyConnectedLayer":
            yield "bias_gain", lr


def _same(found: Any, value: Any) -> bool:
    if isinstance(value, float):
        number = isinstance(found, float) or (isinstance(found, int) and abs(found) < 1 << 32)
        return number and math.isclose(found, value, rel_tol=1e-5)
    return type(found) is type(value) and bool(found == value)


def limit(network: Network) -> float:
    """The range to which a checked network clamps activations."""
    clamps = [module.state.get("conv_clamp") for module in network.modules.values()]
    return min((float(clamp) for clamp in clamps if clamp is not None), default=math.inf)


def generator_names(config: Config) -> Names:
    """Our names of the generator's tensors, and NVIDIA's."""
    yield "g_ema.mapping.w_average", "mapping.w_avg"
    yield "g_ema.synthesis.constant", "synthesis.b4.const"
    for i in range(config.network.mapping_layers):
        yield from pair(f"g_ema.mapping.layers.{i}", f"mapping.fc{i}")
    for level in range(config.levels + 1):
        ours, theirs = f"g_ema.synthesis.blocks.{level}", f"synthesis.b{4 << level}"
        for conv in ("conv0", "conv1")[level == 0 :]:
            yield f"{ours}.{conv}.noise", f"{theirs}.{conv}.noise_const"
            yield f"{ours}.{conv}.noise_strength", f"{theirs}.{conv}.noise_strength"
        for here, there in (("conv0", "conv0"), ("conv1", "conv1"), ("to_rgb", "torgb"))[level == 0 :]:
            yield f"{ours}.{here}.conv.weight", f"{theirs}.{there}.weight"
            yield f"{ours}.{here}.bias", f"{theirs}.{there}.bias"
            yield from pair(f"{ours}.{here}.affine", f"{theirs}.{there}.affine")


def discriminator_names(config: Config) -> Names:
    """Our names of the discriminator's tensors, and NVIDIA's."""
    yield from pair("d.from_rgb", f"b{4 << config.levels}.fromrgb")
    for level in range(1, config.levels + 1):
        ours, theirs = f"d.blocks.{level - 1}", f"b{4 << level}"
        yield from pair(f"{ours}.conv0", f"{theirs}.conv0")
        yield from pair(f"{ours}.conv1", f"{theirs}.conv1")
        yield f"{ours}.skip.weight", f"{theirs}.skip.weight"
    for here, there in (("conv", "conv"), ("hidden", "fc"), ("output", "out")):
        yield from pair(f"d.{here}", f"b4.{there}")


LAYOUT = Layout(
    program="NVIDIA", keys=("G_ema", "D"), extra=(), network=network, config=config,
    generator=generator_names, discriminator=discriminator_names, filter_gain=1.0, limit=limit,
)  # fmt: skip
