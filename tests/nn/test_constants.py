"""Cached tensors, also while PyTorch traces a graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kyara.nn.constants import constant
from kyara.nn.filters import blur
from kyara.nn.wavelets import haar


class Uses(nn.Module):
    """Constants that nothing else uses: they are not in the cache yet."""

    def forward(self, x: Tensor) -> Tensor:
        return haar(blur(x, pad=2, gain=1.375)) * constant((0.125, 7.625), x)[0]


def test_a_constant_is_made_once() -> None:
    x = torch.zeros(1)
    assert constant((1.0, 2.5), x) is constant([1.0, 2.5], x)
    with torch.inference_mode():
        assert not constant((3.0, 9.25), x).is_inference()


def test_tracing_with_an_empty_cache_leaves_it_usable() -> None:
    x, network = torch.randn(2, 11, 9, 9), Uses()
    program = torch.export.export(network, (x,), strict=False)
    found = network(x)
    assert type(found) is Tensor
    assert torch.allclose(program.module()(x), found, atol=1e-6)
