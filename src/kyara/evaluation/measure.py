"""Measures the models of a comparison: draws of pictures, their scores, and the pictures that the page shows."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from kyara.evaluation.metrics import mean_of_draws
from kyara.evaluation.runs import ModelReport, parameter_count
from kyara.evaluation.scores import Networks, Score, all_scores, distribution_scores, run_networks
from kyara.evaluation.sets import GeneratedSet, RealFeatures, RealSet
from kyara.files.names import printable
from kyara.generation.sampler import load_generator

SHEET, EXTREMES = 36, 8
"""Pictures of a model on the page: of seeds 0 to 35, and of the best and of the worst."""


def measure(
    models: Sequence[ModelReport], networks: Networks, real: RealSet, *, count: int, draws: int, truncation: float
) -> dict[str, dict[int, np.ndarray]]:
    """Scores every model that could be described. Returns the pictures that the page shows: name -> seed -> picture."""
    sheets: dict[str, dict[int, np.ndarray]] = {}

    def measure_one(model: ModelReport) -> None:
        generator = load_generator(model.path, networks.extractor.device)
        pictures = GeneratedSet(model.path, generator, count, truncation=truncation)
        model.parameters = parameter_count(generator)
        score_draws(model, pictures, networks, real, draws)
        sheets[model.name] = shown_pictures(model, pictures)

    for model in tqdm(models, desc="models", unit="model", disable=None):
        attempt(model, measure_one)
    return sheets


def attempt(model: ModelReport, step: Callable[[ModelReport], object]) -> None:
    """Runs one step for a model, unless an earlier one failed. An error is kept for the page, and the others go on."""
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
        judged += [(some.first + i, float(value)) for i, value in enumerate(outputs.whole)]
    for name, score in found[0].items():
        values = [one[name].value for one in found if name in one]
        estimate = mean_of_draws(values).clipped(*score.range)._asdict() if draws > 1 else {}
        model.scores[name] = {**asdict(score), **estimate, "draws": values}
    judged.sort(key=lambda pair: -pair[1])
    model.best, model.worst = judged[:EXTREMES], judged[: -EXTREMES - 1 : -1]


def shown_pictures(model: ModelReport, pictures: GeneratedSet) -> dict[int, np.ndarray]:
    """The pictures of a model that the page shows, by seed."""
    shown = {seed: picture for seed, (picture, _) in enumerate(replace(pictures, first=0, count=SHEET))}
    for seed, _ in model.best + model.worst:
        if seed not in shown:
            [(shown[seed], _)] = replace(pictures, first=seed, count=1)
    return shown


def real_scores(real: RealSet, count: int) -> dict[str, dict[str, Any]]:
    """Scores of some real pictures against the others."""
    features = real.features
    order = np.random.RandomState(0).permutation(len(features))
    n = min(count, len(features) // 2)
    others = RealFeatures(real.extractor, real.size, features[order[n:]])
    return {score.name: asdict(score) for score in distribution_scores(features[order[:n]], others)}
