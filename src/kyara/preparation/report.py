"""What became of every source picture of `kyara prepare`: the content of report.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

LeftOut = dict[str, list[dict[str, str]]]  # Reason -> file and detail of each file or face that was left out
PASSED_OVER = "passed over"  # Reason of files that are not pictures
DROPPED = "dropped"  # Reason of the pictures in the list of --drop
OVER_LIMIT = "over the limit"  # Reason of the pictures that were not looked at as --limit was reached


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a picture or of a face in it."""

    kept: str | None = None  # Name of the picture in the Dataset; None if it was left out
    reason: str = ""  # Why it was left out
    detail: str = ""
    sharpness: float | None = None  # `align.sharpness` of the prepared picture, or of the source if it was rejected
    nearest: str | None = None  # The most similar of the pictures that were kept
    distance: float | None = None
    """`outline_distance` to `nearest`: 0 for identical pictures, about 1 for unrelated ones."""


@dataclasses.dataclass(frozen=True)
class FaceEntry(Outcome):
    """A face. Of a picture that is not cut, only the box and the score are given."""

    box: Sequence[int] = ()  # [x, y, width, height] in pixels of the upright source, from hairline to chin
    score: float = 0.0  # Certainty of the detector, in [0, 1]


@dataclasses.dataclass(frozen=True)
class Entry(Outcome):
    """A source picture. If it was cut to its faces, they say what became of it."""

    file: str = ""
    size: tuple[int, int] | None = None  # Height and width of the upright source in pixels; None if it was not decoded
    cut: bool = False  # Whether it was cut to its faces
    faces: Sequence[FaceEntry] = ()


def face_name(file: str, face: int | None) -> str:
    """The name of a face in a picture, as in `scene.png#2`; that of the picture without a face."""
    return file if face is None else f"{file}#{face + 1}"


def outcomes(entries: Iterable[Entry]) -> Iterator[tuple[str, Outcome, float | None]]:
    """(name, outcome, certainty of the face) of every file that was not cut and of every face of the others."""
    for entry in entries:
        if entry.cut:
            for i, face in enumerate(entry.faces):
                yield face_name(entry.file, i), face, face.score
        else:
            yield entry.file, entry, max((face.score for face in entry.faces), default=None)


def left_out(entries: Iterable[Entry]) -> LeftOut:
    """The pictures and faces that were not kept, by reason."""
    found: LeftOut = {}
    for name, outcome, _ in outcomes(entries):
        if outcome.kept is None:
            found.setdefault(outcome.reason, []).append({"file": name, "detail": outcome.detail})
    return found


def encodable(text: str) -> str:
    """A name with bytes that are not valid UTF-8 replaced."""
    return text.encode("utf-8", "backslashreplace").decode()
