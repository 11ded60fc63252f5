"""Parts of the picture that StyleGAN2's discriminator sees alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kyara import models
from kyara.models import stylegan2
from kyara.models.base import Batch
from kyara.training.train import train
from kyara.training.trainer import Options, Trainer
from kyara.training.transfer import initialise

MOUTH = (0.25, 0.5, 0.75, 0.9)
LABELS = {"hair": ("black", "pink"), "mouth": ("neutral", "open", "smile")}


def model(parts: tuple[float, ...], **data: Any) -> stylegan2.Model:
    torch.manual_seed(0)
    return stylegan2.Model(stylegan2.PRESETS["tiny"].replace(data=data, network={"parts": parts}))


def test_a_part_sees_nothing_else() -> None:
    net = model(MOUTH, attributes=LABELS)
    pictures, labels = (torch.rand(4, 3, 32, 32) * 2 - 1).requires_grad_(), torch.zeros(4, 2, dtype=torch.int64)
    logits, read = net.d.judge(pictures, labels)
    assert logits.shape == (4, 2) and read is not None and read.shape == (4, 5)
    assert torch.equal(net.d(pictures, labels), logits.sum(1))
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), pictures)
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[16:29, 8:24] = True  # 0.9 x 32 is 28.8
    assert gradient[:, :, inside].abs().sum(1).min() > 0 and not gradient[:, :, ~inside].any()


def test_labels_are_judged_in_every_part() -> None:
    net = model(MOUTH * 2, attributes=LABELS)
    for part in net.d.parts:
        torch.nn.init.ones_(part.labels.rows)  # type: ignore[union-attr,arg-type]
    pictures, labels = torch.rand(4, 3, 32, 32), torch.zeros(4, 2, dtype=torch.int64)
    moved = net.d.judge(pictures, labels)[0] - net.d.judge(pictures)[0]
    assert moved.shape == (4, 3) and not moved[:, 0].any() and moved[:, 1:].abs().min() > 0


def test_it_trains_and_goes_on_from_a_model_without_parts(tmp_path: Path) -> None:
    size = (37, 50)
    trainer = Trainer(model((*MOUTH, 0.1, 0.1, 0.9, 0.5), height=size[0], width=size[1]), Options(8, 8))
    before = trainer.model.state_dict()["d.parts.1.from_rgb.weight"].clone()
    for _ in range(4):
        trainer.step(Batch(torch.rand(8, 3, *size) * 2 - 1))
    assert trainer.read()["dropped"] == 0
    assert not torch.equal(before, trainer.model.state_dict()["d.parts.1.from_rgb.weight"])
    with_parts, plain = model(MOUTH), model(())
    fresh, unused = initialise(with_parts, plain)
    assert unused == [] and all(name.startswith("d.parts.0.") for name in fresh)


def test_parts_are_set_with_slashes_and_stay_in_the_checkpoint(faces: Path, tmp_path: Path) -> None:
    how: dict[str, Any] = {"preset": "tiny", "size": "32", "kimg": 0.05, "batch": 8, "workers": 0, "precision": "32"}
    run = train("stylegan2", faces, out=tmp_path / "run", set="network.parts=0.25/0.5/0.75/0.9", **how)
    found = models.load(run.out)
    assert found.config.network.parts == MOUTH  # type: ignore[attr-defined]
    for wrong in ("0.25/0.5/0.75", "0.75/0.5/0.25/0.9", "0.5/0.5/1.5/0.9", "0.5/0.5/0.6/0.9"):
        with pytest.raises(ValueError, match=r"network\.parts"):
            train("stylegan2", faces, out=tmp_path / "wrong", set=f"network.parts={wrong}", **how)
        assert not (tmp_path / "wrong").exists()
