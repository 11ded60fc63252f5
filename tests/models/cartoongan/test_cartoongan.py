"""Each loss of CartoonGAN against a value that was computed otherwise, its gradient, and its absence."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from kyara.models.base import Batch
from kyara.models.cartoongan import losses, painting
from kyara.models.cartoongan import model as cartoongan
from kyara.perception import features as perceptual
from kyara.perception import landmarks, portrait

TINY = cartoongan.PRESETS["tiny"]
LOSSES = (*losses.KEEP, *losses.DRAW)
OFF = dict.fromkeys((*LOSSES, "enlarge_eyes", "gaze", "ink"), 0.0)
EYES = [(0.2, 0.4), (0.3, 0.3), (0.4, 0.4), (0.3, 0.5), (0.6, 0.4), (0.7, 0.3), (0.8, 0.4), (0.7, 0.5)]
FACE = torch.tensor([*EYES, (0.5, 0.6), (0.4, 0.7), (0.6, 0.7), (0.5, 0.9)])


def model(**changes: object) -> cartoongan.Model:
    torch.manual_seed(0)
    changes = {**OFF, **changes}
    network = {name: value for name, value in changes.items() if hasattr(TINY.network, name)}
    losses = {name: value for name, value in changes.items() if name not in network}
    return cartoongan.Model(TINY.replace(network=network, losses=losses)).train()


def batch(seed: int = 0) -> Batch:
    torch.manual_seed(seed)
    return Batch(torch.rand(4, 3, 32, 32) * 2 - 1, photos=torch.rand(4, 3, 32, 32) * 2 - 1)


@pytest.fixture
def plain_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen network that sees two maps: the picture, and its halves by mean."""

    def plain(pictures: Tensor) -> list[Tensor]:
        return [pictures, torch.nn.functional.avg_pool2d(pictures, 2)]

    monkeypatch.setattr(losses, "load_features", lambda name, device: plain)


def grams(pictures: Tensor) -> np.ndarray:
    """(B, C, C), entry by entry."""
    x = pictures.detach().numpy().astype(np.float64)
    c, h, w = x.shape[1:]
    return np.array([[[(one[i] * one[j]).sum() / (c * h * w) for j in range(c)] for i in range(c)] for one in x])


def test_content(plain_features: None) -> None:
    net, given = model(content=3.0), batch()
    found = net.losses("g", given)
    with torch.no_grad():
        made, photos = net.g(given.photos).numpy(), given.photos.numpy()
    expected = 0.0
    for size in (1, 2):
        a, b = (x.reshape(4, 3, 32 // size, size, 32 // size, size).mean((3, 5)) for x in (made, photos))
        a, b = (x / np.sqrt((x**2).sum(1, keepdims=True)) for x in (a, b))
        expected += np.abs(a - b).mean() / 2
    assert set(found) == {"content"} and float(found["content"].detach()) == pytest.approx(3 * expected, rel=1e-4)


def test_grayscale(plain_features: None) -> None:
    net, given = model(grayscale=2.0), batch()
    found = net.losses("g", given)["grayscale"].detach()
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    with torch.no_grad():
        pair = [(x * weights).sum(1)[:, None].repeat(1, 3, 1, 1) for x in (net.g(given.photos), given.real)]
    expected = 0.0
    for size in (1, 2):
        a, b = (grams(torch.nn.functional.avg_pool2d(x, size)) for x in pair)
        expected += np.abs(a - b.mean(0)).mean() / np.abs(b.mean(0)).mean() / 2
    assert float(found) == pytest.approx(2 * expected, rel=1e-3)


def step(made: Tensor, photos: Tensor) -> losses.Step:
    return losses.Step(TINY.losses, made, photos, photos, None, lambda pictures: [pictures])


def test_colour() -> None:
    made, photos = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    made[:, 0] = 1.0  # red 1.0 against 0.5, as shares
    y, u, v = 0.299 * 0.5, -0.14713 * 0.5, 0.615 * 0.5
    assert float(losses.colour(step(made, photos))) == pytest.approx(y + u**2 / 2 + v**2 / 2, rel=1e-4)
    grey = torch.full((1, 3, 4, 4), 0.4)
    assert float(losses.colour(step(grey, grey + 0.2))) == pytest.approx(0.1, rel=1e-3)


def test_chrominance() -> None:
    made, photos = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    made[:, 0] = 1.0  # red 1.0 against 0.5, as shares
    assert float(losses.chrominance(step(made, photos))) == pytest.approx((0.14713 + 0.615) * 0.5 / 2, rel=1e-4)
    lighter = torch.full((1, 3, 4, 4), 0.4).requires_grad_()
    assert float(losses.chrominance(step(lighter, photos)).detach()) == pytest.approx(0.0, abs=1e-5)
    made.requires_grad_()
    losses.chrominance(step(made, photos)).backward()
    assert made.grad is not None
    assert torch.allclose(made.grad[:, 0], torch.tensor((0.14713 + 0.615) * 0.5 / 2 / 16), rtol=1e-4)


def test_discriminators_without_colours() -> None:
    net, given = model(adversarial=1.0, d_colours=False).eval(), batch()
    for x, y in zip(net.d(given.real), net.d(painting.colourless(given.real)), strict=True):
        assert torch.allclose(x, y, atol=1e-5)
    given.real.requires_grad_()
    net.d(given.real)[0].sum().backward()
    assert given.real.grad is not None
    assert torch.allclose(given.real.grad, painting.colourless(given.real.grad), atol=1e-7)


def test_total_variation() -> None:
    stripes = torch.zeros(1, 3, 4, 6)
    stripes[..., ::2] = 1.0
    assert float(losses.tv(step(stripes, stripes))) == pytest.approx(1.0)
    ramp = torch.arange(4.0)[:, None].expand(1, 3, 4, 6) * 0.5
    assert float(losses.tv(step(ramp, ramp))) == pytest.approx(0.25)


def test_a_gram_matrix() -> None:
    maps = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    assert np.allclose(perceptual.gram(maps).numpy(), grams(maps), atol=1e-6)


@pytest.mark.parametrize("squares", [True, False])
def test_adversarial(squares: bool) -> None:
    net, given = model(adversarial=2.0, least_squares=squares, d_smooth=0.0, d_grey=0.5), batch()
    net.losses("d", given)  # spectral norms settle a little with every look
    net.eval()
    with torch.no_grad():
        made = net.g(given.photos)
        shown = given.real, made, painting.grey(given.real)
        shown = [portrait.relief(x) for x in shown]
        near = [net.d.near(x).flatten() for x in shown]
        far = [net.d.far(torch.nn.functional.avg_pool2d(x, 2)).flatten() for x in shown]
        found = net.losses("d", given)
        convinced = net.losses("g", given)
    sigmoid = torch.sigmoid

    def true(x: Tensor) -> Tensor:
        return (x - 1) ** 2 if squares else -sigmoid(x).log()

    def false(x: Tensor) -> Tensor:
        return x**2 if squares else -(1 - sigmoid(x)).log()

    def both(of: Callable[[Tensor], Tensor], i: int) -> Tensor:
        return (of(near[i]).mean() + of(far[i]).mean()) / 2

    wanted = {"d_real": both(true, 0), "d_fake": both(false, 1), "d_grey": both(false, 2) / 2}
    g = both(true, 1)
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert float(found[name]) == pytest.approx(float(value), rel=1e-3), name
    assert float(convinced["adversarial"]) == pytest.approx(2 * float(g), rel=1e-3)


def test_blurred_lines_are_fakes() -> None:
    net, given = model(adversarial=1.0, d_smooth=3.0).eval(), batch()
    given.real = torch.where(torch.arange(32) < 16, -1.0, 1.0).expand(4, 3, 32, 32).clone()
    with torch.no_grad():
        found = net.losses("d", given)
        near, far = net.d(cartoongan.smooth_edges(given.real))
    expected = 1.5 * float((near**2).mean() + (far**2).mean())
    assert float(found["d_smooth"]) == pytest.approx(expected, rel=1e-3)
    assert not torch.equal(cartoongan.smooth_edges(given.real), given.real)


def test_landmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = FACE + torch.tensor([0.0, 0.1])
    monkeypatch.setattr(landmarks, "find", lambda pictures: (moved if pictures.requires_grad else FACE)[None])
    found = model(landmark=4.0).losses("g", batch()[:1])
    assert float(found["landmark"].detach()) == pytest.approx(4 * 0.1 / 0.4, rel=1e-3)


def test_eyes_are_compared_with_enlarged_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landmarks, "find", lambda pictures: FACE.expand(len(pictures), -1, -1))
    net, given = model(chrominance=2.0, enlarge_eyes=0.5), batch()
    net.eye_sizes.copy_(torch.tensor([[0.5, 0.5], [0.75, 1.0]]))
    found = net.losses("g", given)
    now = portrait.eye_size(FACE[None])
    sizes = torch.tensor([[0.5, 0.5], [0.75, 1.0]]).lerp(now, 0.01)
    assert torch.allclose(net.eye_sizes, sizes)
    shift, _ = portrait.enlarge(FACE.expand(4, -1, -1), 1 + 0.5 * (sizes[1] / sizes[0] - 1), 32, 32)
    assert shift.abs().max() > 0.5
    target = portrait.remap(given.photos, shift)
    expected = losses.chrominance(step(net.g(given.photos), target))
    assert float(found["chrominance"].detach()) == pytest.approx(2 * float(expected.detach()), rel=0.02)
    warp = (net.g.warp(given.photos) - shift).abs().mean() * 100 / 32
    assert float(found["warp"].detach()) == pytest.approx(float(warp.detach()), rel=0.02)
    found["warp"].backward()
    assert float(net.g.warp.out.weight.grad.abs().max()) > 0


def test_cel_is_what_filters_draw_with_fine_eyes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landmarks, "find", lambda pictures: FACE.expand(len(pictures), -1, -1))
    net, given = model(cel=2.0, enlarge_eyes=0.5), batch()
    found = net.losses("g", given)
    photos, _, points = net.targets(given.photos, given.real)
    eyes = portrait.around_eyes(points, 32, 32)
    target = painting.cel(photos, eyes)
    assert (target - painting.cel(photos)).abs().max() > 0.1
    expected = ((net.g(given.photos) - target).abs() * (1 + 5 * eyes)).mean()
    assert float(found["cel"].detach()) == pytest.approx(2 * float(expected.detach()), rel=0.02)


def test_what_is_settled_stays_and_pictures_do_not_change_each_other() -> None:
    given = batch()
    for settled in (False, True):
        net = model(colour=1.0, freeze_batch_norm=settled)
        before = {name: value.clone() for name, value in net.g.named_buffers()}
        net.losses("g", given)
        with torch.no_grad():
            alone, together = net.g(given.photos[:1]), net.g(given.photos)[:1]
        assert torch.allclose(alone, together, atol=1e-4) == settled
        same = [torch.equal(value, before[name]) for name, value in net.g.named_buffers()]
        assert all(same) if settled else not any(same)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_moves_the_generator_and_none_when_it_is_off(name: str) -> None:
    net = model(**{name: 1.0})
    found = net.losses("g", batch())
    assert set(found) == {name}
    found[name].backward()
    assert max(float(p.grad.abs().max()) for p in net.g.parameters() if p.grad is not None) > 0
    everything = dict.fromkeys(OFF, 1.0) | {"enlarge_eyes": 0.5}
    left = set(model(**everything).losses("g", batch()))
    assert set(model(**{**everything, name: 0.0}).losses("g", batch())) == left - {name}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_finite_differences(name: str) -> None:
    """Of each loss by what is drawn, along some directions."""
    net, given = model(**{name: 1.0}), batch()
    assert given.photos is not None
    net.requires_grad_(False).eval()  # spectral norms rest
    photos, _, points = net.targets(given.photos, given.real)
    table = losses.KEEP | losses.DRAW

    def loss(made: Tensor) -> Tensor:
        return table[name](losses.Step(net.config.losses, made, photos, given.real, points, net.d))

    smooth = torch.nn.functional.avg_pool2d(given.photos, 5, 1, 2)
    made = (0.7 * smooth + 0.1 * torch.randn(smooth.shape)).requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(made), made)
    step = 5e-4 * gradient / gradient.abs().max()  # where it rises
    with torch.no_grad():
        risen = float(loss(made + step) - loss(made - step)) / 2
    assert risen == pytest.approx(float((gradient * step).sum()), rel=0.05)


def test_what_is_off_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("nobody asked for it")

    for where, what in [
        (losses, "load_features"),
        (losses, "cel"),
        (losses, "grey"),
        (losses, "yuv"),
        (landmarks, "find"),
        (portrait, "around_eyes"),
        (portrait, "relief"),
        (cartoongan, "grey"),
        (cartoongan, "smooth_edges"),
    ]:
        monkeypatch.setattr(where, what, never)
    net = model(adversarial=1.0, d_smooth=0.0, d_grey=0.0, d_relief=False)
    assert set(net.losses("g", batch())) == {"adversarial"}
    assert set(net.losses("d", batch())) == {"d_real", "d_fake"}


def test_the_content_comes_first() -> None:
    net = model(content_kimg=0.064, adversarial=1.0, colour=1.0, tv=1.0)
    for steps, phase in ((0, {"colour"}), (7, {"colour"}), (8, {"colour", "adversarial", "tv"})):
        given = dataclasses.replace(batch(), step=steps)  # 8 photos in each
        assert set(net.losses("g", given)) == phase
        assert bool(net.losses("d", given)) == (steps == 8)


def test_what_is_filtered_begins_where_the_filters_end() -> None:
    net, given = model(filtered=True, cel=1.0), batch()
    with torch.no_grad():
        assert torch.allclose(net.g(given.photos), painting.cel(given.photos))
    assert float(net.losses("g", given)["cel"].detach()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("filtered", [True, False])
@pytest.mark.parametrize("name", ["portrait", "cartoongan", "animegan", "tiny"])
def test_nothing_reaches_farther_than_it_says(name: str, filtered: bool) -> None:
    config = cartoongan.PRESETS[name].replace(network={"filtered": filtered})
    if name != "tiny":
        config = config.replace(network={"channels": 4, "d_channels": 4})
    torch.manual_seed(0)
    net = cartoongan.Model(config).eval()
    torch.nn.init.normal_(net.g_ema.draw.out.weight, 0.0, 0.1)
    far = net.receptive_field
    side = 2 * far + 64
    pictures = torch.rand(1, 3, 32, side) * 2 - 1
    other = pictures.clone()
    other[..., 32] = 0.0
    with torch.inference_mode():
        changed = (net.translate(pictures) != net.translate(other)).any(1).any(1)[0].nonzero().flatten()
    assert 0 < int(changed.max()) - 32 <= far
    with torch.inference_mode():  # and a part that begins at a whole place is the same as in the whole
        whole, part = net.translate(pictures), net.translate(pictures[..., 32:])
    # Where a pixel comes from is rounded by the size of the picture; noise is the worst picture for that, and ink
    # deepens what differs. Half of what eight bits tell apart.
    assert torch.allclose(whole[..., 32 + far :], part[..., far:], atol=4e-3 if config.network.enlarge_eyes else 1e-5)
