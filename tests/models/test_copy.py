"""The copy descriptor: its losses against plain sums, mixed pictures, and that it learns."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kyara.files.dataset import open_dataset
from kyara.files.pictures import to_float
from kyara.models.base import Batch
from kyara.models.copy import PRESETS, Model, contrast, mix
from kyara.training.trainer import Options, Trainer


def test_the_losses_are_those_of_the_paper() -> None:
    torch.manual_seed(0)
    rows, t = F.normalize(torch.randn(5, 8), dim=1), 0.2
    pictures = [{0}, {1}, {0}, {0, 1}, {2}]  # the fourth view is mixed of two pictures
    shows = torch.tensor([[p in one for p in range(3)] for one in pictures])
    found, entropy = contrast(rows, shows, t)
    terms, spread = [], []
    for i in range(5):
        negatives = [j for j in range(5) if not pictures[i] & pictures[j]]
        against = sum(math.exp(float(rows[i] @ rows[j]) / t) for j in negatives)
        for j in range(5):
            if i != j and pictures[i] & pictures[j]:
                positive = math.exp(float(rows[i] @ rows[j]) / t)
                terms.append(-math.log(positive / (positive + against)))
        spread.append(-math.log(min(float((rows[i] - rows[j]).norm()) for j in negatives)))
    assert float(found) == pytest.approx(sum(terms) / len(terms), rel=1e-5)
    assert float(entropy) == pytest.approx(sum(spread) / len(spread), rel=1e-5)


def test_mixed_pictures_show_both() -> None:
    torch.manual_seed(0)
    flat = torch.linspace(-1, 1, 8)[:, None, None, None].expand(8, 3, 16, 16)
    mixed, shows = mix(flat, 0.5)
    assert shows.sum(1).tolist() == [2] * 4 + [1] * 4 and shows.diagonal().all()
    assert all(bool(shows[i, i + 1]) for i in range(4))
    assert torch.equal(mixed[4:], flat[4:])
    for i in range(4):
        assert flat[i].min() - 1e-6 <= mixed[i].min() and mixed[i].max() <= flat[i + 1].max() + 1e-6
        levels = mixed[i].unique()
        assert (
            len(levels) == 1 if i % 2 == 0 else set(levels.tolist()) <= {float(flat[i].max()), float(flat[i + 1].max())}
        )
    assert torch.equal(mix(flat, 0.0)[0], flat)


def test_pictures_with_another_colour_are_other_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless little has changed."""
    torch.manual_seed(0)
    model = Model(PRESETS["tiny"].replace(augment={"negatives": 0.5, "mixed": 0.0}))
    real = torch.rand(8, 3, 32, 32) * 2 - 1
    for least, expected in ((-1.0, range(8, 12)), (2.0, range(4, 8))):
        monkeypatch.setattr("kyara.models.copy.ANOTHER", least)
        views, shows = model._views(real)
        assert views.shape == (20, 3, 32, 32) and torch.equal(views[:8], real)
        assert torch.equal(shows[:8, :8], torch.eye(8) > 0) and torch.equal(shows[8:16, :8], torch.eye(8) > 0)
        assert [row.nonzero().flatten().tolist() for row in shows[16:]] == [[i] for i in expected]


def test_descriptors_do_not_depend_on_the_batch_or_the_size() -> None:
    torch.manual_seed(0)
    model = Model(PRESETS["tiny"]).eval()
    pictures = F.interpolate(torch.rand(4, 3, 5, 5) * 2 - 1, size=(64, 64), mode="bilinear")
    rows = model.embed(pictures)
    assert rows.shape == (4, model.descriptor_dim) and torch.allclose(rows.norm(dim=1), torch.ones(4))
    assert torch.allclose(model.embed(pictures[1:2]), rows[1:2], atol=1e-5)


def test_it_learns_to_recognise_copies(faces: Path) -> None:
    torch.manual_seed(0)
    easy = {"smallest": 0.8, "negatives": 0.0, "mixed": 0.0}
    model = Model(PRESETS["tiny"].replace(optimizer={"lr": 0.01}, losses={"entropy": 1.0}, augment=easy))
    real = to_float(np.stack(list(open_dataset(faces).decode(range(64), 32, 32))))

    def loss() -> float:
        torch.manual_seed(7)
        with torch.no_grad():
            return float(model.losses("train", Batch(real[:32]))["contrast"])

    before, trainer = loss(), Trainer(model, Options(batch=32, micro_batch=32))
    for _ in range(60):
        trainer.step(Batch(real[:32]))
    assert loss() < 0.95 * before


def test_pictures_are_altered_alike_under_autocast() -> None:
    """In bfloat16 a GPU cannot put altered pictures beside others, and positions are too coarse."""
    torch.manual_seed(0)
    model, real = Model(PRESETS["tiny"]), torch.rand(16, 3, 32, 32) * 2 - 1
    seen: list[torch.Tensor] = []
    model.net.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    for enabled in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            model.losses("train", Batch(real))
    assert seen[0].dtype == seen[1].dtype == torch.float32 and torch.equal(*seen)
