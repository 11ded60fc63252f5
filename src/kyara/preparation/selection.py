"""Which pictures of the sources `kyara prepare` keeps."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping

from kyara.files import formats
from kyara.files.dataset import Dataset
from kyara.files.errors import PictureError
from kyara.preparation.duplicates import Seen
from kyara.preparation.fit import Fitted, Look, Rejected
from kyara.preparation.report import DROPPED, PASSED_OVER, Entry, encodable
from kyara.preparation.target import Write
from kyara.preparation.thumbnails import Place, Thumbnails

Outcome = Fitted | Rejected | PictureError


class Selection:
    """Keeps or leaves out one picture after the other. Writes those kept, and the thumbnails of all."""

    def __init__(
        self,
        dataset: Dataset,
        dropped: Mapping[int, str],
        passed_over: Iterable[tuple[str, str]],
        seen: Seen,
        write: Write,
    ) -> None:
        """`dropped`: index -> why the picture is left out. `passed_over`: (name, reason) of files that are not
        pictures."""
        self.names = [encodable(name) for name in dataset.names]
        self.dropped, self.seen, self.write = dropped, seen, write
        self.passed_over = [
            Entry(encodable(name), None, "unreadable" if formats.by_name(name) else PASSED_OVER, encodable(why))
            for name, why in passed_over
        ]
        self.kept: dict[int, str] = {}  # Index -> name in the Dataset
        self.thumbnails = Thumbnails(write)
        self.places: dict[str, Place] = {}  # File -> place of its thumbnail
        self._entries: dict[int, Entry] = {}
        self._nearest: dict[int, tuple[int, float]] = {}
        self._used: set[str] = set()

    def add(self, i: int, outcome: Outcome) -> None:
        reason, detail = self._judge(i, outcome)
        look = None if isinstance(outcome, PictureError) else outcome.look
        if not reason and isinstance(outcome, Fitted):
            self.kept[i] = self._file_name(outcome.impression.digest)
            self.write(self.kept[i], outcome.data)
        entry = Entry(self.names[i], self.kept.get(i), reason, encodable(detail))
        if look:
            entry = _with_look(entry, look)
            self.places[entry.file] = self.thumbnails.add(look.thumbnail)
        self._entries[i] = entry

    def entries(self) -> list[Entry]:
        """One of each file: the pictures in the order in which they were processed, then what was passed over."""
        made = []
        for i, entry in self._entries.items():
            nearest, distance = self._nearest.get(i, (None, None))
            name = None if nearest is None else self.names[nearest]
            made.append(dataclasses.replace(entry, nearest=name, distance=distance and round(distance, 4)))
        return made + self.passed_over

    def _judge(self, i: int, outcome: Outcome) -> tuple[str, str]:
        """(reason, detail) why the picture is left out; empty if it is kept."""
        if i in self.dropped:
            return DROPPED, self.dropped[i]
        if isinstance(outcome, PictureError):
            return "unreadable", encodable(str(outcome)).removeprefix(f"{self.names[i]}: ")
        if isinstance(outcome, Rejected):
            return outcome.reason, outcome.detail
        if copy := self.seen.find(outcome.impression):
            reason, original = copy
            self._nearest[i] = original, self.seen.distance(outcome.impression, original)
            return reason, f"of {self.names[original]}"
        if nearest := self.seen.nearest(outcome.impression):
            other, distance = nearest
            self._nearest[i] = nearest
            if distance < self._nearest.get(other, (other, math.inf))[1]:
                self._nearest[other] = i, distance
        self.seen.add(outcome.impression, i)
        return "", ""

    def _file_name(self, digest: bytes) -> str:
        """A name derived from the content, in one of 256 folders; duplicates, if kept, get a number."""
        short = digest.hex()[:12]
        names = itertools.chain([short], (f"{short}-{number}" for number in itertools.count(2)))
        name = next(name for name in names if name not in self._used)
        self._used.add(name)
        return f"images/{short[:2]}/{name}.webp"


def _with_look(entry: Entry, look: Look) -> Entry:
    faces = [
        {"box": [box.left, box.top, box.right - box.left, box.bottom - box.top], "score": round(box.score, 4)}
        for box in look.boxes
    ]
    return dataclasses.replace(entry, size=look.size, sharpness=round(look.sharpness, 4), faces=faces)
