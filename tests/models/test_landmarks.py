"""Landmarks, and what losses for portraits make of them."""

from __future__ import annotations

import pytest
import torch

from kyara.models import landmarks
from kyara.models.base import Batch
from kyara.models.cartoongan import painting
from kyara.perception import portrait

CONFIG = landmarks.PRESETS["tiny"]
EYES = [(0.2, 0.4), (0.3, 0.35), (0.4, 0.4), (0.3, 0.45), (0.6, 0.4), (0.7, 0.35), (0.8, 0.4), (0.7, 0.45)]
FACE = torch.tensor([*EYES, (0.5, 0.6), (0.4, 0.75), (0.6, 0.75), (0.5, 0.95)])


def dotted(points: torch.Tensor, side: int = 64) -> torch.Tensor:
    """Pictures (B, 3, S, S) with a bright blot at each of the points (B, K, 2)."""
    at = (torch.arange(side) + 0.5) / side
    x, y = points[..., 0, None, None], points[..., 1, None, None]
    blots = torch.exp(-((at - x).square() + (at[:, None] - y).square()) / (2 * 0.02**2)).amax(1)
    return (2 * blots - 1)[:, None].expand(-1, 3, -1, -1)


def brightest(picture: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
    """The middle of the blot around `near` (2,), by weight."""
    side = picture.shape[-1]
    at = (torch.arange(side) + 0.5) / side
    weight = (picture[0] + 1) / 2
    weight = weight * (((at - near[0]).abs() < 0.06) & ((at[:, None] - near[1]).abs() < 0.06))
    return torch.stack([(weight.sum(0) * at).sum(), (weight.sum(1) * at).sum()]) / weight.sum()


def test_a_map_says_where() -> None:
    maps = torch.full((1, 2, 4, 8), -1e4)
    maps[0, 0, 1, 6] = 0.0
    maps[0, 1, 0, 0] = maps[0, 1, 3, 1] = 0.0
    expected = torch.tensor([[6.5 / 8, 1.5 / 4], [1 / 8, 2 / 4]])
    assert torch.allclose(landmarks.places(maps)[0], expected)


def test_points_go_where_the_picture_goes() -> None:
    torch.manual_seed(0)
    config = CONFIG.replace(augment={"colour": 0.0, "scale": 0.2})
    points = (FACE[8:9] * 0.4 + 0.3).expand(16, 1, 2)
    moved, there = landmarks.vary(dotted(points), points, config.augment)
    for picture, point in zip(moved, there, strict=True):
        assert torch.allclose(brightest(picture, point[0]), point[0], atol=0.01)
    assert there.std(0).min() > 0.03


def test_a_mirrored_face_keeps_its_left() -> None:
    """Also a face that lies on its side or stands on its head: whether a picture was mirrored is known, not guessed."""
    mirrored = FACE * torch.tensor([-1.0, 1.0]) + torch.tensor([1.0, 0.0])
    points, flipped = torch.stack([FACE, mirrored, mirrored]), torch.tensor([False, True, False])
    found = landmarks.unmirrored(Batch(torch.zeros(3, 3, 8, 8), points=points, mirrored=flipped))
    assert torch.equal(found[0], FACE) and torch.equal(found[2], mirrored)
    assert torch.allclose(found[1], FACE)  # it is its own mirror image
    assert torch.equal(landmarks.unmirrored(Batch(torch.zeros(3, 3, 8, 8), points=points)), points)


def test_unknown_points_count_for_nothing() -> None:
    torch.manual_seed(0)
    model = landmarks.Model(CONFIG).train()
    pictures, points = torch.rand(4, 3, 32, 32) * 2 - 1, FACE.expand(4, -1, -1).clone()

    def losses(given: torch.Tensor) -> dict[str, torch.Tensor]:
        torch.manual_seed(1)
        return model.losses("train", Batch(pictures, points=given))

    points[2:] = torch.nan
    half = losses(points)
    assert all(torch.isfinite(loss) for loss in half.values())
    points[3] = FACE
    assert not torch.equal(losses(points)["distance"], half["distance"])
    assert all(float(loss.detach()) == 0 for loss in losses(torch.full_like(points, torch.nan)).values())
    with pytest.raises(ValueError, match="must have 12"):
        losses(points[:, :5])


def test_it_learns_where_dots_are() -> None:
    torch.manual_seed(0)
    model = landmarks.Model(
        CONFIG.replace(augment={"degrees": 0.0, "scale": 0.1, "translate": 0.05, "colour": 0.1})
    ).train()
    optimizer = torch.optim.Adam(model.net.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        points = FACE * 0.6 + torch.rand(8, 1, 2, generator=generator) * 0.4
        losses = model.losses("train", Batch(dotted(points, 32), points=points))
        sum(losses.values()).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.net_ema.load_state_dict(model.net.state_dict())
    points = FACE * 0.6 + torch.rand(8, 1, 2, generator=generator) * 0.4
    off = (model.find(dotted(points, 32)) - points).norm(dim=2).mean()
    assert off < 0.03  # a pixel; at the mean place it would be 0.15
    scores = model.measure(Batch(dotted(points, 32), points=points), lambda a, b: 0.0)
    assert scores["error"] == pytest.approx(float(off.detach()) / 0.24, rel=0.05)


def test_eyes_grow_in_place() -> None:
    scale = torch.tensor([1.2, 2.0])
    points = FACE.expand(2, -1, -1)
    before = dotted(points, 128)
    shift, there = portrait.enlarge(points, scale, 128, 128)
    after = portrait.remap(before, shift)
    assert torch.allclose(portrait.eye_size(there) / portrait.eye_size(points), scale, rtol=0.15)
    assert torch.allclose(there[:, 8:], points[:, 8:])  # nose, mouth and chin stay
    middles = [portrait.centres(p)[0] for p in (points, there)]
    assert torch.allclose(*middles, atol=1e-4)
    for k in range(8):  # the blots lie where the points are said to be
        assert torch.allclose(brightest(after[0], there[0, k]), there[0, k], atol=0.012)
    none, stayed = portrait.enlarge(points, torch.ones(2), 128, 128)
    assert torch.allclose(portrait.remap(before, none), before, atol=1e-4) and torch.equal(stayed, points)


def test_flat_is_flat_and_edges_stay() -> None:
    torch.manual_seed(0)
    step = torch.full((1, 3, 128, 128), -0.5)
    step[..., 64:] = 0.5
    noise = 0.02 * torch.randn(1, 3, 128, 128)
    flat = painting.flatten(step + noise)
    assert (flat - step)[..., :48].std() < noise.std() / 3
    assert flat[..., 60].mean() < -0.4 and flat[..., 67].mean() > 0.4
    assert torch.allclose(painting.flatten(step[..., :60]), step[..., :60], atol=1e-4)


def test_tone_makes_no_difference_to_relief() -> None:
    lines = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    darker = lines * 0.5 - torch.tensor([0.3, 0.1, 0.2])[:, None, None]
    assert torch.allclose(portrait.relief(darker), portrait.relief(lines) * 0.5, atol=1e-5)


def test_a_face_out_of_place_costs() -> None:
    points = FACE[None]
    moved = points + torch.tensor([0.08, 0.0])
    assert float(portrait.distance(moved, points)) == pytest.approx(0.08 / 0.4)
    assert float(portrait.distance(points, points)) == 0
