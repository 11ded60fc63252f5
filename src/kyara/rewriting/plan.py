"""The plan of a call of `kyara rewrite`, validated before any computation: the rules to keep, add or remove, and the
edits to learn."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kyara import models, verbs
from kyara.files import checkpoint
from kyara.files.checkpoint import Checkpoint
from kyara.files.dataset import open_dataset
from kyara.models.projector import Model as Projector
from kyara.rewriting.edit import HASH, Edit, read_edit
from kyara.rewriting.learning import RuleTrainer, learn_rule
from kyara.rewriting.rules import Rule, apply_rules, check_root, file_name, read_rule, root_of, rules_of
from kyara.rewriting.samples import Samples
from kyara.rewriting.settings import MAX_STRENGTH
from kyara.training.runtime import pick_device

Given = str | os.PathLike[str] | Mapping[str, Any]
"""An edit file, an edit as a dict, a file of a rule, or a rewritten Checkpoint."""


@dataclass(frozen=True)
class Plan:
    """The rules of the new Checkpoint."""

    model: str  # name of the parent
    parent: Checkpoint
    rules: list[Rule]  # that need no training
    edits: list[Edit]  # to be learned, in this order
    skipped: tuple[str, ...]  # names of given rules that the model has
    warnings: tuple[str, ...] = ()


def make_plan(
    model: str, given: Sequence[Given], undo: str | None, strength: float | None, strengths: str | None = None
) -> Plan:
    """What `given` adds to a Checkpoint and `undo` removes. The rules that it has keep their strengths, but for those
    in `strengths`; if nothing is given, all get `strength`, unless it is None. ValueError if a rule does not fit or is
    not there."""
    found = checkpoint.read(model)
    kept = _once(without(rules_of(found), undo))
    if not (given or kept) and undo is None:
        raise ValueError(f"{model}: has no rules; name an edit file")
    if strengths is not None:
        if not given and strength is not None:
            raise ValueError(f"--strength {strength:g}: there are no EDITS, and --strengths sets those of the rules")
        kept = with_strengths(kept, strengths)
    elif not given and strength is not None:
        kept = [dataclasses.replace(rule, strength=strength) for rule in kept]
    read, ready = _read(given, found)
    rules = _once([*kept, *ready])
    factor = 1.0 if strength is None else strength
    edits, added = _new_edits(read, rules), [_scaled(rule, factor) for rule in rules[len(kept) :]]
    if given and strength not in (None, 1) and not (edits or added):
        hint = "name no EDITS to set the strength of all its rules, or --undo a rule and give its file again"
        raise ValueError(f"--strength {strength:g}: {model} has these rules and keeps their strengths; {hint}")
    had = {file_name(rule.name) for rule in kept}
    names = dict.fromkeys([*(edit.name for edit in read), *(rule.name for rule in ready)])
    warnings = tuple(filter(None, (_made_for_another(edit, found, model) for edit in edits)))
    return Plan(model, found, [*kept, *added], edits, tuple(name for name in names if file_name(name) in had), warnings)


def without(rules: list[Rule], undo: str | None) -> list[Rule]:
    """The rules except those named, separated by commas. ValueError if there is no such rule."""
    removed = [name.strip() for name in (undo or "").split(",") if name.strip()]
    names = [rule.name for rule in rules]
    for name in removed:
        if name not in names:
            raise ValueError(f"--undo {name}: there is no such rule; there is {', '.join(names) or 'none'}")
    return [rule for rule in rules if rule.name not in removed]


def with_strengths(rules: list[Rule], strengths: str) -> list[Rule]:
    """The rules with the strengths in a text such as glasses=0.5,gears=2. ValueError if it is malformed, or there is no
    such rule."""
    wanted = dict[str, float]()
    for part in filter(None, map(str.strip, strengths.split(","))):
        name, _, number = (word.strip() for word in part.partition("="))
        if name not in (names := [rule.name for rule in rules]):
            raise ValueError(f"--strengths {name}: there is no such rule; there is {', '.join(names) or 'none'}")
        try:
            wanted[name] = float(number)
        except ValueError as error:
            raise ValueError(f"--strengths {part}: write NAME=NUMBER, such as glasses=0.5") from error
        verbs.check_number(f"--strengths {name}", wanted[name], least=0, most=MAX_STRENGTH)
    return [dataclasses.replace(rule, strength=wanted.get(rule.name, rule.strength)) for rule in rules]


def _read(given: Sequence[Given], found: Checkpoint) -> tuple[list[Edit], list[Rule]]:
    """Edits to be learned, and rules that are ready. ValueError if a rule belongs to another Checkpoint."""
    edits, ready = list[Edit](), list[Rule]()
    for one in given:
        if isinstance(one, Mapping) or not (Path(one).is_dir() or Path(one).suffix == ".safetensors"):
            edits.append(read_edit(one))
        elif (path := Path(one)).is_file():
            ready.append(read_rule(path))
        elif rules := rules_of(checkpoint.read(one)):
            ready += rules
        else:
            raise ValueError(f"{one}: has no rules; give an edit file, or a checkpoint that kyara rewrite wrote")
    for rule in ready:
        check_root(rule, found)
    return edits, ready


def _made_for_another(edit: Edit, found: Checkpoint, model: str) -> str | None:
    """A warning if the edit says that it was made for another Checkpoint, of which its seeds make other pictures."""
    if edit.checkpoint in (None, found.hash, root_of(found)):
        return None
    names = (f"builtin:{name}" for name in checkpoint.builtin_names())
    other = next((name for name in names if checkpoint.read(name).hash == edit.checkpoint), edit.checkpoint)
    return f"{edit.name}: was made for {other}, this is {model}: what is pasted may be in the wrong place"


def _scaled(rule: Rule, factor: float) -> Rule:
    """A rule to be added, at `factor` times its strength. ValueError if that is too much."""
    strength = rule.strength * factor
    if strength > MAX_STRENGTH:
        limit = f"the most is {MAX_STRENGTH:g}; lower it"
        raise ValueError(f"--strength {factor:g}: rule {rule.name} would have strength {strength:g}, {limit}")
    return dataclasses.replace(rule, strength=strength)


def _once(rules: Sequence[Rule]) -> list[Rule]:
    """Each rule as it comes first, since Checkpoints may share one. ValueError if two different ones share a file."""
    found = dict[str, Rule]()
    for rule in rules:
        first = found.setdefault(file_name(rule.name), rule)
        same = first.weights.keys() == rule.weights.keys()
        if not same or not all(torch.equal(first.weights[name], weight) for name, weight in rule.weights.items()):
            hint = f"--undo {first.name} if the model has it, or give only one of them"
            raise ValueError(f"rule {rule.name}: there is another rule of that name with other weights; {hint}")
    return [*found.values()]


def _new_edits(edits: Sequence[Edit], rules: Sequence[Rule]) -> list[Edit]:
    """The edits that are not among the rules yet. ValueError if two different ones share a name or a file."""
    taken, new = {file_name(rule.name): rule.about.get("edit") for rule in rules}, []
    for edit in edits:
        name = file_name(edit.name)
        if name not in taken:
            new.append(edit)
        elif not _same(taken[name], edit.description):
            raise ValueError(f"{edit.name}: there is another rule of that name; rename it, or --undo the other")
        taken[name] = edit.description
    return new


def _same(learned: Any, given: Mapping[str, Any]) -> bool:
    """Whether a rule was learned from this edit, whichever checkpoint that names. What was learned before edits had a
    hash is known by the rest."""
    if not isinstance(learned, Mapping):
        return False
    ignored = {"checkpoint"} if HASH in learned else {"checkpoint", HASH}
    one, other = ({name: value for name, value in edit.items() if name not in ignored} for edit in (learned, given))
    return one == other


def load_samples(plan: Plan, data: Path | None, device: str) -> Samples:
    """The network of the parent. ValueError if it needs `data` and has none, or needs none."""
    network = models.load(plan.model, pick_device(device)).requires_grad_(False)
    return Samples(network, plan.model, None if data is None else open_dataset(data))


def find_projector(name: str | None, found: Checkpoint, model: str, device: torch.device) -> Projector:
    """The projector of that name, or the built-in one. ValueError if there is none, or it is of another Checkpoint."""
    hint = f"train one: kyara train projector --of {model}, and give its run as --projector"
    if name is None:
        named = (f"builtin:{one}" for one in checkpoint.builtin_names())
        projectors = [(one, c.config["generator"]) for one in named if (c := checkpoint.read(one)).model == "projector"]
        of = [one for one, its in projectors if its["hash"] == root_of(found)]
        if not of:
            raise ValueError(f"{model}: has no built-in projector; {hint}")
        name = of[-1]
    network = models.load(name, device)
    if not isinstance(network, Projector):
        raise ValueError(f"--projector {name}: not a projector; {hint}")
    generator = network.config.generator
    if generator.hash != root_of(found):
        raise ValueError(f"--projector {name}: was trained for {generator.checkpoint}, not for {model}; {hint}")
    return network.requires_grad_(False)


def learn_edits(trainer: RuleTrainer, plan: Plan, strength: float) -> dict[Rule, float]:
    """Rules of the edits -> seconds of training. Rules learned one after the other weaken each other less."""
    learned = dict[Rule, float]()
    parameters = dict(trainer.model.named_parameters())
    for edit in plan.edits:
        rules = [*plan.rules, *learned]
        with torch.no_grad():
            for name, weight in apply_rules(plan.parent, rules)[0].items():
                if name in parameters:
                    parameters[name].copy_(weight)
        result = learn_rule(trainer, edit)
        about: dict[str, Any] = {"edit": edit.description, "memory": trainer.memory, "layers": trainer.depth}
        about |= {"learned_with": sorted(rule.name for rule in rules if rule.strength), **result.measured}
        learned[Rule(edit.name, root_of(plan.parent), result.difference, strength, about)] = result.seconds
    return learned
