"""A step on a GPU that does not wait, and batches that are copied to it meanwhile. Skipped without one."""

from __future__ import annotations

import pytest
import torch
from conftest import drawn_picture
from every_model import Variant, batch_of, tiny, variants

from kyara.data.edges import smooth_edges
from kyara.data.holes import HoleConfig, draw_holes
from kyara.files.pictures import to_float
from kyara.models.base import Batch
from kyara.training.batches import copied
from kyara.training.trainer import Options, Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU and PyTorch for CUDA")

WAITING = {"distortion", "inpainting", "projector"}  # see EXCEPTIONS in tests/training/test_syncs.py
CUDA = torch.device("cuda")


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("variant", [v for v in variants() if v.name not in WAITING], ids=str)
def test_a_step_does_not_wait(variant: Variant, graphs: bool) -> None:
    model = tiny(variant)
    batch = batch_of(model).to(CUDA)
    trainer = Trainer(model.to(CUDA), Options(8, 8), graphs=graphs)
    trainer.augment.p = 0.5
    for _ in range(8):
        trainer.step(batch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.step(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_copied_batches_are_the_same() -> None:
    given = [Batch(torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8), labels={"a": torch.arange(8)})] * 4
    for one, other in zip(given, copied(iter(given), CUDA), strict=True):
        assert other.real.device.type == "cuda" and torch.equal(one.real, other.real.cpu())
        assert torch.equal(one.labels["a"], other.labels["a"].cpu())


def test_holes_and_edges() -> None:
    holes = draw_holes(HoleConfig(), 64, 48, 32, device=CUDA)
    assert holes.device.type == "cuda" and 0.1 < holes.float().mean() < 0.5
    pictures = torch.stack([to_float(drawn_picture(seed, 96)[None])[0] for seed in range(4)])
    near = torch.isclose(smooth_edges(pictures.to(CUDA)).cpu(), smooth_edges(pictures), atol=1e-4)
    assert near.float().mean() > 0.999
