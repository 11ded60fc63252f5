"""The features of a face as vector strokes: eyes, brows, nose, mouth, jaw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kyara.models.drawing.canvas import Canvas, curve, taper
from kyara.models.drawing.config import StyleConfig
from kyara.models.drawing.layout import AT
from kyara.models.drawing.palette import Palette

CLOSED = 0.16  # an eye whose opening is a smaller share of its width is closed
OPEN = 0.05  # a mouth whose lips are further apart, in widths of the mouth, is open


@dataclass(frozen=True)
class Features:
    """Draws the features of one face: `points` (COUNT, 2) in pixels, `unit` the length of a pixel of FFHQ's frame of
    256 pixels."""

    canvas: Canvas
    points: np.ndarray
    unit: float
    palette: Palette
    style: StyleConfig

    def part(self, name: str) -> np.ndarray:
        return self.points[AT[name]]

    @property
    def width(self) -> float:
        """Width of a line in pixels."""
        return self.style.line_width * self.unit

    def draw(self) -> None:
        self.jaw()
        self.nose()
        self.mouth()
        for i, side in enumerate(("left", "right")):
            if not self.palette.hidden:
                self.eye(self.part(f"{side} eye"), self.part("irises")[i], self.palette.iris)
            self.brow(self.part(f"{side} brow"))

    def jaw(self) -> None:
        """The line below the chin, thinner at its ends. At the cheeks the regions have one."""
        line = curve(self.part("oval")[6:13])
        colour = mix(self.palette.shade, self.palette.line, 0.55)
        self.canvas.stroke(line, taper(0.15, 1.0, 0.15, len(line)) * self.width, colour)

    def eye(self, lids: np.ndarray, iris: np.ndarray, colour: np.ndarray) -> None:
        """Lids (16, 2) clockwise or not, from the outer corner along the upper lid."""
        outer, inner = lids[0], lids[8]
        across = inner - outer
        wide = float(np.linalg.norm(across))
        down = np.array([-across[1], across[0]]) / max(wide, 1e-6)
        down = down if down[1] > 0 else -down
        opening = float(((lids[9:] - lids[1:8][::-1]) @ down).max())
        centre = lids.mean(0)
        if opening < CLOSED * wide:
            self.closed_eye(lids)
            return
        grown = enlarge(lids, centre, across / wide, down, self.style.eye_size)
        iris = enlarge(iris[None], centre, across / wide, down, self.style.eye_size)[0]
        upper, lower = curve(grown[:9]), curve(np.concatenate([grown[8:], grown[:1]]))
        shape = np.concatenate([upper, lower])
        inside = self.canvas.mask(shape)
        dark, skin = self.palette.line, self.palette.skin
        white = mix(np.full(3, 0.97), skin, 0.12) * (0.8 + 0.2 * min(1.0, float(skin.mean()) * 1.6))
        self.canvas.polygon(shape, white)
        radius = 0.225 * wide * (1 + 0.5 * (self.style.eye_size - 1))
        radius = max(radius, 0.36 * opening * self.style.eye_size)
        self.canvas.ellipse(iris, (radius, radius * 1.04), mix(colour, dark, 0.55), clip=inside)
        self.canvas.ellipse(iris + down * radius * 0.12, (radius * 0.82, radius * 0.84), colour, clip=inside)
        self.canvas.ellipse(
            iris + down * radius * 0.45, (radius * 0.55, radius * 0.4), mix(colour, np.ones(3), 0.3), clip=inside
        )
        self.canvas.ellipse(iris, (radius * 0.45,) * 2, dark * 0.6, clip=inside)
        shadow = np.concatenate([upper, (upper + down * 0.16 * opening * self.style.eye_size)[::-1]])
        self.canvas.polygon(shadow, mix(dark, skin, 0.35), clip=inside, alpha=0.55)
        self.canvas.ellipse(iris + radius * np.array([-0.32, -0.36]), (radius * 0.24,) * 2, np.ones(3), clip=inside)
        lash = np.concatenate([[upper[0] - across / wide * 0.05 * wide + down * 0.01 * wide], upper])
        self.canvas.stroke(lash, taper(0.5, 2.3, 0.9, len(lash)) * self.width, dark)
        soft = mix(self.palette.shade, dark, 0.6)
        part = lower[len(lower) // 4 : -2]
        self.canvas.stroke(part, taper(0.2, 0.75, 0.7, len(part)) * self.width, soft)
        crease = upper[6:-4] - down * (0.10 * wide + 0.1 * opening)
        self.canvas.stroke(crease, taper(0.1, 0.7, 0.2, len(crease)) * self.width, soft)

    def closed_eye(self, lids: np.ndarray) -> None:
        """One line between the lids."""
        lower = np.concatenate([lids[:1], lids[:7:-1]])
        middle = curve((lids[:9] + lower) / 2)
        self.canvas.stroke(middle, taper(0.6, 2.0, 0.8, len(middle)) * self.width, self.palette.line)

    def brow(self, points: np.ndarray) -> None:
        """A filled shape: upper edge from the outer end, lower edge back."""
        upper, lower = points[:5], points[5:][::-1]
        middle, half = (upper + lower) / 2, (lower - upper) / 2
        thin = np.array([0.35, 0.8, 0.85, 0.85, 0.7])[:, None] * self.style.brow_width
        shape = np.concatenate([curve(middle - half * thin), curve((middle + half * thin)[::-1])])
        self.canvas.polygon(shape, self.palette.brow)

    def nose(self) -> None:
        """The wings and the base, in short strokes."""
        points = self.part("nose")
        left, *base, right = points[5:]
        soft = mix(self.palette.shade, self.palette.line, 0.55)
        under = curve(np.stack(base))
        third = len(under) // 3
        for part in (under[: third + 1], under[-third - 1 :]):
            self.canvas.stroke(part, taper(0.3, 1.5, 0.3, len(part)) * self.width, soft)
        middle = under[third:-third]
        self.canvas.stroke(middle, taper(0.2, 0.6, 0.2, len(middle)) * self.width, soft)
        for wing, end in ((left, base[0]), (right, base[-1])):
            out = wing - points[4]
            line = curve(
                np.stack([wing - 0.12 * out + [0, -0.1 * np.abs(out[0])], wing, wing * 0.5 + end * 0.5 + 0.1 * out])
            )
            self.canvas.stroke(line, taper(0.2, 0.9, 0.2, len(line)) * self.width, soft)

    def mouth(self) -> None:
        """Lips in a tone of the skin, the line between them, teeth if they are seen."""
        outer, inner = self.part("outer lips"), self.part("inner lips")
        wide = float(np.linalg.norm(inner[10] - inner[0]))
        lips, dark = self.palette.lips, mix(self.palette.line, self.palette.lips, 0.25)
        upper = np.concatenate([curve(outer[:11]), curve(inner[:11])[::-1]])
        lower = np.concatenate(
            [curve(np.concatenate([outer[10:], outer[:1]])), curve(np.concatenate([inner[10:], inner[:1]]))[::-1]]
        )
        self.canvas.polygon(lower, lips)
        self.canvas.polygon(upper, lips * 0.88)
        gap = float(np.linalg.norm(inner[5] - inner[15]))
        top, bottom = curve(inner[:11]), curve(np.concatenate([inner[10:], inner[:1]]))
        if gap > OPEN * wide:
            shape = np.concatenate([top, bottom])
            inside = self.canvas.mask(shape)
            self.canvas.polygon(shape, np.array([0.36, 0.13, 0.13]) * 0.9 + 0.1 * lips)
            if self.palette.teeth:
                depth = min(gap * 0.8, 0.16 * wide)
                edge = np.concatenate([top, (top + np.array([0, depth]))[::-1]])
                self.canvas.polygon(edge if gap > 0.22 * wide else shape, np.array([0.97, 0.96, 0.94]), clip=inside)
            self.canvas.stroke(bottom, taper(0.3, 0.8, 0.3, len(bottom)) * self.width, dark)
            self.canvas.stroke(top, taper(0.8, 1.3, 0.8, len(top)) * self.width, dark)
        else:
            line = (top + bottom[::-1]) / 2
            self.canvas.stroke(line, taper(0.5, 1.5, 0.5, len(line)) * self.width, dark)
        under = curve(outer[13:18])
        part = under[len(under) // 4 : -len(under) // 4]
        self.canvas.stroke(
            part + np.array([0, 0.6 * self.width]),
            taper(0.1, 0.8, 0.1, len(part)) * self.width,
            mix(self.palette.shade, self.palette.line, 0.3),
        )


def mix(one: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """Between two colours: `share` of the other."""
    return one * (1 - share) + other * share


def enlarge(points: np.ndarray, centre: np.ndarray, across: np.ndarray, down: np.ndarray, scale: float) -> np.ndarray:
    """Points of an eye enlarged around its centre, more in height than in width."""
    off = points - centre
    return centre + (off @ across)[:, None] * across * (1 + 0.6 * (scale - 1)) + (off @ down)[:, None] * down * scale
