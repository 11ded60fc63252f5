"""The fused epilogue on a GPU, against the operations that it replaces. Skipped without one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kyara.models import stylegan2
from kyara.models.base import Batch
from kyara.nn import epilogue, layers

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    pytest.mark.skipif(not epilogue.HAS_TRITON, reason="Triton is not installed"),
]
SIZES = {"one tile": (4, 4), "several tiles": (9, 14), "several parts": (40, 33)}


def inputs(channels: int, size: tuple[int, int], dtype: torch.dtype, noises: int) -> list[Tensor | None]:
    """x, bias, scale, noise, strength; without noises the bias alone."""
    random = torch.Generator().manual_seed(0)
    shapes: list[tuple[int, ...]] = [(2, channels, *size), (channels,), (2, channels), (noises, 1, *size), ()]
    found: list[Tensor | None] = [torch.randn(shape, generator=random) for shape in shapes]
    assert found[0] is not None
    found[0] = found[0].to(dtype)
    return found if noises else [*found[:2], None, None, None]


def derivatives(given: list[Tensor | None], device: str, double: bool) -> list[Tensor]:
    """The value, its derivatives and theirs."""
    placed = [None if t is None else (t.double() if double else t).to(device) for t in given]
    values = [t if t is None else t.requires_grad_(i != 3) for i, t in enumerate(placed)]
    variables = [value for value in values if value is not None and value.requires_grad]
    y = epilogue.bias_leaky_relu(*values, 1.3)  # type: ignore[arg-type]
    first = torch.autograd.grad(y.double().square().mean(), variables, create_graph=True)
    second = torch.autograd.grad(sum(value.double().square().sum() for value in first), variables)
    return [tensor.detach().double().cpu() for tensor in (y, *first, *second)]


@pytest.mark.parametrize("noises", [0, 1, 2])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3, 64, 130])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_value_and_derivatives(dtype: torch.dtype, channels: int, size: str, noises: int) -> None:
    """In float64 the function does not use the kernels."""
    given = inputs(channels, SIZES[size], dtype, noises)
    found, expected = derivatives(given, "cuda", False), derivatives(given, "cpu", True)
    tolerance = 1e-4 if dtype == torch.float32 else 2**-5
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert torch.allclose(a, b, rtol=tolerance, atol=tolerance * max(1e-3, float(b.abs().max())))


def test_maps_are_channels_last() -> None:
    x, bias = torch.randn(2, 8, 5, 6, device="cuda").contiguous(), torch.zeros(8, device="cuda")
    y = epilogue.bias_leaky_relu(x, bias)
    assert y.is_contiguous(memory_format=torch.channels_last) and torch.allclose(y, layers.leaky_relu(x))


@pytest.mark.parametrize("phase", ["d", "d_reg", "g", "g_reg"])
def test_the_losses_of_stylegan2_are_the_same(phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    found = []
    for fused in (False, True):
        monkeypatch.setattr(layers, "fuses", lambda x, fused=fused: fused)
        torch.manual_seed(0)
        model = stylegan2.Model(stylegan2.PRESETS["tiny"]).cuda()
        for name, parameter in model.named_parameters():
            if name.endswith(("bias", "noise_strength")):
                torch.nn.init.normal_(parameter)
        (loss,) = model.losses(phase, Batch(torch.rand(4, 3, 32, 32, device="cuda") * 2 - 1)).values()
        weights = [*model.players()[phase[0]].parameters()]
        found.append([loss, *torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)])
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-2, atol=1e-3 * max(1.0, float(a.detach().abs().max())))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one CUDA device")
def test_on_a_device_that_is_not_the_current_one() -> None:
    x, bias = torch.randn(2, 8, 5, 6, device="cuda:1"), torch.randn(8, device="cuda:1")
    found, expected = epilogue.bias_leaky_relu(x, bias), layers.leaky_relu(x + bias[:, None, None])
    assert found.device == x.device and torch.allclose(found, expected, atol=1e-6)
