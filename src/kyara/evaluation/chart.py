"""Charts as inline SVG, without scripts or libraries; colours and fonts come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 560, 250
RIGHT, TOP, BOTTOM = 14, 12, 34
DIGIT = 6.6  # Minimum width of a digit in axis labels, at a font size of 11 px
POINTS = 240  # Maximum number of points of a curve
COLOURS = 8  # Number of colours in the style sheet, --c0 to --c7; further series reuse them


class Curve(NamedTuple):
    name: str
    colour: int
    points: Sequence[tuple[float, float]]  # (x, y), x ascending


class Interval(NamedTuple):
    name: str
    colour: int
    value: float
    low: float
    high: float


def thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most POINTS points, each the mean of consecutive finite ones."""
    finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    size = -(-len(finite) // POINTS) or 1
    groups = (finite[i : i + size] for i in range(0, len(finite), size))
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


def line_chart(curves: Sequence[Curve], x_label: str, title: str) -> str:
    """Curves with common axes; an empty string if no curve has two points."""
    thinned = (curve._replace(points=thin(curve.points)) for curve in curves)
    drawn = [curve for curve in thinned if len(curve.points) > 1]
    if not drawn:
        return ""
    xs, ys = zip(*(point for curve in drawn for point in curve.points), strict=True)
    x0, x1, y0, y1 = min(xs), max(xs), min(ys), max(ys)
    margin = (y1 - y0) * 0.06 or abs(y1) * 0.1 or 1.0
    y0, y1 = (0.0 if 0 <= y0 < 0.4 * y1 else y0 - margin), y1 + margin
    x1 = x1 if x1 > x0 else x0 + 1
    left = 14 + DIGIT * max(len(f"{y:g}") for y in ticks(y0, y1))

    def across(x: float) -> float:
        return left + (x - x0) / (x1 - x0) * (WIDTH - left - RIGHT)

    def down(y: float) -> float:
        return TOP + (y1 - y) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)

    parts = []
    for y in ticks(y0, y1):
        parts.append(f'<line class="grid" x1="{left:.1f}" x2="{WIDTH - RIGHT}" y1="{down(y):.1f}" y2="{down(y):.1f}"/>')
        parts.append(f'<text class="y" x="{left - 7:.1f}" y="{down(y) + 4:.1f}">{y:g}</text>')
    for x in ticks(x0, x1, 7):
        parts.append(f'<text class="x" x="{across(x):.1f}" y="{HEIGHT - BOTTOM + 15}">{x:g}</text>')
    parts.append(f'<text class="axis" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}">{escape(x_label)}</text>')
    for curve in drawn:
        path = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in curve.points)
        name = f"<title>{escape(curve.name)}</title>"
        parts.append(f'<polyline class="k{curve.colour % COLOURS}" points="{path}">{name}</polyline>')
    legend = "".join(f'<li class="k{c.colour % COLOURS}">{escape(c.name)}</li>' for c in drawn)
    return _figure(escape(title), f'{_svg(HEIGHT, parts, title)}<ul class="legend">{legend}</ul>')


def interval_chart(rows: Sequence[Interval], title: str, note: str) -> str:
    """A dot with its interval for each row. Labels above the rows are HTML, so that the browser wraps long ones."""
    low, high = min(0.0, *(row.low for row in rows)), max(row.high for row in rows)
    high = high if high > low else low + 1
    side, height, middle = 30, 18, 9

    def across(value: float) -> float:
        return side + (value - low) / (high - low) * (WIDTH - 2 * side)

    steps = [(across(x), f"{x:g}") for x in ticks(low, high)]
    grid = [f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height}"/>' for x, _ in steps]
    parts = []
    for row in rows:
        about = f"{row.name}: {row.value:.4g}, {row.low:.4g} to {row.high:.4g}"
        x0, x, x1 = (f"{across(value):.1f}" for value in (row.low, row.value, row.high))
        line = f'<line class="span" x1="{x0}" x2="{x1}" y1="{middle}" y2="{middle}"/>'
        drawn = _svg(height, [*grid, line, f'<circle cx="{x}" cy="{middle}" r="5"/>'], about)
        text = f"<span>{escape(row.name)}</span> <b>{row.value:.4g}</b>"
        parts.append(f'<li class="k{row.colour % COLOURS}">{text}{drawn}</li>')
    axis = [f'<text class="x" x="{x:.1f}" y="12">{text}</text>' for x, text in steps]
    body = f'<ul class="intervals">{"".join(parts)}</ul>{_svg(16, axis, "axis")}'
    return _figure(f"{escape(title)} <i>{escape(note)}</i>", body)


def _svg(height: int, parts: Sequence[str], label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'


def _figure(caption: str, body: str) -> str:
    return f'<figure class="chart"><figcaption>{caption}</figcaption>{body}</figure>'
