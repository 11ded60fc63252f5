"""A committee of classifiers that predicts missing labels and selects pictures for active learning.

After Li and Han 2019, where different classifiers vote and fill in missing labels. Here they use frozen features, so
that training on a few answers takes a second. Everything in this file is a pure function of arrays.

The members make different errors: `logistic` on each kind of features, and `neighbours` on the first. Their weights and
the committee's calibration are learned from the answers by cross-validation: every answer is predicted by members that
were not trained on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import nll_loss, one_hot

Learner = Callable[[Tensor, Tensor, int, float], Callable[[Tensor], Tensor]]
"""(features (n, F), labels (n,), number of values V, strength) -> a function from features (m, F) to log probabilities
(m, V). A larger strength regularises more."""

FOLDS = 5
MIN_LOG_PROBABILITY = -12.0  # Lower ones are clamped, so that one member cannot veto a value
PRIOR_ANSWERS = 10.0  # Strength of the prior that all members have the same weight, as a number of answers
COMPONENTS = 128  # Principal components of the features that are used
L2 = (1e-4, 1e-3, 1e-2)  # Strengths of `logistic`: weight decay, as in loss + strength / 2 * |weights|^2
NEAREST = (3.0, 7.0, 15.0, 31.0)  # Strengths of `neighbours`: the number of neighbours


class Member(NamedTuple):
    """A learner, its features, and the candidate strengths for cross-validation."""

    features: Tensor  # (N, F) float32, one row for every picture
    learner: Learner
    strengths: Sequence[float]


def committee_of(kinds: Sequence[np.ndarray]) -> list[Member]:
    """The members, for several kinds of features (N, F)."""
    scaled = [_scaled(features) for features in kinds]
    return [Member(scaled[0], neighbours, NEAREST), *(Member(one, logistic, L2) for one in scaled)]


def _scaled(features: np.ndarray) -> Tensor:
    """At most COMPONENTS principal components of the features, centred, scaled to a mean square norm of 1, so that the
    same strengths suit all kinds of features and training is fast."""
    x = torch.as_tensor(features, dtype=torch.float32)
    if not torch.isfinite(x).all():
        raise ValueError("features must be finite numbers")
    x = x - x.mean(0)
    # In single precision, LAPACK returns NaN for some inputs with fewer pictures than features.
    directions = torch.linalg.eigh((x.T @ x).double()).eigenvectors.flip(1).float()  # (F, F), largest eigenvalue first
    x = x @ directions[:, :COMPONENTS]
    return x / x.square().sum(1).mean().sqrt().clamp(min=1e-12)


def logistic(features: Tensor, labels: Tensor, values: int, strength: float) -> Callable[[Tensor], Tensor]:
    """Multinomial logistic regression with an L2 penalty. A `Learner`."""
    n = len(labels)
    x = torch.cat([features, torch.ones(n, 1)], 1)  # (n, F + 1), for the biases
    target = one_hot(labels, values).float()  # (n, V)
    # The bias is regularised too; otherwise it would diverge to minus infinity for a value without answers.
    penalty = torch.tensor([strength] * features.shape[1] + [1e-3])

    def gradient(weight: Tensor) -> Tensor:
        return x.T @ ((x @ weight).softmax(1) - target) / n + penalty[:, None] * weight

    bound = x.T @ x / (2 * n) + torch.diag(penalty)  # the Hessian of a softmax is at most 1/2
    weight = _minimise(gradient, torch.zeros(x.shape[1], values), bound)
    return lambda new: (new @ weight[:-1] + weight[-1]).log_softmax(1)


def _minimise(gradient: Callable[[Tensor], Tensor], start: Tensor, bound: Tensor, rounds: int = 200) -> Tensor:
    """Minimises a convex function of a tensor (F, ...) whose Hessian is bounded by `bound` (F, F).

    Newton steps with that bound instead of the Hessian (Böhning and Lindsay 1988) need no line search and cannot
    diverge. Nesterov momentum is restarted when it points uphill (O'Donoghue and Candès 2015)."""
    inverse = torch.linalg.inv(bound.double()).to(start.dtype)
    x, lookahead, t = start, start, 1.0
    for _ in range(rounds):
        slope = gradient(lookahead)
        step = inverse @ slope
        new = lookahead - step
        if float((slope * (new - x)).sum()) > 0:
            t = 1.0
        next_t = (1 + (1 + 4 * t**2) ** 0.5) / 2
        lookahead = new + (t - 1) / next_t * (new - x)
        x, t = new, next_t
        if float(step.abs().max()) < 1e-5:
            break
    return x


def neighbours(features: Tensor, labels: Tensor, values: int, strength: float) -> Callable[[Tensor], Tensor]:
    """k nearest neighbours, weighted by a Gaussian whose width is the distance of the farthest neighbour; the prior of
    the values counts as one more vote. A `Learner`."""
    answers = one_hot(labels, values).float()  # (n, V)
    prior = (answers.sum(0) + 1) / (len(labels) + values)
    k = min(int(strength), len(labels))

    def predict(x: Tensor) -> Tensor:
        distance, nearest = torch.cdist(x, features).topk(k, largest=False)  # (m, k)
        weight = torch.exp(-(distance.square() / (distance[:, -1:].square() + 1e-12)))
        votes = (weight[:, :, None] * answers[nearest]).sum(1) + prior  # (m, V)
        return (votes / votes.sum(1, keepdim=True)).log()

    return predict


class Committee:
    """Predictions of several members for every picture, trained on the pictures `answered` (n,) and their `labels` (n,)
    int64, indices below `values`. Raises ValueError unless there are answers of two different values."""

    probabilities: np.ndarray  # (N, V): the committee's weighted and calibrated probabilities
    chosen: np.ndarray  # (N,): the most likely value
    confidence: np.ndarray  # (N,): the probability that it is correct
    doubt: np.ndarray
    """(N,): 1 minus the margin between the two most likely values, 0 to 1 (best versus second best, Joshi et al. 2009):
    high where the members disagree or are all uncertain."""

    def __init__(self, members: Sequence[Member], answered: np.ndarray, labels: np.ndarray, values: int) -> None:
        if len(np.unique(labels)) < 2:
            raise ValueError("a committee needs answers of at least two different values")
        index, y = torch.as_tensor(answered), torch.as_tensor(labels)
        fold = _folds(labels)
        held_out, predictions = [], []
        for member in members:
            x = member.features[index]
            tried = [_cross_validated(member.learner, x, y, values, s, fold) for s in member.strengths]
            best = int(np.argmin([float(nll_loss(logs, y)) for logs in tried]))
            held_out.append(tried[best])
            predictions.append(member.learner(x, y, values, member.strengths[best])(member.features))
        unseen, all_logs = torch.stack(held_out), torch.stack(predictions)  # (M, n, V), (M, N, V)
        weights = _pool_weights(unseen, y)
        pooled, pooled_unseen = _pool(all_logs, weights), _pool(unseen, weights)
        self.probabilities = pooled.exp().numpy()
        self.chosen = pooled.argmax(1).numpy()
        first, second = pooled.exp().topk(2).values.unbind(1)
        self.doubt = (1 - first + second).numpy()
        scale = _platt(_evidence(pooled_unseen, unseen), pooled_unseen.argmax(1) == y)
        self.confidence = torch.sigmoid(_evidence(pooled, all_logs) @ scale).numpy()

    def threshold(self, open_: np.ndarray, target: float) -> float:
        """The lowest confidence threshold at which the selected `open_` pictures (K,) have an expected precision (mean
        confidence) of at least `target`; inf if there is none."""
        order = np.sort(self.confidence[open_])[::-1]
        enough = np.flatnonzero(np.cumsum(order, dtype=np.float64) / np.arange(1, len(order) + 1) >= target)
        return float(order[enough[-1]]) if len(enough) else float("inf")


def _folds(labels: np.ndarray) -> np.ndarray:
    """The fold of each answer (n,), stratified by value."""
    order = np.random.RandomState(0).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(len(labels), dtype=np.int64)
    fold[order] = np.arange(len(labels)) % min(FOLDS, len(labels))
    return fold


def _cross_validated(learner: Learner, x: Tensor, y: Tensor, values: int, strength: float, fold: np.ndarray) -> Tensor:
    """Out-of-fold log probabilities (n, V) of each answer."""
    logs = torch.empty(len(y), values)
    for k in range(int(fold.max()) + 1):
        held = torch.as_tensor(fold == k)
        logs[held] = learner(x[~held], y[~held], values, strength)(x[held])
    return logs


def _pool(logs: Tensor, weights: Tensor) -> Tensor:
    """The logarithmic opinion pool (N, V) of (M, N, V): the weighted sum, normalised."""
    return torch.einsum("m,mnv->nv", weights, logs.clamp(min=MIN_LOG_PROBABILITY)).log_softmax(1)


def _pool_weights(logs: Tensor, y: Tensor) -> Tensor:
    """The members' weights (M,) that minimise the loss on held-out answers, with a prior of equal weights. Need not
    sum to 1, which calibrates the pool."""
    votes = logs.clamp(min=MIN_LOG_PROBABILITY).permute(1, 2, 0)  # (n, V, M)
    votes = votes - votes.mean(1, keepdim=True)
    correct = votes[torch.arange(len(y)), y]  # (n, M)
    equal = torch.full((len(logs),), 1 / len(logs))

    def gradient(weights: Tensor) -> Tensor:
        expected = torch.einsum("nv,nvm->nm", (votes @ weights).softmax(1), votes)
        return (expected - correct).sum(0) + 2 * PRIOR_ANSWERS * (weights - equal)

    bound = torch.einsum("nvm,nvk->mk", votes, votes) / 2 + 2 * PRIOR_ANSWERS * torch.eye(len(logs))
    return _minimise(gradient, equal, bound).clamp(min=0)


def _evidence(pooled: Tensor, logs: Tensor) -> Tensor:
    """Features (N, 3) of the most likely value: its log odds, the fraction of members that predict it, and 1."""
    best, choice = pooled.max(1)
    odds = best - torch.log1p(-best.exp().clamp(max=1 - 1e-6))
    agree = (logs.argmax(2) == choice).float().mean(0)
    return torch.stack([odds, agree, torch.ones_like(odds)], 1)


def _platt(evidence: Tensor, hits: Tensor) -> Tensor:
    """Coefficients (3,) of the probability of being correct: logistic regression on held-out answers, with Platt's
    (1999) targets, which avoid certainty, and with a prior at the pool's own odds."""
    n, right = len(hits), int(hits.sum())
    target = torch.where(hits, (right + 1) / (right + 2), 1 / (n - right + 2))
    prior = torch.tensor([1.0, 0.0, 0.0])

    def gradient(scale: Tensor) -> Tensor:
        return evidence.T @ (torch.sigmoid(evidence @ scale) - target) + 2 * (scale - prior)

    return _minimise(gradient, prior, evidence.T @ evidence / 4 + 2 * torch.eye(3))


def questions_worth_asking(
    features: Tensor, open_: np.ndarray, count: int, committee: Committee | None = None
) -> np.ndarray:
    """Selects `count` of the `open_` pictures (K,) to ask about: uncertain, representative and diverse, the most
    uncertain first.

    Weighted k-means of `features` (N, F), as in Zhdanov 2019: pictures are weighted by the committee's doubt, and the
    one nearest to each cluster centre is selected. Without a committee all have the same weight."""
    if len(open_) <= count:
        return open_
    doubt = np.ones(len(features)) if committee is None else committee.doubt
    x, weight = features[open_], torch.as_tensor(doubt[open_], dtype=torch.float32) + 1e-6
    distance = torch.cdist(_weighted_means(x, weight, count), x)  # (count, K)
    picked: list[int] = []
    for row in distance:
        row[picked] = torch.inf
        picked.append(int(row.argmin()))
    found = open_[picked]
    return found[np.argsort(-doubt[found], kind="stable")]


def _weighted_means(x: Tensor, weight: Tensor, count: int, rounds: int = 10) -> Tensor:
    """Lloyd's k-means: (count, F) centres of x (K, F), initialised with points of large weight that are far apart."""
    centres = [x[int(weight.argmax())]]
    nearest = torch.full((len(x),), torch.inf)
    for _ in range(count - 1):
        nearest = torch.minimum(nearest, (x - centres[-1]).square().sum(1))
        centres.append(x[int((nearest * weight).argmax())])
    means = torch.stack(centres)
    for _ in range(rounds):
        cluster = torch.cdist(x, means).argmin(1)
        total = torch.zeros(count).index_add_(0, cluster, weight)
        moved = torch.zeros_like(means).index_add_(0, cluster, weight[:, None] * x)
        means = torch.where(total[:, None] > 0, moved / total.clamp(min=1e-12)[:, None], means)
    return means
