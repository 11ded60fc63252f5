"""A cache gives, to the bit, what the whole network computes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from kyara import models
from kyara.models.base import Model
from kyara.nn.activations import ActivationCache, LayerRange, SampleFn, capture, replace_output

KINDS = ("stylegan2", "munit", "inpainting")


def network(kind: str) -> tuple[Model, SampleFn]:
    """A small one with random weights, and a function that makes four pictures with it."""
    torch.manual_seed(0)
    cls = models.architecture(kind)
    model = cls(cls.presets["tiny"]).eval().requires_grad_(False)
    return model, model.sample_fn(4, torch.rand(4, 3, 32, 32) * 2 - 1)


def ranges() -> Iterator[tuple[str, int, int]]:
    for kind in KINDS:
        count = len(network(kind)[0].memories())
        yield from ((kind, first, last) for last in range(count) for first in range(max(last - 2, 0), last + 1))


def captured(kind: str, first: int, last: int) -> ActivationCache:
    model, sample_fn = network(kind)
    return capture(model, model.memories()[first].through(model.memories()[last]), sample_fn)


@pytest.mark.parametrize(("kind", "first", "last"), list(ranges()))
def test_parts_equal_the_whole(kind: str, first: int, last: int) -> None:
    cache = captured(kind, first, last)
    whole = cache.sample_fn()
    assert torch.equal(cache.pictures, whole)
    for _ in range(2):  # the cache is neither used up nor changed in place
        assert torch.equal(cache.compute_value(), cache.value)
        assert torch.equal(cache.decode(cache.value), whole)
        pictures, value = cache.rerun()
        assert torch.equal(pictures, whole) and torch.equal(value, cache.value)
    assert torch.equal(cache.sample_fn(), whole), "a hook was left in the network"


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_memory_and_the_value(kind: str) -> None:
    last = len(network(kind)[0].memories()) - 1
    cache = captured(kind, last - 1, last)
    kernels = cache.kernels()
    assert kernels and all(w.ndim == 4 and not w.requires_grad for w in kernels.values())
    for weight in kernels.values():
        weight.requires_grad_(True)
    cache.rerun()[0].square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in kernels.values())
    value = cache.value.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(cache.decode(value).square().sum(), value)
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_memory_is_computed_again(kind: str) -> None:
    """Weights before the memory no longer matter; those in it do."""
    last = len(network(kind)[0].memories()) - 1
    cache = captured(kind, last, last)
    inside = cache.kernels()
    before = [p for name, p in cache.model.named_parameters() if p.ndim == 4 and name not in inside]
    before[0].data.add_(1.0)
    assert torch.equal(cache.compute_value(), cache.value)
    next(iter(inside.values())).data.mul_(2.0).add_(0.1)
    assert not torch.equal(cache.compute_value(), cache.value)


def test_replacing_leaves_no_hooks() -> None:
    model, sample_fn = network("stylegan2")
    name = model.memories()[1].last
    whole = sample_fn()
    with replace_output(model, name, torch.zeros_like):
        assert not torch.equal(sample_fn(), whole)
    with replace_output(model, name, lambda x: x):
        assert torch.equal(sample_fn(), whole)
    assert torch.equal(sample_fn(), whole)
    with pytest.raises(KeyError, match="nowhere: no such module; there are g"), replace_output(model, "nowhere", abs):
        pass


def test_a_layer_that_runs_several_times_is_no_memory() -> None:
    model, _ = network("inpainting")
    pictures, holes = torch.zeros(1, 3, 32, 32), torch.ones(1, 1, 32, 32, dtype=torch.bool)
    layers = LayerRange("g_ema.reason.close.0", "g_ema.reason.close.0")
    with pytest.raises(RuntimeError, match="once"):
        capture(model, layers, lambda: model.fill(pictures, holes))


def test_an_error_leaves_no_hooks() -> None:
    cache = captured("stylegan2", 2, 3)
    whole = cache.sample_fn()
    wrong = torch.zeros(4, 1, 3, 3)
    with pytest.raises(RuntimeError):
        cache.decode(wrong)
    assert torch.equal(cache.sample_fn(), whole)
    assert all("forward" not in module.__dict__ for module in cache.model.modules() if isinstance(module, nn.Module))
