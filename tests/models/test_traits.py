"""What classifiers of traits take from the networks of `drawing`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kyara import models
from kyara.files import checkpoint
from kyara.models.base import Batch
from kyara.models.drawing.layout import AT, COUNT, REGIONS
from kyara.models.traits import QUANTILES, Fourier, inside, quantiles, region_colours, shape_of_lips, square
from kyara.training.trainer import Options, Trainer

DATA = {"width": 32, "height": 32, "attributes": {"glasses": ("none", "round")}, "label_counts": ((0, 4), (1, 4))}


def test_weighted_quantiles_are_those_of_repeated_values() -> None:
    values = torch.rand(2, 3, 40, generator=torch.Generator().manual_seed(0))
    weights = torch.randint(0, 5, (2, 4, 40), generator=torch.Generator().manual_seed(1)).float()
    found = quantiles(values, weights)
    for b, r, c in np.ndindex(2, 4, 3):
        repeated = np.repeat(values[b, c].numpy(), weights[b, r].int().numpy())
        expected = np.quantile(repeated, QUANTILES, method="inverted_cdf")
        np.testing.assert_allclose(found[b, r, c].numpy(), expected)


def test_random_features_approximate_a_gaussian_kernel() -> None:
    features, width = Fourier(5, 40_000, 1.5), 1.5
    x = torch.randn(200, 5, generator=torch.Generator().manual_seed(0)) * 3 + 2
    for _ in range(100):
        features(x)  # tracks mean and variance
    with torch.inference_mode():
        found = features.eval()(x[:20]) * (2 / 40_000) ** 0.5
    scaled = (x - x.mean(0)) / x.std(0)
    far = (scaled[:20, None] - scaled[None, :20]).square().mean(2)
    torch.testing.assert_close(found @ found.T, torch.exp(-far / (2 * width**2)), atol=0.03, rtol=0)


def test_the_colours_of_hair_and_skin_are_those_of_their_regions() -> None:
    pictures, shares = torch.zeros(1, 3, 64, 64), torch.zeros(1, 4, 32, 32)
    red, grey = torch.tensor([0.8, -0.6, -0.6]), torch.tensor([0.2, 0.2, 0.2])
    pictures[0, :, :16], pictures[0, :, 16:] = red[:, None, None], grey[:, None, None]
    shares[0, REGIONS.index("hair"), :8], shares[0, REGIONS.index("skin"), 8:] = 1, 1
    colours, areas = region_colours(pictures, shares).split((75, 5), 1)
    median = colours.view(5, 3, 5)[:, :, 2]  # background, skin, hair, above, beside
    torch.testing.assert_close(median[2], torch.tensor([-0.4 / 3, 1.4, 0.7]), atol=1e-4, rtol=0)
    torch.testing.assert_close(median[3], median[2])
    torch.testing.assert_close(median[1], torch.tensor([0.2, 0.0, 0.0]), atol=1e-4, rtol=0)
    assert areas[0, 1] > areas[0, 2] > areas[0, 0] and areas[0, 3] == areas[0, 2]


def test_the_shape_of_lips_ignores_where_and_how_large_they_are() -> None:
    points = torch.rand(3, COUNT, 2, generator=torch.Generator().manual_seed(0))
    points[:, AT["outer lips"].start] = torch.tensor([0.2, 0.5])
    points[:, AT["outer lips"].start + 10] = torch.tensor([0.8, 0.5])
    torch.testing.assert_close(shape_of_lips(points), shape_of_lips(points * 0.3 + 0.4))
    opened = points.clone()
    opened[:, AT["inner lips"].start + 15, 1] += 0.1
    assert not torch.allclose(shape_of_lips(points), shape_of_lips(opened), atol=0.1)


def test_the_frame_is_in_the_middle_of_a_larger_square() -> None:
    pictures = torch.rand(2, 3, 78, 78, generator=torch.Generator().manual_seed(0))
    wide = square(pictures, 1.0, 100)
    assert wide.shape == (2, 3, 100, 100)
    torch.testing.assert_close(inside(wide, 1.0), pictures, atol=1e-3, rtol=0)


def test_the_networks_are_copied_once(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = models.build("drawing", dataclasses.asdict(models.architecture("drawing").presets["tiny"]))
    config = dataclasses.asdict(source.config)
    checkpoint.write(tmp_path, model="drawing", config=config, weights=models.stored(source), card="", about={})
    model: Any = tiny(source=str(tmp_path))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    batch = Batch(torch.rand(8, 3, 32, 32) * 2 - 1, labels={"glasses": torch.arange(8) % 2})
    for _ in range(2):  # also after a first step that was undone, by which the loop estimates the time
        model.load_state_dict(before)
        Trainer(model, Options(batch=8, micro_batch=8)).step(batch)
    copied = model.features.points.stem.weight
    assert not torch.equal(copied, before["features.points.stem.weight"])
    torch.testing.assert_close(copied, source.points_ema.stem.weight)  # type: ignore[union-attr]
    torch.testing.assert_close(model.features.regions.out.weight, source.regions_ema.out.weight)  # type: ignore[union-attr]
    again: Any = tiny(source="nowhere")
    again.load_state_dict(model.state_dict())
    Trainer(again, Options(batch=8, micro_batch=8)).step(batch)  # needs no source
    assert torch.equal(again.features.points.stem.weight, copied)


def test_another_kind_of_source_is_refused() -> None:
    model = tiny(source="builtin:tagger")
    batch = Batch(torch.zeros(8, 3, 32, 32), labels={"glasses": torch.arange(8) % 2})
    with pytest.raises(ValueError, match=r"network\.source=builtin:tagger: a tagger"):
        model.losses("train", batch)


def tiny(source: str) -> Any:
    config = models.architecture("traits").presets["tiny"].replace(data=DATA, network={"source": source})
    return models.architecture("traits")(config)
