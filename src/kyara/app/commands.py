"""The commands of `kyara generate` that make pictures of Make again."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from typing import Any

from kyara import models, verbs
from kyara.app.collection import Item
from kyara.app.items import sheet_of
from kyara.app.project import Project, word
from kyara.generation.generate import generate
from kyara.generation.recipe import BUILTIN
from kyara.generation.shots import angle_of, seed_text
from kyara.nn import conditioning
from kyara.nn.label_table import LabelTable


def generate_command(truncation: float, model: str, **given: Any) -> str:
    """The command line of `generate` with these options."""
    given["model"] = None if model == BUILTIN else word(model)  # the former is what it takes by default
    defaults = {name: parameter.default for name, parameter in inspect.signature(generate).parameters.items()}
    return verbs.command_line(generate, defaults | {"truncation": truncation} | given)


def seeds_command(items: Sequence[Item], project: Project, model: str, **given: Any) -> str:
    """The command that makes the pictures of seeds by `model`, or "" if there is none: they differ in more than their
    seeds, are blended, which needs a recipe, or their labels are not drawn so."""
    first, seeds = items[0], sorted({item.shot["seed"] for item in items if "seed" in item.shot})
    alike = all((sheet_of(i), angle_of(i.shot)) == (sheet_of(first), angle_of(first.shot)) for i in items)
    if first.blend or not alike or len(seeds) < len(items):
        return ""
    if (where := _where(items, project, model)) is None:
        return ""
    given |= {"where": where, "mirror": first.mirror, "turn": angle_of(first.shot) or None}
    return generate_command(first.truncation, model, seeds=seed_text(seeds), **given)


def walk_command(items: Sequence[Item], project: Project, model: str, frames: int) -> str:
    """The command that makes a walk between seeds with the same labels; "" if there is none."""
    first = items[0]
    if first.blend or (where := _where([first], project, model)) is None:  # a walk has the labels of its first seed
        return ""
    path = "-".join(str(item.shot["seed"]) for item in items)
    given = {"interpolate": path, "frames": frames, "where": where, "mirror": first.mirror}
    return generate_command(first.truncation, model, **given)


def _where(items: Sequence[Item], project: Project, model: str) -> str | None:
    """The --where with which each seed gets its labels: those that were chosen, or all of the first one; None if
    neither does it."""
    table = _table(project.absolute(model), items[0].checkpoint)
    for wanted in (items[0].fixed, items[0].shot["labels"]):
        fixed = conditioning.find(wanted, table.attributes, model)
        if all(_draws(table, fixed, item) for item in items):
            return verbs.where_text(wanted)
    return None


def _draws(table: LabelTable, fixed: dict[str, int], item: Item) -> bool:
    """Whether the labels of a picture are those that are drawn for its seed."""
    drawn = table.draw(fixed, item.shot["seed"])
    known = {name: label for name, label in drawn.items() if label != conditioning.UNKNOWN}
    return known == conditioning.find(item.shot["labels"], table.attributes, item.model)


@functools.lru_cache(maxsize=4)
def _table(model: str, weights: str) -> LabelTable:
    """Read once, as long as the model has the same `weights`."""
    data = models.read_config(model).data
    return LabelTable(data.attributes, data.label_counts)
