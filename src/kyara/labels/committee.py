"""A committee of different learners that completes labels, and knows which pictures are worth asking about.

After Li and Han 2019, where three distinct classifiers vote and fill in what is missing. Here they look at frozen
features of the pictures, so that a few answers train them in a second. Nothing in this file knows of pictures: a
committee sees arrays, and everything is a pure function of them.

Three learners that err differently: `logistic` on one kind of features, `neighbours` on the same, `logistic` on
another kind. How much each one's word counts, and how likely the committee is right when it is so sure, is learnt
from the answers by cross-validation: every answer is judged by learners that did not see it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Learner = Callable[[Tensor, Tensor, int, float], Callable[[Tensor], Tensor]]
"""(features (n, F), labels (n,), number of values V, strength) -> a function of features (m, F) that gives the
logarithms of probabilities (m, V). A larger strength is a smoother learner."""

FOLDS = 5
UNLIKELY = -12.0
"""Logarithms of probabilities count no lower: one member's "never" must not silence the others."""
HOLD = 10.0
"""How firmly the members' weights are held near equal shares: about as much as so many answers would."""
COMPONENTS = 128
"""Dimensions in which the learners look at features."""


@dataclass(frozen=True)
class Member:
    """A learner, the features it looks at, and the strengths that cross-validation chooses from."""

    features: Tensor
    """(N, F) float32, of every picture."""
    learner: Learner
    strengths: Sequence[float]


def committee_of(embedding: np.ndarray, colours: np.ndarray) -> list[Member]:
    """The three members, from two kinds of features of every picture, (N, F) and (N, G)."""
    first, second = _scaled(embedding), _scaled(colours)
    return [
        Member(first, logistic, L2),
        Member(first, neighbours, NEAREST),
        Member(second, logistic, L2),
    ]


def _scaled(features: np.ndarray) -> Tensor:
    """The features' principal components, at most COMPONENTS, around zero and of length one in the mean: then the same
    strengths suit all kinds, and answers are learnt in a second."""
    x = torch.as_tensor(features, dtype=torch.float32)
    if not torch.isfinite(x).all():
        raise ValueError("features must be finite numbers")
    x = x - x.mean(0)
    # In single precision LAPACK gives NaN for some sets of fewer pictures than features.
    directions = torch.linalg.eigh((x.T @ x).double()).eigenvectors.flip(1).float()  # (F, F), the strongest first
    x = x @ directions[:, :COMPONENTS]
    return x / x.square().sum(1).mean().sqrt().clamp(min=1e-12)


# --- the learners

L2 = (1e-4, 1e-3, 1e-2)
"""Strengths of `logistic`: half of it times the squared weights is added to the mean loss."""
NEAREST = (3.0, 7.0, 15.0, 31.0)
"""Strengths of `neighbours`: how many vote."""


def logistic(features: Tensor, labels: Tensor, values: int, strength: float) -> Callable[[Tensor], Tensor]:
    """Multinomial logistic regression with L2 penalty; a `Learner`."""
    n = len(labels)
    x = torch.cat([features, torch.ones(n, 1)], 1)  # (n, F + 1), for the biases
    one_hot = torch.nn.functional.one_hot(labels, values).float()  # (n, V)
    # The bias is held a little too: a value that no answer has would drive its own to minus infinity.
    penalty = torch.tensor([strength] * features.shape[1] + [1e-3])

    def gradient(weight: Tensor) -> Tensor:
        return x.T @ ((x @ weight).softmax(1) - one_hot) / n + penalty[:, None] * weight

    bound = x.T @ x / (2 * n) + torch.diag(penalty)  # a softmax bends at most by a half
    weight = _minimise(gradient, torch.zeros(x.shape[1], values), bound)
    return lambda new: (new @ weight[:-1] + weight[-1]).log_softmax(1)


def _minimise(gradient: Callable[[Tensor], Tensor], start: Tensor, bound: Tensor, rounds: int = 200) -> Tensor:
    """The minimum of a convex function of `start`'s shape (F, ...) whose Hessian nowhere exceeds `bound` (F, F).

    Newton's steps with that bound in the Hessian's place (Böhning and Lindsay 1988), which need no line search and
    cannot diverge, with Nesterov's momentum, dropped when it points uphill (O'Donoghue and Candès 2015).
    """
    inverse = torch.linalg.inv(bound.double()).to(start.dtype)
    here, ahead, pace = start, start, 1.0
    for _ in range(rounds):
        slope = gradient(ahead)
        step = inverse @ slope
        new = ahead - step
        if float((slope * (new - here)).sum()) > 0:
            pace = 1.0
        faster = (1 + (1 + 4 * pace**2) ** 0.5) / 2
        ahead = new + (pace - 1) / faster * (new - here)
        here, pace = new, faster
        if float(step.abs().max()) < 1e-5:
            break
    return here


def neighbours(features: Tensor, labels: Tensor, values: int, strength: float) -> Callable[[Tensor], Tensor]:
    """The nearest answers vote, nearer ones with more weight (a Gaussian as wide as the farthest of them is away),
    and the frequencies of the values with the weight of one; a `Learner`."""
    one_hot = torch.nn.functional.one_hot(labels, values).float()  # (n, V)
    prior = (one_hot.sum(0) + 1) / (len(labels) + values)
    k = min(int(strength), len(labels))

    def predict(x: Tensor) -> Tensor:
        distance, nearest = torch.cdist(x, features).topk(k, largest=False)  # (m, k)
        weight = torch.exp(-(distance.square() / (distance[:, -1:].square() + 1e-12)))
        votes = (weight[:, :, None] * one_hot[nearest]).sum(1) + prior  # (m, V)
        return (votes / votes.sum(1, keepdim=True)).log()

    return predict


# --- the committee


class Committee:
    """The opinion of several members on every picture, after `answered` (n,) and their `labels` (n,) int64, indices
    below `values`.

    Needs two answers of two different values: ValueError otherwise.
    """

    votes: np.ndarray
    """(M, N): the value that each member gives each picture."""
    probabilities: np.ndarray
    """(N, V): the committee's, weighted and made as sure as cross-validation says it may be."""
    chosen: np.ndarray
    """(N,): the most likely value."""
    confidence: np.ndarray
    """(N,): how likely it is right."""
    doubt: np.ndarray
    """(N,): how near the second most likely value comes to the first, 0 to 1 (best against second best, Joshi et al.
    2009): high where the members disagree, or none of them knows."""
    hits: np.ndarray
    """(n,) bool: whether the committee, without having seen it, would have given each answer."""
    held_out: np.ndarray
    """(n,): its confidence then."""

    def __init__(self, members: Sequence[Member], answered: np.ndarray, labels: np.ndarray, values: int) -> None:
        if len(np.unique(labels)) < 2:
            raise ValueError("a committee needs answers of at least two different values")
        index, y = torch.as_tensor(answered), torch.as_tensor(labels)
        fold = _folds(labels)
        seen, opinions = [], []
        for member in members:
            x = member.features[index]
            tried = [_cross_validated(member.learner, x, y, values, s, fold) for s in member.strengths]
            best = int(np.argmin([float(_nll(logs, y)) for logs in tried]))
            seen.append(tried[best])
            opinions.append(member.learner(x, y, values, member.strengths[best])(member.features))
        unseen, all_logs = torch.stack(seen), torch.stack(opinions)  # (M, n, V), (M, N, V)
        weights = _pool_weights(unseen, y)
        pooled, pooled_unseen = _pool(all_logs, weights), _pool(unseen, weights)
        self.votes = all_logs.argmax(2).numpy()
        self.probabilities = pooled.exp().numpy()
        self.chosen = pooled.argmax(1).numpy()
        first, second = pooled.exp().topk(2).values.unbind(1)
        self.doubt = (1 - first + second).numpy()
        self.hits = (pooled_unseen.argmax(1) == y).numpy()
        evidence = _evidence(pooled_unseen, unseen)
        scale = _platt(evidence, torch.as_tensor(self.hits))
        self.confidence = torch.sigmoid(_evidence(pooled, all_logs) @ scale).numpy()
        self.held_out = torch.sigmoid(evidence @ scale).numpy()

    def threshold(self, open_: np.ndarray, target: float) -> float:
        """The lowest confidence above which the `open_` pictures (K,) can be filled with `target` precision, by the
        mean confidence of those filled; inf if none can."""
        order = np.sort(self.confidence[open_])[::-1]
        enough = np.flatnonzero(np.cumsum(order) / np.arange(1, len(order) + 1) >= target)
        return float(order[enough[-1]]) if len(enough) else float("inf")


def _folds(labels: np.ndarray) -> np.ndarray:
    """Which fold judges each answer (n,): every value is spread evenly over all."""
    order = np.random.RandomState(0).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(len(labels), dtype=np.int64)
    fold[order] = np.arange(len(labels)) % min(FOLDS, len(labels))
    return fold


def _cross_validated(learner: Learner, x: Tensor, y: Tensor, values: int, strength: float, fold: np.ndarray) -> Tensor:
    """The learner's (n, V) log probabilities of each answer, learnt from the other folds."""
    logs = torch.empty(len(y), values)
    for k in range(int(fold.max()) + 1):
        held = torch.as_tensor(fold == k)
        logs[held] = learner(x[~held], y[~held], values, strength)(x[held])
    return logs


def _nll(logs: Tensor, y: Tensor) -> Tensor:
    return torch.nn.functional.nll_loss(logs, y)


def _pool(logs: Tensor, weights: Tensor) -> Tensor:
    """The logarithmic opinion pool (N, V) of (M, N, V): the weighted sum, normalised."""
    return torch.einsum("m,mnv->nv", weights, logs.clamp(min=UNLIKELY)).log_softmax(1)


def _pool_weights(logs: Tensor, y: Tensor) -> Tensor:
    """How much each member's word counts (M,): least loss on answers they did not see, held near equal shares as
    long as there are few. Their sum need not be 1: that makes the pool as sure as it may be."""
    words = logs.clamp(min=UNLIKELY).permute(1, 2, 0)  # (n, V, M)
    words = words - words.mean(1, keepdim=True)
    said = words[torch.arange(len(y)), y]  # (n, M)
    equal = torch.full((len(logs),), 1 / len(logs))

    def gradient(weights: Tensor) -> Tensor:
        expected = torch.einsum("nv,nvm->nm", (words @ weights).softmax(1), words)
        return (expected - said).sum(0) + 2 * HOLD * (weights - equal)

    bound = torch.einsum("nvm,nvk->mk", words, words) / 2 + 2 * HOLD * torch.eye(len(logs))
    return _minimise(gradient, equal, bound).clamp(min=0)


def _evidence(pooled: Tensor, logs: Tensor) -> Tensor:
    """What speaks for the most likely value (N, 3): its log odds, the share of members that say so too, and 1."""
    best, choice = pooled.max(1)
    odds = best - torch.log1p(-best.exp().clamp(max=1 - 1e-6))
    agree = (logs.argmax(2) == choice).float().mean(0)
    return torch.stack([odds, agree, torch.ones_like(odds)], 1)


def _platt(evidence: Tensor, hits: Tensor) -> Tensor:
    """Coefficients (3,) of the probability of being right: logistic regression on held-out answers, with Platt's
    (1999) targets, which never promise certainty from finitely many, held near the pool's own odds by a prior."""
    n, right = len(hits), int(hits.sum())
    target = torch.where(hits, (right + 1) / (right + 2), 1 / (n - right + 2))
    prior = torch.tensor([1.0, 0.0, 0.0])

    def gradient(scale: Tensor) -> Tensor:
        return evidence.T @ (torch.sigmoid(evidence @ scale) - target) + 2 * (scale - prior)

    return _minimise(gradient, prior, evidence.T @ evidence / 4 + 2 * torch.eye(3))


# --- questions


def questions_worth_asking(
    features: Tensor, open_: np.ndarray, count: int, committee: Committee | None = None
) -> np.ndarray:
    """Which `count` of the `open_` pictures (K,) to ask about: disputed ones that stand for many, and no two alike.

    Weighted k-means of `features` (N, F), as in Zhdanov 2019: pictures weigh as much as they are disputed, and of
    each cluster the most central one is asked about. Without a committee all weigh the same: a first batch shows what
    is typical of the set. Most disputed first.
    """
    if len(open_) <= count:
        return open_
    worth = np.ones(len(features)) if committee is None else committee.doubt
    x, weight = features[open_], torch.as_tensor(worth[open_], dtype=torch.float32) + 1e-6
    distance = torch.cdist(_weighted_means(x, weight, count), x)  # (count, K)
    picked: list[int] = []
    for row in distance:
        row[picked] = torch.inf
        picked.append(int(row.argmin()))
    found = open_[picked]
    return found[np.argsort(-worth[found], kind="stable")]


def _weighted_means(x: Tensor, weight: Tensor, count: int, rounds: int = 10) -> Tensor:
    """Lloyd's k-means: (count, F) centres of x (K, F), started from heavy points far apart."""
    centres = [x[int(weight.argmax())]]
    nearest = torch.full((len(x),), torch.inf)
    for _ in range(count - 1):
        nearest = torch.minimum(nearest, (x - centres[-1]).square().sum(1))
        centres.append(x[int((nearest * weight).argmax())])
    means = torch.stack(centres)
    for _ in range(rounds):
        belongs = torch.cdist(x, means).argmin(1)
        total = torch.zeros(count).index_add_(0, belongs, weight)
        moved = torch.zeros_like(means).index_add_(0, belongs, weight[:, None] * x)
        means = torch.where(total[:, None] > 0, moved / total.clamp(min=1e-12)[:, None], means)
    return means
