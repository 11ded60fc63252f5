"""The losses of CartoonGAN's generator. To add one: a function of `Step`, an entry in the table `KEEP` or `DRAW`, and a
weight in `LossConfig` of the same name. A loss of weight 0 is not computed."""

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
    """What the losses of one step compare."""

    config: LossConfig
    made: Tensor  # the results, (B, 3, H, W)
    photos: Tensor  # (B, 3, H, W), with eyes enlarged
    drawings: Tensor  # (B, 3, H, W), unpaired
    points: Tensor | None  # the landmarks (B, K, 2) of the photos; None if nothing needs them
    discriminate: Callable[[Tensor], Sequence[Tensor]]  # logits of augmented pictures, at two sizes

    @functools.cached_property
    def features(self) -> list[Tensor]:
        """Features of the results in the frozen network."""
        return features(self.made, self.config)


Loss = Callable[[Step], Tensor]


def features(pictures: Tensor, config: LossConfig) -> list[Tensor]:
    """Features in the frozen network of pictures reduced to `features_size`."""
    scale = config.features_size / min(pictures.shape[2:])
    if scale < 1:
        pictures = F.interpolate(pictures, scale_factor=scale, mode="bilinear", antialias=True)
    smallest = tuple(max(side, SMALLEST) for side in pictures.shape[2:])
    if smallest != pictures.shape[2:]:
        pictures = F.interpolate(pictures, smallest, mode="bilinear")
    return load_features(config.features, pictures.device)(pictures)


def gan(logits: Sequence[Tensor], real: bool, config: LossConfig) -> Tensor:
    """GAN loss of the logits of several discriminators, classified as real or fake."""
    if config.least_squares:
        return mean([least_squares(x, float(real)) for x in logits])
    return mean([F.softplus(-x if real else x).mean() for x in logits])


def mean(losses: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(losses)).mean()


def content(step: Step) -> Tensor:
    """L1 of unit feature vectors (Chen et al. 2018, equation 5, normalised)."""
    pairs = zip(step.features, features(step.photos, step.config), strict=True)
    return mean([F.l1_loss(unit(a), unit(b)) for a, b in pairs])


def colour(step: Step) -> Tensor:
    """L1 of luminance and Huber of chrominance, in YUV (AnimeGANv2, colour reconstruction loss)."""
    a, b = yuv(step.made), yuv(step.photos)  # (3, B, H, W)
    return F.l1_loss(a[0], b[0]) + F.huber_loss(a[1], b[1]) + F.huber_loss(a[2], b[2])


def chrominance(step: Step) -> Tensor:
    """L1 of chrominance, the mean of both channels. Huber's loss is a square there, with hardly any gradient."""
    rows = constant(YUV[1:], step.made)
    a, b = (torch.einsum("kc,bchw->bkhw", rows, (x.float() + 1) / 2) for x in (step.made, step.photos))
    return F.l1_loss(a, b)


def cel_distance(step: Step) -> Tensor:
    """L1 to cels. Eyes have more weight, because they are small; without the gaze network the cel has fine eyes."""
    if step.points is None:
        return F.l1_loss(step.made, cel(step.photos))
    eyes = portrait.around_eyes(step.points, *step.photos.shape[2:])
    return ((step.made - cel(step.photos, None if step.config.gaze else eyes)).abs() * (1 + EYES_WEIGHT * eyes)).mean()


def adversarial(step: Step) -> Tensor:
    """GAN loss of the results."""
    return gan(step.discriminate(step.made), True, step.config)


def grayscale(step: Step) -> Tensor:
    """Relative distance of Gram matrices of grey results from the mean one of grey drawings (AnimeGANv2)."""
    made = features(grey(step.made), step.config)
    with torch.no_grad():
        target = [gram(maps).mean(0) for maps in features(grey(step.drawings), step.config)]
    return mean([(gram(a) - b).abs().mean() / b.abs().mean() for a, b in zip(made, target, strict=True)])


def landmark(step: Step) -> Tensor:
    """Distance between the landmarks of the result and of the photo, in distances between the eyes."""
    assert step.points is not None
    return portrait.distance(landmarks.find(step.made), step.points)


def tv(step: Step) -> Tensor:
    """Total variation: mean squared difference of neighbours, to the right and below."""
    return step.made.diff(dim=3).square().mean() + step.made.diff(dim=2).square().mean()


KEEP: dict[str, Loss] = {"content": content, "colour": colour, "chrominance": chrominance, "cel": cel_distance}
"""They keep the result close to the photo. In the first `content_kimg` there are no others."""
DRAW: dict[str, Loss] = {"adversarial": adversarial, "grayscale": grayscale, "landmark": landmark, "tv": tv}
"""They make the result a drawing."""
