"""Groups of models that differ only in their training seed. A group is ranked by the mean over its trainings."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kyara.evaluation.runs import ModelReport, combined, merged_names
from kyara.training.run import identity

RESULTS = {"kimg", "snapshot", "training.seed"}
"""Entries of config.json, beside the scores, that differ between trainings with equal settings."""


@dataclass(frozen=True)
class Group:
    """Trainings with equal settings and different seeds, or a single model."""

    name: str
    model: str
    runs: list[str]  # Names of the models, in the order of their training seeds
    untrained: bool
    parameters: int
    training: dict[str, float]  # As in ModelReport, the mean over the trainings
    scores: dict[str, dict[str, Any]]
    """Name -> a Score as a mapping: of a single model, its own; otherwise the mean over the trainings with its 95%
    interval (see `runs.combined`), and `runs`, name -> value."""


def groups(models: Sequence[ModelReport]) -> list[Group]:
    """The groups of all models that could be measured, in the order of the models."""
    found: dict[object, list[ModelReport]] = {}
    given: Counter[object] = Counter()
    for model in models:
        if not model.error:
            settings = _settings(model)
            repeated = settings, _seed(model)
            found.setdefault((settings, given[repeated]), []).append(model)  # two trainings of one seed are no sample
            given[repeated] += 1
    members = [sorted(group, key=lambda model: _seed(model) or 0) for group in found.values()]
    names = Counter(group[0].model for group in members if len(group) > 1)
    return [_merge(group, unique=names[group[0].model] == 1) for group in members]


def _settings(model: ModelReport) -> str:
    """Everything that defines a model except its training seed, as text. If its seed is unknown, it equals no other."""
    if _seed(model) is None:
        return f"path: {model.path}"
    about = identity({**model.about, "model": model.model, "config": model.config})
    known = {key: value for key, value in about.items() if key not in RESULTS and not key.startswith("scores.")}
    # A run folder has the best snapshot, chosen by its score; a snapshot has no curves.
    length = round(model.training.get("trained_kimg", 0.0), 1)
    return json.dumps([known, length, bool(model.curves), model.untrained], sort_keys=True, default=str)


def _seed(model: ModelReport) -> int | None:
    training = model.about.get("training")
    seed = training.get("seed") if isinstance(training, Mapping) else None
    return seed if isinstance(seed, int) else None


def _merge(members: Sequence[ModelReport], *, unique: bool) -> Group:
    first, runs = members[0], [model.name for model in members]
    if len(members) == 1:
        return Group(first.name, first.model, runs, first.untrained, first.parameters, first.training, first.scores)
    name = f"{first.model if unique else first.name} ({len(members)} seeds)"
    timed = merged_names(one.training for one in members)
    training = {key: _mean([one.training[key] for one in members if key in one.training]) for key in timed}
    scores = {}
    for key in merged_names(one.scores for one in members):
        found = {one.name: one.scores[key] for one in members if key in one.scores}
        values, each = {run: score["value"] for run, score in found.items()}, [*found.values()]
        scores[key] = {**each[0], **combined(key, each)._asdict(), "draws": [], "runs": values}
    return Group(name, first.model, runs, first.untrained, first.parameters, training, scores)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
