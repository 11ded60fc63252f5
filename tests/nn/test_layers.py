"""Layers and losses against independent formulas, and twice differentiable."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kyara.evaluation import metrics
from kyara.evaluation.statistics import fit_gaussian
from kyara.nn import filters, layers, losses


def reference_modulated(weight: torch.Tensor, x: torch.Tensor, style: torch.Tensor, demodulate: bool) -> torch.Tensor:
    """Equations 1 and 3 of the paper as they are written: scaled weights, one group for each picture."""
    scaled = weight[None] * style[:, None, :, None, None]  # (B, out, in, k, k)
    if demodulate:
        scaled = scaled / (scaled.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
    batch, outputs, inputs, k, _ = scaled.shape
    grouped = F.conv2d(
        x.reshape(1, batch * inputs, *x.shape[2:]), scaled.reshape(batch * outputs, inputs, k, k),
        padding=k // 2, groups=batch,
    )  # fmt: skip
    return grouped.reshape(batch, outputs, *x.shape[2:])


@pytest.mark.parametrize("demodulate", [True, False])
def test_modulated_convolution_is_the_papers(demodulate: bool) -> None:
    torch.manual_seed(0)
    conv = layers.ModulatedConv(5, 7, 3, demodulate=demodulate).double()
    x, style = torch.randn(4, 5, 9, 6).double(), torch.randn(4, 5).double()
    expected = reference_modulated(conv.weight * conv.weight_gain, x, style, demodulate)
    assert torch.allclose(conv(x, style, torch.zeros(7, dtype=torch.double)), expected, atol=1e-9)


def test_upsampling_modulated_convolution_is_stuff_convolve_filter() -> None:
    torch.manual_seed(0)
    conv = layers.ModulatedConv(3, 4, 3, up=True).double()
    x, style = torch.randn(2, 3, 5, 6).double(), torch.randn(2, 3).double()
    stuffed = torch.zeros(2, 3, 10, 12).double()
    stuffed[:, :, ::2, ::2] = x
    flipped = (conv.weight * conv.weight_gain).flip(2, 3)
    wide = F.pad(stuffed, (2, 1, 2, 1))  # full convolution of the stuffed signal: 2 H + 1
    y = reference_modulated(flipped, wide, style, True)[:, :, 1:-1, 1:-1]
    kernel = torch.outer(*[torch.tensor([1.0, 3.0, 3.0, 1.0]).double() / 8] * 2) * 4
    expected = F.conv2d(y, kernel.expand(4, 1, 4, 4), padding=1, groups=4)
    assert torch.allclose(conv(x, style, torch.zeros(4).double()), expected, atol=1e-6)


def test_resampling() -> None:
    x = torch.randn(2, 3, 8, 10, dtype=torch.double)
    up = filters.upsample(x)
    expected = F.interpolate(x, scale_factor=2, mode="bilinear")
    assert torch.allclose(up[:, :, 1:-1, 1:-1], expected[:, :, 1:-1, 1:-1])
    constant = torch.ones(1, 2, 8, 8)
    assert torch.allclose(filters.downsample(constant)[:, :, 1:-1, 1:-1], torch.ones(()))
    assert filters.downsample(x).shape == (2, 3, 4, 5)
    assert filters.blur(x, pad=2).shape == (2, 3, 9, 11)
    assert filters.pad_even(torch.ones(1, 1, 3, 4)).shape == (1, 1, 4, 4)


@pytest.mark.parametrize(
    "function",
    [filters.upsample, filters.downsample, lambda x: filters.blur(x, pad=1), lambda x: filters.blur(x, pad=2)],
)
def test_filters_have_every_derivative(function: object) -> None:
    x = torch.randn(1, 2, 4, 6, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(function, x)
    assert torch.autograd.gradgradcheck(function, x)


@pytest.mark.parametrize("up", [False, True])
def test_modulated_convolution_has_second_derivatives(up: bool) -> None:
    conv = layers.ModulatedConv(2, 3, 3, up=up).double()
    x = torch.randn(1, 2, 3, 3, dtype=torch.double, requires_grad=True)
    style = torch.randn(1, 2, dtype=torch.double, requires_grad=True)
    bias, noise = torch.randn(3, dtype=torch.double), torch.randn(1, 1, 3 + 3 * up, 3 + 3 * up, dtype=torch.double)
    assert torch.autograd.gradgradcheck(lambda a, b: conv(a, b, bias, noise), (x, style))


def test_equalised_layers_keep_the_variance() -> None:
    torch.manual_seed(0)
    x = torch.randn(512, 64)
    assert layers.Linear(64, 256)(x).var().item() == pytest.approx(1, rel=0.1)
    assert layers.Linear(64, 256, lr=0.01)(x).var().item() == pytest.approx(1, rel=0.1)
    y = torch.randn(8, 32, 16, 16)
    assert layers.Conv(32, 64, 3)(y)[:, :, 1:-1, 1:-1].var().item() == pytest.approx(1, rel=0.1)
    active = layers.leaky_relu(layers.Linear(64, 256, gain=layers.ACTIVATION)(x))
    assert active.square().mean().item() == pytest.approx(1.04, rel=0.1)


def test_minibatch_deviation_against_numpy() -> None:
    x = torch.randn(6, 4, 3, 5)
    result = layers.minibatch_deviation(x, group=3)
    values = x.numpy()
    for i in range(6):
        group = values[[i % 2, i % 2 + 2, i % 2 + 4]]
        assert result[i, 4].numpy() == pytest.approx(np.sqrt(group.var(0) + 1e-8).mean(), rel=1e-4)
    assert torch.equal(result[:, :4], x)
    assert layers.minibatch_deviation(x[:5], group=4).shape == (5, 5, 3, 5)


def test_r1_of_a_linear_discriminator() -> None:
    weight = torch.randn(3, 4, 4)
    pictures = torch.randn(5, 3, 4, 4, requires_grad=True)
    penalty = losses.r1_penalty((pictures * weight).sum((1, 2, 3)), pictures)
    assert penalty.item() == pytest.approx(weight.square().sum().item(), rel=1e-5)


def test_path_length_of_a_linear_generator() -> None:
    """For pictures = A w the expected squared length is the squared Frobenius norm of A over the pixels."""
    torch.manual_seed(0)
    a, w = torch.randn(3 * 8 * 8, 6), torch.randn(4000, 1, 6, requires_grad=True)
    pictures = (w[:, 0] @ a.t()).unflatten(1, (3, 8, 8))
    lengths = losses.path_lengths(pictures, w)
    assert lengths.square().mean().item() == pytest.approx(a.square().sum().item() / 64, rel=0.05)


def test_signs_of_the_adversarial_losses() -> None:
    sure, wrong = torch.full((4,), 5.0), torch.full((4,), -5.0)
    assert losses.nonsaturating_d(sure, wrong) < 0.1 < losses.nonsaturating_d(wrong, sure)
    assert losses.nonsaturating_g(sure) < 0.1 < losses.nonsaturating_g(wrong)
    half = torch.zeros(4)
    assert losses.nonsaturating_d(half, half).item() == pytest.approx(2 * np.log(2))


def test_the_loop_s_frechet_distance_is_the_evaluation_s() -> None:
    random = np.random.RandomState(0)
    a, b = random.randn(60, 20), random.randn(50, 20) * 1.5 + 0.3
    expected = metrics.frechet(fit_gaussian(a), fit_gaussian(b))
    assert losses.frechet(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(expected, rel=1e-9)
    few, many = torch.from_numpy(a[:8]), torch.from_numpy(random.randn(9, 300))
    assert losses.frechet(few, few) == pytest.approx(0, abs=1e-9)
    assert losses.frechet(many, many) == pytest.approx(0, abs=1e-9)
    assert losses.frechet(few, few * float("nan")) == float("inf")


def test_upconv_is_repeating_and_convolving() -> None:
    torch.manual_seed(0)
    layer, x = layers.UpConv(6, 4).double(), torch.randn(2, 6, 5, 7, dtype=torch.float64, requires_grad=True)
    repeated = F.pad(F.interpolate(x, scale_factor=2), (2, 2, 2, 2), mode="replicate")
    assert torch.allclose(layer(x), F.conv2d(repeated, layer.weight, layer.bias))
    assert set(layer.state_dict()) == {"weight", "bias"} and layer.weight.shape == (4, 6, 5, 5)
    assert torch.autograd.gradgradcheck(layers.UpConv(2, 1).double(), x[:1, :2, :2, :3].detach().requires_grad_())
    assert layers.UpConv(6, 4).to(torch.bfloat16)(x.bfloat16()).dtype == torch.bfloat16


def test_least_squares() -> None:
    logits = torch.tensor([[0.5, 2.0], [-1.0, 1.0]])
    assert float(losses.least_squares(logits, 1.0)) == pytest.approx((0.25 + 1 + 4 + 0) / 4)
    assert float(losses.least_squares(logits.bfloat16(), 0.0)) == pytest.approx((0.25 + 4 + 1 + 1) / 4)
