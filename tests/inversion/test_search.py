"""Latents: whitening, the encoder, the search; noise maps; pivotal tuning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pair
import pytest
import torch
from pair import few_samples  # noqa: F401
from torch import Tensor

from kyara import models
from kyara.inversion.latents import LatentSpace
from kyara.inversion.search import (
    RANDOM_SEED,
    EarlyStopping,
    SearchSettings,
    lr_multiplier,
    noise_regularisation,
    search,
    tune,
)
from kyara.models import stylegan2
from kyara.models.base import latents
from kyara.perception.lpips import load_perceptual


class Pixels:
    """Replaces the network: pixels at two sizes."""

    name = "pixels"
    weight = 1.0

    def features(self, pictures: Tensor) -> Sequence[Tensor]:
        return [pictures, torch.nn.functional.avg_pool2d(pictures, 4)]

    def distance(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        return torch.stack([(x - y).square().mean((1, 2, 3)) for x, y in zip(a, b, strict=True)]).sum(0)


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> LatentSpace:
    model: Any = models.load(pair.write(tmp_path_factory.mktemp("pair") / "parent"))
    return LatentSpace(model)


@pytest.fixture(scope="module")
def made(space: LatentSpace) -> Tensor:
    """Pictures of seeds that the encoder was not fitted to."""
    with torch.no_grad():
        return space.generator.sample(latents(range(9000, 9004), space.generator.z_dim)).clamp(-1, 1)


def test_latents_are_white_and_go_both_ways(space: LatentSpace) -> None:
    ws = space.generator.styles(latents(range(5000, 6000), space.generator.z_dim))
    u = space.whiten(ws)
    assert torch.allclose(space.styles(u), ws, atol=1e-4)
    assert u[:, 0].mean(0).abs().max() < 0.3
    assert 0.8 < float(u[:, 0].std()) < 1.2


def test_the_encoder_is_better_than_the_mean(space: LatentSpace, made: Tensor) -> None:
    guess = space.generator.synthesise(space.styles(space.encode(made)))
    mean = space.generator.synthesise(space.styles(torch.zeros(len(made), *space.shape)))
    assert (guess - made).square().mean() < 0.6 * (mean - made).square().mean()


@pytest.mark.parametrize("where", ["w+", "w"])
def test_what_the_generator_made_is_found_again(space: LatentSpace, made: Tensor, where: Any) -> None:
    found = search(made, space, Pixels(), SearchSettings(space=where, steps=200, lr=0.1, prior=0.0))
    assert (found.pictures - made).square().mean() < 0.01 * made.var()
    assert found.ws.shape == (len(made), *space.shape)
    if where == "w":
        assert (found.ws == found.ws[:, :1]).all()


def test_a_random_latent_is_a_start_too(space: LatentSpace, made: Tensor) -> None:
    """Reverse generation: a fixed generator, a random latent, and a search until the picture is almost the same."""
    begin = search(made, space, Pixels(), SearchSettings(start="random", space="w", steps=1, lr=0.0))
    own = space.generator.sample(latents([RANDOM_SEED], space.generator.z_dim)).clamp(-1, 1)
    assert torch.allclose(begin.pictures, own.expand_as(made), atol=1e-3)
    found = search(made, space, Pixels(), SearchSettings(start="random", space="w", steps=60, lr=0.1, prior=0.0))
    assert (found.ws == found.ws[:, :1]).all()
    assert (found.pictures - made).square().mean() < 0.3 * (begin.pictures - made).square().mean()


def test_the_search_is_deterministic_and_pictures_are_independent(space: LatentSpace, made: Tensor) -> None:
    settings = SearchSettings(steps=20, patience=1000)
    once, again, alone = (search(pictures, space, Pixels(), settings) for pictures in (made, made, made[:1]))
    assert torch.equal(once.u, again.u)
    assert torch.allclose(once.u[:1], alone.u, atol=1e-2)


def test_it_stops_early(space: LatentSpace, made: Tensor) -> None:
    found = search(made, space, Pixels(), SearchSettings(steps=5000, lr=1e-9, patience=30))
    assert found.steps <= 50
    assert found.seconds > 0


def test_small_gains_add_up() -> None:
    falling, flat = EarlyStopping(40, 0.01), EarlyStopping(40, 0.01)
    assert not any(falling(0.995**check) for check in range(100))  # 1% in two checks
    assert [flat(1 - 1e-4 * check) for check in range(5)] == [False] * 4 + [True]


def test_noise_maps_bring_any_picture_nearer_and_stay_normalised(space: LatentSpace) -> None:
    model = space.generator
    for name, parameter in model.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.3)
    strange = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    plain, with_noise = (search(strange, space, Pixels(), SearchSettings(steps=60, noise=on)) for on in (False, True))
    assert with_noise.distance.mean() < plain.distance.mean()
    assert with_noise.noise is not None
    for fitted in with_noise.noise:
        assert fitted.mean((1, 2, 3)).abs().max() < 1e-4
        assert torch.allclose(fitted.square().mean((1, 2, 3)), torch.ones(2), atol=1e-3)


def test_noise_regularisation_tells_noise_from_a_picture() -> None:
    noise = torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    slope = torch.linspace(-1.7, 1.7, 32).expand(3, 1, 32, 32)
    assert (noise_regularisation(noise) < 0.05 * noise_regularisation(slope)).all()


def test_the_learning_rate_rises_and_falls() -> None:
    factors = [lr_multiplier(step / 100, 0.1, 0.5) for step in range(100)]
    assert factors[0] < 0.1 and max(factors) == 1.0 and factors[-1] < 0.01
    assert factors[10:50] == [1.0] * 40


def test_tuning_changes_a_copy_to_make_what_no_latent_makes(space: LatentSpace) -> None:
    blocks = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(2)) * 2 - 1
    strange = torch.nn.functional.interpolate(blocks, scale_factor=8, mode="bilinear")
    before = {name: tensor.clone() for name, tensor in space.generator.state_dict().items()}
    found = search(strange, space, Pixels(), SearchSettings(steps=30))
    bent = tune(found, strange, space, Pixels(), 100)
    made = bent.synthesise(found.ws)
    assert (made - strange).square().mean() < 0.9 * (found.pictures - strange).square().mean()
    assert all(torch.equal(tensor, before[name]) for name, tensor in space.generator.state_dict().items())
    assert not any(parameter.requires_grad for parameter in bent.parameters())


def test_the_built_in_distance(made: Tensor) -> None:
    perceptual = load_perceptual("builtin", torch.device("cpu"))
    features = perceptual.features(made)
    assert torch.allclose(perceptual.distance(features, features), torch.zeros(len(made)))
    near, far = perceptual.features((made * 0.95).clamp(-1, 1)), perceptual.features(made.flip(0))
    assert (perceptual.distance(features, near) < perceptual.distance(features, far)).all()


def test_unknown_features_are_named() -> None:
    with pytest.raises(ValueError, match="--features inception: give builtin, or vgg16"):
        load_perceptual("inception", torch.device("cpu"))


def test_the_encoder_is_fitted_only_if_it_is_used(space: LatentSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    own = LatentSpace(space.generator)
    monkeypatch.setattr(own.generator, "synthesise", None)
    torch.testing.assert_close(own.root, space.root)
    assert "_encoder" not in vars(own)


def test_a_generator_s_own_encoder_is_used() -> None:
    torch.manual_seed(0)
    changes: dict[str, Any] = {"network": {"encoder": 1}}
    own = LatentSpace(stylegan2.Model(stylegan2.PRESETS["tiny"].replace(**changes)).eval())
    pictures = torch.rand(2, 3, 32, 32) * 2 - 1
    found = own.encode(pictures)
    wanted = own.generator.encode(pictures)
    assert wanted is not None and torch.allclose(own.styles(found), wanted, atol=1e-3)
    assert "_encoder" not in vars(own)
