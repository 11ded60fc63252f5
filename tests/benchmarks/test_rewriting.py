"""How benchmarks judge what rewriting does; no weights are needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scripts import load

from kyara.nn.activations import LayerRange, capture
from kyara.perception.vgg16 import VGG16
from kyara.rewriting.edit import read_edit
from kyara.rewriting.lessons import TrainingBatch
from kyara.rewriting.linear import LinearMemory

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def judging() -> Any:
    return load("judging")


def test_a_region_of_everything_is_the_distance_itself(judging: Any, vgg16: VGG16) -> None:
    a, b = torch.rand(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole = torch.ones(2, 1, 64, 64)

    def region(one: torch.Tensor, other: torch.Tensor, where: torch.Tensor) -> float:
        with torch.no_grad():
            maps = vgg16.unit_maps(other)
        return float(judging.regions(vgg16, one, maps, where).mean())

    assert region(a, b, whole) == pytest.approx(float(vgg16.distance(a, b).mean()), rel=1e-4)
    half = whole.clone()
    half[..., :32] = 0
    mixed = torch.where(half > 0, b, a)
    assert region(a, mixed, half) > 3 * region(a, mixed, 1 - half)


def test_the_pattern_itself_is_no_damage_around_it(judging: Any, vgg16: VGG16) -> None:
    judge = judging.Judge.__new__(judging.Judge)  # without the weights that it would fetch
    judge.network = vgg16
    judge.before, pattern = torch.rand(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    judge.elsewhere = torch.ones(2, 1, 64, 64)
    judge.elsewhere[..., 20:40, 20:40] = 0
    with torch.no_grad():
        judge.was = vgg16.unit_maps(judge.before)
    assert judge.outside(pattern.lerp(judge.before, judge.elsewhere)) < 1e-6
    assert judge.outside(judge.before.lerp(pattern, judge.elsewhere)) > 1e-3


def test_patterns_lie_where_the_eyes_are(judging: Any) -> None:
    points = np.full((12, 2), 0.5)
    points[judging.place.__globals__["LEFT"]] = (0.35, 0.5)
    points[judging.place.__globals__["RIGHT"]] = (0.65, 0.5)
    for make in judging.PATTERNS.values():
        for piece in make():
            assert piece.picture.shape[2] == 4 and 0 < (piece.picture[:, :, 3] > 128).mean() < 1
            x, y, width, height = judging.place(piece, points, 64, 64)
            assert min(x, y) >= 0 and x + width <= 64 and y + height <= 64
    x, y, width, height = judging.place(judging.PATTERNS["glasses"]()[0], points, 100, 100)
    assert abs(x + width / 2 - 50) <= 1 and width == pytest.approx(57, abs=1)


def test_the_shipped_edits_are_edits() -> None:
    files = sorted((ROOT / "docs" / "edits").glob("*.json"))
    assert len(files) == 7
    for path in files:
        edit = read_edit(path)
        assert len(edit.examples) == 3 and edit.name.replace(" ", "-") == path.stem


def test_the_steps_of_the_paper_reach_the_direct_solution() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3), torch.nn.Conv2d(6, 3, 1)).requires_grad_(False)
    inputs = torch.randn(4, 3, 10, 10)
    cache = capture(network, LayerRange("1", "1"), lambda: network(inputs))
    memory, where = LinearMemory([cache]), torch.zeros(4, 1, 8, 8, dtype=torch.bool)
    where[0, 0, 2, 5] = True
    target = cache.value + where * torch.tensor([0.7, -0.4, 0.2])[None, :, None, None]
    batch = TrainingBatch(cache, cache.pictures, where.float(), target, where, ~where)
    directions = memory.directions([batch])
    (solved,) = memory.solve([batch], directions, ridge=0.0).values()
    (stepped,) = load("rewriting").insert(memory, [batch], directions).values()
    assert (stepped - solved).abs().max() < 0.02  # near after 2,001 steps
    assert torch.equal(cache.compute_value(), cache.value)
