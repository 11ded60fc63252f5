"""Active label completion (after Li and Han 2019): a committee fills in confident predictions and asks about others.

It also works for an attribute without labels. Every answer is on disk before the next question, see `pending`."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import kyara
from kyara.files import checkpoint
from kyara.files.cache import cached, identity
from kyara.files.dataset import RESERVED, Dataset, known_values
from kyara.files.errors import DatasetError
from kyara.files.pictures import center_crop, to_float
from kyara.files.workers import batches, processors
from kyara.labels.ask import (
    CANNOT_TELL,
    COMMANDS,
    Asker,
    StopAsking,
    in_files,
    on_terminal,
    read_answers,
    show,
    stopped_by_signals,
)
from kyara.labels.attributes import PERSON, Label, check_writable, read_labels, unstorable, write_labels
from kyara.labels.colours import colours
from kyara.labels.committee import Committee, Member, committee_of, questions_worth_asking
from kyara.labels.pending import Pending
from kyara.labels.results import START, TOO_FEW, CompletionResult
from kyara.labels.tagger import Tagger, load_tagger
from kyara.perception.face_parts import describe
from kyara.training.runtime import has_bfloat16, pick_device

PARTS, FACE = ("eyes", "mouth", "face"), 96  # parts of a face that are looked at, in pictures of this side
CELLS, PROJECTED = 3, 512  # cells in each direction of a part, and features of each part
BATCH = START  # Number of questions per contact sheet
COMMITTEE = "committee"
NO_TAGGER = "none"
PRECISIONS = (0.99, 0.95, 0.9, 0.8)
"""Precisions for which the result reports the share of pictures that could be filled in."""


def complete(
    dataset: Dataset,
    attribute: str,
    *,
    values: Sequence[str] = (),
    answers: Path | None = None,
    questions: int = 100,
    target: float = 0.95,
    tagger: str = "builtin:tagger",
    device: str = "auto",
    workers: int | None = None,
    ask: Asker | None = None,
) -> CompletionResult:
    """Asks about pictures with an unknown value of the attribute, and fills it in where a committee is confident.

    The committee is trained on values from a person or the data. Values from a tagger are not used, and are replaced
    where the committee is confident. Questions are asked on the terminal; without a terminal, a contact sheet and a CSV
    to fill in are written. Raises ValueError or DatasetError before anything is written.

    Args:
        values: The possible values; by default those in the answers.
        answers: A CSV with the columns file_name and value, which is read first.
        questions: Maximum number of questions.
        target: Precision of the filled-in values, 0.5 to 1. Asking ends when all pictures can be filled in with it.
        tagger: The model whose embeddings the committee uses, with colours and the shapes of faces; "none" uses colours
            only.
        ask: Source of the answers; by default the terminal if there is one, or files.
    """
    if not attribute.strip() or attribute != attribute.strip() or attribute in RESERVED:
        raise ValueError(f"--complete {attribute!r}: not a valid attribute name; give one such as gender")
    stripped = [value.strip() for value in values]
    terminal = ask is None and sys.stdin and sys.stdin.isatty()
    reserved = COMMANDS if terminal else (CANNOT_TELL,)
    if len(set(stripped)) < len(stripped) or len(stripped) == 1 or not {"", *reserved}.isdisjoint(stripped):
        none = ", ".join(reserved)
        raise ValueError(f"--values {','.join(values)}: give two or more different values, none of them {none}")
    given = [] if answers is None else read_answers(answers, dataset, stripped)
    network = None if tagger == NO_TAGGER else load_tagger(tagger, pick_device(device))
    check_writable(dataset)
    pending = Pending(dataset, attribute)
    recovered = pending.write()  # what a killed run has left
    if given:
        write_labels(dataset, [_answer(dataset, attribute, i, value) for i, value in given])
    if ask is None:
        ask = functools.partial(on_terminal, fixed=bool(values)) if terminal else in_files
    left_out = {dataset.names[i]: why for i, why in unstorable(dataset).items()}
    members = committee_members(dataset, network, left_out, workers=workers or processors())
    state = _State(dataset, attribute, stripped, members, left_out, pending)
    if terminal and len(state.open) and len(state.answered) + len(state.open) < START:
        show(f"{TOO_FEW}\n")
    with stopped_by_signals():
        asked, written = _ask(state, ask, questions, target)
    return dataclasses.replace(_fill(state, target, len(given) + asked, written), recovered=recovered)


def _answer(dataset: Dataset, attribute: str, i: int, value: str) -> Label:
    return Label(dataset.names[i], attribute, value, None, PERSON)


class _State:
    """The known labels of the attribute, reread from the dataset after every batch of questions."""

    def __init__(
        self, dataset: Dataset, attribute: str, values: list[str], members: Sequence[Member], left_out: dict[str, str],
        pending: Pending,
    ) -> None:  # fmt: skip
        self.dataset, self.attribute, self.values = dataset, attribute, values
        self.members, self.left_out, self.pending = members, left_out, pending
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

    def committee(self) -> Committee | None:
        """The trained committee; None while there are too few answers."""
        if len(self.answered) < START or len(np.unique(self.targets)) < 2 or not len(self.open):
            return None
        return Committee(self.members, self.answered, self.targets, len(self.values))

    def answer(self, i: int, value: str | None) -> None:
        """Keeps one answer; None undoes it and restores the previous label."""
        if value is not None:
            self.pending.add(i, value)
        elif not self.pending.undo(i):  # it is in the dataset already
            before = [self.labels[i]] if i in self.labels else []
            write_labels(self.dataset, before, withdrawn={(self.dataset.names[i], self.attribute)})


def _ask(state: _State, ask: Asker, questions: int, target: float) -> tuple[int, tuple[Path, Path] | None]:
    """Asks until the committee is confident in all open pictures, or the questions run out. Returns the number of
    answered pictures, without undone answers, and the files to fill in, if any."""
    asked = set[int]()
    skipped = np.zeros(len(state.dataset), dtype=bool)
    while True:
        committee = state.committee()
        if committee and committee.threshold(state.open, target) <= committee.confidence[state.open].min():
            return len(asked), None
        free, left = state.open[~skipped[state.open]], questions - len(asked)
        if left <= 0 or not len(free):
            return len(asked), None
        chosen = questions_worth_asking(state.members[0].features, free, min(BATCH, left), committee)
        skipped[chosen] = True
        stopped = None
        try:
            for i, value in ask(state.dataset, state.attribute, chosen.tolist(), state.values):
                state.answer(i, value)
                (asked.discard if value is None else asked.add)(i)
        except StopAsking as stop:
            stopped = stop
        finally:  # also after Ctrl-C, or a signal
            state.pending.write()
        state.refresh()
        if stopped:
            return len(asked), stopped.questions


def committee_members(
    dataset: Dataset, tagger: Tagger | None, left_out: dict[str, str], *, workers: int
) -> list[Member]:
    """The members of a committee, with features of all pictures: the tagger's embeddings, colours, and what
    `builtin:landmarks` sees around eyes and mouth and in the face; without a tagger, colours alone. The features are
    cached on disk. Unreadable pictures are added to `left_out`, name -> reason."""
    networks = [tagger.hash, checkpoint.read("builtin:landmarks").hash] if tagger else []
    key = {"data": identity(dataset), "networks": networks, "version": kyara.__version__}
    found = cached("committee", key, lambda: _features(dataset, tagger, workers))
    failed = dataset.unreadable(_without(dataset, found["rows"]))
    if len(failed) + len(found["rows"]) < len(dataset):  # one that could not be read before can be read now
        found = _features(dataset, tagger, workers)
        failed = dataset.unreadable(_without(dataset, found["rows"]))
    left_out |= {dataset.names[i]: reason for i, reason in failed.items()}
    rows = found.pop("rows").tolist()
    return committee_of([_spread(features, rows, len(dataset)) for features in found.values()])


def _without(dataset: Dataset, rows: np.ndarray) -> list[int]:
    """The pictures other than `rows`."""
    return sorted({*range(len(dataset))} - {*rows.tolist()})


def _features(dataset: Dataset, tagger: Tagger | None, workers: int) -> dict[str, np.ndarray]:
    """Features (M, F) of each kind, and the indices of these pictures as `rows`. Raises DatasetError if none can be
    read."""
    kinds, rows, failed = dict[str, list[np.ndarray]](), list[int](), dict[int, Exception]()

    def load(i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        picture = dataset.picture(i, 2 * max(*tagger.size, FACE) if tagger else 64)
        return colours(picture), *(
            (tagger.fit(picture), center_crop(picture, FACE, FACE)) if tagger else [picture[:0]] * 2
        )

    for indices, loaded in batches(load, range(len(dataset)), batch=64, workers=workers, failed=failed):
        rows += indices
        palettes, fitted, faces = zip(*loaded, strict=True)
        found = {"colours": np.stack(palettes)}
        if tagger:
            found = {
                "embedding": tagger.embed(_to_device(fitted, tagger)).numpy(),
                **found,
                **_parts(_to_device(faces, tagger)),
            }
        for kind, features in found.items():
            kinds.setdefault(kind, []).append(features)
    if not rows:
        raise DatasetError(f"{dataset.path}: none of the {len(dataset)} pictures can be read")
    return {kind: np.concatenate(some) for kind, some in kinds.items()} | {"rows": np.array(rows)}


def _to_device(pictures: Sequence[np.ndarray], tagger: Tagger) -> Tensor:
    return to_float(torch.from_numpy(np.stack(pictures)).to(tagger.device))


@torch.inference_mode()
def _parts(faces: Tensor) -> dict[str, np.ndarray]:
    """What `builtin:landmarks` sees in faces (B, 3, H, W): part -> features (B, PROJECTED). Random projections keep the
    distances (Johnson and Lindenstrauss 1984), and the thousands of numbers of each picture out of memory."""
    with torch.autocast(faces.device.type, torch.bfloat16, enabled=has_bfloat16(faces.device)):
        found = describe(faces, cells=CELLS)
    return {part: (found[part] @ _projection(found[part].shape[1]).to(faces)).cpu().numpy() for part in PARTS}


@functools.cache
def _projection(count: int) -> Tensor:
    """Random directions (count, PROJECTED)."""
    return torch.randn(count, PROJECTED, generator=torch.Generator().manual_seed(0)) / count**0.5


def _spread(features: np.ndarray, rows: Sequence[int], count: int) -> np.ndarray:
    """Features of every picture (count, F); unreadable ones, which are never asked about, get the mean."""
    spread = np.repeat(features.mean(0, keepdims=True), count, 0)
    spread[rows] = features
    return spread


def _fill(state: _State, target: float, asked: int, files: tuple[Path, Path] | None) -> CompletionResult:
    """Writes the committee's confident predictions, and removes those of an earlier committee that are not."""
    dataset, attribute, open_ = state.dataset, state.attribute, state.open
    counts = len(dataset), len(open_), len(state.answered), asked
    result = CompletionResult(dataset.path, attribute, state.values, *counts, left_out=state.left_out, questions=files)
    committee = state.committee()
    if committee is None:
        return result
    confidence = committee.confidence[open_]
    sure = open_[confidence >= committee.threshold(open_, target)].tolist()
    stale = {i for i, label in state.labels.items() if label.by == COMMITTEE}.intersection(open_.tolist())
    values = {i: state.values[committee.chosen[i]] for i in sure}
    labels = [Label(dataset.names[i], attribute, values[i], float(committee.confidence[i]), COMMITTEE) for i in sure]
    withdrawn = {(dataset.names[i], attribute) for i in stale.difference(sure)}
    if labels or withdrawn:
        write_labels(dataset, labels, withdrawn=withdrawn)
    return dataclasses.replace(
        result,
        unknown=len(open_) - len(sure),
        accuracy=float(confidence.mean()),
        precision=float(committee.confidence[sure].mean()) if sure else None,
        filled=dict(Counter(values[i] for i in sure).most_common()),
        reach={t: float((confidence >= committee.threshold(open_, t)).mean()) for t in PRECISIONS},
    )
