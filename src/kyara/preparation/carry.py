"""Labels of an earlier result that `kyara prepare --force` replaces: they are taken over to the same pictures.

A picture is the same if its source has the same name and the same size and, if it was cut to a face, that face is at
the same place: with other options, the faces of a picture may have other numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kyara.files.dataset import Dataset, open_dataset
from kyara.files.errors import DatasetError
from kyara.files.metadata import csv_text, rows_csv
from kyara.preparation.report import face_name

METADATA, LABELS = "metadata.csv", "labels.csv"
ORIGINS = ("file_name", "attribute", "value", "probability", "by")  # Columns of labels.csv, see `kyara.labels`
PERSON = "person"
OVERLAP = 0.5  # Of two boxes, their intersection over their union, from which they are of the same face


@dataclass(frozen=True)
class Cut:
    """What a picture of a result was made from."""

    source: str
    size: Sequence[int]
    box: Sequence[int] | None  # [x, y, width, height] of its face, if it is known which
    alone: bool  # Whether no other face was found in the source

    def same(self, other: Cut) -> bool:
        """Whether both show the same."""
        if (self.source, [*self.size]) != (other.source, [*other.size]):
            return False
        if self.box and other.box:
            return overlap(self.box, other.box) >= OVERLAP
        return (self.alone and other.alone) or not (self.box or other.box)


@dataclass(frozen=True)
class Known:
    """The labels of a picture of the earlier result."""

    cut: Cut
    values: Mapping[str, str]  # Attribute -> value, "" if unknown
    origins: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # Attribute -> probability and `by`


Earlier = Mapping[str, Sequence[Known]]  # By the name of the source


def overlap(a: Sequence[int] | None, b: Sequence[int] | None) -> float:
    """Intersection over union of two boxes [x, y, width, height]; 0 if one is missing."""
    if not (a and b):
        return 0.0
    wide, high = (min(a[i] + a[i + 2], b[i] + b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    shared = max(wide, 0) * max(high, 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared) if shared else 0.0


def cuts(report: Mapping[str, Any]) -> Iterator[tuple[str, Cut]]:
    """(Name in the Dataset, what it was made from) of each picture, from the content of report.json."""
    sources = report["sources"]
    for one in report["pictures"]:
        whole, faces = one["file"], one["faces"]
        if len(sources) == 1 and whole != sources[0]:  # with several sources, names begin with them
            whole = f"{sources[0]}/{whole}"
        alone = len(faces) < 2
        if not one["cut"] and one["kept"]:
            yield one["kept"], Cut(whole, one["size"], faces[0]["box"] if len(faces) == 1 else None, alone)
        for face in faces if one["cut"] else ():
            if face["kept"]:
                yield face["kept"], Cut(whole, one["size"], face["box"], alone)


def read_earlier(out: Path, report: Path) -> Earlier:
    """The labels of the result at `out`; empty if there is none. DatasetError if they cannot be read, before they are
    replaced."""
    if not (out.exists() and report.is_file()):
        return {}
    try:
        dataset = open_dataset(out)
        if dataset.metadata != METADATA or not dataset.attributes:  # a Gallery, or nothing to take over
            return {}
        made = dict(cuts(json.loads(report.read_text(encoding="utf-8"))))
        origins = _origins(dataset)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        hint = "correct that file, or delete the result to prepare it without its labels"
        raise DatasetError(f"{out}: the labels of this earlier result cannot be read ({error}); {hint}") from error
    earlier: dict[str, list[Known]] = {}
    for i, name in enumerate(dataset.names):
        if cut := made.get(name):
            values = {attribute: column[i] for attribute, column in dataset.attributes.items()}
            known = Known(cut, values, origins.get(i, {}))
            earlier.setdefault(cut.source, []).append(known)
    return earlier


def _origins(dataset: Dataset) -> dict[int, dict[str, tuple[str, str]]]:
    """Index of a picture -> attribute -> probability and `by`, of the values that metadata.csv still has."""
    if LABELS not in dataset.files.sizes:
        return {}
    found: dict[int, dict[str, tuple[str, str]]] = {}
    for _, name, cells in rows_csv(dataset.text(LABELS), f"{dataset.path / LABELS}"):
        i, attribute = dataset.find(name), cells["attribute"]
        if i is not None and dataset.attributes.get(attribute, {i: ""})[i] == cells["value"]:
            found.setdefault(i, {})[attribute] = cells["probability"], cells["by"]
    return found


def tables(
    dataset: Dataset, kept: Sequence[tuple[str, int, int | None]], report: Mapping[str, Any], earlier: Earlier
) -> tuple[dict[str, bytes], int]:
    """metadata.csv, and labels.csv if there are labels for it; and how many labels are from the earlier result.
    `kept` is (name in the Dataset, index of the source, index of its face or None) of each picture.

    Pictures have the attributes of their source, and its name. An earlier label is taken over where the source has
    none; that of a person also where it has another one, as everywhere."""
    made, columns, carried = dict(cuts(report)), dict.fromkeys(dataset.attributes), 0
    rows: dict[str, dict[str, str]] = {}
    origins = list[tuple[str, ...]]()
    for name, i, face in sorted(kept):
        row = rows[name] = {attribute: column[i] for attribute, column in dataset.attributes.items()}
        row["source"] = face_name(dataset.names[i], face)
        known = _best(earlier.get(made[name].source, ()), made[name])
        for attribute, value in known.values.items() if known else ():
            probability, by = known.origins.get(attribute, ("", "")) if known else ("", "")
            if by == PERSON or (value and not row.get(attribute)):
                columns[attribute], row[attribute] = None, value
                carried += 1
                origins += [(name, attribute, value, probability, by)] if by else []
    metadata = [["file_name", *columns, "source"]]
    metadata += [[name, *(row.get(column, "") for column in columns), row["source"]] for name, row in rows.items()]
    found = {METADATA: metadata} | ({LABELS: [ORIGINS, *origins]} if origins else {})
    return {name: csv_text(table).encode("utf-8", "backslashreplace") for name, table in found.items()}, carried


def _best(earlier: Sequence[Known], cut: Cut) -> Known | None:
    """The picture of the earlier result that shows the same."""
    same = [known for known in earlier if known.cut.same(cut)]
    return max(same, key=lambda known: overlap(known.cut.box, cut.box), default=None)
