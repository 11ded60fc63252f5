"""Kyara's distortions against Albumentations 1.3.1: pictures per second, displacements, memory; one thread
each.

.venv-bench/bin/python benchmarks/distort.py [--sizes 96 128 224 256] [--rounds 7]

Both run turn about in this process and are timed in processor seconds, so that what else the machine does
weighs on both. Albumentations has no thin-plate spline of this kind; a plain NumPy one with OpenCV's remap
stands in.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
import warnings
from collections.abc import Callable

import albumentations
import cv2
import numpy as np
import torch
from measure import machine, peak

from kyara.data import distortions as distort

BATCH = 64
PINS = [(x, y) for x in (0.0, 0.5, 1.0) for y in (0.0, 0.5, 1.0) if (x, y) != (0.5, 0.5)]


def numpy_spline(image: np.ndarray) -> np.ndarray:
    """The thin-plate spline of kyara.data.distortions.Spline, written down plainly: every pixel evaluated."""
    height, width = image.shape[:2]
    source = np.random.uniform(0.3, 0.7, (2, 2))
    target = source + np.random.uniform(-0.25, 0.25, (2, 2))
    centres = np.concatenate([np.array(PINS), target])
    values = np.concatenate([np.zeros((8, 2)), source - target])

    def kernel(points: np.ndarray) -> np.ndarray:
        r = np.linalg.norm(points[:, None] - centres, axis=-1)
        return np.hstack([r**2 * np.log(r + 1e-6), np.ones((len(points), 1)), points]).astype(np.float32)

    k = kernel(centres)
    system = np.block([[k], [k[:, -3:].T, np.zeros((3, 3))]])
    solution = np.linalg.solve(system, np.concatenate([values, np.zeros((3, 2))])).astype(np.float32)
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    grid = np.stack([x.ravel(), y.ravel()], 1).astype(np.float32)
    where = ((grid + kernel(grid) @ solution) * (width - 1, height - 1)).astype(np.float32)
    where = where.reshape(height, width, 2)
    return cv2.remap(image, where[..., 0], where[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def theirs(affine: float = 0.0) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """The same four for one picture (H, W, 3)."""
    transforms = {
        "grid": albumentations.GridDistortion(num_steps=15, distort_limit=0.6, p=1),
        "elastic": albumentations.ElasticTransform(alpha=200, sigma=10, alpha_affine=affine, p=1),
        "piecewise": albumentations.PiecewiseAffine(scale=(0.03, 0.05), nb_rows=(3, 6), nb_cols=(3, 6), p=1),
    }
    called = {name: (lambda image, t=t: t(image=image)["image"]) for name, t in transforms.items()}
    return {**called, "spline": numpy_spline}


def seconds(function: Callable[[], object], repeats: int) -> float:
    """Processor seconds of one call."""
    start = time.process_time()
    for _ in range(repeats):
        function()
    return (time.process_time() - start) / repeats


def speed(size: int, rounds: int, generator: torch.Generator) -> None:
    image = np.random.randint(0, 256, (size, size, 3), np.uint8)
    fresh = torch.rand(BATCH, 3, size, size) * 2 - 1
    reused = fresh.clone()
    per_picture = {name: (lambda t=t: t(image)) for name, t in theirs().items()}
    batches = {}
    for kind, name in enumerate(distort.DISTORTIONS):
        kinds = torch.full((BATCH,), kind)
        batches[name] = [
            lambda kinds=kinds: distort.apply(fresh, kinds, generator),
            lambda kinds=kinds: distort.apply(reused, kinds, generator, inplace=True),
        ]
    mix = [
        lambda: distort.distort(fresh, generator),
        lambda: distort.distort(reused, generator, inplace=True),
    ]
    times: dict[str, list[list[float]]] = {name: [] for name in [*batches, "mix"]}
    for turn in range(rounds + 1):
        for name, (copied, in_place) in batches.items():
            row = [seconds(per_picture[name], 8), seconds(copied, 1) / BATCH, seconds(in_place, 1) / BATCH]
            reused.copy_(fresh)
            if turn:  # the first warms up
                times[name].append(row)
        if turn:
            whole = statistics.fmean(times[name][-1][0] for name in batches)
            times["mix"].append([whole, *(seconds(m, 1) / BATCH for m in mix)])
            reused.copy_(fresh)

    print(f"\n{size} x {size}, batches of {BATCH}: pictures per second of one core (median of {rounds} turns)")
    print(f"{'':10}{'theirs':>9}{'ours':>9}{'ratio':>8}{'in place':>10}{'ratio':>8}")
    for name, rows in times.items():
        their, our, in_place = (1 / statistics.median(column) for column in zip(*rows, strict=True))
        ratios = f"{our / their:7.1f}x{in_place:10.0f}{in_place / their:7.1f}x"
        print(f"{name:10}{their:9.0f}{our:9.0f}{ratios}")
    three = 1 / statistics.fmean(statistics.median(r[0] for r in times[n]) for n in list(batches)[:3])
    print(f"theirs without the spline, which is not Albumentations': {three:.0f} a second")
    whole = peak(lambda: distort.distort(fresh, generator))
    alone = peak(lambda: [t(image) for t in theirs().values() for _ in range(BATCH // 4)])
    print(f"peak memory beyond the pictures: ours {whole:.0f} MiB (float32), theirs {alone:.0f} MiB (uint8)")


def displacements(size: int, count: int, generator: torch.Generator) -> None:
    """Ramps of x and y go through both, so that mirroring at the border counts alike. From 0 to 1, because
    Albumentations clips floats to that."""
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    ramp = np.ascontiguousarray(np.stack([x, y, y], -1))
    pictures = torch.from_numpy(ramp).permute(2, 0, 1).expand(count, 3, size, size)
    kinds = {**distort.DISTORTIONS, "elastic+affine": distort.Elastic(affine=50)}
    others = {**theirs(), "elastic+affine": theirs(affine=50)["elastic"]}
    print(f"\ndisplacement in pixels at {size} x {size}, {count} pictures: mean, 99th percentile")
    print(f"{'':15}{'theirs':>16}{'ours':>16}{'ratio':>14}")
    for name, kind in kinds.items():
        our = distort.remap(pictures, kind(pictures, generator))
        their = np.stack([others[name](ramp) for _ in range(count)])
        ours_xy = our.permute(0, 2, 3, 1).numpy()
        numbers = [
            (size * np.mean(d), size * np.percentile(d, 99))
            for d in (np.hypot(p[..., 0] - x, p[..., 1] - y) for p in (their, ours_xy))
        ]
        (a, b), (c, d) = numbers
        print(f"{name:15}{a:8.2f}{b:8.2f}{c:8.2f}{d:8.2f}{c / a:7.2f}{d / b:7.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[96, 128, 224, 256])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--count", type=int, default=200, help="pictures for the displacement statistics")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    random.seed(0)
    np.random.seed(0)
    generator = torch.Generator().manual_seed(0)
    print(f"distortions\n{machine()}, albumentations {albumentations.__version__}, OpenCV {cv2.__version__}")
    for size in args.sizes:
        speed(size, args.rounds, generator)
    displacements(256, args.count, generator)


if __name__ == "__main__":
    main()
