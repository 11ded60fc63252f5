"""The models of a comparison: settings and training curves from their folders, scores of several draws, and the
pictures for the page."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from kyara.evaluation.features import Size
from kyara.evaluation.metrics import Estimate, mean_of_draws, wilson
from kyara.evaluation.ranking import RankScore
from kyara.evaluation.scores import (
    COPIES,
    KID,
    PRECISION,
    RECALL,
    Networks,
    Score,
    all_scores,
    distribution_scores,
    rank_score,
    run_networks,
)
from kyara.evaluation.sets import GeneratedSet, RealFeatures, RealSet
from kyara.files import checkpoint
from kyara.files.names import printable
from kyara.files.pictures import to_uint8
from kyara.generation.sampler import load_generator, sample_seeds
from kyara.perception.features import builtin_hash
from kyara.training.log import FEATURES, STATS

SHEET, EXTREMES = 36, 8  # Number of pictures of a model on the page: of seeds 0 to 35, and of the best and of the worst
SHARES, SHOWN = {PRECISION.name, RECALL.name, COPIES.name}, "accuracy/"
"""Scores that are shares of the pictures, of the real ones for recall; and the prefix of others."""
ENOUGH_REALS = 4  # times the pictures of a model: a part of that size leaves at least three quarters of the real ones


@dataclass
class ModelReport:
    """Description and scores of one model."""

    name: str
    path: str
    error: str | None = None  # Why it could not be measured
    untrained: bool = False  # Whether the weights are those at 0 kimg
    model: str = ""
    checkpoint: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    parameters: int = 0
    """Number of parameters of the network that generates pictures: of the moving average, without an encoder."""
    training: dict[str, float] = field(default_factory=dict)
    """kimg of the checkpoint, and if logged, trained_kimg, seconds and images_per_second of the run."""
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)  # Name -> (kimg, value)
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name -> a Score as a mapping, with `draws`, the value of each draw."""
    best: list[tuple[int, float]] = field(default_factory=list)
    worst: list[tuple[int, float]] = field(default_factory=list)  # (seed, score by `RankScore`)

    @property
    def size(self) -> Size:
        return int(self.config["data"]["width"]), int(self.config["data"]["height"])


def short_names(runs: Sequence[str]) -> list[str]:
    """A short name for each run: the folder's name, for a snapshot with the run's name, or the whole path if two are
    equal. Raises ValueError if a run is given twice."""
    if len(set(runs)) < len(runs):
        raise ValueError("RUNS: a run is given twice; give each once")
    parts = [Path(run).parts for run in runs]
    short = ["/".join([*p[-3:-2], p[-1]]) if p[-2:-1] == ("snapshots",) else p[-1] if p else "." for p in parts]
    names = [run if short.count(name) > 1 else name for run, name in zip(runs, short, strict=True)]
    return names if len(set(names)) == len(names) else [*runs]


def describe(report: ModelReport) -> None:
    """Reads settings and training curves from the model's folder."""
    rows = read_stats(checkpoint.find(report.path) / STATS)
    for row in rows:
        for name in row:
            if name != "nimg":
                report.curves.setdefault(name, []).append((row["nimg"] / 1000, row[name]))
    report.training = training_speed(rows)
    found = checkpoint.read(report.path)
    report.model, report.checkpoint = found.model, found.hash
    report.config, report.about = dict(found.config), dict(found.about)
    data = report.config.get("data")
    if not isinstance(data, Mapping) or not isinstance(data.get("attributes", {}), Mapping):
        raise ValueError(f"{report.path}: the data or attributes in its config.json are not a mapping")
    try:
        _ = report.size
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{report.path}: its config.json has no picture size ({error!r})") from error
    kimg = found.about.get("kimg")
    if isinstance(kimg, int | float):
        report.training |= {"kimg": kimg, "trained_kimg": max(kimg, report.training.get("trained_kimg", 0))}
        report.untrained = kimg == 0


def read_stats(path: Path) -> list[dict[str, float]]:
    """The finite numbers in each line of stats.jsonl; damaged lines are skipped, and so are Fréchet distances in other
    features than those of this version of Kyara."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and isinstance(row.get("nimg"), int):
            if row.get(FEATURES) != builtin_hash():
                row.pop("score/frechet", None)
            rows.append({k: v for k, v in row.items() if isinstance(v, int | float) and math.isfinite(v)})
    return rows


def training_speed(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Duration and mean speed of a run, computed from the speed in each line of its log; includes snapshots."""
    seconds = images = last = 0.0
    for row in rows:
        if (speed := row.get("img/s", 0)) > 0:
            seconds, images, last = seconds + (row["nimg"] - last) / speed, images + row["nimg"] - last, row["nimg"]
    # The last line can be that of a snapshot, which has no speed.
    trained = max((row["nimg"] for row in rows), default=0) / 1000
    return {"seconds": seconds, "images_per_second": images / seconds, "trained_kimg": trained} if seconds else {}


def largest_size(reports: Sequence[ModelReport]) -> Size:
    """The size of the largest pictures. Raises ValueError if no run could be read."""
    sizes = [report.size for report in reports if not report.error]
    if not sizes:
        raise ValueError("no run could be read: " + "; ".join(f"{r.path}: {r.error}" for r in reports))
    return max(sizes, key=math.prod)


def measure(
    models: Sequence[ModelReport], networks: Networks, real: RealSet, *, count: int, draws: int, truncation: float
) -> dict[str, dict[int, np.ndarray]]:
    """Scores every readable model. Returns the pictures for the page: name -> seed -> picture."""
    sheets: dict[str, dict[int, np.ndarray]] = {}

    def measure_one(model: ModelReport) -> None:
        generator = load_generator(model.path, networks.extractor.device)
        pictures = GeneratedSet(model.path, generator, count, truncation=truncation)
        model.parameters = sum(parameter.numel() for parameter in generator.sampled())
        score_draws(model, pictures, networks, real, draws)
        sheets[model.name] = shown_pictures(model, pictures)

    for model in tqdm(models, desc="models", unit="model", disable=None):
        attempt(model, measure_one)
    return sheets


def attempt(model: ModelReport, step: Callable[[ModelReport], object]) -> None:
    """Runs one step for a model, unless an earlier one failed. Errors are stored in the report instead of raised."""
    if model.error:
        return
    try:
        step(model)
    except Exception as error:
        model.error = f"{error}" or type(error).__name__
        tqdm.write(f"warning: {model.path}: {printable(model.error)}", file=sys.stderr)


def score_draws(model: ModelReport, pictures: GeneratedSet, networks: Networks, real: RealSet, draws: int) -> None:
    """Scores `draws` sets of pictures of one model, and finds its best and worst pictures."""
    found: list[dict[str, Score]] = []
    judged: list[tuple[int, float]] = []
    for draw in range(draws):
        some, name = replace(pictures, first=draw * pictures.count), f"{model.name}, draw {draw + 1} of {draws}"
        outputs = run_networks(some, networks, real.size, batch=real.batch, name=name)
        found.append({score.name: score for score in all_scores(outputs, networks, real.size, real)})
        judged += [(some.first + i, float(value)) for i, value in enumerate(outputs.ranked)]
    for name in merged_names(found):
        scores = [asdict(one[name]) for one in found if name in one]
        estimate = combined(name, scores)._asdict() if len(scores) > 1 else {}
        model.scores[name] = {**scores[0], **estimate, "draws": [score["value"] for score in scores]}
    judged.sort(key=lambda pair: -pair[1])
    model.best, model.worst = judged[:EXTREMES], judged[: -EXTREMES - 1 : -1]


def merged_names(lists: Iterable[Iterable[str]]) -> list[str]:
    """All names of several lists, without repetitions; one that the first lists lack follows the name before it."""
    merged: list[str] = []
    for names in lists:
        place = 0
        for name in names:
            if name in merged:
                place = merged.index(name)
            else:
                merged.insert(place, name)
            place += 1
    return merged


def combined(name: str, scores: Sequence[Mapping[str, Any]]) -> Estimate:
    """The mean of a score over independent draws or trainings, with Student's interval. That of a share is at least as
    wide as Wilson's: equal values do not mean that it is known exactly. That of KID, which estimates a square, does not
    reach below 0 unless its value does."""
    found, (lowest, highest) = mean_of_draws([score["value"] for score in scores]), scores[0]["range"]
    if found.low is None or found.high is None:
        return found
    if name in SHARES or name.startswith(SHOWN):
        pictures = sum(score["pictures"] * max(len(score.get("draws", ())), 1) for score in scores)
        pooled = wilson(found.value, scores[0]["reals"] if name == RECALL.name else pictures)
        low, high = (one if one is not None else found.value for one in pooled[1:])
        found = Estimate(found.value, min(found.low, low), max(found.high, high))
    if name == KID.name and found.value >= 0:
        lowest = 0.0
    return found.clipped(lowest, highest)


def shown_pictures(model: ModelReport, pictures: GeneratedSet) -> dict[int, np.ndarray]:
    """The pictures of a model for the page, by seed."""
    seeds = dict.fromkeys([*range(SHEET), *(seed for seed, _ in model.best + model.worst)])
    made = sample_seeds(pictures.generator, seeds, truncation=pictures.truncation)
    return dict(zip(seeds, (picture for batch, _ in made for picture in to_uint8(batch)), strict=True))


def real_scores(real: RealSet, ranker: RankScore, count: int) -> dict[str, dict[str, Any]]:
    """Scores of one part of the real pictures against the others. Of those between two sets, all but KID depend on
    their sizes: they are left out unless the parts are about as large as the sets of the models."""
    features = real.features
    order = np.random.RandomState(0).permutation(len(features))
    n = min(count, len(features) // 2)
    others = RealFeatures(real.extractor, real.size, features[order[n:]])
    comparable = len(features) >= ENOUGH_REALS * count
    found = [s for s in distribution_scores(features[order[:n]], others) if comparable or s.name == KID.name]
    if ranker.of_reals is not None:
        found.append(rank_score(ranker.of_reals, ranker))
    return {score.name: asdict(score) for score in found}
