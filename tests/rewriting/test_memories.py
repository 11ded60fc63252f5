"""The two memories, against what is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import MASK, generator, pattern, projector_of
from torch import nn

from kyara import models
from kyara.models.projector import Model as Projector
from kyara.nn.activations import ActivationCache, Cut, LayerRange
from kyara.perception.lpips import load_perceptual
from kyara.rewriting.edit import Picture, as_mask, overlay
from kyara.rewriting.hosts import Hosts
from kyara.rewriting.lessons import Lesson, Search, forget, parts, teach
from kyara.rewriting.linear import LinearMemory
from kyara.rewriting.nonlinear import Settings, fast, learn, rewriting_loss
from kyara.rewriting.teaching import added


class TwoLayers(nn.Module):
    """Two pointwise convolutions with a leaky ReLU between; pictures are their input."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(F.leaky_relu(self.first(x), 0.2))


@pytest.fixture
def handmade() -> tuple[LinearMemory, ActivationCache]:
    """In double precision; the memory is the second layer."""
    torch.manual_seed(0)
    network = TwoLayers().double().requires_grad_(False)
    cut = Cut(network, LayerRange("second", "second"), LayerRange("second", "second"))
    given = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    host = cut.open(lambda: network(given))
    return LinearMemory(cut, [host]), host


def lesson_at(host: ActivationCache, y: int, x: int, change: torch.Tensor) -> Lesson:
    where = torch.zeros(len(host.value), 1, *host.value.shape[2:], dtype=torch.bool)
    where[0, 0, y, x] = True
    goal = host.value + where * change[None, :, None, None]
    return Lesson(host, host.picture, where.double(), goal, where, ~where)


def test_the_linear_solution_is_the_closed_form(handmade: tuple[LinearMemory, ActivationCache]) -> None:
    """Bau et al., equations 7 to 9: W + (v - W k) d^T / (d^T k) with d = C^-1 k."""
    memory, host = handmade
    lesson = lesson_at(host, 2, 5, torch.tensor([0.7, -0.4, 0.2], dtype=torch.float64))
    direction = memory.directions([lesson])
    key = memory.keys(host)[0, :, 2, 5]
    d = torch.linalg.solve(memory.second_moment, key)
    assert torch.allclose(direction[0], d / d.norm(), atol=1e-8)
    wanted = torch.outer(lesson.goal[0, :, 2, 5] - host.value[0, :, 2, 5], d) / (d @ key)
    (found,) = memory.solve([lesson], direction, ridge=0.0).values()
    assert (found[:, :, 0, 0] - wanted).abs().max() < 1e-6
    (stepped,) = memory.insert([lesson], direction, steps=2001).values()
    assert (stepped[:, :, 0, 0] - wanted).abs().max() < 0.02  # it gets near, in 2,001 steps
    with added(memory.cut.model, {memory.name: found}):  # type: ignore[arg-type]
        assert torch.allclose(host.remember()[0, :, 2, 5], lesson.goal[0, :, 2, 5], atol=1e-9)


def test_keys_are_whitened_without_being_centred(handmade: tuple[LinearMemory, ActivationCache]) -> None:
    memory, host = handmade
    keys = memory.keys(host).movedim(1, 3).flatten(0, 2)
    assert torch.allclose(memory.second_moment, keys.T @ keys / len(keys), atol=1e-12)
    white = keys @ memory.whiten
    assert torch.allclose(white.T @ white / len(white), torch.eye(6, dtype=torch.float64), atol=1e-4)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Hosts, Projector]:
    folder = tmp_path_factory.mktemp("small")
    name = generator(folder / "g")
    found = models.load(projector_of(folder / "p", name)).requires_grad_(False)
    assert isinstance(found, Projector)
    return Hosts(models.load(name).requires_grad_(False), name), found


def disc(small: tuple[Hosts, Projector], layers: int = 2) -> Lesson:
    hosts, projector = small
    spans, last = hosts.model.memories(), projector.config.generator.layer
    host = Cut(hosts.model, spans[last - layers + 1], spans[last]).open(hosts.like(Picture(seed=3), 3))
    laid = torch.from_numpy(overlay(pattern(), as_mask(tuple(MASK), 32, 32, "x"))).movedim(2, 0)
    return teach(host, laid.expand(4, -1, -1, -1), projector)


def test_the_nonlinear_memory_learns_and_leaves_the_network_alone(small: tuple[Hosts, Projector]) -> None:
    lesson, settings = disc(small), Settings(steps=200, lr=0.1)
    before = {name: p.clone() for name, p in lesson.host.cut.model.named_parameters()}
    whole = float(rewriting_loss(lesson, settings))
    difference = learn(lesson.host.cut, [lesson], settings)
    assert all(torch.equal(before[name], p) for name, p in lesson.host.cut.model.named_parameters())
    again = learn(lesson.host.cut, [lesson], settings)
    assert all(torch.equal(difference[name], again[name]) for name in difference) and len(difference) == 2
    with added(small[0].model, difference):
        assert float(rewriting_loss(lesson, settings)) < 0.7 * whole
        picture = lesson.host.redraw()[0]
    pasted = (lesson.alpha > 0.9).expand_as(picture)
    was, now = ((x - lesson.edited).abs()[pasted].mean() for x in (lesson.host.picture, picture))
    assert now < 0.6 * was


def test_plain_convolutions_learn_in_a_context_that_surrounds_it_all() -> None:
    """Autocast kept their weights in bfloat16 as they were at first, so that no step saw what the last one did."""
    torch.manual_seed(0)
    network = TwoLayers().requires_grad_(False)
    given = torch.rand(4, 3, 16, 16) * 2 - 1
    with fast(given):
        host = Cut(network, LayerRange("first", "first"), LayerRange("second", "second")).open(lambda: network(given))
        everywhere = torch.ones(4, 1, 16, 16)
        goal = host.value.float() * 0.5 + 0.2
        lesson = Lesson(host, goal, everywhere, goal, everywhere > 0, everywhere < 0)
        before = float(rewriting_loss(lesson, Settings()))
        difference = learn(host.cut, [lesson], Settings(lr=0.05))
        with added(network, difference):  # type: ignore[arg-type]
            after = float(rewriting_loss(lesson, Settings()))
    assert after < 0.1 * before


def test_each_weight_of_the_loss_counts_what_it_says(small: tuple[Hosts, Projector]) -> None:
    lesson = disc(small)
    nothing = Settings(p=0, q=0, shown=0, unchanged=0)
    assert float(rewriting_loss(lesson, nothing)) == 0
    off = (lesson.host.value - lesson.goal).abs().mean(1, keepdim=True)
    found = float(rewriting_loss(lesson, Settings(p=0, q=2, shown=0, unchanged=0), 0.5))
    assert found == pytest.approx(float(2 * (off * lesson.new).mean() / 0.5), rel=1e-4)
    assert float(rewriting_loss(lesson, Settings(p=1, q=0, shown=0, unchanged=0))) == 0  # nothing is changed yet
    assert float(rewriting_loss(lesson, Settings(p=0, q=0, shown=0, unchanged=1))) == 0
    assert float(rewriting_loss(lesson, Settings(p=0, q=0, shown=1, unchanged=0))) > 0.05


def test_erasing_and_teaching_it_again_restores(small: tuple[Hosts, Projector]) -> None:
    hosts, projector = small
    span = hosts.model.memories()[projector.config.generator.layer]
    cut = Cut(hosts.model, span, span)
    memory = LinearMemory(cut, [cut.open(hosts.others(16, 0))])
    host = cut.open(hosts.like(Picture(seed=3), 7))
    masks = torch.from_numpy(as_mask(tuple(MASK), 32, 32, "x")).expand(8, 1, -1, -1)
    erased = forget(host, masks, memory.erased(host, masks, units=8))
    direction = memory.directions([erased])
    difference = memory.solve([erased], direction)
    with added(hosts.model, difference):
        worn = cut.open(host.make)
        back = Lesson(worn, host.picture, erased.alpha, host.value, erased.new, erased.kept)
        again = memory.solve([back], direction)
        with added(hosts.model, again):
            restored = host.make()
    lost, left = ((x - host.picture).abs().mean() for x in (worn.picture, restored))
    assert lost > 0.002 and left < 0.1 * lost


def test_the_place_is_found_where_it_moved(small: tuple[Hosts, Projector]) -> None:
    hosts, projector = small
    spans, last = hosts.model.memories(), projector.config.generator.layer
    host = Cut(hosts.model, spans[last - 1], spans[last]).open(hosts.like(Picture(seed=3), 0))
    moved = Cut(hosts.model, spans[last - 1], spans[last]).open(hosts.like(Picture(seed=3), 0))
    moved.key = host.key.roll(1, 3)  # a place of the key is a certain number of pixels
    pixels = 32 // host.key.shape[3]
    laid = torch.from_numpy(overlay(pattern(), as_mask((8, 10, 12, 12), 32, 32, "x"))).movedim(2, 0)
    search = Search([(host, laid)], [host, moved])
    here, sure = search(host)
    assert sure.item() == pytest.approx(1, abs=0.02) and (here[0, 3] - laid[3]).abs().mean() < 0.02
    there, sure = search(moved)
    centre = [float((x[3] * torch.arange(32)).sum() / x[3].sum()) for x in (laid, there[0])]
    assert sure > 0.7 and centre[1] - centre[0] == pytest.approx(pixels, abs=pixels / 3)


def test_two_eyes_are_two_parts() -> None:
    laid = np.zeros((32, 32, 4), np.float32)
    laid[10:14, 4:9, 3], laid[10:15, 20:26, 3] = 1, 1
    found = parts(torch.from_numpy(laid).movedim(2, 0))
    assert [int(part[3].sum()) for part in found] == [30, 20]


def test_eyes_that_are_erased_come_back() -> None:
    """In the built-in generator: what is erased is missed, and inserted again it is as if nothing had been."""
    hosts = Hosts(models.load("builtin:anime").requires_grad_(False), "builtin:anime")
    span = hosts.model.memories()[6]
    cut = Cut(hosts.model, span, span)
    memory = LinearMemory(cut, [cut.open(hosts.others(16, 0))])
    host = cut.open(hosts.like(Picture(seed=3), 5))
    masks = torch.from_numpy(as_mask((14, 28, 36, 14), 64, 64, "x")).expand(6, 1, -1, -1)
    erased = forget(host, masks, memory.erased(host, masks))
    direction = memory.directions([erased])
    perceptual = load_perceptual("builtin", torch.device("cpu"))
    seen = perceptual.see(host.picture)
    with added(hosts.model, memory.solve([erased], direction)):
        worn = cut.open(host.make)
        back = Lesson(worn, host.picture, erased.alpha, host.value, erased.new, erased.kept)
        with added(hosts.model, memory.solve([back], direction)):
            restored = host.make()
    lost, left = (float(perceptual.distance(perceptual.see(x), seen).mean()) for x in (worn.picture, restored))
    assert lost > 0.1 and left < 1e-3
