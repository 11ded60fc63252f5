"""Active label completion (after Li and Han 2019): a committee fills in what it is sure of and asks about the rest.

Works for an attribute that nobody has labelled yet. Every answer is on disk before the next question is asked.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kyara.files.dataset import ABOUT_THE_FILE, Dataset, known_values
from kyara.files.errors import DatasetError
from kyara.files.names import printable
from kyara.files.pictures import to_float
from kyara.files.workers import ahead
from kyara.labels.ask import CANNOT_TELL, Asker, InFiles, OnTerminal, StopAsking, read_answers
from kyara.labels.attributes import PERSON, Label, read_labels, write_labels
from kyara.labels.colours import colours
from kyara.labels.committee import Committee, Member, committee_of, questions_worth_asking
from kyara.labels.tagger import Tagger, load_tagger
from kyara.training.runtime import pick_device

START = 20
"""Answers that a committee needs: the first batch asks for as many."""
COMMITTEE = "committee"
NO_TAGGER = "none"
REACH = (0.99, 0.95, 0.9, 0.8)
"""Precisions for which the report says how much could be filled."""


@dataclass
class Report:
    """What completion found and did."""

    attribute: str
    values: list[str]
    pictures: int
    answers: int = 0
    """Pictures whose value a person or the data gave; what is learnt from."""
    asked: int = 0
    """Of them, answered in this run."""
    accuracy: float | None = None
    """How many of the open pictures the committee would get right, as cross-validation on the answers tells."""
    precision: float | None = None
    """The same, of those it filled."""
    filled: dict[str, int] = field(default_factory=dict)
    """Value -> pictures filled with it."""
    unknown: int = 0
    """Pictures that stay open."""
    reach: dict[float, float] = field(default_factory=dict)
    """Precision -> the share of the open pictures that could be filled with it."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Pictures that cannot be read, and why."""
    questions: tuple[Path, Path] | None = None
    """The sheet and the CSV to fill in, where nobody could be asked."""

    def __str__(self) -> str:
        lines = [f"{self.attribute}: {self.answers:,} answers, {self.asked:,} of them new"]
        if self.accuracy is None:
            lines.append(f"  nothing filled yet: it takes {START} answers, and two values among them")
        else:
            sure = f", about {self.precision:.1%} of it right" if self.precision is not None else ""
            lines.append(f"  filled {sum(self.filled.values()):,}{sure}; left unknown {self.unknown:,}")
            lines += [f"    {printable(value)} {n:,}" for value, n in self.filled.items()]
            could = ", ".join(f"{share:.0%} at precision {target:g}" for target, share in self.reach.items())
            lines.append(f"  all open pictures filled, {self.accuracy:.1%} would be right; it could fill {could}")
        if self.left_out:
            lines.append(f"  could not be read: {len(self.left_out):,}")
            lines += [f"    {printable(name)}: {printable(why)}" for name, why in list(self.left_out.items())[:10]]
        if self.questions:
            picture, table = self.questions
            lines.append(f"  look at {picture}, fill in {table}, and give it back with --answers {table}")
        return "\n".join(lines)


def complete(
    dataset: Dataset,
    attribute: str,
    *,
    values: Sequence[str] = (),
    answers: Path | None = None,
    questions: int = 100,
    batch: int = START,
    target: float = 0.95,
    tagger: str = "builtin:tagger",
    device: str = "auto",
    workers: int | None = None,
    ask: Asker | None = None,
) -> Report:
    """Asks about pictures of which the attribute is unknown, and fills it in where a committee is sure enough.

    What a person or the data said teaches the committee; what a tagger said does not, and is replaced where the
    committee is sure. On a terminal the questions are asked there; elsewhere a sheet and a CSV to fill in are left.

    Args:
        values: The values it can have; without them, those that the answers bring.
        answers: A CSV with the columns file_name and value; these answers count first.
        questions: Ask at most this many.
        batch: So many at a time, all shown on one sheet.
        target: The precision of what is filled in, 0.5 to 1. Asking ends when all could be filled with it.
        tagger: Whose embedding the committee looks at; "none": colours alone.
        ask: Who answers; by default the terminal, or files where there is none.

    ValueError and DatasetError say what is wrong, before anything is written.
    """
    values = _checked(attribute, values, questions=questions, batch=batch, target=target)
    given = [] if answers is None else read_answers(Path(answers), dataset, values)
    looker = None if tagger == NO_TAGGER else load_tagger(tagger, pick_device(device))
    _write(dataset, attribute, given)
    ask = ask or (OnTerminal(fixed=bool(values)) if sys.stdin.isatty() else InFiles())
    state = _State(dataset, attribute, values)
    members = look(dataset, looker, state.left_out, workers=workers or os.cpu_count() or 1)
    state.refresh()
    report = Report(attribute, state.values, len(dataset), left_out=state.left_out)
    asked, skipped = len(given), np.zeros(len(dataset), dtype=bool)
    while True:
        opinion = state.opinion(members)
        done = opinion is not None and opinion.threshold(state.open, target) <= opinion.confidence[state.open].min()
        free = state.open[~skipped[state.open]]
        left = questions - (asked - len(given))
        if done or left <= 0 or not len(free):
            break
        wanted = questions_worth_asking(members[0].features, free, min(batch, left), opinion)
        skipped[wanted] = True
        try:
            for i, value in ask(dataset, attribute, wanted.tolist(), state.values):
                _write(dataset, attribute, [(i, value)])
                asked += 1
        except StopAsking:
            state.refresh()
            break
        state.refresh()
    report.asked = asked
    report.questions = ask.left if isinstance(ask, InFiles) else None
    _fill(state, state.opinion(members), target, report)
    return report


def _checked(attribute: str, values: Sequence[str], *, questions: int, batch: int, target: float) -> list[str]:
    """The values without blanks around them. ValueError if an option makes no sense."""
    if not attribute.strip() or attribute != attribute.strip() or attribute in ABOUT_THE_FILE:
        raise ValueError(f"--complete {attribute!r}: not the name of an attribute; give one as gender")
    if questions < 0:
        raise ValueError(f"--questions {questions}: must be 0 or more")
    if batch < 1:
        raise ValueError(f"--batch {batch}: must be 1 or more")
    if not 0.5 <= target <= 1:
        raise ValueError(f"--target {target}: it is a precision; give a number from 0.5 to 1")
    stripped = [value.strip() for value in values]
    if len(set(stripped)) < len(stripped) or "" in stripped or CANNOT_TELL in stripped or len(stripped) == 1:
        raise ValueError(f"--values {','.join(values)}: give two different values or more, none of them {CANNOT_TELL}")
    return stripped


def _write(dataset: Dataset, attribute: str, answers: Sequence[tuple[int, str]]) -> None:
    if answers:
        write_labels(dataset, [Label(dataset.names[i], attribute, value, None, PERSON) for i, value in answers])


class _State:
    """What is known of the attribute: read anew from the dataset after every batch."""

    def __init__(self, dataset: Dataset, attribute: str, values: Sequence[str]) -> None:
        self.dataset, self.attribute, self.values = dataset, attribute, list(values)
        self.left_out: dict[str, str] = {}
        self.refresh()

    def refresh(self) -> None:
        number = {name: i for i, name in enumerate(self.dataset.names)}
        known = {
            number[label.file_name]: label for label in read_labels(self.dataset) if label.attribute == self.attribute
        }
        told = {i: label.value for i, label in known.items() if label.rank > 0}
        self.stale = {i for i, label in known.items() if label.by == COMMITTEE}
        self.values = list(dict.fromkeys([*self.values, *known_values(told.values())]))
        unreadable = {number[name] for name in self.left_out}
        self.answered = np.array(sorted(i for i, v in told.items() if v and i not in unreadable), dtype=np.int64)
        self.labels = np.array([self.values.index(told[i]) for i in self.answered.tolist()], dtype=np.int64)
        shut = told.keys() | unreadable
        self.open = np.array([i for i in range(len(self.dataset)) if i not in shut], dtype=np.int64)

    def opinion(self, members: Sequence[Member]) -> Committee | None:
        """The committee's, once there are answers enough."""
        if len(self.answered) < START or len(np.unique(self.labels)) < 2 or not len(self.open):
            return None
        return Committee(members, self.answered, self.labels, len(self.values))


def look(
    dataset: Dataset, tagger: Tagger | None, left_out: dict[str, str], *, workers: int, batch: int = 64
) -> list[Member]:
    """The members of a committee on all pictures, by colours alone without a tagger; what cannot be read goes to
    `left_out`. Threads decode ahead of the network."""
    embeddings: list[np.ndarray] = []
    palettes: list[np.ndarray] = []
    waiting: list[np.ndarray] = []
    rows: list[int] = []

    def prepare(i: int) -> tuple[np.ndarray, np.ndarray]:
        picture = dataset.picture(i, 2 * max(tagger.size) if tagger else 64)
        return colours(picture), tagger.fit(picture) if tagger else picture[:0]

    def flush() -> None:
        if tagger and waiting:
            embeddings.append(_embed(tagger, np.stack(waiting)))
            waiting.clear()

    decoded = ahead(prepare, range(len(dataset)), workers, 2 * batch)
    for i, found in tqdm(decoded, total=len(dataset), unit="picture", disable=None):
        if isinstance(found, Exception):
            left_out[dataset.names[i]] = str(found)
            continue
        rows.append(i)
        palettes.append(found[0])
        waiting.append(found[1])
        if len(waiting) == batch:
            flush()
    flush()
    if not rows:
        raise DatasetError(f"{dataset.path}: none of its {len(dataset)} pictures can be read")
    palette = _spread(np.stack(palettes), rows, len(dataset))
    return committee_of(_spread(np.concatenate(embeddings), rows, len(dataset)) if tagger else palette, palette)


def _spread(features: np.ndarray, rows: Sequence[int], count: int) -> np.ndarray:
    """Features of every picture (count, F); the mean stands for those that could not be read and nobody asks about."""
    whole = np.repeat(features.mean(0, keepdims=True), count, 0)
    whole[rows] = features
    return whole


def _embed(tagger: Tagger, pictures: np.ndarray) -> np.ndarray:
    """The tagger's embedding of pictures (B, H, W, 3) uint8; of one without, the square roots of all it says."""
    batch = to_float(pictures)
    if hasattr(tagger, "embed"):
        return np.asarray(tagger.embed(batch), dtype=np.float32)
    said = tagger.probabilities(batch)
    return np.concatenate([np.sqrt(np.asarray(p, dtype=np.float32)) for p in said.values()], 1)


def _fill(state: _State, opinion: Committee | None, target: float, report: Report) -> None:
    """Writes what the committee is sure enough of, and renews what an earlier one wrote."""
    report.values, report.answers, report.unknown = state.values, len(state.answered), len(state.open)
    if opinion is None:
        return
    confidence = opinion.confidence[state.open]
    report.accuracy = float(confidence.mean())
    report.reach = {t: float((confidence >= opinion.threshold(state.open, t)).mean()) for t in REACH}
    sure = state.open[confidence >= opinion.threshold(state.open, target)].tolist()
    filled = Counter(state.values[opinion.chosen[i]] for i in sure)
    report.filled = dict(filled.most_common())
    report.unknown -= len(sure)
    report.precision = float(opinion.confidence[sure].mean()) if sure else None
    labels = [
        Label(
            state.dataset.names[i],
            state.attribute,
            state.values[opinion.chosen[i]],
            float(opinion.confidence[i]),
            COMMITTEE,
        )
        for i in sorted({*sure, *state.stale.intersection(state.open.tolist())})
    ]
    if labels:
        write_labels(state.dataset, labels)
