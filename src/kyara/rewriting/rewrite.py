"""The verb `kyara rewrite`."""

from __future__ import annotations

import inspect
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from kyara import verbs
from kyara.files.atomic import missing_folders, remove_empty, result_folder, still_free, write_errors, write_text
from kyara.files.names import printable, short_name
from kyara.rewriting.settings import EXTRA_IMAGES, MAX_STRENGTH, Memory, Settings

if TYPE_CHECKING:
    from kyara.rewriting.plan import Given
    from kyara.rewriting.rules import Rule

    Edits = Given | Sequence[Given]
else:
    Edits = Annotated[tuple[verbs.ExistingPath, ...], arg(metavar="[EDITS ...]")]  # on the command line

PREVIEW = "preview.html"
MARKER = "config.json"  # by it, an earlier Checkpoint at --out is recognised
MAX_OUTSIDE_ERROR, MAX_INSIDE_ERROR = 0.06, 0.8  # larger errors are reported with advice
LEARNING = ("projector", "memory", "layers", "p", "q", "steps", "extra_images", "rank")  # only an edit needs these


@dataclass(frozen=True)
class RuleReport:
    """A rule of the new Checkpoint. Errors are None where they were not measured."""

    name: str
    strength: float
    learned: bool  # by this call
    inside_error: float | None = None  # distance to the pasted pattern on new pictures: 0 as pasted, 1 as before
    outside_error: float | None = None  # mean absolute change of pixels in [-1, 1] everywhere else
    found: float | None = None  # share of the random training pictures in which the masked place was found
    seconds: float | None = None  # of training; None if this call did not learn it

    def __str__(self) -> str:
        inside, outside, end, advice = self.inside_error, self.outside_error, f"{self.seconds or 0:.0f} s", ""
        parts = [] if inside is None else [f"inside error {inside:.2f} (0 as pasted, 1 as before)"]
        parts += [] if outside is None else [f"outside error {outside:.3f}"]
        if (outside or 0) > MAX_OUTSIDE_ERROR:
            advice += "\n  the rest of the pictures changes too: lower --strength, raise --p, or give smaller masks"
        if (inside or 0) > MAX_INSIDE_ERROR:
            advice += "\n  little was learned: give more examples or a larger pattern, or raise --steps"
        return f"{printable(self.name)}: {', '.join(parts) or 'no error was measured'}; {end}{advice}"


@dataclass(frozen=True)
class RewriteResult(verbs.Result):
    """What `rewrite` returns."""

    model: str  # that was rewritten
    checkpoint: str  # its hash
    rules: tuple[RuleReport, ...]
    preview: Path | None  # the page
    seconds: float
    dry_run: bool
    use: str = ""  # the command that makes pictures with it
    skipped: tuple[str, ...] = ()  # given rules that the model has already
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        names = ", ".join(printable(rule.name) for rule in self.rules) or "no rule"
        model = printable(self.model)
        skipped = [f"{model} already has the rule {printable(name)}: skipped" for name in self.skipped]
        skipped += [f"warning: {printable(warning)}" for warning in self.warnings]
        if self.dry_run:
            new = ", ".join(printable(rule.name) for rule in self.rules if rule.learned) or "nothing"
            return "\n".join([f"would write {self.out}: {model} with {names}; to learn: {new}", *skipped])
        lines = [f"{self.out}: {model} with {names}", *(str(rule) for rule in self.rules if rule.learned), *skipped]
        lines.append(f"look at {self.preview}" if self.preview else f"make pictures with: {self.use}")
        return "\n".join(lines)


@verbs.checked
def rewrite(
    model: Positional[str],
    edits: Positional[Edits] = (),
    *,
    out: verbs.Out = None,
    projector: str | None = None,
    data: verbs.ExistingPath | None = None,
    strength: Annotated[float | None, verbs.Range(0, MAX_STRENGTH)] = None,
    strengths: str | None = None,
    undo: str | None = None,
    memory: Memory = "nonlinear",
    layers: Annotated[int | None, verbs.Range(1, 1000)] = None,
    p: Annotated[float, verbs.Range(0)] = Settings.p,
    q: Annotated[float, verbs.Range(0)] = Settings.q,
    steps: Annotated[int, verbs.Range(1, 1_000_000)] = Settings.steps,
    extra_images: Annotated[int, verbs.Range(0, 100_000)] = EXTRA_IMAGES,
    rank: Annotated[int, verbs.Range(1, 1000)] = 1,
    preview: bool = False,
    device: verbs.Device = "auto",
    force: verbs.Force = False,
    dry_run: verbs.DryRun = False,
) -> RewriteResult:
    """Edit the weights of a generator with a few edited examples, and write a new Checkpoint.

    Args:
        model: The model: a Checkpoint's folder, builtin:NAME or hf-hub:OWNER/NAME. It is not changed.
        edits: Edit files (JSON), each a new rule; or existing rules: a rewritten Checkpoint, or one .safetensors file
            of its folder `edits`. Rules add up; known ones are skipped. Without any, --strength, --strengths
            and --undo change the rules of the model.
        projector: The projector of the model, from kyara train projector --of MODEL. builtin:anime and
            builtin:character have a built-in one.
        data: Input pictures for a model that makes pictures from pictures. Their results should not change, except for
            the new rule.
        strength: Factor on the rules that are added, usually 0 to 1, by default 1; without any, the strength of those
            of the model, which keep theirs by default. At 0, a rule changes nothing.
        strengths: Strengths of single rules of the model, such as glasses=0.5,gears=2; the others keep theirs.
        undo: Names of rules to remove, such as glasses,gears.
        memory: nonlinear (several layers) or linear (one layer, Bau et al. 2020).
        layers: Layers of a nonlinear memory; by default 3, 5 for features of 64 pixels, or fewer in a small network.
        p: Weight of the loss outside the pattern, which preserves the old values.
        q: Weight of the loss inside the pattern, which teaches the new values.
        steps: Training steps of a nonlinear memory.
        extra_images: Random pictures in which the masked place is searched, and which are trained on too; 0 trains on
            the examples alone.
        rank: Rank of the weight update of a linear memory.
        preview: Also write preview.html: the same pictures before and after.
    """
    options, start = locals(), time.perf_counter()
    given = [edits] if isinstance(edits, str | os.PathLike | Mapping) else [*edits]
    paths = [one for one in given if not isinstance(one, Mapping)]
    sources = [one for one in (model, *paths, projector, data) if one is not None]
    command = verbs.command_line(rewrite, {**options, "edits": paths})
    if memory == "linear":
        _refuse(options, ("layers", "p", "q", "steps"), "a linear memory has one layer and is solved")
    else:
        _refuse(options, ("rank",), "only applies to --memory linear")
    stem = re.sub(r"^[0-9]{5,9}-(rewrite-)?", "", short_name(model))  # without number and verb of a run folder
    out = result_folder(out, f"runs/rewrite-{stem}", MARKER, force=force, sources=sources)

    from kyara.models import architecture  # not before the options are checked: torch takes seconds
    from kyara.rewriting import rules as storage
    from kyara.rewriting.learning import RuleTrainer
    from kyara.rewriting.plan import find_projector, learn_edits, load_samples, make_plan
    from kyara.rewriting.preview import preview_html
    from kyara.training.run import check_no_run, next_command

    check_no_run(out)
    plan = make_plan(model, given, undo, strength, strengths)
    factor = 1.0 if strength is None else strength
    if not plan.edits:
        _refuse(options, LEARNING + ("data",) * (not preview), "there is no new edit to learn")
    samples = load_samples(plan, data, device) if plan.edits or preview else None
    trainer = None
    if samples and plan.edits:
        network = find_projector(projector, plan.parent, model, samples.device)
        trainer = RuleTrainer(samples, network, memory, layers, extra_images, rank, Settings(p=p, q=q, steps=steps))
        trainer.check(plan.edits)
    if dry_run:
        reports = (*map(_report, plan.rules), *(RuleReport(edit.name, factor, True) for edit in plan.edits))
        seconds = time.perf_counter() - start
        return RewriteResult(
            out, model, plan.parent.hash, reports, None, seconds, True, skipped=plan.skipped, warnings=plan.warnings
        )
    missing = missing_folders(out)
    try:
        with write_errors(out):
            out.mkdir(parents=True, exist_ok=True)  # so that no other call takes the number while this one learns
        learned = learn_edits(trainer, plan, factor) if trainer else {}
        rules = [*plan.rules, *learned]
        page = preview_html(samples, plan.parent, rules, command) if samples and preview else None
        out = still_free(out, MARKER, force=force)
        storage.write(out, plan.parent, rules, model, force=force)
    finally:
        remove_empty(missing)  # after an interruption
    if page is not None:
        write_text(out / PREVIEW, page)
    reports = tuple(_report(rule, learned.get(rule)) for rule in rules)
    seconds = time.perf_counter() - start
    shown, use = out / PREVIEW if preview else None, next_command(architecture(plan.parent.model), out)
    return RewriteResult(out, model, plan.parent.hash, reports, shown, seconds, False, use, plan.skipped, plan.warnings)


def _refuse(options: Mapping[str, Any], names: Sequence[str], why: str) -> None:
    """ValueError if one of these options is given, since it would be ignored."""
    defaults = inspect.signature(rewrite).parameters
    if given := [f"--{name.replace('_', '-')}" for name in names if options[name] != defaults[name].default]:
        raise ValueError(f"{', '.join(given)}: {why}; leave {'it' if len(given) == 1 else 'them'} out")


def _report(rule: Rule, seconds: float | None = None) -> RuleReport:
    """`seconds` is the time of training, None if the rule was there before."""
    errors = [rule.about.get(name) for name in ("inside_error", "outside_error", "found")]
    inside, outside, found = (float(e) if isinstance(e, float | int) else None for e in errors)  # from any file
    return RuleReport(rule.name, rule.strength, seconds is not None, inside, outside, found, seconds)
