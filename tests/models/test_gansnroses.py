"""GANs N' Roses: copies of one picture, each loss against its equation, and what a step learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.models import gansnroses
from kyara.models.base import Batch
from kyara.nn.losses import nonsaturating_d, nonsaturating_g
from kyara.perception.features import load_features, unit

WEIGHTS = tuple(gansnroses.LOSSES)
STILL = {"degrees": 0.0, "scale": 0.0, "translate": 0.0}


def model(**parts: Any) -> gansnroses.Model:
    torch.manual_seed(0)
    return gansnroses.Model(gansnroses.PRESETS["tiny"].replace(**parts))


def some_batch(count: int = 8) -> Batch:
    random = torch.Generator().manual_seed(1)
    real, photos = (torch.rand(2, count, 3, 32, 32, generator=random) * 2 - 1).unbind(0)
    return Batch(real, photos=photos)


def test_content_is_augmented_copies_of_few_pictures() -> None:
    batch = some_batch()
    assert batch.photos is not None
    photos, _ = model(augment=STILL)._steps(batch)
    mirrored = []
    for i, copy in enumerate(photos.source.copies):  # picture i % 2, mirrored or not
        apart = [float((copy - x).abs().max()) for x in (batch.photos[i % 2], batch.photos[i % 2].flip(2))]
        assert min(apart) < 1e-5
        mirrored.append(apart[1] < apart[0])
    assert {*mirrored} == {True, False}
    moved, _ = model()._steps(batch)
    assert all((a - b).abs().mean() > 0.05 for a, b in zip(moved.source.copies[2:], moved.source.copies, strict=False))
    assert torch.equal(moved.source.pictures.isfinite(), torch.ones(8, 3, 32, 32, dtype=torch.bool))


def test_styles_are_random_or_of_the_other_domain() -> None:
    net = model(losses={"default_style_prob": 0.0})
    step, other = net._steps(some_batch(64))
    known = step.target.codes[1]
    assert other.source is step.target
    theirs = (step.styles[:, None] - known[None]).abs().amax(2).amin(1) < 1e-6
    assert 0.25 < float(theirs.float().mean()) < 0.75
    assert 0.8 < float(step.styles[~theirs].detach().std()) < 1.2


def expected(net: gansnroses.Model, step: gansnroses.Step, name: str) -> Tensor:
    """The loss of this name by its equation, from the networks, without its weight."""
    source, target = step.source.net, step.target.net
    content, style = source.encoder(step.source.copies)
    fake = target.decoder(content, step.styles)
    again, their_style = target.encoder(fake)
    by_picture = style.view(4, 2, -1)  # (copies, pictures, S)
    back = source.decoder(again, torch.cat([by_picture[3:], by_picture[:3]]).flatten(0, 1))
    if name == "adversarial":
        return sum(map(nonsaturating_g, step.target.critic.pictures(fake))) / 3  # type: ignore[return-value]
    if name == "latent":
        return F.softplus(-step.source.critic.styles(style)).mean()
    if name == "invariance":
        return (by_picture - by_picture.mean(0)).square().mean()
    if name == "cycle":
        return (back - step.source.copies).square().mean()
    if name == "style":
        return (their_style - step.styles).square().mean()
    network = load_features("builtin", fake.device)
    pairs = zip(network(back[:4]), network(step.source.copies[:4]), strict=True)
    distances = [(unit(a) - unit(b)).square().sum(1).mean() for a, b in pairs]
    return torch.stack(distances).mean()


@pytest.mark.parametrize("name", WEIGHTS)
def test_each_loss_is_its_equation(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, batch = model(losses=dict.fromkeys(WEIGHTS, 0.0) | {name: 3.0}), some_batch()
    steps = net._steps(batch)
    monkeypatch.setattr(net, "_steps", lambda batch: steps)
    found = net.losses("g", batch)
    assert set(found) == {name}
    by_hand = expected(net, steps[0], name) + expected(net, steps[1], name)
    assert torch.allclose(found[name], 3 * by_hand, rtol=1e-3)


def test_the_discriminators_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    net, batch = model(losses={"adversarial": 2.0, "latent": 0.0}), some_batch()
    steps = net._steps(batch)
    monkeypatch.setattr(net, "_steps", lambda batch: steps)
    found = net.losses("d", batch)
    by_hand = torch.zeros(())
    for step in steps:
        critic = step.target.critic.pictures
        pairs = zip(critic(step.target.pictures), critic(step.fake.detach()), strict=True)
        by_hand = by_hand + sum(nonsaturating_d(*pair) for pair in pairs) / 3
    assert torch.allclose(found["d"], 2 * by_hand, rtol=1e-4) and found["d_styles"] == 0
    found["d"].backward()
    assert all(p.grad is None for p in net.g.parameters())
    assert all(p.grad is not None for side in (net.d.photos, net.d.drawings) for p in side.pictures.parameters())


def test_a_discriminator_sees_the_variety_of_a_group() -> None:
    """Four pictures four times, in groups of equal and of different ones: only the last logits differ."""
    critic = model().d.drawings.pictures
    pictures = torch.rand(4, 3, 32, 32) * 2 - 1
    alike, varied = critic(pictures.repeat(4, 1, 1, 1)), critic(pictures.repeat_interleave(4, 0))  # strides of groups
    assert [x.shape for x in alike] == [(16, 16), (16, 4), (4, 1)]
    for a, b in zip(alike[:2], varied[:2], strict=True):
        assert torch.allclose(a[:4], b[::4], atol=1e-5)
    assert torch.allclose(alike[2], critic.deviation.bias.expand(4, 1), atol=1e-2)
    assert (varied[2] - alike[2]).abs().min() > 1e-3


def test_all_that_a_discriminator_sees_is_augmented() -> None:
    net, batch, seen = model(), some_batch(), list[int]()
    batch.augment = lambda pictures: seen.append(len(pictures)) or pictures  # type: ignore[func-returns-value]
    for phase, calls in (("d", 4), ("d_reg", 2), ("g", 2)):
        seen.clear()
        net.losses(phase, batch)
        assert seen == [8] * calls, phase


def test_a_translation_is_the_content_of_the_photo_in_a_style() -> None:
    net, batch = model(), some_batch(2)
    assert batch.photos is not None
    with torch.no_grad():
        styles = net.style_of(batch.real)
        assert styles.shape == (2, 8)
        content, _ = net.g_ema.photos.encoder(batch.photos)
        made = net.g_ema.drawings.decoder(content, styles).clamp(-1, 1)
        assert torch.allclose(net.translate(batch.photos, styles), made, atol=1e-5)
        assert torch.equal(net.translate(batch.photos), net.translate(batch.photos, torch.zeros(2, 8)))


def test_pictures_come_back_from_the_other_domain() -> None:
    net = model(losses=dict.fromkeys(WEIGHTS, 0.0) | {"cycle": 1.0}, augment=STILL)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")
    drawings = torch.stack([x.sign(), y.sign(), (x * y).sign(), (x + y).sign()])[:, None].repeat(1, 3, 1, 1) * 0.8
    batch, optimizer = Batch(drawings, photos=drawings.flip(0) * 0.5), torch.optim.Adam(net.g.parameters(), lr=4e-3)
    errors = []
    for _ in range(60):
        loss = net.losses("g", batch)["cycle"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(float(loss.detach()))
    assert sum(errors[-5:]) < sum(errors[:5]) / 2
