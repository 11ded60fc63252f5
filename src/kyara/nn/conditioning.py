"""Conditioning on labels. The labels of a batch are a table (B, A), a column for each attribute of the Config. -1 is
unknown: it has its own embedding, and is ignored in every loss."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kyara.files.names import did_you_mean

UNKNOWN = -1

Attributes = Mapping[str, Sequence[str]]  # attribute -> its values in the order of their labels, as in `base.Config`
SYNONYMS = {"grey": "gray", "silver": "gray"}  # other names of values
LabelCounts = Sequence[Sequence[int]]  # labels (-1: unknown) and how often they occur, see label_table


def check(attributes: Attributes, label_counts: LabelCounts, reserved: Sequence[str] = ()) -> None:
    """ValueError if a Config has impossible attributes: its file may come from someone else."""
    if not isinstance(attributes, Mapping):
        raise ValueError(f"attributes: must be a table of names and values, not {attributes!r}")
    for name, values in attributes.items():
        if name in reserved:
            raise ValueError(f"attribute {name!r}: every gallery has a column of that name; call it something else")
        if isinstance(values, str) or not values or not all(isinstance(value, str) and value for value in values):
            raise ValueError(f"attribute {name!r}: its values must be texts, one or more")
        if len(set(values)) < len(values):
            raise ValueError(f"attribute {name!r}: names a value twice")
    limits = [len(values) for values in attributes.values()]
    for *labels, count in label_counts:
        fits = len(labels) == len(limits) and all(UNKNOWN <= label < n for label, n in zip(labels, limits, strict=True))
        if not fits or count < 1:
            row, names = [*labels, count], ", ".join(attributes)
            raise ValueError(f"label_counts: {row} is not a label for each of {names} and a count")


def width(attributes: Attributes) -> int:
    """Number of values of all attributes together: V."""
    return sum(len(values) for values in attributes.values())


def rows(attributes: Attributes, *, unknown: bool) -> list[tuple[str, str | None]]:
    """What the rows of a table of labels stand for, as (attribute, value): one row for each value of each attribute,
    and, with `unknown`, one with the value None before those of each attribute."""
    return [(name, value) for name, values in attributes.items() for value in (*[None] * unknown, *values)]


def table(labels: Mapping[str, Tensor] | None, attributes: Attributes, like: Tensor) -> Tensor:
    """Labels (B,) by attribute as one table (B, A) int64 on the device of `like` (B, ...); missing ones are unknown."""
    unknown = torch.full(like.shape[:1], UNKNOWN, device=like.device)
    columns = [(labels or {}).get(name, unknown).to(like.device) for name in attributes]
    return torch.stack(columns, 1) if columns else unknown[:, None][:, :0]


def one_hot(labels: Tensor, attributes: Attributes) -> Tensor:
    """Labels (B, A) -> (B, V) float, all zeros for an unknown attribute."""
    columns = zip(labels.unbind(1), attributes.values(), strict=True)
    return torch.cat([label[:, None] == torch.arange(len(v), device=labels.device) for label, v in columns], 1).float()


def shuffled(labels: Tensor, mixed: float = 0.0) -> Tensor:
    """Permutes the labels (B, A) of a batch, as the condition of fakes: with the data's joint distribution, also of
    unknown labels; with probability `mixed`, each attribute separately. Draws nothing without attributes."""
    if not labels.shape[1]:
        return labels
    together = labels[torch.randperm(len(labels), device=labels.device)]
    if not mixed:
        return together
    apart = torch.stack([column[torch.randperm(len(column), device=labels.device)] for column in labels.unbind(1)], 1)
    return torch.where(torch.rand(len(labels), 1, device=labels.device) < mixed, apart, together)


def dropped(labels: Tensor, probability: float) -> Tensor:
    """Labels (B, A) of which a share `probability` of the rows hides each label with a probability that is itself
    uniform, so that every number of known labels occurs. Draws nothing at 0."""
    if not probability or not labels.shape[1]:
        return labels
    chosen, share = torch.rand(2, len(labels), 1, device=labels.device)
    hidden = (chosen < probability) & (torch.rand(labels.shape, device=labels.device) < share)
    return labels.masked_fill(hidden, UNKNOWN)


class Drawn(nn.Module):
    """Labels for generated pictures where the data have none: a random row of the table `label_counts` gives those of
    the attributes `unlabelled`. The others stay. (B, A) -> (B, A)."""

    def __init__(self, attributes: Attributes, label_counts: LabelCounts, unlabelled: Sequence[str]) -> None:
        super().__init__()
        table = torch.tensor(label_counts)
        self.rows = nn.Buffer(table[:, :-1], persistent=False)  # (R, A)
        self.until = nn.Buffer(table[:, -1].cumsum(0) / table[:, -1].sum(), persistent=False)  # (R,)
        self.mask = nn.Buffer(torch.tensor([name in unlabelled for name in attributes]), persistent=False)

    def forward(self, labels: Tensor) -> Tensor:
        places = torch.searchsorted(self.until, torch.rand(len(labels), device=labels.device))
        return torch.where(self.mask, self.rows[places.clamp_max(len(self.rows) - 1)], labels)

    def alone(self, labels: Tensor) -> Tensor:
        """Only the labels that were drawn; the others are unknown."""
        return labels.masked_fill(~self.mask, UNKNOWN)


class Rows(nn.Module):
    """Embedding of labels: a learned row for each value of each attribute, and one for unknown, summed over attributes.
    Initialised with zeros: a network that gets attributes later keeps its output. (B, A) -> (B, outputs)."""

    def __init__(self, attributes: Attributes, outputs: int) -> None:
        super().__init__()
        counts = [len(values) + 1 for values in attributes.values()]
        self.rows = nn.Parameter(torch.zeros(sum(counts), outputs))
        known = [start + 1 for start in itertools.accumulate(counts[:-1], initial=0)]  # unknown is the row before them
        self.starts = nn.Buffer(torch.tensor(known), persistent=False)

    def forward(self, labels: Tensor) -> Tensor:
        return F.embedding(labels + self.starts, self.rows).sum(1)


class Projection(Rows):
    """Projection term of the logits: the inner product of features and label embedding (Miyato and Koyama 2018,
    equation 3), divided by the root of F as in StyleGAN2-ADA. (B, F), (B, A) -> (B,)."""

    def __init__(self, attributes: Attributes, features: int) -> None:
        super().__init__(attributes, features)
        self.scale = features**-0.5

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]
        return (features.float() * super().forward(labels)).sum(1) * self.scale


def cross_entropy(logits: Tensor, labels: Tensor, attributes: Attributes) -> Tensor:
    """Label loss of logits (B, V), one softmax per attribute: the mean over known labels (B, A), summed."""
    total = logits.new_zeros((), dtype=torch.float32)
    for part, label in _by_attribute(logits, labels, attributes):
        known = (label != UNKNOWN).sum().clamp_min(1)
        total = total + F.cross_entropy(part.float(), label, ignore_index=UNKNOWN, reduction="sum") / known
    return total


def losses(name: str, logits: Tensor | None, labels: Tensor, config: Any) -> dict[str, Tensor]:
    """The label loss of a discriminator's label logits (B, V), weighted by its Config; empty without such a head."""
    if logits is None:
        return {}
    return {name: cross_entropy(logits, labels, config.data.attributes) * config.losses.label_weight}


def accuracy(logits: Tensor, labels: Tensor, attributes: Attributes) -> Tensor:
    """Accuracy of the logits (B, V) on the known labels (B, A)."""
    parts = _by_attribute(logits.detach(), labels, attributes)
    right = torch.stack([(part.argmax(1) == label).sum() for part, label in parts]).sum()
    return right / (labels != UNKNOWN).sum().clamp_min(1)


def _by_attribute(logits: Tensor, labels: Tensor, attributes: Attributes) -> list[tuple[Tensor, Tensor]]:
    return list(zip(logits.split([len(values) for values in attributes.values()], 1), labels.unbind(1), strict=True))


def find(asked: Mapping[str, str], attributes: Attributes, model: str, option: str = "") -> dict[str, int]:
    """The labels of attribute=value pairs, including synonyms of values. Raises ValueError with the known attributes or
    values; the message starts with `option`, by default --where and the pair."""
    found = {}
    for name, value in asked.items():
        where = f"{option}: {name}={value}" if option else f"--where {name}={value}"
        if not attributes:
            hint = "train one with kyara train MODEL DATA --attributes NAMES"
            raise ValueError(f"{where}: {model} is not conditioned on attributes; {hint}")
        if name not in attributes:
            hint = did_you_mean(name, attributes)
            raise ValueError(f"{where}: {hint}{model} has the attributes {', '.join(attributes)}")
        known = list(attributes[name])
        meant = value if value in known else SYNONYMS.get(value, value)
        if meant not in known:
            words = [*known, *(word for word, value in SYNONYMS.items() if value in known)]
            raise ValueError(f"{where}: {did_you_mean(value, words)}the values of {name} are {', '.join(known)}")
        found[name] = known.index(meant)
    return found
