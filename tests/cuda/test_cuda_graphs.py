"""CUDA graphs and the fused filter, against the same without them. Skipped without a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kyara import models
from kyara.models.base import Batch, Model
from kyara.nn import filters
from kyara.training.runtime import has_bfloat16, make_fabric
from kyara.training.trainer import Options, Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU and PyTorch for CUDA")

CAPTURABLE = [name for name in models.names() if models.architecture(name).capturable]
ENCODER = "stylegan2 with an encoder"
ATTRIBUTES = {"hair": ("black", "blonde", "blue"), "eyes": ("green", "red")}


def trained(name: str, *, graphs: bool, micro_batch: int = 8, precision: Any = "32", augment: Any = "ada") -> Trainer:
    """After 24 steps: every phase is captured, and the augmentation begins in the middle."""
    torch.manual_seed(0)
    kind = models.architecture(name.split(" ")[0])
    data: Any = {"attributes": ATTRIBUTES} if kind.data_spec.attributes == "must" or name == ENCODER else {}
    network: Any = {"encoder": 1, "labels_from": 2} if name == ENCODER else {}
    model: Model = kind(kind.presets["tiny"].replace(data=data, network=network))
    options = Options(8, micro_batch, precision=precision, augment=augment)
    trainer = Trainer(model, options, fabric=make_fabric(torch.device("cuda"), precision=precision), graphs=graphs)
    random = torch.Generator().manual_seed(0)
    shape = 8, 3, model.config.data.height, model.config.data.width
    for step in range(24):
        if step == 8 and augment == "ada":
            trainer.augment.p = 0.5
        labels = {key: torch.arange(8) % len(values) for key, values in model.config.data.attributes.items()}
        trainer.step(Batch(torch.rand(shape, generator=random) * 2 - 1, labels=labels), progress=step / 24)
    return trainer


@pytest.mark.parametrize("precision", ["32", "bf16"])
@pytest.mark.parametrize("micro_batch", [8, 4])
@pytest.mark.parametrize("name", [*CAPTURABLE, ENCODER])
def test_graphs_change_nothing(name: str, micro_batch: int, precision: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit, with the deterministic algorithms of cuDNN."""
    if precision == "bf16" and not has_bfloat16(torch.device("cuda")):
        pytest.skip("needs a GPU that supports bfloat16")
    options: Any = {"micro_batch": micro_batch, "precision": precision}
    trainers = []
    for graphs in (False, True):
        trainer = trained(name, graphs=graphs, **options)
        trainers.append(trainer)
    eager, captured = trainers
    assert captured.graphs is not None and captured.graphs.graphs and None not in captured.graphs.graphs.values()
    for key, tensor in eager.model.state_dict().items():
        other = captured.model.state_dict()[key]
        assert torch.allclose(tensor.float(), other.float(), rtol=1e-3, atol=1e-4), key
    a, b = eager.read(), captured.read()
    assert a.keys() == b.keys() and all(a[key] == pytest.approx(b[key], rel=1e-2, abs=1e-3) for key in a)


def test_a_replay_draws_new_random_numbers() -> None:
    trainer = trained("dcgan", graphs=True)
    assert trainer.graphs is not None
    losses = []
    for _ in range(3):
        trainer.means.take()
        trainer.step(Batch(torch.zeros(8, 3, trainer.model.config.data.height, trainer.model.config.data.width)))
        losses.append(trainer.means.take()["loss/g"])
    assert len(set(losses)) == 3


def test_what_cannot_be_captured_runs_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    model = models.architecture("mlp")(models.architecture("mlp").presets["tiny"])
    losses = model.losses

    def waiting(phase: str, batch: Batch) -> dict[str, Tensor]:
        float(batch.real.mean())  # waits for the device
        return losses(phase, batch)

    model.losses = waiting  # type: ignore[method-assign]
    trainer = Trainer(model, Options(8, 8), fabric=make_fabric(torch.device("cuda")))
    for _ in range(6):
        trainer.step(Batch(torch.rand(8, 3, model.config.data.height, model.config.data.width)))
    assert "without a CUDA graph" in capsys.readouterr().err
    assert trainer.read()["dropped"] == 0


CALLS = {"blur": (False, False, (1, 1)), "down": (False, True, (1, 1)), "up": (True, False, (2, 1))}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [3, 64, 130])
@pytest.mark.parametrize("call", CALLS)
def test_the_fused_filter(call: str, channels: int, dtype: torch.dtype) -> None:
    if not filters.HAS_TRITON:
        pytest.skip("needs Triton, which PyTorch for CUDA on Linux includes; run: pip install triton")
    x = torch.randn(2, channels, 10, 14, device="cuda", dtype=dtype)
    expected = filters._convolved(x.double().cpu(), *CALLS[call], 4.0)
    found = filters._fused(x, *CALLS[call], 4.0).double().cpu()
    tolerance = 2e-6 if dtype == torch.float32 else 2**-8
    assert found.shape == expected.shape and torch.allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("call", CALLS)
def test_gradients_of_the_fused_filter(call: str) -> None:
    """Of first and second order, against the same filter in float64 on the CPU."""
    found = []
    for device, dtype in (("cpu", torch.float64), ("cuda", torch.float32)):
        random = torch.Generator().manual_seed(0)
        x = torch.randn(2, 5, 8, 6, generator=random, dtype=torch.float64).to(device, dtype).requires_grad_()
        y = filters._Filter.apply(x, *CALLS[call], 4.0)
        weight = torch.randn(y.shape, generator=random, dtype=torch.float64).to(device, dtype)
        (first,) = torch.autograd.grad((y.square() * weight).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), x)
        found.append([first.double().cpu(), second.double().cpu()])
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(*found, strict=True))
