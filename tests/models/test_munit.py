"""MUNIT: its layers against what the equations say, each loss against its own, and that it learns content and style."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kyara.models import base, munit
from kyara.models.base import Batch
from kyara.perception.features import load_features

WEIGHTS = tuple(munit.LOSSES)
TINY = munit.PRESETS["tiny"]


def model(**parts: Any) -> munit.Model:
    torch.manual_seed(0)
    return munit.Model(TINY.replace(**parts))


def only(**weights: float) -> munit.Model:
    """A model with these losses and no others."""
    return model(losses=dict.fromkeys(WEIGHTS, 0.0) | weights)


def some_batch(count: int = 2, seed: int = 1) -> Batch:
    random = torch.Generator().manual_seed(seed)
    real, photos = (torch.rand(2, count, 3, 32, 32, generator=random) * 2 - 1).unbind(0)
    return Batch(real, photos=photos)


def learn(net: munit.Model, batches: list[Batch], steps: int, lr: float) -> None:
    """Trains it as the loop does, in float32; the average is what came out."""
    optimizers = {phase: net.optimizer([{"params": [*p.parameters()]}]) for phase, p in net.players().items()}
    for step in range(steps):
        for phase, optimizer in optimizers.items():
            optimizer.param_groups[0]["lr"] = lr
            if losses := net.losses(phase, batches[step % len(batches)]):
                sum(losses.values()).backward()
                optimizer.step()
                net.zero_grad()
    net.g_ema.load_state_dict(net.g.state_dict())


# --- layers


def test_adain_gives_the_mean_and_deviation_asked_for() -> None:
    x = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]], [[2.0, 2.0], [2.0, 10.0]]]])  # means 4 and 4, variances 5 and 12
    made = munit.adain(x, torch.tensor([[2.0, 0.5, -1.0, 3.0]]))  # deviations 2 and 0.5, means -1 and 3
    by_hand = [(v - 4) / math.sqrt(5 + 1e-5) * 2 - 1 for v in (1, 3, 5, 7)]
    by_hand += [(v - 4) / math.sqrt(12 + 1e-5) * 0.5 + 3 for v in (2, 2, 2, 10)]
    assert torch.allclose(made.flatten(), torch.tensor(by_hand), atol=1e-5)
    torch.manual_seed(0)
    style = torch.randn(3, 10)
    made = munit.adain(torch.randn(3, 5, 9, 7) * 4 + 2, style)
    assert torch.allclose(made.mean((2, 3)), style[:, 5:], atol=1e-5)
    assert torch.allclose(made.std((2, 3), correction=0), style[:, :5].abs(), atol=1e-4)
    plain = munit.adain(made)
    assert torch.allclose(plain.mean((2, 3)), torch.zeros(3, 5), atol=1e-5)
    assert torch.allclose(plain.var((2, 3), correction=0), torch.ones(3, 5), atol=1e-2)


def test_layers_normalise_over_what_they_should() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 6, 5) * 3 + 1
    _, norm, _ = model().g.drawings.decoder.up[:3]
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    mean, variance = x.mean((1, 2, 3), keepdim=True), x.var((1, 2, 3), keepdim=True, correction=0)
    expected = (x - mean) / (variance + 1e-5).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]
    assert torch.allclose(norm(x), expected, atol=1e-5)
    encoder = model().g.photos.content_encoder
    seen = encoder.down[1](x)
    expected = (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
    assert torch.allclose(seen, expected, atol=1e-5)
    assert not any(isinstance(m, munit.Norm) for m in model().g.photos.style_encoder.modules())


def test_the_discriminator_looks_at_several_sizes() -> None:
    torch.manual_seed(0)
    critic, pictures = munit.Discriminator(TINY), torch.rand(2, 3, 32, 32) * 2 - 1
    found = critic(pictures)
    assert [x.shape for x in found] == [(2, 16), (2, 4), (2, 1)]
    half = F.avg_pool2d(pictures, 3, 2, 1, count_include_pad=False)
    assert torch.allclose(found[1], critic.scales[1](half).flatten(1), atol=1e-6)
    for side, scales in ((64, 3), (16, 2), (9, 1), (1, 1)):
        config = TINY.replace(data={"width": side, "height": side + 40})
        assert len(munit.Discriminator(config).scales) == scales


def test_sizes() -> None:
    """Content is a quarter of the picture on each side; what is too small or no multiple of four grows, and is cut."""
    net = model()
    pictures = torch.rand(2, 3, 32, 48) * 2 - 1
    assert net.g.photos.content_encoder(pictures).shape == (2, 4 << 2, 8, 12)
    assert net.style_of(pictures).shape == (2, 8)
    with torch.no_grad():
        odd = pictures[:, :, :30, :47]
        padded = torch.cat([odd, odd[..., -1:]], 3)
        padded = torch.cat([padded, padded[:, :, -1:].expand(-1, -1, 2, -1)], 2)
        assert torch.equal(net.translate(odd), net.translate(padded)[:, :, :30, :47])


# --- losses


def styles(count: int = 2) -> Tensor:
    """As the model draws them."""
    z = torch.randn(count, TINY.network.style_dim)
    return z * (torch.rand(count, 1) >= TINY.losses.default_style_prob)


def expected(net: munit.Model, batch: Batch, name: str) -> Tensor:
    """The loss of this name by the paper's equations, of both domains, without its weight."""
    torch.manual_seed(7)
    z = {"drawings": styles(), "photos": styles()}
    pictures = {"drawings": batch.real, "photos": batch.photos}
    total = torch.zeros(())
    for there, here in (("drawings", "photos"), ("photos", "drawings")):
        ours, theirs, x = getattr(net.g, here), getattr(net.g, there), pictures[here]
        content = ours.content_encoder(x)
        fake = theirs.decoder(content, z[there])
        again = theirs.content_encoder(fake)
        if name == "image":
            total = total + (ours.decoder(content, ours.style_encoder(x)) - x).abs().mean()
        elif name == "style":
            total = total + (theirs.style_encoder(fake) - z[there]).abs().mean()
        elif name == "content":
            total = total + (again - content).abs().mean()
        elif name == "adversarial":
            total = total + sum(((logits - 1) ** 2).mean() for logits in getattr(net.d, there)(fake))
        elif name == "perceptual":
            network = load_features("builtin", x.device)
            stages = zip(network(fake), network(x), strict=True)
            apart = [(munit.adain(a) - munit.adain(b)).square().mean() if a[0, 0].numel() > 1 else 0 for a, b in stages]
            total = total + sum(apart) / len(apart)
    return total


@pytest.mark.parametrize("name", WEIGHTS)
def test_each_loss_is_its_equation_and_reaches_its_parts(name: str) -> None:
    net, batch = only(**{name: 3.0}), some_batch()
    torch.manual_seed(7)
    found = net.losses("g", batch)
    assert set(found) == {name}  # what weighs nothing is not there
    near = 0.01 if name == "perceptual" else 1e-4  # some of the network's channels hardly vary: rounding is amplified
    assert torch.allclose(found[name], 3 * expected(net, batch, name), rtol=near)
    found[name].backward()
    styled = name in ("image", "style")
    for side in (net.g.photos, net.g.drawings):
        for part, reached in ((side.content_encoder, True), (side.decoder, True), (side.style_encoder, styled)):
            gradients = [p.grad for p in part.parameters()]
            assert all((g is not None and g.abs().max() > 0) == reached for g in gradients), name


def test_all_losses_are_those_of_their_own() -> None:
    whole = model(losses={name: float(i + 1) for i, name in enumerate(WEIGHTS)})
    torch.manual_seed(7)
    found = whole.losses("g", some_batch())
    assert set(found) == set(WEIGHTS)
    for i, name in enumerate(WEIGHTS):
        assert torch.allclose(found[name], (i + 1) * expected(whole, some_batch(), name), rtol=0.01)


def test_the_discriminators_loss() -> None:
    net, batch = model(losses={"adversarial": 2.0}), some_batch()
    torch.manual_seed(7)
    found = net.losses("d", batch)["d"]
    torch.manual_seed(7)
    fake_drawings = net.g.drawings.decoder(net.g.photos.content_encoder(batch.photos), styles())
    fake_photos = net.g.photos.decoder(net.g.drawings.content_encoder(batch.real), styles())
    by_hand, right = torch.zeros(()), []
    for critic, real, fake in (
        (net.d.drawings, batch.real, fake_drawings),
        (net.d.photos, batch.photos, fake_photos),
    ):
        for a, b in zip(critic(real), critic(fake), strict=True):
            by_hand = by_hand + ((a - 1) ** 2).mean() + (b**2).mean()
            right += [(a > 0.5).float().mean() * 2 - 1]
    assert torch.allclose(found, 2 * by_hand, rtol=1e-4)
    assert float(batch.log["real_sign"]) == pytest.approx(float(torch.stack(right).mean()), abs=1e-5)
    found.backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.d.parameters())
    assert all(p.grad is None for p in net.g.parameters())
    assert only(image=1.0).losses("d", batch) == {}


def test_all_that_a_discriminator_sees_is_augmented() -> None:
    net, batch = model(), some_batch()
    seen: list[int] = []

    def augment(pictures: Tensor) -> Tensor:
        seen.append(len(pictures))
        return pictures

    batch.augment = augment
    net.losses("d", batch)
    assert seen == [4, 4]  # of each domain, real ones and fakes
    net.losses("g", batch)
    assert seen == [4, 4, 2, 2]


def test_some_styles_are_the_default() -> None:
    torch.manual_seed(0)
    side = munit.Side(None, None, torch.empty(4000, 3, 1, 1))  # type: ignore[arg-type]
    drawn = side.random_styles(TINY.replace(losses={"default_style_prob": 0.25}))
    default = (drawn == 0).all(1)
    assert float(default.float().mean()) == pytest.approx(0.25, abs=0.03)
    assert float(drawn[~default].std()) == pytest.approx(1, abs=0.03) and not (drawn[~default] == 0).any()


def test_the_learning_rate_halves() -> None:
    net = model(optimizer={"lr_halvings": 10})
    assert [net.lr_scale(p) for p in (0.0, 0.099, 0.1, 0.55, 1.0)] == [1, 1, 0.5, 2**-5, 2**-10]
    assert model().lr_scale(0.9) == 1


# --- what it learns


def test_auto_encoding_learns_a_few_pictures() -> None:
    y, x = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")
    shapes = [((x - 0.3 * i) ** 2 + y**2 < 0.3).float() for i in (-1, 0, 1)]
    colours = torch.tensor([[0.8, -0.6, 0.1], [-0.5, 0.4, 0.9], [0.2, 0.9, -0.7]])
    drawings = torch.stack([c[:, None, None] * (2 * s - 1) for c, s in zip(colours, shapes, strict=True)])
    batch = Batch(drawings, photos=drawings.flip(1) * 0.5)
    net = only(image=1.0)
    before = float(net.losses("g", batch)["image"].detach())
    learn(net, [batch], steps=120, lr=4e-3)
    assert float(net.losses("g", batch)["image"].detach()) < before / 5


def squares(seed: int, colour: int) -> Tensor:
    """Flat colours, strongest in one channel, with a black square somewhere: (8, 3, 16, 16)."""
    random = torch.Generator().manual_seed(seed)
    shades = torch.rand(8, 3, 1, 1, generator=random) - 0.5
    shades[:, colour] += 0.5
    pictures = shades.repeat(1, 1, 16, 16)
    for picture, (y, x) in zip(pictures, torch.randint(9, (8, 2), generator=random).tolist(), strict=True):
        picture[:, y : y + 8, x : x + 8] = -1
    return pictures


def test_styles_come_back() -> None:
    """Reddish photos, bluish drawings: what is made in a style is of that style, and of the domain."""
    net = model(data={"width": 16, "height": 16}, network={"style_dim": 2}, losses={"style": 5.0})
    photos, styles = squares(5000, 0), base.latents(range(8), 2)

    def error() -> float:
        with torch.no_grad():
            return float((net.style_of(net.translate(photos, styles)) - styles).abs().mean() / styles.abs().mean())

    before = error()
    learn(net, [Batch(squares(i, 2), photos=squares(i + 1000, 0)) for i in range(60)], steps=220, lr=2e-3)
    assert error() < 0.65 < before
    red, _, blue = net.translate(photos, styles).mean((0, 2, 3)).detach()
    assert blue > red + 0.2


def test_styles_decide_and_photos_do_not_mix() -> None:
    net = model()
    photos = some_batch(3).photos
    styles = base.latents(range(3), net.style_dim)
    with torch.no_grad():
        made = net.translate(photos[:1].expand(3, -1, -1, -1), styles)
        assert torch.equal(made, net.translate(photos[:1].expand(3, -1, -1, -1), styles))
        assert all((made[i] - made[j]).abs().mean() > 0.01 for i, j in ((0, 1), (0, 2), (1, 2)))
        assert torch.equal(net.translate(photos), net.translate(photos, torch.zeros(3, net.style_dim)))
        assert torch.allclose(net.translate(photos, styles)[1:2], net.translate(photos[1:2], styles[1:2]), atol=1e-5)


def test_preview_and_measure() -> None:
    net, batch = model(), some_batch(12)
    with torch.no_grad():
        sheet = net.preview(batch)
        assert sheet.shape == (64, 3, 32, 32)
        rows = sheet.unflatten(0, (8, 8))
        assert torch.equal(rows[:, 0], batch.photos[:8])
        assert torch.allclose(rows[:, 1], net.translate(batch.photos[:8]), atol=1e-5)
        down = base.latents([2], net.style_dim).expand(8, -1)
        assert torch.allclose(rows[:, 4], net.translate(batch.photos[:8], down), atol=1e-5)
        assert net.preview(batch[:3]).shape == (9, 3, 32, 32)
        scores = net.measure(batch, lambda made, real: float((made - real).abs().mean()))
    assert next(iter(scores)) == "frechet" and scores["frechet"] > 0 and scores["diversity"] > 0
