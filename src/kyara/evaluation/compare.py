"""The verb `kyara compare`: trained models side by side, on one page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from kyara import __version__
from kyara.evaluation import options
from kyara.files.atomic import check_free, free_folder, numbered_folder, write_atomic
from kyara.files.names import printable
from kyara.files.pictures import parse_size
from kyara.verbs import Device, Force, Out, Result, Workers, check_number, check_text, command_line

if TYPE_CHECKING:
    from kyara.evaluation.runs import ModelReport

TABLE, PAGE = "comparison.json", "index.html"
Runs = Annotated[Positional[tuple[str, ...]], arg(metavar="RUNS ...")]


@dataclass(frozen=True)
class CompareResult(Result):
    """Models side by side; comparison.json holds the same."""

    kyara: str
    command: str
    data: dict[str, Any]
    """The real pictures: path, fingerprint, count."""
    features: dict[str, str]
    """Name and hash of the feature extractor."""
    resizer: str
    count: int
    draws: int
    truncation: float
    ranked_by: str
    """frechet, or kid for fewer than 2,048 pictures."""
    verdict: str
    real: dict[str, dict[str, Any]]
    """Scores of some of the real pictures against the others: the best that a model can reach."""
    models: tuple[ModelReport, ...]
    """Best first; then untrained ones; then those that could not be measured."""

    def __str__(self) -> str:
        lines = [printable(self.verdict)]
        for i, model in enumerate(self.models, 1):
            name = printable(model.name)
            if model.error:
                lines.append(f"  -  {name}: {printable(model.error)}")
            else:
                rank = f"{'-' if model.untrained else f'{i}.'}{' (untrained)' * model.untrained}"
                lines.append(f"  {rank} {name}: {with_interval(model.scores[self.ranked_by])}")
        return "\n".join([*lines, f"look at {self.out and self.out / PAGE}"])


def compare(
    runs: Runs,
    *,
    data: Path,
    out: Out = None,
    features: options.Features = options.FEATURES,
    tagger: options.Tagger = options.FEATURES,
    count: int = 2048,
    draws: int = 3,
    reals: options.Reals = options.REALS,
    truncation: options.Truncation = 1.0,
    size: options.Size = None,
    batch: options.Batch = 64,
    workers: Workers = 2,
    device: Device = "auto",
    force: Force = False,
) -> CompareResult:
    """Write one page that shows trained models side by side and names the best one.

    The page is a single file; comparison.json beside it holds the same numbers. A model that cannot be measured does
    not stop the others: the page shows its error.

    Args:
        runs: Run folders, or any generators: Checkpoints' folders, builtin:NAME or hf-hub:OWNER/NAME.
        data: The real pictures: a Dataset of any form.
        count: Number of pictures of each model in one draw.
        draws: Number of draws, each with other seeds: intervals are computed over draws.
    """
    check_text("--data", data)
    check_text("--out", out)
    runs, data = tuple(map(str, runs)), Path(data)
    command = command_line(compare, locals())
    if not runs:
        raise ValueError("RUNS: give at least one run: kyara compare runs/* --data faces.zip")
    for run in runs:
        check_text("RUNS", run)
    check_number("--count", count, least=4, most=options.MOST_PICTURES)
    check_number("--draws", draws, least=1, most=1000)
    options.check(
        features=features,
        tagger=tagger,
        reals=reals,
        least_reals=8,
        truncation=truncation,
        batch=batch,
        workers=workers,
    )
    common = None if size is None else parse_size(size)
    folder = numbered_folder(Path("comparisons"), f"compare-{data.stem}") if out is None else Path(out)
    check_free(folder, TABLE, force=force, sources=[*runs, data])

    from kyara.evaluation.measure import attempt, measure, real_scores
    from kyara.evaluation.page import page
    from kyara.evaluation.runs import ModelReport, describe, largest_size, short_names
    from kyara.evaluation.scores import FRECHET_COUNT, load_networks
    from kyara.evaluation.sets import RealSet, evenly_spaced
    from kyara.files.dataset import open_dataset
    from kyara.training.runtime import pick_device

    where, dataset = pick_device(device), open_dataset(data)
    models = [ModelReport(name, run) for name, run in zip(short_names(runs), runs, strict=True)]
    for model in models:
        attempt(model, describe)
    common = common or largest_size(models)
    attributes = [name for model in models if not model.error for name in model.config["data"].get("attributes", ())]
    networks = load_networks(features, tagger, where, attributes=attributes)
    subset = dataset.subset(evenly_spaced(len(dataset), reals))
    real = RealSet(subset, networks.extractor, common, workers, batch)
    scores_of_reals = real_scores(real, count)
    sheets = measure(models, networks, real, count=count, draws=draws, truncation=truncation)

    by = "frechet" if min(count, len(real.features)) >= FRECHET_COUNT else "kid"
    ranked = rank(models, by)
    result = CompareResult(
        folder,
        __version__,
        command,
        real.about(),
        {"name": networks.extractor.name, "hash": networks.extractor.hash},
        networks.extractor.resizer(common),
        count,
        draws,
        truncation,
        by,
        verdict(ranked, by),
        scores_of_reals,
        tuple(ranked),
    )
    write(result, page(folder.resolve().name, result.as_json(), sheets))
    return result


def rank(models: Sequence[ModelReport], by: str) -> list[ModelReport]:
    """Best first; untrained ones follow, then those with an error."""
    measured = sorted((model for model in models if not model.error), key=lambda model: model.scores[by]["value"])
    measured.sort(key=lambda model: model.untrained)
    return [*measured, *(model for model in models if model.error)]


def verdict(models: Sequence[ModelReport], by: str) -> str:
    """Says which of the ranked models is the best, in a few sentences."""
    measured = [model for model in models if not model.error]
    trained = [model for model in measured if not model.untrained]
    sentences = []
    if trained:
        sentences += [_best(trained, by), *_differences(trained)]
    elif measured:
        sentences.append("No model that could be measured is trained.")
    else:
        sentences.append("No model could be measured.")
    if untrained := [title(model) for model in measured if model.untrained]:
        are = "is untrained (0 kimg) and does" if len(untrained) == 1 else "are untrained (0 kimg) and do"
        sentences.append(f"{' and '.join(untrained)} {are} not take part in the ranking.")
    if measured and len(measured) < len(models):
        sentences.append(f"{len(models) - len(measured)} of {len(models)} could not be measured.")
    return " ".join(sentences)


def _best(ranked: Sequence[ModelReport], by: str) -> str:
    metric = "Fréchet distance" if by == "frechet" else "KID"
    text = f"{title(ranked[0])} is the best: {metric} {with_interval(ranked[0].scores[by])}"
    if len(ranked) == 1:
        return f"{text}."
    text += f", followed by {title(ranked[1])} with {with_interval(ranked[1].scores[by])}."
    low, high = ranked[1].scores[by]["low"], ranked[0].scores[by]["high"]
    if low is None or high is None:
        return f"{text} One draw does not tell whether the difference is chance; use --draws 3."
    if low <= high:
        return f"{text} The intervals overlap: the difference may be chance."
    return f"{text} The intervals do not overlap."


def _differences(ranked: Sequence[ModelReport]) -> list[str]:
    lengths = {round(m.training["trained_kimg"], 1) for m in ranked if "trained_kimg" in m.training}
    sets = {str(m.about["data"].get("fingerprint")) for m in ranked if isinstance(m.about.get("data"), dict)}
    found = []
    if len(lengths) > 1:
        found.append(f"They were not trained equally long: {min(lengths):g} to {max(lengths):g} kimg.")
    if len(sets) > 1:
        found.append("They were not all trained on the same data.")
    return found


def title(model: ModelReport) -> str:
    return model.name if model.model in model.name else f"{model.model} ({model.name})"


def with_interval(score: Mapping[str, Any]) -> str:
    from kyara.evaluation.scores import format_number

    value = format_number(score["value"])
    return (
        value if score["low"] is None else f"{value} ({format_number(score['low'])} to {format_number(score['high'])})"
    )


def write(result: CompareResult, html: str) -> None:
    """Writes the page and comparison.json, in place of an older comparison."""
    assert result.out is not None
    table = {key: value for key, value in result.as_json().items() if key != "out"}
    text = json.dumps(table, indent=2, ensure_ascii=False) + "\n"
    free_folder(result.out, TABLE, force=True)  # checked before the work; the older one is kept until now
    for name, content in ((PAGE, html), (TABLE, text)):
        write_atomic(result.out / name, partial(Path.write_text, data=content, encoding="utf-8", errors="replace"))
