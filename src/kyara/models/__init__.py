"""The model registry: every file or folder in this directory is an architecture. Importing it does not import torch."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kyara.files.errors import CheckpointError
from kyara.files.names import did_you_mean

if TYPE_CHECKING:
    import torch

    from kyara.models.base import Config, Model

_NOT_ARCHITECTURES = {"__init__", "__pycache__", "base"}


def names() -> list[str]:
    """Names of all architectures, without importing them."""
    return sorted({p.stem for p in Path(__file__).parent.iterdir()} - _NOT_ARCHITECTURES)


def check_name(name: str) -> None:
    """Raises ValueError, with a suggestion and all names, if there is no architecture `name`."""
    if name not in names():
        if Path(name).exists():
            raise ValueError(f"{name}: is no model; give one before the data: kyara train stylegan2 {name}")
        raise ValueError(f"{name!r}: no such model; {did_you_mean(name, names())}there are: {', '.join(names())}")


def architecture(name: str) -> type[Model]:
    """The class of an architecture. Raises ValueError if there is none of that name."""
    check_name(name)
    return import_module(f"kyara.models.{name}").Model


def build(name: str, config: Mapping[str, Any]) -> Model:
    """A model with randomly initialised weights, from the Config in a Checkpoint's config.json. Raises ValueError if
    the Config is invalid."""
    try:
        return architecture(name)(_config(name, config))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _config(name: str, config: Mapping[str, Any]) -> Config:
    return architecture(name).default_config().replace(**_frozen(config))


def read_config(name: str | os.PathLike[str]) -> Config:
    """The Config of a Checkpoint, without loading its weights. Raises CheckpointError if it is invalid."""
    from kyara.files import checkpoint

    found = checkpoint.read(name)
    try:
        return _config(found.model, found.config)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{found.path}: not compatible with this version of Kyara: {error}") from error


def _frozen(value: Any) -> Any:
    """A JSON value with tuples for lists, as in a Config."""
    if isinstance(value, Mapping):
        return {key: _frozen(item) for key, item in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def load(name: str | os.PathLike[str], device: str | torch.device = "cpu") -> Model:
    """Loads the model of a Checkpoint (a folder, `builtin:NAME` or `hf-hub:OWNER/NAME`) in eval mode on `device`. Its
    attribute `checkpoint` is the description. Raises CheckpointError if a tensor is missing, unexpected or of another
    shape."""
    from kyara.files import checkpoint

    found = checkpoint.read(name)
    try:
        model = build(found.model, found.config)
        restore(model, found.weights())
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{found.path}: not compatible with this version of Kyara: {error}") from error
    model.checkpoint = found
    return model.to(device).eval()


@functools.cache
def load_frozen(name: str, device: torch.device) -> Model:
    """The model of a Checkpoint from which another model learns, loaded once in this process."""
    import torch

    # Fresh weights must not move the random numbers of a training run; training needs no inference tensors.
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        return load(name, device).requires_grad_(False)


def stored(model: Model) -> dict[str, torch.Tensor]:
    """The tensors to store in a Checkpoint: the state dict without the weights that have a moving average."""
    raw = tuple(f"{source}." for source in model.averages)
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(raw)}


def restore(model: Model, tensors: Mapping[str, torch.Tensor]) -> None:
    """Loads tensors written by `stored`. Weights with a moving average are set to that average."""
    state = dict(tensors)
    for source, average in model.averages.items():
        prefix = f"{average}."
        state |= {f"{source}.{k.removeprefix(prefix)}": t for k, t in tensors.items() if k.startswith(prefix)}
    model.load_state_dict(state)
