"""Taggers see the face of a picture that shows more."""

from __future__ import annotations

import numpy as np
import pytest

from kyara.preparation import detect
from kyara.preparation.faces import Box
from kyara.preparation.focus import focused

GREEN, RED = (0, 160, 0), (220, 30, 30)


def in_front_of_green(size: int, box: Box) -> np.ndarray:
    """A red face in front of a green wall."""
    picture = np.full((size, size, 3), GREEN, np.uint8)
    box.cut(picture)[:] = RED
    return picture


def find(monkeypatch: pytest.MonkeyPatch, *faces: Box) -> None:
    monkeypatch.setitem(detect.DETECTORS, "auto", lambda: lambda picture: list(faces))


def share_of_red(picture: np.ndarray) -> float:
    return float((picture[..., 0] > picture[..., 1]).mean())


def test_the_largest_face_is_seen_instead_of_the_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    face, other = Box(300, 60, 380, 140), Box(10, 10, 40, 40)
    find(monkeypatch, other, face)
    picture = in_front_of_green(512, face)
    assert share_of_red(picture) < 0.03 and share_of_red(focused(picture, (96, 96))) > 0.35
    assert focused(picture, (96, 48)).shape[1] == pytest.approx(2 * focused(picture, (96, 48)).shape[0], abs=1)


def test_pictures_that_are_a_face_or_have_none_are_seen_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    face = Box(100, 100, 400, 410)
    for size, found in ((512, [face]), (512, []), (144, [Box(10, 10, 40, 40)])):
        find(monkeypatch, *found)
        picture = in_front_of_green(size, face)
        assert focused(picture, (96, 96)) is picture
