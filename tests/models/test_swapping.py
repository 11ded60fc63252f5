"""Swapping Autoencoder: its patches, textures as styles, each loss against its equation, and what a step learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kyara.models import swapping
from kyara.models.base import Batch
from kyara.nn.losses import nonsaturating_d, nonsaturating_g

WEIGHTS = tuple(swapping.LOSSES)


def model(**parts: Any) -> swapping.Model:
    torch.manual_seed(0)
    return swapping.Model(swapping.PRESETS["tiny"].replace(**parts))


def some_batch(count: int = 2) -> Batch:
    random = torch.Generator().manual_seed(1)
    real, photos = (torch.rand(2, count, 3, 32, 32, generator=random) * 2 - 1).unbind(0)
    return Batch(real, photos=photos)


def step_of(net: swapping.Model, batch: Batch) -> swapping.Step:
    assert batch.photos is not None
    return swapping.Step(net.config, net.g, net.d, torch.cat([batch.photos, batch.real]), batch.augment)


# --- patches


def test_patches_are_squares_of_the_sizes_asked_for() -> None:
    """Of pictures whose colours are coordinates in pixels."""
    torch.manual_seed(0)
    config = model(losses={"patch_count": 200}, network={"patch_size": 8}).config
    y, x = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    pictures = torch.stack([torch.stack([x, y, torch.full_like(x, i)]) for i in range(2)])
    patches = swapping.random_patches(pictures, config)
    assert patches.shape == (2, 200, 3, 8, 8)
    own = torch.tensor([0.0, 1.0])[:, None, None, None].expand(-1, 200, 8, 8)
    assert torch.allclose(patches[:, :, 2], own, atol=1e-4)  # each of its own picture
    inner = patches[:, :, :2, 2:6, 2:6]  # at the rim a patch may be padded by half a pixel
    across, down = inner[:, :, 0].diff(dim=3) * 8, inner[:, :, 1].diff(dim=2) * 8  # the side of the patch
    assert torch.allclose(across.abs().mean((2, 3)), down.mean((2, 3)), atol=0.05)
    sides = down.mean((2, 3))
    assert 4 - 0.1 < float(sides.min()) < 4.5 and 7.5 < float(sides.max()) < 8 + 0.1
    assert 0.3 < float((across.mean((2, 3)) < 0).float().mean()) < 0.7  # mirrored
    centres = inner[:, :, :2].mean((3, 4))
    assert centres[..., 0].min() < 8 and centres[..., 0].max() > 56 and centres[..., 1].max() > 24


def test_references_count_as_their_mean_in_any_order() -> None:
    critic = model().d.patches
    patches, references = torch.rand(2, 3, 3, 8, 8), torch.rand(2, 2, 3, 8, 8)
    logits = critic(patches, references)
    assert logits.shape == (2, 3)
    assert torch.allclose(critic(patches, references.flip(1)), logits, atol=1e-5)
    assert torch.allclose(critic(patches.flip(1), references), logits.flip(1), atol=1e-5)
    assert not torch.allclose(critic(patches, references.flip(0)), logits, atol=1e-3)


# --- textures as styles


def test_the_square_root_of_a_matrix() -> None:
    torch.manual_seed(0)
    factor = torch.randn(12, 12) * torch.logspace(0, -1.5, 12)
    matrix = factor @ factor.T + 1e-3 * torch.eye(12)
    root, inverse = swapping.square_root(matrix)
    values, axes = torch.linalg.eigh(matrix.double())
    assert torch.allclose(root.double(), (axes * values.sqrt()) @ axes.T, atol=1e-3)
    assert torch.allclose(root @ inverse, torch.eye(12), atol=1e-2)


def test_styles_are_normal_and_textures_come_back() -> None:
    net = model(network={"texture_decay": 0.5})
    torch.manual_seed(1)
    seen = torch.nn.functional.normalize(torch.randn(512, 8) * torch.linspace(0.1, 1, 8) + torch.linspace(-1, 1, 8))
    for _ in range(20):
        net.g_ema.textures.track(seen)
    styles = net.g_ema.textures.to_styles(seen)
    assert torch.allclose(net.g_ema.textures.of_styles(styles), seen, atol=1e-3)
    assert styles.mean(0).abs().max() < 0.02
    assert torch.allclose(styles.T @ styles / len(styles), torch.eye(8), atol=0.05)
    mean = torch.nn.functional.normalize(seen.mean(0), dim=0)
    assert torch.allclose(net.g_ema.textures.of_styles(torch.zeros(1, 8))[0], mean, atol=1e-4)


def test_the_textures_of_drawings_are_tracked_in_training() -> None:
    net, batch = model(network={"texture_decay": 0.75}), some_batch()
    textures = net.g.encode(batch.real)[1].detach()
    net.losses("g", batch)
    assert torch.allclose(net.g.textures.mean, textures.mean(0) / 4, atol=1e-6)
    square = torch.eye(8) / 8 * 0.75 + textures.T @ textures / 2 / 4
    assert torch.allclose(net.g.textures.square, square, atol=1e-6)
    before = net.g.textures.mean.clone()
    net.losses("d", batch)
    assert torch.equal(net.g.textures.mean, before)


# --- losses


def test_hybrids_swap_textures_between_photos_and_drawings() -> None:
    net, batch = model(), some_batch(3)
    step = step_of(net, batch)
    (structure, texture), (reconstructed, hybrids) = step.codes, step.made
    assert torch.allclose(structure.norm(dim=1), torch.ones(6, 4, 4), atol=1e-5)
    assert torch.allclose(texture.norm(dim=1), torch.ones(6), atol=1e-5)
    assert len(reconstructed) == 4
    assert torch.allclose(reconstructed[2], net.g.decoder(structure[3:4], texture[3:4])[0], atol=1e-5)
    for i in range(6):
        other = (i + 3) % 6
        assert torch.allclose(hybrids[i], net.g.decoder(structure[i : i + 1], texture[[other]])[0], atol=1e-5)
        assert torch.equal(step.sources[i], step.pictures[other])


@pytest.mark.parametrize(("count", "chosen"), [(1, [0, 1]), (2, [0, 2]), (3, [0, 2, 3, 5]), (4, [0, 2, 4, 6])])
def test_drawings_are_reconstructed_as_often_as_photos(count: int, chosen: list[int]) -> None:
    """Also if a micro-batch is one picture."""
    assert swapping.every_second(torch.arange(2 * count)).tolist() == chosen
    step = step_of(model(), some_batch(count))
    assert len(step.made[0]) == len(chosen) and len(step.made[1]) == 2 * count


@pytest.mark.parametrize("name", WEIGHTS)
def test_each_loss_is_its_equation(name: str) -> None:
    net, batch = model(losses=dict.fromkeys(WEIGHTS, 0.0) | {name: 3.0}), some_batch()
    torch.manual_seed(7)
    found = net.losses("g", batch)
    assert set(found) == {name}
    step = step_of(net, batch)
    reconstructed, hybrids = step.made
    torch.manual_seed(7)
    patches, references = (swapping.random_patches(x, net.config) for x in (hybrids, step.sources))
    equations = {
        "reconstruction": lambda: (reconstructed - step.pictures[[0, 2]]).abs().mean(),
        "gan_reconstruction": lambda: nonsaturating_g(net.d.pictures(reconstructed)),
        "gan_hybrid": lambda: nonsaturating_g(net.d.pictures(hybrids)),
        "patches": lambda: nonsaturating_g(net.d.patches(patches, references)),
    }
    assert torch.allclose(found[name], 3 * equations[name](), rtol=1e-3)
    found[name].backward()
    assert all(p.grad is not None for p in net.g.decoder.parameters())


def test_the_discriminators_losses() -> None:
    net, batch = model(losses={"patches": 2.0}), some_batch()
    torch.manual_seed(7)
    found = net.losses("d", batch)
    step = step_of(net, batch)
    reconstructed, hybrids = (x.detach() for x in step.made)
    logits, *of_fakes = (net.d.pictures(x) for x in (step.pictures, reconstructed, hybrids))
    by_hand = [nonsaturating_d(logits, of_fake) for of_fake in of_fakes]  # equations 2 and 3, half of each
    assert torch.allclose(found["d"], torch.stack(by_hand).mean(), rtol=1e-4)
    torch.manual_seed(7)
    real, fake = (
        net.d.patches(*(swapping.random_patches(x, net.config) for x in (shown, step.sources)))
        for shown in (step.sources, hybrids)
    )
    assert torch.allclose(found["d_patches"], 2 * nonsaturating_d(real, fake), rtol=1e-4)
    sum(found.values()).backward()
    assert all(p.grad is None for p in net.g.parameters())
    assert all(p.grad is not None for p in net.d.parameters())


def test_reconstructions_weigh_as_much_as_hybrids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though they are half as many: two, before four hybrids."""
    monkeypatch.setattr(swapping.Step, "judge", lambda self, pictures: 5.0 * torch.arange(len(pictures)))
    found = model().losses("d", some_batch())["d"]
    real, fake = 5.0 * torch.arange(4), 5.0 * torch.arange(6)
    assert torch.allclose(found, (nonsaturating_d(real, fake[:2]) + nonsaturating_d(real, fake[2:])) / 2)
    assert not torch.allclose(found, nonsaturating_d(real, fake))


def test_all_pictures_that_a_discriminator_sees_are_augmented() -> None:
    net, batch, seen = model(), some_batch(), list[int]()
    batch.augment = lambda pictures: seen.append(len(pictures)) or pictures  # type: ignore[func-returns-value]
    for phase, calls in (("d", [4, 6]), ("d_reg", [4]), ("g", [2, 4])):
        seen.clear()
        net.losses(phase, batch)
        assert seen == calls, phase


def test_weights_of_zero_cost_nothing() -> None:
    """Neither the patches nor second derivatives are computed."""
    net = model(losses={"patches": 0.0, "r1_gamma": 0.0})
    assert net.reg_interval("d_reg") == 0 and model(losses={"r1_gamma": 0.0}).reg_interval("d_reg") == 2
    del net.d.patches
    assert list(net.losses("d", some_batch())) == ["d"]
    assert list(model(losses={"r1_gamma": 0.0}).losses("d_reg", some_batch())) == ["d_patches_reg"]
    assert list(model(losses={"patches": 0.0}).losses("d_reg", some_batch())) == ["d_reg"]


# --- what it is for


def test_a_photo_in_the_texture_of_a_drawing() -> None:
    net, batch = model(), some_batch()
    assert batch.photos is not None
    net.losses("g", batch)  # some textures are known now
    net.g_ema.load_state_dict(net.g.state_dict())
    with torch.no_grad():
        structure, texture = net.g_ema.encode(batch.photos)[0], net.g_ema.encode(batch.real)[1]
        wanted = net.g_ema.decoder(structure, texture).clamp(-1, 1)
        assert torch.allclose(net.translate(batch.photos, net.style_of(batch.real)), wanted, atol=1e-2)


def test_auto_encoding_learns_a_few_pictures() -> None:
    net = model(losses=dict.fromkeys(WEIGHTS, 0.0) | {"reconstruction": 1.0})
    y, x = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")
    drawings = torch.stack([x.sign(), y.sign()])[:, None] * torch.tensor([0.8, -0.2, 0.5])[:, None, None]
    batch, optimizer = Batch(drawings, photos=drawings.flip(1) * 0.5), torch.optim.Adam(net.g.parameters(), lr=4e-3)
    errors: list[float] = []
    for _ in range(60):
        loss: Tensor = net.losses("g", batch)["reconstruction"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(float(loss.detach()))
    assert sum(errors[-5:]) < sum(errors[:5]) / 2.5


def test_patches_too_small_to_judge_are_refused() -> None:
    with pytest.raises(ValueError, match="patch_size=4: must be 8 or more"):
        model(network={"patch_size": 4})
