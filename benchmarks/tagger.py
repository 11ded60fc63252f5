"""How good is the tagger, on faces it never saw? And how much better than counting colours?

    python benchmarks/tagger.py tagged-faces-96.zip --prefix-from d

The pictures whose file names sort at or after the prefix are the test set: the built-in tagger was trained on the
others, and so are the baselines, logistic regressions on histograms of colours. Prints for each attribute the share of
right answers of each with its 95% interval, the expected calibration error (Guo et al. 2017, 15 bins), what a threshold
fills and how much of that is right, and the confusion matrix (rows: what the data say).

    python benchmarks/tagger.py tagged-faces-96.zip --prefix-from d --readings benchmarks/readings.csv

How right is the data? `readings.csv` says what somebody (a vision model) read in 160 of those faces who did not know
the labels: `red/orange?` is red, perhaps orange, and not clear. Prints how often each agrees with it, the data too.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.files.dataset import open_dataset
from kyara.files.pictures import to_float
from kyara.labels.tagger import load_tagger

BASELINES = {"histogram": 1, "histogram in bands": 4}
"""Logistic regressions on histograms of the whole picture, and of four bands from top to bottom."""
THRESHOLDS = (0.0, 0.5, 0.7, 0.8, 0.9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--prefix-from", default="")
    parser.add_argument("--model", default="builtin:tagger")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--readings", type=Path, help="what somebody read in some of the pictures: file_name, values")
    options = parser.parse_args()
    everything = open_dataset(options.data)
    held = np.array([Path(name).name >= options.prefix_from for name in everything.names])
    seen, test = (everything.subset(np.flatnonzero(part).tolist()) for part in (~held, held))
    tagger = load_tagger(options.model)
    fitted = [tagger.fit(test.picture(i)) for i in range(len(test))]
    told = [tagger.probabilities(to_float(np.stack(fitted[i : i + 64]))) for i in range(0, len(fitted), 64)]
    decoded = [[part.picture(i) for i in range(len(part))] for part in (seen, test)]
    histograms = {
        name: [torch.stack([histogram(picture, bands) for picture in pictures]) for pictures in decoded]
        for name, bands in BASELINES.items()
    }
    result: dict[str, Any] = {"model": options.model, "test": len(test), "baseline trained on": len(seen)}
    for attribute, values in tagger.attributes.items():
        labels = [torch.from_numpy(part.labels(attribute, values)) for part in (seen, test)]
        known = labels[1] >= 0
        probabilities = torch.cat([part[attribute] for part in told])[known]
        regressed = {name: regress(x, y, labels[0], len(values)) for name, (x, y) in histograms.items()}
        found = {"tagger": judged(probabilities, labels[1][known])}
        found |= {name: judged(probable[known], labels[1][known]) for name, probable in regressed.items()}
        result[attribute] = {
            **found,
            "most frequent": float((labels[1][known] == labels[0][labels[0] >= 0].mode().values).float().mean()),
        }
        report(attribute, result[attribute], values, confusion(probabilities, labels[1][known]))
        if options.readings and attribute in (read := readings(options.readings, test.names)):
            said = {"tagger": torch.cat([part[attribute] for part in told]).argmax(1)}
            said |= {name: probable.argmax(1) for name, probable in regressed.items()}
            compare({"the data": labels[1], **said}, read[attribute], values)
        result[attribute]["confusion"] = confusion(probabilities, labels[1][known]).tolist()
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


def histogram(picture: np.ndarray, bands: int) -> Tensor:
    """How often each of 8 x 8 x 8 colours occurs in each of some horizontal bands: square roots, (bands * 512,)."""
    bins = (picture // 32).astype(np.int64) @ np.array([64, 8, 1])  # (H, W)
    counts = [np.bincount(band.ravel(), minlength=512) / band.size for band in np.array_split(bins, bands)]
    return torch.from_numpy(np.sqrt(np.concatenate(counts))).float()


def regress(seen: Tensor, test: Tensor, labels: Tensor, values: int) -> Tensor:
    """Probabilities (N, V) for `test` by a logistic regression on `seen`; how strongly its weights are held back is
    chosen on a tenth of `seen`."""
    known = labels >= 0
    x, y = seen[known], labels[known]
    inner = torch.arange(len(x)) % 10 > 0
    scores = {}
    for decay in (1e-5, 1e-4, 1e-3):
        told = logistic(x[inner], y[inner], x[~inner], values, decay)
        scores[decay] = float((told.argmax(1) == y[~inner]).float().mean())
    return logistic(x, y, test, values, max(scores, key=lambda decay: scores[decay]))


def logistic(x: Tensor, y: Tensor, test: Tensor, values: int, decay: float) -> Tensor:
    weight, bias = torch.zeros(values, x.shape[1], requires_grad=True), torch.zeros(values, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(x @ weight.T + bias, y) + decay * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return (test @ weight.T + bias).softmax(1).detach()


def judged(probabilities: Tensor, labels: Tensor) -> dict[str, Any]:
    """What there is to say about probabilities (N, V) of labels (N,)."""
    sure, told = probabilities.max(1)
    right = (told == labels).float()
    n, accuracy = len(labels), float(right.mean())
    bins = (sure * 15).long().clamp_max(14)
    gaps = [(right[bins == b].sum() - sure[bins == b].sum()).abs() for b in range(15)]
    recalls = [right[labels == value].mean() for value in labels.unique()]
    return {
        "accuracy": accuracy,
        "interval": 1.96 * math.sqrt(accuracy * (1 - accuracy) / n),
        "mean recall": float(torch.stack(recalls).mean()),
        "calibration error": float(torch.stack(gaps).sum() / n),
        "fills": {f"{t:g}": [float((sure >= t).float().mean()), float(right[sure >= t].mean())] for t in THRESHOLDS},
    }


def confusion(probabilities: Tensor, labels: Tensor) -> np.ndarray:
    """How often each value (row) was told as each (column): (V, V)."""
    v = probabilities.shape[1]
    return torch.bincount(labels * v + probabilities.argmax(1), minlength=v * v).view(v, v).numpy()


def readings(file: Path, names: Sequence[str]) -> dict[str, dict[int, str]]:
    """For each attribute what was read in which of the pictures of these names."""
    where = {Path(name).name: i for i, name in enumerate(names)}
    with file.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["file_name"] in where]
    return {a: {where[row["file_name"]]: row[a] for row in rows} for a in rows[0] if a != "file_name"} if rows else {}


def compare(said: dict[str, Tensor], read: dict[int, str], values: tuple[str, ...]) -> None:
    """How often the values (N,) that each said are what was read; and where that was clear."""
    clear = np.array([not text.endswith("?") for text in read.values()])
    print(f"what was read in {len(clear)} pictures: who agrees with it (in the {clear.sum()} that are clear), or")
    print("with its first or second choice")
    for who, told in said.items():
        words = [(values[told[i]] if told[i] >= 0 else "", text.rstrip("?").split("/")) for i, text in read.items()]
        first, either = (np.array(x) for x in zip(*((w == t[0], w in t) for w, t in words), strict=True))
        print(
            f"{who:20}{first.mean():.3f} ({first[clear].mean():.3f})   {either.mean():.3f} ({either[clear].mean():.3f})"
        )


def report(attribute: str, found: dict[str, Any], values: tuple[str, ...], matrix: np.ndarray) -> None:
    for who in ("tagger", *BASELINES):
        about = found[who]
        fills = ", ".join(f"{t}: {share:.3f} at {precision:.3f}" for t, (share, precision) in about["fills"].items())
        print(
            f"{attribute}, {who}: {about['accuracy']:.3f} ± {about['interval']:.3f}, mean recall "
            f"{about['mean recall']:.3f}, calibration error {about['calibration error']:.3f}; fills "
            f"(from a threshold, share at precision) {fills}"
        )
    print(f"{attribute}, always the most frequent: {found['most frequent']:.3f}")
    width = max(6, *map(len, values)) + 1
    print("".rjust(width) + "".join(value.rjust(width) for value in values))
    for value, row in zip(values, matrix, strict=True):
        print(value.rjust(width) + "".join(str(n).rjust(width) for n in row))
    print()


if __name__ == "__main__":
    main()
