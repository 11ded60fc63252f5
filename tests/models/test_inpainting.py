"""Inpainting: its layers and losses against slow references, when it stops, and large pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kyara.data.holes import KINDS, draw_holes, draw_kind
from kyara.models import inpainting, stored
from kyara.models.inpainting import LOSSES, PRESETS, Attention, Config, Model, Step
from kyara.nn.batch import Batch, identity
from kyara.nn.layers import PartialConv, spread
from kyara.nn.losses import weighted
from kyara.perception.features import even, gram, load_features
from kyara.training.train import train

CPU = torch.device("cpu")
TINY = PRESETS["tiny"]


def model_with(**changes: Any) -> Model:
    torch.manual_seed(0)
    network = {name: value for name, value in changes.items() if hasattr(TINY.network, name)}
    return Model(TINY.replace(network=network, losses={k: v for k, v in changes.items() if k not in network}))


def only(weight: str, value: float) -> dict[str, float]:
    return {name: value if name == weight else 0.0 for name in LOSSES}


def some_pictures(count: int = 4, size: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 6, 6, generator=generator) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")


def centre(count: int, size: int = 32) -> Tensor:
    return draw_kind("centre", TINY.holes, count, size, size)[:, None]


# Layers


@pytest.mark.parametrize(("kernel", "stride", "masks"), [(3, 1, 1), (7, 2, 1), (3, 1, 4), (5, 2, 4)])
def test_partial_convolution_as_in_the_paper(kernel: int, stride: int, masks: int) -> None:
    """Every output is W^T (X * M) sum(1) / sum(M) + b over what is known in its window; 0 where nothing is."""
    torch.manual_seed(0)
    layer = PartialConv(4, 2, kernel, stride)
    torch.nn.init.normal_(layer.bias)
    x, known = torch.randn(2, 4, 9, 12), (torch.rand(2, masks, 9, 12) < 0.15).float()
    known[:, :, :, :7] = 0
    made, reached = layer(x, known)
    mask = np.broadcast_to(known.numpy(), x.shape)
    weight, bias = layer.conv.weight.detach().numpy(), layer.bias.detach().numpy()
    pad = [(0, 0), (0, 0), (kernel // 2,) * 2, (kernel // 2,) * 2]
    values, mask = np.pad(x.numpy() * mask, pad), np.pad(mask, pad)
    for b, i, j in np.ndindex(2, *made.shape[2:]):
        rows, columns = (slice(k * stride, k * stride + kernel) for k in (i, j))
        there = mask[b, :, rows, columns].sum()
        assert reached[b, 0, i, j] == (there > 0)
        seen = (weight * values[b, :, rows, columns]).sum((1, 2, 3))
        wanted = seen * (4 * kernel**2 / there) + bias if there else np.zeros(2)
        assert np.allclose(made[b, :, i, j].detach(), wanted, atol=1e-4)
    assert reached.mean() not in (0, 1)


def test_a_hole_closes_by_half_a_kernel_on_each_side() -> None:
    known = torch.ones(1, 1, 16, 16)
    known[:, :, 3:13, 4:12] = 0  # 10 by 8
    _, after = PartialConv(1, 1, 3)(torch.zeros(1, 1, 16, 16), known)
    assert (after == 0).nonzero()[:, 2:].tolist() == [[y, x] for y in range(4, 12) for x in range(5, 11)]
    _, after = PartialConv(1, 1, 7)(torch.zeros(1, 1, 16, 16), known)
    assert (after == 0).nonzero()[:, 2:].tolist() == [[y, x] for y in range(6, 10) for x in (7, 8)]


def naive_scores(x: np.ndarray, sharpness: float) -> np.ndarray:
    """(C, h, w) -> [source row, source column, row, column], place by place."""
    _, height, width = x.shape
    unit = x / np.linalg.norm(x, axis=0)
    cosine = np.einsum("cij,ckl->ijkl", unit, unit)
    smooth = np.zeros_like(cosine)
    for i, j in np.ndindex(height, width):
        near = [(a, b) for a in range(i - 1, i + 2) for b in range(j - 1, j + 2) if 0 <= a < height and 0 <= b < width]
        smooth[:, :, i, j] = np.mean([cosine[:, :, a, b] for a, b in near], axis=0)
    exp = np.exp(smooth * sharpness)
    return exp / exp.sum((0, 1))


def test_attention_as_in_the_paper() -> None:
    torch.manual_seed(0)
    layer = Attention(3)
    layer.kept.data.fill_(0.7)
    first, second = torch.randn(1, 3, 4, 5), torch.randn(1, 3, 4, 5)
    known = torch.ones(1, 1, 8, 10)
    known[:, :, 3, 4] = 0  # of the place (1, 2), a part was unknown
    _, before = layer(first, known, None)
    made, scores = layer(second, known, before)
    old, new = (naive_scores(x[0].double().numpy(), 10.0) for x in (first, second))
    assert np.allclose(before[0].detach().view(4, 5, 4, 5), old, atol=1e-5)
    kept = 1 / (1 + np.exp(-0.7))
    wanted = kept * old + (1 - kept) * new
    wanted[:, :, 1, 2] = new[:, :, 1, 2]
    assert np.allclose(scores[0].detach().view(4, 5, 4, 5), wanted, atol=1e-5)
    mixed = np.einsum("cij,ijkl->ckl", second[0].numpy(), wanted)
    weight, bias = layer.merge.weight[:, :, 0, 0].detach().numpy(), layer.merge.bias.detach().numpy()
    both = np.concatenate([second[0].numpy(), mixed])
    assert np.allclose(made[0].detach(), np.einsum("oc,chw->ohw", weight, both) + bias[:, None, None], atol=1e-4)


def test_what_is_known_spreads() -> None:
    x = torch.tensor([[[[2.0, 9.0, 9.0, 6.0]] * 4]])
    known = torch.tensor([[[[1.0, 0.0, 0.0, 1.0]] * 4]])
    # At half the size 2 and 6, at twice that again 2, 3, 5, 6 by bilinear interpolation.
    assert torch.allclose(spread(x, known), torch.tensor([2.0, 3.0, 5.0, 6.0]).expand(1, 1, 4, 4))
    known[..., 3] = 0
    assert torch.equal(spread(x, known), torch.full((1, 1, 4, 4), 2.0))
    assert torch.equal(spread(x, torch.zeros_like(known)), torch.zeros(1, 1, 4, 4))
    odd, some = torch.rand(2, 3, 5, 7), (torch.rand(2, 1, 5, 7) < 0.3).float()
    filled = spread(odd, some)
    assert torch.equal(filled * some, odd * some)
    assert filled.amin() >= (odd + 9 * (1 - some)).amin() and filled.amax() <= (odd * some).amax()
    assert torch.equal(spread(odd, torch.ones_like(some)), odd)


# Rounds


def rounds(model: Model, holes: Tensor) -> list[int]:
    """How many pictures take part in each round."""
    seen: list[int] = []
    hook = model.g_ema.reason.register_forward_hook(lambda module, inputs, outputs: seen.append(len(inputs[0])))
    with torch.inference_mode():
        model.g_ema(torch.zeros(len(holes), 3, *holes.shape[2:]), holes)
    hook.remove()
    return seen


def test_pictures_leave_when_their_hole_is_closed() -> None:
    holes = torch.zeros(3, 1, 64, 64, dtype=torch.bool)
    holes[1, :, 20:36, 20:36] = (
        True  # 16 pixels: 5 places after the stem's 7 x 7, 3 after its 3 x 3, none a round later
    )
    holes[2, :, 4:60, 4:60] = True
    assert rounds(model_with(recurrences=6), holes[:1]) == [1]
    assert rounds(model_with(recurrences=6), holes[:2]) == [2]
    assert rounds(model_with(recurrences=3), holes) == [3, 1, 1]
    assert rounds(model_with(recurrences=20), holes) == [3, 1, 1, 1, 1, 1]  # 23 places, of which a round closes 4


def test_features_are_averaged_where_they_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rounds whose features are 1, 2, 3 and whose hole closes column by column."""
    model, calls = model_with(recurrences=3), []

    def reason(x: Tensor, known: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        calls.append(1)
        after = torch.zeros(1, 1, 1, 4)
        after[..., : len(calls)] = 1
        return torch.full((1, 2, 1, 4), float(len(calls))), after, torch.zeros(1, 1)

    monkeypatch.setattr(model.g.reason, "forward", reason)
    merged = model.g.recur(torch.zeros(1, 2, 1, 4), torch.zeros(1, 1, 1, 4))
    assert torch.allclose(merged[0, 0, 0], torch.tensor([2.0, 2.5, 3.0, 3.0]))  # the last round counts everywhere


# Losses


@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_by_itself(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss at weight 2 is twice what a slow computation says, is the only one, and has a gradient."""
    monkeypatch.setattr(inpainting, "SHIFTS", 1)
    model, real, holes = model_with(**only(name, 2.0)), some_pictures(), centre(4)
    made = model.g(real, holes)
    losses = weighted(LOSSES, Step(model, made, real, holes, identity), model.config.losses)
    assert list(losses) == [name]
    a, b, h = (x.detach().double().numpy() for x in (made, real, holes))
    filled = np.where(h, a, b)
    if name == "hole":
        wanted = np.abs(a - b)[:, :, 8:24, 8:24].sum() / a.size
    elif name == "valid":
        wanted = np.abs(a - b).mean() - np.abs(a - b)[:, :, 8:24, 8:24].sum() / a.size
    elif name == "tv":
        down = np.abs(filled[:, :, 8:25, 8:24] - filled[:, :, 7:24, 8:24]).sum() / (4 * 3 * 31 * 32)
        wanted = down + np.abs(filled[:, :, 8:24, 8:25] - filled[:, :, 8:24, 7:24]).sum() / (4 * 3 * 31 * 32)
    elif name == "adversarial":
        assert model.d is not None
        wanted = np.log1p(np.exp(-model.d(torch.tensor(filled).float()).detach().numpy())).mean()
    else:
        wanted = sum(seen(x, b, name) for x in (a, filled))
    assert losses[name].item() == pytest.approx(2 * wanted, rel=1e-3)
    losses[name].backward()
    assert max(float(p.grad.abs().max()) for p in model.g.parameters() if p.grad is not None) > 0


def seen(a: np.ndarray, b: np.ndarray, name: str) -> float:
    """Mean absolute difference of features or Gram matrices, summed over stages."""
    network, total = load_features("builtin", CPU), 0.0
    with torch.no_grad():
        pairs = zip(*(network(torch.tensor(x).float()) for x in (a, b)), strict=True)
    for pair in pairs:
        x, y = (m.numpy() / np.sqrt((m.numpy() ** 2).mean(1, keepdims=True) + 1e-6) for m in pair)
        if name == "style":
            x, y = (np.einsum("bchw,bdhw->bcd", m, m) / m[0].size for m in (x, y))
        total += np.abs(x - y).mean()
    return total


def test_what_has_no_weight_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("looked at")

    monkeypatch.setattr(inpainting, "load_features", refuse)
    model = model_with(**only("hole", 6.0))
    assert list(model.losses("g", Batch(some_pictures()))) == ["hole"]
    assert model.d is None and list(model.players()) == ["g"]
    assert not any(name.startswith("d.") for name in stored(model))
    assert [model.reg_interval(phase) for phase in model.phases] == [0, 0, 1]
    judged = model_with()
    assert [judged.reg_interval(phase) for phase in judged.phases] == [1, 2, 1]
    assert model_with(r1_gamma=0.0).reg_interval("d_reg") == 0


def test_patches_count_as_one_in_r1() -> None:
    """The penalty does not fall with the number of patches, as that of their mean would; and it is in float32."""
    torch.manual_seed(0)
    model = model_with(d_widths=(8,), r1_gamma=2.0, r1_interval=1)
    weight = torch.randn(1, 3, 4, 4)
    model.d = torch.nn.Conv2d(3, 1, 4, 4, bias=False)
    model.d.weight.data = weight
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            penalty = model.losses("d_reg", Batch(some_pictures()))["r1"]
        assert float(penalty.detach()) == pytest.approx(float(weight.square().sum()), rel=1e-5)


def test_gram_and_even() -> None:
    maps = torch.tensor([[[[3.0, 0.0]], [[4.0, 2.0]]]])  # two channels, two places
    assert torch.allclose(gram(maps), torch.tensor([[[9.0, 12.0], [12.0, 20.0]]]) / 4)
    assert torch.allclose(even(maps).square().mean(1), torch.ones(1, 1, 2), atol=1e-4)
    assert torch.allclose(even(maps)[0, :, 0, 0], torch.tensor([3.0, 4.0]) / 12.5**0.5)


# Holes


def test_kinds_come_as_often_as_asked() -> None:
    config = replace(TINY.holes, free_form=0.1, rectangles=0.2, centre=0.3, eyes=0.25, mouth=0.15)
    for kind in KINDS:
        alone = replace(config, **{name: float(name == kind) for name in KINDS})
        generator, again = (torch.Generator().manual_seed(5) for _ in range(2))
        holes = draw_holes(alone, 6, 32, 48, generator)
        assert holes.shape == (6, 1, 32, 48) and holes.dtype == torch.bool
        assert torch.equal(holes, draw_holes(alone, 6, 32, 48, again))
        assert holes.flatten(1).any(1).all() and not holes.flatten(1).all(1).any()
    middle = draw_kind("centre", config, 1, 8, 8)
    drawn = draw_holes(config, 4000, 8, 8, torch.Generator().manual_seed(0))[:, 0]
    assert (drawn == middle).flatten(1).all(1).float().mean() == pytest.approx(0.3, abs=0.03)


def test_holes_have_the_size_and_the_place_they_should() -> None:
    torch.manual_seed(0)
    means = {kind: draw_kind(kind, TINY.holes, 400, 64, 64).float() for kind in KINDS}
    share = {kind: holes.mean((1, 2)) for kind, holes in means.items()}
    assert (share["centre"] == 0.25).all()
    assert share["rectangles"].min() > 0.03 and share["rectangles"].max() < 0.37
    assert share["rectangles"].mean() == pytest.approx(0.16, abs=0.02)
    assert 0.1 < share["free_form"].mean() < 0.4
    often = means["eyes"].mean(0)  # where eyes are hidden
    assert often[32, 20] > 0.7 and often[32, 44] > 0.7 and often[50, 32] == 0 and often[5].sum() == 0
    both = (means["eyes"][:, 32, 20] * means["eyes"][:, 32, 44]).mean()
    assert both == pytest.approx(0.6, abs=0.08)
    assert means["mouth"].mean(0)[49, 32] == 1 and means["mouth"].mean(0)[32].sum() == 0


def test_the_seed_of_the_step_decides() -> None:
    model, batch = model_with(), Batch(some_pictures())
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.append(model.losses("g", batch)["hole"].item())
    assert values[0] == values[1] != values[2]


# Filling


def shapes_seen(model: Model) -> list[tuple[int, ...]]:
    seen: list[tuple[int, ...]] = []
    model.g_ema.register_forward_hook(lambda module, inputs, outputs: seen.append(tuple(inputs[0].shape)))
    return seen


@torch.inference_mode()
def test_a_large_picture_is_filled_in_windows() -> None:
    model = model_with()
    seen = shapes_seen(model)
    picture, holes = torch.zeros(1, 3, 300, 12000), torch.zeros(1, 1, 300, 12000, dtype=torch.bool)
    holes[..., 100:110, 5000:5008] = holes[..., 105:112, 5012:5015] = True  # together
    holes[..., 280:300, 11980:12000] = True  # in a corner
    holes[..., :, 20] = True  # across the picture
    filled = model.fill(picture, holes)
    assert sorted(seen) == [(1, 3, 11, 32), (1, 3, 32, 32), (1, 3, 32, 32)]
    assert torch.equal(filled[~holes.expand_as(filled)], picture[~holes.expand_as(filled)])
    holes[..., 20] = False  # so thin beside its length that it is known at the size of the training
    assert (filled[holes.expand_as(filled)] != 0).float().mean() > 0.95


@torch.inference_mode()
def test_a_window_is_filled_as_the_same_picture_alone() -> None:
    model, small, hole = model_with(), some_pictures(1), centre(1)
    small_hole = torch.zeros_like(hole)
    small_hole[..., 12:20, 12:20] = True
    large, large_hole = torch.ones(1, 3, 96, 96), torch.zeros(1, 1, 96, 96, dtype=torch.bool)
    large[..., 40:72, 16:48], large_hole[..., 40:72, 16:48] = small, small_hole
    assert torch.equal(model.fill(large, large_hole)[..., 40:72, 16:48], model.fill(small, small_hole))


def test_scores_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    model, real = Model(TINY.replace(holes={kind: float(kind == "centre") for kind in KINDS})), some_pictures(5) * 0.5
    monkeypatch.setattr(model, "fill", lambda pictures, holes: torch.where(holes, pictures + 0.2, pictures))
    scores = model.measure(Batch(real), lambda filled, real: 7.0)
    assert (
        scores["frechet"] == 7 and next(iter(scores)) == "hole_l1" and scores["hole_l1"] == pytest.approx(0.2, abs=1e-5)
    )
    assert scores["psnr"] == pytest.approx(10 * np.log10(4 / (0.25 * 0.04)), abs=1e-3)


def test_the_sheet_shows_hole_filled_whole() -> None:
    model, real = model_with(), some_pictures(7)
    sheet = model.preview(Batch(real))
    assert sheet is not None and sheet.shape == (9, 3, 32, 32)
    masked, filled, whole = sheet.split(3)
    assert torch.equal(whole, real[:3])
    hole = (masked != whole).any(1, keepdim=True)
    assert torch.equal(torch.where(hole, whole, filled), whole) and (filled != whole).any()


# What it looks through


def test_frozen_features_of_any_size() -> None:
    network = load_features("builtin", CPU)
    pictures = torch.rand(2, 3, 37, 50).requires_grad_()
    maps = network(pictures)
    assert [tuple(m.shape[2:]) for m in maps[:2]] == [(9, 12), (4, 6)] and len(maps) == 9
    sum(m.square().mean() for m in maps).backward()
    assert pictures.grad is not None and pictures.grad.abs().max() > 0
    assert not any(p.requires_grad for net in network.networks for p in net.parameters())  # type: ignore[attr-defined]
    assert load_features("builtin", CPU) is network
    assert {key.split(".")[0] for key in model_with().state_dict()} == {"g", "g_ema", "d"}


def test_unknown_features_are_named() -> None:
    with pytest.raises(ValueError, match="features=inception: give builtin, or vgg16"):
        load_features("inception", CPU)


def test_it_learns_to_fill() -> None:
    """A tiny network, one picture, some dozens of steps: the hole is filled far better than with grey."""
    model, real, holes = model_with(**only("hole", 6.0)), some_pictures(2), centre(2)
    optimizer = torch.optim.Adam(model.g.parameters(), 5e-3)
    losses = []
    for _ in range(60):
        loss = weighted(LOSSES, Step(model, model.g(real, holes), real, holes, identity), model.config.losses)["hole"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_a_style_weight_for_vgg16_warns_without_it() -> None:
    """Results become grey."""
    config: Config = PRESETS["rfr"]
    told = config.warning()
    assert told and told.startswith("losses.style=120 is for VGG16") and "losses.features=vgg16:PATH" in told
    assert "losses.style=1,losses.perceptual=0.02" in told
    for losses in ({"features": "vgg16:x"}, {"style": 1.0}):
        assert config.replace(losses=losses).warning() is None
    assert PRESETS["two-core"].warning() is None


def test_the_warning_is_printed_before_a_run(faces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train("inpainting", faces, preset="tiny", workers=0, dry_run=True)
    assert "warning: losses.style=120 is for VGG16" in capsys.readouterr().err
    train("inpainting", faces, preset="tiny", set="losses.style=1", workers=0, dry_run=True)
    assert "warning" not in capsys.readouterr().err


def test_the_paper_is_a_preset() -> None:
    config: Config = PRESETS["rfr"]
    assert (config.losses.hole, config.losses.valid, config.losses.perceptual) == (6, 1, 0.05)
    assert (config.losses.style, config.losses.tv, config.losses.adversarial) == (120, 0.1, 0)
    assert (config.network.recurrences, config.network.kernel_size, config.network.widths) == (
        6,
        7,
        (64, 128, 256, 512),
    )
