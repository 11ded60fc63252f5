"""The fused epilogue against the operations that it replaces, with its derivatives of both orders."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.models import stylegan2
from kyara.models.base import Batch
from kyara.nn import epilogue, layers

INPUTS = {"bias": ("bias",), "scale": ("bias", "scale"), "noise": ("bias", "scale", "noise", "strength")}


def given(*names: str, one_noise: bool = False) -> dict[str, Tensor]:
    """x and the inputs of these names."""
    torch.manual_seed(0)
    shapes = {"x": (2, 3, 4, 5), "bias": (3,), "scale": (2, 3), "noise": (2 - one_noise, 1, 4, 5), "strength": ()}
    return {name: torch.randn(shapes[name], dtype=torch.float64) for name in ("x", *names)}


def plain(
    x: Tensor,
    bias: Tensor,
    scale: Tensor | None = None,
    noise: Tensor | None = None,
    strength: Tensor | None = None,
    gain: float = 1.0,
) -> Tensor:
    x = x if scale is None else x * scale[:, :, None, None]
    x = x if noise is None or strength is None else x + noise * strength
    return F.leaky_relu(x * gain + bias[:, None, None], 0.2)


@pytest.mark.parametrize("one_noise", [False, True])
@pytest.mark.parametrize("inputs", INPUTS)
def test_value_and_derivatives(inputs: str, one_noise: bool) -> None:
    tensors = given(*INPUTS[inputs], one_noise=one_noise)
    variables = [tensor.requires_grad_() for name, tensor in tensors.items() if name != "noise"]

    def call(*values: Tensor) -> Tensor:
        rest = iter(values)
        named = {name: tensors["noise"] if name == "noise" else next(rest) for name in tensors}
        return epilogue.bias_leaky_relu(**named, gain=1.3)

    assert torch.allclose(call(*variables), plain(**tensors, gain=1.3), atol=1e-12)
    assert torch.autograd.gradcheck(call, variables)
    assert torch.autograd.gradgradcheck(call, variables)


def test_a_second_derivative_by_one_input_alone() -> None:
    """As in a penalty on the gradient of the scale: none comes to the gradients of the others."""
    found = []
    for function in (epilogue.bias_leaky_relu, plain):
        tensors = {name: tensor.requires_grad_(name != "noise") for name, tensor in given(*INPUTS["noise"]).items()}
        y = function(**tensors, gain=0.7)
        (first,) = torch.autograd.grad(y.square().sum(), tensors["scale"], create_graph=True)
        variables = [tensor for tensor in tensors.values() if tensor.requires_grad]
        found.append(torch.autograd.grad(first.square().sum(), variables))
    assert all(torch.allclose(a, b) for a, b in zip(*found, strict=True))


def test_bfloat16_is_rounded_once() -> None:
    tensors = {name: tensor.float() for name, tensor in given(*INPUTS["noise"]).items()}
    tensors["x"] = tensors["x"].bfloat16()
    y = epilogue.bias_leaky_relu(**tensors, gain=1.3)
    exact = {**tensors, "x": tensors["x"].float()}
    assert y.dtype == torch.bfloat16 and torch.allclose(y.float(), plain(**exact, gain=1.3), rtol=2**-8)


def outcome(phase: str) -> list[Tensor]:
    """A loss of StyleGAN2 in float32, and its gradients."""
    torch.manual_seed(0)
    model = stylegan2.Model(stylegan2.PRESETS["tiny"])
    for name, parameter in model.named_parameters():
        if name.endswith(("bias", "noise_strength")):
            torch.nn.init.normal_(parameter)
    (loss,) = model.losses(phase, Batch(torch.rand(4, 3, 32, 32) * 2 - 1)).values()
    player = model.players()[phase[0]]
    return [loss, *torch.autograd.grad(loss, [*player.parameters()], allow_unused=True, materialize_grads=True)]


@pytest.mark.parametrize("phase", ["d", "d_reg", "g", "g_reg"])
def test_the_losses_of_stylegan2_are_the_same(phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """R1 and path lengths differentiate twice."""
    expected, calls = outcome(phase), []
    epilogue_ = epilogue.bias_leaky_relu
    monkeypatch.setattr(layers, "fuses", lambda x: True)
    monkeypatch.setattr(layers, "bias_leaky_relu", lambda *inputs: calls.append(inputs) or epilogue_(*inputs))
    found = outcome(phase)
    assert calls and any(tensor.any() for tensor in expected[1:])
    for a, b in zip(expected, found, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5 * max(1.0, float(a.detach().abs().max())))


def test_noise_that_is_optimised_has_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "fuses", lambda x: True)
    conv, noise = layers.ModulatedConv(2, 3, 3, active=True), torch.randn(1, 1, 4, 4, requires_grad=True)
    conv(torch.randn(2, 2, 4, 4), torch.randn(2, 2), torch.zeros(3), noise, torch.ones(())).sum().backward()
    assert noise.grad is not None and noise.grad.all()


INTERPRETED = """
import itertools
import torch
from kyara.nn import epilogue, fused_epilogue

def close(a, b, tolerance):
    assert a.shape == b.shape and a.dtype == b.dtype
    assert torch.allclose(a.float(), b.float(), rtol=tolerance, atol=tolerance)

for dtype, channels, size in ((torch.float32, 3, (20, 15)), (torch.bfloat16, 20, (3, 5)), (torch.float32, 130, (5, 4))):
    tolerance = 2**-7 if dtype == torch.bfloat16 else 2e-5
    x, other, active = (torch.randn(2, channels, *size).to(dtype) for _ in range(3))
    shapes = (2, channels), (2, channels), (channels,), ()
    scale, other_scale, bias, strength = (torch.randn(shape) for shape in shapes)
    for count, scaled, more, masked in ((0, 0, 0, 0), (1, 1, 0, 0), (2, 1, 1, 1)):
        noise = torch.randn(count, 1, *size) if count else None
        inputs = (x, scale if scaled else None, other if more else None, other_scale if more else None, noise,
                  strength if count else None, bias, active if masked else None, 1.3)
        close(fused_epilogue.forward(*inputs), epilogue.forward(*inputs), tolerance)
        inputs = x, active, scale if scaled else None, other if scaled else None, noise, 1.3
        found, expected = fused_epilogue.backward(*inputs), epilogue.backward(*inputs)
        close(found[0], expected[0], tolerance)
        close(found[1].sum(1), expected[1].sum(1), 2e-4)

# Both derivatives with the kernels, against those with operations of PyTorch.
inputs = [torch.randn(shape) for shape in ((2, 5, 3, 3), (5,), (2, 5), (2, 1, 3, 3), ())]
results = []
for fused in (True, False):
    epilogue.fused_epilogue, epilogue._is_fused = fused_epilogue, lambda x: fused
    values = [value.clone().requires_grad_(i != 3) for i, value in enumerate(inputs)]
    variables = values[:3] + values[4:]
    y = epilogue.bias_leaky_relu(*values, 1.3)
    first = torch.autograd.grad(y.square().sum(), variables, create_graph=True)
    second = torch.autograd.grad(sum(value.square().sum() for value in first), variables)
    results.append([y, *first, *second])
for a, b in zip(*results):
    close(a, b, 1e-3)
"""


def test_the_triton_kernels_interpreted() -> None:
    """Without a GPU, where Triton is installed."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed")
    environment: dict[str, Any] = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", INTERPRETED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
