"""Which pictures of the sources, and which of their faces, `kyara prepare` keeps."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

from kyara.files import formats, pictures
from kyara.files.dataset import Dataset
from kyara.files.errors import PictureError
from kyara.preparation.drop import Dropped
from kyara.preparation.duplicates import Seen
from kyara.preparation.faces import Box
from kyara.preparation.fit import Fitted, Made
from kyara.preparation.report import DROPPED, PASSED_OVER, Entry, FaceEntry, Outcome, encodable, face_name
from kyara.preparation.target import Write
from kyara.preparation.thumbnails import Place, Thumbnails

T = TypeVar("T", bound=Outcome)


class Selection:
    """Keeps or leaves out one picture after the other. Writes those kept, and the thumbnails of all."""

    def __init__(
        self,
        dataset: Dataset,
        dropped: Dropped,
        passed_over: Iterable[tuple[str, str]],
        seen: Seen,
        write: Write,
        limit: int | None = None,
    ) -> None:
        """`passed_over`: (name, reason) of files that are not pictures. At most `limit` are kept."""
        self.names = [encodable(name) for name in dataset.names]
        self.dropped, self.seen, self.write, self.limit = dropped, seen, write, limit
        self.passed_over = [
            Entry(None, "unreadable" if formats.by_name(name) else PASSED_OVER, encodable(why), file=encodable(name))
            for name, why in passed_over
        ]
        self.kept: list[tuple[str, int, int | None]] = []
        """(Name in the Dataset, index of the source, index of the face or None) of each picture."""
        self.thumbnails = Thumbnails(write)
        self.places: dict[str, Place] = {}  # Name of a file or face -> place of its thumbnail
        self._entries: dict[int, Entry] = {}
        self._names: list[str] = []  # Of the pictures in the order of `add`, by their index in `seen`
        self._nearest: dict[str, tuple[str, float]] = {}
        self._used: set[str] = set()

    def add(self, i: int, fitted: Fitted | PictureError, faces: Sequence[Box] = ()) -> None:
        """Adds the i-th picture: what was made from it, and its `faces`."""
        file = self.names[i]
        boxes = [
            FaceEntry(
                box=[face.left, face.top, face.right - face.left, face.bottom - face.top], score=round(face.score, 4)
            )
            for face in faces
        ]
        if isinstance(fitted, PictureError):
            reason = "unreadable", encodable(str(fitted)).removeprefix(f"{file}: ")
            self._entries[i] = Entry(None, *(self._reason(i, None) or reason), file=file)
            return
        size, made = fitted
        cut = any(one.face is not None for one in made)
        entry = Entry(file=file, size=size, cut=cut, faces=boxes)
        for one in made:
            outcome = self._decide(i, one)
            if one.face is None:
                entry = dataclasses.replace(entry, **vars(outcome))
            else:
                boxes[one.face] = dataclasses.replace(boxes[one.face], **vars(outcome))
        self._entries[i] = entry

    def entries(self) -> list[Entry]:
        """One of each file: the pictures in the order of the sources, then what was passed over."""
        return [*(self._with_nearest(self._entries[i]) for i in sorted(self._entries)), *self.passed_over]

    def _with_nearest(self, entry: Entry) -> Entry:
        faces = [self._near(face_name(entry.file, i), face) for i, face in enumerate(entry.faces)]
        return self._near(entry.file, dataclasses.replace(entry, faces=faces))

    def _near(self, name: str, outcome: T) -> T:
        nearest, distance = self._nearest.get(name, (None, None))
        return dataclasses.replace(outcome, nearest=nearest, distance=distance and round(distance, 4))

    def _reason(self, i: int, face: int | None) -> tuple[str, str] | None:
        why = self.dropped.get((i, None)) or self.dropped.get((i, face))
        return None if why is None else (DROPPED, why)

    def _decide(self, i: int, made: Made) -> Outcome:
        name = face_name(self.names[i], made.face)
        self.places[name] = self.thumbnails.add(pictures.decode(made.thumbnail))
        sharpness = round(made.sharpness, 4)
        reason, detail = self._reason(i, made.face) or (made.reason, made.detail)
        if not reason and len(self.kept) == self.limit:
            reason, detail = "over the limit", f"--limit {self.limit}"
        if not reason:
            reason, detail = self._duplicate(name, made)
        if reason:
            return Outcome(None, reason, encodable(detail), sharpness)
        assert made.impression is not None
        kept = self._file_name(made.impression.digest)
        self.kept.append((kept, i, made.face))
        self.write(kept, made.data)
        return Outcome(kept, sharpness=sharpness)

    def _duplicate(self, name: str, made: Made) -> tuple[str, str]:
        """(reason, detail) if it is a copy of a picture that was kept; otherwise empty, and it is kept."""
        assert made.impression is not None
        if copy := self.seen.find(made.impression):
            reason, original = copy
            self._nearest[name] = self._names[original], self.seen.distance(made.impression, original)
            return reason, f"of {self._names[original]}"
        if nearest := self.seen.nearest(made.impression):
            other, distance = self._names[nearest[0]], nearest[1]
            self._nearest[name] = other, distance
            if distance < self._nearest.get(other, (other, math.inf))[1]:
                self._nearest[other] = name, distance
        self.seen.add(made.impression, len(self._names))
        self._names.append(name)
        return "", ""

    def _file_name(self, digest: bytes) -> str:
        """A name derived from the content, in one of 256 folders; duplicates, if kept, get a number."""
        short = digest.hex()[:12]
        names = itertools.chain([short], (f"{short}-{number}" for number in itertools.count(2)))
        name = next(name for name in names if name not in self._used)
        self._used.add(name)
        return f"images/{short[:2]}/{name}.webp"
