"""How labels occur together: attributes that exclude each other, what is drawn, and how long it takes."""

from __future__ import annotations

import time

import numpy as np
import pytest

from kyara.nn.label_table import MOST, LabelTable, count_labels, exclusions

ATTRIBUTES = {
    "gender": ("female", "male"),
    "hair": tuple(f"h{i}" for i in range(12)),
    "eyes": tuple(f"e{i}" for i in range(11)),
    "hair_length": ("long", "medium", "short", "twintails"),
    "glasses": ("black", "none", "red", "round"),
    "expression": ("angry", "closed", "neutral", "sad", "smile"),
    "skin": ("dark", "light", "medium"),
}
NAMES = list(ATTRIBUTES)
EYES, GLASSES, EXPRESSION = (NAMES.index(name) for name in ("eyes", "glasses", "expression"))
ROUND, CLOSED, NONE = 3, 1, 1


def characters(count: int) -> np.ndarray:
    """Labels (N, 7): eyes are unknown where they are closed, and behind round glasses."""
    random = np.random.RandomState(0)
    labels = np.stack([random.randint(0, len(values), count) for values in ATTRIBUTES.values()], 1)
    labels[(labels[:, GLASSES] == ROUND) | (labels[:, EXPRESSION] == CLOSED), EYES] = -1
    return labels


@pytest.fixture(scope="module")
def table() -> LabelTable:
    return LabelTable(ATTRIBUTES, count_labels(characters(2000)))


def test_exclusions_are_found_and_chance_is_not_one() -> None:
    labels = characters(300)
    assert exclusions(labels, np.ones(300)) == [(EYES, GLASSES, ROUND), (EYES, EXPRESSION, CLOSED)]
    random = np.random.RandomState(1)
    noisy = np.where(random.rand(300, 7) < 0.2, -1, characters(300))
    noisy[:3, 1:3] = [[11, -1]] * 3  # a rare value beside which eyes happen to be unknown
    noisy[3:, 1] = np.where(noisy[3:, 1] == 11, 0, noisy[3:, 1])
    assert set(exclusions(noisy, np.ones(300))) == {(EYES, GLASSES, ROUND), (EYES, EXPRESSION, CLOSED)}
    missing = np.where(random.rand(300, 2) < 0.4, -1, random.randint(0, 3, (300, 2)))
    assert exclusions(missing, np.ones(300)) == []


def test_excluded_labels_are_kept_as_unknown_and_missing_ones_are_dropped() -> None:
    labels = characters(2000)
    labels[:50, 1] = -1  # tags that are missing
    rows = np.array(count_labels(labels))
    assert rows[:, -1].sum() == 1950 and (rows[:, :EYES] >= 0).all()
    assert ((rows[:, EYES] == -1) == ((rows[:, GLASSES] == ROUND) | (rows[:, EXPRESSION] == CLOSED))).all()
    found = count_labels(np.array([[0, 1], [0, 1], [1, -1], [1, 0]]))
    assert found == ((0, 1, 2), (1, 0, 1))


def test_an_attribute_without_labels_is_excluded_by_nothing() -> None:
    labels = np.stack([np.arange(600) > 50, np.full(600, -1)], 1).astype(np.int64)
    assert count_labels(labels) == ((0, -1, 51), (1, -1, 549))
    assert not exclusions(labels, np.ones(600))


def test_a_large_table_is_a_sample_with_the_same_shares() -> None:
    labels = characters(12_000)
    assert len(np.unique(labels, axis=0)) > 2 * MOST
    rows = np.array(count_labels(labels))
    assert len(rows) <= MOST and rows[:, -1].sum() == MOST
    assert count_labels(labels[::-1]) == count_labels(labels)
    for of_all, of_rows in zip(labels.T + 1, rows[:, :-1].T + 1, strict=True):
        shares = np.bincount(of_rows, weights=rows[:, -1]) / MOST
        assert shares == pytest.approx(np.bincount(of_all) / 12_000, abs=0.02)
    assert exclusions(rows[:, :-1], rows[:, -1]) == exclusions(labels, np.ones(12_000))


def test_closed_eyes_have_no_colour(table: LabelTable) -> None:
    drawn = [table.draw({}, seed) for seed in range(500)]
    hidden = [one["glasses"] == ROUND or one["expression"] == CLOSED for one in drawn]
    assert [one["eyes"] == -1 for one in drawn] == hidden and 0.3 < np.mean(hidden) < 0.5
    assert {table.draw({"glasses": ROUND}, seed)["eyes"] for seed in range(50)} == {-1}
    assert all(table.draw({"eyes": 4}, seed)["glasses"] != ROUND for seed in range(50))
    both = table.draw({"glasses": ROUND, "eyes": 4}, 3)
    assert (both["glasses"], both["eyes"]) == (ROUND, 4)
    sentence = "eyes is never known where glasses=round in the training data, so eyes=e4 may not show"
    assert table.doubts({"glasses": ROUND, "eyes": 4}) == [sentence]
    assert table.doubts({"glasses": ROUND, "hair": 4}) == table.doubts({}) == []


def test_many_values_at_once_fall_back_to_rows_that_agree_with_most(table: LabelTable) -> None:
    values = [dict(zip(NAMES, row, strict=True)) for row in np.random.RandomState(2).randint(0, 2, (200, 7)).tolist()]
    given = [{name: one[name] for name in ("gender", "hair", "glasses", "expression", "skin")} for one in values]
    fallback = [fixed for fixed in given if table.doubts(fixed)]
    assert fallback and "never occur together in the label_counts" in table.doubts(fallback[0])[0]
    for seed, fixed in enumerate(given):
        drawn = table.draw(fixed, seed)
        assert {name: drawn[name] for name in fixed} == fixed
        assert (drawn["eyes"] == -1) == (drawn["glasses"] == ROUND or drawn["expression"] == CLOSED)
        assert -1 not in [drawn[name] for name in NAMES if name != "eyes"]


def test_one_change_leaves_the_others(table: LabelTable) -> None:
    labels = next(one for one in (table.draw({}, seed) for seed in range(99)) if one["eyes"] >= 0)
    for name, values in ATTRIBUTES.items():
        for value in range(len(values)):
            changed = table.change(labels, {name: value}, 5)
            hides = (name, value) in (("glasses", ROUND), ("expression", CLOSED))
            assert changed == {**labels, **({"eyes": -1} if hides else {}), name: value}
    closed = table.change(labels, {"expression": CLOSED}, 5)
    opened = table.change(closed, {"expression": 0}, 5)
    assert opened["eyes"] >= 0 and opened == table.change(closed, {"expression": 0}, 5)
    assert {**opened, "eyes": -1, "expression": CLOSED} == closed
    behind = table.change(closed, {"glasses": ROUND}, 5)
    assert table.change(behind, {"expression": 0}, 5)["eyes"] == -1  # the glasses hide them still
    unknown = {**labels, "hair": -1}
    assert table.change(unknown, {"skin": 0}, 5)["hair"] == -1  # nothing had excluded it


def test_drawing_from_the_largest_table_is_fast() -> None:
    table = LabelTable(ATTRIBUTES, count_labels(characters(12_000)))
    table.draw({}, 0)
    began = time.perf_counter()
    for seed in range(100):
        table.draw({"glasses": 0, "hair": 3}, seed)
    assert time.perf_counter() - began < 1  # a picture takes longer


def test_labels_that_are_no_longer_excluded_are_drawn_in_the_order_of_the_attributes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each is drawn given those before it; the order of a set of names would differ from process to process."""
    attributes = {"closed": ("no", "yes"), **dict.fromkeys(("left", "right", "shape", "light"), ("a", "b"))}
    table = LabelTable(attributes, ((0, 0, 0, 0, 0, 50), (0, 1, 1, 1, 1, 50), (1, -1, -1, -1, -1, 100)))
    given: list[list[str]] = []
    draw_row = LabelTable._draw_row

    def noted(self: LabelTable, rows: np.ndarray, counts: np.ndarray, labels: dict[str, int], seed: int) -> object:
        given.append([*labels])
        return draw_row(self, rows, counts, labels, seed)

    monkeypatch.setattr(LabelTable, "_draw_row", noted)
    table.change({"closed": 1, "left": -1, "right": -1, "shape": -1, "light": -1}, {"closed": 0}, 0)
    assert given == [["closed", "left", "right", "shape", "light"][:i] for i in range(1, 5)]


def test_attributes_that_the_table_does_not_know_raise_no_doubt() -> None:
    attributes = {"hair": ("black", "pink"), "mouth": ("closed", "open")}
    table = LabelTable(attributes, ((0, -1, 3), (1, -1, 2)))
    assert table.doubts({"mouth": 1}) == table.doubts({"hair": 1, "mouth": 0}) == []
    assert table.draw({"mouth": 1}, 4)["mouth"] == 1 and table.draw({}, 4)["mouth"] == -1
    seldom = LabelTable(attributes, ((0, 0, 3), (0, -1, 2)))
    assert "does not occur" in seldom.doubts({"mouth": 1})[0]
