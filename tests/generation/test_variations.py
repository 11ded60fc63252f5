"""Variations, mixtures and walks are shots like others."""

from __future__ import annotations

import pytest
import torch

from kyara.generation.shots import Shot, angle_of, turned
from kyara.generation.styles import load_styled, unpack
from kyara.generation.variations import mix, styled, styles_of, vary, walk
from kyara.models.base import StyledGenerator

A: Shot = {"seed": 1, "labels": {"hair": "red", "eyes": "blue"}}
B: Shot = {"seed": 2, "labels": {"hair": "red", "eyes": "blue"}}
C: Shot = {"seed": 3, "labels": {"hair": "blue", "eyes": "blue"}}


@pytest.fixture(scope="module")
def generator() -> StyledGenerator:
    return load_styled("builtin:anime", torch.device("cpu"))


def test_a_variation_of_a_seed_is_an_interpolation(generator: StyledGenerator) -> None:
    varied = vary(A, generator, 0.7, seed=9, strength=0.25)
    assert varied == {"seeds": [1, 9], "position": 0.25, "labels": A["labels"]}
    again = vary(varied, generator, 0.7, seed=9, strength=0.0)
    assert torch.allclose(unpack(again["latent"], generator), styles_of(varied, generator, 0.7), atol=1e-6)


def test_truncation_is_part_of_the_styles(generator: StyledGenerator) -> None:
    full, half = (styles_of(A, generator, psi) for psi in (1.0, 0.5))
    names = generator.config.data.attributes
    labels = {name: torch.tensor([[*names[name]].index(value)]) for name, value in A["labels"].items()}
    mean = generator.mean_w(1, labels)[0]
    assert torch.allclose(half, mean.lerp(full, 0.5), atol=1e-5)
    assert torch.allclose(styles_of(styled(half, {}), generator, 0.5), half)  # a latent is not truncated again


def test_a_mixture_has_the_layers_of_both(generator: StyledGenerator) -> None:
    ws = unpack(mix(A, C, generator, (0.7, 1.0), 4)["latent"], generator)
    a, c = styles_of(A, generator, 0.7), styles_of(C, generator, 1.0)
    assert torch.equal(ws[:4], a[:4]) and torch.equal(ws[4:], c[4:])


def test_a_walk_between_alike_seeds_is_that_of_generate(generator: StyledGenerator) -> None:
    found = walk([A, B, A], generator, [0.7] * 3, 5)
    assert [shot["seeds"] for shot in found] == [[1, 2], [1, 2], [2, 1], [2, 1], [2, 1]]
    assert [shot["position"] for shot in found] == [0, 0.5, 0, 0.5, 1]


def test_a_walk_between_others_goes_through_their_styles(generator: StyledGenerator) -> None:
    found = walk([A, C], generator, [0.7, 0.7], 3)
    ws = [unpack(shot["latent"], generator) for shot in found]
    a, c = (styles_of(shot, generator, 0.7) for shot in (A, C))
    assert torch.allclose(ws[0], a) and torch.allclose(ws[2], c, atol=1e-6)
    assert torch.allclose(ws[1], (a + c) / 2, atol=1e-6)
    assert [shot["labels"]["hair"] for shot in found] == ["red", "blue", "blue"]


def test_what_is_made_from_a_turned_picture_is_turned(generator: StyledGenerator) -> None:
    left, right = turned(A, -20), turned(C, 10)
    assert angle_of(vary(left, generator, 0.7, seed=9, strength=0.25)) == -20
    assert angle_of(vary(styled(styles_of(A, generator, 0.7), {}, 5), generator, 1.0, seed=9, strength=0.25)) == 5
    assert angle_of(mix(left, right, generator, (0.7, 0.7), 4)) == -20  # pose is that of the coarse layers
    assert [angle_of(shot) for shot in walk([left, right], generator, [0.7, 0.7], 4)] == [-20, -10, 0, 10]
    assert [angle_of(shot) for shot in walk([left, B], generator, [0.7, 0.7], 3)] == [-20, -10, 0]


@pytest.mark.parametrize("name", ["builtin:photo", "builtin:character"])  # without attributes, and with
def test_truncation_under_autocast(name: str) -> None:
    """As when a scorer is trained on pictures of generators, on a processor with bfloat16."""
    generator = load_styled(name, torch.device("cpu"))
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        pictures = generator.sample(torch.zeros(2, generator.z_dim), truncation=0.5)
    assert torch.isfinite(pictures).all()
