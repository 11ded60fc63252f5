"""Heads are held as in the photo."""

from __future__ import annotations

from typing import Any

import pair
import pytest
import torch
from torch import Tensor

from kyara import models
from kyara.inversion import pose, reverse
from kyara.inversion.pose import Poses
from kyara.models.base import latents
from kyara.perception import landmarks

EYES = [(0.2, 0.4), (0.3, 0.35), (0.4, 0.4), (0.3, 0.45), (0.6, 0.4), (0.7, 0.35), (0.8, 0.4), (0.7, 0.45)]
FACE = torch.tensor([*EYES, (0.5, 0.6), (0.4, 0.75), (0.6, 0.75), (0.5, 0.95)])


def from_pixels(pictures: Tensor) -> Tensor:
    """Stands in for a network: the nose follows what is light on the left and right, the chin on top and below."""
    grey = pictures.mean(1)
    half = grey.shape[-1] // 2
    points = FACE.expand(len(pictures), -1, -1).clone()
    points[:, pose.NOSE, 0] = 0.5 + 0.2 * (grey[..., half:] - grey[..., :half]).mean((1, 2))
    points[:, pose.CHIN, 1] = 0.9 + 0.2 * (grey[:, half:] - grey[:, :half]).mean((1, 2))
    return points


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = tmp_path_factory.mktemp("pair")
    parent = pair.write(folder / "parent")
    return models.load(parent), models.load(pair.write(folder / "child", told=True, near=parent, seed=1))


def test_a_pose_in_numbers() -> None:
    turned = FACE.clone()
    turned[pose.NOSE, 0] += 0.1
    turned[4:8, 1] += 0.04
    found = pose.pose(torch.stack([FACE, turned, FACE * 0.5 + 0.2]))
    straight = torch.tensor([0.0, 0.0, 0.0, 0.55 / 0.4])
    assert torch.allclose(found[0], straight, atol=1e-6)
    assert torch.allclose(found[2], straight, atol=1e-6)  # a smaller face is held alike
    apart = (0.4**2 + 0.04**2) ** 0.5
    assert torch.allclose(found[1], torch.tensor([0.1, 0.0, 0.04, 0.53]) / apart, atol=1e-6)


def test_a_drawing_follows_and_stays_near(both: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landmarks, "find", from_pixels)
    monkeypatch.setattr(pose, "SAMPLES", 64)
    parent, child = both
    with torch.inference_mode():
        poses = Poses(parent, child)
        ws = child.styles(latents(range(100, 104), child.z_dim))
        wanted = poses.drawn[0] + poses.drawn[1] * torch.tensor([1.0, 0.0, 0.0, -1.0])
        wanted = wanted.expand(4, -1)
        moved = poses.follow(child, ws, 4, wanted=wanted)
        before, after = (pose.pose(from_pixels(child.synthesise(x))) - wanted for x in (ws, moved))
        seen = [0, 3]
        assert (after[:, seen].abs() < before[:, seen].abs() * 0.5).float().mean() >= 0.75
        assert torch.allclose(moved[:, 4:], ws[:, 4:], atol=1e-4)
        way = poses.space.whiten(moved)[:, :4] - poses.space.whiten(ws)[:, :4]
        assert torch.allclose(way, way[:, :1].expand_as(way), atol=1e-3)
        alone = poses.follow(child, ws[1:2], 4, wanted=wanted[:1])
    assert torch.allclose(alone[0], moved[1], atol=1e-2)


def test_unusual_poses_are_followed_so_far_only(both: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landmarks, "find", from_pixels)
    monkeypatch.setattr(pose, "SAMPLES", 64)
    poses = Poses(*both)
    photos = torch.full((1, 3, 32, 32), -1.0)
    photos[..., 16:] = 1.0
    deviation = (poses.wanted(photos) - poses.drawn[0]) / poses.drawn[1].clamp_min(1e-6)
    assert float(deviation[0, 0]) == pytest.approx(pose.UNUSUAL, abs=1e-3)


def test_every_truncation_follows_once(both: tuple[Any, Any]) -> None:
    parent, child = both
    ws = parent.styles(latents(range(2), parent.z_dim))
    labels = {"hair": torch.tensor([2, 2]), "eyes": torch.tensor([0, 0])}
    asked: list[Tensor] = []

    def follow(styles: Tensor, position: int) -> Tensor:
        asked.append(styles)
        return styles + 0.25

    tried = [reverse.Variant(t, 4, "labels", drawn) for t in (1.0, 0.7) for drawn in (None, 0)]
    styles, _ = reverse.draw(child, child, ws, labels, tried, [7, 8], follow)
    plain, _ = reverse.draw(child, child, ws, labels, tried, [7, 8])
    assert len(asked) == 2
    assert torch.allclose(styles[:, :, :4], plain[:, :, :4] + 0.25)
    assert torch.allclose(styles[:, :, 4:], plain[:, :, 4:])
    assert torch.allclose(asked[0], plain[:, 0])
