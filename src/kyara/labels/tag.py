"""The verb `kyara tag`: fills in what is unknown about pictures."""

from __future__ import annotations

import dataclasses
import json as json_format
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm
from tyro.conf import Positional

from kyara.files.dataset import Dataset, open_dataset
from kyara.files.names import printable
from kyara.files.pictures import to_float
from kyara.files.workers import ahead
from kyara.labels.attributes import Label, read_labels, write_labels
from kyara.labels.onnx import Kind
from kyara.labels.tagger import Tagger, load_tagger
from kyara.training.runtime import pick_device

SHOWN = 10
"""Pictures that could not be read, and values of an attribute, that the summary names at most."""


def tag(
    data: Positional[Path],
    *,
    model: str = "builtin:tagger",
    kind: Kind | None = None,
    attributes: str = "",
    threshold: float | None = None,
    again: bool = False,
    complete: str | None = None,
    values: str = "",
    answers: Path | None = None,
    questions: int | None = None,
    target: float | None = None,
    batch: int | None = None,
    workers: int | None = None,
    device: str = "auto",
    dry_run: bool = False,
    json: bool = False,
) -> Path:
    """Fill in what is unknown about pictures: the colours of hair and eyes, or what else the tagger knows.

    A value is filled in where the tagger is sure enough of it. What a person or the data said is never changed. The
    labels go into metadata.csv, in the folder or .zip itself; labels.csv beside it says who gave each, and how sure it
    was. With --complete any other attribute is learned from the answers to a few questions.

    Args:
        data: A Dataset of any form: a folder, class sub-folders, a .zip.
        model: The tagger: builtin:NAME, a Checkpoint's folder, hf-hub:OWNER/NAME or an .onnx file.
        kind: Which tagger an .onnx file is, where the files beside it do not tell.
        attributes: The attributes to fill, as hair,eyes; without it all that the tagger knows.
        threshold: How sure the tagger must be, 0 to 1; without it 0.5.
        again: Ask anew about values that a tagger or a committee gave.
        complete: Instead, ask about pictures worth asking about, and fill this attribute from the answers: gender.
        values: With --complete, the values that the attribute can have, as female,male.
        answers: With --complete, a CSV with the columns file_name and value that holds answers.
        questions: With --complete, how many to ask at most; without it 100.
        target: With --complete, how much of what is filled in must be right, 0.5 to 1; without it 0.95.
        batch: Pictures the network looks at together; without it 64.
        workers: Threads that decode pictures; by default one per processor core.
        device: auto, cpu, cuda or cuda:N.
        dry_run: Say what is unknown, change nothing.
        json: Print the result as JSON.

    Returns:
        The Dataset's path.
    """
    data = Path(data)  # from Python, a text will do
    for option, number in (("--batch", batch), ("--workers", workers)):
        if number is not None and number < 1:
            raise ValueError(f"{option} {number}: must be 1 or more")
    if threshold is not None and not 0 <= threshold <= 1:
        raise ValueError(f"--threshold {threshold}: it is a probability; give a number from 0 to 1")
    asking: dict[str, Any] = {"values": values, "answers": answers, "questions": questions, "target": target}
    filling: dict[str, Any] = {"attributes": attributes, "kind": kind, "threshold": threshold}
    filling |= {"again": again, "batch": batch}
    for option, value in (asking if complete is None else filling).items():
        if value not in (None, "", False):
            without = "only goes with" if complete is None else "does not go with"
            raise ValueError(f"--{option} {value}: {without} --complete; leave one of them out")
    dataset = open_dataset(data)
    if complete is not None:
        asking["values"] = tuple(value for value in values.split(",") if value.strip())
        given = {option: value for option, value in asking.items() if value is not None}
        learn(dataset, complete, dry_run=dry_run, json=json, tagger=model, device=device, workers=workers, **given)
        return data
    lowest = 0.5 if threshold is None else threshold
    tagger = load_tagger(model, pick_device(device), kind)
    wanted = choose(attributes, tagger, model)
    open_ = unanswered(dataset, wanted, again=again)
    report: dict[str, Any] = {"data": str(data), "pictures": len(dataset), "model": model}
    if dry_run:
        report["attributes"] = {name: {"unknown": len(numbers)} for name, numbers in open_.items()}
        print(json_format.dumps(report) if json else _plan(report))
        return data

    found: list[Label] = []
    unreadable: dict[int, str] = {}
    numbers = sorted(set().union(*open_.values()))
    threads = workers or os.cpu_count() or 1
    try:
        for i, told in judge(dataset, numbers, tagger, unreadable, batch=batch or 64, workers=threads):
            for name in wanted:
                value, probability = told[name]
                if i in open_[name] and probability >= lowest:
                    found.append(Label(dataset.names[i], name, value, probability, f"tagger:{model}"))
    finally:
        if found:  # what was found before an end is kept
            write_labels(dataset, found)
    report["attributes"] = {name: summarise(dataset, found, name) for name in wanted}
    report["left_out"] = [{"file_name": dataset.names[i], "reason": why} for i, why in sorted(unreadable.items())]
    print(json_format.dumps(report) if json else _summary(report))
    return data


def learn(dataset: Dataset, attribute: str, *, dry_run: bool, json: bool, **options: Any) -> None:
    """What `--complete` does: asks, fills, and says how it went."""
    from kyara.labels.complete import complete

    if dry_run:
        left = len(unanswered(dataset, [attribute], again=True)[attribute])
        report = {"attribute": attribute, "pictures": len(dataset), "unknown": left}
        print(
            json_format.dumps(report) if json else f"would ask about {attribute}: {left:,} of {len(dataset):,} unknown"
        )
        return
    answered = complete(dataset, attribute, **options)
    print(json_format.dumps(dataclasses.asdict(answered), default=str) if json else answered)


def choose(attributes: str, tagger: Tagger, model: str) -> list[str]:
    """The attributes to fill. ValueError if the tagger does not know one."""
    names = [name.strip() for name in attributes.split(",") if name.strip()]
    for name in names:
        if name not in tagger.attributes:
            known = ", ".join(tagger.attributes)
            raise ValueError(f"--attributes {name}: {model} knows {known}; --complete learns any other from answers")
    return list(dict.fromkeys(names)) or list(tagger.attributes)


def unanswered(dataset: Dataset, attributes: Sequence[str], *, again: bool) -> dict[str, set[int]]:
    """For each attribute the pictures that a tagger may label: nobody else has, nor said that nobody can tell. With
    `again` also those that a tagger or a committee labelled."""
    index = {name: i for i, name in enumerate(dataset.names)}
    left = {name: set(range(len(dataset))) for name in attributes}
    for label in read_labels(dataset):
        if label.attribute in left and (label.rank > 0 or not again):
            left[label.attribute].discard(index[label.file_name])
    return left


def judge(
    dataset: Dataset,
    numbers: Sequence[int],
    tagger: Tagger,
    unreadable: dict[int, str],
    *,
    batch: int,
    workers: int,
) -> Iterator[tuple[int, dict[str, tuple[str, float]]]]:
    """The likeliest value of every attribute with its probability, of these pictures in their order; what cannot be
    read goes to `unreadable`. Threads decode ahead of the network, at most two batches: memory does not grow."""
    waiting: list[tuple[int, np.ndarray]] = []
    enough = 2 * max(tagger.size)  # twice as fine: the filter does the rest
    decoded = ahead(lambda i: tagger.fit(dataset.picture(i, enough)), numbers, workers, 2 * batch)
    for i, picture in tqdm(decoded, total=len(numbers), unit="picture", disable=None):
        if isinstance(picture, Exception):
            unreadable[i] = str(picture)
            continue
        waiting.append((i, picture))
        if len(waiting) == batch:
            yield from _look(waiting, tagger)
            waiting.clear()
    if waiting:
        yield from _look(waiting, tagger)


def _look(waiting: Sequence[tuple[int, np.ndarray]], tagger: Tagger) -> Iterator[tuple[int, dict[str, Any]]]:
    told = tagger.probabilities(to_float(np.stack([picture for _, picture in waiting])))
    best = {name: values.max(1) for name, values in told.items()}
    for row, (i, _) in enumerate(waiting):
        yield (
            i,
            {name: (tagger.attributes[name][int(b.indices[row])], float(b.values[row])) for name, b in best.items()},
        )


def summarise(dataset: Dataset, found: Sequence[Label], attribute: str) -> dict[str, Any]:
    """How many values were filled in, which, and how many pictures are left unknown."""
    filled = Counter(label.value for label in found if label.attribute == attribute)
    unknown = sum(not value for value in dataset.attributes.get(attribute, [""] * len(dataset)))
    return {"filled": filled.total(), "unknown": unknown, "values": dict(filled.most_common())}


def _plan(report: Mapping[str, Any]) -> str:
    lines = [f"would ask {report['model']} about {report['data']}, {report['pictures']:,} pictures"]
    lines += [f"  {name}: {about['unknown']:,} unknown" for name, about in report["attributes"].items()]
    return "\n".join(lines)


def _summary(report: Mapping[str, Any]) -> str:
    lines = [f"{report['data']}: {report['pictures']:,} pictures, by {report['model']}"]
    for name, about in report["attributes"].items():
        values = ", ".join(f"{printable(value)} {n:,}" for value, n in list(about["values"].items())[:SHOWN])
        more = ", ..." if len(about["values"]) > SHOWN else ""
        lines.append(f"  {name}: filled {about['filled']:,}, left unknown {about['unknown']:,}")
        lines += [f"    {values}{more}"] if values else []
    if report["left_out"]:
        lines.append(f"could not be read: {len(report['left_out']):,}")
        lines += [f"  {printable(e['file_name'])}: {printable(e['reason'])}" for e in report["left_out"][:SHOWN]]
        lines += ["  ..."] * (len(report["left_out"]) > SHOWN)
    return "\n".join(lines)
