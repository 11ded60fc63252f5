"""Kyara's distortions against Albumentations 1.3.1: pictures per second, displacements and memory, on one thread.

.venv-bench/bin/python benchmarks/distort.py [--sizes 96 128 224 256] [--rounds 7]

Both alternate in this process and are timed in processor seconds, so that other load of the machine affects both.
Albumentations has no such thin-plate spline; it is compared with a NumPy one that uses OpenCV's remap. Without
Albumentations and OpenCV only Kyara's rows are printed.
"""

from __future__ import annotations

import random
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from common import machine, peak, run

from kyara.data import distortions as distort

try:
    import albumentations
    import cv2
except ImportError:
    albumentations = cv2 = None

BATCH = 64
PINS = [(x, y) for x in (0.0, 0.5, 1.0) for y in (0.0, 0.5, 1.0) if (x, y) != (0.5, 0.5)]


def numpy_spline(image: np.ndarray) -> np.ndarray:
    """kyara.data.distortions.Spline in plain NumPy: every pixel is evaluated."""
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
    """The same four for one picture (H, W, 3); none without Albumentations."""
    if albumentations is None:
        return {}
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
    """Prints pictures per second: theirs one by one, ours in batches, copied and in place."""
    image = np.random.randint(0, 256, (size, size, 3), np.uint8)
    fresh = torch.rand(BATCH, 3, size, size) * 2 - 1
    reused = fresh.clone()
    per_picture = theirs()
    calls = {}
    for kind, name in enumerate(distort.DISTORTIONS):
        kinds = torch.full((BATCH,), kind)
        calls[name] = partial(distort.apply, kinds=kinds, generator=generator)
    calls["mix"] = partial(distort.distort, generator=generator)
    times: dict[str, list[list[float]]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            alone = [lambda name=name: per_picture[name](image)] if name in per_picture else []
            row = [seconds(call, 8) for call in alone]
            row += [seconds(lambda call=call: call(fresh), 1) / BATCH]
            row += [seconds(lambda call=call: call(reused, inplace=True), 1) / BATCH]
            reused.copy_(fresh)
            if turn:  # the first round warms up
                times[name].append(row)

    print(f"\n{size} x {size}, batches of {BATCH}: pictures per second of one core (median of {rounds} rounds)")
    print(f"{'':10}{'theirs':>9}{'ours':>9}{'ratio':>8}{'in place':>10}{'ratio':>8}")
    single = [statistics.median(row[0] for row in times[name]) for name in per_picture]
    for name, rows in times.items():
        *their, our, in_place = (1 / statistics.median(column) for column in zip(*rows, strict=True))
        if name == "mix" and single:
            their = [1 / statistics.fmean(single)]
        print(f"{name:10}" + row_of(their, our, in_place))
    print(f"peak memory beyond the pictures: ours {peak(lambda: distort.distort(fresh, generator)):.0f} MiB (float32)")
    if single:
        alone = peak(lambda: [t(image) for t in per_picture.values() for _ in range(BATCH // 4)])
        print(f"theirs {alone:.0f} MiB (uint8); {1 / statistics.fmean(single[:3]):.0f} a second without the spline")


def row_of(their: list[float], our: float, in_place: float) -> str:
    if not their:
        return f"{'-':>9}{our:9.0f}{'':8}{in_place:10.0f}"
    return f"{their[0]:9.0f}{our:9.0f}{our / their[0]:7.1f}x{in_place:10.0f}{in_place / their[0]:7.1f}x"


def displacements(size: int, count: int, generator: torch.Generator) -> None:
    """Prints the displacements of ramps of x and y, in which mirroring at the border counts alike for both. Ramps are
    in [0, 1], to which Albumentations clips floats."""
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    ramp = np.ascontiguousarray(np.stack([x, y, y], -1))
    pictures = torch.from_numpy(ramp).permute(2, 0, 1).expand(count, 3, size, size)
    kinds = {**distort.DISTORTIONS, "elastic+affine": distort.Elastic(affine=50)}
    others = {**theirs(), "elastic+affine": theirs(affine=50).get("elastic")}
    print(f"\ndisplacement in pixels at {size} x {size}, {count} pictures: mean, 99th percentile")
    print(f"{'':15}{'ours':>16}{'theirs':>16}{'ratio':>14}")

    def measured(moved: np.ndarray) -> tuple[float, float]:
        distance = np.hypot(moved[..., 0] - x, moved[..., 1] - y)
        return size * float(np.mean(distance)), size * float(np.percentile(distance, 99))

    for name, kind in kinds.items():
        first = torch.zeros(count, dtype=torch.int64)
        a, b = measured(distort.apply(pictures, first, generator, {name: kind}).permute(0, 2, 3, 1).numpy())
        row = f"{name:15}{a:8.2f}{b:8.2f}"
        if other := others.get(name):
            c, d = measured(np.stack([other(ramp) for _ in range(count)]))
            row += f"{c:8.2f}{d:8.2f}{a / c:7.2f}{b / d:7.2f}"
        print(row)


def measure(sizes: tuple[int, ...] = (96, 128, 224, 256), rounds: int = 7, count: int = 200) -> None:
    """Prints all tables.

    Args:
        sizes: Sides of the pictures in pixels.
        rounds: Rounds of the measurement of speed.
        count: Pictures for the statistics of displacements.
    """
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    random.seed(0)
    np.random.seed(0)
    generator = torch.Generator().manual_seed(0)
    peer = "Albumentations is not installed: only Kyara is measured"
    if albumentations is not None:
        cv2.setNumThreads(1)
        peer = f"albumentations {albumentations.__version__}, OpenCV {cv2.__version__}"
    print(f"distortions\n{machine()}, {peer}")
    for size in sizes:
        speed(size, rounds, generator)
    displacements(256, count, generator)


def main(arguments: list[str] | None = None) -> None:
    run(measure, arguments)


if __name__ == "__main__":
    main()
