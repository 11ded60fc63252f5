"""Rules: named weight differences. They add up, can be scaled, and can be removed exactly.

A rewritten Checkpoint is a Checkpoint like any other, with two additions:

    original.safetensors       the changed weights as they were before any rule
    edits/glasses.safetensors  a rule: its weight difference; the file's header says how it was learned
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from kyara import __version__
from kyara.files import checkpoint
from kyara.files.atomic import replaced_folder, write_atomic
from kyara.files.checkpoint import Checkpoint
from kyara.files.errors import CheckpointError
from kyara.rewriting.settings import MAX_STRENGTH

ORIGINAL, EDITS = "original.safetensors", "edits"
KEY = checkpoint.REWRITTEN


@dataclasses.dataclass(frozen=True, eq=False)
class Rule:
    """A named weight difference."""

    name: str
    root: str  # hash of the Checkpoint without any rule that it belongs to
    weights: Mapping[str, Tensor]  # what is added to each weight at strength 1
    strength: float = 1.0
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # the edit, how it was learned, its errors


def file_name(name: str) -> str:
    """File of the rule of that name, in the folder `edits`."""
    return re.sub(r"[^\w.-]+", "-", name) + ".safetensors"


def root_of(found: Checkpoint) -> str:
    """Hash of a Checkpoint without its rules; its own hash if it has none."""
    return _listed(found)[0]


def _listed(found: Checkpoint) -> tuple[str, list[tuple[str, float]]]:
    """The root of a Checkpoint, and the file and the strength of each of its rules."""
    if KEY not in found.about:
        return found.hash, []
    try:
        table = found.about[KEY]
        rows = [(str(row["file"]), float(row["strength"])) for row in table["rules"]]
        if wrong := [strength for _, strength in rows if not 0 <= strength <= MAX_STRENGTH]:
            raise ValueError(f"strength {wrong[0]:g} is not from 0 to {MAX_STRENGTH:g}")
        return str(table["root"]), rows
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{found.path}: its list of rules cannot be read ({error!r})") from error


def rules_of(found: Checkpoint) -> list[Rule]:
    """The rules of a Checkpoint in their order. CheckpointError if one is missing or damaged."""
    rules = []
    for name, strength in _listed(found)[1]:
        if Path(name).name != name:
            raise CheckpointError(f"{found.path}: rule {name!r} is not in its folder {EDITS}")
        rules.append(dataclasses.replace(read_rule(found.path / EDITS / name), strength=strength))
    return rules


def read_rule(path: Path) -> Rule:
    """The rule in a file. ValueError if the file holds none."""
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {})["kyara"])
        return Rule(str(header["name"]), str(header["root"]), load_file(path), about=dict(header["about"]))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: not a rule that kyara rewrite wrote ({error})") from error


def apply_rules(found: Checkpoint, rules: Sequence[Rule]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """All weights of a Checkpoint with exactly these rules, regardless of the rules it has now; and the original values
    of the weights that a rule changes. ValueError if a rule belongs to another Checkpoint or does not fit."""
    weights = found.weights()
    original = _original(found, weights) if KEY in found.about else {}
    weights |= original
    total: dict[str, Tensor] = {}
    for rule in rules:
        check_root(rule, found)
        for name, difference in rule.weights.items():
            change, own = rule.strength * difference.float(), weights.get(name)
            if own is None or not own.is_floating_point() or own.shape != change.shape or not change.isfinite().all():
                raise ValueError(f"rule {rule.name}: {name} does not fit this network")
            original.setdefault(name, own)
            if rule.strength:
                total[name] = total.get(name, 0) + change
    return weights | {name: weights[name] + t for name, t in total.items()}, original


def check_root(rule: Rule, found: Checkpoint) -> None:
    """ValueError if the rule was learned on another Checkpoint."""
    if rule.root != root_of(found):
        raise ValueError(f"rule {rule.name}: belongs to checkpoint {rule.root}, this is {root_of(found)}")


def _original(found: Checkpoint, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    path = found.path / ORIGINAL
    try:
        original = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); rules cannot be changed without it") from error
    for name, tensor in original.items():
        if name not in weights or weights[name].shape != tensor.shape:
            raise CheckpointError(f"{path}: {name} does not fit this network")
    return original


def write(out: Path, found: Checkpoint, rules: Sequence[Rule], name: str, *, force: bool = False) -> None:
    """Writes the Checkpoint `found`, which messages call `name`, with exactly these rules into the folder `out`. The
    result names its parent and the parent's hash; the parent itself is not changed. With `force`, an earlier Checkpoint
    in `out` is deleted, but not before the new one is complete."""
    weights, original = apply_rules(found, rules)
    rows = [{"file": file_name(r.name), "name": r.name, "strength": r.strength, "about": dict(r.about)} for r in rules]
    about = {**found.about, KEY: {"root": root_of(found), "parent": name, "kyara": __version__, "rules": rows}}
    card = model_card(found, name, rules)
    with replaced_folder(out, checkpoint.CONFIG, force=force) as new:
        (new / EDITS).mkdir()
        for rule in rules:
            header = {"kyara": json.dumps({"name": rule.name, "root": rule.root, "about": dict(rule.about)})}
            _write(new / EDITS / file_name(rule.name), rule.weights, header)
        _write(new / ORIGINAL, original)
        checkpoint.write(new, model=found.model, config=found.config, weights=weights, card=card, about=about)


def _write(path: Path, weights: Mapping[str, Tensor], header: dict[str, str] | None = None) -> None:
    tensors = {name: t.detach().cpu().contiguous() for name, t in weights.items()}
    write_atomic(path, lambda temporary: save_file(tensors, temporary, header))


def model_card(found: Checkpoint, name: str, rules: Sequence[Rule]) -> str:
    """The parent's card with a table of the rules."""
    try:
        parent = (found.path / checkpoint.CARD).read_text(encoding="utf-8")
    except OSError:
        parent = ""
    head, _, _ = parent.partition("\n## Rewritten\n")
    lines = [head.rstrip(), "", "## Rewritten", ""]
    lines += [f"From {name} by `kyara rewrite`. The copyright of a pattern stays with its owner.", ""]
    lines += ["| rule | strength | learned with |", "|---|---|---|"]
    for rule in rules:
        others = rule.about.get("learned_with")  # rules that were active then: it fits best beside them
        beside = _cell(others) if isinstance(others, list) else ""
        lines.append(f"| {_cell([rule.name])} | {rule.strength:g} | {beside} |")
    return "\n".join([*lines, *["| none | | |"] * (not rules), ""])


def _cell(names: Sequence[object]) -> str:
    """Names of rules in a table cell. They may come from elsewhere: only words are kept."""
    return ", ".join(" ".join(re.findall(r"[\w.-]+", str(name))) for name in names)
