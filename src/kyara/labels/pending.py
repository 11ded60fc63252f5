"""Answers that are not in the dataset yet: to rewrite a large .zip takes seconds, which nobody should wait after each.

Each is appended to the file `unwritten-HASH.csv` in the folder of the questions, and all of them are written to the
dataset at the end of a batch. What a killed run has left there is written when the next one begins."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import os
from collections.abc import Iterable

from kyara.files.atomic import write_atomic, write_errors
from kyara.files.dataset import Dataset
from kyara.files.metadata import csv_text
from kyara.files.names import normalized
from kyara.labels.ask import CANNOT_TELL, questions_folder
from kyara.labels.attributes import PERSON, Label, write_labels


def file_name(dataset: Dataset, attribute: str) -> str:
    """Name of the file. HASH is of dataset and attribute, so that answers about one are never written to another:
    faces/ and faces.zip share a folder of questions, and so do the attributes `a b` and `a-b`."""
    both = f"{normalized(dataset.path.resolve().name)}\0{attribute}"
    return f"unwritten-{hashlib.sha256(both.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}.csv"


class Pending:
    """The answers about one attribute by a person; the file has those of a killed run too."""

    def __init__(self, dataset: Dataset, attribute: str) -> None:
        self.dataset, self.attribute = dataset, attribute
        self.path = questions_folder(dataset, attribute) / file_name(dataset, attribute)
        self._values = self._left()

    def add(self, i: int, value: str) -> None:
        """Keeps an answer; an empty value cannot be determined."""
        self._append(i, value or CANNOT_TELL)
        self._values[self.dataset.names[i]] = value

    def undo(self, i: int) -> bool:
        """Forgets an answer, so that the picture keeps the label it has. False if there is none."""
        if self.dataset.names[i] not in self._values:
            return False
        self._append(i, "")
        del self._values[self.dataset.names[i]]
        return True

    def write(self) -> int:
        """Writes the answers to the dataset, and removes them from the file. Those about pictures that are not there,
        as on a drive that is away, stay. Returns the number of the others."""
        there = set(self.dataset.names)
        labels = [Label(n, self.attribute, v, None, PERSON) for n, v in self._values.items() if n in there]
        if labels:
            write_labels(self.dataset, labels)
        self._values = {name: value for name, value in self._values.items() if name not in there}
        with contextlib.suppress(OSError):
            self._rewrite()
        return len(labels)

    def _rewrite(self) -> None:
        if self._values:
            self._write_values()
        else:
            self.path.unlink()
            self.path.parent.rmdir()  # unless it has questions

    def _write_values(self) -> None:
        content = _encoded((name, value or CANNOT_TELL) for name, value in self._values.items())
        write_atomic(self.path, lambda temporary: temporary.write_bytes(content))

    def _append(self, i: int, cell: str) -> None:
        with write_errors(self.path):
            self.path.parent.mkdir(exist_ok=True)
            if self._is_torn():
                self._write_values()
            with self.path.open("ab") as file:
                file.write(_encoded([(self.dataset.names[i], cell)]))

    def _is_torn(self) -> bool:
        """Whether the last line of the file is incomplete: a part of a value may be another value."""
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                return file.read() != b"\n"
        return False

    def _left(self) -> dict[str, str]:
        """Name -> value of the answers in the file."""
        found: dict[str, str] = {}
        with contextlib.suppress(FileNotFoundError), self.path.open(encoding="utf-8", errors="surrogateescape") as file:
            rows = [*csv.reader(file)]
            for name, cell in (row for row in rows[: len(rows) - self._is_torn()] if len(row) == 2):
                found.pop(name, None)
                if cell:
                    found[name] = "" if cell == CANNOT_TELL else cell
        return found


def _encoded(rows: Iterable[tuple[str, str]]) -> bytes:
    return csv_text(rows).encode("utf-8", "surrogateescape")
