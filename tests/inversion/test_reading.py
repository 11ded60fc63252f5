"""What is read from a photo, and the labels that keep it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kyara.inversion import reading as module
from kyara.inversion.reading import MOST_KEPT, Reading, read

READ = {
    "gender": {"man": 0.9, "woman": 0.1},
    "hair_length": {"bald": 0.8, "short": 0.2},
    "glasses": {"glasses": 0.95, "none": 0.05},
    "skin": {"dark": 0.5, "medium": 0.4, "light": 0.1},
    "beard": {"beard": 0.7, "none": 0.3},
    "hat": {"none": 0.9, "hat": 0.1},
    "mouth": {"closed": 0.2, "open": 0.3, "smile_teeth": 0.5},
}
GENERATOR = {
    "gender": ("female", "male"),
    "hair_length": ("long", "short"),
    "glasses": ("black", "none", "round"),
    "skin": ("dark", "light", "medium"),
    "expression": ("neutral", "surprised"),
    "eyes": ("blue", "brown"),
}


class Fake:
    """A tagger that reads the same from every photo."""

    device, size = torch.device("cpu"), (32, 32)

    def __init__(self, read: dict[str, dict[str, float]]) -> None:
        self.read, self.attributes = read, {name: tuple(values) for name, values in read.items()}

    def fit(self, picture: np.ndarray) -> np.ndarray:
        return picture

    def probabilities(self, pictures: Tensor) -> dict[str, Tensor]:
        return {name: torch.tensor([[*values.values()]]) for name, values in self.read.items()}

    def embed(self, pictures: Tensor) -> Tensor:
        return torch.nn.functional.normalize(pictures.flatten(1))


def reading(attributes: Any = None, **fixed: str) -> Reading:
    photo = np.random.RandomState(0).randint(0, 256, (32, 32, 3), np.uint8)
    return read(photo, Fake(READ), GENERATOR if attributes is None else attributes, fixed, "builtin:character")


def test_what_is_certain_is_drawn_and_what_is_not_varies() -> None:
    found = reading()
    assert found.labels["gender"] == {"male": pytest.approx(0.9)}
    assert set(found.labels["skin"]) == {"dark", "medium"}  # light is too improbable
    random = np.random.RandomState(0)
    drawn = [found.draw(random) for _ in range(400)]
    assert {one["gender"] for one in drawn} == {"male"} and {one["glasses"] for one in drawn} == {"black", "round"}
    assert np.mean([one["skin"] == "dark" for one in drawn]) == pytest.approx(5 / 9, abs=0.08)
    assert found.mouth_open == pytest.approx(0.8)
    best = {name: max(weights, key=weights.__getitem__) for name, weights in found.labels.items()}
    assert found.likely(best) == 0 > found.likely(best | {"skin": "medium"}) == pytest.approx(np.log(0.4 / 0.5))
    traits = {trait.name: trait for trait in found.traits}
    assert traits["gender"].certain and not traits["skin"].certain and traits["skin"].value == "dark"
    assert "eyes" in traits and 0 < traits["eyes"].certainty < 1


def test_what_the_generator_lacks_is_said() -> None:
    notes = {trait.name: trait.note for trait in reading().traits}
    assert notes["beard"] == "builtin:character knows no beard"
    assert notes["hair_length"] == "builtin:character knows no such value"  # bald becomes short
    assert notes["hat"] == notes["gender"] == notes["skin"] == ""  # nobody needs a hat that is not there
    notes = {trait.name: trait.note for trait in reading({"eyes": ("brown",)}).traits}
    assert notes["hair_length"] == "builtin:character knows no hair length"
    notes = {trait.name: trait.note for trait in reading({"hair_length": ("long",), "expression": ("sad",)}).traits}
    assert notes["hair_length"] == notes["mouth"] == "builtin:character knows no such value"  # but other ones


def test_what_is_chosen_replaces_what_was_read() -> None:
    found = reading(glasses="none", expression="surprised")
    assert found.labels["glasses"] == {"none": 1.0} and found.mouth_open is None
    chosen = {trait.name: trait for trait in found.traits if trait.note == "chosen"}
    assert {*chosen} == {"glasses", "expression"} and chosen["glasses"].certain
    assert "mouth" not in {trait.name for trait in found.traits}


def test_a_mouth_of_its_own_is_kept_beside_the_expression() -> None:
    both = {**GENERATOR, "mouth": ("grin", "laugh", "neutral", "open", "smile"), "bangs": ("side", "straight")}
    found = reading(both)
    assert set(found.labels["mouth"]) == {"grin", "laugh", "open", "neutral"} and "expression" in found.labels
    assert [trait.name for trait in found.traits].count("mouth") == 1
    assert found.mouth_open == pytest.approx(0.8) and found.unread == ("bangs",)
    fixed = reading(both, mouth="smile")
    assert fixed.labels["mouth"] == {"smile": 1.0} and fixed.mouth_open is None
    assert fixed.labels["expression"] == found.labels["expression"]  # that of the photo
    assert [(t.value, t.note) for t in fixed.traits if t.name == "mouth"] == [("smile", module.CHOSEN)]
    sad = reading({**both, "expression": ("neutral", "sad")}, expression="sad")
    assert sad.labels["mouth"] == found.labels["mouth"] and sad.mouth_open == found.mouth_open


def test_short_hair_has_no_strands_beside_the_face() -> None:
    locks, random = {**GENERATOR, "sidelocks": ("long", "none")}, np.random.RandomState(0)
    found = reading(locks)
    assert found.unread == ("sidelocks",) and found.draw(random)["sidelocks"] == "none"
    assert "sidelocks" not in reading(locks, hair_length="long").draw(random)  # then any
    assert reading(locks, sidelocks="long").draw(random)["sidelocks"] == "long"
    assert "sidelocks" not in reading().draw(random)  # of a generator without it


def test_a_generator_with_the_values_of_the_reader_is_given_them() -> None:
    found = reading({"gender": ("man", "woman"), "beard": ("beard", "none")})
    assert {*found.labels["gender"]} == {"man"} and {*found.labels["beard"]} == {"beard"}
    assert not {trait.name: trait.note for trait in found.traits}["beard"]


def test_the_turn_is_measured_and_kept_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    for degrees, kept, text in (
        (3.0, 0, "front"),
        (-12.4, -12, "12° to the left"),
        (33.0, MOST_KEPT, "33° to the right"),
    ):
        monkeypatch.setattr(module, "angle", lambda points, seen=degrees: torch.tensor([seen]))
        found = reading()
        traits = {trait.name: trait for trait in found.traits}
        assert found.turn == kept and (traits["turn"].value, traits["turn"].note) == (text, "measured")
    assert read(np.zeros((32, 32, 3), np.uint8), Fake(READ), {}, {}, "x", turn=7).turn == 7


def test_a_reader_that_knows_eyes_is_believed() -> None:
    photo = np.random.RandomState(0).randint(0, 256, (32, 32, 3), np.uint8)
    known = READ | {"eyes": {"blue": 0.97, "brown": 0.03}}
    found = read(photo, Fake(known), GENERATOR, {}, "builtin:character")
    assert found.labels["eyes"] == {"blue": pytest.approx(0.97)}
