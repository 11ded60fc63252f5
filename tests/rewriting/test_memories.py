"""The two memories, compared with closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import MASK, generator, pattern, projector_of
from torch import nn

from kyara import models
from kyara.models.projector import Model as Projector
from kyara.nn.activations import ActivationCache, LayerRange, capture
from kyara.perception.lpips import load_perceptual
from kyara.rewriting.edit import Picture, as_mask, overlay
from kyara.rewriting.learning import added
from kyara.rewriting.lessons import (
    PlaceFinder,
    TrainingBatch,
    batch_from_overlays,
    batch_from_values,
    connected_parts,
)
from kyara.rewriting.linear import LinearMemory
from kyara.rewriting.nonlinear import autocast, muon_step, rewriting_loss, train_memory
from kyara.rewriting.samples import Samples
from kyara.rewriting.settings import Settings


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
    inputs = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    cache = capture(network, LayerRange("second", "second"), lambda: network(inputs))
    return LinearMemory([cache]), cache


def batch_at(cache: ActivationCache, y: int, x: int, change: torch.Tensor) -> TrainingBatch:
    where = torch.zeros(len(cache.value), 1, *cache.value.shape[2:], dtype=torch.bool)
    where[0, 0, y, x] = True
    target = cache.value + where * change[None, :, None, None]
    return TrainingBatch(cache, cache.pictures, where.double(), target, where, ~where)


def test_the_linear_solution_is_the_closed_form(handmade: tuple[LinearMemory, ActivationCache]) -> None:
    """Bau et al., equations 7 to 9: W + (v - W k) d^T / (d^T k) with d = C^-1 k."""
    memory, cache = handmade
    batch = batch_at(cache, 2, 5, torch.tensor([0.7, -0.4, 0.2], dtype=torch.float64))
    direction = memory.directions([batch])
    key = memory.keys(cache)[0, :, 2, 5]
    d = torch.linalg.solve(memory.second_moment, key)
    assert torch.allclose(direction[0], d / d.norm(), atol=1e-8)
    wanted = torch.outer(batch.target[0, :, 2, 5] - cache.value[0, :, 2, 5], d) / (d @ key)
    (found,) = memory.solve([batch], direction, ridge=0.0).values()
    assert (found[:, :, 0, 0] - wanted).abs().max() < 1e-6
    with added(memory.model, {memory.name: found}):  # type: ignore[arg-type]
        assert torch.allclose(cache.compute_value()[0, :, 2, 5], batch.target[0, :, 2, 5], atol=1e-9)


def test_keys_are_whitened_uncentred(handmade: tuple[LinearMemory, ActivationCache]) -> None:
    memory, cache = handmade
    keys = memory.keys(cache).movedim(1, 3).flatten(0, 2)
    assert torch.allclose(memory.second_moment, keys.T @ keys / len(keys), atol=1e-12)
    white = keys @ memory.whitening
    assert torch.allclose(white.T @ white / len(white), torch.eye(6, dtype=torch.float64), atol=1e-4)


def test_a_plain_convolution_can_be_erased_from(handmade: tuple[LinearMemory, ActivationCache]) -> None:
    """Its inputs are the keys; a modulated one has keys of its own."""
    memory, cache = handmade
    masks = torch.zeros(4, 1, 8, 8, dtype=torch.float64)
    masks[:, :, 2:5, 3:6] = 1
    value = memory.erased_value(cache, masks, units=2)
    assert not torch.allclose(value, cache.value) and torch.equal(cache.compute_value(), cache.value)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Samples, Projector]:
    folder = tmp_path_factory.mktemp("small")
    name = generator(folder / "g")
    projector = models.load(projector_of(folder / "p", name)).requires_grad_(False)
    assert isinstance(projector, Projector)
    return Samples(models.load(name).requires_grad_(False), name), projector


def captured(small: tuple[Samples, Projector], layers: int, variants: int) -> ActivationCache:
    samples, projector = small
    memories, last = samples.model.memories(), projector.config.generator.layer
    between = memories[last - layers + 1].through(memories[last])
    return capture(samples.model, between, samples.variants(Picture(seed=3), variants))


def disc(small: tuple[Samples, Projector]) -> TrainingBatch:
    cache = captured(small, 2, 3)
    laid = torch.from_numpy(overlay(pattern(), as_mask(tuple(MASK), 32, 32, "x"))).movedim(2, 0)
    return batch_from_overlays(cache, laid.expand(4, -1, -1, -1), small[1])


def test_the_nonlinear_memory_learns_and_leaves_the_network_unchanged(small: tuple[Samples, Projector]) -> None:
    batch, settings = disc(small), Settings(steps=100, lr=0.1)
    before = {name: p.clone() for name, p in batch.cache.model.named_parameters()}
    loss = float(rewriting_loss(batch, settings))
    difference = train_memory([batch], settings)
    assert all(torch.equal(before[name], p) for name, p in batch.cache.model.named_parameters())
    short = Settings(steps=5, lr=0.1)
    once, again = train_memory([batch], short), train_memory([batch], short)
    assert all(torch.equal(once[name], again[name]) for name in once) and len(once) == 2
    with added(small[0].model, difference):
        assert float(rewriting_loss(batch, settings)) < 0.7 * loss
        pictures = batch.cache.rerun()[0]
    pasted = (batch.alpha > 0.9).expand_as(pictures)
    was, now = ((x - batch.edited).abs()[pasted].mean() for x in (batch.cache.pictures, pictures))
    assert now < 0.6 * was


@pytest.mark.parametrize("shape", [(24, 8, 3, 3), (80, 8, 1, 1)])
def test_steps_are_those_of_muon(shape: tuple[int, ...]) -> None:
    """torch.optim.Muon computes in bfloat16; with singular values over four orders of magnitude."""
    torch.manual_seed(0)
    gradient = torch.randn(shape) * torch.logspace(0, -4, shape[0])[:, None, None, None]
    weight = torch.nn.Parameter(torch.zeros_like(gradient).flatten(1))
    weight.grad = gradient.flatten(1)
    muon = torch.optim.Muon([weight], lr=5.0, weight_decay=0.0, momentum=0.0, adjust_lr_fn="match_rms_adamw")
    muon.step()
    error = (muon_step(gradient).flatten(1) + weight.detach()).norm() / weight.detach().norm()
    assert error < 0.03


def test_only_pictures_that_are_trained_on_are_projected(small: tuple[Samples, Projector]) -> None:
    """The others keep their values, and a batch without any asks for no projection."""
    cache = captured(small, 2, 2)
    laid = torch.from_numpy(overlay(pattern(), as_mask(tuple(MASK), 32, 32, "x"))).movedim(2, 0).expand(3, -1, -1, -1)
    everything = batch_from_overlays(cache, laid, small[1])
    found = torch.tensor([False, True, False])
    some = batch_from_overlays(cache, laid, small[1], found=found)
    assert torch.allclose(some.target[1], everything.target[1], atol=1e-5)
    assert torch.equal(some.target[~found], cache.value[~found])
    none = batch_from_overlays(cache, laid, None, found=torch.zeros(3, dtype=torch.bool))  # type: ignore[arg-type]
    assert torch.equal(none.target, cache.value)


def test_plain_convolutions_learn_inside_an_outer_autocast() -> None:
    """Autocast used to cache their weights in bfloat16, so that no step saw the result of the one before."""
    torch.manual_seed(0)
    network = TwoLayers().requires_grad_(False)
    inputs = torch.rand(4, 3, 16, 16) * 2 - 1
    with autocast(inputs):
        cache = capture(network, LayerRange("first", "second"), lambda: network(inputs))
        everywhere = torch.ones(4, 1, 16, 16)
        target = cache.value.float() * 0.5 + 0.2
        batch = TrainingBatch(cache, target, everywhere, target, everywhere > 0, everywhere < 0)
        before = float(rewriting_loss(batch, Settings()))
        difference = train_memory([batch], Settings(steps=300, lr=0.05))
        with added(network, difference):  # type: ignore[arg-type]
            after = float(rewriting_loss(batch, Settings()))
    assert after < 0.1 * before


def test_each_weight_scales_its_own_term_of_the_loss(small: tuple[Samples, Projector]) -> None:
    batch = disc(small)
    assert float(rewriting_loss(batch, Settings(p=0, q=0, inside=0, outside=0))) == 0
    error = (batch.cache.value - batch.target).abs().mean(1, keepdim=True)
    loss = float(rewriting_loss(batch, Settings(p=0, q=2, inside=0, outside=0), 0.5))
    assert loss == pytest.approx(float(2 * (error * batch.inside).mean() / 0.5), rel=1e-4)
    assert float(rewriting_loss(batch, Settings(p=1, q=0, inside=0, outside=0))) == 0  # nothing has changed yet
    assert float(rewriting_loss(batch, Settings(p=0, q=0, inside=0, outside=1))) == 0
    assert float(rewriting_loss(batch, Settings(p=0, q=0, inside=1, outside=0))) > 0.05


def test_erasing_and_inserting_again_restores(small: tuple[Samples, Projector]) -> None:
    model, layer = small[0].model, small[0].model.memories()[small[1].config.generator.layer]
    memory = LinearMemory([capture(model, layer, small[0].random(16, 0))])
    cache = captured(small, 1, 7)
    masks = torch.from_numpy(as_mask(tuple(MASK), 32, 32, "x")).expand(8, 1, -1, -1)
    erased = batch_from_values(cache, masks, memory.erased_value(cache, masks, units=8))
    direction = memory.directions([erased])
    without, restored = erased_and_restored(memory, erased, direction)
    lost, left = ((x - cache.pictures).abs().mean() for x in (without, restored))
    assert lost > 0.002 and left < 0.1 * lost


def erased_and_restored(
    memory: LinearMemory, erased: TrainingBatch, direction: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures after erasing, and after the old values are inserted again."""
    cache, model = erased.cache, memory.model
    with added(model, memory.solve([erased], direction)):  # type: ignore[arg-type]
        without = capture(model, cache.layers, cache.sample_fn)
        back = TrainingBatch(without, cache.pictures, erased.alpha, cache.value, erased.inside, erased.outside)
        with added(model, memory.solve([back], direction)):  # type: ignore[arg-type]
            return without.pictures, cache.sample_fn()


def test_a_place_is_found_where_it_moved(small: tuple[Samples, Projector]) -> None:
    cache, moved = captured(small, 2, 0), captured(small, 2, 0)
    moved.key = cache.key.roll(1, 3)  # a cell of the key is several pixels
    pixels = 32 // cache.key.shape[3]
    laid = torch.from_numpy(overlay(pattern(), as_mask((8, 10, 12, 12), 32, 32, "x"))).movedim(2, 0)
    finder = PlaceFinder([(cache, laid)], [cache, moved])
    here, similarity = finder(cache)
    assert similarity.item() == pytest.approx(1, abs=0.02) and (here[0, 3] - laid[3]).abs().mean() < 0.02
    there, similarity = finder(moved)
    centre = [float((x[3] * torch.arange(32)).sum() / x[3].sum()) for x in (laid, there[0])]
    assert similarity > 0.7 and centre[1] - centre[0] == pytest.approx(pixels, abs=pixels / 3)


def test_a_template_is_correlated_with_every_window(small: tuple[Samples, Projector]) -> None:
    torch.manual_seed(0)
    cache = captured(small, 2, 0)
    finder = PlaceFinder([(cache, torch.ones(4, *cache.pictures.shape[2:]))], [cache])
    maps, template = torch.randn(2, 3, 9, 12), F.normalize(torch.randn(1, 3, 4, 5).flatten(1)).view(1, 3, 4, 5)
    windows = F.unfold(maps, (4, 5))
    wanted = torch.einsum("bkn,k->bn", F.normalize(windows, dim=1), template.flatten())
    assert torch.allclose(finder._similarities(maps, template).flatten(1), wanted, atol=1e-5)


def test_two_eyes_are_two_parts() -> None:
    laid = np.zeros((32, 32, 4), np.float32)
    laid[10:14, 4:9, 3], laid[10:15, 20:26, 3] = 1, 1
    parts = connected_parts(torch.from_numpy(laid).movedim(2, 0))
    assert [int(part[3].sum()) for part in parts] == [30, 20]


def test_no_part_of_many_is_lost() -> None:
    """Specks above the main shape, and a line with many turns."""
    laid = torch.zeros(4, 32, 32)
    laid[3, 2, 1:28:3] = 1
    laid[3, 14:20, 8:24] = 1
    parts = connected_parts(laid)
    assert [int(part[3].sum()) for part in parts] == [96, 9]
    assert torch.equal(torch.stack(parts)[:, 3].sum(0), laid[3])
    snake = torch.zeros(4, 32, 32)
    snake[3, ::2] = 1
    snake[3, 1::4, -1], snake[3, 3::4, 0] = 1, 1
    assert len(connected_parts(snake)) == 1


def test_erased_eyes_come_back() -> None:
    """In the built-in generator: erasing is visible, and inserting the old values restores the pictures."""
    samples = Samples(models.load("builtin:anime").requires_grad_(False), "builtin:anime")
    layer = samples.model.memories()[6]
    memory = LinearMemory([capture(samples.model, layer, samples.random(16, 0))])
    cache = capture(samples.model, layer, samples.variants(Picture(seed=3), 5))
    masks = torch.from_numpy(as_mask((14, 28, 36, 14), 64, 64, "x")).expand(6, 1, -1, -1)
    erased = batch_from_values(cache, masks, memory.erased_value(cache, masks))
    without, restored = erased_and_restored(memory, erased, memory.directions([erased]))
    perceptual = load_perceptual("builtin", torch.device("cpu"))
    original = perceptual.features(cache.pictures)
    lost, left = (float(perceptual.distance(perceptual.features(x), original).mean()) for x in (without, restored))
    assert lost > 0.1 and left < 1e-3
