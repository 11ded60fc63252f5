"""How near inversion comes to a picture, how fast, and how fast StyleGAN2's projector comes as near.

    python benchmarks/invert.py made --model builtin:anime          pictures that the generator made itself
    python benchmarks/invert.py given photos.zip --model builtin:photo    pictures it never saw

Distances are LPIPS with VGG16, which the projector minimises and `kyara invert` only if told to. Both work on the same
pictures in the same batches in the same process; the time that a method needs for a distance is that of its shortest
search, of those listed, that reaches it on average, schedule and all, the measuring of the space of latents included.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import torch
import tyro
from measure import machine
from project import project
from torch import Tensor
from vgg16 import archive

from kyara.files.dataset import open_dataset
from kyara.files.pictures import center_crop, to_float
from kyara.generation.styles import load_styled
from kyara.inversion.latents import LatentSpace
from kyara.inversion.search import SearchSettings, search
from kyara.models.base import latents
from kyara.perception.lpips import LpipsDistance, PerceptualDistance, load_perceptual
from kyara.perception.vgg16 import VGG16, read_weights

FIRST = 1_000_000
"""Seeds of pictures that the generator made: far from those that the encoder is fitted to."""
OURS = (10, 25, 50, 100, 200)
CPU = torch.device("cpu")


def made(model: str = "builtin:anime", count: int = 50, peer: int = 10, threads: int | None = None) -> None:
    """Pictures of the generator's own, of seeds that the encoder was not fitted to."""
    generator = load_styled(model, CPU)
    seeds = range(FIRST, FIRST + count)
    with torch.no_grad():
        targets = generator.sample(latents(seeds, generator.z_dim), labels=generator.draw(seeds)).clamp(-1, 1)
    run(model, targets, peer, threads)


def given(
    photos: tyro.conf.Positional[Path],
    model: str = "builtin:photo",
    count: int = 50,
    peer: int = 10,
    threads: int | None = None,
) -> None:
    """The first pictures of a dataset, cut to the frame already."""
    dataset = open_dataset(photos)
    side = load_styled(model, CPU).config.data.width
    pictures = [center_crop(dataset.picture(i), side, side) for i in range(min(count, len(dataset)))]
    run(model, to_float(np.stack(pictures)), peer, threads)


def run(model: str, targets: Tensor, peer: int, threads: int | None) -> None:
    if threads:
        torch.set_num_threads(threads)
    print(machine())
    generator, network = load_styled(model, CPU), VGG16(read_weights(archive()))
    generator.requires_grad_(False)
    perceptual = load_perceptual("builtin", CPU)
    began = time.perf_counter()
    space = LatentSpace(generator)
    fitting = time.perf_counter() - began
    for steps in OURS:
        found = search(targets, space, perceptual, SearchSettings(steps=steps))
        reached = _lpips(network, found.pictures, targets)
        print(f"ours, {steps:4d} steps: LPIPS {_told(reached)}, {found.seconds / len(targets):.2f} s a picture")
    print(f"and {fitting:.1f} s for the space of latents")
    few = targets[:peer]
    began = time.perf_counter()
    ws, noise = project(generator, few, network)
    seconds = time.perf_counter() - began
    with torch.no_grad():
        theirs = _lpips(network, generator.synthesise(ws, noise).clamp(-1, 1), few)
    print(f"projector, 1000 steps, {peer} pictures: LPIPS {_told(theirs)}, {seconds / peer:.2f} s a picture")
    for about, see, noisy in (
        ("built-in", perceptual, False),
        ("LPIPS and noise", LpipsDistance("vgg16", archive(), CPU), True),
    ):
        _as_near(about, few, space, see, noisy, network, float(theirs.mean()), seconds, fitting)
    print(json.dumps({"model": model, "count": len(targets), "lpips": float(reached.mean())}))


def _as_near(
    about: str,
    few: Tensor,
    space: LatentSpace,
    perceptual: PerceptualDistance,
    noise: bool,
    network: VGG16,
    wanted: float,
    theirs: float,
    fitting: float,
) -> None:
    """Prints the shortest search that comes as near as wanted, and how its time compares with theirs."""
    for steps in OURS:
        found = search(few, space, perceptual, SearchSettings(steps=steps, noise=noise))
        reached = float(_lpips(network, found.pictures, few).mean())
        if reached <= wanted:
            ours = fitting + found.seconds
            print(f"minimising {about}: as near after {steps} steps, {ours:.1f} s, {theirs / ours:.1f} times as fast")
            return
    print(f"minimising {about}: not as near, LPIPS {reached:.4f} after {steps} steps")


@torch.no_grad()
def _lpips(network: VGG16, a: Tensor, b: Tensor) -> Tensor:
    return torch.cat([network.distance(x, y) for x, y in zip(a.split(10), b.split(10), strict=True)])


def _told(distances: Tensor) -> str:
    return f"{distances.mean():.4f} (worst {distances.max():.4f})"


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"made": made, "given": given})
