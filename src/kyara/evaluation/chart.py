"""Charts as inline SVG: no script, no library; colours and fonts come from the page's style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 560, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 34
POINTS = 240
"""Points of a curve, at most: more than the eye can tell on so few pixels."""
COLOURS = 8
"""Colours that the style names, --c0 and on; later series begin again."""


class Curve(NamedTuple):
    name: str
    colour: int
    points: Sequence[tuple[float, float]]
    """(x, y), x growing."""


class Whisker(NamedTuple):
    name: str
    colour: int
    value: float
    low: float
    high: float


def thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """No more than POINTS of them, each the mean of its neighbours; what is not finite is left out."""
    finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    size = -(-len(finite) // POINTS)
    groups = [finite[i : i + size] for i in range(0, len(finite), size)] if finite else []
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers between low and high."""
    if not high > low:
        return [low]
    raw = (high - low) / about
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def lines(curves: Sequence[Curve], x_label: str, title: str) -> str:
    """Curves over a common axis; empty text if there is nothing to draw."""
    drawn = [curve._replace(points=thin(curve.points)) for curve in curves]
    drawn = [curve for curve in drawn if len(curve.points) > 1]
    if not drawn:
        return ""
    xs = [x for curve in drawn for x, _ in curve.points]
    ys = [y for curve in drawn for _, y in curve.points]
    x0, x1, y0, y1 = min(xs), max(xs), min(ys), max(ys)
    margin = (y1 - y0) * 0.06 or abs(y1) * 0.1 or 1.0
    y0, y1 = (0.0 if 0 <= y0 < 0.4 * y1 else y0 - margin), y1 + margin
    x1 = x1 if x1 > x0 else x0 + 1

    def place(x: float, y: float) -> str:
        across = LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)
        return f"{across:.1f},{TOP + (y1 - y) / (y1 - y0) * (HEIGHT - TOP - BOTTOM):.1f}"

    parts = [_grid(x0, x1, y0, y1), f'<text class="axis" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}">{escape(x_label)}</text>']
    for curve in drawn:
        path = " ".join(place(x, y) for x, y in curve.points)
        name = f"<title>{escape(curve.name)}</title>"
        parts.append(f'<polyline class="k{curve.colour % COLOURS}" points="{path}">{name}</polyline>')
    legend = "".join(f'<li class="k{c.colour % COLOURS}">{escape(c.name)}</li>' for c in drawn)
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
        f'<ul class="legend">{legend}</ul></figure>'
    )


def _grid(x0: float, x1: float, y0: float, y1: float) -> str:
    parts = []
    for y in ticks(y0, y1):
        at = TOP + (y1 - y) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="y" x="{LEFT - 7}" y="{at + 4:.1f}">{y:g}</text>')
    for x in ticks(x0, x1, 7):
        at = LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)
        parts.append(f'<text class="x" x="{at:.1f}" y="{HEIGHT - BOTTOM + 15}">{x:g}</text>')
    return "".join(parts)


def whiskers(rows: Sequence[Whisker], title: str, note: str = "") -> str:
    """A dot and its interval for each row, the names on the left."""
    if not rows:
        return ""
    low, high = min(0.0, *(row.low for row in rows)), max(row.high for row in rows)
    high = high if high > low else low + 1
    step, left, right = 30, 150, 70
    height = step * len(rows) + 26

    def across(value: float) -> float:
        return left + (value - low) / (high - low) * (WIDTH - left - right)

    parts = []
    for x in ticks(low, high):
        parts.append(f'<line class="grid" x1="{across(x):.1f}" x2="{across(x):.1f}" y1="4" y2="{height - 20}"/>')
        parts.append(f'<text class="x" x="{across(x):.1f}" y="{height - 5}">{x:g}</text>')
    for i, row in enumerate(rows):
        y, name = step * i + 20, row.name if len(row.name) <= 22 else f"{row.name[:21]}…"
        parts.append(
            f'<g class="k{row.colour % COLOURS}"><title>{escape(row.name)}: {row.value:.4g}, '
            f"{row.low:.4g} to {row.high:.4g}</title>"
            f'<text class="name" x="{left - 12}" y="{y + 4}">{escape(name)}</text>'
            f'<line class="span" x1="{across(row.low):.1f}" x2="{across(row.high):.1f}" y1="{y}" y2="{y}"/>'
            f'<circle cx="{across(row.value):.1f}" cy="{y}" r="5"/>'
            f'<text class="value" x="{across(row.high) + 10:.1f}" y="{y + 4}">{row.value:.4g}</text></g>'
        )
    return (
        f'<figure class="chart"><figcaption>{escape(title)} <i>{escape(note)}</i></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg></figure>'
    )
