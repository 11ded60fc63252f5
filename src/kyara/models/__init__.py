"""The registry: every file or folder here is an architecture, found by listing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kyara.files.errors import CheckpointError
from kyara.files.names import did_you_mean

if TYPE_CHECKING:
    import torch

    from kyara.models.base import Model

_NOT_ARCHITECTURES = {"__init__", "__pycache__", "base"}


def names() -> list[str]:
    """Names of all architectures, without importing any."""
    return sorted({p.stem for p in Path(__file__).parent.iterdir()} - _NOT_ARCHITECTURES)


def check_name(name: str) -> None:
    """Raises ValueError, with a suggestion and all names, if there is no architecture `name`."""
    if name not in names():
        raise ValueError(f"{name!r}: no such model; {did_you_mean(name, names())}there are: {', '.join(names())}")


def architecture(name: str) -> type[Model]:
    """The class of an architecture. Raises ValueError if there is none of that name."""
    check_name(name)
    return import_module(f"kyara.models.{name}").Model


def build(name: str, config: Mapping[str, Any]) -> Model:
    """A model with fresh weights, from the Config in a Checkpoint's config.json. ValueError names what is unknown."""
    cls = architecture(name)
    try:
        return cls(cls.default_config().replace(**_frozen(config)))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _frozen(value: Any) -> Any:
    """A JSON value with tuples for lists, as in a Config."""
    if isinstance(value, Mapping):
        return {key: _frozen(item) for key, item in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def load(name: str | os.PathLike[str], device: str | torch.device = "cpu") -> Model:
    """The model of a Checkpoint: a folder, `builtin:NAME` or `hf-hub:OWNER/NAME`, in eval mode on `device`; its
    attribute `checkpoint` is the description. CheckpointError if a tensor is missing, left over or of another shape."""
    from kyara.files import checkpoint

    found = checkpoint.read(name)
    try:
        model = build(found.model, found.config)
        restore(model, found.weights())
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{found.path}: does not fit this version of Kyara: {error}") from error
    model.checkpoint = found
    return model.to(device).eval()


def stored(model: Model) -> dict[str, torch.Tensor]:
    """The tensors of a Checkpoint: all but the weights that have an average."""
    raw = tuple(f"{source}." for source in model.averages)
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(raw)}


def restore(model: Model, tensors: Mapping[str, torch.Tensor]) -> None:
    """The inverse of `stored`: weights are initialised with their average."""
    state = dict(tensors)
    for source, average in model.averages.items():
        prefix = f"{average}."
        state |= {f"{source}.{k.removeprefix(prefix)}": t for k, t in tensors.items() if k.startswith(prefix)}
    model.load_state_dict(state)
