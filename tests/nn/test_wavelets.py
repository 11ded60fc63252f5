"""The Haar transform, and StyleGAN2 on it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from kyara.models import stylegan2
from kyara.models.base import Batch
from kyara.nn.wavelets import DETAIL, haar, inverse_haar
from kyara.training.train import train
from kyara.training.trainer import Options, Trainer
from kyara.training.transfer import initialise


def model(size: tuple[int, int], wavelets: int) -> stylegan2.Model:
    torch.manual_seed(0)
    data = {"height": size[0], "width": size[1]}
    return stylegan2.Model(stylegan2.PRESETS["tiny"].replace(data=data, network={"wavelets": wavelets}))


@pytest.mark.parametrize("levels", [1, 2])
def test_the_inverse(levels: int) -> None:
    x = torch.randn(2, 3, 16, 24)
    bands = haar(x, levels)
    assert bands.shape == (2, 3 * 4**levels, 16 >> levels, 24 >> levels)
    assert torch.allclose(inverse_haar(bands, levels), x, atol=1e-6)


def test_the_bands() -> None:
    """Of one block: twice the mean, and the differences in each direction."""
    block = torch.tensor([[1.0, 2.0], [4.0, 8.0]]).expand(1, 1, 2, 2)
    expected = [7.5, DETAIL * -2.5, DETAIL * -4.5, DETAIL * 1.5]
    assert haar(block).flatten().tolist() == pytest.approx(expected)
    x = torch.randn(1, 3, 8, 8)
    orthonormal = haar(x).unflatten(1, (3, 4)) / torch.tensor([1, DETAIL, DETAIL, DETAIL])[:, None, None]
    assert orthonormal.norm() == pytest.approx(float(x.norm()), rel=1e-5)


@pytest.mark.parametrize(("size", "wavelets"), [((32, 32), 1), ((48, 24), 1), ((37, 30), 1), ((64, 32), 2)])
def test_any_size_trains(size: tuple[int, int], wavelets: int) -> None:
    trainer = Trainer(model(size, wavelets), Options(8, 8))
    for _ in range(2):
        trainer.step(Batch(torch.rand(8, 3, *size) * 2 - 1))
    assert trainer.read()["dropped"] == 0
    g_ema = trainer.model.g_ema
    assert isinstance(g_ema, stylegan2.GeneratorNet)
    assert trainer.model.sample(torch.randn(3, 16)).shape == (3, 3, *size)  # type: ignore[operator]
    assert g_ema.synthesis.blocks[-1].conv1.noise.shape[2] << wavelets >= size[0]  # type: ignore[union-attr]


def test_the_network_has_the_levels_of_half_the_size() -> None:
    assert model((32, 32), 1).config.levels == model((16, 16), 0).config.levels


def test_gradients_reach_every_band() -> None:
    """Also through R1, which differentiates twice."""
    net = model((32, 32), 1)
    real = (torch.rand(4, 3, 32, 32) * 2 - 1).requires_grad_()
    (gradient,) = torch.autograd.grad(net.d(real).sum(), real, create_graph=True)
    gradient.square().sum().backward()
    assert net.d.from_rgb.weight.grad is not None and net.d.from_rgb.weight.grad.abs().sum((0, 2, 3)).min() > 0


def test_a_smaller_network_grows() -> None:
    """The larger one starts with all of its layers; only the new level is fresh."""
    small, large = model((16, 16), 1), model((32, 32), 1)
    fresh, unused = initialise(large, small)
    assert fresh == ["d.blocks.1.conv0", "d.blocks.1.conv1", "d.blocks.1.skip", "g.synthesis.blocks.2"]
    assert unused == []

    def weight(net: stylegan2.Model) -> Tensor:
        return net.g.synthesis.blocks[1].to_rgb.conv.weight  # type: ignore[union-attr,return-value]

    assert torch.equal(weight(small), weight(large))


@pytest.mark.parametrize(("levels", "more"), [(0, 1), (1, 1), (0, 2)])
def test_a_network_grows_by_levels_of_wavelets(levels: int, more: int) -> None:
    """It starts with about the pictures of the smaller one, enlarged, and with the same logits."""
    small, times = model((16, 16), levels), 2**more
    with torch.no_grad():
        for parameter in small.parameters():  # also those that start at 0
            parameter.add_(torch.randn_like(parameter) * 0.1)
    small.g_ema.load_state_dict(small.g.state_dict())
    large = model((16 * times, 16 * times), levels + more)
    assert initialise(large, small) == ([], [])

    def enlarged(x: Tensor) -> Tensor:
        return x.repeat_interleave(times, 2).repeat_interleave(times, 3)

    real = torch.rand(4, 3, 16, 16) * 2 - 1
    assert torch.allclose(large.d(enlarged(real)), small.d(real), atol=1e-4)
    noise = torch.randn(4, 3, 16 * times, 16 * times)
    noise -= enlarged(avg_pool2d(noise, times))  # so that only details differ, which it cannot see yet
    assert torch.allclose(large.d(enlarged(real) + noise), small.d(real), atol=1e-4)

    z = torch.randn(4, 16)
    one, other = small.sample(z), avg_pool2d(large.sample(z), times)
    assert torch.corrcoef(torch.stack([other.flatten(), one.flatten()]))[0, 1] > 0.9
    assert float(other.std() / one.std()) == pytest.approx(1, abs=0.4)
    block = large.g_ema.synthesis.blocks[0]  # of one block alone, exactly
    x, w = torch.randn(2, block.to_rgb.conv.weight.shape[1], 4, 4), torch.randn(2, 16)  # type: ignore[union-attr]
    pictures = [net.g_ema.synthesis.blocks[0].to_rgb(x, w) for net in (small, large)]  # type: ignore[union-attr,operator]
    assert torch.allclose(enlarged(pictures[0]), pictures[1], atol=1e-4)


def test_layers_of_other_widths_begin_at_random() -> None:
    data = {"height": 32, "width": 32}
    wider = stylegan2.PRESETS["tiny"].replace(data=data, network={"wavelets": 1, "channel_max": 8})
    fresh, _ = initialise(stylegan2.Model(wider), model((16, 16), 0))
    assert any("from_rgb" in name for name in fresh)


def test_bands_are_copied_only_for_the_size_that_they_belong_to() -> None:
    fresh, _ = initialise(model((32, 32), 1), model((32, 32), 0))
    assert "d.from_rgb.weight" in fresh and any("to_rgb" in name or "blocks.0" in name for name in fresh)


def test_a_run_with_wavelets(faces: Path, tmp_path: Path) -> None:
    options = {"preset": "tiny", "workers": 0, "set": "network.wavelets=1", "snap": 0.016}
    assert train("stylegan2", faces, out=tmp_path / "run", kimg=0.016, **options).finished  # type: ignore[arg-type]
