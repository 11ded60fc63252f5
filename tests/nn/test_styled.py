"""Modulated layers and the decoder of translators."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from kyara.nn.layers import ACTIVATION, FromRGB, group_deviation, grouped, minibatch_deviation
from kyara.nn.styled import ModulatedLayer, StyledBlock, StyledDecoder
from kyara.nn.wavelets import haar


def test_a_modulated_layer_is_its_equations() -> None:
    """Karras et al. 2020, equations 1 and 3, with weights of each picture."""
    torch.manual_seed(0)
    layer = ModulatedLayer(5, 4, 3, 6, gain=ACTIVATION, active=True)
    torch.nn.init.normal_(layer.bias)
    x, w = torch.randn(3, 5, 8, 7), torch.randn(3, 6)
    made = layer(x, w)
    for i in range(3):
        weight = layer.conv.weight * layer.conv.weight_gain * layer.affine(w[i : i + 1])[0][None, :, None, None]
        weight = weight * (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).rsqrt()
        expected = F.conv2d(x[i : i + 1], weight, padding=1) + layer.bias[:, None, None]
        assert torch.allclose(made[i : i + 1], F.leaky_relu(expected * ACTIVATION, 0.2), atol=1e-4)


@pytest.mark.parametrize("up", [False, True])
def test_a_block_preserves_the_variance(up: bool) -> None:
    torch.manual_seed(0)
    block = StyledBlock(64, 64, 8, up=up)
    made = block(torch.randn(4, 64, 16, 16), torch.randn(4, 8))
    assert made.shape == (4, 64, 32, 32) if up else (4, 64, 16, 16)
    least = 0.3 if up else 0.7  # the low-pass filter removes most of white noise
    assert least < float(made.detach().square().mean()) < 1.3


@pytest.mark.parametrize("wavelets", [0, 1])
def test_a_decoder_makes_pictures_of_any_size(wavelets: int) -> None:
    torch.manual_seed(0)
    decoder = StyledDecoder(3, [16, 8], 4, blocks=1, wavelets=wavelets)
    maps, w = torch.randn(2, 3, 5, 7), torch.randn(2, 4)
    made = decoder(maps, w)
    assert made.shape == (2, 3, 10 << wavelets, 14 << wavelets)
    assert torch.allclose(decoder(maps[1:], w[1:]), made[1:], atol=1e-5)
    assert not torch.allclose(decoder(maps, w.flip(0)), made, atol=1e-2)
    if wavelets:  # nothing but the means of 2x2 pixels at first
        assert torch.allclose(made, F.interpolate(F.avg_pool2d(made, 2), scale_factor=2), atol=1e-5)


def test_the_first_layer_sees_wavelets() -> None:
    torch.manual_seed(0)
    layer, pictures = FromRGB(4, wavelets=1), torch.rand(2, 3, 5, 8)
    padded = torch.cat([pictures, pictures[:, :, -1:]], 2)
    assert torch.allclose(layer(pictures, torch.float32), layer.conv(haar(padded)), atol=1e-6)
    assert FromRGB(4)(pictures, torch.float32).shape == (2, 4, 5, 8)


def test_groups() -> None:
    x = torch.arange(6.0)[:, None]
    assert grouped(x, 3)[:, 0, 0].tolist() == [0, 2, 4]
    assert grouped(x, 4).shape == (3, 2, 1)  # the largest group that divides the batch
    assert torch.allclose(group_deviation(x, 3), torch.tensor([[(8 / 3) ** 0.5]]).expand(2, 1))
    maps = torch.randn(6, 2, 3, 3)
    added = minibatch_deviation(maps, 3)[:, 2]
    by_hand = torch.stack([maps[i::2].std(0, correction=0).mean() for i in (0, 1)]).repeat(3)
    assert torch.allclose(added, by_hand[:, None, None].expand(-1, 3, 3), atol=1e-5)
