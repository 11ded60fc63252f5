"""The content of faces: monotone, calibrated on clean pictures, and it sees a missing eye."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from kyara import models
from kyara.curation import content
from kyara.curation.content import CONTENT, PARTS
from kyara.curation.judging import coordinates
from kyara.files.gallery_page import PART_COLUMNS
from kyara.models.base import Generator, latents
from kyara.perception import landmarks

JUDGE = content.builtin(torch.device("cpu"))


def random_coordinates(count: int, seed: int, offset: float = 0.0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = {part: JUDGE.basis.whiten[part].shape[1] for part in CONTENT}
    return {part: torch.randn(count, size, generator=generator) + offset for part, size in sizes.items()}


@pytest.fixture(scope="module")
def faces() -> Tensor:
    generator = models.load("builtin:anime")
    assert isinstance(generator, Generator)
    with torch.inference_mode():
        return generator.sample(latents(range(8), generator.z_dim), truncation=0.6)


def test_the_gallery_knows_the_parts() -> None:
    assert tuple(f"score_{part}" for part in PARTS) == PART_COLUMNS


def test_a_better_part_never_makes_the_score_worse() -> None:
    assert (JUDGE.weights > 0).all()
    quality, distances = torch.rand(64), JUDGE.reference.distances(random_coordinates(64, 0))
    totals = JUDGE.totals(JUDGE.deviations(quality, distances))
    for part in range(len(CONTENT)):
        nearer = distances.clone()
        nearer[:, part] *= 0.8
        better = JUDGE.totals(JUDGE.deviations(quality, nearer))
        assert (better >= totals).all() and (better > totals).any()
    better = JUDGE.totals(JUDGE.deviations(quality * 0.5 + 0.5, distances))
    assert (better[:, 1] >= totals[:, 1]).all() and torch.equal(better[:, 0], totals[:, 0])


def test_clean_pictures_are_calibrated_in_any_style() -> None:
    clean, quality = random_coordinates(400, 1, offset=3.0), torch.rand(400) * 0.1
    judge = content.of_owner(clean, quality, JUDGE)
    values = judge.judge(random_coordinates(1000, 2, offset=3.0), torch.rand(1000) * 0.1)
    for column in range(len(PARTS) + 2):
        assert 0.01 < (values[:, column] < 0.5).float().mean() < 0.1
        assert 0.9 < values[:, column].median() < 0.98
    assert (values[:, -1] > 1).float().mean() < 0.05  # its style is familiar


@pytest.mark.parametrize("skip", [False, True])
def test_distances_are_found_in_parts(monkeypatch: pytest.MonkeyPatch, skip: bool) -> None:
    """All distances of 20,000 clean pictures would take 1.6 GB for each part."""
    rows, sizes, cdist = torch.randn(50, 4), list[int](), torch.cdist
    whole = content.nearest(rows, rows, skip_itself=skip)
    monkeypatch.setattr(content, "AT_ONCE", 8)
    monkeypatch.setattr(torch, "cdist", lambda a, b: (sizes.append(len(a)), cdist(a, b))[1])
    assert torch.allclose(content.nearest(rows, rows, skip_itself=skip), whole, atol=1e-6)
    assert sizes == [8] * 6 + [2]


def test_another_style_is_unfamiliar_and_broken_pictures_are_low() -> None:
    judge = content.of_owner(random_coordinates(200, 1), torch.rand(200), JUDGE)
    other = judge.judge(random_coordinates(50, 3, offset=4.0), torch.rand(50))
    assert (other[:, -1] > 1).all()
    assert (other[:, 1:5] < 0.5).all()


def test_without_an_eye_the_eyes_are_worse(faces: Tensor) -> None:
    points = landmarks.find(faces)[:, :4].mean(1) * torch.tensor([faces.shape[3], faces.shape[2]])
    blind = faces.clone()
    for picture, (x, y) in zip(blind, points.round().int().tolist(), strict=True):
        area = picture[:, max(y - 9, 0) : y + 9, max(x - 11, 0) : x + 11]
        area[:] = area.mean((1, 2), keepdim=True)
    before, after = (JUDGE.judge(coordinates(x, JUDGE), torch.full((8,), 0.9)) for x in (faces, blind))
    eyes = PARTS.index("eyes")
    assert (after[:, eyes] < before[:, eyes]).sum() >= 7
    assert (after[:, -2] < before[:, -2]).sum() >= 7


def test_a_picture_does_not_depend_on_the_others(faces: Tensor) -> None:
    alone, together = coordinates(faces[:1], JUDGE), coordinates(faces, JUDGE)
    for part in CONTENT:
        np.testing.assert_allclose(alone[part][0], together[part][0], atol=0.1)
