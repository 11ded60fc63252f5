"""Scores the pictures of Make while nothing else is to be done."""

from __future__ import annotations

import time

from kyara.app.collection import Item
from kyara.app.items import sheet_of
from kyara.app.make import Maker
from kyara.generation.recipe import MOST_AT_ONCE

Key = tuple[str, str, str]
AGAIN = 60.0  # seconds after which a generator that failed is tried again: its folder may be back


class Scoring:
    """Every method runs on the painter's thread."""

    def __init__(self, maker: Maker) -> None:
        self.maker, self.collection, self.painter = maker, maker.collection, maker.painter
        self._failed: dict[Key, float] = {}  # generators that failed, and when
        self._reported: set[str] = set()  # their names

    def score_some(self) -> bool:
        """Scores a few pictures that have no score yet. Returns whether there were any. A generator that fails is
        reported once, and does not keep the pictures of others waiting."""
        waiting = self._waiting()
        if not waiting:
            return False
        first, sheet = waiting[0], sheet_of(waiting[0])
        key, model = _key(first), first.model
        try:
            items = waiting[: self.painter.at_once(sheet)]
            scores = self.painter.scores(sheet, [item.shot for item in items])
        except Exception as error:  # whatever is wrong with it, the others can be scored
            if model not in self._reported:
                self.maker.changed("problem", text=f"Pictures of {model} cannot be scored: {error}")
            self._reported.add(model)
            self._failed[key] = time.monotonic()
            return True
        self._failed.pop(key, None)
        self._reported.discard(model)
        self.collection.set_scores({item.number: score for item, score in zip(items, scores, strict=True)})
        self.maker.changed("scores", scores=[[item.number, round(item.score or 0, 4)] for item in items])
        return True

    def _waiting(self) -> list[Item]:
        """Pictures without a score that can be made in one batch."""
        found: list[Item] = []
        recent = {key for key, when in self._failed.items() if time.monotonic() - when < AGAIN}
        for item in self.collection.visible():
            if item.score is None and _key(item) not in recent and (not found or _alike(item, found[0])):
                found.append(item)
            if len(found) == MOST_AT_ONCE:
                break
        return found


def _key(item: Item) -> Key:
    """The generator of a picture."""
    return item.model, item.checkpoint, item.blend["parent"] if item.blend else ""


def _alike(a: Item, b: Item) -> bool:
    """Whether two pictures can be made in one batch."""
    return sheet_of(a) == sheet_of(b) and a.shot.keys() == b.shot.keys()
