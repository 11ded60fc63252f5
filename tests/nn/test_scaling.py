"""Weights that are scaled together are those that each layer would have scaled by itself."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from kyara.models import stylegan2
from kyara.nn import layers
from kyara.nn.scaling import scaled, shared, uses


def network() -> nn.ModuleList:
    torch.manual_seed(0)
    parts = [layers.Linear(3, 4, lr=0.1), layers.Conv(2, 3, 3), layers.Conv(2, 3, 1, bias=False, gain=0.5)]
    for parameter in (found := nn.ModuleList(parts)).parameters():
        nn.init.normal_(parameter)
    return found


def values(parts: nn.ModuleList, dtype: torch.dtype) -> list[Tensor]:
    return [scaled(*use) for use in uses(parts, dtype)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_and_gradients_are_the_same_to_the_bit(dtype: torch.dtype) -> None:
    """Also of a parameter that is used in two dtypes, and of one that is frozen."""
    found = []
    for together in (True, False):
        parts = network()
        parts[1].bias.requires_grad_(False)
        both = [*uses(parts, dtype), (parts[0].weight, parts[0].weight_gain, torch.float32)]
        products = {parameter: parameter * gain for parameter, gain, _ in both}
        with shared(both if together else ()):
            used = [scaled(*use) if together else products[use[0]].to(use[2]) for use in both]
        sum((value.float() ** 2 / 3).sum() for value in used).backward()
        found.append([*used, *(parameter.grad for parameter in parts.parameters())])
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert [tensor is None for tensor in found[0]].count(True) == 1


def test_every_order_of_derivative() -> None:
    parts = network().double()
    parameters = [*parts.parameters()]

    def cubes(*given: Tensor) -> Tensor:
        del given  # the parameters, changed in place by gradcheck
        with shared(uses(parts, torch.double)):
            return sum((value**3).sum() for value in values(parts, torch.double))

    assert torch.autograd.gradcheck(cubes, parameters)
    assert torch.autograd.gradgradcheck(cubes, parameters)


class Counted(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        self.names[function.name()] += 1
        return function(*arguments, **(options or {}))


def test_the_networks_of_stylegan2_scale_all_weights_at_once() -> None:
    """One product for all layers, of every weight and bias that has a gain."""
    model = stylegan2.Model(stylegan2.PRESETS["tiny"])
    z, labels, pictures = torch.randn(2, 16), torch.zeros(2, 0, dtype=torch.long), torch.randn(2, 3, 32, 32)
    for part, given in ((model.g.mapping, (z, labels)), (model.d, (pictures,))):
        part(*given)  # fills caches
        with Counted() as counted, torch.no_grad():
            part(*given)
        assert counted.names["aten::_foreach_mul.ScalarList"] == 1
        assert counted.names["aten::mul.Tensor"] <= 1  # of z, by its norm
    ws = torch.randn(2, model.g.synthesis.layers, 16)
    with Counted() as counted, torch.no_grad():
        model.g.synthesis(ws)
    assert counted.names["aten::_foreach_mul.ScalarList"] == 1


def test_outside_nothing_is_shared() -> None:
    """A weight that has changed is scaled anew, also after an error."""
    parts = network()
    with pytest.raises(RuntimeError, match="stop"), shared(uses(parts, torch.float32)):
        raise RuntimeError("stop")
    before = values(parts, torch.float32)
    with torch.no_grad():
        for parameter in parts.parameters():
            parameter.add_(1)
    assert not any(torch.equal(a, b) for a, b in zip(before, values(parts, torch.float32), strict=True))
