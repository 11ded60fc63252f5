"""The tagger with a network for each view of a face."""

from __future__ import annotations

import pytest
import torch

from kyara import models
from kyara.models import views
from kyara.models.base import Batch
from kyara.training.trainer import Options, Trainer

VALUES = {"mouth": ("open", "shut"), "hair": ("blue", "red")}


def faces(count: int, seed: int = 0) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Faces of 64 px with red or blue hair, in which two pixels or one tell an open mouth from a shut one."""
    generator = torch.Generator().manual_seed(seed)
    shut, red = (torch.randint(2, (count,), generator=generator) for _ in range(2))
    pictures = 0.1 * torch.randn(count, 3, 64, 64, generator=generator) + 0.5
    pictures[:, :, :16] = (
        torch.where(red.bool()[:, None], 0.7, -0.7)[:, :, None, None] * torch.tensor([1, -1, -1])[:, None, None]
    )
    pictures[:, :, 46:48, 26:38] = -0.5
    pictures[:, :, 47, 26:38] = torch.where(shut.bool(), 0.5, -0.5)[:, None, None]
    return pictures.clamp(-1, 1), {"mouth": shut, "hair": red}


def test_it_reads_lines_of_one_pixel_and_colours_and_ignores_unknown_labels() -> None:
    torch.manual_seed(0)
    network, data = {"widths": (8, 16, 16)}, {"width": 64, "height": 64, "attributes": VALUES}
    model = models.build("views", {"data": data, "network": network, "optimizer": {"lr": 0.01, "warmup": 0.0}})
    assert isinstance(model, views.Model)
    real, labels = faces(32)
    labels["mouth"][::7] = -1
    trainer = Trainer(model, Options(batch=32, micro_batch=32))
    for _ in range(50):
        trainer.step(Batch(real, labels=labels))
    model.net_ema.load_state_dict(model.net.state_dict())  # its average is over more steps than these
    model.eval()
    others, truth = faces(64, seed=1)
    scores = model.measure(Batch(others, labels=truth), lambda a, b: 0.0)
    assert set(scores) == {"error", "error/mouth", "error/hair"} and scores["error"] < 0.05
    with torch.inference_mode():
        found = model.probabilities(others)
        torch.testing.assert_close(found["mouth"].sum(1), torch.ones(64))
        torch.testing.assert_close(model.embed(others).norm(dim=1), torch.ones(64))
        alone = model.probabilities(others[:1])
    torch.testing.assert_close(alone["hair"], found["hair"][:1])
    unknown = {name: torch.full((32,), -1) for name in VALUES}
    assert all(float(loss.detach()) == 0 for loss in model.losses("train", Batch(real, labels=unknown)).values())


@pytest.mark.parametrize("size", [(64, 64), (48, 80), (31, 33)])
def test_both_eyes_are_seen_alike(size: tuple[int, int]) -> None:
    half = torch.rand(2, 3, *size)
    left, right = views.view_parts(torch.cat([half, half.flip(3)], 3), views.NetworkConfig())["eyes"]
    assert left.shape == right.shape and torch.equal(left, right)
    config = {"data": {"height": size[0], "width": size[1], "attributes": VALUES}}
    assert models.build("views", config).embed(half).shape[0] == 2  # type: ignore[operator]


@pytest.mark.parametrize(
    ("part", "option", "wrong"),
    [
        ("network", "eye", (0.5, 0.4, 0.5, 0.7)),  # empty
        ("network", "eye", (0.2, 0.4, 0.5)),
        ("network", "lower", (0.2, 0.8, 0.5, 0.4)),
        ("network", "lower", (-0.1, 0.4, 0.5, 0.8)),
        ("network", "mouth", (0.2, 0.4, 0.5, 1.1)),
        ("network", "mouth", (0.2, float("nan"), 0.5, 0.8)),
        ("network", "dropout", 1.0),
        ("losses", "label_smoothing", 1.0),
        ("losses", "label_smoothing", -0.1),
    ],
)
def test_numbers_that_make_no_sense_are_refused(part: str, option: str, wrong: object) -> None:
    with pytest.raises(ValueError, match=rf"{part}\.{option}"):
        models.build("views", {"data": {"attributes": VALUES}, part: {option: wrong}})


def test_the_limits_themselves_are_allowed() -> None:
    views.NetworkConfig(dropout=0.0, eye=(0.0, 0.0, 1.0, 1.0))
    views.LossConfig(label_smoothing=0.0)
