"""Turning drawn heads, and reading the turn of a photo."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kyara.perception import landmarks, portrait
from kyara.perception.turning import NOSE, angle, shift, turn


def points() -> Tensor:
    """Landmarks (1, 12, 2) of a face from the front: eyes at (0.33, 0.45) and (0.67, 0.45), chin at (0.5, 0.9)."""
    eye = torch.tensor([[-0.06, 0], [0, -0.04], [0.06, 0], [0, 0.04]])
    rest = torch.tensor([[0.5, 0.6], [0.45, 0.75], [0.55, 0.75], [0.5, 0.9]])
    return torch.cat([eye + torch.tensor([0.33, 0.45]), eye + torch.tensor([0.67, 0.45]), rest])[None]


@pytest.fixture
def one_face(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landmarks, "find", lambda pictures: points().expand(len(pictures), -1, -1))


def test_the_nose_moves_most_and_the_outline_stays() -> None:
    places = points()[:, None]  # (1, 1, 12, 2): what the landmarks themselves do
    moved = shift(points(), places, 20)[0, 0]
    assert moved.argmax() == NOSE and (moved > 0).all()
    torch.testing.assert_close(shift(points(), places, -20)[0, 0], -moved)
    outside = torch.tensor([[[[0.0, 0.5], [1.0, 0.5], [0.5, -0.3], [0.1, 0.1]]]])
    assert shift(points(), outside, 25).abs().max() == 0


def test_nothing_is_folded_at_the_largest_angle() -> None:
    places = portrait.middles(96, 96, torch.device("cpu"))[None]
    for degrees in (-25, 25):
        there = places[..., 0] + shift(points(), places, degrees)
        assert (there.diff(dim=2) > 0).all()


@pytest.mark.usefixtures("one_face")
def test_points_of_the_picture_arrive_where_shift_says() -> None:
    x, y = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="xy")
    for column, row in ((32, 38), (21, 29), (40, 48)):  # nose, an eye, beside the mouth
        spot = 2 * torch.exp(-((x - column) ** 2 + (y - row) ** 2) / 8) - 1
        picture = spot.expand(1, 3, 64, 64)
        place = torch.tensor([[[[(column + 0.5) / 64, (row + 0.5) / 64]]]])
        for degrees in (-25.0, 12.0, 25.0):
            found = turn(picture, [degrees])[0, 0, row].argmax().item()
            assert found == pytest.approx(column + 64 * shift(points(), place, degrees).item(), abs=0.6)


@pytest.mark.usefixtures("one_face")
def test_pictures_are_independent_and_zero_is_none() -> None:
    pictures = torch.rand(3, 3, 32, 32) * 2 - 1
    assert turn(pictures, [0, 0, 0]) is pictures
    made = turn(pictures, [10, 0, -10])
    assert torch.equal(made[1], pictures[1]) and torch.equal(made[2:], turn(pictures[2:], [-10]))
    assert made.abs().max() <= 1 and not torch.equal(made[0], pictures[0])
    mirrored = turn(pictures.flip(3), [-10, 0, 0]).flip(3)
    torch.testing.assert_close(mirrored[0], made[0], atol=1e-4, rtol=0)


def test_the_angle_of_a_photo_is_that_of_its_nose() -> None:
    face = points()
    assert angle(face).item() == pytest.approx(0, abs=1e-3)
    for degrees in (-30, 15):
        face[0, NOSE, 0] = 0.5 + 0.34 * 0.5 * math.sin(math.radians(degrees))
        assert angle(face).item() == pytest.approx(degrees, abs=0.1)
    face[0, NOSE, 0] = 1.0
    assert angle(face).item() == pytest.approx(90)
