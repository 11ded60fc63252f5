"""Metrics on arrays: features (N, F), class probabilities (N, C), pictures (N, H, W, 3). Computed in float64. "Higher"
or "lower" in a docstring means that higher or lower values are better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from kyara.evaluation.statistics import ROWS, Gaussian, blocks, distance_tiles, update_nearest
from kyara.nn.losses import gaussian_frechet

SEED = 2020  # Seed of random subsets, the same as in torch-fidelity
VARIANCE_COUNT = 3000  # Rows of each set from which the variance of KID is estimated, at most
DUPLICATE = 1e-5
"""Pictures are duplicates up to this share of the largest distance: rounding gives them distances above zero."""
STUDENT_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""97.5% quantiles of Student's t-distribution for 1, 2, ... degrees of freedom; the last one is used for more."""


class Estimate(NamedTuple):
    """A value with its 95% confidence interval, if one is known."""

    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def around(cls, value: float, margin: float) -> Estimate:
        return cls(value, value - margin, value + margin)

    def clipped(self, lowest: float | None, highest: float | None) -> Estimate:
        """A copy with the interval clipped to the range of the metric; None means no limit."""
        if self.low is None or self.high is None:
            return self
        low = self.low if lowest is None else max(self.low, lowest)
        return Estimate(self.value, low, self.high if highest is None else min(self.high, highest))


def frechet(a: Gaussian, b: Gaussian) -> float:
    """Fréchet distance (Heusel et al. 2017). Lower."""
    mean_a, root_a, mean_b, root_b = (torch.from_numpy(x) for x in (a.mean, a.root, b.mean, b.root))
    return gaussian_frechet(mean_a, root_a, mean_b, root_b)


def mmd(a: np.ndarray, b: np.ndarray) -> float:
    """Squared maximum mean discrepancy of features (N, F) and (M, F) with the kernel (x.y / F + 1)^3. Lower. The
    unbiased estimator (Binkowski et al. 2018, section 4.2), which may be slightly negative."""
    return _kernel_mean(a) + _kernel_mean(b) - 2 * _kernel_sum(a, b) / (len(a) * len(b))


def kid(a: np.ndarray, b: np.ndarray, *, subsets: int = 100, size: int = 1000) -> Estimate:
    """Kernel Inception Distance, of any features: the mean of `mmd` over random subsets of at most `size` rows, and at
    most half of a set (Binkowski et al. 2018, section 4.3). Lower. The variance for the interval is that of `mmd` of
    both sets, plus that of a mean over `subsets` random subsets."""
    n = min(len(a), len(b))
    if n < 4:
        raise ValueError(f"KID needs at least 4 pictures on each side, not {n}")
    m, random = min(size, n // 2), np.random.RandomState(SEED)
    values = [mmd(*(x[random.choice(len(x), m, replace=False)] for x in (a, b))) for _ in range(subsets)]
    some_a, some_b = (x[random.permutation(len(x))[:VARIANCE_COUNT]] for x in (a, b))
    variance = _mmd_variance(some_a, some_b, len(a), len(b)) + float(np.var(values)) / subsets
    return Estimate.around(float(np.mean(values)), 1.96 * variance**0.5)


def _mmd_variance(a: np.ndarray, b: np.ndarray, n: int, m: int) -> float:
    """The variance of `mmd` over independent sets of n and m rows, estimated from features (N, F) and (M, F). Each part
    of Hoeffding's decomposition of the U-statistic is estimated without bias (as in Sutherland et al. 2017): the
    variances of its projections on single rows, and those of the remainders, which alone are left for equal
    distributions."""
    row_a, rest_a = _within(a)
    row_b, rest_b = _within(b)
    across_a, across_b, rest = _across(a, b)
    # The means over a finite set vary by the remainders.
    first_a = np.var(row_a - across_a, ddof=1) - rest_a / (len(a) - 1) - rest / len(b)
    first_b = np.var(row_b - across_b, ddof=1) - rest_b / (len(b) - 1) - rest / len(a)
    first = max(4 * first_a / n + 4 * first_b / m, 0.0)
    return float(first + 2 * rest_a / (n * (n - 1)) + 2 * rest_b / (m * (m - 1)) + 4 * rest / (n * m))


def _within(a: np.ndarray) -> tuple[np.ndarray, float]:
    """The mean of the kernel of each row (N,) with the others, and the variance of what the means of two rows do not
    explain: of the U-centred matrix (Szekely and Rizzo 2014)."""
    n = len(a)
    rows, _, squares = _kernel_moments(a, a)
    diagonal = np.concatenate([(np.square(x).sum(axis=1) / a.shape[1] + 1) ** 3 for x in blocks(a)])
    rows = rows - diagonal
    rest = squares - np.square(diagonal).sum() - 2 * np.square(rows).sum() / (n - 2)
    rest += rows.sum() ** 2 / ((n - 1) * (n - 2))
    return rows / (n - 1), max(float(rest) / (n * (n - 3)), 0.0)


def _across(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """The mean of the kernel of each row of a (N,) and of b (M,) with those of the other set, and the variance of what
    they do not explain."""
    n, m = len(a), len(b)
    rows, columns, squares = _kernel_moments(a, b)
    rest = squares - np.square(rows).sum() / m - np.square(columns).sum() / n + rows.sum() ** 2 / (n * m)
    return rows / m, columns / n, max(float(rest) / ((n - 1) * (m - 1)), 0.0)


def _kernel_moments(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Sums of the kernel over each row (N,) and each column (M,), and the sum of its squares."""
    rows, columns, squares = [], np.zeros(len(b)), 0.0
    for x in blocks(a, ROWS // 8):
        values = np.concatenate([x @ y.T for y in blocks(b)], axis=1) / b.shape[1] + 1
        values *= np.square(values)
        rows.append(values.sum(axis=1))
        columns += values.sum(axis=0)
        squares += float(np.vdot(values, values))
    return np.concatenate(rows), columns, squares


def _kernel_sum(a: np.ndarray, b: np.ndarray) -> float:
    total = 0.0
    for x in blocks(a):
        for y in blocks(b):
            values = x @ y.T
            values /= b.shape[1]  # in place, to save time
            values += 1
            values **= 3
            total += values.sum()
    return float(total)


def _kernel_mean(a: np.ndarray) -> float:
    """Mean of the kernel over pairs of different rows."""
    diagonal = sum(((np.square(x).sum(axis=1) / a.shape[1] + 1) ** 3).sum() for x in blocks(a))
    return (_kernel_sum(a, a) - float(diagonal)) / (len(a) * (len(a) - 1))


def inception_score(probabilities: np.ndarray, *, splits: int = 10) -> Estimate:
    """exp of the mean KL divergence of class probabilities (N, C) from their mean, 1 to C (Salimans et al. 2016).
    Higher: each picture is clearly of one class, and all classes occur. The mean over random `splits`, which share no
    picture, with Student's interval: they are few."""
    order = np.random.RandomState(SEED).permutation(len(probabilities))
    splits, values = min(splits, len(order)), []
    for i in range(splits):
        p = probabilities[order[i * len(order) // splits : (i + 1) * len(order) // splits]].astype(np.float64)
        values.append(np.exp(_entropy(p.mean(axis=0)) - _entropy(p).mean()))
    return mean_of_draws(values)


def random_pairs(count: int, pairs: int) -> np.ndarray:
    """Pairs of different numbers below `count`, (pairs, 2); deterministic."""
    if count < 2:
        raise ValueError(f"diversity needs at least 2 pictures, not {count}")
    random = np.random.RandomState(SEED)
    first = random.randint(0, count, pairs)
    return np.stack([first, (first + random.randint(1, count, pairs)) % count], axis=1)


def diversity(features: np.ndarray, *, pairs: int = 10_000) -> Estimate:
    """Mean distance of the features (N, F) of random pairs. Higher."""
    chosen = random_pairs(len(features), pairs)
    distances = [
        np.linalg.norm(features[part[:, 0]].astype(np.float64) - features[part[:, 1]], axis=1)
        for part in np.array_split(chosen, -(-len(chosen) // ROWS))
    ]
    return mean(np.concatenate(distances), len(features))


def mean(values: np.ndarray, independent: int | None = None) -> Estimate:
    """The mean of values (P,) with its normal interval. `independent`: their number of pictures, if smaller."""
    n = min(len(values), independent or len(values))
    return Estimate.around(float(np.mean(values)), 1.96 * float(np.std(values)) / n**0.5)


def mean_of_draws(values: Sequence[float]) -> Estimate:
    """The mean of independent draws, with Student's interval (1908); without one for a single draw."""
    value, n = float(np.mean(values)), len(values)
    if n < 2:
        return Estimate(value)
    return Estimate.around(value, STUDENT_T[min(n - 2, len(STUDENT_T) - 1)] * float(np.std(values, ddof=1)) / n**0.5)


def share(hits: np.ndarray) -> Estimate:
    """The share of `hits` (N,) bool that are true, with Wilson's interval (1927)."""
    return wilson(float(hits.mean()), len(hits))


def wilson(p: float, n: int) -> Estimate:
    """A share `p` of `n` with Wilson's interval, which begins at 0 for 0, and ends at 1 for 1, without rounding."""
    z = 1.96
    centre, margin = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    low, high = (centre - margin) / (1 + z * z / n), (centre + margin) / (1 + z * z / n)
    return Estimate(p, low if p > 0 else 0.0, high if p < 1 else 1.0)


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> Estimate:
    """The `share` of the pictures whose most likely class, of probabilities (N, C), is the label (N,); -1 is unknown
    and does not count. Higher. ValueError if no label is known."""
    known = labels >= 0
    if not known.any():
        raise ValueError("no picture has a known label")
    return share(probabilities[known].argmax(axis=1) == labels[known])


class Manifolds(NamedTuple):
    """How the manifolds of generated and of real pictures overlap. A manifold is the union of the balls around the
    pictures of a set, each as large as the distance to its k-th nearest neighbour in the set, k = 3 (Kynkäänniemi et
    al. 2019). Of the real pictures, only the smaller half of the balls counts for precision, as for the realism score
    (section 5 there): a few unusual pictures have balls that contain noise and the mean picture."""

    precision: float  # Share of fakes in one of the smaller balls of reals, 0 to 1. Higher. Of real pictures about 0.5
    fakes_cover: float  # Share of reals in the ball of some fake: recall as published in 2019
    fakes_near: float  # Share of reals whose own ball contains some fake: coverage (Naeem et al. 2020)
    nearest: np.ndarray  # (N,) int64: index of the nearest real of each fake
    distance: np.ndarray  # (N,): distance to the nearest real

    @property
    def recall(self) -> float:
        """How many reals the fakes cover, 0 to 1. Higher. The smaller of two shares ("symmetric recall", Khayatkhoei
        and AbdAlmageed 2023): scattered fakes have balls that contain all, and fakes in the centre are in all balls."""
        return min(self.fakes_cover, self.fakes_near)


def manifolds(fake: np.ndarray, real: np.ndarray, fake_distances: np.ndarray, real_distances: np.ndarray) -> Manifolds:
    """Computes `Manifolds` of features (N, F) and (M, F), given the `neighbour_distances` of each."""
    fake_radius, real_radius = (np.square(distances[:, -1]) for distances in (fake_distances, real_distances))
    small_radius = np.where(real_radius <= np.median(real_radius), real_radius, -1.0)  # no distance is below -1
    precise, (covered, near) = np.zeros(len(fake), bool), np.zeros((2, len(real)), bool)
    nearest, distance = np.zeros(len(fake), np.int64), np.full(len(fake), np.inf)
    for rows, columns, squares in distance_tiles(fake, real):
        precise[rows] |= (squares <= small_radius[columns]).any(axis=1)
        covered[columns] |= (squares <= fake_radius[rows, None]).any(axis=0)
        near[columns] |= (squares <= real_radius[columns]).any(axis=0)
        update_nearest(nearest[rows], distance[rows], columns.start, squares)
    precision, *recalls = (float(share.mean()) for share in (precise, covered, near))
    return Manifolds(precision, recalls[0], recalls[1], nearest, np.sqrt(distance))


def uniqueness(found: Manifolds, real_distances: np.ndarray) -> float:
    """Novelty of the pictures (after Alaa et al. 2022): the median of a ratio, the distance of a picture to the nearest
    real one, divided by the distance of that real one to its nearest real neighbour that is no duplicate of it. A
    generator that does not copy reaches about 1. Without such a neighbour in `real_distances`, the median over the
    real pictures that have one is used."""
    known = real_distances[np.isfinite(real_distances)]
    duplicate = DUPLICATE * max(known.max(initial=0), found.distance.max())
    own = np.where(real_distances > duplicate, real_distances, np.inf).min(axis=1)
    scaled = own[np.isfinite(own)]
    typical = float(np.median(scaled)) if len(scaled) else 1.0
    own = own[found.nearest]
    return float(np.median(found.distance / np.where(np.isfinite(own), own, typical)))


def nearest_pictures(pictures: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of pictures (N, H, W, 3) uint8 the real one (of M) with the smallest mean squared error, (N,) int64, and
    that error, (N,), in squared grey levels of 255. Lower is nearer."""
    a, b = pictures.reshape(len(pictures), -1), real.reshape(len(real), -1)
    nearest, error = np.zeros(len(a), np.int64), np.full(len(a), np.inf)
    for rows, columns, squares in distance_tiles(a, b):
        update_nearest(nearest[rows], error[rows], columns.start, squares)
    return nearest, error / a.shape[1]


def grey_entropy(pictures: np.ndarray) -> np.ndarray:
    """Shannon entropy of the histogram of the 256 grey levels of pictures (N, H, W, 3) uint8, in bits, 0 to 8: (N,)."""
    levels = (np.rint(picture @ np.array([0.299, 0.587, 0.114])).astype(np.int64).ravel() for picture in pictures)
    shares = (np.bincount(grey, minlength=256) / grey.size for grey in levels)
    return np.array([_entropy(share) / np.log(2) for share in shares])


def entropy_similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The smaller of two entropies (N,) divided by the larger, 0 to 1. Sedov names "a similarity index based on the
    entropy" without a formula; this one is ours."""
    larger = np.maximum(a, b)
    return np.divide(np.minimum(a, b), larger, out=np.ones_like(larger), where=larger > 0)


def _entropy(p: np.ndarray) -> np.ndarray:
    """-sum p log p over the last axis; 0 log 0 is 0."""
    logs = np.log(p, out=np.zeros_like(p), where=p > 0)
    return -(p * logs).sum(axis=-1)
