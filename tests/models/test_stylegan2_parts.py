"""Parts of the picture that StyleGAN2's discriminator sees alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from kyara import models
from kyara.models import stylegan2
from kyara.models.base import Batch
from kyara.training.settings import configure
from kyara.training.train import train
from kyara.training.trainer import Options, Trainer
from kyara.training.transfer import initialise

MOUTH = (0.25, 0.5, 0.75, 0.9)  # as high as EYES in 32 pixels
EYES = (0.25, 0.1, 0.75, 0.5)
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


def test_every_part_adds_its_losses() -> None:
    """As if the others were not there: with logits that do not depend on the part, its loss is a constant."""
    torch.manual_seed(1)
    batch = Batch(torch.rand(4, 3, 32, 32) * 2 - 1)
    found = []
    for parts in ((), MOUTH, (*MOUTH, *EYES)):
        net = model(parts)
        for part in net.d.parts.values():
            torch.nn.init.zeros_(part.output.weight)  # type: ignore[union-attr,arg-type]
        torch.manual_seed(2)
        found.append((net.losses("d", batch)["d"].item(), net.losses("d_reg", batch)["d_reg"].item()))
    (alone, r1), *others = found
    for count, (loss, penalty) in enumerate(others, 1):
        assert loss == pytest.approx(alone + count * 2 * math.log(2), rel=1e-5)
        assert penalty == pytest.approx(r1, rel=1e-5)


def test_the_penalties_of_two_parts_do_not_cancel() -> None:
    net = model((*MOUTH, *EYES))
    batch = Batch(torch.rand(4, 3, 32, 32) * 2 - 1)
    mouth, eyes = net.d.parts.values()
    eyes.load_state_dict(mouth.state_dict())
    with torch.no_grad():
        eyes.output.weight.neg_()  # type: ignore[union-attr,operator]
    eyes.rows, eyes.columns = mouth.rows, mouth.columns  # the same place, the opposite gradient
    both = net.losses("d_reg", batch)["d_reg"].item()
    torch.nn.init.zeros_(eyes.output.weight)  # type: ignore[union-attr,arg-type]
    one = net.losses("d_reg", batch)["d_reg"].item()
    torch.nn.init.zeros_(mouth.output.weight)  # type: ignore[union-attr,arg-type]
    none = net.losses("d_reg", batch)["d_reg"].item()
    assert both - one == pytest.approx(one - none, rel=1e-4) and one > none


def test_labels_are_judged_in_every_part() -> None:
    net = model((*MOUTH, *EYES), attributes=LABELS)
    for part in net.d.parts.values():
        torch.nn.init.ones_(part.labels.rows)  # type: ignore[union-attr,arg-type]
    pictures, labels = torch.rand(4, 3, 32, 32), torch.zeros(4, 2, dtype=torch.int64)
    moved = net.d.judge(pictures, labels)[0] - net.d.judge(pictures)[0]
    assert moved.shape == (4, 3) and not moved[:, 0].any() and moved[:, 1:].abs().min() > 0


@pytest.mark.parametrize("wavelets", [0, 1])
def test_it_trains(wavelets: int) -> None:
    size = (37, 50)
    torch.manual_seed(0)
    network = {"parts": (*MOUTH, *EYES), "wavelets": wavelets}
    config = stylegan2.PRESETS["tiny"].replace(data={"height": size[0], "width": size[1]}, network=network)
    trainer = Trainer(stylegan2.Model(config), Options(8, 8))
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    for _ in range(4):
        trainer.step(Batch(torch.rand(8, 3, *size) * 2 - 1))
    assert trainer.read()["dropped"] == 0
    after = trainer.model.state_dict()
    names = [name for name in after if name.startswith("d.parts.") and name.endswith("from_rgb.weight")]
    assert len(names) == 2 and not any(torch.equal(before[name], after[name]) for name in names)


def test_a_part_is_copied_to_the_same_part_only() -> None:
    fresh, unused = initialise(model(MOUTH), model(()))
    assert unused == [] and fresh and all(name.startswith("d.parts.8_16_24_29.") for name in fresh)
    fresh, unused = initialise(model(EYES), model((*MOUTH, *EYES)))
    assert fresh == [] and unused and all(name.startswith("d.parts.8_16_24_29") for name in unused)
    larger = model(EYES, height=64, width=64)
    assert any(name.startswith("d.parts.") for name in initialise(larger, model(EYES))[0])


WRONG: list[Any] = [1e999, math.nan, -0.1, "a", None, [0.1]]


@pytest.mark.parametrize("parts", [*([x, 0, 1, 1] for x in WRONG), {}, "0000", 0.5, [0, 0, 1, 1] * 17, [0, 0, 1]])
def test_a_config_from_outside_is_checked(parts: Any) -> None:
    with pytest.raises(ValueError, match="parts"):
        models.build("stylegan2", {"network": {"parts": parts}})


def test_parts_and_shares_are_checked_before_a_run_begins() -> None:
    wrong = {
        "network.parts=0.1/0.1/0.12/0.12": "a part of less than 8 pixels",
        "network.w_avg_beta=3": r"network\.w_avg_beta=3\S*: must be from 0 to 1",
        "losses.label_drop_prob=5": r"losses\.label_drop_prob=5\S*: must be from 0 to 1",
        "network.mbstd_group_size=0": "must be 1 or more",
    }
    for change, message in wrong.items():
        with pytest.raises(ValueError, match=message):
            configure("stylegan2", preset=None, size=None, batch=None, changes=change)


def test_parts_are_set_with_slashes_and_stay_in_the_checkpoint(faces: Path, tmp_path: Path) -> None:
    how: dict[str, Any] = {"preset": "tiny", "size": "32", "kimg": 0.05, "batch": 8, "workers": 0, "precision": "32"}
    run = train("stylegan2", faces, out=tmp_path / "run", set="network.parts=0.25/0.5/0.75/0.9", **how)
    found = models.load(run.out)
    assert found.config.network.parts == MOUTH  # type: ignore[attr-defined]
    for wrong in ("0.25/0.5/0.75", "0.75/0.5/0.25/0.9", "0.5/0.5/1.5/0.9", "0.5/0.5/0.6/0.9"):
        with pytest.raises(ValueError, match=r"network\.parts"):
            train("stylegan2", faces, out=tmp_path / "wrong", set=f"network.parts={wrong}", **how)
        assert not (tmp_path / "wrong").exists()
    none = train(
        "stylegan2", faces, out=tmp_path / "none", init=str(run.out), set="network.parts=", **{**how, "kimg": 0.0}
    )
    assert models.load(none.out).config.network.parts == ()  # type: ignore[attr-defined]
