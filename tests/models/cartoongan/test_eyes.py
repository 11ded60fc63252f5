"""Eyes that are drawn where a photo's are."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kyara.models.base import Batch
from kyara.models.cartoongan import eyes
from kyara.models.cartoongan import model as cartoongan
from kyara.perception import landmarks

SIDE = 64
LEFT = [(0.2, 0.5), (0.3, 0.42), (0.4, 0.5), (0.3, 0.58)]
RIGHT = [(0.6, 0.5), (0.7, 0.42), (0.8, 0.5), (0.7, 0.58)]
FACE = torch.tensor([*LEFT, *RIGHT, (0.5, 0.7), (0.4, 0.8), (0.6, 0.8), (0.5, 0.95)])


def photos(count: int = 1) -> Tensor:
    """Skin, with dark blue eyes in it."""
    made = torch.tensor([0.6, 0.3, 0.1])[:, None, None].expand(count, 3, SIDE, SIDE).clone()
    for x in (19, 45):
        made[:, :, 28:36, x - 3 : x + 3] = torch.tensor([-0.9, -0.9, -0.3])[:, None, None]
    return made


def test_fields_say_what_the_points_do() -> None:
    found = eyes.fields(photos(), FACE[None])[0]
    assert found.shape == (eyes.FIELDS, SIDE, SIDE)
    there, x, y, wide, high, outer, at, red, green, blue = found[:, 32, 19]  # a pixel whose middle is 0.3 to the right
    assert float(there) == eyes.SURE and float(found[0, 60, 32]) == -eyes.SURE
    assert float(x * eyes.UNIT) == pytest.approx(19.5 - 0.3 * SIDE, abs=1e-4)
    assert float(y * eyes.UNIT) == pytest.approx(0.5, abs=1e-4)
    assert float(wide * eyes.UNIT) == pytest.approx(0.1 * SIDE) and float(high * eyes.UNIT) == pytest.approx(
        0.08 * SIDE
    )
    assert float(outer) == -1 and float(found[5, 32, 45]) == 1
    assert abs(float(at)) < 0.1 and float(blue) > 2 * float(red) and float(red) == pytest.approx(float(green), abs=0.02)


def test_fields_follow_a_head_that_is_turned() -> None:
    angle = math.radians(90)
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    turned = (FACE - 0.5) @ turn + 0.5
    upright = eyes.draw_eyes(photos(), eyes.fields(photos(), FACE[None]))
    lying = photos().rot90(-1, (2, 3))
    made = eyes.draw_eyes(lying, eyes.fields(lying, turned[None]))
    assert torch.allclose(made, upright.rot90(-1, (2, 3)), atol=1e-3)


def test_eyes_are_drawn_and_nothing_else_changes() -> None:
    given = photos()
    found = eyes.fields(given, FACE[None])
    made = eyes.draw_eyes(given, found)
    far = found[0, 0] < 0
    assert torch.equal((made - given)[0, :, far].abs() < 0.06, torch.ones(3, int(far.sum()), dtype=torch.bool))
    left = made[0, :, :, 19]  # through the middle of the left eye
    assert left[:, 27].max() < -0.5, "lashes above"
    assert made[0, :, 32, 14].min() > 0.4, "white beside the iris"
    assert left[2, 33] > left[0, 33] + 0.05, "the iris is blue"
    mirrored = FACE.clone()
    mirrored[:, 0] = 1 - mirrored[:, 0]
    mirrored = mirrored[list(landmarks.MIRRORED)]
    other = eyes.draw_eyes(given.flip(3), eyes.fields(given.flip(3), mirrored[None])).flip(3)
    lights = 2 * 3 * 30  # they are on the same side in both eyes, and so not mirrored
    assert ((other - made).abs() > 0.02).sum() <= lights


def test_without_eyes_a_picture_stays() -> None:
    given = photos()
    found = torch.zeros(1, eyes.FIELDS, SIDE, SIDE)
    found[:, 0] = -10
    assert eyes.draw_eyes(given, found) is given


def test_the_loss_by_hand() -> None:
    given, found = torch.zeros(1, eyes.FIELDS, 1, 2), torch.zeros(1, eyes.FIELDS, 1, 2)
    given[0, 0, 0] = torch.tensor([eyes.SURE, -eyes.SURE])
    given[0, 1:, 0] = 5.0
    found[0, 0, 0] = torch.tensor([1.0, -2.0])
    found[0, 1:, 0, 0] = 4.5
    expected = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-2))) / 2 + 9 * 0.5
    assert float(eyes.fields_loss(found, given)) == pytest.approx(expected, rel=1e-5)


def test_a_network_learns_to_say_where_eyes_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landmarks, "find", lambda pictures: FACE.expand(len(pictures), -1, -1))
    torch.manual_seed(0)
    config = cartoongan.PRESETS["tiny"].replace(
        data={"width": SIDE, "height": SIDE},
        network={"enlarge_eyes": 0.0, "ink": 0.0},
        losses={**dict.fromkeys(cartoongan.KEEP | cartoongan.DRAW, 0.0), "gaze": 2.0},
    )
    net = cartoongan.Model(config).train()
    batch = Batch(photos(4), photos=photos(4))
    assert net.losses("d", batch) == {}
    losses = net.losses("g", batch)
    assert set(losses) == {"gaze"}
    with torch.no_grad():
        expected = eyes.fields_loss(net.g.gaze(photos(4)), eyes.fields(photos(4), FACE.expand(4, -1, -1)))
    assert float(losses["gaze"].detach()) == pytest.approx(2 * float(expected), rel=0.02)
    adam = torch.optim.Adam(net.g.gaze.parameters(), lr=3e-3)
    for _ in range(300):
        adam.zero_grad()
        net.losses("g", batch)["gaze"].backward()
        adam.step()
    with torch.no_grad():
        net.g.eval()
        made = net.g(photos())
        wanted = eyes.draw_eyes(net.g.draw(photos()), eyes.fields(photos(), FACE[None]))
        plain = net.g.draw(photos())
    assert (made - wanted).abs().mean() < 0.4 * (plain - wanted).abs().mean()


def test_only_its_own_loss_moves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landmarks, "find", lambda pictures: FACE.expand(len(pictures), -1, -1))
    torch.manual_seed(0)
    net = cartoongan.Model(cartoongan.PRESETS["tiny"]).train()
    batch = Batch(torch.rand(4, 3, 32, 32) * 2 - 1, photos=torch.rand(4, 3, 32, 32) * 2 - 1)
    losses = net.losses("g", batch)
    sum(loss for name, loss in losses.items() if name != "gaze").backward(retain_graph=True)
    assert all(p.grad is None or not p.grad.any() for p in net.g.gaze.parameters())
    losses["gaze"].backward()
    assert any(p.grad is not None and p.grad.any() for p in net.g.gaze.parameters())
