"""The verb `kyara rewrite`."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from tyro.conf import Positional

from kyara.files.atomic import check_free, free_folder, numbered_folder, write_atomic
from kyara.files.names import printable, short_name
from kyara.rewriting.settings import EXTRA_IMAGES, MAX_STRENGTH, Memory, Settings
from kyara.verbs import Device, DryRun, Force, Out, Result, check_exists, check_number, check_text, command_line

if TYPE_CHECKING:
    from kyara.rewriting.plan import Given
    from kyara.rewriting.rules import Rule

    Edits = Given | Sequence[Given]
else:
    Edits = tuple[Path, ...]  # on the command line

PREVIEW = "preview.html"
MARKER = "config.json"
"""Name of the file by which an earlier Checkpoint at --out is recognised."""
MAX_OUTSIDE_ERROR, MAX_INSIDE_ERROR = 0.06, 0.8
"""Larger errors are reported with advice."""


@dataclass(frozen=True)
class RuleReport:
    """A rule of the new Checkpoint. Errors are None where they were not measured."""

    name: str
    strength: float
    learned: bool
    """Whether this call learned it."""
    inside_error: float | None
    """Distance to the pasted pattern on new pictures: 0 as pasted, 1 as before."""
    outside_error: float | None
    """Mean absolute change of pixels in [-1, 1] everywhere else."""
    found: float | None
    """Share of the random training pictures in which the masked place was found."""
    seconds: float | None
    """Time of training; None if this call did not learn it."""

    def __str__(self) -> str:
        parts = []
        if self.inside_error is not None:
            parts.append(f"inside error {self.inside_error:.2f} (0 as pasted, 1 as before)")
        if self.outside_error is not None:
            parts.append(f"outside error {self.outside_error:.3f}")
        lines = [f"{printable(self.name)}: {', '.join(parts)}; {self.seconds or 0:.0f} s"]
        if (self.outside_error or 0) > MAX_OUTSIDE_ERROR:
            lines.append("  the rest of the pictures changes too: lower --strength, raise --p, or give smaller masks")
        if (self.inside_error or 0) > MAX_INSIDE_ERROR:
            lines.append("  little was learned: give more examples or a larger pattern, or raise --steps")
        return "\n".join(lines)


@dataclass(frozen=True)
class RewriteResult(Result):
    """What `rewrite` returns."""

    model: str
    """What was rewritten."""
    checkpoint: str
    """Its hash."""
    rules: tuple[RuleReport, ...]
    preview: Path | None
    """The preview page, if there is one."""
    seconds: float
    dry_run: bool
    """Whether nothing was written."""

    def __str__(self) -> str:
        names = ", ".join(printable(rule.name) for rule in self.rules) or "no rule"
        model = printable(self.model)
        if self.dry_run:
            new = ", ".join(printable(rule.name) for rule in self.rules if rule.learned) or "nothing"
            return f"would write {self.out}: {model} with {names}; to learn: {new}"
        lines = [f"{self.out}: {model} with {names}"]
        lines += [str(rule) for rule in self.rules if rule.learned]
        lines.append(f"look at {self.preview}" if self.preview else f"make pictures with: kyara generate {self.out}")
        return "\n".join(lines)


def rewrite(
    model: Positional[str],
    edits: Positional[Edits] = (),
    *,
    out: Out = None,
    projector: str | None = None,
    data: Path | None = None,
    strength: float = 1.0,
    undo: str | None = None,
    memory: Memory = "nonlinear",
    layers: int | None = None,
    p: float = Settings.p,
    q: float = Settings.q,
    steps: int = Settings.steps,
    extra_images: int = EXTRA_IMAGES,
    rank: int = 1,
    preview: bool = False,
    device: Device = "auto",
    force: Force = False,
    dry_run: DryRun = False,
) -> RewriteResult:
    """Change what a generator has learned with a few pasted examples, and write a new Checkpoint.

    Args:
        model: What is rewritten: a Checkpoint's folder, builtin:NAME or hf-hub:OWNER/NAME. It is not changed.
        edits: Edit files (JSON), each a new rule; or existing rules: a rewritten Checkpoint, or one .safetensors file
            of its folder `edits`. Rules add up. Without any, --strength and --undo change the rules of the model.
        projector: The projector of the model, from kyara train projector --of MODEL. builtin:anime has a built-in one.
        data: Input pictures for a model that makes pictures from pictures. Their results should not change, except for
            the new rule.
        strength: Factor on the rules, usually 0 to 1; 0 gives the original model.
        undo: Names of rules to remove, such as glasses,gears.
        memory: nonlinear (several layers) or linear (one layer, Bau et al. 2020).
        layers: Layers of a nonlinear memory; by default 3, or fewer in a small network.
        p: Weight of the old values.
        q: Weight of the new values.
        steps: Training steps of a nonlinear memory.
        extra_images: Random pictures in which the masked place is searched, and which are trained on too; 0 trains on
            the examples alone.
        rank: Rank of the change of a linear memory.
        preview: Also write preview.html: the same pictures before and after.
    """
    start = time.perf_counter()
    given = [edits] if isinstance(edits, str | os.PathLike | Mapping) else [*edits]
    paths = [Path(one) for one in given if not isinstance(one, Mapping)]
    command = command_line(rewrite, {**locals(), "edits": paths})
    settings = Settings(p=p, q=q, steps=steps)
    _check_numbers(strength, settings, memory, layers, extra_images, rank)
    for option, text in (("MODEL", model), ("--projector", projector), ("--undo", undo), ("--out", out)):
        check_text(option, text)
    for option, path in (*(("EDITS", path) for path in paths), ("--data", data)):
        check_exists(option, None if path is None else Path(path))
    out = Path(out) if out is not None else numbered_folder(Path("runs"), f"rewrite-{_stem(model)}")
    check_free(out, MARKER, force=force, sources=[model, *paths])

    from kyara.rewriting import rules as storage  # not before the options are checked: torch takes seconds
    from kyara.rewriting.plan import learn_edits, load_samples, make_plan, make_trainer
    from kyara.rewriting.preview import preview_html

    plan = make_plan(model, given, undo, strength)
    samples = load_samples(plan, data, device) if plan.edits or preview else None
    trainer = None
    if samples and plan.edits:
        trainer = make_trainer(plan, samples, projector, memory, layers, extra_images, rank, settings)
    if dry_run:
        new = [RuleReport(edit.name, strength, True, None, None, None, None) for edit in plan.edits]
        rules = (*(_report(rule) for rule in plan.rules), *new)
        return RewriteResult(out, model, plan.parent.hash, rules, None, time.perf_counter() - start, True)
    free_folder(out, MARKER, force=force)
    learned = learn_edits(trainer, plan, strength) if trainer else {}
    all_rules = [*plan.rules, *learned]
    storage.write(out, plan.parent, all_rules, model)
    if samples and preview:
        page = preview_html(samples, plan.parent, all_rules, command)
        write_atomic(out / PREVIEW, lambda temporary: temporary.write_text(page, encoding="utf-8"))
    rules = tuple(_report(rule, learned.get(rule)) for rule in all_rules)
    seconds = time.perf_counter() - start
    return RewriteResult(out, model, plan.parent.hash, rules, out / PREVIEW if preview else None, seconds, False)


def _stem(model: str) -> str:
    """The model's name without the number and the verb of a run folder."""
    return re.sub(r"^[0-9]{5,9}-(rewrite-)?", "", short_name(model))


def _check_numbers(
    strength: float, settings: Settings, memory: str, layers: int | None, extra_images: int, rank: int
) -> None:
    """ValueError names an option that is wrong, or that would be ignored."""
    check_number("--strength", strength, least=0, most=MAX_STRENGTH)
    check_number("--layers", layers, least=1, most=1000)
    check_number("--p", settings.p, least=0)
    check_number("--q", settings.q, least=0)
    check_number("--steps", settings.steps, least=1, most=1_000_000)
    check_number("--extra-images", extra_images, least=0, most=100_000)
    check_number("--rank", rank, least=1, most=1000)
    if memory not in get_args(Memory):
        raise ValueError(f"--memory {memory}: there are {', '.join(get_args(Memory))}")
    if memory == "linear" and (layers, settings) != (None, Settings()):
        raise ValueError("--layers, --p, --q, --steps: a linear memory has one layer and is solved; leave them out")
    if memory == "nonlinear" and rank != 1:
        raise ValueError("--rank: only applies to --memory linear")


def _report(rule: Rule, seconds: float | None = None) -> RuleReport:
    """`seconds` is the time of training, None if the rule was there before."""
    errors = [rule.about.get(name) for name in ("inside_error", "outside_error", "found")]
    inside, outside, found = (float(e) if isinstance(e, float | int) else None for e in errors)  # from any file
    return RuleReport(rule.name, rule.strength, seconds is not None, inside, outside, found, seconds)
