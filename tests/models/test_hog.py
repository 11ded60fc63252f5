"""Histograms of oriented gradients and the linear classifiers on them."""

from __future__ import annotations

import math

import pytest
import torch

from kyara import models
from kyara.models.base import Batch
from kyara.models.hog import gradients
from kyara.models.tagger import temperature
from kyara.training.trainer import Options, Trainer

VALUES = {"stripes": ("across", "down"), "colour": ("blue", "red")}


def pictures(count: int, seed: int = 0) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Faint stripes in one of two directions on one of two colours, under noise."""
    generator = torch.Generator().manual_seed(seed)
    down, red = (torch.randint(2, (count,), generator=generator) for _ in range(2))
    waves = 0.3 * torch.sin(torch.arange(32) * 1.2).expand(count, 3, 32, 32)
    striped = torch.where(down.bool()[:, None, None, None], waves, waves.mT)
    colour = torch.where(red.bool()[:, None], torch.tensor([0.5, -0.5, -0.5]), torch.tensor([-0.5, -0.5, 0.5]))
    noise = 0.1 * torch.randn(count, 3, 32, 32, generator=generator)
    return (striped + colour[..., None, None] + noise).clamp(-1, 1), {"stripes": down, "colour": red}


@pytest.mark.parametrize("degrees", [0, 40, 90, 130])
def test_an_edge_falls_into_the_bin_of_its_direction(degrees: float) -> None:
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    angle = math.radians(degrees)
    ramp = ((x * math.cos(angle) + y * math.sin(angle)) / 40).expand(1, 3, 32, 32)
    cells = gradients(ramp, 8, 9)[0, :, 1:3, 1:3]
    assert cells.shape == (9, 2, 2)
    place = degrees / 20
    expected = torch.tensor([max(0.0, 1 - min(abs(place - i), 9 - abs(place - i))) for i in range(9)])
    found = cells.mean((1, 2))
    torch.testing.assert_close((found > 0.05), expected > 0.05)


def test_it_learns_shapes_and_colours_from_sixty_pictures_and_is_calibrated() -> None:
    counts = ((0, 0, 15), (0, 1, 15), (1, 0, 15), (1, 1, 15))
    model = models.build("hog", {"data": {"width": 32, "height": 32, "attributes": VALUES, "label_counts": counts}})
    real, labels = pictures(60)
    labels["stripes"][::7] = -1  # unknown
    trainer = Trainer(model, Options(batch=60, micro_batch=60))
    for _ in range(40):
        trainer.step(Batch(real, labels=labels))
    model.eval()
    others, truth = pictures(64, seed=1)
    with torch.inference_mode():
        found = model.probabilities(others)  # type: ignore[operator]
        for name in VALUES:
            assert (found[name].argmax(1) == truth[name]).float().mean() > 0.95, name
        mirrored = model.probabilities(others.flip(3))  # type: ignore[operator]
        torch.testing.assert_close(mirrored["colour"], found["colour"])
        scores = model.measure(Batch(others, labels=truth), lambda a, b: 0.0)
    assert set(scores) == {"error", "error/stripes", "error/colour"} and scores["error"] < 0.05
    assert (model.temperatures < 4.1).all()  # type: ignore[operator]


def test_rare_values_have_larger_weights() -> None:
    data = {"width": 32, "height": 32, "attributes": {"glasses": ("none", "round")}, "label_counts": ((0, 90), (1, 10))}
    (weights,) = models.build("hog", {"data": data}).weights  # type: ignore[misc]
    assert float(weights[1] / weights[0]) == pytest.approx(3.0)
    assert temperature(torch.tensor([[9.0, 0.0], [9.0, 0.0]]), torch.tensor([0, 1])) == 4.0
