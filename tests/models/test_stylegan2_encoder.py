"""StyleGAN2's encoder: reconstructions, and a mapping network that is fitted to it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import drawn_picture
from every_model import ATTRIBUTES, COUNTS, batch_of
from torch import Tensor

from kyara import models
from kyara.files import checkpoint
from kyara.models import stylegan2
from kyara.models.base import Batch, latents
from kyara.models.stylegan2 import reconstruction
from kyara.models.stylegan2.generator import MappingNet
from kyara.models.stylegan2.reconstruction import energy_score
from kyara.nn.layers import group_deviation
from kyara.nn.losses import nonsaturating_g
from kyara.training import small_sets
from kyara.training.options import Tuning
from kyara.training.train import train
from kyara.training.trainer import Options, Trainer
from kyara.training.transfer import initialise, tune

FIRST: dict[str, Any] = {"adversarial": 0.0, "encoded": 0.75}
"""What learns from reconstructions alone."""
NEW = [f"g.encoder.{layer}.{part}" for layer in ("hidden", "output") for part in ("bias", "weight")]
"""What is initialised at random if the parent has a discriminator, but no encoder."""
LABELS: dict[str, Any] = {"attributes": ATTRIBUTES, "label_counts": COUNTS}


def model(network: dict[str, Any] | None = None, losses: dict[str, Any] | None = None, **data: Any) -> stylegan2.Model:
    torch.manual_seed(0)
    config = stylegan2.PRESETS["tiny"].replace(data=data, network={"encoder": 1, **(network or {})})
    return stylegan2.Model(config.replace(losses=losses or {}, optimizer={"ema_kimg": 0.2}))


@functools.cache
def faces_of(count: int) -> Tensor:
    drawn = [torch.from_numpy(drawn_picture(i, 32)).permute(2, 0, 1) for i in range(count)]
    return torch.stack(drawn).float() / 127.5 - 1


@torch.inference_mode()
def error(net: stylegan2.Model, pictures: Tensor) -> float:
    """L1 of reconstructions, with the averaged weights."""
    return float((net.synthesise(net.g_ema.encode(pictures)) - pictures).abs().mean())


@torch.inference_mode()
def mismatch(net: stylegan2.Model, pictures: Tensor) -> float:
    """Energy distance between encoded and random w, both relative to the deviation of the encoded ones."""
    w, z = net.g_ema.encode(pictures)[:, 0], latents(range(256), net.z_dim)
    drawn = net.g_ema.mapped(z, torch.empty(256, 0, dtype=torch.int64))[:, 0]
    ours, theirs = (each / w.std(0) for each in (w, drawn))
    within = sum(torch.cdist(x, x).sum() / (len(x) * (len(x) - 1)) for x in (ours, theirs))
    return float(2 * torch.cdist(ours, theirs).mean() - within)


def test_it_learns_to_reconstruct_and_random_w_become_like_encoded_ones() -> None:
    """In 10 seconds. The discriminator stays as it was."""
    net, pictures = model(losses=FIRST), faces_of(64)
    trainer, random = Trainer(net, Options(8, 8)), torch.Generator().manual_seed(0)
    before, d = (error(net, pictures), mismatch(net, pictures)), [x.clone() for x in net.d.state_dict().values()]
    for _ in range(120):
        trainer.step(Batch(pictures[torch.randperm(64, generator=random)[:8]]))
    assert error(net, pictures) < 0.4 * before[0]  # 0.24, was 0.64
    assert mismatch(net, pictures) < 0.6 * before[1]  # 14, was 27
    assert all(torch.equal(a, b) for a, b in zip(d, net.d.state_dict().values(), strict=True))
    logged = trainer.read()
    named = {name.removeprefix("loss/") for name in logged if name.startswith("loss/")}
    assert named == {"matching", "colour", "brightness", "prior", "inverse", "g_reg"} and "real_sign" not in logged
    assert net.g.encoder is not None and 0.1 < net.g.encoder.deviation.mean() < 1
    assert all(phase in ("g", "g_reg") or not net.reg_interval(phase) for phase in net.phases)


def test_the_energy_score_is_that_of_the_paper() -> None:
    """Against the closed form in one dimension: E|X - x| - E|X - X'| / 2 of N(0, 1) at 0 is sqrt(2/pi) - 1/sqrt(pi)."""
    torch.manual_seed(0)
    found = energy_score(torch.randn(20000, 8, 1), torch.zeros(20000, 1))
    assert found.item() == pytest.approx((2 / torch.pi) ** 0.5 - torch.pi**-0.5, abs=0.01)
    truth = torch.randn(20000, 1) * 0.7 + 0.3
    forecasts = [(mean, spread) for mean in (0.3, 0.0) for spread in (0.4, 0.7, 1.0)]
    scores = [energy_score(torch.randn(20000, 8, 1) * spread + mean, truth).item() for mean, spread in forecasts]
    assert forecasts[scores.index(min(scores))] == (0.3, 0.7)


def test_it_pulls_the_mapping_network_to_a_distribution_given_labels() -> None:
    torch.manual_seed(0)
    config = model(**LABELS).config
    mapping = MappingNet(config)
    mean, spread = torch.tensor([[-0.3], [0.5], [2.0]]), torch.tensor([[0.2], [0.5], [0.8]])  # of each hair
    optimizer = torch.optim.Adam(mapping.parameters(), lr=0.05, betas=(0.0, 0.99))
    for _ in range(600):
        labels = torch.stack([torch.randint(0, 3, (16,)), torch.randint(-1, 2, (16,))], 1)
        w = mean[labels[:, 0]] + spread[labels[:, 0]] * torch.randn(16, 16)
        loss = energy_score(reconstruction.random_w(mapping, labels), w)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for hair in range(3):
        w = mapping(torch.randn(2000, 16), torch.tensor([[hair, 0]]).expand(2000, -1)).detach()  # was 0.6 with 0.9
        assert w.mean() == pytest.approx(mean[hair].item(), abs=0.15)
        assert w.std(0).mean() == pytest.approx(spread[hair].item(), rel=0.3)


def step_of(net: stylegan2.Model, batch: Batch) -> reconstruction.Step:
    labels = torch.zeros(8, len(net.config.data.attributes), dtype=torch.int64)
    fake, ws = net._fakes(labels, batch.real[:4])
    assert net.g.encoder is not None
    return reconstruction.Step(net.g, net.d, net.g.encoder, batch.real[:4], labels[:4], fake, ws)


@pytest.mark.parametrize("loss", ["inverse", "prior", "matching"])
def test_a_loss_trains_only_what_it_should(loss: str) -> None:
    net = model(**LABELS)
    net.d.requires_grad_(False)
    getattr(reconstruction, loss)(step_of(net, batch_of(net))).backward()
    learned = {name.split(".")[0] for name, p in net.g.named_parameters() if p.grad is not None and p.grad.any()}
    expected = {"inverse": {"encoder"}, "prior": {"mapping"}, "matching": {"encoder", "synthesis"}}
    assert learned == expected[loss]


def test_colour_and_brightness_are_those_of_the_standard() -> None:
    net = model(height=30, width=34)
    batch = batch_of(net)
    step = step_of(net, batch)
    object.__setattr__(step, "fake", batch.real.clone())
    assert not reconstruction.colour(step) and not reconstruction.brightness(step) and not reconstruction.matching(step)
    step.fake[:4] += 0.5  # grey
    assert reconstruction.colour(step).item() == pytest.approx(0, abs=1e-6)
    assert reconstruction.brightness(step).item() == pytest.approx(0.5, abs=1e-6)
    step.fake[:4] = batch.real[:4] + torch.tensor([2.0, 0.0, 0.0])[:, None, None]
    assert reconstruction.colour(step).item() == pytest.approx((2 * 0.168736 + 2 * 0.5) / 2, abs=1e-5)
    assert reconstruction.brightness(step).item() == pytest.approx(2 * 0.299, abs=1e-6)
    noise = torch.randn(4, 3, 30, 34)
    step.fake[:4] = batch.real[:4] + noise
    assert reconstruction.brightness(step) < 0.4 * (reconstruction.luma(noise)).abs().mean()


def test_only_fakes_of_random_latents_have_mixed_styles() -> None:
    net = model(losses={"style_mixing_prob": 1.0})
    real = batch_of(net).real
    _, ws = net._fakes(torch.empty(8, 0, dtype=torch.int64), real[:3])
    same = (ws == ws[:, :1]).all(2).all(1)
    assert same.tolist() == [True] * 3 + [False] * 5
    assert torch.equal(ws[:3], net.g.encode(real[:3]))


def test_the_variety_of_reconstructions_does_not_hide_that_other_fakes_are_alike() -> None:
    """The minibatch deviation of the discriminator is of one kind of fakes in each group."""
    net, labels = model(losses={"encoded": 0.5}), torch.empty(8, 0, dtype=torch.int64)
    alike, varied = torch.zeros(4, 3, 32, 32), torch.randn(4, 3, 32, 32)
    logits = [net._judge(torch.cat([made, alike]), labels)[0] for made in (varied, alike)]
    assert torch.allclose(logits[0][4:], logits[1][4:], atol=1e-5)
    assert not torch.allclose(net.d.judge(torch.cat([varied, alike]))[0][4:], logits[1][4:], atol=1e-3)


@pytest.mark.parametrize(("encoded", "batch"), [(0.5, 2), (0.75, 4), (0.75, 8)])
def test_real_pictures_are_judged_in_groups_of_the_same_sizes(
    encoded: float, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deviation within a group depends on its size, and would tell fakes from real pictures."""
    net, sizes = model(losses={"encoded": encoded}), list[int]()
    judge = net.d.judge
    monkeypatch.setattr(net.d, "judge", lambda pictures, labels: sizes.append(len(pictures)) or judge(pictures, labels))
    net.losses("d", batch_of(net, batch))
    count = net._reconstructed(batch)
    assert sizes == [count, batch - count] * 2


@pytest.mark.parametrize(("encoded", "batch"), [(0.4, 32), (0.1, 32), (0.3, 64)])
def test_both_kinds_of_fakes_have_groups(encoded: float, batch: int) -> None:
    """Of a prime number of pictures there are none: the minibatch deviation would be 0."""
    count = model(losses={"encoded": encoded})._reconstructed(batch)
    for part in (count, batch - count):
        assert group_deviation(torch.randn(part, 4), 4).mean() > 0.1


def test_single_pictures_cannot_be_trained_on_where_a_share_is_reconstructed() -> None:
    kind = models.architecture("stylegan2")
    for encoded, least in ((0.5, 2), (1.0, 1)):
        assert kind.least_micro_batch(model(losses={"encoded": encoded}).config) == least
    assert kind.least_micro_batch(models.build("stylegan2", {}).config) == 1


@pytest.mark.parametrize("unlabelled", [(), ("eyes",)])
def test_reconstructions_have_the_labels_of_their_pictures(unlabelled: tuple[str, ...]) -> None:
    net = model(**LABELS, unlabelled=unlabelled)
    labels = torch.stack([torch.arange(8) % 3, torch.arange(8) % 2], 1)
    labels[:, 1] = -1 if unlabelled else labels[:, 1]
    shown, own = net._fake_labels(labels)
    assert torch.equal(shown[:4], labels[:4]) and torch.equal(own[:4], labels[:4])
    assert (own[4:, 1] >= 0).all()


def test_the_number_of_reconstructions() -> None:
    counts = {(0.5, 8): 4, (0.75, 8): 6, (0.01, 8): 2, (1.0, 8): 8, (0.5, 1): 1, (0.75, 2): 1, (0.99, 8): 6}
    counts |= {(0.4, 32): 12, (0.1, 32): 4, (0.3, 64): 20, (0.3, 7): 2}
    found = {(share, batch): model(losses={"encoded": share})._reconstructed(batch) for share, batch in counts}
    assert found == counts


SETTINGS: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({}, {}, {}),
    ({}, {"encoded": 1.0}, LABELS),
    ({}, {**FIRST, "inverse": 0.0, "colour": 0.0}, {}),
    ({"wavelets": 1, "parts": (0.25, 0.5, 0.75, 0.9)}, {"label_drop_prob": 0.5}, {"height": 37, "width": 50, **LABELS}),
    ({"wavelets": 2, "labels_from": 2}, {}, {"height": 64, "width": 48, **LABELS}),
    ({"labels_from": 4}, FIRST, {"unlabelled": ("eyes",), **LABELS}),
]


@pytest.mark.parametrize(("network", "losses", "data"), SETTINGS)
@pytest.mark.parametrize(("micro_batch", "precision"), [(8, "32"), (4, "32"), (2, "bf16")])
def test_it_trains(network: Any, losses: Any, data: Any, micro_batch: int, precision: Any) -> None:
    net = model(network, losses, **data)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    trainer = Trainer(net, Options(8, micro_batch, precision=precision))
    for _ in range(2):
        trainer.step(batch_of(net))
    assert trainer.read()["dropped"] == 0
    after = net.state_dict()
    assert all(tensor.isfinite().all() for tensor in after.values() if tensor.is_floating_point())
    trained = ("g.encoder.output.weight", "g_ema.encoder.from_rgb.weight", "g.encoder.variance", "g.mapping.w_average")
    assert not any(torch.equal(before[name], after[name]) for name in trained)
    assert torch.equal(before["d.from_rgb.weight"], after["d.from_rgb.weight"]) == (losses.get("adversarial") == 0)


def test_bfloat16_is_close_to_float32() -> None:
    net = model(**LABELS)
    found = []
    for enabled in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found.append(net.losses("g", batch_of(net)))
    exact, rough = found
    assert {"g", "g_labels", "matching", "colour", "brightness", "prior", "inverse"} == exact.keys()
    for name, loss in exact.items():
        assert rough[name].item() == pytest.approx(loss.item(), rel=0.05, abs=0.05), name


def test_the_adversarial_loss_is_weighted() -> None:
    """And it is that of all fakes, without an encoder too."""
    batch, found = batch_of(model()), []
    for weight in (1.0, 0.25):
        net = model({"encoder": 0}, {"adversarial": weight})
        torch.manual_seed(1)
        found.append(net.losses("g", batch)["g"].item())
    torch.manual_seed(1)
    fake, _ = net._fakes(torch.empty(8, 0, dtype=torch.int64))
    assert found[0] == nonsaturating_g(net.d(fake)).item() and found[1] == found[0] / 4


def test_without_an_encoder_there_is_none() -> None:
    net = model({"encoder": 0})
    assert net.g.encoder is None and not any("encoder" in name for name in net.state_dict())
    assert "encoder" not in net.layers() and net.losses("g", batch_of(net)).keys() == {"g"}


@pytest.mark.parametrize(("adversarial", "first"), [(0.0, "reconstruction"), (1.0, "frechet")])
def test_the_error_of_reconstructions_is_a_score_and_chooses_the_best_without_adversarial_loss(
    adversarial: float, first: str
) -> None:
    net, pictures = model(losses={"adversarial": adversarial}), faces_of(40)
    net.eval()
    with torch.no_grad():
        scores = net.measure(Batch(pictures), lambda made, real: 7.0)
    assert scores == {"frechet": 7.0, "reconstruction": pytest.approx(error(net, pictures), rel=1e-5)}
    assert next(iter(scores)) == first


@pytest.mark.parametrize(
    ("network", "losses", "message"),
    [
        ({"encoder": 2}, {}, r"network\.encoder=2: must be 0 or 1"),
        ({}, {"encoded": 0.0}, r"losses\.encoded=0\.0: must be above 0"),
        ({}, {"encoded": 1.1}, r"losses\.encoded=1\.1"),
        ({}, {"encoded": float("nan")}, r"losses\.encoded=nan"),
        ({}, {"matching": 0.0, "colour": 0.0, "brightness": 0.0}, r"losses\.matching, .* must be above 0"),
        ({}, {"prior": -1.0}, r"losses\.prior=-1\.0"),
        ({}, {"matching": float("inf")}, r"losses\.matching=inf"),
        ({"encoder": 0}, {"adversarial": 0.0}, r"losses\.adversarial=0: needs network\.encoder=1"),
    ],
)
def test_impossible_settings_are_refused(network: Any, losses: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model(network, losses)


def test_the_encoder_is_a_layer_of_its_own_to_freeze() -> None:
    net = model()
    tune(net, Tuning(freeze="encoder"))
    assert net.g.encoder is not None and not any(p.requires_grad for p in net.g.encoder.parameters())
    assert all(p.requires_grad for p in net.g.synthesis.parameters()) and net.g.mapping.layers[0].weight.requires_grad
    net = model()
    tune(net, Tuning(layers=2, lr_multiplier=0.5))  # freezes other layers of the generator; the encoder learns on
    assert net.g.encoder is not None and all(p.requires_grad for p in net.g.encoder.parameters())
    assert not any(hasattr(p, "lr_multiplier") for p in net.g.encoder.parameters())
    trainer = Trainer(net, Options(8, 8))
    trainer.step(batch_of(net))
    assert trainer.read()["dropped"] == 0


def test_a_new_encoder_begins_with_the_discriminator_s_convolutions() -> None:
    parent, child = model({"encoder": 0}), model()
    with torch.no_grad():
        parent.d.from_rgb.weight.add_(1)
    fresh, unused = initialise(child, parent)
    assert fresh == NEW and not unused
    assert child.g.encoder is not None and child.g_ema.encoder is not None
    for encoder in (child.g.encoder, child.g_ema.encoder):
        for name, tensor in encoder.state_dict().items():
            if name.startswith(("from_rgb", "blocks")):
                assert torch.equal(tensor, parent.d.state_dict()[name]), name
    z = latents(range(3), 16)
    assert torch.equal(child.sample(z), parent.sample(z))


def test_an_encoder_is_copied_and_can_be_left_out() -> None:
    parent = model()
    child = model(losses=FIRST)
    with torch.no_grad():
        parent.g_ema.encoder.output.bias.add_(1)  # type: ignore[union-attr]
        parent.d.from_rgb.weight.add_(1)
    assert initialise(child, parent) == ([], [])
    x = faces_of(4)
    assert torch.equal(child.g_ema.encode(x), parent.g_ema.encode(x))
    without = model({"encoder": 0})
    fresh, unused = initialise(without, parent)
    assert not fresh and unused and all(name.startswith("g.encoder.") for name in unused)
    z = latents(range(3), 16)
    assert torch.equal(without.sample(z), parent.sample(z))


@pytest.mark.parametrize("encoder", [0, 1])
def test_a_larger_child_in_wavelets_has_the_encoder_of_its_parent(encoder: int) -> None:
    parent, child = model({"encoder": encoder}), model({"wavelets": 1}, height=64, width=64)
    fresh, _ = initialise(child, parent)
    assert fresh == ([] if encoder else NEW)
    if encoder:
        small = faces_of(4)
        large = torch.nn.functional.interpolate(small, scale_factor=2)  # its detail bands are 0
        assert torch.allclose(child.g_ema.encode(large)[:, 0], parent.g_ema.encode(small)[:, 0], atol=0.02)
    larger = model(height=64, width=64)
    fresh, _ = initialise(larger, parent)
    finer = {"g.encoder.blocks.3", "g.encoder.from_rgb.bias", "g.encoder.from_rgb.weight"}
    assert {name for name in fresh if "encoder" in name} == finer | (set() if encoder else {*NEW})


TINY: dict[str, Any] = {"preset": "tiny", "size": "32", "batch": 8, "workers": 0, "precision": "32", "snap": 10}


def test_both_stages_from_the_command_line_and_exact_resume(faces: Path, tmp_path: Path) -> None:
    """A parent without an encoder, then reconstructions alone, then adversarial training, also for few pictures."""
    parent = train("stylegan2", faces, out=tmp_path / "parent", kimg=0.04, **TINY).out
    how: dict[str, Any] = {**TINY, "preset": None}
    first = "network.encoder=1,losses.adversarial=0,losses.encoded=0.75"
    one = train("stylegan2", faces, out=tmp_path / "one", init=str(parent), set=first, kimg=0.08, **how)
    assert [*one.fresh] == NEW
    whole = train("stylegan2", faces, out=tmp_path / "two", init=str(parent), set=first, kimg=0.16, **how).out
    train("stylegan2", faces, out=one.out, init=str(parent), set=first, kimg=0.16, **how)
    a, b = (checkpoint.load_training(run / "training.pt") for run in (whole, one.out))
    assert a["nimg"] == b["nimg"] == 160 and all(torch.equal(a["model"][name], b["model"][name]) for name in a["model"])
    d = {name: tensor for name, tensor in models.stored(models.load(parent)).items() if name.startswith("d.")}
    assert all(torch.equal(a["model"][name], tensor) for name, tensor in d.items())
    second = "network.encoder=1,losses.adversarial=1"
    two = train("stylegan2", faces, out=tmp_path / "last", init=str(one.out), set=second, kimg=0.04, **how)
    assert not two.fresh and not two.unused
    found = models.load(two.out)
    assert found.config.losses.adversarial == 1 and found.config.losses.encoded == 0.75  # type: ignore[attr-defined]
    assert small_sets.defaults("stylegan2", found.config, str(one.out), 64).freeze == "d=4"  # not the mapping network


def test_a_run_with_all_phases_resumes_exactly() -> None:
    pictures = faces_of(8)
    whole, parts = (Trainer(model(), Options(8, 4)) for _ in range(2))
    for _ in range(6):
        whole.step(Batch(pictures))
    for _ in range(3):
        parts.step(Batch(pictures))
    again = Trainer(model(), Options(8, 4))
    again.load_state_dict(parts.state_dict())
    for _ in range(3):
        again.step(Batch(pictures))
    found = again.model.state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in whole.model.state_dict().items())
