"""Everything on a GPU. Skipped without one; `pytest tests/cuda` tells all in one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import kyara
from kyara import models
from kyara.files import checkpoint
from kyara.models.base import Batch, Model, latents
from kyara.training.runtime import has_bfloat16, make_fabric
from kyara.training.train import train
from kyara.training.trainer import Options, Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU and PyTorch for CUDA")
several = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")

ATTRIBUTES = {"hair": ("black", "blonde", "blue"), "eyes": ("green", "red")}
COUNTS = ((0, 0, 5), (0, 1, 2), (1, 1, 3), (2, 0, 1))
TINY: dict[str, Any] = {"preset": "tiny", "workers": 0}


def tiny(name: str) -> Model:
    torch.manual_seed(0)
    kind = models.architecture(name)
    data = {"attributes": ATTRIBUTES, "label_counts": COUNTS} if kind.data_spec.attributes == "must" else {}
    return kind(kind.presets["tiny"].replace(data=data))


def batch_of(model: Model, seed: int = 0, count: int = 8) -> Batch:
    random = torch.Generator().manual_seed(seed)
    real = torch.rand(count, 3, model.config.data.height, model.config.data.width, generator=random) * 2 - 1
    labels = {name: torch.arange(count) % len(values) for name, values in model.config.data.attributes.items()}
    spec = model.data_spec
    points = torch.rand(count, spec.points, 2, generator=random) if spec.points else None
    return Batch(real, labels=labels, points=points, photos=real.flip(0, 1) if spec.photos else None)


@pytest.fixture(params=models.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_a_step_of_every_model(name: str, precision: Any) -> None:
    if precision == "bf16" and not has_bfloat16(torch.device("cuda")):
        pytest.skip("needs a GPU that supports bfloat16")
    fabric = make_fabric(torch.device("cuda"), precision=precision)
    trainer = Trainer(tiny(name), Options(8, 4, precision=precision, augment_target=-1.0), fabric=fabric)
    trainer.augment.p = 0.5
    before = {key: tensor.clone() for key, tensor in trainer.model.state_dict().items()}
    for step in range(2):
        trainer.step(batch_of(trainer.model, step))
    values = trainer.read()
    assert values["dropped"] == 0 and all(torch.isfinite(torch.tensor(value)) for value in values.values())
    state = trainer.model.state_dict()
    assert all(tensor.is_cuda and torch.isfinite(tensor).all() for tensor in state.values())
    assert any(not torch.equal(before[key], tensor) for key, tensor in state.items())


def test_gradients_are_those_of_the_cpu() -> None:
    """In float32, of what draws no random numbers."""
    model = tiny("mlp")
    d, real, found = model.players()["d"], batch_of(model).real, []
    for device in ("cpu", "cuda"):
        model.zero_grad()
        d.to(device).layers(real.to(device)).mean().backward()  # type: ignore[operator,union-attr]
        found.append([p.grad.cpu().clone() for p in d.parameters() if p.grad is not None])
    assert found[0] and all(torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in zip(*found, strict=True))


def test_the_strength_of_augmentation_is_on_the_device() -> None:
    trainer = Trainer(tiny("mlp"), Options(8, 8), fabric=make_fabric(torch.device("cuda")))
    trainer.augment.p = 0.4
    assert trainer.augment._strength.is_cuda and trainer.augment._strength[0].item() == pytest.approx(0.4)  # type: ignore[attr-defined]


@pytest.mark.parametrize("model", ["dcgan", "stylegan2"])
def test_a_run_resumes(model: str, faces: Path, tmp_path: Path) -> None:
    """Sums on a GPU may be taken in any order: nearly the same, not to the bit."""
    options = {**TINY, "precision": "32", "device": "cuda", "snap": 0.08}
    whole = train(model, faces, out=tmp_path / "whole", kimg=0.16, **options).out
    parts = train(model, faces, out=tmp_path / "parts", kimg=0.08, **options).out
    train(model, faces, out=parts, kimg=0.16, **options)
    a, b = (checkpoint.load_training(run / "training.pt") for run in (whole, parts))
    assert a["nimg"] == b["nimg"] == 160 and a["augment"] == b["augment"]
    for key, tensor in a["model"].items():
        assert torch.allclose(tensor.float(), b["model"][key].float(), rtol=0.05, atol=0.05), key


def test_what_the_gpu_trained_the_cpu_shows(faces: Path, tmp_path: Path) -> None:
    run = train("stylegan2", faces, out=tmp_path / "run", kimg=0.08, precision="32", device="cuda", **TINY).out
    z = latents(range(4), models.load(run).z_dim)  # type: ignore[arg-type]
    with torch.inference_mode():
        cpu = models.load(run).sample(z)  # type: ignore[operator]
        gpu = models.load(run, "cuda").sample(z.cuda()).cpu()  # type: ignore[operator]
    assert torch.allclose(cpu, gpu, atol=2e-3)


def test_generate_is_the_same_on_both(tmp_path: Path) -> None:
    from kyara.files.pictures import decode

    outs = [tmp_path / device for device in ("cpu", "cuda")]
    for out in outs:
        kyara.generate("builtin:anime", seeds="0-3", device=out.name, out=out)
    names = sorted(path.name for path in outs[0].glob("seed*.png"))
    assert names and names == sorted(path.name for path in outs[1].glob("seed*.png"))
    for picture in names:
        a, b = (decode(out / picture).astype(int) for out in outs)
        assert abs(a - b).max() <= 3, picture


@pytest.mark.parametrize("model", ["mlp", "stylegan2"])
def test_compiled_losses(model: str) -> None:
    trainer = Trainer(tiny(model), Options(8, 8), fabric=make_fabric(torch.device("cuda")), compile_losses=True)
    for step in range(4):
        trainer.augment.p = step / 10
        trainer.step(batch_of(trainer.model, step))
    assert trainer.read()["dropped"] == 0


@several
def test_a_run_uses_the_device_that_was_named(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()
    step = Trainer.step

    def watched(self: Trainer, *arguments: Any, **options: Any) -> None:
        step(self, *arguments, **options)
        seen.update(parameter.device for parameter in self.model.parameters())

    monkeypatch.setattr(Trainer, "step", watched)
    train("dcgan", faces, out=tmp_path / "run", kimg=0.024, device="cuda:1", **TINY)
    assert seen == {torch.device("cuda:1")}


@several
def test_two_devices_train_one_network(faces: Path, tmp_path: Path) -> None:
    import subprocess
    import sys

    small = ["--preset", "tiny", "--workers", "0", "--kimg", "0.08", "--out", str(tmp_path / "run")]
    more = ["--device", "cuda", "--devices", "2"]
    arguments = [sys.executable, "-m", "kyara", "train", "dcgan", str(faces), *small, *more]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert models.load(tmp_path / "run")
