"""The pictures of Make as a list: what is kept of what was undone, and how often it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kyara.app import collection
from kyara.app.collection import UNDOABLE, Collection, Item


def items(count: int) -> list[Item]:
    return [Item(0, "builtin:anime", {"seed": seed, "labels": {}}, 0.7) for seed in range(count)]


def test_what_cannot_be_redone_is_forgotten(tmp_path: Path) -> None:
    made = Collection(tmp_path / "make.json")
    for _ in range(3):
        made.add(items(10), "make")
        made.undo()
    assert len(made.items) == 10  # which redo would show again
    made.redo()
    assert len(made.visible()) == 10


def test_a_picture_that_another_tab_removed_is_not_flagged(tmp_path: Path) -> None:
    made = Collection(tmp_path / "make.json")
    made.add(items(2), "make")
    made.remove([1])
    with pytest.raises(ValueError, match="picture 1: no longer exists"):
        made.flag([1], "star", True)
    for i in range(UNDOABLE + 1):
        made.flag([2], "star", i % 2 == 0)
    made.set_scores({1: 0.5, 2: 0.5})  # also none for a picture that is forgotten
    for _ in range(UNDOABLE + 1):
        made.undo()
    assert [(item.number, item.score) for item in made.visible()] == [(2, 0.5)]


def test_scores_are_saved_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They come one after the other, and all pictures are written with them; what a person did is saved at once."""
    written: list[Any] = []
    write, made = collection.write_atomic, Collection(tmp_path / "make.json")
    monkeypatch.setattr(collection, "PAUSE", 10**9)
    monkeypatch.setattr(collection, "write_atomic", lambda *given: (written.append(given), write(*given)))
    made.add(items(2), "make")
    for scores in ({1: 0.5}, {2: 0.5}):
        made.save()
        made.set_scores(scores)
    made.save()
    assert len(written) == 1
    made.flag([1], "star", True)
    made.save()
    made.set_scores({1: 0.25})
    made.save(last=True)
    made.save(last=True)
    assert len(written) == 3 and [item.score for item in Collection(made.path).visible()] == [0.25, 0.5]
