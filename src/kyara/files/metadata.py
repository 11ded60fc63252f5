"""Readers of a Dataset's metadata, one for each format, which yield rows."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

from kyara.files.errors import DatasetError
from kyara.files.gallery_page import TABLE, UNTAGGED

MEASUREMENTS = ("shows", "kept", "distance", "style")  # columns of a Gallery that `invert`, `avatar`, `translate` add
Row = tuple[str, str, dict[str, str]]  # (line or item for messages, file name of the picture, attribute -> value)


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """The rows as CSV with Unix line endings."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def rows_csv(text: str, where: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [column.strip() for column in next(reader, [])]
        if "file_name" not in header:
            other = next((c for c in ";\t" if "file_name" in ",".join(header).split(c)), "")
            hint = f"the separator is {other!r}; use commas" if other else "the header must begin with `file_name`"
            raise DatasetError(f"{where}, line 1: no column file_name; {hint}")
        if "" in header:
            column = header.index("") + 1
            raise DatasetError(f"{where}, line 1: column {column} has no name; name it, or remove the extra comma")
        if len(set(header)) < len(header):
            raise DatasetError(f"{where}, line 1: two columns have the same name; give each its own")
        for row in reader:
            if not row:
                continue
            line = f"line {reader.line_num}"
            if len(row) != len(header):
                hint = "quote values that contain a comma"
                raise DatasetError(f"{where}, {line}: {len(row)} fields, but line 1 has {len(header)}; {hint}")
            values = dict(zip(header, (value.strip() for value in row), strict=True))
            yield line, values["file_name"], values
    except csv.Error as error:
        raise DatasetError(f"{where}, line {reader.line_num}: {error}; save it as plain CSV") from error


def rows_jsonl(text: str, where: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        row = _json(line, f"{where}, line {number}")
        if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
            raise DatasetError(f'{where}, line {number}: not an object with "file_name"; write one per line')
        # Nested values, such as boxes or captions in several languages, are not attributes.
        values = {key: _text(value) for key, value in row.items() if not isinstance(value, dict | list)}
        yield f"line {number}", row["file_name"], values


def rows_stylegan(text: str, where: str) -> Iterator[Row]:
    whole = _json(text, where)
    labels = whole.get("labels") if isinstance(whole, dict) else whole
    if labels is None:
        return
    if not isinstance(labels, list):
        raise DatasetError(f'{where}: "labels" must be null or a list of [path, label]')
    length = None
    for number, pair in enumerate(labels):
        line = f"labels[{number}]"
        match pair:
            case [str(name), int(label)]:
                yield line, name, {"class": _text(label)}
            case [str(name), [*numbers]] if all(isinstance(n, int | float) for n in numbers):
                if len(numbers) != (length := len(numbers) if length is None else length):
                    raise DatasetError(f"{where}, {line}: {len(numbers)} numbers, but {length} in earlier labels")
                yield line, name, {f"label_{i}": _text(n) for i, n in enumerate(numbers)}
            case _:
                raise DatasetError(f"{where}, {line}: must be [path, integer] or [path, list of numbers]")


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{where}: not JSON ({error}); correct or remove it") from error


def _text(value: Any) -> str:
    """Converts a JSON value to text for metadata.csv: 1.0 becomes 1, null becomes "" (unknown)."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    return str(value)


def rows_gallery(text: str, where: str) -> Iterator[Row]:
    """The attributes of a Gallery, without seeds, scores and other columns about how the pictures were made."""
    for line, name, values in rows_csv(text, where):
        yield line, name, {k: v for k, v in values.items() if k not in UNTAGGED and k not in MEASUREMENTS}


READERS = {
    "metadata.csv": rows_csv,
    "metadata.jsonl": rows_jsonl,
    "dataset.json": rows_stylegan,
    TABLE: rows_gallery,
}
"""File name -> reader; the first file that exists is read. Arguments: text, and file name for error messages."""
