"""What became of every source picture of `kyara prepare`: the rows of report.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

LeftOut = dict[str, list[dict[str, str]]]  # Reason -> file and detail of each file that was left out
PASSED_OVER = "passed over"  # Reason of files that are not pictures
DROPPED = "dropped"  # Reason of the pictures in the list of --drop


@dataclasses.dataclass(frozen=True)
class Entry:
    """One source picture."""

    file: str
    kept: str | None = None  # Name of the picture in the Dataset; None if it was left out
    reason: str = ""  # Why it was left out
    detail: str = ""
    size: tuple[int, int] | None = None  # Height and width of the upright source in pixels; None if it was not decoded
    sharpness: float | None = None  # `align.sharpness` of the prepared picture, or of the source if it was rejected
    nearest: str | None = None  # The most similar of the pictures that were kept
    distance: float | None = None
    """`outline_distance` to `nearest`: 0 for identical pictures, about 1 for unrelated ones."""
    faces: Sequence[Mapping[str, Any]] = ()
    """The faces found: `box` [x, y, width, height] in pixels of the upright source, and `score` in [0, 1]."""


def left_out(entries: Iterable[Entry]) -> LeftOut:
    """The pictures that were not kept, by reason."""
    found: LeftOut = {}
    for entry in entries:
        if entry.kept is None:
            found.setdefault(entry.reason, []).append({"file": entry.file, "detail": entry.detail})
    return found


def encodable(text: str) -> str:
    """A name with bytes that are not valid UTF-8 replaced."""
    return text.encode("utf-8", "backslashreplace").decode()
