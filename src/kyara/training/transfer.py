"""Transfer learning: initialisation from a checkpoint, and selection of the layers to train."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from kyara import models
from kyara.files import checkpoint
from kyara.models.base import Config, Model
from kyara.nn import conditioning
from kyara.nn.conditioning import Attributes
from kyara.training.distributed import is_rank_zero, tell, warn
from kyara.training.options import Tuning
from kyara.training.run import flat

LABEL_PARTS = {"labels": True, "heads": False}
"""Names of modules with a row for each label, and whether unknown labels have rows too."""
MOST = 0.5  # share of new weights above which training is as from scratch
SEEN = 20.0  # kimg that a parent counts for in the ramp of the moving average


def build(
    model: str, config: Config, seed: int, tuning: Tuning, init: str | None
) -> tuple[Model, tuple[str, ...], tuple[str, ...]]:
    """Builds a network, randomly initialised or from the checkpoint `init`. Also returns the two lists of
    `initialise`. Raises ValueError if the network cannot be built with these hyperparameters."""
    torch.manual_seed(seed)
    network = _built(model, config, init)
    tune(network, tuning)
    if init is None:
        return network, (), ()
    fresh, unused = initialise(network, models.load(init))
    if is_rank_zero():
        tell(f"initialised from {init}; {'; '.join(_described(network, init, fresh, unused))}")
    return network, tuple(fresh), tuple(unused)


def check(model: str, config: Config, tuning: Tuning, init: str | None) -> None:
    """Raises the ValueError of `build`, without memory for the weights and without reading those of `init`. Prints a
    warning if most of them are new."""
    with torch.device("meta"):
        network = _built(model, config, init)
        tune(network, tuning)
        if init is not None:
            initialise(network, _parent(init))
    if init is not None and (share := new_share(model, config, init)) > MOST:
        ours, its = (flat(dataclasses.asdict(one)) for one in (config, models.read_config(init)))
        sizes = [name for name in ours if name.startswith(("network.", "data.width", "data.height"))]
        changed = [f"{name} is {ours[name]}, not {its[name]}" for name in sizes if ours[name] != its[name]]
        reason = f": {', '.join(changed)}" if changed else ""
        warn(f"--init {init}: {share:.0%} of the weights do not fit and start at random, as without --init{reason}")


def useful(model: str, config: Config, init: str | None) -> str | None:
    """`init`, or None if most weights would be new, so that training is as from scratch."""
    return None if init is None or new_share(model, config, init) > MOST else init


def new_share(model: str, config: Config, init: str) -> float:
    """The share of the weights that `init` does not have, and that start at random."""
    with torch.device("meta"):
        network = _built(model, config, init)
        random = _copy(network, _parent(init)).random
    sizes = {name: p.numel() for name, p in network.named_parameters() if not _averaged(network, name)}
    return sum(sizes[name] for name in random if name in sizes) / max(sum(sizes.values()), 1)


def _built(model: str, config: Config, init: str | None) -> Model:
    try:
        network = models.architecture(model)(config)
    except (RuntimeError, ArithmeticError, LookupError, TypeError) as error:
        raise ValueError(f"{_unusual(model, config, init)}: {model} cannot be built ({error})") from error
    if not all(parameter.numel() for parameter in network.parameters()):
        raise ValueError(f"{_unusual(model, config, init)}: {model} cannot be built (a layer has no weights)")
    return network


def _unusual(model: str, config: Config, init: str | None) -> str:
    """The options that set what neither a preset nor the parent has, for a message."""
    others = [*models.architecture(model).presets.values(), *([] if init is None else [models.read_config(init)])]
    known, ours = [flat(dataclasses.asdict(other)) for other in others], flat(dataclasses.asdict(config))
    new = [name for name, value in ours.items() if all(value != other.get(name) for other in known)]
    changed = [f"--set {name}={ours[name]}" for name in new if name.startswith("network.")]
    resized = ["--size"] if {"data.width", "data.height"} & {*new} else []
    return ", ".join(changed + resized) or "--set, --size"


def _parent(init: str) -> Model:
    """A model with the shapes of a checkpoint's, and no memory for the weights."""
    found = checkpoint.read(init)
    with torch.device("meta"):
        return models.build(found.model, found.config)


def _described(model: Model, init: str, fresh: Sequence[str], unused: Sequence[str]) -> list[str]:
    """What was not copied, for a message. Modules that both have are named once, with a shape that differs."""
    both = [name for name in fresh if name in unused]
    ours, theirs = (dict(one.named_parameters()) for one in (model, _parent(init)))
    pairs = [(name, *_differing(ours, theirs, name)) for name in both]
    new = [name for name in fresh if name not in both]
    new += [f"{name} ({mine} instead of {its})" if mine else name for name, mine, its in pairs]
    found = [f"newly initialised: {', '.join(new) or 'none'}"]
    if left := [name for name in unused if name not in both]:
        found.append(f"unused: {', '.join(left)}")
    return found


def _differing(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], module: str) -> tuple[str, str]:
    """The shapes of the first parameter of a module, such as 8x3, if it has another one in the other model."""
    for name, tensor in ours.items():
        if f"{name}.".startswith(f"{module}.") and name in theirs and theirs[name].shape != tensor.shape:
            return "x".join(map(str, tensor.shape)), "x".join(map(str, theirs[name].shape))
    return "", ""


def inherited(model: str, parent: str) -> Config:
    """The Config of the Checkpoint `parent`, without what --attributes and --of set. Raises ValueError if its
    architecture differs."""
    if (its := checkpoint.read(parent).model) != model:
        raise ValueError(f"--init {parent}: a checkpoint of {its}, not of {model}; give one of the same architecture")
    config = models.read_config(parent).replace(data={"attributes": {}, "label_counts": (), "unlabelled": ()})
    source = getattr(type(config)(), "generator", None)
    return config.replace(generator=dataclasses.asdict(source)) if source is not None else config


def initialise(model: Model, parent: Model) -> tuple[list[str], list[str]]:
    """Copies the tensors of `parent` that have the same name and shape in `model`, and what `model.copy_from_parent`
    can. If the attributes differ, the rows of the labels that both have are copied. Returns the modules of `model` with
    parameters that were not loaded, or only in part (such as the new levels of a larger size), and the modules of
    `parent` with parameters that were not used. Raises ValueError if no tensor matches, if a parameter that was not
    loaded is frozen, or if the attributes differ and the model requires attributes."""
    copied = _copy(model, parent)
    if stuck := _modules(model, {name for name, parameter in copied.random.items() if not parameter.requires_grad}):
        raise ValueError(f"--tune-layers, --freeze: would freeze newly initialised modules: {', '.join(stuck)}")
    in_part = _modules(model, copied.in_part)
    fresh = [f"{module} (new labels)" if module in in_part else module for module in _modules(model, {*copied.random})]
    return fresh, _modules(parent, copied.unused)


class Copied(NamedTuple):
    """What `_copy` did. All are names of parameters."""

    random: Mapping[str, Parameter]  # of the model, that were not loaded, or only in part
    in_part: set[str]  # of the model, with some of the parent's rows
    unused: set[str]  # of the parent


def _copy(model: Model, parent: Model) -> Copied:
    ours, theirs = model.state_dict(), parent.state_dict()
    old, new = ({n: (*v,) for n, v in one.config.data.attributes.items()} for one in (parent, model))
    differ = bool(old) and [*old.items()] != [*new.items()]
    if differ and model.data_spec.attributes == "must":
        raise ValueError("--init: its attributes, values or their order differ; give a checkpoint with the same ones")
    by_row = {name for name in theirs if differ and LABEL_PARTS.keys() & set(name.split("."))}
    shared = {name for name, tensor in ours.items() if name in theirs and theirs[name].shape == tensor.shape} - by_row
    if not shared:
        raise ValueError(f"--init: a {type(parent).__module__.rsplit('.', 1)[1]} has no tensors in common with it")
    model.load_state_dict({name: theirs[name] for name in shared}, strict=False)
    shared |= model.copy_from_parent(parent)
    rows = {name: _copy_rows(name, ours[name], theirs[name], new, old) for name in by_row & ours.keys()}
    whole = {name for name, copied in rows.items() if copied == len(ours[name])}
    random = {name: p for name, p in model.named_parameters() if name not in shared | whole}
    used = {name for name, copied in rows.items() if copied}
    return Copied(random, used - whole, {name for name, _ in parent.named_parameters()} - shared - used)


def _copy_rows(name: str, ours: Tensor, theirs: Tensor, attributes: Attributes, old: Attributes) -> int:
    """Copies the rows of labels that both tensors have into `ours`, and returns their number."""
    unknown = next(has for part, has in LABEL_PARTS.items() if part in name.split("."))
    mine, known = conditioning.rows(attributes, unknown=unknown), conditioning.rows(old, unknown=unknown)
    if ours.shape[:1] != (len(mine),) or theirs.shape != (len(known), *ours.shape[1:]):
        return 0  # another layout, such as one head for each attribute
    common = [row for row in mine if row in known]
    ours[[mine.index(row) for row in common]] = theirs[[known.index(row) for row in common]]
    return len(common)


def _modules(model: Model, names: set[str]) -> list[str]:
    """The modules to which tensors of these names belong, without moving averages."""
    return sorted({".".join(name.split(".")[:4]) for name in names if not _averaged(model, name)})


def _averaged(model: Model, name: str) -> bool:
    """Whether a tensor belongs to a moving average."""
    return name.startswith(tuple(f"{average}." for average in model.averages.values()))


def tune(model: Model, tuning: Tuning) -> None:
    """Freezes layers and sets the learning rates of the others. Raises ValueError for invalid options."""
    if tuning == Tuning():
        return
    parts = model.layers()
    if not parts:
        raise ValueError("--tune-layers, --freeze, --layer-lr-multiplier: not supported by this model")
    if tuning.layers is None and tuning.end != "fine":
        raise ValueError(f"--tune-end {tuning.end}: needs --tune-layers")
    if tuning.layers is not None and tuning.layers > len(parts["g"]):
        raise ValueError(f"--tune-layers {tuning.layers}: the generator has 1 to {len(parts['g'])}")
    for name, count in _frozen(tuning.freeze, {name: len(layers) for name, layers in parts.items()}).items():
        model.freeze([p for layer in parts[name][:count] for p in layer])
    if tuning.layers is not None:
        others = parts["g"][: -tuning.layers] if tuning.end == "fine" else parts["g"][tuning.layers :]
        model.freeze([p for layer in [*parts["mapping"], *others] for p in layer])
    for steps, layer in enumerate([*reversed(parts["g"]), *parts["mapping"]]):
        for parameter in layer:
            parameter.lr_multiplier = tuning.lr_multiplier ** min(steps, len(parts["g"]) - 1)  # type: ignore[attr-defined]
    if not all(any(p.requires_grad for p in player.parameters()) for player in model.players().values()):
        raise ValueError(f"--freeze {tuning.freeze}: leaves nothing to train")


def _frozen(text: str, there: Mapping[str, int]) -> dict[str, int]:
    """Parses mapping,g=2,d=4 to the number of layers to freeze in each part. `there` is the number of existing ones."""
    found = {}
    for piece in filter(None, map(str.strip, text.split(","))):
        name, equals, number = (word.strip() for word in piece.partition("="))
        count = number if equals else str(there.get(name))
        if name not in there or not count.isdecimal() or not 0 < int(count) <= there[name]:
            known = ", ".join(f"{part}=1 to {part}={n}" if n > 1 else part for part, n in there.items())
            raise ValueError(f"--freeze {text}: {piece!r} is not one of {known}")
        found[name] = int(count)
    return found


def groups(parameters: list[Parameter]) -> list[dict[str, object]]:
    """Parameter groups for an optimiser: the trainable parameters, grouped by `lr_multiplier`."""
    by_multiplier: dict[float, list[Parameter]] = {}
    for parameter in parameters:
        if parameter.requires_grad:
            by_multiplier.setdefault(getattr(parameter, "lr_multiplier", 1.0), []).append(parameter)
    return [{"params": same, "lr_multiplier": multiplier} for multiplier, same in by_multiplier.items()]
