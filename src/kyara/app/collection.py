"""The pictures of the room Make: what was made, starred and rejected, with undo."""

from __future__ import annotations

import dataclasses
import json
import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kyara.files.atomic import write_atomic
from kyara.generation.shots import Shot

MOST = 100_000  # pictures
UNDOABLE = 200  # actions
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

    def row(self) -> list[Any]:
        """What the grid needs: number, seed, labels, score, star, rejected, model, origin, parent, truncation."""
        shot = self.shot
        seed = shot["seed"] if "seed" in shot else "–".join(map(str, shot["seeds"])) if "seeds" in shot else ""
        score = None if self.score is None else round(self.score, 4)
        return [
            self.number, seed, shot["labels"], score, self.star, self.rejected, self.model, self.origin, self.parent,
            self.truncation,
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
        """Reads the file at `path`; starts empty if there is none or it is damaged."""
        self.path = path
        self.items: dict[int, Item] = {}
        self.shown: dict[int, None] = {}  # numbers, in order
        self.done: list[Action] = []
        self.undone: list[Action] = []
        self.id = secrets.token_hex(4)  # of this list; browsers keep pictures by it and their number
        self.version = 0  # increases with every action
        self.unsaved = False
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
            changed = tuple((n, name, value) for n in numbers if getattr(self.item(n), name) != value)
            if changed:
                self._do(Action(name, flags=changed))

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
        self.done.append(action)
        self.undone.clear()
        dropped = self.done[:-UNDOABLE]
        del self.done[:-UNDOABLE]
        for number in (n for old in dropped for n in old.removed if n not in self.shown):
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
            setattr(self.item(number), name, value != backward)
        self.version += 1
        self.unsaved = True

    def visible(self) -> list[Item]:
        with self._lock:
            return [self.items[number] for number in self.shown]

    def save(self) -> None:
        """Writes the pictures to disk if they changed. Raises OSError if the disk is full; those in memory stay."""
        if not self.unsaved:
            return
        self.unsaved = False  # before reading them: what changes meanwhile is saved the next time
        rows = [dataclasses.asdict(item) for item in self.visible()]
        text = json.dumps({"id": self.id, "next": self._next, "items": rows}, separators=(",", ":"))
        write_atomic(self.path, lambda temporary: temporary.write_text(text, encoding="utf-8"))

    def _read(self) -> None:
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
            for row in stored["items"]:
                item = Item(**row)
                self.items[item.number] = item
                self.shown[item.number] = None
            self._next = int(stored["next"])
            self.id = str(stored["id"])
        except (OSError, ValueError, TypeError, KeyError):
            self.items.clear()
            self.shown.clear()
