"""The content model of `kyara rank`: fits what it ships with, and measures how well it agrees with people.

    python benchmarks/content.py fit faces.zip tagged.zip busts.zip --labelled generated.zip --labels quality.csv
    python benchmarks/content.py agree generated.zip --labels quality.csv
    python benchmarks/content.py styles faces.zip busts.zip photos.zip

`fit` writes src/kyara/curation/content.safetensors: the distributions of the clean pictures, and the weights of the
parts. The weights are learned from pairs of pictures: of two labelled ones that with the higher score is better, and a
clean picture is better than the same distorted. Only half of the labelled pictures, chosen by a hash of their names, is
learned from; `agree` prints Spearman's correlation on the other half, with 95 % intervals of a bootstrap. `styles`
prints how many clean pictures of each source are called unfamiliar or get a low score, also with `--like`.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from common import print_table, run
from safetensors.torch import save_file
from torch import Tensor

from kyara.curation import content
from kyara.curation.content import CONTENT, PARTS, Basis, Judge
from kyara.curation.judging import Judged, judge_all, learn_style
from kyara.curation.scoring import half_precision, load_scorer, measure_all, score
from kyara.data.distortions import frozen
from kyara.files.dataset import Dataset, open_dataset
from kyara.models.base import Scorer
from kyara.perception import face_parts

SIZES = {"eyes": 60, "mouth": 60, "face": 60, "shape": 22}  # coordinates of each part
HUMAN = 3  # weight of the pairs of labelled pictures, relative to the distorted ones
DECAY = 0.05  # of the weights, towards their mean
CPU = torch.device("cpu")

Described = tuple[dict[str, Tensor], Tensor]  # Descriptors by part (N, D), and the recogniser's probabilities (N,)


def describe(dataset: Dataset, scorer: Scorer, *, distorted: bool = False) -> Described:
    """Descriptors and probabilities of all pictures, or of the same pictures distorted by fixed seeds."""
    widths: list[int] = []

    def measure(pictures: Tensor) -> Tensor:
        if distorted:
            pictures = frozen(pictures, range(len(pictures)))
        quality = score(pictures, scorer)
        with torch.inference_mode(), half_precision(CPU):
            found = face_parts.describe(pictures)
        widths[:] = [found[part].shape[1] for part in CONTENT]
        return torch.cat([*(found[part].float() for part in CONTENT), quality[:, None]], 1)

    rows = torch.from_numpy(measure_all(dataset, scorer, measure, batch=64, workers=2, failed={}))
    *parts, quality = rows[~rows[:, 0].isnan()].split([*widths, 1], 1)
    return dict(zip(CONTENT, parts, strict=True)), quality[:, 0]


def joined(found: Sequence[Described]) -> Described:
    return {part: torch.cat([one[part] for one, _ in found]) for part in CONTENT}, torch.cat([q for _, q in found])


def whitening(values: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Mean (D,) and the map (D, size) to principal components of unit variance, of values (N, D)."""
    mean, spread = values.mean(0), values.std(0) + 1e-6
    _, scales, axes = torch.linalg.svd((values - mean) / spread, full_matrices=False)
    return mean, axes[:size].T / spread[:, None] / (scales[:size] / len(values) ** 0.5)


def learn(better: Tensor, worse: Tensor) -> Tensor:
    """Non-negative weights (5,), with sum 1, by which deviations `better` (P, 5) are above `worse`: logistic loss of
    the differences."""
    free = torch.zeros(better.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([free], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        weights = F.softplus(free)
        loss = F.softplus(-(better - worse) @ weights).mean() + DECAY * (weights - weights.mean()).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    weights = F.softplus(free.detach())
    return weights / weights.sum()


def read_labels(path: Path) -> dict[str, int]:
    """Name -> score of each labelled picture."""
    with path.open(newline="") as file:
        return {row["file_name"]: int(row["score"]) for row in csv.DictReader(file)}


def to_learn(name: str) -> bool:
    """Whether a labelled picture is of the half that the weights may be learned from."""
    return hashlib.sha256(name.encode()).digest()[0] % 2 == 0


def pairs(found: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """All pairs of rows (N, C) with different labels (N,): the better (P, C), and the worse."""
    better, worse = (labels[:, None] > labels[None]).nonzero().T
    return found[better], found[worse]


def subset(dataset: Dataset, labels: Mapping[str, int], learned: bool) -> tuple[Dataset, Tensor]:
    """The labelled pictures of one half, and their scores."""
    chosen = [i for i, name in enumerate(dataset.names) if name in labels and to_learn(name) == learned]
    return dataset.subset(chosen), torch.tensor([labels[dataset.names[i]] for i in chosen])


def thinned(dataset: Dataset, count: int) -> Dataset:
    return dataset.subset(np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int).tolist())


def fit(
    clean: tyro.conf.Positional[tuple[Path, ...]],
    labelled: Path,
    labels: Path,
    out: Path = content.FILE,
    count: tuple[int, ...] = (500,),
    pairs_of: int = 200,
) -> None:
    """Fits the model and writes it.

    Args:
        clean: Clean pictures of each known style.
        labelled: Pictures with scores of people.
        labels: Table of the scores: file_name, score.
        out: The file to write.
        count: Pictures of each style, at most; one number for all, or one for each.
        pairs_of: Clean pictures that are also distorted, for the weights.
    """
    scorer = load_scorer("builtin:distortion", CPU)
    counts = count * len(clean) if len(count) == 1 else count
    sources = [thinned(open_dataset(path), few) for path, few in zip(clean, counts, strict=True)]
    found, quality = joined([describe(source, scorer) for source in sources])
    maps = {part: whitening(found[part], SIZES[part]) for part in CONTENT}
    basis = Basis({part: mean for part, (mean, _) in maps.items()}, {part: axes for part, (_, axes) in maps.items()})
    order = torch.randperm(len(quality), generator=torch.Generator().manual_seed(0))
    coordinates, quality = {part: y[order] for part, y in basis.coordinates(found).items()}, quality[order]
    even = torch.full((len(PARTS),), 1 / len(PARTS))
    judge = content.fit(basis, coordinates, quality, even, own=False)
    rated, given = subset(open_dataset(labelled), read_labels(labels), True)
    human = pairs(deviations(judge, describe(rated, scorer)), given)
    few = thinned(sources[0], pairs_of)
    broken = deviations(judge, describe(few, scorer)), deviations(judge, describe(few, scorer, distorted=True))
    times = len(human[0]) // len(broken[0]) // HUMAN
    weights = learn(*(torch.cat([one, two.repeat(times, 1)]) for one, two in zip(human, broken, strict=True)))
    save(content.fit(basis, coordinates, quality, weights, own=False), out)
    print_table({part: {"weight": float(w)} for part, w in zip(PARTS, weights, strict=True)}, "part")


def save(judge: Judge, out: Path) -> None:
    """Writes a Judge for `content.builtin`, its matrices in half precision."""
    clean, basis = judge.reference, judge.basis
    groups = zip(content.GROUPS, (basis.mean, basis.whiten, clean.known), strict=True)
    tensors = {f"{group}.{part}": tensor for group, parts in groups for part, tensor in parts.items()}
    tensors = {name: tensor if name.startswith("mean") else tensor.half() for name, tensor in tensors.items()}
    tensors |= {"weights": judge.weights, "low": clean.low, "middle": clean.middle, "limit": clean.limit}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, out)
    out.chmod(0o644)  # as other files


def deviations(judge: Judge, found: Described) -> Tensor:
    """Deviations (N, 5) of the parts from clean pictures."""
    values = judge.judge(judge.basis.coordinates(found[0]), found[1])[:, : len(PARTS)]
    return content.logit(values) / content.SURE - 1


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks (N,), the mean rank for equal values."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def agree(
    labelled: tyro.conf.Positional[Path], labels: Path, everything: bool = False, rounds: int = 2000
) -> dict[str, dict[str, str]]:
    """Prints the correlation of parts and scores with the scores of people.

    Args:
        labelled: Pictures with scores of people.
        labels: Table of the scores: file_name, score.
        everything: All labelled pictures, where none was learned from; else the half that was not.
        rounds: Rounds of the bootstrap.
    """
    scorer, judge = load_scorer("builtin:distortion", CPU), content.builtin(CPU)
    dataset, known = open_dataset(labelled), read_labels(labels)
    chosen = [subset(dataset, known, half) for half in ((False, True) if everything else (False,))]
    found, quality = joined([describe(part, scorer) for part, _ in chosen])
    given = torch.cat([score for _, score in chosen]).numpy()
    values = judge.judge(judge.basis.coordinates(found), quality).numpy()
    random = np.random.RandomState(0)
    drawn = [random.randint(0, len(given), len(given)) for _ in range(rounds)]
    rows, boots = {}, {}
    for column, name in enumerate((*PARTS, "content", "both")):
        boots[name] = np.array([spearman(values[i, column], given[i]) for i in drawn])
        low, high = np.quantile(boots[name], [0.025, 0.975])
        rows[name] = {"Spearman": f"{spearman(values[:, column], given):.3f}", "95 %": f"{low:.3f} to {high:.3f}"}
    low, high = np.quantile(boots["both"] - boots["quality"], [0.025, 0.975])
    gain = spearman(values[:, -2], given) - spearman(values[:, 0], given)
    rows["both - quality"] = {"Spearman": f"{gain:.3f}", "95 %": f"{low:.3f} to {high:.3f}"}
    print_table(rows, f"{len(given)} pictures")
    return rows


def styles(clean: tyro.conf.Positional[tuple[Path, ...]], count: int = 200, attribute: str | None = None) -> None:
    """Prints the shares of clean pictures that are in an unfamiliar style, or score below 0.5 and 0.1. Half of the
    pictures are the owner's, the others are judged.

    Args:
        clean: Clean pictures of each style.
        count: Pictures of each style that are judged, at most.
        attribute: Also prints the shares for each of its values.
    """
    scorer, rows = load_scorer("builtin:distortion", CPU), {}
    for path in clean:
        dataset = thinned(open_dataset(path), 2 * count)
        art, rest = (dataset.subset(list(range(first, len(dataset), 2))) for first in (0, 1))
        own = learn_style(art, scorer, batch=None, workers=2)
        found = {}
        for title, by, judge in (("quality", "quality", None), ("both", "both", None), ("--like", "both", own)):
            options = {"judge": judge, "check_style": False, "batch": None, "workers": 2, "failed": {}}
            found[title] = judge_all(rest, scorer, by=by, **options)
        values = rest.attributes.get(attribute or "", [])
        groups = {path.stem: np.ones(len(rest), bool)}
        groups |= {f"{path.stem}, {value}": np.array(values) == value for value in sorted({*values})}
        rows |= {name: _shares(found, chosen) for name, chosen in groups.items()}
    print_table(rows, "clean pictures", ".2f")


def _shares(found: Mapping[str, Judged], chosen: np.ndarray) -> dict[str, float | int]:
    shares: dict[str, float | int] = {"pictures": int(chosen.sum())}
    for title, judged in found.items():
        scores = np.array(judged.scores)[chosen]
        if judged.parts is not None:
            shares[f"{title}: unfamiliar"] = float(np.array(judged.unfamiliar)[chosen].mean())
        shares |= {f"{title}: below {limit}": float((scores < limit).mean()) for limit in (0.5, 0.1)}
    return shares


def main(arguments: list[str] | None = None) -> None:
    run({"fit": fit, "agree": agree, "styles": styles}, arguments)


if __name__ == "__main__":
    main()
