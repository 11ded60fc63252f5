"""Asking a person what pictures show: on a terminal, or through a CSV to fill in.

Both show the pictures as a numbered contact sheet, a PNG that any viewer opens. Each batch gets files of its own in
DATA-ATTRIBUTE-questions/ beside the dataset; none is ever overwritten.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from kyara.files.atomic import write_atomic
from kyara.files.dataset import Dataset
from kyara.files.errors import DatasetError, PictureError
from kyara.files.metadata import csv_text, rows_csv
from kyara.files.names import printable, slug
from kyara.files.pictures import center_crop, numbered, pad_to, sheet, write_png

CELL = 128
"""Longest side of a picture on the sheet, in pixels."""
CANNOT_TELL = "?"
"""The answer for a picture whose value nobody can tell."""

Answer = tuple[int, str | None]
"""Index of the picture in the dataset and its value: empty if nobody can tell, None if an earlier answer is undone."""
Asker = Callable[[Dataset, str, Sequence[int], Sequence[str]], Iterator[Answer]]
"""(dataset, attribute, pictures, known values) -> the answers one by one, maybe not to all. StopAsking ends it."""


class StopAsking(Exception):  # noqa: N818 (not an error: the person chose it)
    """The person wants to stop, or is to fill in files: `questions`, the contact sheet and the CSV."""

    def __init__(self, questions: tuple[Path, Path] | None = None) -> None:
        super().__init__()
        self.questions = questions


def on_terminal(
    dataset: Dataset, attribute: str, pictures: Sequence[int], values: Sequence[str], *, fixed: bool = False
) -> Iterator[Answer]:
    """Asks line by line, on stderr. With `fixed`, only `values` are accepted. An `Asker`."""
    known, answered = list(values), set[int]()
    path = write_sheet(dataset, attribute, pictures)
    help_ = f"answer by number or word; {CANNOT_TELL} nobody can tell, Enter skip, - undo the last one, q stop"
    _show(f"\nlook at {path}\n{help_}\n")
    at = 0
    while at < len(pictures):
        choices = "  ".join(f"{i} {printable(value)}" for i, value in enumerate(known, 1))
        word = _prompt(f"{attribute} of picture {at + 1}?  [{choices}] ")
        if word == "q":
            raise StopAsking
        if word == "-":
            at = max(at - 1, 0)
            if at in answered:
                answered.remove(at)
                yield pictures[at], None
            continue
        if word:
            value = _value(word, known, fixed)
            if value is None:
                continue
            answered.add(at)
            yield pictures[at], value
        at += 1


def _value(word: str, known: list[str], fixed: bool) -> str | None:
    """The value that `word` stands for, None if there is none. A new one is added to `known`."""
    if word == CANNOT_TELL:
        return ""
    if word in known:
        return word
    if word.isdecimal() and 1 <= int(word) <= len(known):
        return known[int(word) - 1]
    matches = [value for value in known if value.startswith(word)]
    if len(matches) == 1:
        return matches[0]
    if fixed or matches or word.isdecimal():
        meant = " or ".join(map(printable, matches))
        _show(f"  {word!r} may be {meant}\n" if matches else f"  {word!r} is none of them\n")
        return None
    if _prompt(f"  {word!r} is new: type it again to add it ") != word:
        return None
    known.append(word)
    return word


def _show(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _prompt(text: str) -> str:
    _show(text)
    line = sys.stdin.readline()
    if not line:
        raise StopAsking
    return line.strip()


def in_files(dataset: Dataset, attribute: str, pictures: Sequence[int], values: Sequence[str]) -> Iterator[Answer]:
    """Asks nobody now, but leaves the sheet and a CSV to fill in. An `Asker`."""
    picture = write_sheet(dataset, attribute, pictures)
    rows = [(number, dataset.names[i], "") for number, i in enumerate(pictures, 1)]
    table, text = picture.with_suffix(".csv"), csv_text([("number", "file_name", "value"), *rows])
    write_atomic(table, lambda temporary: temporary.write_bytes(text.encode()))
    raise StopAsking((picture, table))
    yield  # makes this a generator, like every Asker


def write_sheet(dataset: Dataset, attribute: str, pictures: Sequence[int]) -> Path:
    """Writes the numbered contact sheet of these pictures as a new PNG."""
    path = dataset.path.resolve()
    name = path.stem if path.suffix.lower() == ".zip" else path.name
    folder = path.with_name(f"{name}-{slug(attribute)}-questions")
    folder.mkdir(exist_ok=True)
    new = (folder / f"{number:04d}.png" for number in itertools.count(1))
    path = next(path for path in new if not path.exists() and not path.with_suffix(".csv").exists())
    write_png(path, sheet([numbered(_cell(dataset, i), place) for place, i in enumerate(pictures, 1)]))
    return path


def _cell(dataset: Dataset, i: int) -> np.ndarray:
    try:
        picture = dataset.picture(i, CELL)
    except PictureError:
        return np.full((CELL, CELL, 3), 128, dtype=np.uint8)
    height, width = picture.shape[:2]
    if max(height, width) > 3 * min(height, width):  # a strip would be too narrow on the sheet
        picture = center_crop(picture, CELL, CELL)
    return pad_to(picture, CELL, CELL)


def read_answers(path: Path, dataset: Dataset, values: Sequence[str] = ()) -> list[tuple[int, str]]:
    """The answers in a CSV with the columns file_name and value. Rows without a value are skipped; ? means that nobody
    can tell. With `values`, any other value is an error. DatasetError names the malformed line."""
    where = f"--answers {path}"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{where}: cannot be read ({error}); give a CSV in UTF-8") from error
    found: dict[int, str] = {}
    stored = {name: i for i, name in enumerate(dataset.names)}
    for line, name, cells in rows_csv(text, where):
        if "value" not in cells:
            raise DatasetError(f"{where}, line 1: no column value; begin with `file_name,value`")
        value, i = cells["value"], stored.get(name, dataset.find(name))
        if not value:
            continue
        if i is None:
            raise DatasetError(f"{where}, {line}: {dataset.path} has no picture {printable(name)}")
        if values and value not in (*values, CANNOT_TELL):
            raise DatasetError(f"{where}, {line}: {printable(value)} is not among --values {', '.join(values)}")
        value = "" if value == CANNOT_TELL else value
        if found.setdefault(i, value) != value:
            raise DatasetError(f"{where}, {line}: {printable(name)} has another value above; keep one of them")
    return list(found.items())
