"""A small battery: the default scores of pictures that are made worse, step by step. The large one is in
docs/reports/battery.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scripts import load

from kyara.evaluation.features import load_extractor

EXAMPLES = Path(__file__).parents[2] / "examples" / "characters.zip"
COUNT = 60


@pytest.fixture(scope="module")
def battery() -> Any:
    return load("battery")


@pytest.fixture(scope="module")
def judging(battery: Any) -> Any:
    """The default features of three sets of real pictures."""
    reals, _ = battery.real_sets(EXAMPLES, "64", COUNT)
    judge = battery.Judge(load_extractor("builtin", torch.device("cpu")), reals[:3])
    judge.base = reals[1]
    return judge


STEPS = [
    ("noise", (32.0, 96.0)), ("blur", (1.0, 4.0)), ("jpeg", (10.0, 2.0)), ("patches", (24.0,)),
    ("checkerboard", (24.0, 64.0)), ("eyes", (1.0,)), ("colours", (45.0, 120.0)), ("distorted", (1.0,)),
    ("shrunk", (0.3, 0.9)), ("repeated", (8.0, 2.0)), ("modes", (0.25,)), ("grey_noise", (60.0,)), ("flat", (0.0,)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "steps"), STEPS)
def test_scores_follow_the_eye(name: str, steps: tuple[float, ...], battery: Any, judging: Any) -> None:
    harm, _, judged, _ = battery.LADDERS[name]
    before = judging.first
    for step in steps:
        pictures = harm(judging.base, step, np.random.RandomState(0))
        assert pictures.shape == judging.base.shape and pictures.dtype == np.uint8
        now = judging.scores(pictures)
        for score in ("frechet", "kid"):
            assert score not in judged or now[score] > before[score], (score, step)
        for score in {"precision", "recall", "diversity"} & {*judged}:
            lowest = 0.05 * judging.real[score]
            assert now[score] < before[score] or now[score] <= lowest, (score, step)
        assert now["recall"] <= judging.real["recall"] + judging.noise["recall"]
        before = now


def test_what_is_no_picture_has_neither_precision_nor_recall(battery: Any, judging: Any) -> None:
    for name in ("grey_noise", "flat"):
        harm, steps, _, _ = battery.LADDERS[name]
        found = judging.scores(harm(judging.base, steps[0], np.random.RandomState(0)))
        assert found["precision"] == found["recall"] == 0


def test_a_generator_with_broken_weights_is_worse(battery: Any, judging: Any) -> None:
    names = "builtin:character", "builtin:character~0.5"
    good, bad = (battery.drawn(battery.broken(name), 24, (64, 64), 0.7) for name in names)
    better, worse = judging.scores(good), judging.scores(bad)
    assert better["frechet"] < worse["frechet"] and better["kid"] < worse["kid"]
    assert better["precision"] > worse["precision"]


def test_the_verdict_of_a_step(battery: Any, judging: Any) -> None:
    def moved(**by: float) -> dict[str, float]:
        """The scores of real pictures, moved by this many times their noise."""
        return {name: judging.real[name] + by.get(name, 0) * judging.noise[name] for name in battery.SCORES}

    real, worse, better = moved(), moved(precision=-1.1, kid=0.9), moved(recall=1.1, frechet=-1.1)
    nothing = dict.fromkeys(battery.SCORES, 0.0)
    for name, now, before, judged, verdict in [
        ("precision", worse, real, battery.SCORES, battery.PASS),
        ("kid", worse, real, battery.SCORES, battery.FAIL),  # not beyond noise
        ("kid", worse, real, (), battery.UNJUDGED),
        ("recall", better, real, (), battery.FAIL),  # better than real pictures
        ("frechet", better, better, battery.SCORES, battery.FAIL),
        ("precision", nothing, nothing, battery.SCORES, battery.PASS),  # as low as it gets
    ]:
        assert judging.verdict(name, now, before, judged) == verdict, (name, verdict)
