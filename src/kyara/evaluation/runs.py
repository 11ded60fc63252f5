"""What a run folder or checkpoint says of a model that is compared: settings, training curves, length of training."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kyara.evaluation.features import Size
from kyara.files import checkpoint
from kyara.models.base import Generator
from kyara.training.log import STATS


@dataclass
class ModelReport:
    """What is known of one model."""

    name: str
    path: str
    error: str | None = None
    """Why it could not be measured."""
    untrained: bool = False
    """Whether these are the weights of 0 kimg."""
    model: str = ""
    checkpoint: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    parameters: int = 0
    """Of the network that makes the pictures."""
    training: dict[str, float] = field(default_factory=dict)
    """kimg of the checkpoint, and trained_kimg, seconds and images_per_second of the run as far as they were logged."""
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """Name -> (kimg, value)."""
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name -> a Score as a mapping, with `draws`, the value of each draw."""
    best: list[tuple[int, float]] = field(default_factory=list)
    worst: list[tuple[int, float]] = field(default_factory=list)
    """(seed, score of the distortion recogniser)."""


def short_names(runs: Sequence[str]) -> list[str]:
    """A short name for each run: that of its folder, with the run's for a snapshot, or the whole path where two are
    equal. ValueError if a run is given twice."""
    if len(set(runs)) < len(runs):
        raise ValueError("RUNS: a run is given twice; give each once")
    parts = [Path(run).parts for run in runs]
    short = ["/".join([*p[-3:-2], p[-1]]) if p[-2:-1] == ("snapshots",) else p[-1] if p else "." for p in parts]
    return [run if short.count(name) > 1 else name for run, name in zip(runs, short, strict=True)]


def describe(report: ModelReport) -> None:
    """Fills in what the folder says."""
    folder = checkpoint.find(report.path)
    rows = read_stats(folder / STATS)
    for row in rows:
        for name in row:
            if name != "nimg":
                report.curves.setdefault(name, []).append((row["nimg"] / 1000, row[name]))
    report.training = training_speed(rows)
    found = checkpoint.read(report.path)
    report.model, report.config, report.about = found.model, dict(found.config), dict(found.about)
    report.checkpoint = found.hash
    data = report.config.get("data")
    if not isinstance(data, Mapping) or not isinstance(data.get("attributes", {}), Mapping):
        raise ValueError(f"{report.path}: the data or attributes in its config.json are not a mapping")
    picture_size(report)
    kimg = found.about.get("kimg")
    if isinstance(kimg, int | float):
        report.training |= {"kimg": kimg, "trained_kimg": max(kimg, report.training.get("trained_kimg", 0))}
        report.untrained = kimg == 0


def read_stats(path: Path) -> list[dict[str, float]]:
    """The lines of stats.jsonl with their finite numbers; damaged lines are skipped."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and isinstance(row.get("nimg"), int):
            rows.append({k: v for k, v in row.items() if isinstance(v, int | float) and math.isfinite(v)})
    return rows


def training_speed(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Duration and mean speed of a run, snapshots included: each line with a speed gives the time of its pictures."""
    seconds = images = last = 0.0
    for row in rows:
        if (speed := row.get("img/s", 0)) > 0:
            seconds, images, last = seconds + (row["nimg"] - last) / speed, images + row["nimg"] - last, row["nimg"]
    return {"seconds": seconds, "images_per_second": images / seconds, "trained_kimg": last / 1000} if seconds else {}


def largest_size(reports: Sequence[ModelReport]) -> Size:
    """The size of the largest pictures. ValueError if no run could be read."""
    sizes = [picture_size(report) for report in reports if not report.error]
    if not sizes:
        raise ValueError("no run could be read: " + "; ".join(f"{r.path}: {r.error}" for r in reports))
    return max(sizes, key=lambda size: size[0] * size[1])


def picture_size(report: ModelReport) -> Size:
    """The size of a model's pictures."""
    try:
        return int(report.config["data"]["width"]), int(report.config["data"]["height"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{report.path}: its config.json has no picture size ({error!r})") from error


def parameter_count(generator: Generator) -> int:
    """Parameters of the averaged network, if there is one, or else of the model."""
    parts = [getattr(generator, name) for name in generator.averages.values()] or [generator]
    return sum(parameter.numel() for part in parts for parameter in part.parameters())
