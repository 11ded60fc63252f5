"""The list of `--drop`: pictures that a person chose on the page of a report."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path

from kyara.files.dataset import Dataset
from kyara.files.errors import DatasetError
from kyara.preparation.report import encodable

Dropped = Mapping[tuple[int, int | None], str]
"""(Index of a picture, index of a face in it or None for all of it) -> why it is left out."""
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


def choose(dataset: Dataset, path: Path) -> tuple[Dropped, list[tuple[str, str]]]:
    """What of `dataset` is in the list at `path`, and (name, reason) of the names in the list that no source has.
    Raises DatasetError if no name is that of a picture, or of a face in one."""
    exact = {encodable(name): i for i, name in enumerate(dataset.names)}
    skipped = {encodable(name) for name, _ in dataset.ignored}
    names = read_list(path)
    dropped: dict[tuple[int, int | None], str] = {}
    missing: list[tuple[str, str]] = []
    for name, line in names.items():
        i, face = exact[name] if name in exact else dataset.find(name), None
        if i is None and (match := re.fullmatch(r"(.+)#([1-9][0-9]{0,5})", name, re.S)):
            i, face = exact.get(match[1], dataset.find(match[1])), int(match[2]) - 1
        if i is not None:
            dropped[i, face] = f"listed in {path.name}, line {line}"
        elif name not in skipped:
            missing.append((name, f"listed in {path.name}, line {line}, but there is no such picture"))
    if names and len(missing) == len(names):
        hint = "give the sources in the same way as for the report on which it was saved"
        raise DatasetError(f"--drop {path}: the sources have none of its {len(names)} pictures; {hint}")
    return dropped, missing
