"""Networks cut open: what was remembered is, to the bit, what would have been computed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from kyara import models
from kyara.models.base import Model
from kyara.nn.activations import ActivationCache, Cut, LayerRange, SampleFn, reading, replacing

KINDS = ("stylegan2", "munit", "inpainting")


def network(kind: str) -> tuple[Model, SampleFn]:
    """A small one with random weights, and what makes four pictures by it."""
    torch.manual_seed(0)
    cls = models.architecture(kind)
    model = cls(cls.presets["tiny"]).eval().requires_grad_(False)
    return model, model.sample_fn(4, torch.rand(4, 3, 32, 32) * 2 - 1)


def cuts() -> Iterator[tuple[str, int, int]]:
    for kind in KINDS:
        count = len(network(kind)[0].memories())
        yield from ((kind, first, last) for last in range(count) for first in range(max(last - 2, 0), last + 1))


def opened(kind: str, first: int, last: int) -> ActivationCache:
    model, make = network(kind)
    return Cut(model, model.memories()[first], model.memories()[last]).open(make)


@pytest.mark.parametrize(("kind", "first", "last"), list(cuts()))
def test_the_parts_are_the_whole(kind: str, first: int, last: int) -> None:
    host = opened(kind, first, last)
    whole = host.make()
    assert torch.equal(host.picture, whole)
    for _ in range(2):  # what is remembered is not used up, nor changed in place
        assert torch.equal(host.remember(), host.value)
        assert torch.equal(host.decode(host.value), whole)
        picture, value = host.redraw()
        assert torch.equal(picture, whole) and torch.equal(value, host.value)
    assert torch.equal(host.make(), whole), "something was left in the network"


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_memory_and_the_value(kind: str) -> None:
    last = len(network(kind)[0].memories()) - 1
    host = opened(kind, last - 1, last)
    weights = host.cut.weights(host)
    assert weights and all(w.ndim == 4 and not w.requires_grad for w in weights.values())
    for weight in weights.values():
        weight.requires_grad_(True)
    host.redraw()[0].square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in weights.values())
    value = host.value.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(host.decode(value).square().sum(), value)
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_memory_is_computed_again(kind: str) -> None:
    """Weights before the memory no longer matter; those in it do."""
    last = len(network(kind)[0].memories()) - 1
    host = opened(kind, last, last)
    inside = host.cut.weights(host)
    before = [p for name, p in host.cut.model.named_parameters() if p.ndim == 4 and name not in inside]
    first = next(p for p in before if "constant" not in str(p.shape))
    first.data.add_(1.0)
    assert torch.equal(host.remember(), host.value)
    next(iter(inside.values())).data.mul_(2.0).add_(0.1)
    assert not torch.equal(host.remember(), host.value)


def test_reading_and_replacing_leave_nothing_behind() -> None:
    model, make = network("stylegan2")
    name = model.memories()[1].last
    whole = make()
    with reading(model, name) as seen:
        make()
    assert seen[name].shape[0] == 4
    with replacing(model, {name: torch.zeros_like}):
        assert not torch.equal(make(), whole)
    with replacing(model, {name: lambda x: x}):
        assert torch.equal(make(), whole)
    assert torch.equal(make(), whole)
    with pytest.raises(KeyError, match="nowhere: no such module; there are g"), reading(model, "nowhere"):
        pass


def test_a_layer_used_in_every_round_is_no_memory() -> None:
    model, _ = network("inpainting")
    pictures, holes = torch.zeros(1, 3, 32, 32), torch.ones(1, 1, 32, 32, dtype=torch.bool)
    span = LayerRange("g_ema.reason.close.0", "g_ema.reason.close.0")
    with pytest.raises(RuntimeError, match="once"):
        Cut(model, span, span).open(lambda: model.fill(pictures, holes))


def test_an_error_leaves_nothing_behind() -> None:
    host = opened("stylegan2", 2, 3)
    whole = host.make()
    wrong = torch.zeros(4, 1, 3, 3)
    with pytest.raises(RuntimeError):
        host.decode(wrong)
    assert torch.equal(host.make(), whole)
    assert all("forward" not in module.__dict__ for module in host.cut.model.modules() if isinstance(module, nn.Module))
