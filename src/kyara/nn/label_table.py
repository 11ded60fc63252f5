"""How labels occur together in the training data: the table `label_counts` of a Config, and drawing from it.

Attributes may exclude each other: closed eyes have no colour. Such labels are unknown (-1) in the table, and stay so in
what is drawn. Labels that are merely missing, because a tagger was not sure, never enter the table."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import cached_property

import numpy as np

from kyara.nn.conditioning import UNKNOWN, Attributes, LabelCounts

MOST = 4096  # rows of a table; config.json stays readable
CHANCE = 1e-6  # probability of an exclusion by chance, below which it is taken for one
STREAM = 1  # separates the random numbers of labels from those of the latent of the same seed


def count_labels(labels: np.ndarray) -> tuple[tuple[int, ...], ...]:
    """The table of labels (N, A): a row (A labels, count) for each combination that occurs, sorted.

    Pictures with an unknown label are left out, unless one of their other labels excludes that attribute, or no label
    of the attribute is known. With more than MOST combinations, the table is that of MOST pictures, evenly spaced among
    all of them in the table's order."""
    known = (labels != UNKNOWN) | (labels == UNKNOWN).all(0)
    for name, cause, value in exclusions(labels, np.ones(len(labels))):
        known[:, name] |= labels[:, cause] == value
    rows, counts = np.unique(labels[known.all(1)], axis=0, return_counts=True)
    if len(rows) > MOST:
        pictures = rows.repeat(counts, axis=0)
        chosen = np.linspace(0, len(pictures) - 1, MOST).round().astype(int)
        rows, counts = np.unique(pictures[chosen], axis=0, return_counts=True)
    return tuple((*map(int, row), int(count)) for row, count in zip(rows, counts, strict=True))


def exclusions(rows: np.ndarray, counts: np.ndarray) -> list[tuple[int, int, int]]:
    """Triples (a, b, v): attribute a is never known where attribute b has the label v. `rows` (R, A) occur `counts`
    (R,) times. With the share of unknown labels found elsewhere, this would have a probability below CHANCE."""
    found = []
    for a, b in itertools.permutations(range(rows.shape[1]), 2):
        unknown = rows[:, a] == UNKNOWN
        if unknown.all():
            continue
        for value in np.unique(rows[unknown & (rows[:, b] != UNKNOWN), b]).tolist():
            here = rows[:, b] == value
            if not unknown[here].all():
                continue
            share = (counts[unknown & ~here].sum() + 1) / (counts[~here].sum() + 2)
            if share ** float(counts[here].sum()) < CHANCE:
                found.append((a, b, value))
    return found


class LabelTable:
    """The labels of a model's training data."""

    def __init__(self, attributes: Attributes, label_counts: LabelCounts) -> None:
        self.attributes, self.names = attributes, list(attributes)
        table = np.asarray(label_counts, dtype=np.int64).reshape(len(label_counts), len(self.names) + 1)
        self.rows, self.counts = table[:, :-1], table[:, -1]  # (R, A), (R,)

    @cached_property
    def _exclusions(self) -> list[tuple[str, str, int]]:
        return [(self.names[a], self.names[b], value) for a, b, value in exclusions(self.rows, self.counts)]

    def excluded(self, labels: Mapping[str, int]) -> dict[str, str]:
        """The attributes that are never known beside `labels`, each with the attribute=value that excludes it."""
        causes = ((a, b, v) for a, b, v in self._exclusions if labels.get(b, UNKNOWN) == v)
        return {a: f"{b}={self.attributes[b][v]}" for a, b, v in causes}

    def draw(self, fixed: Mapping[str, int], seed: int) -> dict[str, int]:
        """Labels of every attribute: those in `fixed`, and the others from the data's distribution given these, or
        given most of them if all never occur together. Unknown where the others exclude an attribute, and without a
        table. A function of the seed alone."""
        if not len(self.rows):
            return {name: fixed.get(name, UNKNOWN) for name in self.names}
        return self.change(self._draw_row(self.rows, self.counts, fixed, seed), fixed, seed)

    def change(self, labels: Mapping[str, int], fixed: Mapping[str, int], seed: int) -> dict[str, int]:
        """`labels` with those in `fixed` changed and all others kept, but: an attribute that becomes excluded is
        unknown, and one that was excluded and no longer is gets a label from the data's distribution given the rest."""
        before, changed = self.excluded(labels), {**labels, **fixed}
        after = self.excluded(changed)
        changed |= {name: UNKNOWN for name in after if name not in fixed}
        for name in (name for name in self.names if name in before and name not in after and name not in fixed):
            known = self.rows[:, self.names.index(name)] != UNKNOWN
            given = {other: label for other, label in changed.items() if label != UNKNOWN}
            changed[name] = self._draw_row(self.rows[known], self.counts[known], given, seed)[name]
        return changed

    def _draw_row(self, rows: np.ndarray, counts: np.ndarray, given: Mapping[str, int], seed: int) -> dict[str, int]:
        """One of the rows that agree with most of `given`, as often as it occurs."""
        agree = self._agreement(rows, given)
        best = agree == agree.max()
        until = counts[best].cumsum()
        place = np.random.RandomState([seed, STREAM]).random_sample() * until[-1]
        row = rows[best][min(int(np.searchsorted(until, place, side="right")), len(until) - 1)]
        return dict(zip(self.names, row.tolist(), strict=True))

    def _agreement(self, rows: np.ndarray, given: Mapping[str, int]) -> np.ndarray:
        """How many labels of `given` each row has: (R,)."""
        columns = [rows[:, self.names.index(name)] == label for name, label in given.items()]
        return np.sum(columns, axis=0) if columns else np.zeros(len(rows), dtype=int)

    def hidden(self, labels: Mapping[str, int], fixed: Mapping[str, int]) -> list[str]:
        """A sentence for each label in `fixed` that pictures with `labels` may not show."""
        return [
            f"{name} is never known where {cause} in the training data, "
            f"so {name}={self.attributes[name][fixed[name]]} may not show"
            for name, cause in self.excluded(labels).items()
            if name in fixed
        ]

    def doubts(self, fixed: Mapping[str, int]) -> list[str]:
        """Sentences about labels that the training data do not have together. Attributes of which the table has no
        label are no reason for doubt."""
        if (found := self.hidden(fixed, fixed)) or not len(self.rows):
            return found
        counted = (self.rows != UNKNOWN).any(0)
        fixed = {name: label for name, label in fixed.items() if counted[self.names.index(name)]}
        if self._agreement(self.rows, fixed).max() == len(fixed):
            return []
        shown = ", ".join(f"{name}={self.attributes[name][label]}" for name, label in fixed.items())
        never = "never occur together" if len(fixed) > 1 else "does not occur"
        rest = "the attributes left open are drawn from the rows that agree with most of these values"
        return [f"{shown} {never} in the label_counts of the model; {rest}"]
