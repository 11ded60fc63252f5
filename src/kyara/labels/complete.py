"""Active label completion (after Li and Han 2019): a committee fills in what it is sure of and asks about the rest.

It works for an attribute that has no labels yet. Every answer is on disk before the next question is asked.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from kyara.files.dataset import ABOUT_THE_FILE, Dataset, known_values
from kyara.files.errors import DatasetError
from kyara.files.pictures import to_float
from kyara.files.workers import batches, processors
from kyara.labels.ask import CANNOT_TELL, Asker, InFiles, OnTerminal, StopAsking, read_answers
from kyara.labels.attributes import PERSON, Label, read_labels, write_labels
from kyara.labels.colours import colours
from kyara.labels.committee import Committee, Member, committee_of, questions_worth_asking
from kyara.labels.results import START, CompletionResult
from kyara.labels.tagger import Tagger, load_tagger
from kyara.training.runtime import pick_device

COMMITTEE = "committee"
NO_TAGGER = "none"
PRECISIONS = (0.99, 0.95, 0.9, 0.8)
"""For these precisions the result says how many pictures could be filled in."""


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
) -> CompletionResult:
    """Asks about pictures whose value of the attribute is unknown, and fills it in where a committee is sure enough.

    The committee learns from the values of a person or of the data. Those of a tagger are not used, and are replaced
    where the committee is sure. Questions are asked on the terminal; where there is none, a contact sheet and a CSV to
    fill in are written.

    Args:
        values: The possible values; by default those that occur in the answers.
        answers: A CSV with the columns file_name and value; these answers count first.
        questions: Maximum number of questions.
        batch: Questions at a time, on one contact sheet.
        target: Precision of what is filled in, 0.5 to 1. Asking ends when all pictures could be filled in with it.
        tagger: The model whose embeddings the committee uses; "none": colours alone.
        ask: Who answers; by default the terminal, or files where there is none.

    Raises:
        ValueError, DatasetError: says what is wrong, before anything is written.
    """
    values = _checked(attribute, values, questions=questions, batch=batch, target=target)
    given = [] if answers is None else read_answers(Path(answers), dataset, values)
    network = None if tagger == NO_TAGGER else load_tagger(tagger, pick_device(device))
    if given:
        write_labels(dataset, [_answer(dataset, attribute, i, value) for i, value in given])
    ask = ask or (OnTerminal(fixed=bool(values)) if sys.stdin and sys.stdin.isatty() else InFiles())
    state = _State(dataset, attribute, values)
    members = committee_members(dataset, network, state.left_out, workers=workers or processors())
    state.refresh()
    asked = _ask(state, members, ask, questions=questions, batch=batch, target=target)
    written = ask.written if isinstance(ask, InFiles) else None
    return _fill(state, state.committee(members), target, asked=len(given) + asked, questions=written)


def _checked(attribute: str, values: Sequence[str], *, questions: int, batch: int, target: float) -> list[str]:
    """The values without surrounding blanks. ValueError if an option is invalid."""
    if not attribute.strip() or attribute != attribute.strip() or attribute in ABOUT_THE_FILE:
        raise ValueError(f"--complete {attribute!r}: not the name of an attribute; give one such as gender")
    if questions < 0:
        raise ValueError(f"--questions {questions}: must be 0 or more")
    if batch < 1:
        raise ValueError(f"--batch {batch}: must be 1 or more")
    if not 0.5 <= target <= 1:
        raise ValueError(f"--target {target}: it is a precision; give a number from 0.5 to 1")
    stripped = [value.strip() for value in values]
    if len(set(stripped)) < len(stripped) or "" in stripped or CANNOT_TELL in stripped or len(stripped) == 1:
        raise ValueError(f"--values {','.join(values)}: give two or more different values, none of them {CANNOT_TELL}")
    return stripped


def _answer(dataset: Dataset, attribute: str, i: int, value: str) -> Label:
    return Label(dataset.names[i], attribute, value, None, PERSON)


class _State:
    """What is known of the attribute, read again from the dataset after every batch of questions."""

    def __init__(self, dataset: Dataset, attribute: str, values: Sequence[str]) -> None:
        self.dataset, self.attribute, self.values = dataset, attribute, list(values)
        self.left_out: dict[str, str] = {}
        self.refresh()

    def refresh(self) -> None:
        index = {name: i for i, name in enumerate(self.dataset.names)}
        labels = [label for label in read_labels(self.dataset) if label.attribute == self.attribute]
        self.labels = {index[label.file_name]: label for label in labels}
        given = {i: label.value for i, label in self.labels.items() if label.rank > 0}
        self.values = list(dict.fromkeys([*self.values, *known_values(given.values())]))
        unreadable = {index[name] for name in self.left_out}
        self.answered = np.array(sorted(i for i, v in given.items() if v and i not in unreadable), dtype=np.int64)
        self.targets = np.array([self.values.index(given[i]) for i in self.answered.tolist()], dtype=np.int64)
        closed = given.keys() | unreadable
        self.open = np.array([i for i in range(len(self.dataset)) if i not in closed], dtype=np.int64)

    def committee(self, members: Sequence[Member]) -> Committee | None:
        """The trained committee; None while there are too few answers."""
        if len(self.answered) < START or len(np.unique(self.targets)) < 2 or not len(self.open):
            return None
        return Committee(members, self.answered, self.targets, len(self.values))

    def answer(self, i: int, value: str | None) -> None:
        """Writes one answer; None undoes it: the picture has the label again that it had before."""
        if value is not None:
            write_labels(self.dataset, [_answer(self.dataset, self.attribute, i, value)])
        else:
            before = [self.labels[i]] if i in self.labels else []
            write_labels(self.dataset, before, withdrawn={(self.dataset.names[i], self.attribute)})


def _ask(state: _State, members: Sequence[Member], ask: Asker, *, questions: int, batch: int, target: float) -> int:
    """Asks until the committee is sure of all open pictures, or the questions run out. Returns how many pictures were
    answered; an answer that was undone does not count."""
    asked = set[int]()
    skipped = np.zeros(len(state.dataset), dtype=bool)
    while True:
        committee = state.committee(members)
        if committee and committee.threshold(state.open, target) <= committee.confidence[state.open].min():
            break
        free, left = state.open[~skipped[state.open]], questions - len(asked)
        if left <= 0 or not len(free):
            break
        chosen = questions_worth_asking(members[0].features, free, min(batch, left), committee)
        skipped[chosen] = True
        try:
            for i, value in ask(state.dataset, state.attribute, chosen.tolist(), state.values):
                state.answer(i, value)
                (asked.discard if value is None else asked.add)(i)
        except StopAsking:
            state.refresh()
            break
        state.refresh()
    return len(asked)


def committee_members(
    dataset: Dataset, tagger: Tagger | None, left_out: dict[str, str], *, workers: int, batch: int = 64
) -> list[Member]:
    """The members of a committee, with features of all pictures: the tagger's embeddings and colours, or colours alone.
    Pictures that cannot be read go to `left_out`, name -> reason."""
    embeddings: list[np.ndarray] = []
    palettes: list[np.ndarray] = []
    rows: list[int] = []
    failed: dict[int, Exception] = {}

    def load(i: int) -> tuple[np.ndarray, np.ndarray]:
        picture = dataset.picture(i, 2 * max(tagger.size) if tagger else 64)
        return colours(picture), tagger.fit(picture) if tagger else picture[:0]

    for indices, loaded in batches(load, range(len(dataset)), batch=batch, workers=workers, failed=failed):
        rows += indices
        palettes += [palette for palette, _ in loaded]
        if tagger:
            pictures = torch.from_numpy(np.stack([picture for _, picture in loaded])).to(tagger.device)
            embeddings.append(tagger.embed(to_float(pictures)).numpy())
    left_out |= {dataset.names[i]: str(error) for i, error in failed.items()}
    if not rows:
        raise DatasetError(f"{dataset.path}: none of its {len(dataset)} pictures can be read")
    palette = _spread(np.stack(palettes), rows, len(dataset))
    return committee_of(_spread(np.concatenate(embeddings), rows, len(dataset)) if tagger else palette, palette)


def _spread(features: np.ndarray, rows: Sequence[int], count: int) -> np.ndarray:
    """Features of every picture (count, F); unreadable ones, which nobody is asked about, get the mean."""
    spread = np.repeat(features.mean(0, keepdims=True), count, 0)
    spread[rows] = features
    return spread


def _fill(
    state: _State, committee: Committee | None, target: float, *, asked: int, questions: tuple[Path, Path] | None
) -> CompletionResult:
    """Writes the values that the committee is sure enough of, and updates those of an earlier committee."""
    result = CompletionResult(
        state.dataset.path, state.attribute, state.values, len(state.dataset), len(state.open), len(state.answered),
        asked, left_out=state.left_out, questions=questions,
    )  # fmt: skip
    if committee is None:
        return result
    confidence = committee.confidence[state.open]
    sure = state.open[confidence >= committee.threshold(state.open, target)].tolist()
    stale = {i for i, label in state.labels.items() if label.by == COMMITTEE}
    written = sorted({*sure, *stale.intersection(state.open.tolist())})
    values = {i: state.values[committee.chosen[i]] for i in written}
    if written:
        names, attribute = state.dataset.names, state.attribute
        found = [Label(names[i], attribute, values[i], float(committee.confidence[i]), COMMITTEE) for i in written]
        write_labels(state.dataset, found)
    return dataclasses.replace(
        result,
        unknown=len(state.open) - len(sure),
        accuracy=float(confidence.mean()),
        precision=float(committee.confidence[sure].mean()) if sure else None,
        filled=dict(Counter(values[i] for i in sure).most_common()),
        reach={t: float((confidence >= committee.threshold(state.open, t)).mean()) for t in PRECISIONS},
    )
