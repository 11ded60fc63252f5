"""Metrics against plain formulas, and against torch-fidelity 0.4.0 on the same features."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from kyara.evaluation import metrics, statistics
from kyara.evaluation.statistics import fit_gaussian, neighbour_distances


def two_sets(n: int, m: int, f: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.RandomState(7)
    mix = random.randn(f, f)
    a, b = random.randn(n, f) @ mix / f**0.5, 0.8 * random.randn(m, f) @ mix / f**0.5
    return a, b + 0.1 * random.randn(f)


# n, m, F; Fréchet, KID mean (100 subsets of min(n, m) // 2), inception score of a as logits, recall
FIDELITY = [
    ((300, 400, 16), 1.0317502487781525, 0.06731728553866304, 1.440164177030661, 0.98),
    ((40, 50, 64), 28.389884777572675, 0.11937833418107903, 1.353319243374295, 1.0),
]


@pytest.mark.parametrize(("shape", "frechet", "kid", "inception", "recall"), FIDELITY)
def test_numbers_of_torch_fidelity(
    shape: tuple[int, int, int], frechet: float, kid: float, inception: float, recall: float
) -> None:
    a, b = two_sets(*shape)
    found = metrics.frechet(fit_gaussian(a), fit_gaussian(b))
    assert found == pytest.approx(frechet, rel=1e-6)
    assert metrics.kid(a, b).value == pytest.approx(kid, rel=1e-6)
    exp = np.exp(a)
    assert metrics.inception_score(exp / exp.sum(1, keepdims=True)).value == pytest.approx(inception, rel=1e-6)
    overlap = metrics.manifolds(a, b, neighbour_distances(a), neighbour_distances(b))
    assert overlap.fakes_cover == pytest.approx(recall, abs=1e-6)


@pytest.mark.parametrize(("n", "m", "d"), [(200, 150, 12), (9, 30, 24), (9, 7, 24)])
def test_frechet_is_the_trace_formula_also_with_fewer_pictures_than_features(n: int, m: int, d: int) -> None:
    random = np.random.RandomState(n)
    a = random.randn(n, d) @ random.randn(d, d)
    b = random.randn(m, d) @ random.randn(d, d) + 1
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).astype(complex)).real.sum()
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(cov_a) + np.trace(cov_b) - 2 * root
    assert metrics.frechet(fit_gaussian(a), fit_gaussian(b)) == pytest.approx(expected, rel=1e-5)


def test_frechet_of_numbers_on_a_line() -> None:
    a, b = np.array([[0.0], [2.0]]), np.array([[1.0], [7.0]])  # means 1 and 4, deviations 2^.5 and 18^.5
    expected = (4 - 1) ** 2 + (18**0.5 - 2**0.5) ** 2
    assert metrics.frechet(fit_gaussian(a), fit_gaussian(b)) == pytest.approx(expected)


def test_frechet_is_zero_for_equal_sets_and_symmetric() -> None:
    random = np.random.RandomState(0)
    a, b = (fit_gaussian(random.rand(40, 8).astype(np.float32)) for _ in range(2))
    assert metrics.frechet(a, a) == pytest.approx(0, abs=1e-10)
    assert metrics.frechet(a, b) == pytest.approx(metrics.frechet(b, a))


def test_statistics_block_by_block_are_those_of_the_whole() -> None:
    values = np.random.RandomState(0).randn(2 * statistics.ROWS + 17, 6) + 100
    found = fit_gaussian(values)
    np.testing.assert_allclose(found.root.T @ found.root, np.cov(values, rowvar=False), atol=1e-10)
    np.testing.assert_allclose(found.mean, values.mean(0))
    with pytest.raises(ValueError, match="at least 2 pictures"):
        fit_gaussian(np.zeros((1, 4)))


def test_memory_is_less_than_the_features() -> None:
    values = np.random.RandomState(0).rand(60_000, 96).astype(np.float32)  # 22 MiB
    fit_gaussian(values[:3000])
    tracemalloc.start()
    fit_gaussian(values)
    metrics.kid(values, values[:4000], subsets=2, size=500)
    metrics.diversity(values)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < values.nbytes


def test_mmd_is_the_mean_over_pairs() -> None:
    random = np.random.RandomState(0)
    a, b = random.randn(5, 3), random.randn(4, 3) + 1

    def mean(x: np.ndarray, y: np.ndarray) -> float:
        pairs = [(u, v) for i, u in enumerate(x) for j, v in enumerate(y) if x is not y or i != j]
        return float(np.mean([(np.dot(u, v) / 3 + 1) ** 3 for u, v in pairs]))

    assert metrics.mmd(a, b) == pytest.approx(mean(a, a) + mean(b, b) - 2 * mean(a, b))


def test_mmd_sums_sets_larger_than_a_block() -> None:
    a, b = np.random.RandomState(0).rand(2300, 2), np.random.RandomState(1).rand(1200, 2)
    assert metrics._kernel_sum(a, b) == pytest.approx(((a @ b.T / 2 + 1) ** 3).sum())


def test_mmd_is_unbiased_and_the_interval_of_kid_contains_the_truth() -> None:
    random = np.random.RandomState(0)
    found = [metrics.mmd(random.randn(8, 4), random.randn(8, 4)) for _ in range(400)]
    assert abs(np.mean(found)) < 4 * np.std(found) / 20
    many = random.randn(3000, 4), random.randn(3000, 4) + 0.5
    truth, held = metrics.mmd(*many), 0
    for _ in range(30):
        few = (values[random.choice(3000, 200, replace=False)] for values in many)
        value, low, high = metrics.kid(*few, subsets=40)
        assert low is not None and high is not None and low < value < high
        held += low < truth < high
    assert held >= 24


@pytest.mark.parametrize(
    ("n", "m", "shift"), [(60, 60, 0.0), (60, 60, 0.5), (40, 400, 0.5), (400, 40, 0.5), (4, 4, 0.0)]
)
def test_the_interval_of_kid_is_as_wide_as_the_values_spread(n: int, m: int, shift: float) -> None:
    """Also for equal distributions, whose estimator has another distribution, and for sets of unequal sizes."""
    random = np.random.RandomState(0)
    truth = metrics.mmd(random.randn(3000, 32), random.randn(3000, 32) + shift) if shift else 0.0
    found = [metrics.kid(random.randn(n, 32), random.randn(m, 32) + shift) for _ in range(120)]
    values, highs = np.array([(e.value, e.high) for e in found], float).T
    assert 0.85 < (highs - values).mean() / (1.96 * values.std()) < 1.3
    assert (np.abs(values - truth) < highs - values).mean() >= 0.9


def test_the_variance_of_many_pictures_follows_from_some(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.RandomState(0)
    sets = random.randn(1500, 8), random.randn(1000, 8) + 0.3
    whole = metrics.kid(*sets, subsets=20)
    monkeypatch.setattr(metrics, "VARIANCE_COUNT", 500)
    some = metrics.kid(*sets, subsets=20)
    assert some.value == whole.value and some.high is not None and whole.high is not None
    assert some.high - some.value == pytest.approx(whole.high - whole.value, rel=0.2)


@pytest.mark.parametrize(("count", "splits"), [(40, 2), (60, 3), (200, 10)])
def test_the_interval_of_the_inception_score_holds_what_it_promises(count: int, splits: int) -> None:
    random = np.random.RandomState(0)
    scores = [metrics.inception_score(random.dirichlet([0.3] * 5, count), splits=splits) for _ in range(300)]
    expected = np.mean([score.value for score in scores])
    assert np.mean([score.low <= expected <= score.high for score in scores]) > 0.9


def test_inception_score_counts_the_classes_that_occur() -> None:
    sure = np.eye(5)[np.arange(400) % 5]
    assert metrics.inception_score(sure, splits=1).value == pytest.approx(5)
    assert metrics.inception_score(np.full((20, 5), 0.2)).value == pytest.approx(1)
    assert metrics.inception_score(np.eye(5)[np.zeros(20, int)]).value == pytest.approx(1)


def by_hand(fake: np.ndarray, real: np.ndarray) -> tuple[float, ...]:
    """The three shares of `Manifolds` from whole matrices of distances."""

    def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.linalg.norm(x[:, None] - y[None], axis=2)

    fake_radius, real_radius = (np.sort(distances(x, x), axis=1)[:, 3] for x in (fake, real))  # column 0 is itself
    across, small = distances(fake, real), real_radius <= np.median(real_radius)
    in_real, in_fake = across <= real_radius, across <= fake_radius[:, None]
    return in_real[:, small].any(1).mean(), in_fake.any(0).mean(), in_real.any(0).mean()


@pytest.mark.parametrize(("n", "m", "rows"), [(60, 50, 1024), (60, 50, 16), (30, 45, 7)])
def test_neighbour_scores_are_those_of_whole_matrices(
    n: int, m: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "ROWS", rows)
    fake, real = two_sets(n, m, 5)
    found = metrics.manifolds(fake, real, neighbour_distances(fake), near := neighbour_distances(real))
    assert found[:3] == pytest.approx(expected := by_hand(fake, real))
    assert found.recall == pytest.approx(min(expected[1:]))
    across = np.linalg.norm(fake[:, None] - real[None], axis=2)
    np.testing.assert_array_equal(found.nearest, across.argmin(1))
    np.testing.assert_allclose(found.distance, across.min(1))
    apart = np.linalg.norm(real[:, None] - real[None], axis=2)
    np.testing.assert_allclose(near, np.sort(apart, axis=1)[:, 1:4], atol=1e-9)


def test_with_few_pictures_there_are_fewer_neighbours() -> None:
    near = neighbour_distances(np.array([[0.0], [1.0], [3.0]]))
    np.testing.assert_array_equal(near[:, 0], [1, 1, 2])
    assert np.isinf(near[:, 2:]).all()


def overlap(fake: np.ndarray, real: np.ndarray) -> metrics.Manifolds:
    return metrics.manifolds(fake, real, neighbour_distances(fake), neighbour_distances(real))


def test_recall_rewards_neither_the_centre_nor_scattered_pictures() -> None:
    """In many dimensions the centre lies in the balls of all reals, and the balls of scattered fakes contain all reals:
    each of the two published definitions alone would be deceived."""
    random = np.random.RandomState(0)
    real, other, shrunk = random.randn(500, 64), random.randn(500, 64), 0.3 * random.randn(500, 64)
    same, centre, wide = overlap(other, real), overlap(shrunk, real), overlap(3 * other, real)
    assert same.recall > 0.6 and centre.fakes_near > 0.9 and wide.fakes_cover > 0.9
    assert centre.recall == 0 and wide.recall == 0 and wide.precision == 0


def test_an_unusual_real_picture_makes_nothing_precise() -> None:
    """A real picture far from the others has a ball as large as that distance."""
    random = np.random.RandomState(0)
    real = np.concatenate([random.randn(100, 4), [[50.0, 0, 0, 0]]])
    noise = np.array([20.0, 0, 0, 0]) + random.randn(80, 4)
    assert overlap(noise, real).precision == 0
    assert 0.3 < overlap(random.randn(80, 4), real).precision < 0.9


def test_pictures_shown_twice_are_no_less_precise() -> None:
    random = np.random.RandomState(0)
    real, fake = random.randn(300, 8), random.randn(100, 8)
    once, often = overlap(fake, real), overlap(np.concatenate([fake] * 4), real)
    assert often.precision == once.precision and often.recall < 0.7 * once.recall


def test_new_pictures_are_as_far_from_real_ones_as_these_from_each_other() -> None:
    random = np.random.RandomState(0)
    real, new = random.randn(400, 8), random.randn(300, 8)
    near = neighbour_distances(real)

    def measured(fake: np.ndarray) -> float:
        return metrics.uniqueness(metrics.manifolds(fake, real, neighbour_distances(fake), near), near)

    assert 0.8 < measured(new) < 1.3
    assert measured(np.concatenate([new[:100], real[:200] + 0.01 * random.randn(200, 8)])) < 0.1
    assert measured(real.copy()) == pytest.approx(0, abs=1e-6)


def test_duplicates_in_the_data_give_no_scale() -> None:
    """The distance to the nearest real picture that differs counts; without one among the neighbours, the median."""
    real = np.array([[0.0], [0.0], [9.0], [10.0]])
    near = neighbour_distances(real)
    fake = np.array([[0.0], [2.0], [3.0], [4.0]])
    found = metrics.manifolds(fake, real, neighbour_distances(fake), near)
    assert metrics.uniqueness(found, near) == np.median([0.0, 2.0, 3.0, 4.0]) / 9
    assert metrics.uniqueness(found, near[:, :1]) == np.median([0.0, 2.0, 3.0, 4.0]) / 1


def test_rounding_errors_are_no_distance_of_duplicates() -> None:
    random = np.random.RandomState(0)
    real, new = random.randn(200, 64), random.randn(50, 64)

    def measured(reals: np.ndarray, fake: np.ndarray) -> float:
        near = neighbour_distances(reals)
        return metrics.uniqueness(metrics.manifolds(fake, reals, neighbour_distances(fake), near), near)

    once, copies = measured(real, new), 1e-6
    for twice in (np.repeat(real, 2, axis=0), np.concatenate([real, real[:150]])):
        assert measured(twice, new) == pytest.approx(once, rel=1e-6)
        assert measured(twice, real[:50]) < copies
    often = np.concatenate([np.repeat(real[:150], 5, axis=0), real[150:]])  # no neighbour of most ones differs
    assert measured(often, new) == pytest.approx(once, rel=0.1) and measured(often, real[:50]) < copies


def test_a_share_has_wilsons_interval() -> None:
    found = metrics.share(np.arange(100) < 10)
    assert found.value == 0.1 and found.low == pytest.approx(0.0552, abs=1e-3)
    assert found.high == pytest.approx(0.1744, abs=1e-3)


def test_a_share_of_none_or_of_all_has_an_exact_bound() -> None:
    for n in (3, 10, 63, 1000, 2048):
        none, every = (metrics.share(np.full(n, value)) for value in (False, True))
        assert none.low == 0 < (none.high or 0) and (every.low or 1) < 1 == every.high


def test_accuracy_leaves_out_what_is_unknown() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.5, 0.5]])
    found = metrics.accuracy(probabilities, np.array([0, 1, 1, -1]))
    assert found.value == pytest.approx(2 / 3)
    assert found.low is not None and found.high is not None and 0 < found.low < 2 / 3 < found.high < 1
    with pytest.raises(ValueError, match="no picture has a known label"):
        metrics.accuracy(probabilities, np.full(4, -1))


def test_diversity_is_the_mean_distance_of_pairs() -> None:
    values = np.random.RandomState(0).randn(50, 4)
    apart = np.linalg.norm(values[:, None] - values[None], axis=2)
    found = metrics.diversity(values, pairs=20_000)
    assert found.value == pytest.approx(apart.sum() / (50 * 49), rel=0.02)
    assert metrics.diversity(np.ones((5, 3))).value == 0
    pairs = metrics.random_pairs(3, 500)
    assert (pairs[:, 0] != pairs[:, 1]).all() and pairs.max() == 2


def test_nearest_pictures_by_pixels() -> None:
    random = np.random.RandomState(0)
    real = random.randint(0, 256, (30, 6, 5, 3)).astype(np.uint8)
    pictures = np.minimum(real[[4, 17]].astype(int) + 3, 255).astype(np.uint8)
    index, error = metrics.nearest_pictures(pictures, real)
    expected = ((pictures[:, None].astype(float) - real[None]) ** 2).mean((2, 3, 4))
    np.testing.assert_array_equal(index, [4, 17])
    np.testing.assert_allclose(error, expected.min(1))


def test_entropy_of_grey_levels() -> None:
    flat = np.full((8, 8, 3), 7, np.uint8)
    two = flat.copy()
    two[:4] = 200
    all_levels = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    np.testing.assert_allclose(metrics.grey_entropy(np.stack([flat, two])), [0, 1])
    assert metrics.grey_entropy(all_levels[None])[0] == pytest.approx(8)
    alike = metrics.entropy_similarity(np.array([0.0, 2.0, 6.0]), np.array([0.0, 4.0, 3.0]))
    np.testing.assert_allclose(alike, [1, 0.5, 0.5])
