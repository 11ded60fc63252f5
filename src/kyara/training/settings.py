"""Builds a Config from the options of `kyara train`."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kyara import models
from kyara.files import checkpoint
from kyara.files.dataset import Dataset, known_values
from kyara.files.pictures import parse_size
from kyara.models.base import Config, Generator
from kyara.nn.conditioning import UNKNOWN
from kyara.nn.configs import DataConfig
from kyara.nn.label_table import count_labels
from kyara.training.distributed import is_rank_zero, tell
from kyara.training.options import Policy, Tuning
from kyara.training.run import flat
from kyara.training.trainer import Options


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything about a run that is known before its network is built."""

    model: str
    config: Config
    options: Options
    tuning: Tuning
    init: str | None
    dataset: Dataset | None
    photos: Dataset | None
    schedule: Mapping[str, Any]  # what `loop.fit` takes
    few: Mapping[str, Mapping[str, Any]]  # what was chosen for few pictures; see `small_sets.choose`
    command: str  # that repeats it

    @property
    def about(self) -> dict[str, Any]:
        """The fields of config.json other than the architecture and its hyperparameters."""
        return {
            **{
                name: {"name": one.path.name, "pictures": len(one), "fingerprint": one.fingerprint}
                for name, one in (("data", self.dataset), ("photos", self.photos))
                if one is not None
            },
            "training": dataclasses.asdict(self.options),
            "init": self.init,
            **({"tuning": dataclasses.asdict(self.tuning)} if self.tuning != Tuning() else {}),
            **self.few,
        }

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that defines the run."""
        return {"model": self.model, "config": dataclasses.asdict(self.config), **self.about}


def choose_data(
    model: str, data: Path | None, photos: Path | None, drawings: Path | None, of: str | None
) -> tuple[Path | None, Path | None]:
    """The dataset of `model`, and the photos if it is trained on two datasets. A model that is trained on another model
    may need neither. Raises ValueError if an option is missing or unsupported."""
    spec = models.architecture(model).data_spec
    if of is not None and spec.of_model == "never":
        raise ValueError(f"--of {of}: {model} is not trained on another model; leave the option out")
    if spec.photos:
        wrong, needs, how = not (photos and drawings) or data, "two datasets", "--photos PHOTOS --drawings DRAWINGS"
    elif spec.of_model == "must":
        wrong, needs, how = of is None or photos or drawings, "another model", "--of CHECKPOINT"
    else:
        but = ", without --photos and --drawings" if photos or drawings else ""
        wrong, needs, how = data is None or photos or drawings, "one dataset", f"DATA{but}"
    if wrong:
        raise ValueError(f"{model}: needs {needs}: kyara train {model} {how}")
    if spec.of_model != "must" or of is None:
        return (drawings, photos) if spec.photos else (data, None)
    kind = models.architecture(checkpoint.read(of).model)
    if (from_latents := issubclass(kind, Generator)) != (data is None):
        hint = "generates pictures from latents; leave DATA out" if from_latents else "translates pictures; give DATA"
        raise ValueError(f"--of {of}: {hint}")
    return data, None


def configure(
    model: str,
    *,
    preset: str | None,
    size: str | None,
    batch: int | None,
    changes: str,
    parent: Config | None = None,
    seen: float | None = None,
) -> Config:
    """The Config of a preset or of the parent, with the given changes. The moving average begins as after `seen` kimg,
    so that the weights of --init stay in it for a while. Raises ValueError for invalid options."""
    presets = models.architecture(model).presets
    if preset is not None and preset not in presets:
        raise ValueError(f"--preset {preset}: {model} has {', '.join(presets)}")
    config = presets[preset] if preset else parent or next(iter(presets.values()))
    if seen is not None:
        config = config.replace(optimizer={"ema_start_kimg": seen})
    values = parse_changes(changes, config)
    if size is not None:
        width, height = parse_size(size)
        values.setdefault("data", {}).update(width=width, height=height)
    if batch is not None:
        values.setdefault("optimizer", {})["batch"] = batch
    config = config.replace(**values)
    for name, value in flat(dataclasses.asdict(config)).items():
        for number in value if isinstance(value, tuple | list) else [value]:
            if isinstance(number, int | float) and not 0 <= number < math.inf:
                raise ValueError(f"--set {name}={number}: must be a finite number, zero or more")
    config.check_new()
    return config


def describe_data(
    model: str, config: Config, dataset: Dataset | None, attributes: str, of: str | None, layer: str, init: str | None
) -> Config:
    """`config` with the description of the source model (--of) and of the attributes of the dataset."""
    if of is not None:
        config = config.replace(**models.architecture(model).describe_source(of, layer))
    if dataset is None:
        return config
    parent = DataConfig() if init is None else models.read_config(init).data
    return config.replace(data=describe_attributes(model, dataset, attributes, parent))


def check_augment(model: str, given: Mapping[str, object]) -> None:
    """ValueError if an option is `given` that augments a discriminator's input, and `model` has none."""
    for name, value in given.items():
        if value not in (None, "none") and not models.architecture(model).augments:
            raise ValueError(f"--{name}: {model} has no discriminator whose input is augmented; leave the option out")


def pick_augment_colour(wanted: bool | None, augment: Policy, model: str, config: Config) -> bool:
    """Whether the augmentation includes colours: as `wanted`, by default unless the model is a conditional generator,
    since attributes may be colours. Prints a note if they are off by default."""
    attributes = config.data.attributes if issubclass(models.architecture(model), Generator) else {}
    augments = models.architecture(model).augments and augment != "none"
    if wanted is None and attributes and augments and is_rank_zero():
        hint = f"the attributes {', '.join(attributes)} may be colours; --augment-colour enables them"
        tell(f"augmentation without colour transforms: {hint}")
    return not attributes if wanted is None else wanted


def describe_attributes(model: str, dataset: Dataset, wanted: str, parent: DataConfig) -> dict[str, Any]:
    """The fields of DataConfig for the attributes `wanted`, such as hair,eyes: their values, and the count of each
    combination of values in the dataset.

    If the parent has learned all values of an attribute, its values are used, so that its labels keep their meaning;
    the dataset may lack this column. Raises ValueError if neither has the attribute, or if the model does not support
    attributes."""
    spec, learned = models.architecture(model).data_spec, parent.attributes
    names, use = _names(wanted, learned), spec.attributes
    columns = [key for key, column in dataset.attributes.items() if any(column)]
    if names and use == "never":
        raise ValueError(f"--attributes {wanted}: {model} does not support attributes; leave the option out")
    if not names and use == "must":
        raise ValueError(f"--attributes: {model} needs one or more of {', '.join(columns) or '(the data have none)'}")
    for name in names:
        if name not in columns and name not in learned:
            raise ValueError(f"--attributes {name}: {dataset.path} has {', '.join(columns) or 'no attributes'}")
    if not names:
        return {}
    values = {name: tuple(known_values(dataset.attributes.get(name, []))) for name in names}
    values |= {n: kept for n, kept in learned.items() if n in values and {*values[n]} <= {*kept}}
    rows = np.stack([dataset.labels(name, known) for name, known in values.items()], 1)  # (N, A)
    fields = {"attributes": values, "label_counts": count_labels(rows)}
    return fields | (_unlabelled(values, rows, parent) if spec.keeps_attributes else {})


def _names(wanted: str, kept: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The attributes that --attributes names; in the order of those that are `kept`, if they are the same."""
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    return [*kept] if {*names} == {*kept} else names


def _unlabelled(values: Mapping[str, tuple[str, ...]], rows: np.ndarray, parent: DataConfig) -> dict[str, Any]:
    """The fields of DataConfig if the attributes are the parent's, and the labels (N, A) of some are all unknown."""
    missing = tuple(name for name, column in zip(values, rows.T, strict=True) if (column == UNKNOWN).all())
    if not missing or not parent.label_counts or values != dict(parent.attributes):
        return {}
    return {"unlabelled": missing, "label_counts": parent.label_counts}


FROM_DATA = ("data.attributes", "data.label_counts", "data.unlabelled", "generator.")
"""Prefixes of the fields that --attributes and --of set."""
BOOLEANS = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False, "1": True, "0": False}


def parse_changes(text: str, config: Config) -> dict[str, dict[str, Any]]:
    """Parses PART.NAME=VALUE,... to parts of a Config, e.g. {"losses": {"style": 2.0}}. Raises ValueError for unknown
    names, and for values of another type than the field's."""
    parts = {part.name: getattr(config, part.name) for part in dataclasses.fields(config)}
    hints = {f"{part}.{n}": hint for part, v in parts.items() for n, hint in typing.get_type_hints(type(v)).items()}
    hints = {name: hint for name, hint in hints.items() if not name.startswith(FROM_DATA)}
    values: dict[str, dict[str, Any]] = {}
    for change in filter(None, text.split(",")):
        name, _, value = (piece.strip() for piece in change.partition("="))
        if name not in hints:
            raise ValueError(f"--set {change}: no such hyperparameter; there are {', '.join(sorted(hints))}")
        kind = hints[name]
        part, _, field = name.partition(".")
        try:
            values.setdefault(part, {})[field] = _read(value, kind)
        except ValueError as error:
            raise ValueError(f"--set {change}: must be of type {_name(kind)}") from error
    return values


def _read(value: str, kind: Any) -> Any:
    """The text of a value as its type, tuples with slashes between their elements. ValueError if it is of another."""
    if kind is bool:
        if value.lower() not in BOOLEANS:
            raise ValueError(f"{value} is neither true nor false")
        return BOOLEANS[value.lower()]
    if typing.get_origin(kind) is not tuple:  # else optimizer.betas=0.5/0.999
        return kind(value)
    pieces, (each, *others) = value.split("/") if value else [], typing.get_args(kind)
    kinds = [each] * len(pieces) if others == [...] else [each, *others]
    return tuple(_read(piece, one) for piece, one in zip(pieces, kinds, strict=True))


def _name(kind: Any) -> str:
    """A type as people know it."""
    if kind is bool:
        return f"bool ({', '.join(BOOLEANS)})"
    return str(kind) if typing.get_origin(kind) else getattr(kind, "__name__", str(kind))
