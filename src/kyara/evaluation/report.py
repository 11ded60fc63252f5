"""Pictures become scores: one pass over a set, then every number that can be told about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from tqdm import tqdm

from kyara.curation.scoring import Scorer as Recogniser
from kyara.curation.scoring import crop as fit
from kyara.curation.scoring import score
from kyara.evaluation import metrics
from kyara.evaluation.features import Extractor, Rows, Size
from kyara.evaluation.metrics import Estimate
from kyara.evaluation.sources import PIXELS, Reals, Reference, Source
from kyara.files.pictures import center_crop, to_float

ENOUGH = 2048
"""Pictures below which a Fréchet distance says more about their number than about them."""
BY_PIXELS = 512
"""Pictures, at most, whose nearest real one is looked for by pixels."""
LPIPS_PAIRS = 1000
Better = Literal["higher", "lower", "near 1"]


@dataclasses.dataclass(frozen=True)
class Score:
    """A number with all that it depends on."""

    name: str
    value: float
    better: Better
    features: str
    """What it was measured in: features and the hash of their weights, or pixels."""
    resizer: str
    pictures: int
    reals: int = 0
    """How many real ones they were compared with; 0 where a score needs none."""
    low: float | None = None
    high: float | None = None
    """Ends of the interval that holds the true value 95 times in 100, where it can be told."""
    what: str = ""


@dataclasses.dataclass
class Seen:
    """What one pass over a set leaves in memory."""

    features: np.ndarray
    """(N, F) float32."""
    small: np.ndarray
    """The first BY_PIXELS pictures, small: (n, h, w, 3) uint8."""
    whole: np.ndarray
    """(N,) the recogniser's scores; empty without one."""
    probabilities: dict[str, np.ndarray]
    """Attribute -> what the tagger sees, (N, V); empty without one."""
    said: dict[str, np.ndarray]
    """Attribute -> index of the value that the picture is to show, (N,) int64, -1 where unknown."""


@dataclasses.dataclass
class Lenses:
    """The networks that look at pictures."""

    extractor: Extractor
    tagger: Any = None
    """Tells attributes; None leaves out what needs it."""
    tagger_name: str = ""
    recogniser: Recogniser | None = None
    recogniser_name: str = ""


def look(source: Source, lenses: Lenses, common: Size, *, batch: int, name: str = "") -> Seen:
    """Shows every picture of `source` to every network, `batch` at a time. ValueError if there are fewer than 4."""
    total = source.total()
    features, small, whole = Rows(total), Rows(min(total, BY_PIXELS)), Rows(total)
    seen = {attribute: Rows(total) for attribute in (lenses.tagger.attributes if lenses.tagger else ())}
    said: dict[str, list[int]] = {attribute: [] for attribute in seen if attribute in source.attributes()}
    size = small_size(common)
    for group in _groups(tqdm(source, desc=name or None, total=total, unit="picture", disable=None), batch):
        pictures = [center_crop(picture, *common) for picture, _ in group]
        features.add(lenses.extractor(np.stack([lenses.extractor.fit(p, common) for p in pictures])))
        some = pictures[: BY_PIXELS - small.count]
        if some:
            small.add(np.stack([center_crop(picture, *size) for picture in some]))
        if lenses.recogniser is not None:
            fitted = np.stack([fit(picture, lenses.recogniser) for picture in pictures])
            whole.add(score(to_float(fitted), lenses.recogniser).numpy())
        for attribute, values in _tag(lenses, pictures).items():
            seen[attribute].add(values)
        for attribute, labels in said.items():
            known = list(lenses.tagger.attributes[attribute])
            asked = [shown.get(attribute, "") for _, shown in group]
            labels += [known.index(value) if value in known else -1 for value in asked]
    if features.count < 4:
        raise ValueError(f"{name}: {features.count} pictures that can be read are too few to be scored; give 4 or more")
    return Seen(
        features.array,
        small.array,
        whole.array if lenses.recogniser is not None else np.empty(0),
        {attribute: rows.array for attribute, rows in seen.items()},
        {attribute: np.array(labels, dtype=np.int64) for attribute, labels in said.items()},
    )


def small_size(common: Size) -> Size:
    """The size that pixels are compared at: no more than PIXELS on the shorter side."""
    scale = min(1.0, PIXELS / min(common))
    return max(1, round(common[0] * scale)), max(1, round(common[1] * scale))


@torch.inference_mode()
def _tag(lenses: Lenses, pictures: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    if lenses.tagger is None:
        return {}
    fitted = np.stack([lenses.tagger.fit(picture) for picture in pictures])
    found = lenses.tagger.probabilities(to_float(fitted))
    return {attribute: values.float().cpu().numpy() for attribute, values in found.items()}


def _groups(items: Any, size: int) -> Iterator[list[Any]]:
    group = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def score_all(seen: Seen, lenses: Lenses, common: Size, reference: Reference | None) -> list[Score]:
    """Every score, those that count most first."""
    found = [] if reference is None else against(seen.features, reference)
    found += [] if reference is None else by_pixels(seen, reference)
    return found + alone(seen, lenses, common)


def against(fake: np.ndarray, reference: Reals) -> list[Score]:
    """What is measured between the features of a set, (N, F), and those of the real pictures."""
    real = reference.features
    if len(real) < 4:
        raise ValueError(f"{len(real)} real pictures are too few to compare with; give 4 or more")
    near_real = reference.near
    lie = metrics.manifold(fake, real, metrics.neighbours(fake), near_real)
    new, copies = metrics.uniqueness(lie, near_real)
    frechet = metrics.frechet(metrics.statistics(fake), reference.statistics)
    kernel = metrics.kernel_distance(fake, real)
    extractor = reference.extractor
    note = f"{extractor.name} {extractor.hash[:8]}", extractor.resizer(reference.common), len(fake), len(real)

    def made(name: str, value: float, better: Better, what: str, of: Estimate | None = None) -> Score:
        return Score(name, value, better, *note, *(of[1:] if of else (None, None)), what)

    distances = [
        made("frechet", frechet, "lower", "Fréchet distance"),
        made("kernel", kernel.value, "lower", "kernel distance", kernel),
    ]
    return [
        *(distances if len(fake) >= ENOUGH else distances[::-1]),
        made("precision", lie.precision, "higher", "precision: pictures that look real"),
        made("recall", lie.recall, "higher", "recall: reals within reach"),
        made("density", lie.density, "higher", "density: how far inside the reals"),
        made("coverage", lie.coverage, "higher", "coverage: reals with a picture nearby"),
        made("uniqueness", new, "near 1", "uniqueness: distance to the nearest real, to a real one's"),
        made("copies", copies, "lower", "copies of a real picture"),
    ]


def by_pixels(seen: Seen, reference: Reference) -> list[Score]:
    """Sedov's: how near the nearest real picture is, and how alike in entropy."""
    size = (seen.small.shape[2], seen.small.shape[1])
    error = np.full(len(seen.small), np.inf)
    entropy, count = np.zeros(len(seen.small)), 0
    for block in tqdm(reference.pictures(size), desc="by pixels", disable=None):
        index, value = metrics.nearest_pictures(seen.small, block)
        nearer = value < error
        entropies = metrics.grey_entropy(block[index[nearer]])
        error[nearer], entropy[nearer] = value[nearer], entropies
        count += len(block)
    alike = metrics.entropy_similarity(metrics.grey_entropy(seen.small), entropy)
    note = "pixels", f"{size[0]}x{size[1]}, cropped, Lanczos", len(error), count
    rows: list[tuple[str, np.ndarray, Better, str]] = [
        ("nearest_mse", error, "lower", "squared error to the nearest real, grey levels"),
        ("entropy_similarity", alike, "higher", "entropy, of the nearest real's"),
    ]
    return [
        Score(name, e.value, way, *note, e.low, e.high, what) for name, v, way, what in rows for e in [metrics.mean(v)]
    ]


def alone(seen: Seen, lenses: Lenses, common: Size) -> list[Score]:
    """What needs no real pictures."""
    extractor, n = lenses.extractor, len(seen.features)
    where = f"{extractor.name} {extractor.hash[:8]}", extractor.resizer(common)
    spread = metrics.diversity(seen.features)
    found = [Score("diversity", spread[0], "higher", *where, n, 0, *spread[1:], "diversity: distance of two pictures")]
    if extractor.distance is not None:
        value = lpips(seen.small, extractor)
        size = f"{seen.small.shape[2]}x{seen.small.shape[1]}, cropped, Lanczos"
        about = "lpips", value[0], "higher", where[0], size, len(seen.small), 0
        found.append(Score(*about, *value[1:], "LPIPS of two pictures"))  # type: ignore[arg-type]
    if len(seen.whole):
        value, by = metrics.mean(seen.whole), lenses.recogniser_name
        found.append(Score("whole", value[0], "higher", by, where[1], n, 0, *value[1:], "whole, not distorted"))
    for attribute, probabilities in seen.probabilities.items():
        value, by = metrics.inception_score(probabilities, splits=max(1, min(10, n // 100))), lenses.tagger_name
        what = f"inception-style score of {attribute}"
        found.append(Score(f"inception/{attribute}", value[0], "higher", by, where[1], n, 0, *value[1:], what))
    return found + obeyed(seen, lenses, where[1])


def obeyed(seen: Seen, lenses: Lenses, resizer: str) -> list[Score]:
    """How often a picture shows what it is asked to, as the tagger sees it, and for each value."""
    found = []
    for attribute, labels in seen.said.items():
        if not (labels >= 0).any():
            continue
        values = [None, *sorted(set(labels[labels >= 0].tolist()))]
        for value in values:
            chosen = labels if value is None else np.where(labels == value, labels, -1)
            right = metrics.accuracy(seen.probabilities[attribute], chosen)
            short = attribute if value is None else f"{attribute}={lenses.tagger.attributes[attribute][value]}"
            note = lenses.tagger_name, resizer, int((chosen >= 0).sum()), 0
            what = f"shows its {attribute}" if value is None else f"  {short}"
            found.append(Score(f"accuracy/{short}", right[0], "higher", *note, *right[1:], what))
    return found


@torch.inference_mode()
def lpips(pictures: np.ndarray, extractor: Extractor) -> Estimate:
    """Mean LPIPS of random pairs of pictures (N, H, W, 3) uint8."""
    assert extractor.distance is not None
    found = []
    for part in np.array_split(metrics.random_pairs(len(pictures), LPIPS_PAIRS), LPIPS_PAIRS // 50):
        a, b = (to_float(pictures[part[:, side]]).to(extractor.device) for side in (0, 1))
        found.append(extractor.distance(a, b).float().cpu().numpy())
    return metrics.mean(np.concatenate(found), len(pictures))


def as_json(found: Sequence[Score]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(score) for score in found]


def number(value: float) -> str:
    """Four digits that count, without an exponent in the range where people read numbers."""
    return f"{value:.4g}" if 1e-4 <= abs(value) < 1e5 or value == 0 else f"{value:.2e}"


def table(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """The scores as lines of a terminal."""
    lines = []
    for row in found:
        between = "" if row["low"] is None else f"{number(row['low'])} to {number(row['high'])}"
        better = f"{row['better']} is better" if row["better"] != "near 1" else "about 1 is new"
        lines.append(f"  {row['what']:<58} {number(row['value']):>9}  {between:<22} {better}")
    return lines
