"""All scores of a set of pictures: one pass through the networks, then each metric with its interval and range."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from kyara.curation.scoring import crop, load_scorer, score
from kyara.evaluation import metrics
from kyara.evaluation.features import FeatureExtractor, RowBuffer, Size, batches, load_extractor
from kyara.evaluation.metrics import Estimate
from kyara.evaluation.sets import PictureSet, RealFeatures, RealSet
from kyara.evaluation.statistics import fit_gaussian, neighbour_distances
from kyara.files.pictures import center_crop, to_float
from kyara.labels.tagger import load_tagger
from kyara.models.base import Scorer

DISTORTION = "builtin:distortion"
FRECHET_COUNT = 2048
"""With fewer pictures the Fréchet distance depends mostly on their number."""
PIXEL_COUNT, PIXEL_SIDE = 512, 64
"""Pictures, at most, that are compared by pixels, and their shorter side, at most."""
LPIPS_PAIRS = 1000
Better = Literal["higher", "lower", "near 1"]


class Metric(NamedTuple):
    """What a score means and the range that it can take."""

    name: str
    description: str
    better: Better
    lowest: float = 0.0
    highest: float = math.inf


FRECHET = Metric("frechet", "Fréchet distance", "lower")
KID = Metric("kid", "KID", "lower", lowest=-math.inf)  # unbiased, so it may be slightly negative
PRECISION = Metric("precision", "precision: pictures that look real", "higher", highest=1.0)
RECALL = Metric("recall", "recall: real pictures within reach", "higher", highest=1.0)
DENSITY = Metric("density", "density: how far inside the real pictures", "higher")
COVERAGE = Metric("coverage", "coverage: real pictures with a picture nearby", "higher", highest=1.0)
UNIQUENESS = Metric("uniqueness", "uniqueness: relative distance to the nearest real", "near 1")
COPIES = Metric("copies", "copies of a real picture", "lower", highest=1.0)
NEAREST_MSE = Metric("nearest_mse", "squared error to the nearest real, grey levels", "lower", highest=255.0**2)
ENTROPY = Metric("entropy_similarity", "entropy, relative to the nearest real's", "higher", highest=1.0)
DIVERSITY = Metric("diversity", "diversity: distance of two pictures", "higher")
LPIPS = Metric("lpips", "LPIPS of two pictures", "higher")
WHOLE = Metric("whole", "whole, undistorted", "higher", highest=1.0)


@dataclass(frozen=True)
class Score:
    """A value with everything that it depends on."""

    name: str
    value: float
    better: Better
    features: str
    """What it was measured in: the network and the hash of its weights, or pixels."""
    resizer: str
    pictures: int
    reals: int
    """The number of real pictures; 0 for scores that need none."""
    low: float | None
    high: float | None
    """The 95% confidence interval, where one is known, within `range`."""
    what: str
    """A description."""
    range: tuple[float | None, float | None]
    """The lowest and highest value that the score can have; None where there is no limit."""

    def within_range(self, estimate: Estimate) -> Estimate:
        """The estimate with its interval inside the range of this score."""
        lowest, highest = self.range
        return estimate.clipped(-math.inf if lowest is None else lowest, math.inf if highest is None else highest)


@dataclass(frozen=True)
class Measured:
    """What scores were measured with."""

    features: str
    resizer: str
    pictures: int
    reals: int = 0

    def score(self, metric: Metric, found: float | Estimate) -> Score:
        estimate = found if isinstance(found, Estimate) else Estimate(found)
        value, low, high = estimate.clipped(metric.lowest, metric.highest)
        lowest, highest = (limit if math.isfinite(limit) else None for limit in (metric.lowest, metric.highest))
        note = self.features, self.resizer, self.pictures, self.reals
        return Score(metric.name, value, metric.better, *note, low, high, metric.description, (lowest, highest))


@dataclass(frozen=True)
class Networks:
    """The networks that pictures are measured with."""

    extractor: FeatureExtractor
    tagger: Any = None
    """None leaves out the scores of attributes."""
    tagger_name: str = ""
    recogniser: Scorer | None = None
    recogniser_name: str = ""


def load_networks(features: str, tagger: str, device: torch.device, *, attributes: Sequence[str]) -> Networks:
    """The feature extractor, the distortion recogniser, and the tagger if `attributes` are known or its features are
    used anyway."""
    extractor = load_extractor(features, device)
    wanted = tagger != "none" and (bool(attributes) or features == tagger)
    found, name = (load_tagger(tagger, device), tagger) if wanted else (None, "")
    return Networks(extractor, found, name, load_scorer(DISTORTION, device), DISTORTION)


@dataclass
class Outputs:
    """What the networks compute of a set in one pass."""

    features: np.ndarray
    """(N, F) float32."""
    small: np.ndarray
    """The first PIXEL_COUNT pictures, made small: (n, h, w, 3) uint8."""
    whole: np.ndarray
    """Scores of the recogniser, (N,); empty without one."""
    probabilities: dict[str, np.ndarray]
    """Attribute -> probabilities by the tagger, (N, V); empty without one."""
    labels: dict[str, np.ndarray]
    """Attribute -> index of the value that the picture should show, (N,) int64; -1 where it is unknown."""


def run_networks(source: PictureSet, networks: Networks, size: Size, *, batch: int, name: str = "") -> Outputs:
    """Runs all networks over a set, `batch` pictures at a time. ValueError for fewer than 4 readable pictures."""
    total, tagger = source.total(), networks.tagger
    features, small, whole = RowBuffer(total), RowBuffer(min(total, PIXEL_COUNT)), RowBuffer(total)
    known: Mapping[str, Sequence[str]] = tagger.attributes if tagger else {}
    tagged = {attribute: RowBuffer(total) for attribute in known}
    labels: dict[str, list[int]] = {attribute: [] for attribute in known if attribute in source.attributes()}
    progress = tqdm(source, desc=name or None, total=total, unit="picture", disable=None)
    for group in batches(progress, batch):
        pictures = [center_crop(picture, *size) for picture, _ in group]
        features.add(networks.extractor(np.stack([networks.extractor.resize(p, size) for p in pictures])))
        if first := pictures[: PIXEL_COUNT - small.count]:
            small.add(np.stack([center_crop(picture, *small_size(size)) for picture in first]))
        if networks.recogniser is not None:
            fitted = np.stack([crop(picture, networks.recogniser) for picture in pictures])
            whole.add(score(to_float(fitted), networks.recogniser).numpy())
        for attribute, probabilities in _tag(tagger, pictures).items():
            tagged[attribute].add(probabilities)
        for attribute, indices in labels.items():
            index = {value: i for i, value in enumerate(known[attribute])}
            indices += [index.get(shown.get(attribute, ""), -1) for _, shown in group]
    if features.count < 4:
        readable = f"{features.count} picture" + ("" if features.count == 1 else "s")
        raise ValueError(f"{name}: {readable} can be read, too few for scores; give 4 or more")
    return Outputs(
        features.array,
        small.array,
        whole.array if networks.recogniser is not None else np.empty(0),
        {attribute: rows.array for attribute, rows in tagged.items()},
        {attribute: np.array(indices, dtype=np.int64) for attribute, indices in labels.items()},
    )


def small_size(size: Size) -> Size:
    """The size at which pixels are compared: the shorter side at most PIXEL_SIDE."""
    scale = min(1.0, PIXEL_SIDE / min(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


@torch.inference_mode()
def _tag(tagger: Any, pictures: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    if tagger is None:
        return {}
    found = tagger.probabilities(to_float(np.stack([tagger.fit(picture) for picture in pictures])))
    return {attribute: values.float().cpu().numpy() for attribute, values in found.items()}


def all_scores(outputs: Outputs, networks: Networks, size: Size, real: RealSet | None) -> list[Score]:
    """Every score, the most important ones first; without real pictures, those that need none."""
    compared = (
        [] if real is None else [*distribution_scores(outputs.features, real), *pixel_scores(outputs.small, real)]
    )
    return compared + single_set_scores(outputs, networks, size)


def distribution_scores(fake: np.ndarray, real: RealFeatures) -> list[Score]:
    """Scores between the features of a set, (N, F), and those of the real pictures."""
    if len(real.features) < 4:
        raise ValueError(f"{len(real.features)} real pictures are too few; give 4 or more")
    found = metrics.prdc(fake, real.features, neighbour_distances(fake), real.neighbours)
    uniqueness, copies = metrics.uniqueness(found, real.neighbours)
    extractor = real.extractor
    note = f"{extractor.name} {extractor.hash[:8]}", extractor.resizer(real.size), len(fake), len(real.features)
    score = Measured(*note).score
    distances = [
        score(FRECHET, metrics.frechet(fit_gaussian(fake), real.gaussian)),
        score(KID, metrics.kid(fake, real.features)),
    ]
    return [
        *(distances if len(fake) >= FRECHET_COUNT else distances[::-1]),
        score(PRECISION, found.precision),
        score(RECALL, found.recall),
        score(DENSITY, found.density),
        score(COVERAGE, found.coverage),
        score(UNIQUENESS, uniqueness),
        score(COPIES, copies),
    ]


def pixel_scores(small: np.ndarray, real: RealSet) -> list[Score]:
    """Sedov's scores of pictures (N, h, w, 3) uint8: squared error to the nearest real one and similarity of their
    entropies."""
    size = (small.shape[2], small.shape[1])
    error = np.full(len(small), np.inf)
    entropy, count = np.zeros(len(small)), 0
    for block in tqdm(real.pictures(size), desc="by pixels", disable=None):
        index, value = metrics.nearest_pictures(small, block)
        nearer = value < error
        error[nearer], entropy[nearer] = value[nearer], metrics.grey_entropy(block[index[nearer]])
        count += len(block)
    similarity = metrics.entropy_similarity(metrics.grey_entropy(small), entropy)
    score = Measured("pixels", _small_resizer(small), len(small), count).score
    return [score(NEAREST_MSE, metrics.mean(error)), score(ENTROPY, metrics.mean(similarity))]


def single_set_scores(outputs: Outputs, networks: Networks, size: Size) -> list[Score]:
    """Scores that need no real pictures."""
    extractor, n = networks.extractor, len(outputs.features)
    resizer = extractor.resizer(size)
    features = f"{extractor.name} {extractor.hash[:8]}"
    found = [Measured(features, resizer, n).score(DIVERSITY, metrics.diversity(outputs.features))]
    if extractor.distance is not None:
        measured = Measured(features, _small_resizer(outputs.small), len(outputs.small))
        found.append(measured.score(LPIPS, lpips(outputs.small, extractor)))
    if len(outputs.whole):
        found.append(Measured(networks.recogniser_name, resizer, n).score(WHOLE, metrics.mean(outputs.whole)))
    for attribute, probabilities in outputs.probabilities.items():
        what, classes = f"inception-style score of {attribute}", float(probabilities.shape[1])
        metric = Metric(f"inception/{attribute}", what, "higher", 1.0, classes)
        value = metrics.inception_score(probabilities, splits=max(1, min(10, n // 100)))
        found.append(Measured(networks.tagger_name, resizer, n).score(metric, value))
    return found + label_scores(outputs, networks, resizer)


def label_scores(outputs: Outputs, networks: Networks, resizer: str) -> list[Score]:
    """Share of the pictures that show their label, as the tagger sees it: of each attribute and each of its values."""
    found = []
    for attribute, labels in outputs.labels.items():
        present = sorted(set(labels[labels >= 0].tolist()))
        for value in [None, *present] if present else []:
            chosen = labels if value is None else np.where(labels == value, labels, -1)
            short = attribute if value is None else f"{attribute}={networks.tagger.attributes[attribute][value]}"
            what = f"shows its {attribute}" if value is None else f"  {short}"
            metric = Metric(f"accuracy/{short}", what, "higher", highest=1.0)
            measured = Measured(networks.tagger_name, resizer, int((chosen >= 0).sum()))
            found.append(measured.score(metric, metrics.accuracy(outputs.probabilities[attribute], chosen)))
    return found


def _small_resizer(small: np.ndarray) -> str:
    return f"{small.shape[2]}x{small.shape[1]}, cropped, Lanczos"


@torch.inference_mode()
def lpips(pictures: np.ndarray, extractor: FeatureExtractor) -> Estimate:
    """Mean LPIPS of random pairs of pictures (N, H, W, 3) uint8."""
    assert extractor.distance is not None
    distances = []
    for part in np.array_split(metrics.random_pairs(len(pictures), LPIPS_PAIRS), LPIPS_PAIRS // 50):
        a, b = (to_float(pictures[part[:, side]]).to(extractor.device) for side in (0, 1))
        distances.append(extractor.distance(a, b).float().cpu().numpy())
    return metrics.mean(np.concatenate(distances), len(pictures))


def format_number(value: float) -> str:
    """Four significant digits, without an exponent from 1e-4 to 1e5."""
    return f"{value:.4g}" if 1e-4 <= abs(value) < 1e5 or value == 0 else f"{value:.2e}"


def format_table(scores: Sequence[Score]) -> list[str]:
    """The scores as lines of text."""
    lines = []
    for row in scores:
        interval = (
            "" if row.low is None or row.high is None else f"{format_number(row.low)} to {format_number(row.high)}"
        )
        better = "1 is best" if row.better == "near 1" else f"{row.better} is better"
        lines.append(f"  {row.what:<52} {format_number(row.value):>9}  {interval:<22} {better}")
    return lines
