"""Contours and crops."""

from __future__ import annotations

import torch

from kyara.models.drawing.layout import AT, COUNT, MESH, PARTS, anchors, crop, find_place, frames, mirrored, place


def test_mirroring_twice_changes_nothing() -> None:
    order = mirrored()
    assert sorted(order) == list(range(COUNT)) and [order[i] for i in order] == list(range(COUNT))
    assert order[AT["left eye"].start] == AT["right eye"].start
    assert order[AT["oval"].start] == AT["oval"].start  # the top


def test_every_part_has_its_points_of_the_mesh() -> None:
    assert {name: len(points) for name, points in MESH.items()} == PARTS
    assert max(max(points) for points in MESH.values()) < 478


def face(angle: float = 0.0) -> torch.Tensor:
    """Eyes and corners of the mouth (1, 4, 2) around (50, 40)."""
    points = torch.tensor([[-10.0, -8], [10, -8], [-7, 12], [7, 12]])
    turn = torch.tensor(angle)
    matrix = torch.stack([torch.stack([turn.cos(), -turn.sin()]), torch.stack([turn.sin(), turn.cos()])])
    return (points @ matrix.T + torch.tensor([50.0, 40.0]))[None]


def test_frames_follow_the_face() -> None:
    upright, turned = frames(face(), 1.0), frames(face(0.5), 1.0)
    assert torch.allclose(upright[0, :, 0], torch.tensor([40.0, 0]), atol=1e-4)  # twice the distance of the eyes
    assert torch.allclose(turned[0, :, 0].norm(), torch.tensor(40.0), atol=1e-4)
    assert torch.allclose(torch.atan2(turned[0, 1, 0], turned[0, 0, 0]), torch.tensor(0.5), atol=1e-4)
    assert torch.allclose(frames(face(), 0.5)[0, :, 0], upright[0, :, 0] / 2)


def test_places_and_back() -> None:
    maps, points = frames(face(0.3), 0.8), torch.rand(1, 7, 2)
    assert torch.allclose(find_place(place(points, maps), maps), points, atol=1e-5)


def test_a_crop_shows_what_is_there() -> None:
    rows, columns = torch.meshgrid(torch.arange(80.0) + 0.5, torch.arange(100.0) + 0.5, indexing="ij")
    picture, maps = torch.stack([columns, rows])[None], frames(face(0.2), 0.5)
    for side in (8, 16, 64):  # finer and coarser than the pixels
        at = place(((torch.arange(side) + 0.5) / side)[None, :, None].expand(1, side, 2), maps)  # the diagonal
        seen = crop(picture, maps, side)[0].diagonal(dim1=1, dim2=2).T
        assert torch.allclose(seen, at[0], atol=0.02)


def test_anchors_are_eyes_and_mouth() -> None:
    points = torch.zeros(1, COUNT, 2)
    points[:, AT["left eye"]] = 1.0
    points[:, AT["outer lips"].start + 10] = 2.0
    assert anchors(points)[0, :, 0].tolist() == [1, 0, 0, 2]
