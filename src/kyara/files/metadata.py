"""Readers of a Dataset's metadata, one for each format, which yield rows."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

from kyara.files.errors import DatasetError
from kyara.files.gallery_page import TABLE, UNTAGGED

MEASUREMENTS = ("shows", "kept", "distance", "style")  # columns of a Gallery that `invert`, `avatar`, `translate` add
Row = tuple[str, str, dict[str, str]]  # (line or item for messages, file name of the picture, attribute -> value)


def csv_text(rows: Iterable[Iterable[object]], separator: str = ",") -> str:
    """The rows as CSV with Unix line endings."""
    lines: list[str] = []
    file = SimpleNamespace(write=lambda line: lines.append(line.removesuffix("\r\n") + "\n"))
    csv.writer(file, lineterminator="\r\n", delimiter=separator).writerows(rows)  # so that cells with \r are quoted
    return "".join(lines)


def rows_csv(text: str, where: str) -> Iterator[Row]:
    """Rows of a table separated by commas, semicolons or tabs, as spreadsheets of several languages write it."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text), strict=True)
    try:
        header = _header(reader)
        _check_header(header, f"{where}, line {reader.line_num or 1}")
        while not header[-1]:  # trailing separators
            header.pop()
        for row in reader:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            line = f"line {reader.line_num}"
            if len(cells) < len(header) or any(cells[len(header) :]):
                hint = "quote values that contain the separator"
                raise DatasetError(f"{where}, {line}: {len(cells)} fields, but the header has {len(header)}; {hint}")
            pairs = [(column, cell) for column, cell in zip(header, cells, strict=False) if column or cell]
            if unnamed := next((cell for column, cell in pairs if not column), ""):
                raise DatasetError(f"{where}, {line}: {unnamed!r} is in a column without a name; name it, or remove it")
            yield line, dict(pairs)["file_name"], dict(pairs)
    except csv.Error as error:
        raise DatasetError(f"{where}, line {reader.line_num}: {error}; save it as plain CSV") from error


class Layout(NamedTuple):
    """How a table is written."""

    columns: Sequence[str]  # with names, also those without cells
    separator: str = ","
    first_line: str = ""  # Excel's line `sep=;`, if there is one


def layout(text: str) -> Layout:
    """The layout of a table that `rows_csv` can read."""
    separator = _separator(text)
    columns = _header(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    declared = text.lstrip().removeprefix('"').startswith("sep=")
    return Layout([*filter(None, columns)], separator, f"sep={separator}\n" if declared else "")


def _header(reader: Iterator[list[str]]) -> list[str]:
    header = [column.strip() for column in next(reader, [])]
    if header and header[0].startswith("sep="):  # Excel's own first line
        header = [column.strip() for column in next(reader, [])]
    return header


def _separator(text: str) -> str:
    """The separator of a table: the one beside `file_name` in its header, or that of Excel's line `sep=;`."""
    first = text.lstrip().partition("\n")[0]
    declared = re.fullmatch(r'"?sep=([,;\t])"?\s*', first)
    beside = re.search(r'([,;\t])\s*"?file_name\b|\bfile_name"?\s*([,;\t])', first)
    return (declared and declared[1]) or (beside and (beside[1] or beside[2])) or ","


def _check_header(header: Sequence[str], where: str) -> None:
    if "file_name" not in header:
        raise DatasetError(f"{where}: no column file_name; the first line must be the header, with `file_name`")
    named = [column for column in header if column]
    if len(set(named)) < len(named):
        raise DatasetError(f"{where}: two columns have the same name; give each its own")


def rows_jsonl(text: str, where: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        row = _json(line, f"{where}, line {number}")
        if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
            raise DatasetError(f'{where}, line {number}: not an object with "file_name"; write one per line')
        # Nested values, such as boxes or captions in several languages, are not attributes; nor are masks as text.
        texts = {key.strip(): _text(value) for key, value in row.items() if not isinstance(value, dict | list)}
        values = {key: text for key, text in texts.items() if key and len(text) <= csv.field_size_limit()}
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
        # Only `generate` writes seeds, and it adds no measurements: columns named like one are attributes.
        others = UNTAGGED if "seed" in values else (*UNTAGGED, *MEASUREMENTS)
        yield line, name, {k: v for k, v in values.items() if k not in others}


READERS = {
    "metadata.csv": rows_csv,
    "metadata.jsonl": rows_jsonl,
    "dataset.json": rows_stylegan,
    TABLE: rows_gallery,
}
"""File name -> reader; the first file that exists is read. Arguments: text, and file name for error messages."""
