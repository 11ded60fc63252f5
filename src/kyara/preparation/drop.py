"""The list of `--drop`: pictures that a person chose on the page of a report."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from kyara.files.dataset import Dataset
from kyara.files.errors import DatasetError
from kyara.preparation.report import encodable

LIST = "drop.csv"  # Name under which the page saves the list


def read_list(path: Path) -> dict[str, int]:
    """File name, exactly as in the column file_name of the .csv at `path` -> number of its line. Raises DatasetError if
    it cannot be read."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"--drop {path}: cannot be read as UTF-8 text ({error}); save the list again") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    found: dict[str, int] = {}
    try:
        header = next(reader, [])
        if "file_name" not in header:
            raise DatasetError(f"--drop {path}, line 1: no column file_name; give a list saved on the page of a report")
        for row in filter(None, reader):
            if len(row) != len(header):
                hint = "quote names that contain a comma"
                raise DatasetError(
                    f"--drop {path}, line {reader.line_num}: {len(row)} fields, but line 1 has {len(header)}; {hint}"
                )
            found.setdefault(row[header.index("file_name")], reader.line_num)
    except csv.Error as error:
        raise DatasetError(f"--drop {path}, line {reader.line_num}: {error}; save it as plain CSV") from error
    return found


def choose(dataset: Dataset, path: Path) -> tuple[Mapping[int, str], list[tuple[str, str]]]:
    """The pictures of `dataset` in the list at `path`: index -> why it is left out; and (name, reason) of the names in
    the list that no source has. Raises DatasetError if no name is that of a picture."""
    exact = {encodable(name): i for i, name in enumerate(dataset.names)}
    skipped = {encodable(name) for name, _ in dataset.ignored}
    names = read_list(path)
    dropped: dict[int, str] = {}
    missing: list[tuple[str, str]] = []
    for name, line in names.items():
        i = exact[name] if name in exact else dataset.find(name)
        if i is not None:
            dropped[i] = f"listed in {path.name}, line {line}"
        elif name not in skipped:
            missing.append((name, f"listed in {path.name}, line {line}, but there is no such picture"))
    if names and len(missing) == len(names):
        hint = "give the sources in the same way as for the report on which it was saved"
        raise DatasetError(f"--drop {path}: the sources have none of its {len(names)} pictures; {hint}")
    return dropped, missing
