"""Labels on disk: attributes of pictures, and the origin of every value.

    metadata.csv   file_name, then one column per attribute, empty = unknown: read by all verbs, editable by hand
    labels.csv     file_name, attribute, value, probability, by: the origin of the values, if known

Both are at the root of the folder or .zip, unless the dataset already has metadata elsewhere.

`by` is `person`, `committee` or `tagger:NAME`. Values of metadata.csv without a line in labels.csv have the origin
`source`: they came with the data or were edited by hand. A person's answer takes precedence over the source, the source
over a tagger. An empty value by a person means that it cannot be determined: it stays unknown and is never filled in.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from kyara.files.archive import Folder, Zip
from kyara.files.dataset import RESERVED, Dataset, open_dataset
from kyara.files.errors import DatasetError
from kyara.files.metadata import Layout, csv_text, layout, rows_csv

METADATA, LABELS = "metadata.csv", "labels.csv"
COLUMNS = ("file_name", "attribute", "value", "probability", "by")
PERSON, SOURCE = "person", "source"
UNSTORABLE = "this name cannot be stored in metadata.csv; rename the file"
AUTHOR = re.compile(r"person|committee|tagger:.+", re.DOTALL)


@dataclass(frozen=True)
class Label:
    """One attribute's value of one picture."""

    file_name: str  # As in `Dataset.names`
    attribute: str
    value: str  # Empty = unknown; only valid for `person`
    probability: float | None  # Confidence in the value, 0 to 1, four decimals on disk; None if not applicable
    by: str  # `person`, `source`, `committee` or `tagger:NAME`

    @property
    def rank(self) -> int:
        """Precedence: a label replaces labels of lower rank."""
        return {PERSON: 2, SOURCE: 1}.get(self.by, 0)


Key = tuple[str, str]  # File name and attribute


def read_labels(dataset: Dataset) -> list[Label]:
    """All known values with their origin, and the empty values given by a person, ordered by picture and attribute.
    Raises DatasetError if labels.csv is malformed."""
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


def unstorable(dataset: Dataset) -> dict[int, str]:
    """The pictures that can have no labels, as a table cannot have their names: index -> why."""
    names = enumerate(dataset.names)
    return {i: UNSTORABLE for i, name in names if not _is_storable(dataset, name.removeprefix(dataset.base), name)}


def _is_storable(dataset: Dataset, stored: str, name: str) -> bool:
    """Whether `stored` in a table is read as the name of that picture."""
    i = dataset.find(stored.strip())
    return i is not None and dataset.names[i] == name and not any("\ud800" <= c <= "\udfff" for c in stored)


def check_writable(dataset: Dataset) -> None:
    """Raises DatasetError or OSError if no labels can be written, before time is spent on them."""
    write_labels(dataset, (), dry_run=True)


def write_labels(
    dataset: Dataset, labels: Iterable[Label], *, withdrawn: Collection[Key] = (), dry_run: bool = False
) -> None:
    """Merges `labels` into those on disk, and writes metadata.csv and labels.csv into the folder or .zip.

    A label replaces the one on disk unless that one takes precedence; labels in `withdrawn` are removed first. Rereads
    the dataset, so that changes since it was opened are kept, and updates `dataset`, which may be a subset. Metadata in
    another format is converted to metadata.csv. An interruption leaves each label either old or new. Raises
    DatasetError, with nothing written, if a label would not be read back unchanged."""
    whole = open_dataset(dataset.path)
    assert isinstance(whole.files, Folder | Zip)
    if whole.metadata is None and whole.base + LABELS not in whole.files.sizes:
        whole.base = ""  # new tables are written to the root, even if all pictures are in one sub-folder
    metadata, origins = whole.base + METADATA, whole.base + LABELS
    for name, reason in whole.files.ignored:
        if name in (metadata, origins):
            raise DatasetError(f"{whole.path / name}: {reason}; remove it, so that a new one can be written")
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
    if dry_run:
        _origins(whole, after)
        whole.files.check_writable()
        return
    if isinstance(whole.files, Folder):
        # An interruption between the two writes must leave the origins of both the old and the new values.
        before = [label for key, label in known.items() if merged.get(key) != label]
        whole.files.write({origins: _origins(whole, [*before, *after])})
    whole.files.write({metadata: table, origins: _origins(whole, after)})
    written = open_dataset(dataset.path)
    indices = [written.find(name.removeprefix(written.base)) for name in dataset.names]
    dataset.files, dataset.metadata, dataset.base = written.files, written.metadata, written.base
    dataset.attributes = {k: ["" if i is None else c[i] for i in indices] for k, c in written.attributes.items()}
    for cached in ("fingerprint", "_indices"):
        dataset.__dict__.pop(cached, None)


def _read_origins(dataset: Dataset) -> list[Label]:
    """The lines of labels.csv, including those of missing pictures."""
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
    """Returns the label. Raises ValueError if its fields are invalid."""
    if not label.attribute or label.attribute in RESERVED:
        raise ValueError(f"{label.attribute!r} is a reserved column, not an attribute")
    if label.by != SOURCE and not AUTHOR.fullmatch(label.by):
        raise ValueError(f"by {label.by!r}: must be person, committee or tagger:NAME")
    if label.probability is not None and not 0 <= label.probability <= 1:
        raise ValueError(f"probability {label.probability} is not between 0 and 1")
    if not label.value and label.by != PERSON:
        raise ValueError(f"an empty value by {label.by}: only a person may give an empty value")
    return label


def _checked(label: Label, dataset: Dataset, names: Container[str]) -> Label:
    """The label in its stored form: without surrounding whitespace, and with the probability rounded."""
    if label.file_name not in names:
        raise DatasetError(f"{dataset.path}: has no picture {label.file_name}")
    probability = None if label.probability is None else round(label.probability, 4)
    attribute, value, by = label.attribute.strip(), label.value.strip(), label.by.strip()
    try:
        return _valid(Label(label.file_name, attribute, value, probability, by))
    except ValueError as error:
        raise DatasetError(f"{dataset.path / label.file_name}: {error}") from error


def _table(dataset: Dataset, labels: Mapping[Key, Label], withdrawn: Collection[Key]) -> bytes:
    """metadata.csv with these labels, and with the other columns and rows of the current metadata."""
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
    found = layout(dataset.text(METADATA)) if ours else Layout(["file_name"])
    columns = dict.fromkeys(found.columns)  # including empty columns
    for row in rows:
        columns |= dict.fromkeys(row)
    for name, row in of.items():
        if not _is_storable(dataset, row["file_name"], name):
            raise DatasetError(f"{dataset.path / name}: {UNSTORABLE}")
    content = _csv(dataset, METADATA, found._replace(columns=[*columns]), rows)
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
    return _csv(dataset, LABELS, Layout(COLUMNS), rows)


def _csv(dataset: Dataset, file: str, as_: Layout, rows: Sequence[Mapping[str, str]]) -> bytes:
    """The table as CSV in the layout `as_`. Raises DatasetError if it would not be read back unchanged: names and
    values are untrusted."""
    where = f"{dataset.path / dataset.base / file}"
    columns = as_.columns
    table = csv_text([columns, *([row.get(column, "") for column in columns] for row in rows)], as_.separator)
    try:
        content = (as_.first_line + table).encode("utf-8")
        again = [(name, values) for _, name, values in rows_csv(content.decode("utf-8"), where)]
    except ValueError as error:
        raise DatasetError(f"{where}: cannot be written ({error}); rename that file or shorten that value") from error
    for row, (name, values) in zip(rows, again, strict=True):
        i, j = dataset.find(row["file_name"]), dataset.find(name)
        if i != j or any(values[column] != row.get(column, "").strip() for column in columns):
            raise DatasetError(f"{where}: {row['file_name']!r} would not be read back unchanged; rename that file")
    return content
