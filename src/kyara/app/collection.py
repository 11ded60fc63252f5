"""The pictures of the room Make: what was made, starred and rejected, with undo."""

from __future__ import annotations

import dataclasses
import json
import secrets
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path
from typing import Any

from kyara.files.atomic import write_atomic
from kyara.generation.shots import Shot, angle_of
from kyara.verbs import LAST_SEED

MOST = 100_000  # pictures
UNDOABLE = 200  # actions
PAUSE = 20  # times as long as the last save took
FLAGS = ("star", "rejected")


@dataclass
class Item:
    """A picture, as what it is made from."""

    number: int
    model: str
    shot: Shot
    truncation: float
    mirror: bool = False
    origin: str = ""  # how it was made, for people
    parent: int | None = None  # number of the picture that it was made from
    score: float | None = None
    star: bool = False
    rejected: bool = False
    fixed: Mapping[str, str] = field(default_factory=dict)  # labels that were chosen, not drawn
    blend: dict[str, Any] | None = None  # as in a recipe, of a model that is blended with its parent
    checkpoint: str = ""  # hash of the model's weights; "" in lists of earlier versions

    def row(self) -> list[Any]:
        """What the grid needs: number, seed, labels, score, star, rejected, model, origin, parent, truncation,
        turn of the head in degrees, whether it is a blend of two generators."""
        shot = self.shot
        seed = shot["seed"] if "seed" in shot else "–".join(map(str, shot["seeds"])) if "seeds" in shot else ""
        score = None if self.score is None else round(self.score, 4)
        return [
            self.number, seed, shot["labels"], score, self.star, self.rejected, self.model, self.origin, self.parent,
            self.truncation, angle_of(shot), self.blend is not None,
        ]  # fmt: skip


@dataclass(frozen=True)
class Action:
    """A change that can be undone."""

    name: str
    added: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()
    flags: tuple[tuple[int, str, bool], ...] = ()  # (number, flag, value after the action)


class Collection:
    """The items shown, in order, and the actions that led there."""

    def __init__(self, path: Path) -> None:
        """Reads the file at `path`. If it is damaged, it is renamed, `problem` says so, and the list is empty."""
        self.path = path
        self.items: dict[int, Item] = {}
        self.shown: dict[int, None] = {}  # numbers, in order
        self.done: list[Action] = []
        self.undone: list[Action] = []
        self.id = secrets.token_hex(4)  # of this list; browsers keep pictures by it and their number
        self.version = self.first = time.time_ns() // 10**6  # increases with every change, and from start to start
        self.unsaved = self.scored = False  # whether pictures changed since the last save, or at least scores
        self._pause = 0.0  # when scores may be saved again
        self.problem = ""  # what the user must know about the file
        self._changed: dict[int, int] = {}  # number -> version of its last change
        self._next = 1
        self._lock = threading.RLock()
        self._read()

    def item(self, number: int) -> Item:
        """ValueError if there is no picture of that number."""
        found = self.items.get(number)
        if found is None:
            raise ValueError(f"picture {number}: no longer exists")
        return found

    def add(self, items: Iterable[Item], name: str) -> list[Item]:
        """Adds pictures, whose numbers are set here. ValueError if there would be too many."""
        with self._lock:
            new = [*items]
            if len(self.shown) + len(new) > MOST:
                raise ValueError(f"there would be more than {MOST:,} pictures; remove some first")
            for item in new:
                item.number, self._next = self._next, self._next + 1
                self.items[item.number] = item
            self._do(Action(name, added=tuple(item.number for item in new)))
            return new

    def remove(self, numbers: Sequence[int]) -> None:
        with self._lock:
            self._do(Action("remove", removed=tuple(n for n in numbers if n in self.shown)))

    def flag(self, numbers: Sequence[int], name: str, value: bool) -> None:
        if name not in FLAGS:
            raise ValueError(f"{name}: must be one of {', '.join(FLAGS)}")
        with self._lock:
            if gone := [n for n in numbers if n not in self.shown]:
                raise ValueError(f"picture {gone[0]}: no longer exists")
            changed = tuple((n, name, value) for n in numbers if getattr(self.items[n], name) != value)
            self._do(Action(name, flags=changed))

    def set_scores(self, scores: Mapping[int, float]) -> None:
        """Scores pictures by their numbers. That cannot be undone."""
        with self._lock:
            there = scores.keys() & self.items  # some may be gone since they were asked for
            for number in there:
                self.items[number].score = scores[number]
            self._mark(there, urgent=False)

    def undo(self) -> None:
        with self._lock:
            if self.done:
                action = self.done.pop()
                self.undone.append(action)
                self._apply(action, backward=True)

    def redo(self) -> None:
        with self._lock:
            if self.undone:
                action = self.undone.pop()
                self.done.append(action)
                self._apply(action)

    def _do(self, action: Action) -> None:
        if not (action.added or action.removed or action.flags):  # it would only be an undo that does nothing
            return
        self.done.append(action)
        dropped, undone = self.done[:-UNDOABLE], [*self.undone]
        del self.done[:-UNDOABLE], self.undone[:]
        gone = [*(n for old in dropped for n in old.removed), *(n for old in undone for n in old.added)]
        for number in (n for n in gone if n not in self.shown):
            self.items.pop(number, None)
        self._apply(action)

    def _apply(self, action: Action, *, backward: bool = False) -> None:
        added, removed = (action.removed, action.added) if backward else (action.added, action.removed)
        for number in removed:
            self.shown.pop(number, None)
        self.shown.update(dict.fromkeys(n for n in added if n in self.items))
        if added and backward:
            self.shown = dict.fromkeys(sorted(self.shown))
        for number, name, value in action.flags:
            if number in self.items:
                setattr(self.items[number], name, value != backward)
        self._mark([*added, *removed, *(number for number, _, _ in action.flags)])

    def _mark(self, numbers: Iterable[int], *, urgent: bool = True) -> None:
        self.version += 1
        self._changed.update(dict.fromkeys(numbers, self.version))
        self.scored = True
        self.unsaved = self.unsaved or urgent

    def visible(self) -> list[Item]:
        with self._lock:
            return [self.items[number] for number in self.shown]

    def since(self, version: int) -> tuple[list[Item], list[int]]:
        """The pictures that were added or changed after `version`, and the numbers of those that were removed."""
        with self._lock:
            changed = [number for number, when in self._changed.items() if when > version]
            there = [self.items[number] for number in changed if number in self.shown]
            return there, [number for number in changed if number not in self.shown]

    def free_seed(self, many: int) -> int:
        """The first of `many` seeds that no picture has: after the largest one, or where there is room."""
        taken = sorted({int(item.shot["seed"]) for item in self.visible() if "seed" in item.shot})
        bounds = [-1, *taken, LAST_SEED + 1]
        gaps = [a + 1 for a, b in pairwise(bounds) if b - a > many]
        return gaps[-1] if gaps else 0

    def save(self, *, last: bool = False) -> None:
        """Writes the pictures to disk if they changed; if only scores did, and this is not the `last` time, after a
        pause: they come one after the other for hours, and all pictures are written. Raises OSError if the disk is
        full; those in memory stay."""
        began = time.monotonic()
        if not (self.unsaved or (self.scored and (last or began > self._pause))):
            return
        self.unsaved = self.scored = False  # before reading them: what changes meanwhile is saved the next time
        rows = [vars(item) for item in self.visible()]
        text = json.dumps({"id": self.id, "next": self._next, "items": rows}, separators=(",", ":"))
        try:
            write_atomic(self.path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
        except OSError:
            self.unsaved = True
            raise
        self._pause = time.monotonic() + PAUSE * (time.monotonic() - began)

    def _read(self) -> None:
        if not self.path.exists():
            return
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
            items = [_item(row) for row in stored["items"]]
            self._next, self.id = int(stored["next"]), str(stored["id"])
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            self._put_aside()
            return
        self.items = {item.number: item for item in items}
        self.shown = dict.fromkeys(self.items)

    def _put_aside(self) -> None:
        """Renames a file that cannot be read, so that it is not overwritten."""
        names = (self.path.with_name(f"{self.path.name}.damaged{n or ''}") for n in count())
        aside = next(path for path in names if not path.exists())
        self.path.rename(aside)
        self.problem = f"The list of pictures was damaged, so Make is empty. The file is kept as {aside.name}."


def _item(row: dict[str, Any]) -> Item:
    """An item as it was saved. Fields of other versions are ignored. TypeError or ValueError if it is damaged."""
    known = {one.name for one in dataclasses.fields(Item)}
    item = Item(**{name: value for name, value in row.items() if name in known})
    if not (isinstance(item.number, int) and isinstance(dict(item.shot).get("labels"), dict)):
        raise ValueError("not a picture")
    return item
