"""Smoothing over the frames of a film."""

from __future__ import annotations

import torch

from kyara.models.drawing.finding import Face
from kyara.models.drawing.memory import Memory


def face(x: float, unit: float = 1.0) -> Face:
    points = torch.rand(124, 2, generator=torch.Generator().manual_seed(0)) * 50 + torch.tensor([x, 20.0])
    return Face(points, unit, torch.eye(2, 3), torch.full((4, 8, 8), 0.25))


def test_the_first_picture_is_unchanged() -> None:
    memory, picture, value = Memory(), torch.rand(3, 9, 9), torch.rand(4)
    assert torch.equal(memory.picture(picture), picture) and torch.equal(memory.smooth("level", value), value)
    (found,) = memory.follow([face(0.0)])
    assert torch.equal(found.points, face(0.0).points)


def test_values_approach_new_ones() -> None:
    memory = Memory()
    memory.smooth("level", torch.zeros(1))
    steps = [float(memory.smooth("level", torch.ones(1))) for _ in range(12)]
    assert steps == sorted(steps) and steps[0] < 0.5 and steps[-1] > 0.9


def test_noise_is_reduced_and_what_moves_is_not_delayed() -> None:
    torch.manual_seed(0)
    memory, still = Memory(), torch.zeros(3, 32, 32)
    for _ in range(8):
        shown = memory.picture(still + torch.randn_like(still) * 0.01)
    assert shown.std() < 0.006
    assert torch.allclose(memory.picture(still + 1), still + 1)


def test_faces_keep_their_keys_and_resting_ones_hardly_move() -> None:
    memory = Memory()
    one, other = memory.follow([face(0.0), face(200.0)])
    first, second = memory.follow([face(201.0), face(0.5)])
    assert (first.key, second.key) == (other.key, one.key) and one.key != other.key
    assert (second.points - one.points).abs().max() < 0.4  # of half a pixel
    (far,) = memory.follow([face(240.0)])
    assert far.key == other.key and (far.points - face(240.0).points).abs().max() < 1e-4
    (new,) = memory.follow([face(500.0)])
    assert new.key not in (one.key, other.key)
