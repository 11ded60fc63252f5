"""Label completion on a dataset whose labels are known: hide most of them, see what comes back and how right it is.

.venv-bench/bin/python benchmarks/completion.py tagged.zip --attribute hair [--kept 300] [--tagger none] [--unseen d]

Each repeat keeps other labels, fills at --target precision, and from there asks --ask questions twice: chosen ones in
batches, and random ones. A tagger that was trained on the labels hidden here would know the answers: `--unseen d` takes
only pictures whose file name begins with d or later, which the built-in tagger never saw.

"neither asked" compares the two on the same pictures, those that neither of them was asked about. "whole set" counts
the answers as right and all the others as the committee would fill them: what a person ends up with.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from kyara.files.dataset import known_values, open_dataset
from kyara.labels.committee import Committee, Member, questions_worth_asking
from kyara.labels.complete import NO_TAGGER, PRECISIONS, committee_members
from kyara.labels.tagger import load_tagger

T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""Student's t for an interval of 95 %, by the number of repeats."""


def interval(numbers: Sequence[float]) -> str:
    """Mean and 95 % interval; a repeat that filled nothing has no precision."""
    if len(numbers) < 2:
        return "nothing was filled, or once"
    half = T95[len(numbers)] * statistics.stdev(numbers) / len(numbers) ** 0.5
    return f"{statistics.mean(numbers):7.2%} ± {half:.2%}"


def ask(members: list[Member], y: np.ndarray, kept: np.ndarray, values: int, count: int, batch: int) -> np.ndarray:
    """The answered pictures after `count` questions that committees chose."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--attribute", default="hair")
    parser.add_argument("--tagger", default=NO_TAGGER)
    parser.add_argument("--unseen", default="", help="only pictures whose file name is at least this")
    parser.add_argument("--kept", type=int, default=300)
    parser.add_argument("--ask", type=int, default=100)
    parser.add_argument("--batch", type=int, default=25)
    parser.add_argument("--target", type=float, default=0.95)
    parser.add_argument("--repeats", type=int, default=5, choices=T95)
    given = parser.parse_args()
    torch.set_num_threads(1)

    whole = open_dataset(given.data)
    column = whole.attributes[given.attribute]
    taken = [i for i, name in enumerate(whole.names) if column[i] and PurePosixPath(name).name >= given.unseen]
    dataset = whole.subset(taken)
    values = known_values(dataset.attributes[given.attribute])
    y = dataset.labels(given.attribute, values)
    tagger = None if given.tagger == NO_TAGGER else load_tagger(given.tagger)
    left_out: dict[str, str] = {}
    members = committee_members(dataset, tagger, left_out, workers=os.cpu_count() or 1)
    assert not left_out, left_out
    print(f"{given.data}: {len(dataset)} pictures, {given.attribute}, {len(values)} values, tagger {given.tagger}")

    filled: dict[str, list[float]] = {}
    compared: dict[str, list[float]] = {}
    together: dict[float, list[bool]] = {}
    for repeat in range(given.repeats):
        order = np.random.RandomState(repeat).permutation(len(y))
        kept, open_ = order[: given.kept], np.sort(order[given.kept :])
        opinion = Committee(members, kept, y[kept], len(values))
        right = opinion.chosen == y
        filled.setdefault("accuracy, if all were filled", []).append(right[open_].mean())
        filled.setdefault("  as it estimates", []).append(opinion.confidence[open_].mean())
        for target in sorted({given.target, *PRECISIONS}, reverse=True):
            sure = open_[opinion.confidence[open_] >= opinion.threshold(open_, target)]
            filled.setdefault(f"asked for {target:.0%}: filled", []).append(len(sure) / len(open_))
            precision = filled.setdefault(f"asked for {target:.0%}: precision", [])
            if len(sure):
                precision.append(right[sure].mean())
            together.setdefault(target, []).extend(right[sure])
        surest = open_[np.argsort(-opinion.confidence[open_], kind="stable")]
        precise = np.flatnonzero(np.cumsum(right[surest]) / np.arange(1, len(open_) + 1) >= given.target)
        share = (precise[-1] + 1) / len(open_) if len(precise) else 0.0
        filled.setdefault(f"most that has {given.target:.0%}, were the labels known", []).append(share)

        if not given.ask:
            continue
        arms = {
            "random": order[: given.kept + given.ask],
            "chosen": ask(members, y, kept, len(values), given.ask, given.batch),
        }
        rest = np.setdiff1d(np.arange(len(y)), np.concatenate([*arms.values()]))
        score: dict[str, tuple[float, float]] = {}
        for name, answered in arms.items():
            right = Committee(members, answered, y[answered], len(values)).chosen == y
            right_now = right.copy()
            right_now[answered] = True
            score[name] = right[rest].mean(), right_now.mean()
            compared.setdefault(f"{name}: neither asked", []).append(score[name][0])
            compared.setdefault(f"{name}: whole set", []).append(score[name][1])
        for k, what in enumerate(("neither asked", "whole set")):
            gain = score["chosen"][k] - score["random"][k]
            compared.setdefault(f"chosen - random: {what}", []).append(gain)

    report(f"{given.kept} labels kept, {given.repeats} repeats, mean and 95 % interval", filled)
    for target, hits in together.items():
        precision = f"{np.mean(hits):.2%}" if hits else "-"
        print(f"  asked for {target:.0%}: of all {len(hits):,} filled in the repeats, right {precision}")
    if given.ask:
        report(f"and {given.ask} questions more, {given.batch} at a time", compared)


if __name__ == "__main__":
    main()
