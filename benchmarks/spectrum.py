"""Power spectra of generated pictures beside those of real ones, up to the Nyquist frequency.

    python benchmarks/spectrum.py builtin:character faces.zip

Of the luma, with a Hann window, averaged over pictures. The radial spectrum is the mean over all directions; the last
rows are the highest frequencies of rows, columns and both, where a checkerboard or stripes of two pixels would show.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import tyro
from common import print_table, run
from frechet import sample

from kyara.files.dataset import open_dataset
from kyara.generation.sampler import load_generator

LUMA = np.array([0.299, 0.587, 0.114])
PLACES = {"every second column": (0, 1), "every second row": (1, 0), "checkerboard": (1, 1)}


def spectrum(images: Iterable[np.ndarray]) -> np.ndarray:
    """Mean power spectrum (H, W) of pictures (H, W, 3) uint8, without their means; zero frequency first."""
    total, count = np.zeros(()), 0
    for image in images:
        luma = image @ LUMA
        window = np.outer(np.hanning(luma.shape[0]), np.hanning(luma.shape[1]))
        total = total + np.abs(np.fft.fft2((luma - luma.mean()) * window)) ** 2
        count += 1
    return total / max(count, 1)


def radial(power: np.ndarray) -> np.ndarray:
    """Means of a spectrum (N, N) over rings of one frequency each, 1 to N/2 periods in a picture: (N/2,)."""
    periods = np.fft.fftfreq(len(power)) * len(power)
    ring = np.hypot(periods[:, None], periods).round().astype(int)
    return np.array([power[ring == k].mean() for k in range(1, len(power) // 2 + 1)])


def highest(power: np.ndarray) -> dict[str, float]:
    """Means of a spectrum (N, N) over 3 x 3 frequencies around each of `PLACES`."""
    middle = len(power) // 2
    found = {}
    for name, (y, x) in PLACES.items():
        rows, columns = (np.arange(-1, 2) + middle * at for at in (y, x))
        found[name] = float(power[np.ix_(rows % len(power), columns % len(power))].mean())
    return found


def decibels(a: float | np.ndarray, b: float | np.ndarray) -> np.ndarray:
    return np.asarray(10 * np.log10(np.asarray(a) / np.asarray(b)))


def measure(
    checkpoint: tyro.conf.Positional[str], data: tyro.conf.Positional[Path], count: int = 1024, truncation: float = 1.0
) -> None:
    """Prints the difference in decibels: generated over real.

    Args:
        checkpoint: The generator, of square pictures.
        data: Real pictures; they are cropped and resized to the generator's size.
        count: Pictures of each.
        truncation: 1 is none.
    """
    generator, dataset = load_generator(checkpoint, torch.device("cpu")), open_dataset(data)
    size = generator.config.data.width
    if generator.config.data.height != size:
        raise ValueError(f"{checkpoint}: makes pictures that are not square")
    numbers = np.random.RandomState(0).permutation(len(dataset))[:count].tolist()
    ours = spectrum(sample(generator, range(count), size, size, truncation))
    real = spectrum(dataset.decode(numbers, size, size))
    difference = decibels(radial(ours), radial(real))
    print(f"{checkpoint}, {count} seeds, truncation {truncation:g}; {data}, {len(numbers)} pictures; {size} px")
    parts = np.array_split(difference, 8)
    ends = np.cumsum([len(part) for part in parts]) / len(difference)
    rows = {f"up to {end:.3g} of Nyquist": {"mean": part.mean(), "largest": part[np.abs(part).argmax()]}
            for end, part in zip(ends, parts, strict=True)}  # fmt: skip
    rows |= {name: {"mean": float(decibels(mine, highest(real)[name]))} for name, mine in highest(ours).items()}
    print_table({name: {k: float(v) for k, v in row.items()} for name, row in rows.items()}, "dB", "+.1f")


def main(arguments: list[str] | None = None) -> None:
    run(measure, arguments)


if __name__ == "__main__":
    main()
