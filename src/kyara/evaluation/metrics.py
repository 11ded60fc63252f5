"""The scores, on plain arrays: features (N, F), class probabilities (N, C), pictures (N, H, W, 3).

Everything is computed in float64, a block at a time: besides its arguments a score needs memory for a few F x F or
ROWS x ROWS numbers and no copy of the features. "Higher" and "lower" say which way is better.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

ROWS = 1024
"""Rows of a block: its distances to another block are 8 MiB."""
SEED = 2020
"""What random subsets follow from; torch-fidelity's number, so that the same subsets are drawn."""
BALL, DENSE_BALL = 3, 5
"""Which neighbour's distance is the radius, for precision and recall, and for density and coverage: as published."""
COPY = 0.5
"""A picture this many times as far from a real one as that one is from its nearest neighbour counts as a copy."""


STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""97.5% quantiles of Student's distribution for 1, 2, ... degrees of freedom; the last serves for more."""


class Estimate(NamedTuple):
    """A number and, where it can be told, the interval that holds its true value 95 times in 100."""

    value: float
    low: float | None = None
    high: float | None = None


# --- distances between two distributions


@dataclass(frozen=True)
class Statistics:
    """The normal distribution fitted to the features of a set, in float64."""

    count: int
    """N, the number of pictures."""
    mean: np.ndarray
    """(F,)"""
    root: np.ndarray
    """(min(N, F), F): a root of the covariance, which is root^T root."""


def statistics(values: np.ndarray) -> Statistics:
    """Of features (N, F). ValueError for fewer than 2.

    The triangle of QR is a root that never squares the features, block after block the same one (Demmel et al.
    2012). Where N < F leaves the covariance singular it has N rows only: the Gram form, and exact too.
    """
    if len(values) < 2:
        raise ValueError(f"a covariance needs at least 2 pictures, not {len(values)}")
    mean = values.mean(axis=0, dtype=np.float64)
    root: np.ndarray = np.empty((0, values.shape[1]))
    for block in _blocks(values, max(ROWS, values.shape[1])):
        root = np.linalg.qr(np.concatenate([root, block - mean]), mode="r")  # type: ignore[assignment]
    return Statistics(len(values), mean, root / (len(values) - 1) ** 0.5)


def frechet(a: Statistics, b: Statistics) -> float:
    """|m_a - m_b|^2 + tr(A + B - 2 (A B)^(1/2)) (Dowson and Landau 1982; Heusel et al. 2017). Lower.

    The eigenvalues of A B are the squared singular values of root_a root_b^T, whose sum is so the trace of
    (A B)^(1/2): no matrix root, nothing imaginary.
    """
    overlap = np.linalg.svd(a.root @ b.root.T, compute_uv=False).sum()
    spread = np.square(a.root).sum() + np.square(b.root).sum()
    return float(np.square(a.mean - b.mean).sum() + spread - 2 * overlap)


def kernel(a: np.ndarray, b: np.ndarray) -> float:
    """Squared maximum mean discrepancy of features (N, F) and (M, F) under the kernel (x.y / F + 1)^3. Lower.

    Unbiased (Binkowski et al. 2018, section 4.2), so that it may be slightly negative.
    """
    return _kernel_within(a) + _kernel_within(b) - 2 * _kernel_sum(a, b) / (len(a) * len(b))


def kernel_distance(a: np.ndarray, b: np.ndarray, *, subsets: int = 100, size: int = 1000) -> Estimate:
    """The mean of `kernel` over random subsets of at most `size` rows, and at most half of a set (Binkowski et al.
    2018, section 4.3). Lower.

    The spread over subsets of m of n rows tells that over sets of n: by the variance of a mean without
    replacement, they differ by the factor m / (n - m).
    """
    n = min(len(a), len(b))
    if n < 4:
        raise ValueError(f"a kernel distance needs at least 4 pictures on each side, not {n}")
    m, random = min(size, n // 2), np.random.RandomState(SEED)
    found = []
    for _ in range(subsets):
        left = a[random.choice(len(a), m, replace=False)]
        found.append(kernel(left, b[random.choice(len(b), m, replace=False)]))
    value, margin = float(np.mean(found)), float(1.96 * np.std(found) * (m / (n - m)) ** 0.5)
    return Estimate(value, value - margin, value + margin)


def _kernel_sum(a: np.ndarray, b: np.ndarray) -> float:
    """The kernel, summed over all pairs."""
    pairs = ((x, y) for x in _blocks(a) for y in _blocks(b))
    return float(sum(((x @ y.T / b.shape[1] + 1) ** 3).sum() for x, y in pairs))


def _kernel_within(a: np.ndarray) -> float:
    """Mean of the kernel over the pairs of different rows."""
    itself = sum(((np.square(x).sum(axis=1) / a.shape[1] + 1) ** 3).sum() for x in _blocks(a))
    return (_kernel_sum(a, a) - float(itself)) / (len(a) * (len(a) - 1))


# --- scores of one set


def inception_score(probabilities: np.ndarray, *, splits: int = 10) -> Estimate:
    """exp of the mean divergence of class probabilities (N, C) from their mean, from 1 to C (Salimans et al. 2016).
    Higher: every picture is clearly of one class, and all classes occur. The mean over random `splits`."""
    order = np.random.RandomState(SEED).permutation(len(probabilities))
    splits, found = min(splits, len(order)), []
    for i in range(splits):
        p = probabilities[order[i * len(order) // splits : (i + 1) * len(order) // splits]].astype(np.float64)
        found.append(np.exp(_entropy(p.mean(axis=0)) - _entropy(p).mean()))
    return mean(np.array(found)) if splits > 1 else Estimate(float(found[0]))


def random_pairs(count: int, pairs: int) -> np.ndarray:
    """Up to `pairs` pairs of different numbers below `count`, (P, 2), the same at every call."""
    if count < 2:
        raise ValueError(f"diversity needs at least 2 pictures, not {count}")
    random = np.random.RandomState(SEED)
    first = random.randint(0, count, pairs)
    return np.stack([first, (first + random.randint(1, count, pairs)) % count], axis=1)


def diversity(values: np.ndarray, *, pairs: int = 10_000) -> Estimate:
    """Mean distance of the features (N, F) of random pairs of the set, as LPIPS diversity is taken. Higher."""
    both = random_pairs(len(values), pairs)
    found = [np.linalg.norm(values[i].astype(np.float64) - values[j], axis=1) for i, j in _columns(both)]
    return mean(np.concatenate(found), len(values))


def mean(found: np.ndarray, independent: int | None = None) -> Estimate:
    """The mean of numbers (P,) with its interval; `independent` says of how many pictures they speak, if of fewer."""
    n = min(len(found), independent or len(found))
    margin = 1.96 * float(np.std(found)) / n**0.5
    return Estimate(float(np.mean(found)), float(np.mean(found)) - margin, float(np.mean(found)) + margin)


def over_draws(values: Sequence[float]) -> Estimate:
    """The mean of independent draws, with Student's interval (1908)."""
    value, n = float(np.mean(values)), len(values)
    if n < 2:
        return Estimate(value)
    margin = STUDENT[min(n - 2, len(STUDENT) - 1)] * float(np.std(values, ddof=1)) / n**0.5
    return Estimate(value, value - margin, value + margin)


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> Estimate:
    """Share of the pictures whose likeliest class, of probabilities (N, C), is the label (N,); unknown ones, -1, do
    not count. Higher. With Wilson's interval (1927), which stays inside 0 and 1. ValueError if nothing is known."""
    known = labels >= 0
    n = int(known.sum())
    if n == 0:
        raise ValueError("no picture has a known label")
    p, z = float((probabilities[known].argmax(axis=1) == labels[known]).mean()), 1.96
    centre, margin = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    return Estimate(p, (centre - margin) / (1 + z * z / n), (centre + margin) / (1 + z * z / n))


# --- scores by neighbours


def neighbours(values: np.ndarray, k: int = DENSE_BALL) -> np.ndarray:
    """Distances of each of the features (N, F) to its k nearest others, (N, k), nearest first; infinite where there
    are fewer others."""
    near = np.full((len(values), k), np.inf)
    for rows, columns, squares in _tiles(values, values):
        if rows == columns:
            np.fill_diagonal(squares, np.inf)
        together = np.concatenate([near[rows], squares], axis=1)
        near[rows] = np.sort(np.partition(together, k - 1, axis=1)[:, :k], axis=1)
    return np.sqrt(near)


@dataclass(frozen=True)
class Manifold:
    """How a set lies among the reals. All higher is better."""

    precision: float
    """Share of the fakes inside the ball of some real, to its 3rd neighbour (Kynkäänniemi et al. 2019)."""
    recall: float
    """Share of the reals inside the ball of some fake."""
    density: float
    """Balls of reals, to the 5th neighbour, that a fake lies in, over 5 (Naeem et al. 2020). May exceed 1."""
    coverage: float
    """Share of the reals whose ball, to the 5th neighbour, holds a fake."""
    nearest: np.ndarray
    """(N,) int64: the real that is nearest to each fake."""
    distance: np.ndarray
    """(N,): how far it is."""


def manifold(fake: np.ndarray, real: np.ndarray, near_fake: np.ndarray, near_real: np.ndarray) -> Manifold:
    """Of features (N, F) and (M, F), and what `neighbours` says of each."""
    ball_fake, ball_real = np.square(near_fake[:, BALL - 1]), np.square(near_real[:, BALL - 1])
    dense = np.square(near_real[:, DENSE_BALL - 1])
    inside, reached = np.zeros(len(fake), bool), np.zeros(len(real), bool)
    covered, balls = np.zeros(len(real), bool), 0
    nearest, distance = np.zeros(len(fake), np.int64), np.full(len(fake), np.inf)
    for rows, columns, squares in _tiles(fake, real):
        inside[rows] |= (squares <= ball_real[columns]).any(axis=1)
        reached[columns] |= (squares <= ball_fake[rows, None]).any(axis=0)
        within = squares < dense[columns]
        balls += int(within.sum())
        covered[columns] |= within.any(axis=0)
        _keep_nearest(nearest[rows], distance[rows], columns.start, squares)
    density = balls / (DENSE_BALL * len(fake))
    shares = float(inside.mean()), float(reached.mean()), density, float(covered.mean())
    return Manifold(*shares, nearest, np.sqrt(distance))


def uniqueness(found: Manifold, near_real: np.ndarray) -> tuple[float, float]:
    """How new the pictures are: the median, and the share of copies.

    A picture's distance to its nearest real one is divided by that one's distance to its own nearest other real one
    (after Alaa et al. 2022). A generator that has learnt and not copied comes to about 1; below COPY it is a copy.
    """
    own = near_real[found.nearest, 0]
    typical = float(np.median(near_real[:, 0])) or 1.0
    ratio = found.distance / np.where(own > 0, own, typical)  # twins in the data are no measure of distance
    return float(np.median(ratio)), float((ratio < COPY).mean())


# --- scores by pixels


def nearest_pictures(pictures: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each of the pictures (N, H, W, 3) uint8 the real one (of M) with the least mean squared error, (N,) int64,
    and that error, (N,), in squared grey levels of 255. Lower is nearer."""
    a, b = pictures.reshape(len(pictures), -1), real.reshape(len(real), -1)
    nearest, error = np.zeros(len(a), np.int64), np.full(len(a), np.inf)
    for rows, columns, squares in _tiles(a, b):
        _keep_nearest(nearest[rows], error[rows], columns.start, squares)
    return nearest, error / a.shape[1]


def grey_entropy(pictures: np.ndarray) -> np.ndarray:
    """Shannon entropy of the histogram of the 256 grey levels of pictures (N, H, W, 3) uint8, in bits, 0 to 8: (N,)."""
    found = []
    for picture in pictures:
        grey = np.rint(picture @ np.array([0.299, 0.587, 0.114])).astype(np.int64)
        share = np.bincount(grey.ravel(), minlength=256) / grey.size
        found.append(_entropy(share) / np.log(2))
    return np.array(found)


def entropy_similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How alike the entropies (N,) of pictures and of their counterparts are: the smaller over the larger, 0 to 1.
    Sedov asks for "a similarity index based on the entropy" and leaves the formula open; this is ours."""
    larger = np.maximum(a, b)
    return np.divide(np.minimum(a, b), larger, out=np.ones_like(larger), where=larger > 0)


# --- parts


def _entropy(p: np.ndarray) -> np.ndarray:
    """-sum p log p over the last axis; 0 log 0 is 0."""
    logs = np.log(p, out=np.zeros_like(p), where=p > 0)
    return -(p * logs).sum(axis=-1)


def _blocks(values: np.ndarray, rows: int = ROWS) -> Iterator[np.ndarray]:
    """The rows in float64, some at a time."""
    return (values[i : i + rows].astype(np.float64) for i in range(0, len(values), rows))


def _columns(pairs: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    return ((part[:, 0], part[:, 1]) for part in np.array_split(pairs, -(-len(pairs) // ROWS)))


def _keep_nearest(nearest: np.ndarray, distance: np.ndarray, start: int, squares: np.ndarray) -> None:
    """Puts what is nearer in a tile of distances, whose columns count from `start`, into these views of a result."""
    closest = squares.argmin(axis=1)
    value = squares[np.arange(len(closest)), closest]
    nearer = value < distance
    nearest[nearer], distance[nearer] = closest[nearer] + start, value[nearer]


def _tiles(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Squared distances of all rows of a (N, F) to all of b (M, F), a tile at a time: which rows, which columns, and
    the tile. Both are seen from the mean of b, or large common parts would cancel to noise."""
    centre = b.mean(axis=0, dtype=np.float64)
    for i in range(0, len(a), ROWS):
        x = a[i : i + ROWS].astype(np.float64) - centre
        x_square = np.square(x).sum(axis=1)[:, None]
        for j in range(0, len(b), ROWS):
            y = b[j : j + ROWS].astype(np.float64) - centre
            squares = x_square + np.square(y).sum(axis=1) - 2 * (x @ y.T)
            yield slice(i, i + len(x)), slice(j, j + len(y)), np.maximum(squares, 0, out=squares)
