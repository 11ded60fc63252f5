"""Label completion on a dataset with known labels: hides most of them and measures what is filled and how correctly.

    python benchmarks/completion.py tagged.zip --attribute hair [--kept 300] [--tagger none] [--unseen d]

Each repeat keeps other labels, fills at --target precision, and then asks --ask questions in two ways: selected ones in
batches, and random ones. A tagger that was trained on the hidden labels would know the answers: `--unseen d` takes only
pictures whose file name sorts from d on, which the built-in tagger was not trained on.

"neither asked" compares the two on the pictures that neither of them asked about. "whole set" counts answers as correct
and takes the committee's labels for all other pictures: the labels that a user ends up with.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import tyro
from common import held_out, run

from kyara.evaluation.metrics import mean_of_draws
from kyara.files.dataset import known_values, open_dataset
from kyara.labels.committee import Committee, Member, questions_worth_asking
from kyara.labels.complete import NO_TAGGER, PRECISIONS, committee_members
from kyara.labels.tagger import load_tagger


def interval(numbers: Sequence[float]) -> str:
    """Mean and Student's 95% interval; a repeat that fills nothing has no precision."""
    if len(numbers) < 2:
        return "filled in fewer than two repeats"
    value, low, _ = mean_of_draws(numbers)
    return f"{value:7.2%} ± {value - (low or 0):.2%}"


def answer(members: list[Member], y: np.ndarray, kept: np.ndarray, values: int, count: int, batch: int) -> np.ndarray:
    """Numbers of the answered pictures after `count` questions that committees selected."""
    answered = kept
    while (left := count - (len(answered) - len(kept))) > 0:
        free = np.setdiff1d(np.arange(len(y)), answered)
        opinion = Committee(members, answered, y[answered], values)
        chosen = questions_worth_asking(members[0].features, free, min(batch, left), opinion)
        answered = np.concatenate([answered, chosen])
    return answered


def report(title: str, rows: dict[str, list[float]]) -> None:
    print(f"\n{title}")
    for name, numbers in rows.items():
        print(f"  {name:44}{interval(numbers)}", flush=True)


def measure(
    data: tyro.conf.Positional[Path],
    attribute: str = "hair",
    tagger: str = NO_TAGGER,
    unseen: str = "",
    kept: int = 300,
    ask: int = 100,
    batch: int = 25,
    target: float = 0.95,
    repeats: int = 5,
) -> None:
    """Prints what is filled, and what questions add.

    Args:
        data: A dataset whose labels are known.
        attribute: The attribute that is completed.
        tagger: A tagger whose features the committee also uses, or none.
        unseen: Only pictures whose file name sorts from here on.
        kept: Labels that are not hidden.
        ask: Questions; 0 asks none.
        batch: Questions that are selected at once.
        target: Precision of what is filled.
        repeats: Repeats, each with other labels.
    """
    torch.set_num_threads(1)
    whole = open_dataset(data)
    column, (_, tested) = whole.attributes[attribute], held_out(whole, unseen)
    dataset = whole.subset([i for i in tested if column[i]])
    values = known_values(dataset.attributes[attribute])
    y = dataset.labels(attribute, values)
    left_out: dict[str, str] = {}
    loaded = None if tagger == NO_TAGGER else load_tagger(tagger)
    members = committee_members(dataset, loaded, left_out, workers=os.cpu_count() or 1)
    if left_out:
        raise ValueError(f"{data}: cannot be read: {left_out}")
    print(f"{data}: {len(dataset)} pictures, {attribute}, {len(values)} values, tagger {tagger}")

    filled: dict[str, list[float]] = {}
    compared: dict[str, list[float]] = {}
    correct: dict[float, list[bool]] = {}
    for repeat in range(repeats):
        order = np.random.RandomState(repeat).permutation(len(y))
        measure_filling(members, y, order, kept, len(values), target, filled, correct)
        if ask:
            arms = {
                "random": order[: kept + ask],
                "selected": answer(members, y, order[:kept], len(values), ask, batch),
            }
            measure_questions(members, y, arms, len(values), compared)

    report(f"{kept} labels kept, {repeats} repeats, mean and 95% interval", filled)
    for wanted, hits in correct.items():
        precision = f"{np.mean(hits):.2%}" if hits else "-"
        print(f"  target {wanted:.0%}: of {len(hits):,} filled in all repeats, {precision} are correct")
    if ask:
        report(f"with {ask} questions, {batch} at a time", compared)


def measure_filling(
    members: list[Member],
    y: np.ndarray,
    order: np.ndarray,
    kept: int,
    values: int,
    target: float,
    filled: dict[str, list[float]],
    correct: dict[float, list[bool]],
) -> None:
    """Adds what one repeat fills at each precision, and how much of it is correct."""
    known, hidden = order[:kept], np.sort(order[kept:])
    opinion = Committee(members, known, y[known], values)
    right = opinion.chosen == y
    filled.setdefault("accuracy, if everything were filled", []).append(right[hidden].mean())
    filled.setdefault("  as estimated", []).append(opinion.confidence[hidden].mean())
    for wanted in sorted({target, *PRECISIONS}, reverse=True):
        sure = hidden[opinion.confidence[hidden] >= opinion.threshold(hidden, wanted)]
        filled.setdefault(f"target {wanted:.0%}: filled", []).append(len(sure) / len(hidden))
        precision = filled.setdefault(f"target {wanted:.0%}: precision", [])
        if len(sure):
            precision.append(right[sure].mean())
        correct.setdefault(wanted, []).extend(right[sure])
    surest = hidden[np.argsort(-opinion.confidence[hidden], kind="stable")]
    precise = np.flatnonzero(np.cumsum(right[surest]) / np.arange(1, len(hidden) + 1) >= target)
    share = (precise[-1] + 1) / len(hidden) if len(precise) else 0.0
    filled.setdefault(f"largest share with {target:.0%}, if the labels were known", []).append(share)


def measure_questions(
    members: list[Member], y: np.ndarray, arms: dict[str, np.ndarray], values: int, compared: dict[str, list[float]]
) -> None:
    """Adds the accuracy of one repeat after random and after selected questions."""
    rest = np.setdiff1d(np.arange(len(y)), np.concatenate([*arms.values()]))
    score: dict[str, tuple[float, float]] = {}
    for name, answered in arms.items():
        right = Committee(members, answered, y[answered], values).chosen == y
        right_now = right.copy()
        right_now[answered] = True
        score[name] = right[rest].mean(), right_now.mean()
    for k, what in enumerate(("neither asked", "whole set")):
        for name in arms:
            compared.setdefault(f"{name}: {what}", []).append(score[name][k])
        compared.setdefault(f"selected - random: {what}", []).append(score["selected"][k] - score["random"][k])


def main(arguments: list[str] | None = None) -> None:
    run(measure, arguments)


if __name__ == "__main__":
    main()
