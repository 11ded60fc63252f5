"""Measures the models of a comparison: draws of pictures, their scores, and the pictures that the page shows."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
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

    for model in tqdm([model for model in models if not model.error], desc="models", unit="model", disable=None):
        attempt(model, measure_one)
    return sheets


def attempt(model: ModelReport, step: Callable[[ModelReport], object]) -> None:
    """Runs one step for a model. An error is kept for the page and does not stop the comparison."""
    try:
        step(model)
    except Exception as error:
        model.error = f"{error}" or type(error).__name__
        tqdm.write(f"warning: {model.path}: {printable(model.error)}", file=sys.stderr)


def score_draws(model: ModelReport, pictures: GeneratedSet, networks: Networks, real: RealSet, draws: int) -> None:
    """Scores `draws` sets of pictures of one model, and finds its best and worst pictures."""
    found: list[list[Score]] = []
    judged: list[tuple[int, float]] = []
    for draw in range(draws):
        pictures.first = draw * pictures.count
        name = f"{model.name}, draw {draw + 1} of {draws}"
        outputs = run_networks(pictures, networks, real.size, batch=real.batch, name=name)
        found.append(all_scores(outputs, networks, real.size, real))
        judged += [(pictures.first + i, float(value)) for i, value in enumerate(outputs.whole)]
    for score in found[0]:
        values = [other.value for draw_scores in found for other in draw_scores if other.name == score.name]
        model.scores[score.name] = {**asdict(score), "draws": values}
        if draws > 1:
            model.scores[score.name] |= score.within_range(mean_of_draws(values))._asdict()
    judged.sort(key=lambda pair: -pair[1])
    model.best, model.worst = judged[:EXTREMES], judged[: -EXTREMES - 1 : -1]


def shown_pictures(model: ModelReport, pictures: GeneratedSet) -> dict[int, np.ndarray]:
    """The pictures of a model that the page shows, by seed."""
    shown: dict[int, np.ndarray] = {}
    for seed in dict.fromkeys([*range(SHEET), *(seed for seed, _ in model.best + model.worst)]):
        if seed not in shown:
            pictures.first, pictures.count = seed, SHEET if seed == 0 else 1
            shown |= {seed + i: picture for i, (picture, _) in enumerate(pictures)}
    return shown


def real_scores(real: RealSet, count: int) -> dict[str, dict[str, Any]]:
    """Scores of some real pictures against the others."""
    features = real.features
    order = np.random.RandomState(0).permutation(len(features))
    n = min(count, len(features) // 2)
    others = RealFeatures(real.extractor, real.size, features[order[n:]])
    return {score.name: asdict(score) for score in distribution_scores(features[order[:n]], others)}
