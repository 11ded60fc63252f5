"""Discriminators on the maps of fixed networks, and generators that grow."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from kyara import models
from kyara.models import stylegan2
from kyara.models.base import Batch, latents
from kyara.models.stylegan2.towers import MIXED, seen
from kyara.training.train import train
from kyara.training.trainer import Options, Trainer
from kyara.training.transfer import initialise

LABELS = {"hair": ("black", "pink")}
TINY: dict[str, Any] = {"preset": "tiny", "size": "32", "batch": 8, "workers": 0, "precision": "32"}


def model(size: int = 32, labels: dict[str, Any] | None = None, **network: Any) -> stylegan2.Model:
    torch.manual_seed(0)
    data = {"width": size, "height": size, "attributes": labels or {}}
    return stylegan2.Model(stylegan2.PRESETS["tiny"].replace(data=data, network=network))


@pytest.mark.parametrize(("shape", "maps"), [((32, 32), [(8, 8), (4, 4)]), ((100, 68), [(25, 17), (12, 8), (6, 4)])])
def test_the_maps_of_all_networks_with_one_stride_are_mixed(
    shape: tuple[int, int], maps: list[tuple[int, int]]
) -> None:
    pictures = torch.rand(2, 3, *shape) * 2 - 1
    found = seen("builtin", pictures, torch.float32)
    assert [x.shape for x in found] == [(2, MIXED, *cells) for cells in maps]
    for x in found:
        assert torch.allclose(x.square().mean(1), torch.ones(()), atol=1e-3)
    other = seen("builtin", pictures.flip(0), torch.float32)
    assert all(torch.allclose(a, b.flip(0), atol=1e-4) for a, b in zip(found, other, strict=True))
    assert seen("", pictures, torch.float32) == []


def test_every_stage_adds_its_losses() -> None:
    torch.manual_seed(1)
    batch = Batch(torch.rand(4, 3, 32, 32) * 2 - 1)
    found = []
    for features in ("", "builtin"):
        net = model(features=features)
        for stage in net.d.stages:
            torch.nn.init.zeros_(stage.output.weight)  # type: ignore[arg-type,union-attr]
        torch.manual_seed(2)
        found.append((net.losses("d", batch)["d"].item(), net.losses("d_reg", batch)["d_reg"].item()))
    (alone, r1), (loss, penalty) = found
    assert loss == pytest.approx(alone + 2 * 2 * math.log(2), rel=1e-5)  # two strides, logits of 0
    assert penalty == pytest.approx(r1, rel=1e-4)


def test_the_penalty_of_a_stage_is_on_its_maps() -> None:
    net = model(features="builtin")
    batch = Batch(torch.rand(4, 3, 32, 32) * 2 - 1)
    stage, expected = net.d.stages[0], torch.zeros(())
    others = [net.d, net.d.stages[1]]
    for other in others:
        torch.nn.init.zeros_(other.output.weight)  # type: ignore[arg-type,union-attr]
    maps = net.d.maps(batch.real)[0].requires_grad_(True)
    logits = stage.output(stage(maps, torch.float32))  # type: ignore[operator,union-attr]
    (gradient,) = torch.autograd.grad(logits.sum(), maps)
    losses = net.config.losses
    expected = gradient.square().sum((1, 2, 3)).mean() * losses.r1_gamma / 2 * losses.r1_interval
    assert net.losses("d_reg", batch)["d_reg"].item() == pytest.approx(expected.item(), rel=1e-3)


def test_the_generator_learns_from_the_stages_alone() -> None:
    net = model(features="builtin", labels=LABELS)
    torch.nn.init.zeros_(net.d.output.weight)
    batch = Batch(torch.rand(4, 3, 32, 32) * 2 - 1, {"hair": torch.tensor([0, 1, 0, 1])})
    net.losses("g", batch)["g"].backward()
    gradient = net.g.synthesis.blocks[-1].conv1.conv.weight.grad  # type: ignore[union-attr]
    assert gradient is not None and gradient.abs().sum() > 0


def test_the_fixed_networks_are_neither_trained_nor_stored() -> None:
    net = model(features="builtin")
    assert {name.split(".")[1] for name in net.state_dict() if name.startswith("d.stages.")} <= {"stages"}
    before = seen("builtin", torch.ones(1, 3, 32, 32), torch.float32)
    trainer = Trainer(net, Options(8, 8))
    weights = [stage.from_maps.weight.clone() for stage in net.d.stages]  # type: ignore[operator,union-attr]
    for _ in range(3):
        trainer.step(Batch(torch.rand(8, 3, 32, 32) * 2 - 1))
    assert trainer.read()["dropped"] == 0
    assert not any(torch.equal(a, b.from_maps.weight) for a, b in zip(weights, net.d.stages, strict=True))  # type: ignore[arg-type,union-attr]
    after = seen("builtin", torch.ones(1, 3, 32, 32), torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    plain = sum(tensor.numel() for tensor in model().state_dict().values())
    stages = sum(tensor.numel() for tensor in net.d.stages.state_dict().values())
    assert sum(tensor.numel() for tensor in net.state_dict().values()) == plain + stages


def test_a_run_with_features_resumes_exactly(faces: Path, tmp_path: Path) -> None:
    how: dict[str, Any] = {**TINY, "snap": 10, "set": "network.features=builtin"}
    whole = train("stylegan2", faces, out=tmp_path / "whole", kimg=0.08, **how).out
    train("stylegan2", faces, out=tmp_path / "parts", kimg=0.04, **how)
    parts = train("stylegan2", faces, out=tmp_path / "parts", kimg=0.08, **how).out
    a, b = (torch.load(run / "training.pt", weights_only=True)["model"] for run in (whole, parts))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(name.startswith("d.stages.1.") for name in a)


@pytest.mark.parametrize("name", ["nonsense", "vgg16:", 5, ["builtin"]])
def test_features_from_outside_are_checked(name: Any) -> None:
    with pytest.raises(ValueError, match=r"network\.features"):
        models.build("stylegan2", {"network": {"features": name}})


@pytest.mark.parametrize("wavelets", [0, 1])
def test_a_generator_with_more_channels_starts_with_the_same_pictures(wavelets: int) -> None:
    parent = model(labels=LABELS, wavelets=wavelets, channel_max=32)
    child = model(labels=LABELS, wavelets=wavelets, channel_max=32, g_channel_base=512)
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in parent.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    parent.g_ema.load_state_dict(parent.g.state_dict())
    fresh, unused = initialise(child, parent)
    assert fresh == [] and unused == []
    z, labels = latents(range(3), 16), {"hair": torch.tensor([0, 1, -1])}
    with torch.no_grad():
        a, b = parent.sample(z, labels=labels), child.sample(z, labels=labels)
    assert torch.allclose(a, b, atol=1e-4) and a.std() > 0.1
    assert torch.equal(child.d(a), parent.d(a))
    wider = child.g_ema.synthesis.blocks[-1].conv1.conv.weight  # type: ignore[union-attr]
    assert wider.shape[:2] == tuple(2 * n for n in parent.g_ema.synthesis.blocks[-1].conv1.conv.weight.shape[:2])  # type: ignore[union-attr,operator]
    child.losses("g", Batch(torch.rand(4, 3, 32, 32), {"hair": torch.tensor([0, 1, 0, 1])}))["g"].backward()
    gradient = child.g.synthesis.blocks[-1].to_rgb.conv.weight.grad  # type: ignore[union-attr]
    assert gradient is not None and gradient[:, -1].abs().sum() > 0  # the new channels begin to be used
