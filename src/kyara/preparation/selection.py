"""Which pictures of the sources, and which of their faces, `kyara prepare` keeps."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from kyara.files import formats, pictures
from kyara.files.dataset import Dataset
from kyara.files.errors import PictureError
from kyara.preparation.drop import Dropped
from kyara.preparation.duplicates import Seen
from kyara.preparation.fit import Fitted, Found, Made
from kyara.preparation.report import DROPPED, OVER_LIMIT, PASSED_OVER, Entry, FaceEntry, Outcome, encodable, face_name
from kyara.preparation.target import Write
from kyara.preparation.thumbnails import Place, Thumbnails


class Selection:
    """Keeps or leaves out one picture or face after the other. Writes those kept, and the thumbnails of all."""

    def __init__(
        self,
        dataset: Dataset,
        found: Sequence[Found | None],
        dropped: Dropped,
        passed_over: Iterable[tuple[str, str]],
        seen: Seen,
        write: Write,
        limit: int | None = None,
    ) -> None:
        """`found`: the faces in each picture. `passed_over`: (name, reason) of files that are not pictures. `limit`:
        for the report."""
        self.names = [encodable(name) for name in dataset.names]
        self.found, self.dropped, self.seen, self.write, self.limit = found, dropped, seen, write, limit
        self.passed_over = [
            Entry(None, "unreadable" if formats.by_name(name) else PASSED_OVER, encodable(why), file=encodable(name))
            for name, why in passed_over
        ]
        self.kept: list[tuple[str, int, int | None]] = []
        """(Name in the Dataset, index of the source, index of the face or None) of each picture."""
        self.thumbnails = Thumbnails(write)
        self.places: dict[str, Place] = {}  # Name of a file or face -> place of its thumbnail
        self._sizes = {i: one.size for i, one in enumerate(found) if one}
        self._outcomes: dict[int, dict[int | None, Outcome]] = {}  # Index of a picture -> face or None -> outcome
        self._names: list[str] = []  # Of the pictures in the order of `add`, by their number in `seen`
        self._nearest: dict[str, tuple[str, float]] = {}
        self._used: set[str] = set()

    def room(self, most: int) -> int:
        """The number of pictures that can be added without reaching the limit before the last, at most `most`."""
        return most if self.limit is None else min(most, self.limit - len(self.kept))

    def expect(self, following: Sequence[Fitted | PictureError]) -> None:
        """Says what is added next, each with one picture, which is faster."""
        made = [one for fitted in following if not isinstance(fitted, PictureError) for one in fitted[1]]
        self.seen.expect([one.impression for one in made if one.impression is not None])

    def add(self, i: int, face: int | None, fitted: Fitted | PictureError) -> None:
        """Adds a face of the i-th picture, or the picture itself. `fitted`: what was made from the picture."""
        if isinstance(fitted, PictureError):
            why = str(fitted).removeprefix(f"{self.names[i]}: ")
            self._outcomes[i] = {None: self._left_out(i, None, "unreadable", encodable(why))}
            return
        self._sizes[i], made = fitted
        outcome = self._decide(i, next(one for one in made if one.face == face))
        self._outcomes.setdefault(i, {})[face] = outcome

    def entries(self) -> list[Entry]:
        """One of each file: the pictures in the order of the sources, then what was passed over."""
        return [*map(self._entry, range(len(self.names))), *self.passed_over, *self._not_cut_out()]

    def _entry(self, i: int) -> Entry:
        known, file, found = self._outcomes.get(i, {}), self.names[i], self.found[i]

        def outcome(face: int | None) -> dict[str, Any]:
            made = known.get(face) or self._left_out(i, face, OVER_LIMIT, f"--limit {self.limit}")
            return vars(self._near(face_name(file, face), made))

        cut = bool(known) and None not in known
        faces = [
            FaceEntry(
                **outcome(k) if cut else {},
                box=[face.left, face.top, face.right - face.left, face.bottom - face.top],
                score=round(face.score, 4),
            )
            for k, face in enumerate(found.faces if found else ())
        ]
        whole = {} if cut else outcome(None)
        return Entry(**whole, file=file, size=self._sizes.get(i), cut=cut, faces=faces)

    def _not_cut_out(self) -> Iterator[Entry]:
        """The faces in the list of `--drop` that there are not, as with other options."""
        for (i, face), why in self.dropped.items():
            known, found = self._outcomes.get(i, {}), self.found[i]
            if face is not None and known and (None in known or not found or face >= len(found.faces)):
                why = encodable(f"{why}, but no such face was cut out")
                yield Entry(None, PASSED_OVER, why, file=face_name(self.names[i], face))

    def _near(self, name: str, outcome: Outcome) -> Outcome:
        nearest, distance = self._nearest.get(name, (None, None))
        return dataclasses.replace(outcome, nearest=nearest, distance=distance and round(distance, 4))

    def _left_out(self, i: int, face: int | None, reason: str, detail: str, sharpness: float | None = None) -> Outcome:
        """The outcome of what is not kept; that it is in the list of `--drop` comes before other reasons."""
        why = self.dropped.get((i, None)) or self.dropped.get((i, face))
        return Outcome(None, *((DROPPED, encodable(why)) if why else (reason, encodable(detail))), sharpness)

    def _decide(self, i: int, made: Made) -> Outcome:
        name = face_name(self.names[i], made.face)
        self.places[name] = self.thumbnails.add(pictures.decode(made.thumbnail))
        sharpness = round(made.sharpness, 4)
        outcome = self._left_out(i, made.face, made.reason, made.detail, sharpness)
        if not outcome.reason:
            outcome = self._left_out(i, made.face, *self._duplicate(name, made), sharpness)
        if outcome.reason:
            return outcome
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
        self.seen.add(made.impression)
        self._names.append(name)
        return "", ""

    def _file_name(self, digest: bytes) -> str:
        """A name derived from the content, in one of 256 folders; duplicates, if kept, get a number."""
        short = digest.hex()[:12]
        names = itertools.chain([short], (f"{short}-{number}" for number in itertools.count(2)))
        name = next(name for name in names if name not in self._used)
        self._used.add(name)
        return f"images/{short[:2]}/{name}.webp"
