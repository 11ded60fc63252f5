"""Labels of an earlier result that `kyara prepare --force` replaces: they are taken over to the same pictures.

A picture is the same if its source has the same name and the same size and, if it was cut to a face, that face is at
the same place: with other options, the faces of a picture may have other numbers. `points` and `boxes` are places in
the picture, so they are only taken over if all pixels are the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from kyara.files.dataset import BOXES, POINTS, Dataset, open_dataset
from kyara.files.errors import DatasetError
from kyara.files.metadata import csv_text, rows_csv
from kyara.preparation.faces import Box
from kyara.preparation.report import encodable, face_name

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

    name: str  # In the Dataset, by the hash of its pixels
    cut: Cut
    values: Mapping[str, str]  # Attribute -> value, "" if unknown
    places: Mapping[str, str]  # POINTS and BOXES -> its cell, if it has one
    origins: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # Attribute -> probability and `by`

    @property
    def labels(self) -> int:
        """The number of its labels."""
        origins = {attribute for attribute, (_, by) in self.origins.items() if by == PERSON}
        return len({attribute for attribute, value in self.values.items() if value} | origins)


@dataclass(frozen=True)
class Earlier:
    """The labels of the earlier result."""

    out: Path
    known: Mapping[str, Sequence[Known]]  # By the name of the source
    inside: bool = False  # Whether these are names inside the only source
    moved: bool = False  # Whether that is another folder now: perhaps the same one moved, perhaps not
    size: tuple[int, ...] = ()  # (H, W) of its pictures

    def best(self, name: str, cut: Cut) -> Known | None:
        """The picture that shows the same as the new picture `name`. From another folder it must have the same pixels,
        which its name says: such names as 0001.png are in many folders."""
        same = [known for known in self.known.get(cut.source, ()) if known.cut.same(cut)]
        same = [known for known in same if known.name == name or not self.moved]
        return max(same, key=lambda known: overlap(known.cut.box, cut.box), default=None)


class Tables(NamedTuple):
    """The tables of a result."""

    files: Mapping[str, bytes]  # metadata.csv, and labels.csv if there are labels for it
    carried: int  # Labels from the earlier result
    lost: int  # Labels of the earlier result whose pictures this one does not have


def overlap(a: Sequence[int] | None, b: Sequence[int] | None) -> float:
    """Intersection over union of two boxes [x, y, width, height]; 0 if one is missing."""
    if not (a and b):
        return 0.0
    one, other = (Box(left, top, left + wide, top + high) for left, top, wide, high in (a, b))
    return one.overlap(other)


def cuts(report: Mapping[str, Any], inside: bool) -> Iterator[tuple[str, Cut]]:
    """(Name in the Dataset, what it was made from) of each picture, from the content of report.json. The names of the
    sources are those `inside` the only one, or begin with it."""
    sources = report["sources"]
    for one in report["pictures"]:
        whole, faces = one["file"], one["faces"]
        if len(sources) == 1 and not inside and whole != sources[0]:  # with several sources, names begin with them
            whole = f"{Path(sources[0]).as_posix()}/{whole}"
        alone = len(faces) < 2
        if not one["cut"] and one["kept"]:
            yield one["kept"], Cut(whole, one["size"], faces[0]["box"] if len(faces) == 1 else None, alone)
        for face in faces if one["cut"] else ():
            if face["kept"]:
                yield face["kept"], Cut(whole, one["size"], face["box"], alone)


def read_earlier(out: Path, report: Path, sources: Sequence[Path]) -> Earlier:
    """The labels of the result at `out`; empty if there is none. `sources` are those of the new result. DatasetError if
    they cannot be read, before they are replaced."""
    if not (out.exists() and report.is_file()):
        return Earlier(out, {})
    try:
        dataset = open_dataset(out)
        if dataset.metadata != METADATA:  # a Gallery, or nothing to take over
            return Earlier(out, {})
        content = json.loads(report.read_text(encoding="utf-8"))
        before = [Path(source).resolve() for source in content["sources"]]
        inside = len(sources) == len(before) == 1
        moved = inside and before != [sources[0].resolve()]
        made, origins, size = dict(cuts(content, inside)), _origins(dataset), tuple(content["size"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        hint = "correct that file, or delete the result to prepare it without its labels"
        raise DatasetError(f"{out}: the labels of this earlier result cannot be read ({error}); {hint}") from error
    earlier: dict[str, list[Known]] = {}
    for i, name in enumerate(dataset.names):
        if cut := made.get(name):
            values = {attribute: column[i] for attribute, column in dataset.attributes.items()}
            cells = {POINTS: dataset.point_cells, BOXES: dataset.box_cells}
            places = {column: of[i] for column, of in cells.items() if of and of[i]}
            known = Known(name, cut, values, places, origins.get(i, {}))
            if known.labels or places:
                earlier.setdefault(cut.source, []).append(known)
    return Earlier(out, earlier, inside, moved, size)


def check_sources(dataset: Dataset, sources: Sequence[Path], earlier: Earlier) -> set[str]:
    """The names that the earlier result has for the pictures of the sources, opened as `dataset`. DatasetError if none
    of them has labels, and others have."""
    whole = len(sources) > 1 or earlier.inside
    names = {encodable(name if whole else dataset.location(i).as_posix()) for i, name in enumerate(dataset.names)}
    if earlier.known and names.isdisjoint(earlier.known):
        why = f"the sources have none of the pictures that have labels in it, such as {next(iter(earlier.known))}"
        hint = "give the sources in the same way as before, or delete the result to prepare it without its labels"
        raise DatasetError(f"{earlier.out}: {why}; {hint}")
    return names


def check_size(earlier: Earlier, names: set[str], size: tuple[int, int]) -> None:
    """DatasetError if new pictures of the sources with these names cannot have their earlier `points` and `boxes`, as
    their size (H, W) differs."""
    again = (known for source, some in earlier.known.items() if source in names for known in some)
    known = next((known for known in again if known.places), None)
    if known and size != earlier.size:
        raise _moved_places(known, earlier.out)


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
) -> Tables:
    """The tables of the new result. `kept` is (name in the Dataset, index of the source, index of its face or None) of
    each picture. DatasetError if `points` or `boxes` of the earlier one do not fit.

    Pictures have the attributes of their source, and its name. An earlier label is taken over where the source has
    none; that of a person also where it has another one, as everywhere."""
    made, columns, carried = dict(cuts(report, earlier.inside)), dict.fromkeys(dataset.attributes), 0
    rows: dict[str, dict[str, str]] = {}
    origins = list[tuple[str, ...]]()
    left = {known.name: known for some in earlier.known.values() for known in some}
    for name, i, face in sorted(kept):
        row = rows[name] = {attribute: column[i] for attribute, column in dataset.attributes.items()}
        row["source"] = face_name(dataset.names[i], face)
        if (known := earlier.best(name, made[name])) is None:
            continue
        left.pop(known.name, None)
        columns |= dict.fromkeys(_checked(known, name, earlier.out))
        row |= known.places
        for attribute, value in known.values.items():
            probability, by = known.origins.get(attribute, ("", ""))
            if by == PERSON or (value and not row.get(attribute)):
                columns[attribute], row[attribute] = None, value
                carried += 1
                origins += [(name, attribute, value, probability, by)] if by else []
    if earlier.moved and left and len(left) == sum(map(len, earlier.known.values())):
        why = "none of the pictures that have labels in it has the same pixels in the new one, whose source is another"
        hint = "give the source and the options of before, or another output"
        raise DatasetError(f"{earlier.out}: {why}; {hint}")
    metadata = [["file_name", *columns, "source"]]
    metadata += [[name, *(row.get(column, "") for column in columns), row["source"]] for name, row in rows.items()]
    found = {METADATA: metadata} | ({LABELS: [ORIGINS, *origins]} if origins else {})
    files = {name: csv_text(table).encode("utf-8", "backslashreplace") for name, table in found.items()}
    for name, content in files.items():
        for _ in rows_csv(content.decode(), f"{earlier.out / name}"):  # DatasetError if it could not be read again
            pass
    return Tables(files, carried, sum(known.labels for known in left.values()))


def _checked(known: Known, name: str, out: Path) -> Mapping[str, str]:
    """The places in a picture. DatasetError if it has other pixels now."""
    if known.places and known.name != name:
        raise _moved_places(known, out)
    return known.places


def _moved_places(known: Known, out: Path) -> DatasetError:
    column = next(iter(known.places))
    why = f"its column `{column}` has places in {known.name}, which these options make another picture of"
    hint = "give the options of before, or another output, or remove the column from its metadata.csv"
    return DatasetError(f"{out}: {why}; {hint}")
