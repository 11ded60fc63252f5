"""Proposals: several drawings of one person that differ, the best first.

Many latents are drawn with the labels that keep the person. Broken drawings are excluded by the distortion score; the
others are compared with the photo by their landmarks and their mouths. Then drawings are chosen one by one, each of
them good and different from those before it (maximal marginal relevance, Carbonell and Goldstein 1998)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kyara.curation.scoring import score_pictures
from kyara.files.pictures import quantise, to_float, to_uint8
from kyara.generation.pipeline import turn_heads
from kyara.generation.sampler import synthesise
from kyara.generation.shots import Shot, turned
from kyara.generation.styles import pack
from kyara.inversion.reading import Reading
from kyara.labels.colours import lab
from kyara.labels.tagger import Tagger
from kyara.models.base import Scorer, StyledGenerator, latents
from kyara.perception import landmarks, portrait

CANDIDATES, BATCH = 192, 16  # drawings to choose from, and how many are computed together
WHOLE, FEWEST = 0.8, 4  # minimum score, unless fewer than so many times the proposals reach it
ENOUGH = 0.9  # scores are clamped to this: higher ones only say that a drawing is like the average
MOUTH = 2.0  # weight of the mouth
CLOSED, OPEN = 0.06, 0.25  # share of the pixels at the mouth that are not skin, in drawings of either kind
SKIN_DISTANCE = 14.0  # CIELAB distance from which a pixel is not skin
SKIN, TONE = 1.5, 12.0  # weight of the tone of the skin; lightness in CIELAB that is far from the usual one
LENGTHS = ((0.64, 0.087), (1.03, 0.114), (1.61, 0.097))
"""Mean and standard deviation of the heights of nose, mouth and chin below the eyes, in distances between the eyes, as
found in photos of people by `builtin:landmarks`."""
LENGTH, LARGEST = 0.15, 2.0  # weight of the lengths of a face; their maximum, in standard deviations
DIFFERENCE = 1.0  # weight of the difference from the proposals before against the logarithm of the quality
LIKELY = 1.0  # weight of the logarithm of how probable labels are
LEAST = 0.02  # minimum probability that a drawing shows a label
UNREAD = 2  # separates the random numbers of unread labels from those of the latent of the same seed
LABEL = 0.3  # difference of two drawings in which one label differs, against the median of their features


@dataclass
class Proposals:
    """Drawings of one person, the best first."""

    pictures: np.ndarray  # (K, H, W, 3) uint8
    shots: list[Shot]  # latents, labels and turns
    scores: list[float]  # probabilities that they are undistorted, before the heads are turned


class Proposer:
    """Draws proposals with one generator."""

    def __init__(self, generator: StyledGenerator, scorer: Scorer, embedder: Tagger, judge: Tagger | None) -> None:
        """`embedder` measures how much two drawings differ, `judge` reads whether they show their labels."""
        self.generator, self.scorer, self.embedder, self.judge = generator, scorer, embedder, judge
        self.attributes = generator.config.data.attributes
        self.device = next(generator.parameters()).device

    @torch.inference_mode()
    def propose(self, photo: np.ndarray, reading: Reading, seed: int, count: int) -> Proposals:
        """`count` drawings of an aligned photo (H, W, 3) uint8. The same seed gives the same drawings."""
        random = np.random.RandomState(seed)
        seeds = [(seed + i) % 2**32 for i in range(CANDIDATES)]
        labels = [self._complete(reading.draw(random), reading.unread, one) for one in seeds]
        styles = torch.cat([self._styles(seeds[i : i + BATCH], labels[i : i + BATCH]) for i in _starts()])
        pictures = torch.cat([quantise(self.generator.synthesise(styles[i : i + BATCH])) for i in _starts()])
        made = pictures.cpu().numpy()
        scores = np.array(score_pictures(pictures, self.scorer))
        whole = np.flatnonzero(scores >= np.minimum(WHOLE, np.sort(scores)[-FEWEST * count]))
        skins = [labels[i].get("skin", "") for i in whole]
        quality = self._quality(photo, made[whole], scores[whole], reading.mouth_open, skins)
        quality += LIKELY * np.array([reading.likely(labels[i]) for i in whole])
        quality += self._shown(made[whole], [labels[i] for i in whole])
        chosen = whole[choose(quality, self._differences(made[whole], [labels[i] for i in whole]), count)]
        # A batch may compute in another order: the drawings are as `generate --like` makes them again.
        shots = [turned({"latent": pack(styles[i]), "labels": labels[i]}, reading.turn) for i in chosen]
        straight = (synthesise(self.generator, styles[[i]]) for i in chosen)
        redrawn = [to_uint8(turn_heads(one, [shot]))[0] for one, shot in zip(straight, shots, strict=True)]
        return Proposals(np.stack(redrawn), shots, scores[chosen].tolist())

    def _complete(self, labels: dict[str, str], unread: Sequence[str], seed: int) -> dict[str, str]:
        """The labels, and any for the attributes that the reader does not know, so that drawings vary."""
        random = np.random.RandomState([seed, UNREAD])
        return {name: str(random.choice(self.attributes[name])) for name in unread} | labels

    def _styles(self, seeds: Sequence[int], labels: Sequence[Mapping[str, str]]) -> Tensor:
        """Styles (B, layers, w_dim), without truncation."""
        known = {
            name: torch.tensor([values.index(one[name]) if name in one else -1 for one in labels], device=self.device)
            for name, values in self.attributes.items()
        }
        return self.generator.styles(latents(seeds, self.generator.z_dim).to(self.device), known)

    def _quality(
        self, photo: np.ndarray, made: np.ndarray, scores: np.ndarray, mouth_open: float | None, skins: Sequence[str]
    ) -> np.ndarray:
        """The logarithm of the quality of drawings (N, H, W, 3) uint8 of a photo, (N,). `skins` are their labels."""
        quality = np.log(np.clip(scores, 1e-3, ENOUGH))
        points, theirs = find(made, self.device), find(photo[None], self.device)
        shares, tones = np.array([mouth(picture, at) for picture, at in zip(made, points, strict=True)]).T
        quality -= SKIN * far_from_median(tones, skins)
        if mouth_open is not None:
            target = CLOSED + (OPEN - CLOSED) * mouth_open
            quality -= MOUTH * np.abs(shares.clip(CLOSED, OPEN) - target) / (OPEN - CLOSED)
        mean, std = np.array(LENGTHS).T
        drawn = lengths(points)
        ours = ((drawn - drawn.mean(0)) / drawn.std(0).clip(1e-6)).clip(-LARGEST, LARGEST)
        wanted = ((lengths(theirs) - mean) / std).clip(-LARGEST, LARGEST)
        return np.asarray(quality - LENGTH * np.abs(ours - wanted).mean(1))

    def _shown(self, made: np.ndarray, labels: Sequence[Mapping[str, str]]) -> np.ndarray:
        """The logarithm of the probability that drawings (N, H, W, 3) uint8 show their labels, (N,); 0
        without a judge."""
        if self.judge is None:
            return np.zeros(len(made))
        fitted = to_float(np.stack([self.judge.fit(picture) for picture in made]))
        read = [self.judge.probabilities(part) for part in fitted.split(64)]
        found = np.zeros(len(made))
        for name, values in self.judge.attributes.items():
            index = np.array([values.index(one[name]) if name in one else -1 for one in labels])
            shown = torch.cat([part[name] for part in read]).cpu().numpy()[np.arange(len(made)), index]
            found += np.where(index >= 0, np.log(np.maximum(shown, LEAST)), 0)
        return found

    def _differences(self, made: np.ndarray, labels: Sequence[Mapping[str, str]]) -> np.ndarray:
        """How much drawings (N, H, W, 3) uint8 differ from each other (N, N): 1 is the median."""
        fitted = to_float(np.stack([self.embedder.fit(picture) for picture in made]))
        features = torch.cat([self.embedder.embed(part) for part in fitted.split(64)]).numpy()
        far = 1 - features @ features.T
        values = np.array([[one.get(name, "") for name in self.attributes] for one in labels])
        others = (values[:, None] != values[None]).sum(2)
        return np.asarray(far / max(float(np.median(far)), 1e-6) + LABEL * others)


def _starts() -> range:
    return range(0, CANDIDATES, BATCH)


def choose(quality: np.ndarray, differences: np.ndarray, count: int) -> list[int]:
    """Indices of `count` of N drawings with the logarithms of their quality (N,) and differences (N, N): the best, and
    then each time the one that is best and most different from those before. Sorted by quality after the first."""
    chosen = [int(quality.argmax())]
    while len(chosen) < min(count, len(quality)):
        gain = quality + DIFFERENCE * np.minimum(differences[:, chosen].min(1), 1.5)
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
    return sorted(chosen, key=lambda i: -quality[i])


def find(pictures: np.ndarray, device: torch.device) -> np.ndarray:
    """Landmarks (N, 12, 2), as fractions of the sides, of pictures (N, H, W, 3) uint8."""
    parts = to_float(pictures).to(device).split(BATCH)
    return torch.cat([landmarks.find(part).float().cpu() for part in parts]).numpy()


def lengths(points: np.ndarray) -> np.ndarray:
    """Heights (N, 3) of nose, mouth and chin below the eyes of landmarks (N, 12, 2), in distances between the eyes."""
    eyes, apart = portrait.centres(torch.from_numpy(points))
    below = np.stack([points[:, 8, 1], points[:, 9:11, 1].mean(1), points[:, 11, 1]], 1)
    return np.asarray((below - eyes.numpy().mean(1)[:, 1:]) / apart.numpy()[:, None])


def far_from_median(values: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """How far values (N,) are from the median of their group, in `TONE`, at most 1; 0 for the group "" of drawings
    without a label, in which no tone is more usual than another."""
    names = np.array(groups)
    medians = {name: np.median(values[names == name]) for name in {*groups}}
    away = np.abs(values - np.array([medians[name] for name in groups]))
    return np.where(names == "", 0.0, np.minimum(away / TONE, 1))


def mouth(picture: np.ndarray, points: np.ndarray) -> tuple[float, float]:
    """How open the mouth of a drawing (H, W, 3) uint8 with landmarks (12, 2) is: the share of the pixels around the
    mouth that have another colour than the skin beside it. And the lightness of that skin, in CIELAB."""
    _, apart = portrait.centres(torch.from_numpy(points)[None])
    size = np.array(picture.shape[1::-1])
    (x, y), far = points[9:11].mean(0) * size, float(apart[0]) * size[0]
    top, bottom = max(int(y - 0.16 * far), 0), max(int(y + 0.26 * far), 1)
    left, right = max(int(x - 0.28 * far), 1), min(int(x + 0.28 * far), picture.shape[1] - 1)
    colours = lab(picture[top:bottom, max(int(x - 0.5 * far), 0) : int(x + 0.5 * far)] / 255)
    first = left - max(int(x - 0.5 * far), 0)
    inside, beside = colours[:, first : first + right - left], np.delete(colours, slice(first, first + right - left), 1)
    if not inside.size or not beside.size:
        return 0.0, 0.0
    skin = np.median(beside.reshape(-1, 3), 0)
    away = np.linalg.norm((inside - skin) * (0.7, 1, 1), axis=2)
    return float((away > SKIN_DISTANCE).mean()), float(skin[0])
