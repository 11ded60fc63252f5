"""The script that adapts mapping networks to labels."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from kyara import models
from kyara.models import views
from kyara.models.stylegan2.model import Model

SCRIPT = Path(__file__).parents[1] / "tools" / "adapt_labels.py"
ATTRIBUTES = {"gender": ("female", "male"), "eyes": ("blue", "green", "red"), "expression": ("closed", "neutral")}
CONFIG = {
    "data": {
        "width": 32, "height": 32, "attributes": ATTRIBUTES,
        "label_counts": [[0, 0, 1, 5], [1, 2, 1, 3], [0, -1, 0, 2]],
    },
    "network": {"z_dim": 8, "w_dim": 8, "mapping_layers": 2, "channel_base": 256, "channel_max": 16},
}  # fmt: skip


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("adapt_labels", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["adapt_labels"] = module
    spec.loader.exec_module(module)
    return module


def adapted(
    script: ModuleType, anchor: float, only: tuple[str, ...] = (), **network: int
) -> tuple[Model, list[str], list[float], torch.Tensor]:
    """A small generator, the names of its tensors that changed, the losses, and how far its styles moved."""
    torch.manual_seed(0)
    generator = models.build("stylegan2", {**CONFIG, "network": {**CONFIG["network"], **network}}).eval()
    assert isinstance(generator, Model)
    before = {name: tensor.clone() for name, tensor in models.stored(generator).items()}
    tagger = models.build("views", {"data": {"width": 32, "height": 32, "attributes": ATTRIBUTES}}).eval()
    assert isinstance(tagger, views.Model)
    for head in tagger.requires_grad_(False).net_ema.heads:
        head.weight *= 30  # untrained, but certain
    z, unknown = torch.randn(256, 8), torch.full((256, 3), -1)
    old = generator.g_ema.mapping(z, unknown)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script, "ANCHOR", anchor)
        patch.setattr(script, "POOL", 256)
        losses = script.adapt(generator, tagger, {"eyes": 2.0}, steps=24, batch=8, only=only)
    changed = [name for name, tensor in models.stored(generator).items() if not torch.equal(tensor, before[name])]
    return generator, changed, losses, script.sliced_distance(generator.g_ema.mapping(z, unknown), old)


def test_only_the_mapping_network_changes_and_the_loss_falls(script: ModuleType) -> None:
    _, changed, losses, _ = adapted(script, 2.0)
    assert "g_ema.mapping.labels.rows" in changed and all(name.startswith("g_ema.mapping.") for name in changed)
    assert sum(losses[-6:]) < sum(losses[:6])


def test_only_the_rows_of_one_attribute_change(script: ModuleType) -> None:
    generator, changed, losses, moved = adapted(script, 2.0, ("eyes",))
    assert changed == ["g_ema.mapping.labels.rows"] and sum(losses[-6:]) < sum(losses[:6])
    assert generator.g_ema.mapping.labels is not None
    rows = generator.g_ema.mapping.labels.rows.any(1).tolist()  # zeros before
    assert rows == [False] * 3 + [False, True, False, True] + [False] * 3  # not that of unknown eyes; none are green
    assert moved == 0


def test_the_styles_stay_also_without_labels(script: ModuleType) -> None:
    free, held = (adapted(script, anchor)[3] for anchor in (0.0, 200.0))
    assert held < free / 2


def test_the_pictures_are_those_of_the_generator(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if only the finer layers are conditioned on the labels."""
    seen: list[torch.Tensor] = []
    synthesise = Model.synthesise
    monkeypatch.setattr(Model, "synthesise", lambda model, ws: (seen.append(ws), synthesise(model, ws))[1])
    generator = adapted(script, 2.0, labels_from=2)[0]
    assert not torch.equal(seen[-1][:, 0], seen[-1][:, 2]) and torch.equal(seen[-1][:, 0], seen[-1][:, 1])
    assert seen[-1].shape == (8, generator.g_ema.synthesis.layers, 8)


def test_the_distance_of_styles_is_that_of_their_distributions(script: ModuleType) -> None:
    a = torch.randn(512, 6, generator=torch.Generator().manual_seed(0))
    same, shifted = script.sliced_distance(a, a[torch.randperm(512)]), script.sliced_distance(a, a + 0.5)
    assert same < 1e-10 and shifted == pytest.approx(0.25, rel=1e-3)  # a shift of 0.5 in each of the directions


def test_unknown_labels_do_not_count(script: ModuleType) -> None:
    read = {"gender": torch.tensor([[0.2, 0.8], [0.5, 0.5]]), "eyes": torch.tensor([[1.0, 0.0], [0.3, 0.7]])}
    unknown = torch.tensor([-1, -1])
    found = script.cross_entropies(read, {"gender": torch.tensor([1, -1]), "eyes": unknown, "hair": unknown})
    assert set(found) == {"gender"} and float(found["gender"]) == pytest.approx(-math.log(0.8))
