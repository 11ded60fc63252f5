"""What rewriting keeps: small differences of weights, one for each rule, that add up, can be scaled and undone.

A rewritten Checkpoint is one like any other, and holds besides what it takes to change it again:

    original.safetensors       the weights that were changed, as they were before any rule
    edits/glasses.safetensors  a rule: what it adds; whose, and how it was taught, stands in the file's header
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from kyara import __version__
from kyara.files import checkpoint
from kyara.files.atomic import write_atomic
from kyara.files.checkpoint import Checkpoint
from kyara.files.errors import CheckpointError

ORIGINAL, EDITS = "original.safetensors", "edits"
KEY = "rewritten"
"""Of config.json."""
LARGEST = 10.0
"""A strength beyond this is a mistake."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """A difference of weights with a name."""

    name: str
    root: str
    """Hash of the Checkpoint, before any rule, that it belongs to."""
    weights: Mapping[str, Tensor]
    """What it adds at strength 1."""
    strength: float = 1.0
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """How it was taught, and what it was measured to do."""


def file_name(name: str) -> str:
    """Of the rule of that name, in the folder `edits`."""
    return re.sub(r"[^\w.-]+", "-", name) + ".safetensors"


def root_of(found: Checkpoint) -> str:
    """Hash of what a Checkpoint was before any rule: its own if it has none."""
    return str(found.about[KEY]["root"]) if KEY in found.about else found.hash


def rules_of(found: Checkpoint) -> list[Rule]:
    """The rules that a Checkpoint was rewritten with, in their order. CheckpointError if one is missing or damaged."""
    if KEY not in found.about:
        return []
    try:
        listed = [(str(row["file"]), float(row["strength"])) for row in found.about[KEY]["rules"]]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{found.path}: its list of rules makes no sense ({error!r})") from error
    for name, _ in listed:
        if Path(name).name != name:
            raise CheckpointError(f"{found.path}: rule {name!r} is not in its folder {EDITS}")
    return [dataclasses.replace(read_rule(found.path / EDITS / name), strength=strength) for name, strength in listed]


def read_rule(path: Path) -> Rule:
    """The rule in a file. ValueError if it is none."""
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {})["kyara"])
        return Rule(str(header["name"]), str(header["root"]), load_file(path), about=dict(header["about"]))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: not a rule that kyara rewrite wrote ({error})") from error


def write_rule(path: Path, rule: Rule) -> None:
    """Writes it atomically."""
    header = {"kyara": json.dumps({"name": rule.name, "root": rule.root, "about": dict(rule.about)})}
    tensors = {name: t.detach().cpu().contiguous() for name, t in rule.weights.items()}
    write_atomic(path, lambda temporary: save_file(tensors, temporary, header))


def combined(found: Checkpoint, rules: Sequence[Rule]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of a Checkpoint with exactly these rules, whatever rules it has now; and as they are without any, of
    those that a rule changes. ValueError if a rule belongs to another one, or does not fit."""
    weights, original = found.weights(), {}
    if KEY in found.about:
        original = _original(found)
        weights |= original
    total: dict[str, Tensor] = {}
    for rule in rules:
        if rule.root != root_of(found):
            raise ValueError(f"rule {rule.name}: belongs to checkpoint {rule.root}; this is {root_of(found)}")
        for name, difference in rule.weights.items():
            if name not in weights or weights[name].shape != difference.shape or not difference.isfinite().all():
                raise ValueError(f"rule {rule.name}: {name} does not fit this network")
            original.setdefault(name, weights[name])
            if rule.strength:
                total[name] = total.get(name, 0) + rule.strength * difference.float()
    return weights | {name: weights[name] + t for name, t in total.items()}, original


def _original(found: Checkpoint) -> dict[str, Tensor]:
    try:
        return load_file(found.path / ORIGINAL)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{found.path / ORIGINAL}: cannot be read ({error}); without it no rule changes"
        ) from error


def write(out: Path, found: Checkpoint, rules: Sequence[Rule], name: str) -> None:
    """Writes a Checkpoint `found`, which messages call `name`, with exactly these rules into the folder `out`. Its
    parent is told by name and hash, never changed."""
    weights, original = combined(found, rules)
    (out / EDITS).mkdir(parents=True, exist_ok=True)
    for rule in rules:
        write_rule(out / EDITS / file_name(rule.name), rule)
    write_atomic(out / ORIGINAL, lambda temporary: save_file(_contiguous(original), temporary))
    rows = [{"file": file_name(r.name), "name": r.name, "strength": r.strength, "about": dict(r.about)} for r in rules]
    about = {**found.about, KEY: {"root": root_of(found), "parent": name, "kyara": __version__, "rules": rows}}
    checkpoint.write(
        out, model=found.model, config=found.config, weights=weights, card=_card(found, name, rules), about=about
    )


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.contiguous() for name, t in tensors.items()} or {"none": torch.zeros(0)}


def _card(found: Checkpoint, name: str, rules: Sequence[Rule]) -> str:
    try:
        parent = (found.path / checkpoint.CARD).read_text(encoding="utf-8")
    except OSError:
        parent = ""
    lines = [f"| {_cell([rule.name])} | {rule.strength:g} | {_beside(rule)} |" for rule in rules] or ["| none | | |"]
    head, _, _ = parent.partition("\n## Rewritten\n")
    told = "\n".join(
        ["", "## Rewritten", "", f"From {name} by `kyara rewrite`. Patterns belong to whom they belong.", ""]
    )
    table = "\n".join(["", "| rule | strength | learned beside |", "|---|---|---|", *lines, ""])
    return f"{head.rstrip()}\n{told}{table}"


def _beside(rule: Rule) -> str:
    """What stood in the network when it learned the rule: there it fits best."""
    beside = rule.about.get("beside")
    return _cell(beside) if isinstance(beside, list) else ""


def _cell(names: Sequence[object]) -> str:
    """Names of rules, which may come from elsewhere, in a table of a card."""
    return ", ".join(" ".join(re.findall(r"[\w.-]+", str(name))) for name in names)
