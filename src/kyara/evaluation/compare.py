"""The verb `kyara compare`: compares trained models on one page."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from kyara import __version__, verbs
from kyara.evaluation import shared
from kyara.evaluation.shared import FRECHET_COUNT, METRICS, format_interval, format_number
from kyara.files.atomic import replaced_folder, result_folder, still_free, write_text
from kyara.files.names import counted, printable
from kyara.files.pictures import parse_size

if TYPE_CHECKING:
    from kyara.evaluation.groups import Group
    from kyara.evaluation.runs import ModelReport

TABLE, PAGE = "comparison.json", "index.html"
FEWEST = 8  # real pictures: one half of them is compared with the other
Runs = Annotated[Positional[tuple[str, ...]], arg(metavar="RUNS ...", help_behavior_hint="(required)")]


@dataclasses.dataclass(frozen=True)
class CompareResult(verbs.Result):
    """Result of `compare`; comparison.json has the same content."""

    out: Path
    kyara: str
    command: str
    data: dict[str, Any]  # The real pictures: path, fingerprint, count
    features: dict[str, str]  # Name and hash of the feature extractor
    resizer: str
    count: int
    draws: int
    truncation: float
    ranked_by: str  # frechet, or kid for fewer than 2,048 pictures
    verdict: str = ""
    real: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    """Scores of one part of the real pictures against the others: the best score that a model can expect."""
    groups: tuple[Group, ...] = ()  # Best first, then untrained ones. Trainings that differ only in their seed are one
    models: tuple[ModelReport, ...] = ()  # In the order of their groups; then those that could not be measured
    dry_run: bool = False

    def __str__(self) -> str:
        lines = [printable(self.verdict)]
        for i, group in enumerate(self.groups, 1):
            rank = "-" if group.untrained else f"{i}."
            about = with_interval(group.scores[self.ranked_by])
            lines.append(f"  {rank} {'(untrained) ' * group.untrained}{printable(group.name)}: {about}")
        for model in self.models:
            if model.error or self.dry_run:
                about = printable(model.error or "") or "can be measured"
                lines.append(f"  - {'(untrained) ' * model.untrained}{printable(model.name)}: {about}")
        return "\n".join(lines if self.dry_run else [*lines, f"look at {self.out and self.out / PAGE}"])


@verbs.checked
def compare(
    runs: Runs,
    *,
    data: Path,
    out: verbs.Out = None,
    features: shared.Features = shared.FEATURES,
    tagger: shared.Tagger = None,
    count: Annotated[int, shared.Count] = 2048,
    draws: Annotated[int, verbs.Range(1, 1000)] = 3,
    reals: shared.Reals = shared.REALS,
    truncation: shared.Truncation = 1.0,
    size: shared.Size = None,
    batch: shared.Batch = None,
    workers: verbs.Workers = 2,
    device: verbs.Device = "auto",
    force: verbs.Force = False,
    dry_run: verbs.DryRun = False,
) -> CompareResult:
    """Compare trained models on one page and determine the best one.

    Runs that differ only in their --seed are ranked together, by their mean. The page is a single file;
    comparison.json contains the same numbers. A model that cannot be measured does not stop the others: the page
    shows its error.

    Args:
        runs: Run folders or other generators: Checkpoint folders, builtin:NAME or hf-hub:OWNER/NAME.
        data: The real pictures: a Dataset in any form.
        count: Number of pictures per model and draw.
        draws: Number of draws with different seeds, from which confidence intervals are computed.
    """
    command = verbs.command_line(compare, locals())
    if not runs:
        raise ValueError("RUNS: give at least one run: kyara compare runs/* --data faces.zip")
    verbs.check_number("--reals", reals, least=FEWEST, most=shared.MOST_PICTURES)
    common = None if size is None else parse_size(size)
    out = result_folder(out, f"comparisons/compare-{data.stem}", TABLE, force=force, sources=[*runs, data])

    from kyara.evaluation.groups import groups
    from kyara.evaluation.page import page
    from kyara.evaluation.runs import ModelReport, attempt, describe, largest_size, measure, real_scores, short_names
    from kyara.evaluation.scores import load_networks
    from kyara.evaluation.sets import RealSet, open_reals
    from kyara.generation.sampler import load_generator
    from kyara.training.runtime import pick_device

    where, dataset = pick_device(device), open_reals(data, reals, FEWEST)
    models = [ModelReport(name, run) for name, run in zip(short_names(runs), runs, strict=True)]
    for model in models:
        attempt(model, describe)
    common = common or largest_size(models)
    attributes = [name for model in models if not model.error for name in model.config["data"].get("attributes", ())]
    networks = load_networks(features, tagger, where, size=common, attributes=attributes, reals=dataset)
    batch = batch or networks.extractor.batch_size(common)
    real = RealSet(dataset, networks.extractor, common, workers, batch)

    total = len(dataset) if dry_run else len(real.features)
    by = "frechet" if min(count, total) >= FRECHET_COUNT else "kid"
    about, extractor = {**real.about(), "count": total}, networks.extractor
    used, resizer = {"name": extractor.name, "hash": extractor.hash}, extractor.resizer(common)
    result = CompareResult(
        out, __version__, command, about, used, resizer, count, draws, truncation, by, dry_run=dry_run
    )
    if dry_run:
        for model in models:
            attempt(model, lambda model: load_generator(model.path, where))
        usable = sum(not model.error for model in models)
        each = f"{draws} × {counted(count, 'picture')} each"
        plan = f"would compare {counted(usable, 'model')}, {each}, with {total:,} real ones, into {out}"
        return dataclasses.replace(result, verdict=plan, models=tuple(models))
    scores_of_reals = real_scores(real, networks.ranker, count)
    sheets = measure(models, networks, real, count=count, draws=draws, truncation=truncation)
    ranked = rank(groups(models), by)
    ordered = in_order(models, ranked)
    text = verdict(ranked, ordered, by)
    result = dataclasses.replace(result, verdict=text, real=scores_of_reals, groups=tuple(ranked), models=ordered)
    out = still_free(out, TABLE, force=force)
    result = dataclasses.replace(result, out=out)
    with replaced_folder(out, TABLE, force=force) as new:
        write_text(new / PAGE, page(out.resolve().name, result.as_json(), sheets))
        write_text(new / TABLE, shared.to_json(result))
    return result


def rank(found: Sequence[Group], by: str) -> list[Group]:
    """Best first; untrained ones follow."""
    return sorted(found, key=lambda group: (group.untrained, group.scores[by]["value"]))


def in_order(models: Sequence[ModelReport], ranked: Sequence[Group]) -> tuple[ModelReport, ...]:
    """The models in the order of their groups; those that could not be measured follow."""
    named = {model.name: model for model in models}
    measured = [named[name] for group in ranked for name in group.runs]
    return (*measured, *(model for model in models if model.error))


def verdict(ranked: Sequence[Group], models: Sequence[ModelReport], by: str) -> str:
    """A summary in a few sentences of which of the ranked groups is the best."""
    trained = [group for group in ranked if not group.untrained]
    none = "No model that could be measured is trained." if ranked else "No model could be measured."
    sentences = [_best(trained, by), *_differences(models)] if trained else [none]
    if untrained := [title(group) for group in ranked if group.untrained]:
        are = "is untrained (0 kimg) and does" if len(untrained) == 1 else "are untrained (0 kimg) and do"
        sentences.append(f"{' and '.join(untrained)} {are} not take part in the ranking.")
    failed = sum(bool(model.error) for model in models)
    if ranked and failed:
        sentences.append(f"{failed} of {len(models)} could not be measured.")
    return " ".join(sentences)


def _best(ranked: Sequence[Group], by: str) -> str:
    value = f"{METRICS[by]} {with_interval(ranked[0].scores[by])}"
    if len(ranked) == 1:
        return f"Only one trained model was measured: {title(ranked[0])}, {value}."
    low, high = ranked[1].scores[by]["low"], ranked[0].scores[by]["high"]
    sure = low is not None and high is not None and low > high
    text = f"{title(ranked[0])} {'is the best' if sure else 'ranks first'}: {value}"
    text += f", followed by {title(ranked[1])} with {with_interval(ranked[1].scores[by])}."
    if low is None or high is None:
        return f"{text} One draw cannot show whether the difference is significant; use --draws 3."
    text += f" The intervals {'do not overlap' if sure else 'overlap: the difference may be random'}."
    repeated = ["runs" in group.scores[by] for group in ranked[:2]]
    return f"{text} Only one of them covers the variation between trainings." if len({*repeated}) > 1 else text


def _differences(models: Sequence[ModelReport]) -> list[str]:
    trained = [model for model in models if not model.error and not model.untrained]
    lengths = {round(m.training["trained_kimg"], 1) for m in trained if "trained_kimg" in m.training}
    sets = {str(m.about["data"].get("fingerprint")) for m in trained if isinstance(m.about.get("data"), dict)}
    found = []
    if len(lengths) > 1:
        found.append(f"Their training lengths differ: {min(lengths):g} to {max(lengths):g} kimg.")
    if len(sets) > 1:
        found.append("They were not all trained on the same data.")
    return found


def title(group: Group) -> str:
    return group.name if group.model in group.name else f"{group.model} ({group.name})"


def with_interval(score: Mapping[str, Any]) -> str:
    value, interval = format_number(score["value"]), format_interval(score["low"], score["high"])
    return f"{value} ({interval})" if interval else value
