"""Losses of the generator of CartoonGAN. To add one, add a function of `Step`, an entry in `KEEP` or `DRAW`, and a
weight of the same name in `LossConfig`. Losses with weight 0 are not computed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.models.cartoongan.config import LossConfig
from kyara.models.cartoongan.painting import YUV, cel, grey, yuv
from kyara.nn.constants import constant
from kyara.nn.losses import least_squares
from kyara.perception import landmarks, portrait
from kyara.perception.features import gram, load_features, unit

SMALLEST = 32  # minimum shorter side of the input of the frozen network, in pixels
EYES_WEIGHT = 5.0  # additional weight of the eyes in the cel loss


@dataclass
class Step:
    """Inputs of the losses in one step."""

    config: LossConfig
    made: Tensor  # output of the generator, (B, 3, H, W)
    photos: Tensor  # photos with enlarged eyes, (B, 3, H, W)
    drawings: Tensor  # unpaired drawings, (B, 3, H, W)
    points: Tensor | None  # landmarks (B, K, 2) of the photos; None if no loss needs them
    discriminate: Callable[[Tensor], Sequence[Tensor]]  # logits of augmented pictures, at two scales

    @functools.cached_property
    def features(self) -> list[Tensor]:
        """Features of the output in the frozen network."""
        return features(self.made, self.config)


Loss = Callable[[Step], Tensor]


def features(pictures: Tensor, config: LossConfig) -> list[Tensor]:
    """Features of pictures in the frozen network; larger pictures are resized to `features_size`."""
    scale = config.features_size / min(pictures.shape[2:])
    if scale < 1:
        pictures = F.interpolate(pictures, scale_factor=scale, mode="bilinear", antialias=True)
    smallest = tuple(max(side, SMALLEST) for side in pictures.shape[2:])
    if smallest != pictures.shape[2:]:
        pictures = F.interpolate(pictures, smallest, mode="bilinear")
    return load_features(config.features, pictures.device)(pictures)


def gan(logits: Sequence[Tensor], real: bool, config: LossConfig) -> Tensor:
    """GAN loss of the logits of several discriminators, with target real or fake."""
    if config.least_squares:
        return mean([least_squares(x, float(real)) for x in logits])
    return mean([F.softplus(-x if real else x).mean() for x in logits])


def mean(losses: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(losses)).mean()


def content(step: Step) -> Tensor:
    """L1 of normalised feature vectors (Chen et al. 2018, equation 5)."""
    pairs = zip(step.features, features(step.photos, step.config), strict=True)
    return mean([F.l1_loss(unit(a), unit(b)) for a, b in pairs])


def colour(step: Step) -> Tensor:
    """L1 of luminance and Huber of chrominance, in YUV (AnimeGANv2, colour reconstruction loss)."""
    a, b = yuv(step.made), yuv(step.photos)  # (3, B, H, W)
    return F.l1_loss(a[0], b[0]) + F.huber_loss(a[1], b[1]) + F.huber_loss(a[2], b[2])


def chrominance(step: Step) -> Tensor:
    """L1 of chrominance, the mean of both channels. The Huber loss is quadratic there, with small gradients."""
    rows = constant(YUV[1:], step.made)
    a, b = (torch.einsum("kc,bchw->bkhw", rows, (x.float() + 1) / 2) for x in (step.made, step.photos))
    return F.l1_loss(a, b)


def cel_distance(step: Step) -> Tensor:
    """L1 to the filtered photo, with a higher weight for eyes, which are small. Without the gaze network, eyes are
    filtered with more detail."""
    if step.points is None:
        return F.l1_loss(step.made, cel(step.photos))
    eyes = portrait.around_eyes(step.points, *step.photos.shape[2:])
    return ((step.made - cel(step.photos, None if step.config.gaze else eyes)).abs() * (1 + EYES_WEIGHT * eyes)).mean()


def adversarial(step: Step) -> Tensor:
    """GAN loss of the generator."""
    return gan(step.discriminate(step.made), True, step.config)


def grayscale(step: Step) -> Tensor:
    """Relative L1 of the Gram matrices of the grey output and the mean of grey drawings (AnimeGANv2)."""
    made = features(grey(step.made), step.config)
    with torch.no_grad():
        target = [gram(maps).mean(0) for maps in features(grey(step.drawings), step.config)]
    return mean([(gram(a) - b).abs().mean() / b.abs().mean() for a, b in zip(made, target, strict=True)])


def landmark(step: Step) -> Tensor:
    """Distance of the landmarks of output and photo, relative to the distance between the eyes."""
    assert step.points is not None
    return portrait.distance(landmarks.find(step.made), step.points)


def tv(step: Step) -> Tensor:
    """Total variation: mean squared difference of horizontal and vertical neighbours."""
    return step.made.diff(dim=3).square().mean() + step.made.diff(dim=2).square().mean()


KEEP: dict[str, Loss] = {"content": content, "colour": colour, "chrominance": chrominance, "cel": cel_distance}
"""Losses that preserve the photo. Only these are used in the first `content_kimg`."""
DRAW: dict[str, Loss] = {"adversarial": adversarial, "grayscale": grayscale, "landmark": landmark, "tv": tv}
"""Losses for the style of drawings."""
