"""Two generators that share their latents: blends, variants and labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pair
import pytest
import torch

from kyara import models
from kyara.generation.sampler import synthesise
from kyara.generation.styles import blend, pack, relabel, unpack
from kyara.inversion import reverse, traits
from kyara.models.base import latents


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = tmp_path_factory.mktemp("pair")
    parent = pair.write(folder / "parent")
    child = pair.write(folder / "child", labels=True, near=parent, seed=1)
    return models.load(parent), models.load(child)


def test_blends_start_and_end_with_the_pair(both: tuple[Any, Any]) -> None:
    parent, child = both
    ws = parent.styles(latents(range(3), parent.z_dim))
    layers = len(parent.layers()["g"])
    for position, same in ((0, child), (layers, parent)):
        blended = blend(parent, child, position)
        assert torch.allclose(blended.synthesise(ws), same.synthesise(ws), atol=1e-5)
    between = blend(parent, child, 2).synthesise(ws)
    assert not torch.allclose(between, parent.synthesise(ws), atol=1e-2)
    assert not torch.allclose(between, child.synthesise(ws), atol=1e-2)


def test_a_wide_blend_is_a_logistic_in_the_layers(both: tuple[Any, Any]) -> None:
    parent, child = both
    blended = blend(parent, child, 2, 1.5)
    for i, (old, new, mixed) in enumerate(zip(*(m.layers()["g"] for m in (parent, child, blended)), strict=True)):
        share = 1 / (1 + np.exp(-(i + 0.5 - 2) / 1.5))
        for a, b, c in zip(old, new, mixed, strict=True):
            assert torch.allclose(c, a * (1 - share) + b * share, atol=1e-5)


def test_colours_come_from_labels_and_shapes_from_the_photo(both: tuple[Any, Any]) -> None:
    parent, child = both
    ws = parent.styles(latents(range(2), parent.z_dim))
    labels = {"hair": torch.tensor([2, 2]), "eyes": torch.tensor([0, 0])}
    tried = [reverse.Variant(1.0, 4, "labels"), reverse.Variant(1.0, 8, "photo"), reverse.Variant(0.5, 4, "labels", 0)]
    styles, pictures = reverse.draw(child, child, ws, labels, tried, [7, 8])
    assert pictures.shape == (2, 3, 32, 32, 3)
    assert torch.allclose(styles[:, 0, :4], ws[:, :4])
    assert torch.allclose(styles[:, 0, 4:], child.mean_w(2, labels)[:, 4:], atol=1e-6)
    assert torch.allclose(styles[:, 1], ws)
    assert torch.allclose(styles[:, 2, :4], child.mean_w(2)[:, :4].lerp(ws[:, :4], 0.5), atol=1e-6)
    assert not torch.allclose(styles[0, 2, 4:], styles[1, 2, 4:])  # each photo has draws of its own
    alone, _ = reverse.draw(child, child, ws[1:], {k: v[1:] for k, v in labels.items()}, tried, [8])
    assert torch.allclose(alone[0], styles[1], atol=1e-5)


def test_the_colour_layer_is_found() -> None:
    """A generator in which the last layers alone decide over colours, and the first over light and dark."""

    class Two:
        z_dim = 2
        config = None

        def draw(self, seeds: range) -> dict[str, torch.Tensor]:
            return {}

        def parameters(self) -> Any:
            return iter([torch.zeros(1)])

        def styles(self, z: torch.Tensor, labels: Any = None) -> torch.Tensor:
            return z[:, None].expand(-1, 6, -1)

        def synthesise(self, ws: torch.Tensor) -> torch.Tensor:
            x = torch.linspace(-3, 3, 32)
            grey = torch.sin(x * ws[:, :3, :1].mean(1) * 3)[:, None, None].expand(-1, 3, 32, 32) * 0.5
            hue = torch.stack([ws[:, 4, 1], -ws[:, 4, 1], torch.zeros(len(ws))], 1)[:, :, None, None]
            return grey + 0.2 * hue

    assert reverse.colour_layer(Two()) in (3, 4)  # type: ignore[arg-type]


def test_variants_reach_up_to_the_colour_layer(both: tuple[Any, Any]) -> None:
    _, child = both
    assert {v.layer for v in reverse.variants(child, "labels", 4)} == {4}
    assert {v.layer for v in reverse.variants(child, "photo", 4)} == {child.mean_w(1).shape[1]}
    assert len(set(reverse.variants(child, "mean", 4))) == len(reverse.variants(child, "mean", 4)) > 4


def test_colours_of_the_photo_become_labels_of_the_child(both: tuple[Any, Any]) -> None:
    _, child = both
    photo = np.full((64, 64, 3), (225, 180, 160), np.uint8)  # skin
    photo[:12] = (90, 60, 44)  # brown hair
    assert reverse.labels_of_photo(photo, child.config.data.attributes, {}) == {"hair": 1, "eyes": 0}
    assert reverse.labels_of_photo(photo, child.config.data.attributes, {"hair": 2}) == {"hair": 2, "eyes": 0}
    photo[:12] = (30, 28, 28)
    assert reverse.labels_of_photo(photo, child.config.data.attributes, {})["hair"] == 0


def test_lab_against_known_colours() -> None:
    expected = {  # CIE 15, D65, as any colour library gives them
        (255, 255, 255): (100, 0, 0),
        (0, 0, 0): (0, 0, 0),
        (255, 0, 0): (53.24, 80.09, 67.20),
        (0, 0, 255): (32.30, 79.19, -107.86),
    }
    for colour, wanted in expected.items():
        assert traits.lab(np.array(colour, np.uint8)) == pytest.approx(wanted, abs=0.05)


def test_kept_measures_the_similarity() -> None:
    random = np.random.RandomState(0)
    photo = random.randint(0, 255, (64, 64, 3)).astype(np.uint8)
    other = random.randint(0, 255, (64, 64, 3)).astype(np.uint8)
    assert traits.kept(photo, photo) == pytest.approx(1)
    assert traits.kept(photo, other) < 0.9
    assert traits.layout(photo[:, ::-1]) @ traits.layout(photo) < 0.5


def test_styles_go_into_a_recipe_and_out(both: tuple[Any, Any]) -> None:
    parent, _ = both
    ws = parent.styles(latents([3], parent.z_dim))[0]
    assert torch.equal(unpack(pack(ws), parent), ws)
    for text, problem in (
        ("?", "cannot be read"),
        (pack(ws[:2]), "needs 8 x 16"),
        (pack(ws * float("nan")), "not finite"),
    ):
        with pytest.raises(ValueError, match=problem):
            unpack(text, parent)


def test_a_picture_of_styles_does_not_depend_on_others(both: tuple[Any, Any]) -> None:
    parent, _ = both
    ws = parent.styles(latents(range(5), parent.z_dim))
    assert torch.equal(synthesise(parent, ws)[3:4], synthesise(parent, ws[3:4]))


def test_relabelling_moves_from_one_mean_to_the_other(both: tuple[Any, Any]) -> None:
    _, child = both
    labels = {"hair": torch.tensor([0, 1]), "eyes": torch.tensor([1, 1])}
    ws = child.mean_w(2, {"hair": labels["hair"]})
    moved = relabel(child, ws, {"hair": 2})
    assert torch.allclose(moved, child.mean_w(2, {"hair": torch.tensor([2, 2])}), atol=1e-5)
    assert torch.equal(relabel(child, ws, {}), ws)
