"""Vector drawing with antialiasing: polygons and strokes of varying width on a part of a picture."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops, ImageDraw

SAMPLES = 4  # supersampling in each direction
STEPS = 8  # straight pieces between two points of a curve


def curve(points: np.ndarray, *, closed: bool = False) -> np.ndarray:
    """A Catmull-Rom spline through points (N, 2): ((N - 1) * STEPS + 1, 2), or (N * STEPS, 2) if closed."""
    if closed:
        p = np.concatenate([points[-1:], points, points[:2]])
    else:
        p = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = (np.arange(STEPS) / STEPS)[None, :, None]
    a, b, c, d = (p[i : len(p) - 3 + i, None] for i in range(4))
    found = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    found = found.reshape(-1, 2)
    return found if closed else np.concatenate([found, points[-1:]])


def taper(first: float, middle: float, last: float, count: int) -> np.ndarray:
    """Relative widths (count,) of a stroke: at its ends and in its middle."""
    t = np.linspace(0, 1, count)
    return np.where(t < 0.5, first + (middle - first) * np.sin(np.pi * t), last + (middle - last) * np.sin(np.pi * t))


class Canvas:
    """A part of a picture, enlarged, on which shapes are drawn. Positions are in pixels of the picture."""

    def __init__(self, picture: np.ndarray, box: tuple[int, int, int, int]) -> None:
        """`picture` (H, W, 3) uint8; `box` is left, top, right, bottom of the part, within the picture."""
        self.left, self.top, right, bottom = box
        part = Image.fromarray(np.ascontiguousarray(picture[self.top : bottom, self.left : right]))
        self.image = part.resize((part.width * SAMPLES, part.height * SAMPLES), Image.Resampling.NEAREST)

    def result(self) -> np.ndarray:
        """The part (h, w, 3) uint8 with what was drawn."""
        return np.asarray(self.image.reduce(SAMPLES))

    def mask(self, points: np.ndarray) -> Image.Image:
        """A polygon (N, 2) as a mask."""
        made = Image.new("L", self.image.size)
        ImageDraw.Draw(made).polygon(self._there(points), fill=255)
        return made

    def polygon(
        self, points: np.ndarray, colour: np.ndarray, *, clip: Image.Image | None = None, alpha: float = 1.0
    ) -> None:
        """Fills a polygon (N, 2), within the mask `clip`, with opacity `alpha`."""
        if clip is None and alpha >= 1:
            ImageDraw.Draw(self.image).polygon(self._there(points), fill=_rgb(colour))
            return
        mask = self.mask(points)
        if clip is not None:
            mask = ImageChops.multiply(mask, clip)
        if alpha < 1:
            mask = mask.point(lambda level: level * alpha)
        self.image.paste(_rgb(colour), (0, 0), mask)

    def ellipse(
        self,
        centre: np.ndarray,
        radii: tuple[float, float],
        colour: np.ndarray,
        *,
        clip: Image.Image | None = None,
    ) -> None:
        """Fills an upright ellipse."""
        turn = np.linspace(0, 2 * np.pi, 33)[:-1]
        self.polygon(centre + np.stack([np.cos(turn) * radii[0], np.sin(turn) * radii[1]], 1), colour, clip=clip)

    def stroke(
        self,
        points: np.ndarray,
        widths: np.ndarray,
        colour: np.ndarray,
        *,
        clip: Image.Image | None = None,
        alpha: float = 1.0,
    ) -> None:
        """Draws a line through points (N, 2) whose width (N,) varies, with round ends."""
        ahead = np.gradient(points, axis=0)
        ahead /= np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-6)
        side = np.stack([-ahead[:, 1], ahead[:, 0]], 1) * widths[:, None] / 2
        outline = np.concatenate([points + side, (points - side)[::-1]])
        self.polygon(outline, colour, clip=clip, alpha=alpha)
        if alpha >= 1:
            for end in (0, -1):
                self.ellipse(points[end], (widths[end] / 2,) * 2, colour, clip=clip)

    def _there(self, points: np.ndarray) -> list[tuple[float, float]]:
        moved = (points - (self.left, self.top)) * SAMPLES - 0.5
        return [(float(x), float(y)) for x, y in moved]


def _rgb(colour: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = (int(min(max(round(float(c) * 255), 0), 255)) for c in colour)
    return red, green, blue
