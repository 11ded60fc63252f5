"""The verb `kyara tag`: fills in unknown attributes of pictures."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional

from kyara import verbs
from kyara.files.cache import subfolder
from kyara.files.dataset import Dataset, open_dataset
from kyara.files.shards import Runner
from kyara.files.workers import processors
from kyara.labels.attributes import Label, check_writable, read_labels, unstorable, write_labels
from kyara.labels.kinds import Kind
from kyara.labels.results import CompletionResult, TagResult

if TYPE_CHECKING:  # it imports torch
    from kyara.labels.task import Prediction

Unknown = Mapping[str, Collection[int]]  # Attribute -> the pictures whose value is to be filled in


@verbs.checked
def tag(
    data: Positional[Path],
    *,
    model: str = "builtin:tagger",
    kind: Kind | None = None,
    attributes: str | None = None,
    detect: Literal["auto", "none"] | None = None,
    threshold: Annotated[float | None, verbs.Range(0, 1, hint="it is a probability")] = None,
    again: bool = False,
    complete: str | None = None,
    values: str | None = None,
    answers: verbs.ExistingFile | None = None,
    questions: Annotated[int | None, verbs.Range(0)] = None,
    target: Annotated[float | None, verbs.Range(0.5, 1, hint="it is a precision")] = None,
    batch: Annotated[int | None, verbs.Range(1, 2**16)] = None,
    workers: verbs.Threads = None,
    engine: verbs.Engine = "local",
    processes: verbs.Processes = None,
    device: verbs.Device = "auto",
    dry_run: verbs.DryRun = False,
) -> TagResult | CompletionResult:
    """Fill in unknown attributes of pictures: hair and eye colour, or other attributes of the tagger.

    A value is filled in if the tagger's confidence reaches the threshold. Values from a person or the data are kept.
    The labels are written to metadata.csv in the folder or .zip; labels.csv beside it has their origin and confidence.
    With --complete, any other attribute is learned from your answers to a few questions. With more than 4,096 pictures,
    an interrupted run goes on where it stopped.

    Args:
        data: A Dataset in any form: a folder, class sub-folders, a .zip.
        model: The tagger: builtin:NAME, a Checkpoint's folder, hf-hub:OWNER/NAME or an .onnx file.
        kind: The kind of ONNX tagger, if it cannot be derived from the files in its folder.
        attributes: The attributes to fill in, such as hair,eyes. By default all attributes of the tagger.
        detect: auto looks at the largest face of a picture that shows more than a face, as hair in front of a green
            wall is not green; none looks at the middle of every picture. By default auto for a Checkpoint and none for
            an ONNX tagger, which was trained on whole illustrations.
        threshold: Minimum confidence of the tagger, 0 to 1. By default 0.5.
        again: Also replace earlier values from a tagger or a committee.
        complete: Learn an attribute, such as gender, by asking about selected pictures, and fill it in.
        values: With --complete, the possible values of the attribute, such as female,male.
        answers: With --complete, a CSV of answers with the columns file_name and value.
        questions: With --complete, maximum number of questions. By default 100.
        target: With --complete, precision of the filled-in values, 0.5 to 1. By default 0.95.
        batch: Pictures per batch of the network. By default 64, on a GPU up to 256, as many as its memory allows.
    """
    asking = {"values": _split("--values", values), "answers": answers, "questions": questions, "target": target}
    names = _split("--attributes", attributes)
    filling: dict[str, Any] = {"attributes": names, "kind": kind, "detect": detect, "threshold": threshold}
    filling |= {"again": again or None, "batch": batch, "processes": processes}
    filling["engine"] = None if engine == "local" else engine
    used, refused = (filling, asking) if complete is None else (asking, filling)
    for option, value in refused.items():
        if value is not None:
            wrong = "needs --complete" if complete is None else "cannot be combined with --complete"
            raise ValueError(f"--{option}: {wrong}; leave it out")
    given: dict[str, Any] = {option: value for option, value in used.items() if value is not None}
    given |= {"device": device, "workers": workers, "dry_run": dry_run}
    dataset = open_dataset(data)
    return _fill_in(dataset, model, **given) if complete is None else _complete(dataset, complete, model, **given)


def _split(option: str, text: str | None) -> list[str] | None:
    """The distinct words of a comma-separated option; None if it was not given."""
    words = [word for part in (text or "").split(",") if (word := part.strip())]
    if text is not None and not words:
        raise ValueError(f"{option} {text!r}: is empty; leave it out or give names separated by commas")
    return list(dict.fromkeys(words)) or None


def _complete(dataset: Dataset, attribute: str, model: str, *, dry_run: bool, **options: Any) -> CompletionResult:
    from kyara.labels.complete import complete

    if dry_run:
        unknown = len(unknown_pictures(dataset, [attribute], again=True)[attribute])
        return CompletionResult(dataset.path, attribute, options.get("values", []), len(dataset), unknown, dry_run=True)
    return complete(dataset, attribute, tagger=model, **options)


def _fill_in(
    dataset: Dataset, model: str, *, attributes: Sequence[str] = (), kind: Kind | None = None,
    detect: str | None = None, threshold: float = 0.5, again: bool = False, batch: int | None = None,
    engine: verbs.Engine = "local", processes: int | None = None, workers: int | None, device: str, dry_run: bool,
) -> TagResult:  # fmt: skip
    from kyara.labels.tagger import CheckpointTagger, batch_size, load_tagger
    from kyara.labels.task import TagTask, predicted
    from kyara.training.runtime import pick_device

    runner = Runner(subfolder("shards"), engine, processes)
    tagger = load_tagger(model, pick_device(device), kind)
    for name in attributes:
        if name not in tagger.attributes:
            known = ", ".join(tagger.attributes)
            raise ValueError(f"--attributes {name}: {model} only has {known}; --complete learns other attributes")
    odd = unstorable(dataset)
    every = unknown_pictures(dataset, attributes or list(tagger.attributes), again=again)
    unknown = {name: found - odd.keys() for name, found in every.items()}
    open_ = {name: {"unknown": len(found)} for name, found in unknown.items()}
    result = TagResult(dataset.path, len(dataset), model, open_, dry_run=dry_run)
    if dry_run:
        return result
    check_writable(dataset)
    asked = sorted(set().union(*unknown.values()))
    focus = detect == "auto" or (detect is None and isinstance(tagger, CheckpointTagger))
    size, threads = batch or batch_size(tagger), workers or processors()
    task = TagTask(dataset.subset(asked), model, kind, focus, device, size, threads)
    failed: dict[int, str] = {}
    predictions = ((asked[i], prediction) for i, prediction in predicted(task, runner, tagger, failed))
    labels = confident(dataset, unknown, predictions, f"tagger:{model}", threshold)
    if labels:
        write_labels(dataset, labels)
    runner.remove()
    reasons = odd | {asked[i]: reason for i, reason in failed.items()}
    left_out = [{"file_name": dataset.names[i], "reason": reason} for i, reason in sorted(reasons.items())]
    filled = {name: _summary(dataset, labels, name) for name in unknown}
    return dataclasses.replace(result, attributes=filled, left_out=left_out)


def unknown_pictures(dataset: Dataset, attributes: Sequence[str], *, again: bool) -> dict[str, set[int]]:
    """Attribute -> pictures that a tagger may label: unlabelled, or with `again` labelled by a tagger or committee."""
    index = {name: i for i, name in enumerate(dataset.names)}
    unknown = {name: set(range(len(dataset))) for name in attributes}
    for label in read_labels(dataset):
        if label.attribute in unknown and (label.rank > 0 or not again):
            unknown[label.attribute].discard(index[label.file_name])
    return unknown


def confident(
    dataset: Dataset, unknown: Unknown, predictions: Iterable[tuple[int, Prediction]], by: str, threshold: float
) -> list[Label]:
    """The predictions with a probability of at least `threshold`, for pictures with an unknown value."""
    return [
        Label(dataset.names[i], name, value, probability, by)
        for i, prediction in predictions
        for name, pictures in unknown.items()
        for value, probability in [prediction[name]]
        if i in pictures and probability >= threshold
    ]


def _summary(dataset: Dataset, found: Sequence[Label], attribute: str) -> dict[str, Any]:
    filled = Counter(label.value for label in found if label.attribute == attribute)
    unknown = sum(not value for value in dataset.attributes.get(attribute, [""] * len(dataset)))
    return {"filled": filled.total(), "unknown": unknown, "values": dict(filled.most_common())}
