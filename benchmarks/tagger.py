"""Accuracy of the tagger on held-out faces, beside classifiers of colour histograms.

    python benchmarks/tagger.py tagged-faces-96.zip --prefix-from d

Pictures whose file names sort from the prefix on are the test set: the built-in tagger was trained on the others, and
so are the baselines, logistic regressions on colour histograms. Prints for each attribute and classifier the accuracy
with its 95% interval, the expected calibration error (Guo et al. 2017, 15 bins), the coverage and precision at each
threshold, and the confusion matrix (rows: labels of the data).

    python benchmarks/tagger.py tagged-faces-96.zip --prefix-from d --readings benchmarks/readings.csv

How correct are the labels of the data? `readings.csv` holds what a vision model read in 160 of these faces without
knowing the labels: `red/orange?` means red, perhaps orange, and unclear. Prints how often each classifier and the data
agree with it.
"""

from __future__ import annotations

import csv
import json as jsons
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from common import held_out, run
from torch import Tensor

from kyara.files.dataset import open_dataset
from kyara.files.pictures import to_float
from kyara.labels.tagger import load_tagger

BASELINES = {"histogram": 1, "histogram in bands": 4}
"""Logistic regressions on histograms: name -> horizontal bands with a histogram each."""
THRESHOLDS = (0.0, 0.5, 0.7, 0.8, 0.9)


def measure(
    data: tyro.conf.Positional[Path],
    prefix_from: str = "",
    model: str = "builtin:tagger",
    json: Path | None = None,
    readings: Path | None = None,
) -> None:
    """Prints everything for each attribute.

    Args:
        data: A labelled dataset.
        prefix_from: File names of the test set sort from here on.
        model: The tagger.
        json: Also write all numbers to this file.
        readings: What was read in some of the pictures: a table with file_name and attributes.
    """
    everything = open_dataset(data)
    training, test = (everything.subset(part) for part in held_out(everything, prefix_from))
    tagger = load_tagger(model)
    fitted = [tagger.fit(test.picture(i)) for i in range(len(test))]
    tagged = [tagger.probabilities(to_float(np.stack(fitted[i : i + 64]))) for i in range(0, len(fitted), 64)]
    decoded = [[part.picture(i) for i in range(len(part))] for part in (training, test)]
    histograms = {
        name: [torch.stack([histogram(picture, bands) for picture in pictures]) for pictures in decoded]
        for name, bands in BASELINES.items()
    }
    result: dict[str, Any] = {"model": model, "test": len(test), "baseline trained on": len(training)}
    read = read_readings(readings, test.names) if readings else {}
    for attribute, values in tagger.attributes.items():
        labels = [torch.from_numpy(part.labels(attribute, values)) for part in (training, test)]
        known = labels[1] >= 0
        probabilities = {"tagger": torch.cat([part[attribute] for part in tagged])}
        probabilities |= {name: regress(x, y, labels[0], len(values)) for name, (x, y) in histograms.items()}
        found: dict[str, Any] = {name: evaluate(p[known], labels[1][known]) for name, p in probabilities.items()}
        most = labels[0][labels[0] >= 0].mode().values
        found["most frequent"] = float((labels[1][known] == most).float().mean())
        matrix = confusion(probabilities["tagger"][known], labels[1][known])
        report(attribute, found, values, matrix)
        if attribute in read:
            predictions = {name: p.argmax(1) for name, p in probabilities.items()}
            compare({"the data": labels[1], **predictions}, read[attribute], values)
        result[attribute] = {**found, "confusion": matrix.tolist()}
    if json:
        json.write_text(jsons.dumps(result, indent=2) + "\n")


def histogram(picture: np.ndarray, bands: int) -> Tensor:
    """Square roots of the frequencies of 8 x 8 x 8 colours in each of some horizontal bands, (bands * 512,)."""
    bins = (picture // 32).astype(np.int64) @ np.array([64, 8, 1])  # (H, W)
    counts = [np.bincount(band.ravel(), minlength=512) / band.size for band in np.array_split(bins, bands)]
    return torch.from_numpy(np.sqrt(np.concatenate(counts))).float()


def regress(seen: Tensor, test: Tensor, labels: Tensor, values: int) -> Tensor:
    """Probabilities (N, V) for `test` by a logistic regression on `seen`; its weight decay is selected on a tenth of
    `seen`."""
    known = labels >= 0
    x, y = seen[known], labels[known]
    inner = torch.arange(len(x)) % 10 > 0
    scores = {}
    for decay in (1e-5, 1e-4, 1e-3):
        probabilities = logistic(x[inner], y[inner], x[~inner], values, decay)
        scores[decay] = float((probabilities.argmax(1) == y[~inner]).float().mean())
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


def evaluate(probabilities: Tensor, labels: Tensor) -> dict[str, Any]:
    """Accuracy, calibration and coverage of probabilities (N, V) for labels (N,)."""
    confidence, predicted = probabilities.max(1)
    right = (predicted == labels).float()
    n, accuracy = len(labels), float(right.mean())
    bins = (confidence * 15).long().clamp_max(14)
    gaps = [(right[bins == b].sum() - confidence[bins == b].sum()).abs() for b in range(15)]
    recalls = [right[labels == value].mean() for value in labels.unique()]
    return {
        "accuracy": accuracy,
        "interval": 1.96 * math.sqrt(accuracy * (1 - accuracy) / n),
        "mean recall": float(torch.stack(recalls).mean()),
        "calibration error": float(torch.stack(gaps).sum() / n),
        "fills": {
            f"{t:g}": [float((confidence >= t).float().mean()), float(right[confidence >= t].mean())]
            for t in THRESHOLDS
        },
    }


def confusion(probabilities: Tensor, labels: Tensor) -> np.ndarray:
    """How often each value (row) is predicted as each value (column): (V, V)."""
    v = probabilities.shape[1]
    return torch.bincount(labels * v + probabilities.argmax(1), minlength=v * v).view(v, v).numpy()


def read_readings(file: Path, names: Sequence[str]) -> dict[str, dict[int, str]]:
    """Attribute -> number of the picture among `names` -> what was read."""
    where = {Path(name).name: i for i, name in enumerate(names)}
    with file.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["file_name"] in where]
    return {a: {where[row["file_name"]]: row[a] for row in rows} for a in rows[0] if a != "file_name"} if rows else {}


def compare(predictions: dict[str, Tensor], read: dict[int, str], values: tuple[str, ...]) -> None:
    """Prints how often the values (N,) of each classifier agree with the readings, and with the clear ones."""
    clear = np.array([not text.endswith("?") for text in read.values()])
    print(f"agreement with the readings of {len(clear)} pictures (of the {clear.sum()} clear ones), and with the first")
    print("or second choice")
    for name, indices in predictions.items():
        words = [
            (values[indices[i]] if indices[i] >= 0 else "", text.rstrip("?").split("/")) for i, text in read.items()
        ]
        first, either = (np.array(x) for x in zip(*((w == t[0], w in t) for w, t in words), strict=True))
        cells = (f"{hits.mean():.3f} ({hits[clear].mean():.3f})" for hits in (first, either))
        print(f"{name:20}{'   '.join(cells)}")


def report(attribute: str, found: dict[str, Any], values: tuple[str, ...], matrix: np.ndarray) -> None:
    for name in ("tagger", *BASELINES):
        about = found[name]
        fills = ", ".join(f"{t}: {share:.3f} at {precision:.3f}" for t, (share, precision) in about["fills"].items())
        print(
            f"{attribute}, {name}: {about['accuracy']:.3f} ± {about['interval']:.3f}, mean recall "
            f"{about['mean recall']:.3f}, calibration error {about['calibration error']:.3f}; coverage "
            f"at each threshold and its precision {fills}"
        )
    print(f"{attribute}, always the most frequent: {found['most frequent']:.3f}")
    width = max(6, *map(len, values)) + 1
    print("".rjust(width) + "".join(value.rjust(width) for value in values))
    for value, row in zip(values, matrix, strict=True):
        print(value.rjust(width) + "".join(str(n).rjust(width) for n in row))
    print()


def main(arguments: list[str] | None = None) -> None:
    run(measure, arguments)


if __name__ == "__main__":
    main()
