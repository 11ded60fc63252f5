"""Labels as conditions: numbers against plain formulas, unknown left out, nothing forgotten by --init."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kyara import models
from kyara.models.base import Batch, Generator, latents
from kyara.nn import conditioning
from kyara.nn.label_table import LabelTable
from kyara.training.transfer import initialise

ATTRIBUTES = {"hair": ("black", "blonde", "blue"), "eyes": ("green", "red")}
COUNTS = ((0, 0, 60), (1, 0, 30), (2, 1, 10))
TABLE = LabelTable(ATTRIBUTES, COUNTS)
LABELS = torch.tensor([[0, 1], [2, -1], [-1, 0], [-1, -1]])


def tiny(name: str, attributes: Mapping[str, Any] | None = None, label_counts: Any = (), **parts: Any) -> Generator:
    cls = models.architecture(name)
    torch.manual_seed(0)
    data = {"attributes": attributes or {}, "label_counts": label_counts}
    model = cls(cls.presets["tiny"].replace(data=data, **parts))
    assert isinstance(model, Generator)
    return model.eval()


def test_one_hot_and_rows_are_what_they_say() -> None:
    hot = conditioning.one_hot(LABELS, ATTRIBUTES)
    assert hot.tolist() == [[1, 0, 0, 0, 1], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0] * 5]
    rows = conditioning.Rows(ATTRIBUTES, 7)
    assert rows(LABELS).abs().sum() == 0
    torch.nn.init.normal_(rows.rows)
    unknown_hair, hair, unknown_eyes, eyes = rows.rows.split([1, 3, 1, 2])
    unknown = (LABELS[:, :1] < 0).float() @ unknown_hair + (LABELS[:, 1:] < 0).float() @ unknown_eyes
    torch.testing.assert_close(rows(LABELS), hot @ torch.cat([hair, eyes]) + unknown)
    features = torch.randn(4, 7)
    projection = conditioning.Projection(ATTRIBUTES, 7)
    projection.load_state_dict(rows.state_dict())
    torch.testing.assert_close(projection(features, LABELS), (features * rows(LABELS)).sum(1) / 7**0.5)


def test_the_label_loss_leaves_unknown_out() -> None:
    logits = torch.randn(4, 5, requires_grad=True)
    loss = conditioning.cross_entropy(logits, LABELS, ATTRIBUTES)
    hair, eyes = F.log_softmax(logits[:, :3], 1), F.log_softmax(logits[:, 3:], 1)
    torch.testing.assert_close(loss, -(hair[0, 0] + hair[1, 2]) / 2 - (eyes[0, 1] + eyes[2, 0]) / 2)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[3].abs().sum() == 0 and logits.grad[1, 3:].abs().sum() == 0
    nothing = conditioning.cross_entropy(logits, torch.full((4, 2), -1), ATTRIBUTES)
    assert nothing.item() == 0 and torch.isfinite(conditioning.accuracy(logits, torch.full((4, 2), -1), ATTRIBUTES))
    certain = conditioning.one_hot(LABELS, ATTRIBUTES) * 9
    assert float(conditioning.accuracy(certain, LABELS, ATTRIBUTES)) == 1
    assert float(conditioning.accuracy(-certain, LABELS, ATTRIBUTES)) == 0


def test_labels_are_drawn_from_the_joint_distribution() -> None:
    drawn = [TABLE.draw({}, seed) for seed in range(1000)]
    found = np.array([[labels["hair"], labels["eyes"]] for labels in drawn])
    assert {tuple(row) for row in found.tolist()} == {(0, 0), (1, 0), (2, 1)}
    assert np.bincount(found[:, 0]) / 1000 == pytest.approx([0.6, 0.3, 0.1], abs=0.05)
    green = [TABLE.draw({"eyes": 0}, seed)["hair"] for seed in range(1000)]
    assert np.bincount(green) / 1000 == pytest.approx([2 / 3, 1 / 3], abs=0.05)
    assert TABLE.draw({"hair": 2}, 5) == {"hair": 2, "eyes": 1}
    assert TABLE.draw({"hair": 2, "eyes": 0}, 5) == {"hair": 2, "eyes": 0}  # never seen
    assert LabelTable(ATTRIBUTES, ()).draw({"eyes": 1}, 5) == {"hair": -1, "eyes": 1}
    assert drawn[7] == TABLE.draw({}, 7)


def test_a_combination_that_never_occurs_takes_the_rest_from_what_is_nearest() -> None:
    attributes = {**ATTRIBUTES, "smile": ("no", "yes")}
    table = LabelTable(attributes, ((0, 0, 0, 5), (0, 1, 1, 5), (1, 0, 0, 5)))
    assert table.draw({"hair": 1, "eyes": 0}, 1)["smile"] == 0
    smiles = {table.draw({"hair": 1, "eyes": 1}, seed)["smile"] for seed in range(50)}
    assert smiles == {0, 1}  # as among those with the hair or the eyes


def test_misspelled_attributes_and_values_are_suggested() -> None:
    attributes = {"hair": ("black", "gray"), "eyes": ("green", "red")}
    assert conditioning.find({"hair": "silver"}, attributes, "mine") == {"hair": 1}
    with pytest.raises(
        ValueError, match=r"--where hair=silber: did you mean silver\? the values of hair are black, gray"
    ):
        conditioning.find({"hair": "silber"}, attributes, "mine")
    with pytest.raises(ValueError, match=r"--where hare=gray: did you mean hair\? mine has the attributes hair, eyes"):
        conditioning.find({"hare": "gray"}, attributes, "mine")


def test_fakes_are_asked_for_what_is_in_the_data() -> None:
    torch.manual_seed(0)
    labels = torch.stack([torch.arange(30) % 4 - 1, torch.arange(30) % 3 - 1], 1)
    mixed = conditioning.shuffled(labels)
    assert not torch.equal(mixed, labels)
    assert sorted(map(tuple, mixed.tolist())) == sorted(map(tuple, labels.tolist()))
    state = torch.get_rng_state()
    conditioning.shuffled(torch.empty(8, 0, dtype=torch.int64))
    assert torch.equal(state, torch.get_rng_state())  # unconditional training draws what it always drew


def test_some_fakes_are_asked_for_what_never_came_together() -> None:
    torch.manual_seed(0)
    labels = torch.arange(1000)[:, None].expand(-1, 2) % 3
    mixed = conditioning.shuffled(labels, 0.5)
    for column in mixed.unbind(1):
        assert torch.bincount(column).float().div(1000).numpy() == pytest.approx([1 / 3] * 3, abs=0.06)
    assert float((mixed[:, 0] == mixed[:, 1]).float().mean()) == pytest.approx(0.5 + 0.5 / 3, abs=0.06)


def test_dropped_labels_leave_every_number_of_known_ones() -> None:
    labels = torch.zeros(4000, 3, dtype=torch.int64)
    state = torch.get_rng_state()
    assert conditioning.dropped(labels, 0.0) is labels
    assert torch.equal(torch.get_rng_state(), state)
    known = (conditioning.dropped(labels, 1.0) == 0).sum(1)
    share = torch.bincount(known, minlength=4) / len(labels)
    assert (share - 0.25).abs().max() < 0.05  # uniform, as the probability of each row is
    assert ((conditioning.dropped(labels, 0.2) < 0).any(1).float().mean() - 0.2 * 0.75).abs() < 0.03


def test_rows_of_unknown_labels_train_where_labels_are_dropped() -> None:
    for probability, trains in ((0.0, False), (1.0, True)):
        model = tiny("stylegan2", ATTRIBUTES, losses={"label_drop_prob": probability})
        labels = {name: torch.zeros(8, dtype=torch.int64) for name in ATTRIBUTES}
        batch = Batch(torch.zeros(8, 3, 32, 32), labels=labels)
        sum(model.losses("d", batch).values()).backward()  # type: ignore[union-attr]
        rows = model.d.labels.rows.grad  # type: ignore[union-attr]
        assert rows is not None and bool(rows[0].any()) == trains  # the row before the values of hair


@pytest.mark.parametrize("name", ["dcgan", "mlp", "stylegan2"])
def test_a_model_that_is_given_labels_starts_as_the_one_it_was(name: str) -> None:
    parent = tiny(name)
    for parameter in parent.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    child = tiny(name, ATTRIBUTES, COUNTS)
    fresh, left = initialise(child, parent)
    assert not left
    assert fresh and all({"labels", "heads"} & set(module.split(".")) for module in fresh)
    z = latents(range(4), parent.z_dim)
    labels = {"hair": LABELS[:, 0], "eyes": LABELS[:, 1]}
    with torch.inference_mode():
        assert torch.equal(child.sample(z, labels=labels), parent.sample(z))


def test_rows_of_other_values_are_left_behind() -> None:
    parent = tiny("dcgan", {"hair": ("a", "b", "c"), "eyes": ("d", "e")})
    other = tiny("dcgan", {"hair": ("b", "f"), "mouth": ("g",)})
    torch.nn.init.ones_(parent.g_ema.labels.rows)  # type: ignore[union-attr,operator,arg-type]
    initialise(other, parent)
    rows = other.g_ema.labels.rows.any(1).tolist()  # type: ignore[union-attr,operator]
    assert rows == [True, True, False, False, False]  # unknown hair and b; f, unknown mouth and g are new
    again = tiny("dcgan", parent.config.data.attributes)
    initialise(again, parent)
    assert again.g_ema.labels.rows.min() == 1  # type: ignore[union-attr,operator]
    with pytest.raises(ValueError, match="attributes, values or their order differ"):
        initialise(tiny("cgan", ATTRIBUTES), tiny("cgan", parent.config.data.attributes))


def test_truncation_leads_to_the_average_of_what_was_asked() -> None:
    model = tiny("stylegan2", ATTRIBUTES, COUNTS)
    g = model.g_ema
    torch.nn.init.normal_(g.mapping.labels.rows)  # type: ignore[union-attr,arg-type]
    centre = g.mean_w(LABELS)[:, -1]  # type: ignore[union-attr,operator]
    z = torch.randn(20_000, model.z_dim)
    for row, found in zip(LABELS, centre, strict=True):
        mean = g.mapping(z, row.expand(len(z), -1)).mean(0)  # type: ignore[union-attr,operator]
        assert (mean - found).norm() < 0.1 * mean.norm()
    with torch.inference_mode():
        z, labels = latents(range(2), model.z_dim), {"hair": torch.tensor([0, 2])}
        black, blue = model.sample(z, truncation=0.0, labels=labels)
        assert not torch.allclose(black, blue, atol=1e-3)
        alone = model.sample(z[1:], truncation=0.5, labels={"hair": torch.tensor([2])})
        assert torch.allclose(alone[0], model.sample(z, truncation=0.5, labels=labels)[1], atol=1e-5)


def test_labels_reach_only_the_layers_that_they_may() -> None:
    model = tiny("stylegan2", ATTRIBUTES, COUNTS, network={"labels_from": 4})
    g = model.g_ema
    torch.nn.init.normal_(g.mapping.labels.rows)  # type: ignore[union-attr,arg-type]
    z = latents([5], model.z_dim).expand(len(LABELS), -1)
    for ws in (g.mapped(z, LABELS), g.mean_w(LABELS)):  # type: ignore[union-attr,operator]
        assert torch.equal(ws[1:, :4], ws[:-1, :4])
        assert not torch.isclose(ws[1:, 4:], ws[:-1, 4:]).all(2).any()
    model.train()
    assert g.styles(z, LABELS, 1.0).shape == (len(LABELS), g.synthesis.layers, 16)  # type: ignore[union-attr,operator]


def test_a_sheet_has_a_row_for_each_value() -> None:
    model = tiny("cgan", ATTRIBUTES, COUNTS)
    with torch.inference_mode():
        sheet = model.preview(Batch(torch.zeros(64, 3, 32, 32)))
    assert sheet is not None and len(sheet) == 5 * 8
    assert model.shown_values() == [("hair", 0), ("hair", 1), ("hair", 2), ("eyes", 0), ("eyes", 1)]
    eyes = TABLE.draw({}, 3)["eyes"]
    asked = {"hair": torch.tensor([2]), "eyes": torch.tensor([eyes])}
    with torch.inference_mode():
        assert torch.allclose(model.sample(latents([3], model.z_dim), labels=asked)[0], sheet[2 * 8 + 3], atol=1e-5)


def test_a_sheet_of_many_values_shows_every_attribute() -> None:
    sizes = {"gender": 2, "hair": 12, "eyes": 11, "hair_length": 4, "glasses": 4, "expression": 14, "skin": 3}
    attributes = {name: tuple(f"{name}{i}" for i in range(n)) for name, n in sizes.items()}
    shown = tiny("cgan", attributes).shown_values()
    rows = {name: [label for n, label in shown if n == name] for name in sizes}
    assert len(shown) <= 32 and list(dict.fromkeys(name for name, _ in shown)) == list(sizes)
    assert rows["gender"] == [0, 1] and rows["skin"] == [0, 1, 2]  # all of the few
    assert rows["hair"][0] == 0 and rows["hair"][-1] == 11 and len(set(rows["hair"])) == len(rows["hair"]) >= 5
    assert len(tiny("cgan", {f"a{i}": ("x", "y") for i in range(40)}).shown_values()) == 32


def test_a_row_of_the_sheet_excludes_what_its_value_excludes(monkeypatch: pytest.MonkeyPatch) -> None:
    attributes = {"eyes": ("green", "red"), "expression": ("closed", "smile")}
    model = tiny("cgan", attributes, ((-1, 0, 20), (0, 1, 20), (1, 1, 20)))
    seen: list[Any] = []
    monkeypatch.setattr(model, "_sample_seeds", lambda seeds, labels, device: seen.append(labels))
    model.preview(Batch(torch.zeros(64, 3, 32, 32)))
    eyes, expression = (seen[0][name].view(4, 8) for name in attributes)
    assert (eyes[2] == -1).all() and (expression[2] == 0).all()
    assert (eyes[3] >= 0).all() and (eyes[0] == 0).all()


@pytest.mark.parametrize("name", ["dcgan", "stylegan2"])
def test_a_label_loss_can_be_added(name: str) -> None:
    model = tiny(name, ATTRIBUTES, COUNTS, losses={"label_weight": 0.5}).train()
    batch = Batch(torch.rand(8, 3, 32, 32), labels={"hair": torch.arange(8) % 4 - 1, "eyes": torch.arange(8) % 2})
    assert {"d", "d_labels"} == set(model.losses("d", batch)) and "label_accuracy" in batch.log
    losses = model.losses("g", batch)
    losses["g_labels"].backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.players()["g"].parameters())
    assert set(tiny(name, losses={"label_weight": 0.5}).train().losses("d", batch)) == {"d"}
    without = tiny(name, ATTRIBUTES, COUNTS, losses={"label_weight": 0.0}).train()
    assert set(without.losses("d", batch)) == {"d"}


def test_acgan_learns_to_tell_labels_from_real_pictures() -> None:
    """The label loss on reals must come from what the discriminator says of reals: made to say the truth of them and
    nonsense of fakes, it loses nothing on reals."""
    model = tiny("acgan", ATTRIBUTES, COUNTS).train()
    real = torch.rand(8, 3, 32, 32)
    labels = {"hair": torch.arange(8) % 3, "eyes": torch.arange(8) % 2}
    truth = conditioning.one_hot(torch.stack([labels["hair"], labels["eyes"]], 1), ATTRIBUTES) * 20

    class Knows(torch.nn.Module):
        def forward(self, pictures: torch.Tensor, told: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return pictures.mean((1, 2, 3)), truth if torch.equal(pictures, real) else -truth

    model.d = Knows()
    losses = model.losses("d", Batch(real, labels=labels))
    assert float(losses["d_labels"]) < 1e-3 < 1 < float(losses["d_labels_fake"])
