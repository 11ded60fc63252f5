"""Statistics of features (N, F): a fitted normal distribution, and distances to the nearest neighbours, computed in
float64 block by block: the memory overhead is a few arrays of F x F or ROWS x ROWS numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

ROWS = 1024  # Rows of a block: its distances to another block take 8 MiB
NEIGHBOURS = 3  # Number of neighbours of each row: k of precision and recall, as published


@dataclass(frozen=True)
class Gaussian:
    """The normal distribution fitted to the features of a set, in float64."""

    mean: np.ndarray  # (F,)
    root: np.ndarray  # (min(N, F), F): a root of the covariance, which is root^T root


def fit_gaussian(features: np.ndarray) -> Gaussian:
    """The normal distribution of features (N, F). ValueError for fewer than 2 rows. The triangular factor R of a
    blockwise QR decomposition (Demmel et al. 2012) is a root of the covariance, without squaring the features. If
    N < F, the covariance is singular and its root has N rows; it is exact too."""
    if len(features) < 2:
        raise ValueError(f"a covariance needs at least 2 pictures, not {len(features)}")
    mean = features.mean(axis=0, dtype=np.float64)
    root: np.ndarray = np.empty((0, features.shape[1]))
    for block in blocks(features, max(ROWS, features.shape[1])):
        root = np.linalg.qr(np.concatenate([root, block - mean]), mode="r")  # type: ignore[assignment]
    return Gaussian(mean, root / (len(features) - 1) ** 0.5)


def neighbour_distances(features: np.ndarray, k: int = NEIGHBOURS) -> np.ndarray:
    """Distances of each row of features (N, F) to its k nearest others, (N, k), ascending; inf if there are fewer."""
    nearest = np.full((len(features), k), np.inf)
    for rows, columns, squares in distance_tiles(features, features):
        if rows == columns:
            np.fill_diagonal(squares, np.inf)
        candidates = np.concatenate([nearest[rows], squares], axis=1)
        nearest[rows] = np.sort(np.partition(candidates, k - 1, axis=1)[:, :k], axis=1)
    return np.sqrt(nearest)


def blocks(values: np.ndarray, rows: int | None = None) -> Iterator[np.ndarray]:
    """Yields blocks of `rows` rows in float64."""
    return (values[i : i + (rows or ROWS)].astype(np.float64) for i in range(0, len(values), rows or ROWS))


def distance_tiles(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Yields squared distances of all rows of a (N, F) to all rows of b (M, F), tile by tile: (rows of a, rows of b,
    tile). The mean of b is subtracted from both first, because a large common offset would cause cancellation."""
    mean = b.mean(axis=0, dtype=np.float64)
    for i in range(0, len(a), ROWS):
        x = a[i : i + ROWS].astype(np.float64) - mean
        x_square = np.square(x).sum(axis=1)[:, None]
        for j in range(0, len(b), ROWS):
            y = b[j : j + ROWS].astype(np.float64) - mean
            squares = x_square + np.square(y).sum(axis=1) - 2 * (x @ y.T)
            yield slice(i, i + len(x)), slice(j, j + len(y)), np.maximum(squares, 0, out=squares)


def update_nearest(nearest: np.ndarray, distance: np.ndarray, start: int, squares: np.ndarray) -> None:
    """Updates `nearest` and `distance` in place from a tile of squared distances whose first column is row `start`."""
    closest = squares.argmin(axis=1)
    value = squares[np.arange(len(closest)), closest]
    nearer = value < distance
    nearest[nearer], distance[nearer] = closest[nearer] + start, value[nearer]
