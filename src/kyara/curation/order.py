"""What decides the order of a ranked Gallery: the score alone, the highest first."""

from __future__ import annotations

from collections.abc import Sequence


def best(scores: Sequence[float], *, keep: int | None = None, threshold: float | None = None) -> list[int]:
    """Indices of the pictures with a score of at least `threshold`, best first, at most `keep`. Equal scores stay in
    the given order; NaN, a picture that has no score, is left out."""
    lowest = 0.0 if threshold is None else threshold
    return sorted((i for i, score in enumerate(scores) if score >= lowest), key=lambda i: -scores[i])[:keep]
