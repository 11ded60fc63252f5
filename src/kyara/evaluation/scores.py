"""All scores of a set of pictures: one pass through the networks, then all metrics with confidence intervals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from kyara.curation import copies
from kyara.curation.copies import Index
from kyara.curation.scoring import crop, fitted, load_scorer
from kyara.evaluation import metrics
from kyara.evaluation.features import FeatureExtractor, RowBuffer, Size, chunked, load_extractor, resized
from kyara.evaluation.metrics import Estimate
from kyara.evaluation.ranking import RankScore
from kyara.evaluation.sets import Labelled, PictureSet, RealFeatures, RealSet, evenly_spaced
from kyara.evaluation.shared import FEATURES, FRECHET_COUNT, TAGGER
from kyara.evaluation.statistics import NEIGHBOURS, fit_gaussian, neighbour_distances
from kyara.files.dataset import Dataset
from kyara.files.gallery_page import MARK
from kyara.files.names import counted
from kyara.files.pictures import center_crop, to_float
from kyara.files.workers import processors, thread_map
from kyara.labels.tagger import load_tagger
from kyara.training.inference import move

DISTORTION = "builtin:distortion"
PIXEL_COUNT, PIXEL_SIDE = 512, 64
"""Maximum number of pictures compared by pixels, and maximum length of their shorter side."""
FEWEST = NEIGHBOURS + 1  # pictures of either set, for precision and recall
LPIPS_PAIRS = 1000
Better = Literal["higher", "lower", "near 1", "neither"]
"""Which values are better. The scores of pixels say neither: blurred pictures have small errors, noise has entropy."""


@dataclass(frozen=True)
class Score:
    """A value and the settings it depends on."""

    name: str
    value: float
    better: Better
    features: str  # Feature space: the network and the hash of its weights, or pixels
    resizer: str
    pictures: int
    reals: int  # 0 for scores that need no real pictures
    low: float | None
    high: float | None  # The 95% confidence interval, where one is known, within `range`
    what: str
    range: tuple[float | None, float | None]  # Range of the score; None means no limit


class Metric(NamedTuple):
    """Description and range of a score."""

    name: str
    what: str
    better: Better
    highest: float | None = None
    lowest: float | None = 0.0

    def score(self, found: float | Estimate, features: str, resizer: str, pictures: int, reals: int = 0) -> Score:
        limits = self.lowest, self.highest
        value, low, high = (found if isinstance(found, Estimate) else Estimate(found)).clipped(*limits)
        return Score(self.name, value, self.better, features, resizer, pictures, reals, low, high, self.what, limits)


FRECHET = Metric("frechet", "Fréchet distance", "lower")
KID = Metric("kid", "KID", "lower", lowest=None)  # unbiased, so it may be slightly negative
PRECISION = Metric("precision", "precision: pictures that look real", "higher", 1.0)
RECALL = Metric("recall", "recall: real pictures that are covered", "higher", 1.0)
UNIQUENESS = Metric("uniqueness", "uniqueness: relative distance to the nearest real", "near 1")
COPIES = Metric("copies", "copies of a real picture", "lower", 1.0)
NEAREST_MSE = Metric("nearest_mse", "squared error to the nearest real, grey levels", "neither", 255.0**2)
ENTROPY = Metric("entropy_similarity", "entropy, relative to the nearest real's", "neither", 1.0)
DIVERSITY = Metric("diversity", "diversity: distance of two pictures", "higher")
LPIPS = Metric("lpips", "LPIPS of two pictures", "higher")
RANK = Metric("rank_score", "score of kyara rank: whole and typical", "higher", 1.0)


@dataclass(frozen=True)
class Networks:
    """The networks used for scores."""

    extractor: FeatureExtractor
    ranker: RankScore
    tagger: Any  # None skips the scores of attributes
    tagger_name: str
    originals: Index | None = None  # The real pictures that others may be copies of


def load_networks(
    features: str,
    tagger: str | None,
    device: torch.device,
    *,
    size: Size,
    attributes: Sequence[str],
    reals: Dataset | None = None,
) -> Networks:
    """Loads extractor, distortion scorer, the tagger, and the copy descriptor if there are real pictures. A `tagger` of
    None is `TAGGER` if `attributes` is not empty or its features are used. `size` is that to which all pictures are
    resized first."""
    extractor, ranker = load_extractor(features, device), RankScore(load_scorer(DISTORTION, device), size, reals)
    if tagger is None:
        tagger = TAGGER if attributes or features in (FEATURES, TAGGER) else "none"
    originals = None if reals is None else Index(reals, str(device), workers=processors())
    return Networks(extractor, ranker, load_tagger(tagger, device) if tagger != "none" else None, tagger, originals)


@dataclass
class Outputs:
    """Outputs of the networks for a set."""

    features: np.ndarray  # (N, F) float32
    small: np.ndarray  # PIXEL_COUNT pictures, evenly spaced, downsampled: (n, h, w, 3) uint8
    ranked: np.ndarray  # Scores by `RankScore`, (N,)
    unfamiliar: bool  # Whether these scores are not calibrated
    probabilities: dict[str, np.ndarray]  # Attribute -> probabilities by the tagger, (N, V); empty without a tagger
    labels: dict[str, np.ndarray]
    """Attribute -> index of the value that the picture should show, (N,) int64; -1 where it is unknown."""
    queries: copies.Queries | None = None  # for `Networks.originals`


def run_networks(source: PictureSet, networks: Networks, size: Size, *, batch: int, name: str) -> Outputs:
    """Runs all networks over a set, `batch` pictures at a time. ValueError for fewer than 4 readable pictures."""
    total, tagger = source.total(), networks.tagger
    features, small, ranked = RowBuffer(total), RowBuffer(min(total, PIXEL_COUNT)), RowBuffer(total)
    compared = {*evenly_spaced(total, PIXEL_COUNT)}
    originals, queried = networks.originals, (RowBuffer(total), RowBuffer(total))
    known: Mapping[str, Sequence[str]] = tagger.attributes if tagger else {}
    tagged = {attribute: RowBuffer(total) for attribute in known}
    labels: dict[str, list[int]] = {attribute: [] for attribute in known if attribute in source.attributes()}
    progress = tqdm(source, desc=name, total=total, unit="picture", disable=None)
    for group in chunked(_inputs(progress, networks, size), batch):
        if some := [inputs.picture for i, (inputs, _) in enumerate(group, features.count) if i in compared]:
            small.add(np.stack([center_crop(picture, *small_size(size)) for picture in some]))
        features.add(networks.extractor(np.stack([inputs.extractor for inputs, _ in group])))
        ranked.add(networks.ranker([inputs.ranker for inputs, _ in group]))
        if originals:
            fitting = fitted([inputs.picture for inputs, _ in group], originals.model)
            for buffer, part in zip(queried, copies.describe(originals.model, to_float(fitting)), strict=True):
                buffer.add(part)
        for attribute, values in _tag(tagger, [inputs.tagger for inputs, _ in group]).items():
            tagged[attribute].add(values)
        for attribute, indices in labels.items():
            index = {value: i for i, value in enumerate(known[attribute])}
            indices += [index.get(shown.get(attribute, ""), -1) for _, shown in group]
    if features.count < FEWEST:
        readable = counted(features.count, "picture")
        raise ValueError(f"{name}: {readable} can be read, too few for scores; give {FEWEST} or more")
    predicted = {attribute: rows.array for attribute, rows in tagged.items()}
    expected = {attribute: np.array(indices, dtype=np.int64) for attribute, indices in labels.items()}
    queries = copies.Queries(*(buffer.array for buffer in queried)) if originals else None
    scores, styles = ranked.array.T
    unfamiliar = networks.ranker.unfamiliar(styles)
    return Outputs(features.array, small.array, scores, unfamiliar, predicted, expected, queries)


def small_size(size: Size) -> Size:
    """The size at which pixels are compared: the shorter side at most PIXEL_SIDE."""
    scale = min(1.0, PIXEL_SIDE / min(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


class Inputs(NamedTuple):
    """A picture, (H, W, 3) uint8, at the sizes of the networks."""

    picture: np.ndarray  # At the size at which sets are compared
    extractor: np.ndarray
    ranker: np.ndarray
    tagger: np.ndarray | None


def _inputs(pictures: Iterable[Labelled], networks: Networks, size: Size) -> Iterator[tuple[Inputs, Mapping[str, str]]]:
    """The pictures, resized by threads, with their labels."""

    def resized(labelled: Labelled) -> Inputs:
        picture = center_crop(labelled[0], *size)
        tagged = networks.tagger.fit(picture) if networks.tagger else None
        return Inputs(picture, networks.extractor.resize(picture, size), crop(picture, networks.ranker.scorer), tagged)

    threads = processors()
    for (_, labels), inputs in thread_map(resized, pictures, threads, 4 * threads):
        if isinstance(inputs, Exception):
            raise inputs
        yield inputs, labels


@torch.inference_mode()
def _tag(tagger: Any, pictures: Sequence[Any]) -> dict[str, np.ndarray]:
    if tagger is None:
        return {}
    found = tagger.probabilities(to_float(move(torch.from_numpy(np.stack(pictures)), tagger.device)))
    return {attribute: values.float().cpu().numpy() for attribute, values in found.items()}


def all_scores(outputs: Outputs, networks: Networks, size: Size, real: RealSet | None) -> list[Score]:
    """All scores, the most important ones first; without real pictures, only those that need none."""
    own = single_set_scores(outputs, networks, size)
    if real is None:
        return own
    compared = distribution_scores(outputs.features, real)
    return [*compared, *copy_scores(outputs, networks, size), *pixel_scores(outputs.small, real), *own]


def copy_scores(outputs: Outputs, networks: Networks, size: Size) -> list[Score]:
    """The share of pictures that are copies of a real one, as `kyara rank --copies-of` marks them."""
    originals = networks.originals
    if originals is None or outputs.queries is None:
        return []
    marked, model = originals.scores(outputs.queries) >= MARK, originals.model
    resizer = resized(size, (model.config.data.width, model.config.data.height))
    label = f"{copies.MODEL} {model.checkpoint.hash[:8]}"
    return [COPIES.score(metrics.share(marked), label, resizer, len(marked), len(originals.dataset))]


def distribution_scores(fake: np.ndarray, real: RealFeatures) -> list[Score]:
    """Scores between the features of a set, (N, F), and those of the real pictures."""
    if len(real.features) < FEWEST:
        raise ValueError(f"{counted(len(real.features), 'real picture')} can be read, too few; give {FEWEST} or more")
    found = metrics.manifolds(fake, real.features, neighbour_distances(fake), real.neighbours)
    uniqueness = metrics.uniqueness(found, real.neighbours)
    frechet, kid = metrics.frechet(fit_gaussian(fake), real.gaussian), metrics.kid(fake, real.features)
    distances: list[tuple[Metric, float | Estimate]] = [(FRECHET, frechet), (KID, kid)]
    distances = distances if len(fake) >= FRECHET_COUNT else distances[::-1]
    values = found.precision, found.recall, uniqueness
    others = zip((PRECISION, RECALL, UNIQUENESS), values, strict=True)
    note = real.extractor.label, real.extractor.resizer(real.size), len(fake), len(real.features)
    return [metric.score(value, *note) for metric, value in (*distances, *others)]


def pixel_scores(small: np.ndarray, real: RealSet) -> list[Score]:
    """Sedov's scores of pictures (N, h, w, 3) uint8: squared error to the nearest real one, similarity of entropies."""
    error, entropy, count = np.full(len(small), np.inf), np.zeros(len(small)), 0
    for block in tqdm(real.pictures((small.shape[2], small.shape[1])), desc="by pixels", disable=None):
        index, value = metrics.nearest_pictures(small, block)
        nearer = value < error
        error[nearer], entropy[nearer] = value[nearer], metrics.grey_entropy(block[index[nearer]])
        count += len(block)
    similarity = metrics.entropy_similarity(metrics.grey_entropy(small), entropy)
    note = "pixels", _small_resizer(small), len(small), count
    return [NEAREST_MSE.score(metrics.mean(error), *note), ENTROPY.score(metrics.mean(similarity), *note)]


def single_set_scores(outputs: Outputs, networks: Networks, size: Size) -> list[Score]:
    """Scores that need no real pictures."""
    extractor, n = networks.extractor, len(outputs.features)
    resizer = extractor.resizer(size)
    found = [DIVERSITY.score(metrics.diversity(outputs.features), extractor.label, resizer, n)]
    if extractor.distance is not None:
        note = extractor.label, _small_resizer(outputs.small), len(outputs.small)
        found.append(LPIPS.score(lpips(outputs.small, extractor), *note))
    found.append(rank_score(outputs.ranked, networks.ranker))
    seen = resized(size, networks.tagger.size) if networks.tagger else ""
    for attribute, probabilities in outputs.probabilities.items():
        what, classes = f"inception-style score of {attribute}", float(probabilities.shape[1])
        metric = Metric(f"inception/{attribute}", what, "higher", classes, lowest=1.0)
        value = metrics.inception_score(probabilities, splits=max(1, min(10, n // 100)))
        found.append(metric.score(value, networks.tagger_name, seen, n))
    return found + label_scores(outputs, networks, seen)


def rank_score(ranked: np.ndarray, ranker: RankScore) -> Score:
    """The mean of scores (N,) by `RankScore`."""
    compared = "" if ranker.judge is None else ", like the real pictures"
    return RANK.score(metrics.mean(ranked), f"{DISTORTION} and content{compared}", ranker.resizer, len(ranked))


def label_scores(outputs: Outputs, networks: Networks, resizer: str) -> list[Score]:
    """Share of pictures for which the tagger predicts their label, for each attribute and each of its values."""
    found = []
    for attribute, labels in outputs.labels.items():
        present = sorted(set(labels[labels >= 0].tolist()))
        for index in [None, *present] if present else []:
            chosen = labels if index is None else np.where(labels == index, labels, -1)
            short = attribute if index is None else f"{attribute}={networks.tagger.attributes[attribute][index]}"
            what = f"shows its {attribute}" if index is None else f"  {short}"
            value = metrics.accuracy(outputs.probabilities[attribute], chosen)
            metric = Metric(f"accuracy/{short}", what, "higher", 1.0)
            found.append(metric.score(value, networks.tagger_name, resizer, int((chosen >= 0).sum())))
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
