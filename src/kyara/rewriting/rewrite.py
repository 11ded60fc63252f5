"""The verb `kyara rewrite`."""

from __future__ import annotations

import dataclasses
import json as json_format
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tyro.conf import Positional

from kyara import models
from kyara.files import checkpoint
from kyara.files.atomic import free_folder, write_atomic
from kyara.files.checkpoint import CONFIG, Checkpoint
from kyara.files.dataset import open_dataset
from kyara.files.names import printable
from kyara.models.base import Model
from kyara.models.projector import Model as Projector
from kyara.rewriting import differences
from kyara.rewriting.differences import LARGEST, Rule, file_name, read_rule, root_of, rules_of
from kyara.rewriting.edit import Edit, read_edit
from kyara.rewriting.hosts import Hosts
from kyara.rewriting.nonlinear import Settings
from kyara.rewriting.page import preview_page
from kyara.rewriting.teaching import Memory, Teacher, overlays_of, teach_rule
from kyara.training.runtime import pick_device
from kyara.verbs import command_line

PREVIEW = "preview.html"
DAMAGE, TAUGHT = 0.06, 0.2
"""Pixels, in [-1, 1], that change more than this elsewhere are damage; less of the pattern than this is nothing."""
Given = str | os.PathLike[str] | Mapping[str, Any]


def rewrite(
    model: Positional[str],
    edits: Positional[tuple[Path, ...]] = (),
    *,
    out: Path,
    projector: str | None = None,
    data: Path | None = None,
    strength: float = 1.0,
    undo: str | None = None,
    memory: Memory = "nonlinear",
    layers: int | None = None,
    p: float = Settings.p,
    q: float = Settings.q,
    steps: int = Settings.steps,
    spread: int = Teacher.spread,
    rank: int = 1,
    preview: bool = False,
    device: str = "auto",
    force: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> Path:
    """Change what a generator knows by a few pasted examples, and write it as a new Checkpoint.

    Args:
        model: What is rewritten: a Checkpoint's folder, builtin:NAME or hf-hub:OWNER/NAME. It stays as it is.
        edits: Edit files (docs/rewriting.md), each a new rule; or rules from elsewhere: a rewritten Checkpoint, or one
            .safetensors of its folder `edits`. They add up. Without any, --strength and --undo change the rules that
            are there.
        out: Folder of the new Checkpoint.
        projector: What finds features of any picture: kyara train projector --of MODEL. builtin:anime has one.
        data: Pictures for a model that makes pictures from pictures: what it does with them stays as it is, but for the
            new rule.
        strength: How much of the rules, 0 to 1 or a little more; 0 is the model as it was.
        undo: Names of rules that are taken out again, as glasses,gears.
        memory: nonlinear (several layers as one) or linear (one layer, after Bau et al.).
        layers: Layers of a nonlinear memory: 3 if not given, or as many as there are.
        p: Weight of what is kept.
        q: Weight of the new features that the projector found.
        steps: Steps in which a nonlinear memory learns.
        spread: Other pictures in which the place of the rule is looked for; 0 learns from the examples alone.
        rank: Of what a linear memory adds.
        preview: Write preview.html too: the same seeds before and after, and what changed where.
        device: auto, cpu, cuda or cuda:N.
        force: Replace an older Checkpoint at --out.
        dry_run: Check everything, say what would be done, write nothing.
        json: Print the result as JSON.

    Returns:
        The folder of the new Checkpoint.
    """
    began, out = time.perf_counter(), Path(out)
    wanted: list[Given] = [edits] if isinstance(edits, str | os.PathLike | Mapping) else [*edits]
    command = command_line(rewrite, {**locals(), "edits": ()}) + "".join(
        f" {e}" for e in wanted if not isinstance(e, Mapping)
    )
    settings = Settings(p=p, q=q, steps=steps)
    _check_numbers(strength, settings, memory, layers=layers, spread=spread, rank=rank)
    found = checkpoint.read(model)
    for read in (found.path, *(Path(one) for one in wanted if not isinstance(one, Mapping))):
        if out.resolve() in (read.resolve(), *read.resolve().parents):
            raise ValueError(f"--out {out}: {read} is read from there; choose another folder")
    rules, learned = _sum_up(model, found, wanted, undo, strength)
    network = models.load(model, pick_device(device)).requires_grad_(False)
    teacher = None
    if learned:
        hosts = Hosts(network, model, None if data is None else open_dataset(data))
        teacher = Teacher(
            hosts, find_projector(projector, found, model, hosts.device), memory, layers, spread, rank, settings
        )
        _ = teacher.cut
        for edit in learned:
            overlays_of(edit, hosts)
    report: dict[str, Any] = {"out": str(out), "model": model, "checkpoint": found.hash, "rules": {}}
    if dry_run:
        told = ", ".join(edit.name for edit in learned) or "nothing new"
        print(json_format.dumps(report) if json else f"would teach {printable(model)} {told}, into {out}")
        return out
    free_folder(out, CONFIG, force=force)
    for edit in learned:
        assert teacher is not None
        _put(network, differences.combined(found, rules)[0])  # learned apart, rules take more of each other's effect
        taught = teach_rule(teacher, edit)
        measured = {**taught.measured, "found": taught.found}
        beside = sorted(rule.name for rule in rules if rule.strength)
        about = {"edit": edit.source, "memory": memory, "layers": teacher.depth, "beside": beside}
        rules.append(Rule(edit.name, root_of(found), taught.difference, strength, about | measured))
        report["rules"][edit.name] = {**measured, "seconds": round(taught.seconds, 2)}
    differences.write(out, found, rules, model)
    if preview:
        page = preview_page(network, found, rules, None if data is None else open_dataset(data), command)
        write_atomic(out / PREVIEW, lambda temporary: temporary.write_text(page, encoding="utf-8"))
    report["seconds"] = round(time.perf_counter() - began, 2)
    print(json_format.dumps(report) if json else _summary(report, rules, preview))
    return out


def _check_numbers(
    strength: float, settings: Settings, memory: Memory, *, layers: int | None, spread: int, rank: int
) -> None:
    """ValueError names the option that is wrong, or that would be ignored."""
    if not 0 <= strength <= LARGEST:
        raise ValueError(f"--strength {strength}: must be 0 to {LARGEST:g}")
    least = {"--steps": (settings.steps, 1), "--spread": (spread, 0), "--rank": (rank, 1)}
    least |= {} if layers is None else {"--layers": (layers, 1)}
    for option, (number, lowest) in least.items():
        if number < lowest:
            raise ValueError(f"{option} {number}: must be {lowest} or more")
    if min(settings.p, settings.q) < 0:
        raise ValueError("--p, --q: must be 0 or more")
    if memory == "linear" and (layers, settings) != (None, Settings()):
        raise ValueError("--layers, --p, --q, --steps: a linear memory is solved directly; they only go with nonlinear")
    if memory == "nonlinear" and rank != 1:
        raise ValueError("--rank: only goes with --memory linear")


def _sum_up(
    model: str, found: Checkpoint, wanted: Sequence[Given], undo: str | None, strength: float
) -> tuple[list[Rule], list[Edit]]:
    """The rules that the new Checkpoint has already, and the edits that are still to be learned."""
    rules = without(rules_of(found), undo)
    learned, ready = sort_out(wanted, found)
    learned = unknown(learned, [*rules, *ready])
    if not (learned or ready):
        if not rules and undo is None:
            raise ValueError(f"{model}: was not rewritten yet; name an edit file")
        if strength != 1 or undo is None:
            rules = [dataclasses.replace(rule, strength=strength) for rule in rules]
    ready = [dataclasses.replace(rule, strength=strength) for rule in ready if rule.name not in names(rules)]
    return [*rules, *ready], learned


def names(rules: Sequence[Rule]) -> set[str]:
    return {rule.name for rule in rules}


def unknown(edits: Sequence[Edit], rules: Sequence[Rule]) -> list[Edit]:
    """The edits that are no rules yet: what is known already changes nothing. ValueError if two that differ would have
    one name, or one file."""
    taken = {file_name(rule.name): rule.about.get("edit") for rule in rules}
    new = []
    for edit in edits:
        name = file_name(edit.name)
        if name not in taken:
            taken[name] = edit.source
            new.append(edit)
        elif taken[name] != edit.source:
            raise ValueError(f"{edit.name}: there is another rule of that name; give it one of its own, or --undo that")
    return new


def without(rules: list[Rule], undo: str | None) -> list[Rule]:
    """The rules but those named. ValueError if there is no such rule."""
    gone = [name.strip() for name in (undo or "").split(",") if name.strip()]
    for name in gone:
        if name not in names(rules):
            there = ", ".join(rule.name for rule in rules) or "none"
            raise ValueError(f"--undo {name}: there is no such rule; there is {there}")
    return [rule for rule in rules if rule.name not in gone]


def sort_out(wanted: Sequence[Given], found: Checkpoint) -> tuple[list[Edit], list[Rule]]:
    """Edits to be learned, and rules that are ready. ValueError if one belongs to another checkpoint."""
    edits, ready = list[Edit](), list[Rule]()
    for one in wanted:
        if isinstance(one, Mapping):
            edits.append(read_edit(one))
        elif Path(one).is_dir():
            if not (rules := rules_of(checkpoint.read(one))):
                raise ValueError(f"{one}: has no rules; give an edit file, or a checkpoint that kyara rewrite wrote")
            ready += rules
        elif Path(one).suffix == ".safetensors":
            ready.append(read_rule(Path(one)))
        else:
            edits.append(read_edit(one))
    for edit in edits:
        if edit.checkpoint is not None and edit.checkpoint not in (found.hash, root_of(found)):
            raise ValueError(f"{edit.name}: was made for checkpoint {edit.checkpoint}, this is {found.hash}")
    for rule in ready:
        if rule.root != root_of(found):
            raise ValueError(f"rule {rule.name}: belongs to checkpoint {rule.root}, this is {root_of(found)}")
    return edits, ready


def find_projector(named: str | None, found: Checkpoint, model: str, device: torch.device) -> Projector:
    """The projector named, or the built-in one that belongs to the checkpoint. ValueError if none does."""
    hint = f"train one: kyara train projector --of {model}, and name its run with --projector"
    if named is None:
        for name in checkpoint.builtin_names():
            about = checkpoint.read(f"builtin:{name}")
            if about.model == "projector" and about.config["generator"]["hash"] == root_of(found):
                named = f"builtin:{name}"
        if named is None:
            raise ValueError(f"{model}: there is no projector of it; {hint}")
    network = models.load(named, device)
    if not isinstance(network, Projector):
        raise ValueError(f"--projector {named}: is none; {hint}")
    if network.config.generator.hash != root_of(found):
        raise ValueError(
            f"--projector {named}: knows the features of {network.config.generator.checkpoint}, not of {model}; {hint}"
        )
    return network.requires_grad_(False)


def _put(network: Model, weights: Mapping[str, torch.Tensor]) -> None:
    """A Checkpoint's weights into a network that is loaded already."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name in weights:
                parameter.copy_(weights[name])


def _summary(report: Mapping[str, Any], rules: Sequence[Rule], preview: bool) -> str:
    out = Path(report["out"])
    lines = [f"{out}: {printable(str(report['model']))} with {', '.join(rule.name for rule in rules) or 'no rule'}"]
    for name, row in report["rules"].items():
        shown = f"{row['shown']:.0%} of the pattern is shown where it belongs, " if "shown" in row else ""
        lines.append(f"{name}: {shown}pixels elsewhere change by {row['elsewhere']:.3f} of 2; {row['seconds']:.0f} s")
        if row["elsewhere"] > DAMAGE:
            lines.append("  that damages the rest: lower --strength or raise --p, or mask less")
        if row.get("shown", 1.0) < TAUGHT:
            lines.append("  that is little: give two more examples, more --steps, or a larger pattern")
    lines.append(f"look at {out / PREVIEW}" if preview else f"make faces with: kyara generate {out}")
    return "\n".join(lines)
