"""Drawings take the pose of the photo."""

from __future__ import annotations

from typing import Any

import pair
import pytest
import torch
from pair import few_samples  # noqa: F401
from torch import Tensor

from kyara import models
from kyara.inversion import pose, reverse
from kyara.inversion.pose import PoseMatcher
from kyara.models.base import latents
from kyara.perception import landmarks

EYES = [(0.2, 0.4), (0.3, 0.35), (0.4, 0.4), (0.3, 0.45), (0.6, 0.4), (0.7, 0.35), (0.8, 0.4), (0.7, 0.45)]
FACE = torch.tensor([*EYES, (0.5, 0.6), (0.4, 0.75), (0.6, 0.75), (0.5, 0.95)])


def from_pixels(pictures: Tensor) -> Tensor:
    """Replaces the network: the nose follows the lightness left and right, the chin that at the top and bottom."""
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
    return models.load(parent), models.load(pair.write(folder / "child", labels=True, near=parent, seed=1))


def test_a_pose_in_numbers() -> None:
    turned = FACE.clone()
    turned[pose.NOSE, 0] += 0.1
    turned[4:8, 1] += 0.04
    found = pose.pose(torch.stack([FACE, turned, FACE * 0.5 + 0.2]))
    straight = torch.tensor([0.0, 0.0, 0.0, 0.55 / 0.4])
    assert torch.allclose(found[0], straight, atol=1e-6)
    assert torch.allclose(found[2], straight, atol=1e-6)  # a smaller face has the same pose
    apart = (0.4**2 + 0.04**2) ** 0.5
    assert torch.allclose(found[1], torch.tensor([0.1, 0.0, 0.04, 0.53]) / apart, atol=1e-6)


def test_a_drawing_takes_the_pose_and_changes_little_else(
    both: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landmarks, "find", from_pixels)
    monkeypatch.setattr(pose, "STEPS", 40)
    parent, child = both
    with torch.inference_mode():
        poses = PoseMatcher(parent, child)
        ws = child.styles(latents(range(100, 104), child.z_dim))
        target = poses.drawings[0] + poses.drawings[1] * torch.tensor([1.0, 0.0, 0.0, -1.0])
        target = target.expand(4, -1)
        moved = poses.match(child, ws, 4, target=target)
        before, after = (pose.pose(from_pixels(child.synthesise(x))) - target for x in (ws, moved))
        seen = [0, 3]
        assert (after[:, seen].abs() < before[:, seen].abs() * 0.5).float().mean() >= 0.75
        assert torch.allclose(moved[:, 4:], ws[:, 4:], atol=1e-4)
        way = poses.space.whiten(moved)[:, :4] - poses.space.whiten(ws)[:, :4]
        assert torch.allclose(way, way[:, :1].expand_as(way), atol=1e-3)
        alone = poses.match(child, ws[1:2], 4, target=target[:1])
    assert torch.allclose(alone[0], moved[1], atol=1e-2)


def test_unusual_poses_are_clamped(both: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landmarks, "find", from_pixels)
    poses = PoseMatcher(*both)
    photos = torch.full((1, 3, 32, 32), -1.0)
    photos[..., 16:] = 1.0
    deviation = (poses.target(photos) - poses.drawings[0]) / poses.drawings[1].clamp_min(1e-6)
    assert float(deviation[0, 0]) == pytest.approx(pose.MAX_DEVIATION, abs=1e-3)


def test_the_pose_is_matched_once_for_each_truncation(both: tuple[Any, Any]) -> None:
    parent, child = both
    ws = parent.styles(latents(range(2), parent.z_dim))
    labels = {"hair": torch.tensor([2, 2]), "eyes": torch.tensor([0, 0])}
    given: list[Tensor] = []

    def match(styles: Tensor, layer: int) -> Tensor:
        given.append(styles)
        return styles + 0.25

    tried = [reverse.Variant(t, 4, "labels", drawn) for t in (1.0, 0.7) for drawn in (None, 0)]
    styles, _ = reverse.draw(child, child, ws, labels, tried, [7, 8], match)
    plain, _ = reverse.draw(child, child, ws, labels, tried, [7, 8])
    assert len(given) == 2
    assert torch.allclose(styles[:, :, :4], plain[:, :, :4] + 0.25)
    assert torch.allclose(styles[:, :, 4:], plain[:, :, 4:])
    assert torch.allclose(given[0], plain[:, 0])
