"""Code shared by the layouts of other programs: networks as named tensors, and our Config from their shapes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from kyara.files.names import printable
from kyara.generation.importing.values import ForeignError, ForeignObject, LazyTensor
from kyara.models.stylegan2 import PRESETS, Config

SUPPORTED = "only StyleGAN2 with a skip generator and a residual discriminator, RGB, without class labels, is supported"
MOST_SIZES = 10  # Maximum number of resolutions of a network: up to 2048 pixels
LONGEST = 100  # Maximum length of a tensor's or module's name


@dataclasses.dataclass
class Network:
    """One network of a file."""

    label: str  # Its name in the file
    tensors: dict[str, LazyTensor]  # Its tensors by name
    modules: dict[str, ForeignObject] = dataclasses.field(default_factory=dict)  # By name, if the file contains them


Names = Iterator[tuple[str, str]]  # Our name of a tensor, and theirs


@dataclasses.dataclass(frozen=True)
class Layout:
    """How one program stores StyleGAN2."""

    program: str
    keys: tuple[str, str]  # Keys of the EMA generator and the discriminator
    extra: tuple[str, ...]  # Keys of generator tensors that are stored outside of the generator
    network: Callable[[str, Any], Network]  # (label, value under a key); raises ForeignError if it is not a network
    config: Callable[[Network, Network | None], Config]  # Of generator, discriminator; raises ForeignError likewise
    generator: Callable[[Config], Names]
    discriminator: Callable[[Config], Names]
    filter_gain: float  # Sum of the generator's filters
    limit: Callable[[Network], float]  # The absolute value to which it clamps activations; infinite if it does not


def named(label: str, tensors: Mapping[Any, Any]) -> dict[str, LazyTensor]:
    """Checks the keys and tensors of a dict. Raises ForeignError if a value is not a tensor."""
    for name, tensor in tensors.items():
        if not isinstance(name, str) or len(name) > LONGEST or not isinstance(tensor, LazyTensor):
            raise ForeignError(f"{label}.{shown(name)} is not a tensor")
    return dict(tensors)


def pair(ours: str, theirs: str) -> Names:
    """The names of a layer's weight and bias."""
    yield f"{ours}.weight", f"{theirs}.weight"
    yield f"{ours}.bias", f"{theirs}.bias"


def config_of(network: Network, channels: list[int], first: str, layers: int, **more: Any) -> Config:
    """The Config of a network with these `channels` per resolution from 4 pixels upwards, and `layers` mapping layers,
    the first of which has the weight `first`. Training hyperparameters are those of the paper for 256 pixels."""
    if not layers or not 0 < len(channels) <= MOST_SIZES:
        raise ForeignError(f"{network.label} has {len(channels)} sizes and {layers} mapping layers; {SUPPORTED}")
    w_dim, z_dim = shape_of(network, first, 2)
    size = 4 << (len(channels) - 1)
    base = max(count * (4 << level) for level, count in enumerate(channels))
    sizes = {"z_dim": z_dim, "w_dim": w_dim, "mapping_layers": layers}
    sizes |= {"channel_base": base, "channel_max": max(channels)}
    config = PRESETS["paper256"].replace(data={"width": size, "height": size}, network={**sizes, **more})
    if channels != [config.channels(level) for level in range(len(channels))]:
        counts = ", ".join(map(str, channels))
        raise ForeignError(
            f"{network.label} has {counts} channels from 4 pixels on; only min(base / size, maximum) is supported"
        )
    return config


def shape_of(network: Network, name: str, sides: int) -> tuple[int, ...]:
    """The shape of a tensor. Raises ForeignError if it is missing or does not have `sides` dimensions."""
    tensor = network.tensors.get(name)
    if tensor is None or len(tensor.shape) != sides:
        raise ForeignError(f"{network.label}.{name} is missing or does not have {sides} dimensions; {SUPPORTED}")
    return tensor.shape


def shown(value: Any) -> str:
    """A value from a file, formatted for a message."""
    if isinstance(value, str | float | bool | None) or (isinstance(value, int) and value.bit_length() < 64):
        return printable(str(value)[:40])
    return f"a {type(value).__name__}"


def listed(values: Iterable[Any], most: int = 12) -> str:
    """The first names in a file, formatted for a message."""
    texts = [shown(value) for value in values]
    return ", ".join([*texts[:most], *["..."] * (len(texts) > most)]) or "nothing"
