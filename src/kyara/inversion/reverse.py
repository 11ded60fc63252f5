"""Reverse generation: the latent that a photo has in one generator, drawn by a relative of it.

Wang Yiwen finds one w in a generator of photos and hands it to a child that was tuned to drawings in four layers. Four
things are added here. What decides over shapes (the coarse layers) is taken from the photo, what decides over colours
(the fine ones) from what the child is asked for, so that a lamp in the photo does not flood the drawing. The coarse
ones are moved until the head is held as in the photo (`kyara.inversion.pose`). Parent and child can be blended layer by
layer (Pinkney and Adler 2020). And several characters are drawn for a photo, of which the best is chosen: whole as the
distortion recogniser sees it, and like the photo.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kyara.files.pictures import to_uint8
from kyara.inversion import traits
from kyara.models.base import StyledGenerator, latents

TRUNCATIONS = (1.0, 0.7)
"""Of the coarse styles: 1 is as found, less is nearer to the child's average face."""
DRAWS = (None, 0, 1, 2)
"""Whose fine styles are tried: the mean of what is asked for (None), or latents drawn for each photo. With the mean
alone all characters would be shaded alike."""
FINE = 0.9
"""Truncation of these."""
PAIRS = 24
"""Pairs of pictures by which `colour_layer` measures."""


@dataclass(frozen=True)
class Variant:
    """One way to draw a photo."""

    truncation: float
    position: int
    """Layers of styles before this one are the photo's."""
    colours: str
    """Whose the styles from there on are: of the labels asked for, of the child's average, or of the photo."""
    drawn: int | None = None
    """Which of the latents drawn for a photo they are taken from; None: the mean."""


def variants(child: StyledGenerator, colours: str, layer: int) -> list[Variant]:
    """The ways that are tried: the photo's styles reach up to `layer`, where colours begin; if colours are the photo's
    too, all the way."""
    if colours == "photo":
        return [Variant(truncation, child.mean_w(1).shape[1], colours) for truncation in TRUNCATIONS]
    return [Variant(t, layer, colours, drawn) for t, drawn in itertools.product(TRUNCATIONS, DRAWS)]


@torch.inference_mode()
def draw(
    artist: StyledGenerator,
    child: StyledGenerator,
    ws: Tensor,
    labels: Mapping[str, Tensor],
    tried: Sequence[Variant],
    keys: Sequence[int],
    follow: Callable[[Tensor, int], Tensor] | None = None,
) -> tuple[Tensor, np.ndarray]:
    """Every variant of every photo: the styles (B, V, layers, w_dim), and the pictures (B, V, H, W, 3) uint8. `ws`
    (B, layers, w_dim) are the styles found in the parent, `labels` (B,) by attribute what the child is asked to show;
    `artist` makes the pictures: the child, or a blend of both. `keys` (B,) are numbers by which latents are drawn for
    each. `follow` moves styles before a layer, so that the drawing holds its head as the photo does."""
    plain = child.mean_w(len(ws))  # (B, layers, w_dim)
    coarse = torch.arange(ws.shape[1], device=ws.device)[:, None]
    styles, pictures = [], []
    moved: dict[tuple[float, int, str], Tensor] = {}
    for variant in tried:
        fine = None if variant.colours == "photo" else _fine(child, variant, keys, labels)
        shape = plain.lerp(ws, variant.truncation)
        kind = variant.truncation, variant.position, variant.colours
        if follow is not None:
            if kind not in moved:
                mixed = shape if fine is None else torch.where(coarse < variant.position, shape, fine)
                moved[kind] = follow(mixed, variant.position)
            shape = moved[kind]
        styles.append(shape if fine is None else torch.where(coarse < variant.position, shape, fine))
        pictures.append(to_uint8(artist.synthesise(styles[-1])))
    return torch.stack(styles, 1), np.stack(pictures, 1)


def _fine(child: StyledGenerator, variant: Variant, keys: Sequence[int], labels: Mapping[str, Tensor]) -> Tensor:
    """The styles (B, layers, w_dim) that colours come from."""
    asked = labels if variant.colours == "labels" else None
    centre = child.mean_w(len(keys), asked)
    if variant.drawn is None:
        return centre
    z = latents([(key + variant.drawn) % 2**32 for key in keys], child.z_dim).to(centre.device)
    return centre.lerp(child.styles(z, asked), FINE)


@torch.inference_mode()
def colour_layer(generator: StyledGenerator, pairs: int = PAIRS) -> int:
    """The first layer of styles from which on colours are decided rather than shapes: measured by giving a picture the
    styles of another one, from each layer on, and seeing how much of the way its average colour goes, and how much that
    of light and dark. The first from which colour still goes further than light and dark by the most."""
    device = next(generator.parameters()).device
    drawn = {name: d.to(device) for name, d in generator.draw(range(2 * pairs)).items()}
    ws = generator.styles(latents(range(2 * pairs), generator.z_dim).to(device), drawn)
    a, b = ws[:pairs], ws[pairs:]
    layers = ws.shape[1]
    ends = [generator.synthesise(x).clamp(-1, 1) for x in (a, b)]
    gains = []
    for layer in range(1, layers):
        mixed = a.clone()
        mixed[:, layer:] = b[:, layer:]
        made = generator.synthesise(mixed).clamp(-1, 1)
        colour = _way(*(_chroma(x) for x in (made, *ends)))
        shape = _way(*(_edges(x) for x in (made, *ends)))
        gains.append(colour - shape)
    return 1 + int(np.argmax(gains))


def _way(made: Tensor, start: Tensor, end: Tensor) -> float:
    """How much of the way from start to end, (B, F) each, was gone: 0 to 1."""
    whole = (end - start).square().sum()
    return float(1 - (made - end).square().sum() / whole.clamp_min(1e-9))


def _chroma(pictures: Tensor) -> Tensor:
    """Colours without light and dark, blurred to 4 x 4 places: (B, F)."""
    colour = pictures - pictures.mean(1, keepdim=True)
    return torch.nn.functional.adaptive_avg_pool2d(colour, 4).flatten(1)


def _edges(pictures: Tensor) -> Tensor:
    """Slopes of grey at 16 x 16 places: (B, F)."""
    grey = torch.nn.functional.adaptive_avg_pool2d(pictures.mean(1, keepdim=True), 17)
    return torch.cat(
        [(grey[..., 1:, :] - grey[..., :-1, :]).flatten(1), (grey[..., 1:] - grey[..., :-1]).flatten(1)], 1
    )


def carried(photos: Sequence[np.ndarray], child: StyledGenerator, fixed: Mapping[str, int]) -> list[dict[str, int]]:
    """The labels each photo (H, W, 3) uint8 is drawn with: its colours of hair and eyes, as far as the child knows
    them, and what is `fixed` for all."""
    known = child.config.data.attributes
    found = []
    for photo in photos:
        labels = {}
        for name, measure, named in (
            ("hair", traits.hair, traits.HAIRS),
            ("eyes", traits.eyes, traits.EYE_COLOURS),
        ):
            value = traits.nearest(measure(photo), named, known.get(name, ()))
            if value is not None:
                labels[name] = known[name].index(value)
        found.append({**labels, **fixed})
    return found
