"""Training on few pictures: what `train --init` chooses unless options say otherwise, and warnings.

| option | regular | FEW pictures or fewer, with --init | source of the number |
|---|---|---|---|
| --freeze | nothing | mapping, unless it is fitted to an encoder | UI2I via StyleGAN2 (Kwong et al. 2021) freezes it |
| | | d, all but 6 layers | FreezeD (Mo et al. 2020) trains the last three of seven levels |
| optimizer.lr | the parent's | at most 0.001 | FreezeD |
| --augment | ada | diffaugment | Zhao et al. 2020; ada needs some 500 kimg to adapt |
| --augment-colour | yes | no | colours are part of a style; translation and cutout remain |
| --kimg | 1000 | 300 | DiffAugment's runs with 100 pictures |
| --snap, --patience | 50, 0 | 10, 5 | ours: ends a run that has not improved for 50 kimg |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from kyara import models
from kyara.files import checkpoint
from kyara.models.base import Config, Generator
from kyara.training.distributed import tell, warn
from kyara.training.options import Policy, Tuning

FEW, LEAST = 500, 50  # pictures that are few; and fewer than which a generator mostly repeats them
TRAINED = 6  # layers of the discriminator that learn: from 16 pixels down, with those that follow them


@dataclasses.dataclass(frozen=True)
class Choices:
    """The options of `train` whose defaults depend on the number of pictures; None where nothing is chosen."""

    freeze: str | None = None
    lr: float | None = None
    augment: Policy | None = None
    augment_colour: bool | None = None
    kimg: float | None = None
    snap: float | None = None
    patience: int | None = None

    @property
    def schedule(self) -> dict[str, Any]:
        """Those that `loop.fit` takes."""
        return {"kimg": self.kimg, "snap": self.snap, "patience": self.patience}

    def completed(self, defaults: Choices) -> Self:
        """With the defaults for what is not chosen."""
        given = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        return dataclasses.replace(self, **{**dataclasses.asdict(defaults), **given})

    def added(self, given: Choices) -> dict[str, Any]:
        """What was not `given`."""
        before = dataclasses.asdict(given)
        chosen = dataclasses.asdict(self).items()
        return {name: value for name, value in chosen if before[name] is None and value not in (None, "")}


REGULAR = Choices(freeze="", augment="ada", kimg=1000.0, snap=50.0, patience=0)
SMALL = Choices(lr=1e-3, augment="diffaugment", augment_colour=False, kimg=300.0, snap=10.0, patience=5)


def choose(
    given: Choices, model: str, config: Config, init: str | None, pictures: int
) -> tuple[Choices, dict[str, dict[str, Any]]]:
    """`given`, completed by the defaults; and for few pictures, the field of config.json with what was added."""
    standard = defaults(model, config, init, pictures)
    chosen = given.completed(standard)
    return chosen, {"few_pictures": chosen.added(given)} if standard != REGULAR else {}


def applied(chosen: Choices, tuning: Tuning, config: Config) -> tuple[Tuning, Config]:
    """The tuning and the Config with what was chosen."""
    if chosen.lr is not None:
        config = config.replace(optimizer={"lr": chosen.lr})
    return dataclasses.replace(tuning, freeze=chosen.freeze or ""), config


def defaults(model: str, config: Config, init: str | None, pictures: int) -> Choices:
    """The defaults for training `model` with the numbers `config` on a dataset of so many pictures."""
    if init is None or not 0 < pictures <= FEW or not issubclass(models.architecture(model), Generator):
        return REGULAR
    lr = min(SMALL.lr or config.optimizer.lr, config.optimizer.lr)
    small = dataclasses.replace(SMALL, lr=lr, freeze=_frozen(config, init))
    if models.architecture(model).augments:
        return small
    return dataclasses.replace(small, augment=None, augment_colour=None)  # no discriminator


def report(model: str, pictures: int, init: str | None, few: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints what was chosen for few pictures (see `choose`), as options, and a warning if they are too few."""
    warn(warning(model, pictures, init))
    for added in few.values():
        options = " ".join(_option(name, value) for name, value in added.items())
        tell(f"{pictures} pictures are few; options chosen for them: {options or 'none'}")


def _option(name: str, value: object) -> str:
    """An option of `Choices` as it is typed."""
    if isinstance(value, bool):
        return ("--" if value else "--no-") + name.replace("_", "-")
    option = "--set optimizer.lr=" if name == "lr" else f"--{name.replace('_', '-')} "
    return option + (f"{value:g}" if isinstance(value, float) else str(value))


def _frozen(config: Config, init: str) -> str:
    """--freeze for few pictures. What the parent does not have is not frozen: layers of another size, other labels."""
    parent = models.read_config(init)
    ours, its = config.data, parent.data
    if parent.network != config.network or (ours.width, ours.height) != (its.width, its.height):
        return ""
    found = checkpoint.read(init)
    parts = models.build(found.model, found.config).layers()
    if not parts:
        return ""
    same_labels = not ours.attributes or dict(ours.attributes) == dict(its.attributes)
    mapping = ["mapping"] * (same_labels and "encoder" not in parts)
    count = len(parts["d"]) - TRAINED
    return ",".join(mapping + [f"d={count}"] * (count > 0))


def warning(model: str, pictures: int, init: str | None) -> str | None:
    """What to do if the pictures are too few for a generator; None if they are enough."""
    if not issubclass(models.architecture(model), Generator):
        return None
    if init is None and pictures < FEW:
        trained = [f"builtin:{name}" for name in checkpoint.builtin_names()]
        collapses = " or collapses" if models.architecture(model).augments else ""
        usable = [f"--init {name}" for name in trained if checkpoint.read(name).model == model]
        return (
            f"{pictures} pictures are too few to train a generator from scratch: it repeats them{collapses}. Use "
            f"{FEW} or more, or start from a trained {model}: {' or '.join(usable) or '--init CHECKPOINT'}"
        )
    if pictures < LEAST:
        return f"{pictures} pictures are too few: the generator will mostly repeat them. Use {LEAST} or more"
    return None
