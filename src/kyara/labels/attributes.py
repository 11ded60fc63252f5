"""Labels on disk: the attributes of each picture, and the origin of every value.

    metadata.csv   file_name, then one column per attribute, empty = unknown: what every verb reads, and a person edits
    labels.csv     file_name, attribute, value, probability, by: the origin of the values, where Kyara knows it

Both are at the root of the folder or .zip, unless the dataset has metadata elsewhere already.

`by` is `person`, `committee` or `tagger:NAME`. A value of metadata.csv without a line in labels.csv came with the data
or was typed there by a person: its origin is `source`. A person's answer takes precedence over the source, the source
over a tagger. A person's empty value means that nobody can tell: it stays unknown, and no tagger fills it in.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from kyara.files.archive import Folder, Zip
from kyara.files.dataset import ABOUT_THE_FILE, Dataset, open_dataset
from kyara.files.errors import DatasetError
from kyara.files.metadata import csv_text, rows_csv

METADATA, LABELS = "metadata.csv", "labels.csv"
COLUMNS = ("file_name", "attribute", "value", "probability", "by")
PERSON, SOURCE = "person", "source"
AUTHOR = re.compile(r"person|committee|tagger:.+", re.DOTALL)


@dataclass(frozen=True)
class Label:
    """One attribute's value of one picture."""

    file_name: str
    """As in `Dataset.names`."""
    attribute: str
    value: str
    """Empty = unknown, which only a person can answer."""
    probability: float | None
    """Confidence of `by` in the value, 0 to 1, four decimals on disk; None where there is none."""
    by: str
    """`person`, `source`, `committee` or `tagger:NAME`."""

    @property
    def rank(self) -> int:
        """Precedence: the higher replaces the lower."""
        return {PERSON: 2, SOURCE: 1}.get(self.by, 0)


Key = tuple[str, str]
"""File name and attribute."""


def read_labels(dataset: Dataset) -> list[Label]:
    """Every known value of the dataset's pictures with its origin, and the empty values given by a person; in the
    order of the pictures and of the attributes. DatasetError if labels.csv is malformed."""
    origins = {(label.file_name, label.attribute, label.value): label for label in _read_origins(dataset)}
    found = []
    for i, name in enumerate(dataset.names):
        for attribute, column in dataset.attributes.items():
            label = origins.get((name, attribute, column[i]))
            if label is None and column[i]:
                label = Label(name, attribute, column[i], None, SOURCE)
            if label is not None:
                found.append(label)
    return found


def write_labels(dataset: Dataset, labels: Iterable[Label], *, withdrawn: Collection[Key] = ()) -> None:
    """Merges `labels` into those on disk, and writes metadata.csv and labels.csv into the folder or .zip.

    A label replaces the one on disk unless that one takes precedence; those of `withdrawn` are dropped before. The
    dataset is read again first, so that nothing written since it was opened is lost; `dataset`, which may be a subset,
    is updated. One with metadata in another format gains an equivalent metadata.csv. An interruption leaves each label
    either old or new. DatasetError, with nothing written, if a label cannot be stored so that it is read back.
    """
    whole = open_dataset(dataset.path)
    assert isinstance(whole.files, Folder | Zip)
    if whole.metadata is None and whole.base + LABELS not in whole.files.sizes:
        whole.base = ""  # no tables yet: they go to the root, also if all pictures are in one sub-folder
    metadata, origins = whole.base + METADATA, whole.base + LABELS
    for name, reason in whole.files.ignored:
        if name in (metadata, origins):
            raise DatasetError(f"{whole.path / name}: {reason}; remove it, and a new one is written")
    known = {(label.file_name, label.attribute): label for label in read_labels(whole)}
    merged, names = {key: label for key, label in known.items() if key not in withdrawn}, set(whole.names)
    for label in labels:
        label = _checked(label, whole, names)
        key = label.file_name, label.attribute
        if key not in merged or label.rank >= merged[key].rank:
            merged[key] = label
    elsewhere = [label for label in _read_origins(whole) if label.file_name not in names]
    after = [*elsewhere, *merged.values()]
    table = _table(whole, merged, withdrawn)
    if isinstance(whole.files, Folder):
        # An interruption between the two files must find the origins of the old values and of the new ones.
        before = [label for key, label in known.items() if merged.get(key) != label]
        whole.files.write({origins: _origins(whole, [*before, *after])})
    whole.files.write({metadata: table, origins: _origins(whole, after)})
    written = open_dataset(dataset.path)
    indices = [written.find(name.removeprefix(written.base)) for name in dataset.names]
    dataset.files, dataset.metadata, dataset.base = written.files, written.metadata, written.base
    dataset.attributes = {
        key: ["" if i is None else column[i] for i in indices] for key, column in written.attributes.items()
    }
    for cached in ("fingerprint", "_indices"):
        dataset.__dict__.pop(cached, None)


def _read_origins(dataset: Dataset) -> list[Label]:
    """The lines of labels.csv, also those about missing pictures."""
    name = dataset.base + LABELS
    if name not in dataset.files.sizes:
        return []
    where = f"{dataset.path / name}"
    labels = []
    for line, file_name, cells in rows_csv(dataset.text(LABELS), where):
        if missing := [column for column in COLUMNS if column not in cells]:
            raise DatasetError(f"{where}, line 1: no column {missing[0]}; it needs {','.join(COLUMNS)}")
        i = dataset.find(file_name)
        try:
            probability = float(cells["probability"]) if cells["probability"] else None
            stored = dataset.base + file_name if i is None else dataset.names[i]
            labels.append(_valid(Label(stored, cells["attribute"], cells["value"], probability, cells["by"])))
        except ValueError as error:
            raise DatasetError(f"{where}, {line}: {error}; correct or delete the line") from error
    return labels


def _valid(label: Label) -> Label:
    """The label. ValueError if its fields are invalid."""
    if not label.attribute or label.attribute in ABOUT_THE_FILE:
        raise ValueError(f"{label.attribute!r} is not an attribute of what a picture shows")
    if label.by != SOURCE and not AUTHOR.fullmatch(label.by):
        raise ValueError(f"by {label.by!r} is neither person, committee nor tagger:NAME")
    if label.probability is not None and not 0 <= label.probability <= 1:
        raise ValueError(f"probability {label.probability} is not between 0 and 1")
    if not label.value and label.by != PERSON:
        raise ValueError(f"an empty value by {label.by}: only a person may leave it unknown")
    return label


def _checked(label: Label, dataset: Dataset, names: Container[str]) -> Label:
    """The label as it is read back later: without surrounding blanks, and with the probability rounded."""
    if label.file_name not in names:
        raise DatasetError(f"{dataset.path}: has no picture {label.file_name}, so it cannot be labelled")
    probability = None if label.probability is None else round(label.probability, 4)
    attribute, value, by = label.attribute.strip(), label.value.strip(), label.by.strip()
    try:
        return _valid(Label(label.file_name, attribute, value, probability, by))
    except ValueError as error:
        raise DatasetError(f"{dataset.path / label.file_name}: {error}") from error


def _table(dataset: Dataset, labels: Mapping[Key, Label], withdrawn: Collection[Key]) -> bytes:
    """metadata.csv with these labels, and with the other columns and rows of the present metadata."""
    rows: list[dict[str, str]] = []
    of: dict[str, dict[str, str]] = {}  # picture -> its row
    for _, name, values in dataset.rows():
        rows.append({**values, "file_name": name})
        if (i := dataset.find(name)) is not None:
            of[dataset.names[i]] = rows[-1]
    for name, attribute in withdrawn:
        of.get(name, {})[attribute] = ""
    for label in labels.values():
        if label.file_name not in of:
            rows.append({"file_name": label.file_name.removeprefix(dataset.base)})
            of[label.file_name] = rows[-1]
        of[label.file_name][label.attribute] = label.value
    ours = dataset.metadata == dataset.base + METADATA
    header = next(csv.reader(io.StringIO(dataset.text(METADATA), newline=""))) if ours else ["file_name"]
    columns = dict.fromkeys(column.strip() for column in header)  # also the empty ones
    for row in rows:
        columns |= dict.fromkeys(row)
    for name, row in of.items():
        i = dataset.find(row["file_name"])
        if i is None or dataset.names[i] != name:
            raise DatasetError(f"{dataset.path / name}: metadata.csv cannot hold that name; rename the file")
    content = _csv(dataset, METADATA, [*columns], rows)
    # Some spreadsheets need a byte order mark to read UTF-8.
    marked = ours and dataset.files.read(dataset.base + METADATA).startswith(codecs.BOM_UTF8)
    return codecs.BOM_UTF8 + content if marked else content


def _origins(dataset: Dataset, labels: Iterable[Label]) -> bytes:
    """labels.csv: all labels except those that came with the data."""
    rows = []
    for label in sorted(labels, key=lambda label: (label.file_name, label.attribute)):
        probability = "" if label.probability is None else f"{label.probability:.4g}"
        cells = label.file_name.removeprefix(dataset.base), label.attribute, label.value, probability, label.by
        if label.by != SOURCE:
            rows.append(dict(zip(COLUMNS, cells, strict=True)))
    return _csv(dataset, LABELS, COLUMNS, rows)


def _csv(dataset: Dataset, file: str, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> bytes:
    """The table as a file. DatasetError if it would not be read back unchanged: names and values come from outside."""
    where = f"{dataset.path / dataset.base / file}"
    table = csv_text([columns, *([row.get(column, "") for column in columns] for row in rows)])
    try:
        content = table.encode("utf-8")
        again = [(name, values) for _, name, values in rows_csv(content.decode("utf-8"), where)]
    except ValueError as error:
        raise DatasetError(f"{where}: cannot be written ({error}); rename that file or shorten that value") from error
    for row, (name, values) in zip(rows, again, strict=True):
        i, j = dataset.find(row["file_name"]), dataset.find(name)
        if i != j or any(values[column] != row.get(column, "").strip() for column in columns):
            raise DatasetError(f"{where}: {row['file_name']!r} would not be read back unchanged; rename that file")
    return content
