"""New pictures from generated ones: variations, mixtures and walks, as shots with a recipe of their own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from kyara.generation.sampler import shot_labels, shot_latents
from kyara.generation.shots import Shot, angle_of, interpolation, turned
from kyara.generation.styles import pack, unpack
from kyara.models.base import StyledGenerator


@torch.inference_mode()
def styles_of(shot: Shot, generator: StyledGenerator, truncation: float) -> Tensor:
    """The styles (layers, w_dim) that a shot is synthesised from. Those of a latent are already truncated."""
    if "latent" in shot:
        return unpack(shot["latent"], generator)
    device = next(generator.parameters()).device
    z = shot_latents([shot], generator.z_dim).to(device)
    labels = {name: x.to(device) for name, x in shot_labels([shot], generator.config.data.attributes).items()}
    ws = generator.styles(z, labels)
    return (ws if truncation == 1 else generator.mean_w(1, labels).lerp(ws, truncation))[0]


def styled(ws: Tensor, labels: dict[str, str], degrees: float = 0.0) -> Shot:
    """The shot of styles (layers, w_dim), with the head turned. `labels` are only noted: the styles determine the
    picture."""
    return turned({"latent": pack(ws), "labels": labels}, degrees)


def vary(shot: Shot, generator: StyledGenerator, truncation: float, *, seed: int, strength: float) -> Shot:
    """A variation of a shot towards the latent of `seed`, with the same labels: `strength` 0 is the same picture, 1
    that of the seed. A seed gives an interpolation of two seeds; a latent moves towards the styles of the seed."""
    if "seed" in shot and shot["seed"] != seed:
        between = {"seeds": [shot["seed"], seed], "position": strength, "labels": shot["labels"]}
        return turned(between, angle_of(shot))
    ws = styles_of(shot, generator, truncation)
    other = styles_of({"seed": seed, "labels": shot["labels"]}, generator, 0.7 if "latent" in shot else truncation)
    return styled(ws.lerp(other, strength), shot["labels"], angle_of(shot))


def mix(coarse: Shot, fine: Shot, generator: StyledGenerator, truncations: tuple[float, float], layer: int) -> Shot:
    """Style mixing (Karras et al. 2019): the style layers before `layer` of one shot, pose and shape, the others of
    another, colours and details."""
    a, b = (styles_of(shot, generator, psi) for shot, psi in zip((coarse, fine), truncations, strict=True))
    return styled(torch.cat([a[:layer], b[layer:]]), fine["labels"], angle_of(coarse))


def walk(shots: Sequence[Shot], generator: StyledGenerator, truncations: Sequence[float], frames: int) -> list[Shot]:
    """`frames` evenly spaced shots along the given ones, ends included. Between seeds with the same labels, these are
    the frames of `kyara generate --interpolate`; otherwise styles are interpolated."""
    same = all("seed" in shot and shot["labels"] == shots[0]["labels"] and not angle_of(shot) for shot in shots)
    if same and len(set(truncations)) == 1 and all(a["seed"] != b["seed"] for a, b in pairwise(shots)):
        found = interpolation("-".join(str(shot["seed"]) for shot in shots), frames)
        return [{**shot, "labels": shots[0]["labels"]} for shot in found]
    stops = [styles_of(shot, generator, psi) for shot, psi in zip(shots, truncations, strict=True)]
    legs, walked = len(stops) - 1, []
    for i in range(frames):
        leg, position = divmod(i * legs, frames - 1)
        if leg == legs:  # the end of the last leg
            leg, position = legs - 1, frames - 1
        a, b, share = shots[leg], shots[leg + 1], position / (frames - 1)
        labels = (a if share < 0.5 else b)["labels"]
        degrees = angle_of(a) + (angle_of(b) - angle_of(a)) * share
        walked.append(styled(stops[leg].lerp(stops[leg + 1], share), labels, degrees))
    return walked
