"""Distance and time of inversion, and the time in which it reaches the distance of StyleGAN2's projector.

    python benchmarks/invert.py made --model builtin:anime                pictures of the generator itself
    python benchmarks/invert.py given photos.zip --model builtin:photo    held-out pictures

Distances are LPIPS with VGG16, which the projector minimises, and `kyara invert` by default does not. Both use the same
pictures in the same batches in the same process. The time to reach a distance is that of the shortest listed search
that reaches it on average, including the preparation of the latent space.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import torch
import tyro
from common import load_vgg16, lpips, machine, run, vgg16_archive
from project import STEPS, project
from torch import Tensor

from kyara.files.dataset import open_dataset
from kyara.files.pictures import center_crop, to_float
from kyara.generation.styles import load_styled
from kyara.inversion.latents import LatentSpace
from kyara.inversion.search import SearchSettings, search
from kyara.models.base import latents
from kyara.perception.lpips import LpipsDistance, PerceptualDistance, load_perceptual
from kyara.perception.vgg16 import VGG16

FIRST = 1_000_000
"""First seed of the generator's pictures: the encoder is fitted to others."""
OURS = (10, 25, 50, 100, 200)
CPU = torch.device("cpu")


def made(
    model: str = "builtin:anime", count: int = 50, peer: int = 10, threads: int | None = None, steps: int = STEPS
) -> None:
    """Pictures of the generator itself, of seeds that the encoder is not fitted to."""
    generator = load_styled(model, CPU)
    seeds = range(FIRST, FIRST + count)
    with torch.no_grad():
        targets = generator.sample(latents(seeds, generator.z_dim), labels=generator.draw(seeds)).clamp(-1, 1)
    measure(model, targets, peer, threads, steps)


def given(
    photos: tyro.conf.Positional[Path],
    model: str = "builtin:photo",
    count: int = 50,
    peer: int = 10,
    threads: int | None = None,
    steps: int = STEPS,
) -> None:
    """The first pictures of a dataset, which are aligned already."""
    dataset = open_dataset(photos)
    side = load_styled(model, CPU).config.data.width
    pictures = [center_crop(dataset.picture(i), side, side) for i in range(min(count, len(dataset)))]
    measure(model, to_float(np.stack(pictures)), peer, threads, steps)


def measure(model: str, targets: Tensor, peer: int, threads: int | None, most: int) -> None:
    """Prints the distances of our searches, of at most `most` steps, and of the projector with as many steps."""
    if threads:
        torch.set_num_threads(threads)
    print(machine())
    generator, network = load_styled(model, CPU), load_vgg16()
    generator.requires_grad_(False)
    perceptual = load_perceptual("builtin", CPU)
    began = time.perf_counter()
    space = LatentSpace(generator)
    fitting = time.perf_counter() - began
    for steps in [steps for steps in OURS if steps <= most]:
        found = search(targets, space, perceptual, SearchSettings(steps=steps))
        reached = lpips(network, found.pictures, targets, 10)
        print(
            f"ours, {steps:4d} steps: LPIPS {_mean_and_worst(reached)}, {found.seconds / len(targets):.2f} s a picture"
        )
    print(f"and {fitting:.1f} s to prepare the latent space")
    few = targets[:peer]
    began = time.perf_counter()
    ws, noise = project(generator, few, network, most)
    seconds = time.perf_counter() - began
    with torch.no_grad():
        theirs = lpips(network, generator.synthesise(ws, noise).clamp(-1, 1), few, 10)
    print(
        f"projector, {most} steps, {peer} pictures: LPIPS {_mean_and_worst(theirs)}, {seconds / peer:.2f} s a picture"
    )
    for about, see, noisy in (
        ("built-in", perceptual, False),
        ("LPIPS and noise", LpipsDistance(vgg16_archive(), CPU), True),
    ):
        _as_near(about, few, space, see, noisy, network, float(theirs.mean()), seconds, fitting, most)
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
    most: int,
) -> None:
    """Prints the shortest search that reaches the distance `wanted`, and the ratio of the times."""
    for steps in [steps for steps in OURS if steps <= most]:
        found = search(few, space, perceptual, SearchSettings(steps=steps, noise=noise))
        reached = float(lpips(network, found.pictures, few, 10).mean())
        if reached <= wanted:
            ours = fitting + found.seconds
            print(f"minimising {about}: as near after {steps} steps, {ours:.1f} s, {theirs / ours:.1f} times as fast")
            return
    print(f"minimising {about}: not as near, LPIPS {reached:.4f} after {steps} steps")


def _mean_and_worst(distances: Tensor) -> str:
    return f"{distances.mean():.4f} (worst {distances.max():.4f})"


def main(arguments: list[str] | None = None) -> None:
    run({"made": made, "given": given}, arguments)


if __name__ == "__main__":
    main()
