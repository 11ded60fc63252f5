"""Reverse generation: a latent found for a photo in one generator is drawn by another one of the same family.

Wang Yiwen ("Anime faces generation corresponding to human faces") finds the latent of a photo in a fixed generator of
photos, from a random one, by optimisation, and passes it as it is to a child that was fine-tuned on drawings. That is
the default. Options add: shapes (the coarse layers) come from the photo but colours (the fine layers) from the child's
labels, so that the lighting of the photo does not tint the drawing; the coarse layers are adjusted to the head pose of
the photo (`kyara.inversion.pose`); parent and child are blended layer by layer (Pinkney and Adler 2020). With colours
of another source, several variants are drawn, and the best is chosen by the distortion score and the similarity to the
photo."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.files.pictures import quantise
from kyara.inversion import traits
from kyara.inversion.latents import styles_of_seeds
from kyara.models.base import StyledGenerator, latents

Colours = Literal["labels", "mean", "photo"]
"""Source of the fine styles: the child's mean for some labels, its overall mean, or the photo."""
TRUNCATIONS = (1.0, 0.7)  # of the coarse styles that are tried, if colours are not those of the photo
DRAWS = (None, 0, 1, 2)
"""Fine styles that are tried: the mean (None), or random ones for each photo. With the mean alone all characters would
have the same shading."""
FINE_TRUNCATION = 0.9  # of random fine styles
PAIRS = 24  # of pictures, from which `colour_layer` is measured


@dataclass(frozen=True)
class Variant:
    """One way to draw a photo."""

    truncation: float  # of the coarse styles
    layer: int  # the photo's styles are used before this layer
    colours: Colours  # source of the styles from this layer on; "photo" only beyond the last
    draw: int | None = None  # number of the random fine styles; None is the mean


def variants(child: StyledGenerator, colours: Colours, layer: int) -> list[Variant]:
    """The variants that are tried, with the photo's styles before `layer`; with its colours too the latent as it is."""
    if colours == "photo":
        return [Variant(1.0, child.mean_w(1).shape[1], colours)]
    return [Variant(t, layer, colours, draw) for t, draw in itertools.product(TRUNCATIONS, DRAWS)]


@torch.inference_mode()
def draw(
    generator: StyledGenerator,
    child: StyledGenerator,
    ws: Tensor,
    labels: Mapping[str, Tensor],
    tried: Sequence[Variant],
    seeds: Sequence[int],
    match_pose: Callable[[Tensor, int], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Draws every variant of every photo: styles (B, V, layers, w_dim) and pictures (B, V, H, W, 3) uint8, both on the
    device.

    `generator` makes the pictures: the child, or a blend of it with the parent. `ws` (B, layers, w_dim) are the styles
    found in the parent, `labels` (B,) the child's by attribute, `seeds` (B,) those of the random fine styles, and
    `match_pose` adjusts styles (B, layers, w_dim) before a layer."""
    mean = child.mean_w(len(ws))  # (B, layers, w_dim)
    index = torch.arange(ws.shape[1], device=ws.device)[:, None]
    styles, pictures = [], []
    matched: dict[tuple[float, int, str], Tensor] = {}
    for variant in tried:
        coarse, own = mean.lerp(ws, variant.truncation), index < variant.layer
        fine = coarse if variant.colours == "photo" else _fine_styles(child, variant, seeds, labels)
        if match_pose is not None:
            key = variant.truncation, variant.layer, variant.colours
            if key not in matched:
                matched[key] = match_pose(torch.where(own, coarse, fine), variant.layer)
            coarse = matched[key]
        styles.append(torch.where(own, coarse, fine))
        pictures.append(quantise(generator.synthesise(styles[-1])))
    return torch.stack(styles, 1), torch.stack(pictures, 1)


def _fine_styles(
    child: StyledGenerator, variant: Variant, seeds: Sequence[int], labels: Mapping[str, Tensor]
) -> Tensor:
    """The styles (B, layers, w_dim) that colours come from."""
    condition = labels if variant.colours == "labels" else None
    mean_w = child.mean_w(len(seeds), condition)
    if variant.draw is None:
        return mean_w
    z = latents([(seed + variant.draw) % 2**32 for seed in seeds], child.z_dim).to(mean_w.device)
    return mean_w.lerp(child.styles(z, condition), FINE_TRUNCATION)


@torch.inference_mode()
def colour_layer(generator: StyledGenerator) -> int:
    """The first layer that decides over colours rather than shapes. For each layer, pictures get the styles of others
    from that layer on; the layer is chosen at which colours move towards the other picture by the most more than edges
    do."""
    ws = styles_of_seeds(generator, range(2 * PAIRS))
    a, b = ws[:PAIRS], ws[PAIRS:]
    ends = [generator.synthesise(x).clamp(-1, 1) for x in (a, b)]
    gains = []
    for layer in range(1, ws.shape[1]):
        mixed = a.clone()
        mixed[:, layer:] = b[:, layer:]
        pictures = generator.synthesise(mixed).clamp(-1, 1)
        colour, shape = (_progress(*map(measure, (pictures, *ends))) for measure in (_chroma, _edges))
        gains.append(colour - shape)
    return 1 + int(np.argmax(gains))


def _progress(features: Tensor, start: Tensor, end: Tensor) -> float:
    """How far features are on the way from start to end, (B, F) each: 0 to 1."""
    return float(1 - (features - end).square().sum() / (end - start).square().sum().clamp_min(1e-9))


def _chroma(pictures: Tensor) -> Tensor:
    """Colours without lightness, averaged over a grid of 4x4: (B, F)."""
    return F.adaptive_avg_pool2d(pictures - pictures.mean(1, keepdim=True), 4).flatten(1)


def _edges(pictures: Tensor) -> Tensor:
    """Gradients of lightness on a grid of 16x16: (B, F)."""
    grey = F.adaptive_avg_pool2d(pictures.mean(1, keepdim=True), 17)
    down, right = grey[..., 1:, :] - grey[..., :-1, :], grey[..., 1:] - grey[..., :-1]
    return torch.cat([down.flatten(1), right.flatten(1)], 1)


def labels_of_photo(
    photo: np.ndarray, attributes: Mapping[str, Sequence[str]], fixed: Mapping[str, int]
) -> dict[str, int]:
    """The labels of a photo (H, W, 3) uint8: `fixed`, and its hair and eye colours as far as `attributes` have them."""
    labels = {}
    for name, measure, named in (("hair", traits.hair, traits.HAIR_COLOURS), ("eyes", traits.eyes, traits.EYE_COLOURS)):
        value = traits.nearest(measure(photo), named, attributes.get(name, ()))
        if value is not None:
            labels[name] = attributes[name].index(value)
    return {**labels, **fixed}
