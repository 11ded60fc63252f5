"""The sampler: a seed's picture depends on nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kyara import models
from kyara.generation.sampler import BATCH, batch_size, sample, sample_seeds, shot_latents, slerp, synthesise
from kyara.models import stylegan2
from kyara.models.base import Generator, StyledGenerator, latents

SIZES: dict[str, dict[str, Any]] = {
    "dcgan": {"data": {"width": 16, "height": 24}, "network": {"z_dim": 8, "channels": 12}},
    "stylegan2": {
        "data": {"width": 16, "height": 24},
        "network": {"z_dim": 8, "w_dim": 8, "mapping_layers": 1, "channel_base": 128, "channel_max": 16},
    },
}


def test_slerp_keeps_the_length_and_the_ends() -> None:
    a, b = latents([3, 8], 512)
    torch.testing.assert_close(slerp(a, b, 0.0), a, rtol=0, atol=0)
    torch.testing.assert_close(slerp(a, b, 1.0), b, rtol=0, atol=0)
    assert slerp(a, b, 0.5).norm() > 0.98 * min(a.norm(), b.norm())
    assert (a + b).div(2).norm() < 0.8 * a.norm()


def test_latents_are_those_of_the_seeds() -> None:
    torch.testing.assert_close(shot_latents([{"seed": 4}], 8), latents([4], 8), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["dcgan", "stylegan2"])
def test_seeds_are_sampled_in_batches_of_one_size(name: str) -> None:
    torch.manual_seed(0)
    generator = models.build(name, SIZES[name]).eval()
    assert isinstance(generator, Generator)
    whole = sample(generator, latents(range(20), 8), truncation=0.8)
    assert torch.equal(whole[3:4], sample(generator, latents([3], 8), truncation=0.8))
    assert torch.equal(whole, torch.cat([made for made, _ in sample_seeds(generator, range(20), truncation=0.8)]))
    assert torch.equal(whole.flip(3), sample(generator, latents(range(20), 8), truncation=0.8, mirror=True))


def test_styles_are_synthesised_one_at_a_time() -> None:
    torch.manual_seed(0)
    generator = models.build("stylegan2", SIZES["stylegan2"]).eval()
    assert isinstance(generator, StyledGenerator)
    ws = generator.styles(latents(range(5), 8))
    pictures = synthesise(generator, ws)
    assert pictures.shape == (5, 3, 24, 16)
    assert torch.equal(pictures[3:4], synthesise(generator, ws[3:4]))


def test_the_batch_size_is_constant_and_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    generator = models.build("dcgan", SIZES["dcgan"]).eval()
    assert isinstance(generator, Generator) and batch_size(generator) == BATCH
    make, sizes = generator.sample, []

    def watched(z: Tensor, **options: Any) -> Tensor:
        sizes.append(len(z))
        return make(z, **options)

    monkeypatch.setattr(generator, "sample", watched)
    pictures = sample(generator, latents(range(5), 8), batch=3)
    assert sizes == [3, 3] and len(pictures) == 5
    assert torch.equal(pictures[4:], sample(generator, latents([4], 8), batch=3))


def test_the_mean_style_of_labels_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For each combination of labels, until the weights change; anew outside inference mode, for its gradients."""
    torch.manual_seed(0)
    data = {**SIZES["stylegan2"]["data"], "attributes": {"hair": ("black", "blonde")}}
    generator = models.build("stylegan2", {**SIZES["stylegan2"], "data": data}).eval()
    assert isinstance(generator, StyledGenerator)
    rows, mapped = [], generator.g_ema.mapped

    def watched(z: Tensor, labels: Tensor) -> Tensor:
        if len(z) == stylegan2.MEAN_SAMPLES:
            rows.append(int(labels[0, 0]))
        return mapped(z, labels)

    monkeypatch.setattr(generator.g_ema, "mapped", watched)
    z, labels = latents(range(4), 8), {"hair": torch.tensor([0, 1, 1, 0])}
    first = sample(generator, z, labels, truncation=0.5, batch=2)
    assert rows == [0, 1]
    assert torch.equal(first, sample(generator, z, labels, truncation=0.5, batch=2)) and rows == [0, 1]
    generator.g_ema._kept.clear()
    assert torch.equal(first, sample(generator, z, labels, truncation=0.5, batch=2)) and rows == [0, 1] * 2
    with torch.no_grad():
        generator.g_ema.mapping.labels.rows.normal_()
    assert not torch.equal(first, sample(generator, z, labels, truncation=0.5, batch=2)) and rows == [0, 1] * 3
    assert not generator.mean_w(1, {"hair": torch.tensor([1])}).is_inference()
