"""Interactive labelling by a person: on a terminal, or with a CSV to fill in.

Both show the pictures on a numbered contact sheet in PNG format. Each batch writes new files to the folder
DATA-ATTRIBUTE-questions/ next to the dataset; files are never overwritten."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kyara.files.atomic import write_atomic
from kyara.files.dataset import Dataset
from kyara.files.errors import DatasetError, PictureError
from kyara.files.metadata import csv_text, rows_csv
from kyara.files.names import printable, slug
from kyara.files.pictures import center_crop, numbered, pad_to, sheet, write_png

CELL = 128  # Longest side of a picture on the sheet, in pixels
COMMANDS = CANNOT_TELL, UNDO, STOP = "?", "-", "q"  # The answer if the value cannot be determined, and no answers

Answer = tuple[int, str | None]
"""(index of the picture, value); the value is empty if it cannot be determined, None to undo an earlier answer."""
Asker = Callable[[Dataset, str, Sequence[int], Sequence[str]], Iterator[Answer]]
"""(dataset, attribute, pictures, known values) -> iterator over answers, which may skip pictures. Raises StopAsking to
stop."""


class StopAsking(Exception):  # noqa: N818 (not an error)
    """The person stops, or has to fill in files: `questions`, the contact sheet and the CSV."""

    def __init__(self, questions: tuple[Path, Path] | None = None) -> None:
        super().__init__()
        self.questions = questions


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """While a person is asked, a request to end or a closed terminal raises KeyboardInterrupt, as Ctrl-C does, so that
    the answers are written. Ignored signals stay ignored, as `nohup` wants it."""
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                before[number] = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def on_terminal(
    dataset: Dataset, attribute: str, pictures: Sequence[int], values: Sequence[str], *, fixed: bool = False
) -> Iterator[Answer]:
    """Asks line by line, on stderr. With `fixed`, only `values` are accepted. An `Asker`."""
    known, answered = list(values), set[int]()
    help_ = f"answer by number or word; {CANNOT_TELL} cannot tell, Enter skip, {UNDO} undo the last answer, {STOP} stop"
    show(f"\nlook at {write_sheet(dataset, attribute, pictures)}\n{help_}\n")
    at = 0
    while at < len(pictures):
        shown = map(printable, known)
        choices = "  ".join(f"{i} {value}" if _numbered(known) else value for i, value in enumerate(shown, 1))
        word = _prompt(f"{attribute} of picture {at + 1}?  [{choices}] ")
        if word == STOP:
            raise StopAsking
        if word == UNDO:
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
    """Parses an answer to a value, None if invalid. New values are added to `known`."""
    if word == CANNOT_TELL:
        return ""
    if word in known:
        return word
    if _numbered(known) and word.isdecimal() and 1 <= int(word) <= len(known):
        return known[int(word) - 1]
    matches = [value for value in known if value.startswith(word)]
    if len(matches) == 1:
        return matches[0]
    if fixed or matches or (word.isdecimal() and _numbered(known)):
        meant = " or ".join(map(printable, matches))
        show(f"  {word!r} is ambiguous: {meant}\n" if matches else f"  {word!r} is not a known value\n")
        return None
    if _prompt(f"  {word!r} is new: type it again to add it ") != word:
        return None
    known.append(word)
    return word


def _numbered(values: Sequence[str]) -> bool:
    """Whether values can be given by their places, as none of them is a number itself."""
    return not any(value.isdecimal() for value in values)


def show(text: str) -> None:
    """Shows a text to the person who is asked: on stderr, as stdout is for the result."""
    print(text, end="", file=sys.stderr, flush=True)


def _prompt(text: str) -> str:
    show(text)
    line = sys.stdin.readline()
    if not line:
        raise StopAsking
    return line.strip()


def in_files(dataset: Dataset, attribute: str, pictures: Sequence[int], values: Sequence[str]) -> Iterator[Answer]:
    """Writes the sheet and a CSV to fill in, instead of asking. An `Asker`."""
    rows = [(number, dataset.names[i], "") for number, i in enumerate(pictures, 1)]
    content = csv_text([("number", "file_name", "value"), *rows]).encode()
    picture = write_sheet(dataset, attribute, pictures)
    table = picture.with_suffix(".csv")
    write_atomic(table, lambda temporary: temporary.write_bytes(content))
    raise StopAsking((picture, table))
    yield  # makes this a generator, like every Asker


def questions_folder(dataset: Dataset, attribute: str) -> Path:
    """Where the questions about an attribute are, next to the dataset. DatasetError if nothing can be written there."""
    path = dataset.path.resolve()
    name = path.stem if path.suffix.lower() == ".zip" else path.name
    folder = path.parent / f"{name}-{slug(attribute)}-questions"
    if not name or not os.access(folder if folder.exists() else path.parent, os.W_OK):  # such as a whole disk
        where = f"{path}: the questions about it go to a folder beside it, where nothing can be written"
        raise DatasetError(f"{where}; copy the dataset into a folder of your own")
    return folder


def write_sheet(dataset: Dataset, attribute: str, pictures: Sequence[int]) -> Path:
    """Writes the numbered contact sheet of these pictures as a new PNG."""
    folder = questions_folder(dataset, attribute)
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
    """Reads answers from a CSV with the columns file_name and value. Rows without a value are skipped; ? means that the
    value cannot be determined. Raises DatasetError for malformed lines, and for values not in `values` (if given)."""
    where = f"--answers {path}"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{where}: cannot be read ({error}); give a CSV in UTF-8") from error
    found: dict[int, str] = {}
    stored = {name: i for i, name in enumerate(dataset.names)}
    for line, name, cells in rows_csv(text, where):
        if "value" not in cells:
            raise DatasetError(f"{where}, line 1: no column value; the header must be `file_name,value`")
        value, i = cells["value"], stored.get(name, dataset.find(name))
        if not value:
            continue
        if i is None:
            raise DatasetError(f"{where}, {line}: {dataset.path} has no picture {printable(name)}")
        if values and value not in (*values, CANNOT_TELL):
            raise DatasetError(f"{where}, {line}: {printable(value)} is not one of --values {', '.join(values)}")
        value = "" if value == CANNOT_TELL else value
        if found.setdefault(i, value) != value:
            raise DatasetError(f"{where}, {line}: {printable(name)} has a different value above; keep one of them")
    return list(found.items())
