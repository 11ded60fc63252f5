"""Dragging points: they arrive, nothing else is asked of the generator, and impossible points are refused."""

from __future__ import annotations

import pytest
import torch

from kyara.generation.drag import Drag
from kyara.generation.styles import load_styled
from kyara.generation.variations import styles_of
from kyara.models.base import StyledGenerator

SEED = {"seed": 12, "labels": {"hair": "blue", "eyes": "blue"}}


@pytest.fixture(scope="module")
def generator() -> StyledGenerator:
    return load_styled("builtin:anime", torch.device("cpu")).requires_grad_(False)


def test_a_chin_moves_to_its_target(generator: StyledGenerator) -> None:
    ws = styles_of(SEED, generator, 0.7)
    drag = Drag(generator, ws, [(32.0, 52.0)], [(29.0, 50.0)])
    before, began = drag.picture.clone(), drag.distance
    for _ in range(40):
        drag.step()
        if drag.done:
            break
    assert began == pytest.approx(13**0.5)
    assert drag.done and drag.distance < 1
    moved = drag.ws
    kept = round(0.6 * len(ws))
    assert torch.equal(moved[kept:], ws[kept:]) and not torch.equal(moved[:kept], ws[:kept])
    assert (drag.picture - before).abs().mean() > 0.02
    assert not any(parameter.grad is not None for parameter in generator.parameters())


def test_the_picture_is_that_of_the_styles(generator: StyledGenerator) -> None:
    drag = Drag(generator, styles_of(SEED, generator, 0.7), [(20.0, 30.0)], [(26.0, 30.0)])
    drag.step()
    styles = drag.ws
    drag.step()
    assert torch.allclose(drag.picture, generator.synthesise(styles[None])[0], atol=1e-5)


def test_a_mask_keeps_the_rest(generator: StyledGenerator) -> None:
    ws, mask = styles_of(SEED, generator, 0.7), torch.zeros(64, 64, dtype=torch.bool)
    mask[:, :20] = True
    changes = []
    for given in (None, mask):
        drag = Drag(generator, ws, [(10.0, 40.0)], [(15.0, 40.0)], given)
        before = drag.picture.clone()
        for _ in range(8):
            drag.step()
        changes.append(float((drag.picture - before)[:, :, 24:].abs().mean()))
    assert changes[1] < 0.7 * changes[0]


@pytest.mark.parametrize(
    ("handles", "targets", "message"),
    [
        ([], [], "a target for each handle"),
        ([(1.0, 1.0)], [], "a target for each handle"),
        ([(1.0, 1.0)], [(64.0, 1.0)], "inside the picture of 64x64"),
        ([(-1.0, 1.0)], [(4.0, 1.0)], "inside the picture"),
        ([(1.0, float("nan"))], [(4.0, 1.0)], "inside the picture"),
    ],
)
def test_impossible_points(generator: StyledGenerator, handles: list, targets: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Drag(generator, generator.mean_w(1)[0], handles, targets)


def test_a_mask_of_another_size(generator: StyledGenerator) -> None:
    mask = torch.ones(32, 32, dtype=torch.bool)
    with pytest.raises(ValueError, match="size of the picture"):
        Drag(generator, generator.mean_w(1)[0], [(1.0, 1.0)], [(2.0, 2.0)], mask)
