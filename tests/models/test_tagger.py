"""The tagger: unknown labels, colours that stay, its temperature, and that it learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from kyara import models
from kyara.models import tagger
from kyara.models.base import Batch

VALUES = {"hair": ("blue", "green", "red"), "eyes": ("black", "white")}
STILL = dict.fromkeys(("translate", "scale", "degrees", "brightness", "cutout"), 0.0)
CONFIG = tagger.PRESETS["tiny"].replace(data={"attributes": VALUES})


def no_distance(a: torch.Tensor, b: torch.Tensor) -> float:
    raise AssertionError("the tagger compares no sets")


def model(**parts: Any) -> tagger.Model:
    torch.manual_seed(0)
    return tagger.Model(CONFIG.replace(**parts))


def faces(count: int, seed: int = 0) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Squares of noise: the upper half has the colour of `hair`, a small box below it that of `eyes`."""
    random = torch.Generator().manual_seed(seed)
    hair = torch.randint(3, (count,), generator=random)
    eyes = torch.randint(2, (count,), generator=random)
    pictures = torch.rand(count, 3, 32, 32, generator=random) * 0.4 - 0.2
    pictures[torch.arange(count), 2 - hair, :14] += 0.7  # blue is the last channel
    pictures[:, :, 18:26, 10:22] += (eyes * 1.6 - 0.8)[:, None, None, None]
    return pictures.clamp(-1, 1), {"hair": hair, "eyes": eyes}


def test_unknown_labels_count_for_nothing() -> None:
    net = model(losses={"label_smoothing": 0.2}).train()
    pictures, labels = faces(8)
    hidden = {**labels, "hair": torch.where(torch.arange(8) < 4, labels["hair"], -1)}

    def loss(pictures: torch.Tensor, labels: dict[str, torch.Tensor]) -> dict[str, float]:
        torch.manual_seed(3)
        plain = net.config.replace(augment=STILL)
        net.config = plain
        return {
            name: float(value.detach()) for name, value in net.losses("train", Batch(pictures, labels=labels)).items()
        }

    half = {name: label[:4] for name, label in labels.items()}
    assert loss(pictures, hidden)["hair"] == pytest.approx(loss(pictures[:4], half)["hair"], abs=1e-5)
    assert loss(pictures, hidden)["eyes"] == pytest.approx(loss(pictures, labels)["eyes"], abs=1e-5)
    nothing = {name: torch.full((8,), -1) for name in labels}
    assert loss(pictures, nothing) == {"hair": 0.0, "eyes": 0.0}


@pytest.mark.parametrize("levels", [0, 5])
def test_the_loss_is_smoothed_cross_entropy_of_scaled_cosines(levels: int) -> None:
    net = model(network={"histogram_levels": levels, "logit_scale": 5.0}, augment=STILL).train()
    pictures, labels = faces(4)
    with torch.no_grad():
        pooled = net.net.body(pictures)
        if net.net.colours is not None:
            pooled = pooled + net.net.colours(tagger.histogram(pictures, 5, 4))
        cosines = F.cosine_similarity(pooled[:, None], net.net.heads[0][None], dim=2)
    target = F.one_hot(labels["hair"], 3) * 0.9 + 0.1 / 3
    expected = -(target * (5 * cosines).log_softmax(1)).sum(1).mean()
    torch.manual_seed(0)
    found = net.losses("train", Batch(pictures, labels=labels))["hair"]
    assert float(found.detach()) == pytest.approx(float(expected), abs=1e-4)


def test_variation_keeps_colours_and_size() -> None:
    torch.manual_seed(0)
    colours = torch.tensor([[0.8, -0.4, -0.4], [-0.5, -0.5, 0.5], [0.1, 0.1, 0.1]])
    flat = colours.repeat_interleave(20, 0)[:, :, None, None].expand(-1, -1, 32, 48)
    varied = tagger.vary(flat, CONFIG.augment)
    assert varied.shape == flat.shape and varied.abs().max() <= 1 and not torch.allclose(varied, flat)
    for before, after in zip(flat, varied, strict=True):
        seen = after.flatten(1)[:, (after != 0).any(0).flatten()]  # outside the hidden box
        assert torch.allclose(seen, seen[:, :1].expand_as(seen), atol=1e-5)
        low, high = seen[:, 0].min(), seen[:, 0].max()
        if before[:, 0, 0].std() > 0:
            assert seen[:, 0].argmax() == before[:, 0, 0].argmax() and high - low > 0.5
        else:
            assert high - low < 1e-5
    still = CONFIG.replace(augment=STILL)
    pictures, _ = faces(3)
    assert torch.allclose(tagger.vary(pictures, still.augment), pictures, atol=1e-5)


def test_the_histogram_counts_colours_where_they_are() -> None:
    picture = torch.full((1, 3, 96, 96), -1.0)
    picture[0, :, :24] = torch.tensor([1.0, 0.0, -1.0])[:, None, None]  # the top quarter: full red, half green
    found = tagger.histogram(picture, 5, 4).square().view(5, 5, 5, 4, 2)  # red, green, blue, row, middle or side
    assert torch.allclose(found.sum((0, 1, 2)), torch.ones(4, 2), atol=1e-3)
    assert torch.allclose(found[4, 2, 0, 0], torch.ones(2), atol=1e-3)
    assert torch.allclose(found[0, 0, 0, 1:], torch.ones(3, 2), atol=1e-3)
    picture[0, 0, 24:48, 24:72] = -0.75  # between two levels of red, in the middle of the second row
    found = tagger.histogram(picture, 5, 4).square().view(5, 5, 5, 4, 2)
    assert torch.allclose(found[:2, 0, 0, 1], torch.tensor([[0.5, 1.0], [0.5, 0.0]]), atol=1e-3)
    mirrored = tagger.histogram(picture.flip(3), 5, 4)
    assert torch.allclose(mirrored, tagger.histogram(picture, 5, 4), atol=1e-5)
    assert tagger.histogram(torch.rand(2, 3, 37, 50), 3, 2).shape == (2, 27 * 2 * 2)


def test_temperature_undoes_what_was_done_to_the_logits() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4000, 5) * 2
    labels = torch.distributions.Categorical(logits=logits).sample()
    for factor in (0.5, 1.0, 3.0):
        assert float(tagger.temperature(logits * factor, labels)) == pytest.approx(factor, rel=0.06)


def test_measure_leaves_unknown_out_and_sets_the_temperature() -> None:
    net = model().eval()
    pictures, _ = faces(40)
    told = {name: values.argmax(1) for name, values in net.probabilities(pictures).items()}
    half = torch.arange(40) < 20
    truth = {"hair": torch.where(half, told["hair"], -1), "eyes": torch.where(half, 1 - told["eyes"], told["eyes"])}
    with torch.no_grad():
        found = net.measure(Batch(pictures, labels=truth), no_distance)
    assert found == {"error": 0.25, "error/hair": 0.0, "error/eyes": 0.5} and next(iter(found)) == "error"
    assert float(net.temperatures[0]) == pytest.approx(0.25)  # always right: as sure as it may be
    with torch.no_grad():
        assert net.measure(Batch(pictures, labels={name: torch.full((40,), -1) for name in truth}), no_distance) == {
            "error": 0
        }


def test_embeddings_are_normal_and_each_picture_stands_alone() -> None:
    net = model().eval()
    pictures, _ = faces(5)
    with torch.no_grad():
        embeddings = net.embed(pictures)
        assert embeddings.shape == (5, 32) and torch.allclose(embeddings.norm(dim=1), torch.ones(5), atol=1e-5)
        assert torch.allclose(net.embed(pictures[3:4]), embeddings[3:4], atol=1e-5)
        told = net.probabilities(pictures)
        assert {name: tuple(values.shape) for name, values in told.items()} == {"hair": (5, 3), "eyes": (5, 2)}
        assert all(torch.allclose(values.sum(1), torch.ones(5), atol=1e-5) for values in told.values())
        assert net.embed(F.interpolate(pictures, scale_factor=2.0)).shape == (5, 32)


def test_it_learns_colours() -> None:
    net = model().train()
    optimizer = net.optimizer(list(net.net.parameters()))
    for group in optimizer.param_groups:
        group["lr"] = 3e-3
    for step in range(60):
        pictures, labels = faces(32, seed=step)
        sum(net.losses("train", Batch(pictures, step, labels)).values()).backward()
        optimizer.step()
        optimizer.zero_grad()
    net.net_ema.load_state_dict(net.net.state_dict())
    with torch.no_grad():
        pictures, labels = faces(200, seed=10_000)
        found = net.eval().measure(Batch(pictures, labels=labels), no_distance)
    assert found["error/hair"] < 0.05 and found["error/eyes"] < 0.1


@pytest.mark.parametrize("name", ["tagger", "views", "hog", "traits"])
def test_label_smoothing_that_makes_no_sense_is_refused(name: str) -> None:
    for wrong in (-0.1, 1.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match=rf"losses\.label_smoothing={wrong}: must be from 0 to below 1"):
            models.architecture(name).presets["tiny"].replace(losses={"label_smoothing": wrong})
