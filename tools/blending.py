"""Ways to paste a piece of a picture into another, for tools/detector_pictures.py."""

from __future__ import annotations

import numpy as np
from backgrounds import Random
from PIL import Image, ImageFilter


def poisson(patch: np.ndarray, under: np.ndarray) -> np.ndarray:
    """The patch (H, W, 3) with its own gradients and the border of what is under it (Perez et al. 2003): it is shifted
    by the harmonic function with their difference on the border, which is solved for by sine transforms."""
    off = under - patch
    inner = np.zeros_like(off[1:-1, 1:-1])
    inner[0] += off[0, 1:-1]
    inner[-1] += off[-1, 1:-1]
    inner[:, 0] += off[1:-1, 0]
    inner[:, -1] += off[1:-1, -1]
    h, w = inner.shape[:2]
    rows, columns = (2 - 2 * np.cos(np.pi * np.arange(1, n + 1) / (n + 1)) for n in (h, w))
    spectrum = sine(sine(inner, 0), 1) / (rows[:, None, None] + columns[None, :, None])
    off[1:-1, 1:-1] = sine(sine(spectrum, 0), 1) * (4 / ((h + 1) * (w + 1)))
    return patch + off


def sine(x: np.ndarray, axis: int) -> np.ndarray:
    """The discrete sine transform of the first kind, twice of which is (n + 1) / 2 times the identity."""
    n = x.shape[axis]
    padded = np.moveaxis(np.zeros((2 * n + 2, *np.moveaxis(x, axis, 0).shape[1:])), 0, 0)
    padded[1 : n + 1] = np.moveaxis(x, axis, 0)
    return np.moveaxis(-np.fft.fft(padded, axis=0).imag[1 : n + 1], 0, axis)


def mask(random: Random, size: tuple[int, int], inside: np.ndarray | None) -> Image.Image:
    """How much of a piece of `size` is pasted: all, with soft edges, or an ellipse around the box `inside`."""
    kind, made = random.randint(4), Image.new("L", size, 0)
    if kind == 0:
        return Image.new("L", size, 255)
    soft = max(1, int(min(size) * random.uniform(0.02, 0.15)))
    if kind == 1 or inside is None:
        made.paste(255, (soft, soft, size[0] - soft, size[1] - soft))
    else:
        y, x = np.mgrid[: size[1], : size[0]]
        centre, half = (inside[:2] + inside[2:]) / 2, (inside[2:] - inside[:2]) / 2 * random.uniform(1.15, 1.9)
        made = Image.fromarray(
            (((x - centre[0]) / half[0]) ** 2 + ((y - centre[1]) / half[1]) ** 2 < 1).astype(np.uint8) * 255
        )
    return made.filter(ImageFilter.GaussianBlur(soft / 2)) if kind != 3 else made


def put(
    random: Random, canvas: Image.Image, piece: Image.Image, cover: Image.Image, at: tuple[int, int], *, tilted: bool
) -> None:
    """Pastes a piece, one that is not tilted sometimes with the border of what it covers."""
    x0, y0 = max(at[0], 0), max(at[1], 0)
    x1, y1 = min(at[0] + piece.width, canvas.width), min(at[1] + piece.height, canvas.height)
    if not tilted and random.rand() < 0.4 and min(x1 - x0, y1 - y0) > 8:
        under = np.asarray(canvas.crop((x0, y0, x1, y1)), np.float64)
        patch = np.asarray(piece.crop((x0 - at[0], y0 - at[1], x1 - at[0], y1 - at[1])), np.float64)
        canvas.paste(Image.fromarray(poisson(patch, under).clip(0, 255).astype(np.uint8)), (x0, y0))
    else:
        canvas.paste(piece, at, cover)
