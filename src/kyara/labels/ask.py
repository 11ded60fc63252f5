"""Asking a person what pictures show: on a terminal, or through a CSV to fill in.

Both show the pictures as a numbered sheet, a PNG that any viewer opens. Each batch gets files of its own in
DATA-ATTRIBUTE-questions/ beside the dataset; none is ever written over.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from kyara.files.atomic import write_atomic
from kyara.files.dataset import Dataset
from kyara.files.errors import DatasetError, PictureError
from kyara.files.metadata import rows_csv
from kyara.files.names import printable
from kyara.files.pictures import center_crop, numbered, pad_to, sheet, write_png

CELL = 128
"""Longest side of a picture on the sheet, in pixels."""
CANNOT_TELL = "?"
"""The answer for a picture of which nobody can say it."""

Answer = tuple[int, str]
"""The picture's number in the dataset and its value, empty if nobody can tell."""


class StopAsking(Exception):  # noqa: N818 (no error: the person wants it)
    """The person wants to answer no more now."""


class Asker(Protocol):
    """Shows pictures and yields the answers as they come; a picture may be left out. Raises StopAsking at the end."""

    def __call__(
        self, dataset: Dataset, attribute: str, pictures: Sequence[int], values: Sequence[str]
    ) -> Iterator[Answer]: ...


class OnTerminal:
    """Asks line by line. `fixed`: no other values than those given."""

    def __init__(self, *, fixed: bool = False) -> None:
        self.fixed = fixed

    def __call__(
        self, dataset: Dataset, attribute: str, pictures: Sequence[int], values: Sequence[str]
    ) -> Iterator[Answer]:
        known = list(values)
        path = write_sheet(dataset, attribute, pictures)
        print(f"\nlook at {path}\nanswer by number or word; {CANNOT_TELL} nobody can tell, Enter skip, - back, q stop")
        at = 0
        while at < len(pictures):
            choices = "  ".join(f"{i} {printable(value)}" for i, value in enumerate(known, 1))
            word = _line(f"{attribute} of picture {at + 1}?  [{choices}] ")
            if word == "q":
                raise StopAsking
            if word == "-":
                at = max(at - 1, 0)
                continue
            if word:
                value = self._value(word, known)
                if value is None:
                    continue
                yield pictures[at], value
            at += 1

    def _value(self, word: str, known: list[str]) -> str | None:
        """The value meant by `word`, None if none is."""
        if word == CANNOT_TELL:
            return ""
        if word in known:
            return word
        if word.isdecimal() and 1 <= int(word) <= len(known):
            return known[int(word) - 1]
        begun = [value for value in known if value.startswith(word)]
        if len(begun) == 1:
            return begun[0]
        if self.fixed or begun or word.isdecimal():
            print(f"  {word!r} is none of them" if not begun else f"  {word!r} may be {' or '.join(begun)}")
            return None
        if _line(f"  {word!r} is new: type it again to add it ") != word:
            return None
        known.append(word)
        return word


def _line(prompt: str) -> str:
    try:
        return input(prompt).strip()
    except EOFError:
        raise StopAsking from None


class InFiles:
    """Asks nobody now: leaves the sheet and a CSV to fill in. `left` names them."""

    def __init__(self) -> None:
        self.left: tuple[Path, Path] | None = None

    def __call__(
        self, dataset: Dataset, attribute: str, pictures: Sequence[int], values: Sequence[str]
    ) -> Iterator[Answer]:
        picture = write_sheet(dataset, attribute, pictures)
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("number", "file_name", "value"))
        for number, i in enumerate(pictures, 1):
            writer.writerow((number, dataset.names[i].removeprefix(dataset.base), ""))
        table, content = picture.with_suffix(".csv"), text.getvalue().encode("utf-8")
        write_atomic(table, lambda temporary: temporary.write_bytes(content))
        self.left = picture, table
        raise StopAsking
        yield  # a generator, as every Asker


def write_sheet(dataset: Dataset, attribute: str, pictures: Sequence[int]) -> Path:
    """The numbered sheet of these pictures, as a new PNG."""
    whole = dataset.path.resolve()
    name = whole.stem if whole.suffix.lower() == ".zip" else whole.name
    safe = "".join(c if c.isalnum() or c in "-_" else "-" for c in attribute)
    folder = whole.with_name(f"{name}-{safe}-questions")
    folder.mkdir(exist_ok=True)
    number = 1
    while any((folder / f"{number:04d}{suffix}").exists() for suffix in (".png", ".csv")):
        number += 1
    cells = [numbered(_cell(dataset, i), place) for place, i in enumerate(pictures, 1)]
    write_png(folder / f"{number:04d}.png", sheet(cells))
    return folder / f"{number:04d}.png"


def _cell(dataset: Dataset, i: int) -> np.ndarray:
    try:
        picture = dataset.picture(i, CELL)
    except PictureError:
        return np.full((CELL, CELL, 3), 128, dtype=np.uint8)
    height, width = picture.shape[:2]
    if max(height, width) > 3 * min(height, width):  # a strip would be too thin to see
        picture = center_crop(picture, CELL, CELL)
    return pad_to(picture, CELL, CELL)


def read_answers(path: Path, dataset: Dataset, values: Sequence[str] = ()) -> list[Answer]:
    """The answers in a CSV with the columns file_name and value; rows without a value are left out, ? is "nobody can
    tell". With `values`, others are refused. DatasetError names the line that cannot be understood."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"--answers {path}: cannot be read ({error}); give a CSV in UTF-8") from error
    found: dict[int, str] = {}
    for line, name, cells in rows_csv(text, f"--answers {path}"):
        if "value" not in cells:
            raise DatasetError(f"--answers {path}, line 1: no column value; begin with `file_name,value`")
        value, i = cells["value"], dataset.find(name)
        if not value:
            continue
        if i is None:
            raise DatasetError(f"--answers {path}, {line}: {dataset.path} has no picture {printable(name)}")
        if values and value not in (*values, CANNOT_TELL):
            raise DatasetError(
                f"--answers {path}, {line}: {printable(value)} is not among --values {', '.join(values)}"
            )
        value = "" if value == CANNOT_TELL else value
        if found.setdefault(i, value) != value:
            raise DatasetError(f"--answers {path}, {line}: {printable(name)} has another value above; keep one of them")
    return list(found.items())
