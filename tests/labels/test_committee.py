"""The committee on plain arrays: what it says, how sure it is, what it would ask."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kyara.labels import committee
from kyara.labels.committee import Committee, committee_of, logistic, neighbours, questions_worth_asking


def clouds(n: int, values: int = 3, spread: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two kinds of features (n, 6) of points around a centre per value, and the values."""
    random = np.random.RandomState(seed)
    y = random.randint(0, values, n)
    centres = np.random.RandomState(5).randn(2, values, 6) * 2
    first, second = (c[y] + spread * random.randn(n, 6) for c in centres)
    return first, second, y


def test_logistic_is_at_the_minimum_of_its_loss() -> None:
    x, _, y = clouds(60)
    features, labels, strength = torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(y), 0.01
    predict = logistic(features, labels, 3, strength)
    # At the minimum the mean outer product of features and errors equals the penalty's pull: W = X'(onehot - p)/n/l2.
    error = torch.nn.functional.one_hot(labels, 3) - predict(features).exp()
    weight = features.T @ error / len(x) / strength
    bias = error.mean(0) / 1e-3
    assert torch.allclose((features @ weight + bias).softmax(1), predict(features).exp(), atol=0.01)
    assert not torch.allclose(predict(features).exp(), logistic(features, labels, 3, 1.0)(features).exp(), atol=0.05)


def test_neighbours_follow_the_near_ones() -> None:
    features = torch.tensor([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2]])
    predict = neighbours(features, torch.tensor([0, 0, 0, 1, 1, 1]), 2, 3.0)
    logs = predict(torch.tensor([[0.05], [5.05]]))
    assert logs.argmax(1).tolist() == [0, 1]
    assert torch.allclose(logs.exp().sum(1), torch.ones(2))
    assert logs.exp().min() > 0.05  # three answers are no certainty


def test_twenty_answers_complete_what_is_easy() -> None:
    first, second, y = clouds(400, spread=0.3)
    answered, open_ = np.arange(20), np.arange(20, 400)
    found = Committee(committee_of([first, second]), answered, y[:20], 3)
    assert (found.chosen == y)[open_].all()
    sure = found.confidence[open_] >= found.threshold(open_, 0.9)
    assert sure.mean() > 0.9


@pytest.mark.parametrize("seed", [0, 1])
def test_what_it_fills_is_as_right_as_it_says(seed: int) -> None:
    first, second, y = clouds(4000, spread=2.5, seed=seed)
    answered, open_ = np.arange(200), np.arange(200, 4000)
    found = Committee(committee_of([first, second]), answered, y[:200], 3)
    right = found.chosen == y
    assert 0.6 < right[open_].mean() < 0.95  # hard enough to say something
    assert abs(found.confidence[open_].mean() - right[open_].mean()) < 0.05
    sure = open_[found.confidence[open_] >= found.threshold(open_, 0.95)]
    assert len(sure) > 0.2 * len(open_)
    assert right[sure].mean() > 0.92


def test_labels_without_meaning_are_not_filled() -> None:
    first, second, _ = clouds(1000)
    y = np.random.RandomState(3).randint(0, 3, 100)
    found = Committee(committee_of([first, second]), np.arange(100), y, 3)
    open_ = np.arange(100, 1000)
    assert found.confidence[open_].mean() < 0.6
    assert (found.confidence[open_] >= found.threshold(open_, 0.95)).mean() < 0.01


def test_a_member_that_knows_nothing_does_not_spoil_it() -> None:
    first, _, y = clouds(600, spread=0.5)
    noise = np.random.RandomState(1).randn(600, 6)
    found = Committee(committee_of([first, noise]), np.arange(60), y[:60], 3)
    assert (found.chosen == y)[60:].mean() > 0.97


def test_same_answers_same_opinion_whatever_their_scale() -> None:
    first, second, y = clouds(200)
    one = Committee(committee_of([first, second]), np.arange(40), y[:40], 3)
    two = Committee(committee_of([first * 1000 + 7, second]), np.arange(40), y[:40], 3)
    assert np.abs(one.probabilities - two.probabilities).max() < 0.02


def test_a_value_with_one_answer_and_one_with_none() -> None:
    first, second, y = clouds(100)
    labels = np.where(np.arange(30) == 0, 2, y[:30] % 2)
    found = Committee(committee_of([first, second]), np.arange(30), labels, 5)
    assert np.isfinite(found.probabilities).all() and np.isfinite(found.confidence).all()
    assert found.probabilities[:, 3:].max() < 0.2


def test_answers_that_teach_nothing_are_refused() -> None:
    first, second, _ = clouds(50)
    with pytest.raises(ValueError, match="two different values"):
        Committee(committee_of([first, second]), np.arange(20), np.zeros(20, dtype=np.int64), 2)
    with pytest.raises(ValueError, match="finite"):
        committee_of([np.full((3, 2), np.nan), second])


def test_folds_spread_every_value() -> None:
    labels = np.array([0] * 15 + [1] * 10)
    fold = committee._folds(labels)
    assert [np.bincount(fold[labels == v], minlength=5).tolist() for v in (0, 1)] == [[3] * 5, [2] * 5]


def test_first_questions_show_every_kind() -> None:
    first, _, y = clouds(300, values=6, spread=0.1)
    asked = questions_worth_asking(committee_of([first, first])[0].features, np.arange(300), 6)
    assert sorted(y[asked]) == list(range(6))


def test_questions_are_open_different_and_more_disputed_than_most() -> None:
    first, second, y = clouds(600, spread=2.0)
    members = committee_of([first, second])
    found = Committee(members, np.arange(50), y[:50], 3)
    open_ = np.arange(50, 600)
    asked = questions_worth_asking(members[0].features, open_, 30, found)
    assert len(set(asked)) == 30 and set(asked) <= set(open_)
    assert found.doubt[asked].mean() > found.doubt[open_].mean()
    few = questions_worth_asking(members[0].features, open_[:5], 30, found)
    assert few.tolist() == open_[:5].tolist()


def test_more_features_than_pictures() -> None:
    random = np.random.RandomState(0)
    y = np.arange(72) % 3
    features = np.concatenate([np.repeat(np.eye(3)[y], 60, 1), np.zeros((72, 320))], 1) + 1e-3 * random.rand(72, 500)
    features[5] = features.mean(0)
    found = Committee(committee_of([features, features]), np.arange(20), y[:20], 3)
    assert np.isfinite(found.confidence).all()


def test_the_threshold_of_a_large_set_is_exact() -> None:
    """A sum in float32 rounds each addition: of many pictures, the mean would be wrong by up to 3 percent."""
    many = SimpleNamespace(confidence=np.full(1_000_000, 0.97, np.float32))
    assert Committee.threshold(many, np.arange(1_000_000), 0.98) == float("inf")  # type: ignore[arg-type]
    assert Committee.threshold(many, np.arange(1_000_000), 0.969) == pytest.approx(0.97)  # type: ignore[arg-type]
