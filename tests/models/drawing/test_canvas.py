"""Polygons and strokes."""

from __future__ import annotations

import numpy as np
import pytest

from kyara.models.drawing.canvas import Canvas, curve, taper

WHITE = np.full((40, 50, 3), 255, np.uint8)
BLACK = np.zeros(3)


def covered(canvas: Canvas) -> float:
    """Area in pixels that is black."""
    return float((255 - canvas.result().astype(float)).mean(2).sum() / 255)


def test_a_polygon_covers_its_area() -> None:
    canvas = Canvas(WHITE, (0, 0, 50, 40))
    canvas.polygon(np.array([(10.0, 10), (30.5, 10), (30.5, 20.25), (10, 20.25)]), BLACK)
    assert covered(canvas) == pytest.approx(20.5 * 10.25, rel=0.05)


def test_a_stroke_has_its_width_and_is_antialiased() -> None:
    canvas = Canvas(WHITE, (0, 0, 50, 40))
    line = np.array([(5.0, 5), (15, 12), (25, 19), (35, 26)])
    canvas.stroke(line, np.full(4, 2.0), BLACK)
    assert covered(canvas) == pytest.approx(2 * np.linalg.norm(line[-1] - line[0]) + np.pi, rel=0.08)
    assert len(np.unique(canvas.result())) > 5


def test_opacity_and_clip() -> None:
    square = np.array([(10.0, 10), (20, 10), (20, 20), (10, 20)])
    canvas = Canvas(WHITE, (0, 0, 50, 40))
    canvas.polygon(square, BLACK, alpha=0.5)
    assert covered(canvas) == pytest.approx(50, rel=0.08)
    canvas = Canvas(WHITE, (0, 0, 50, 40))
    canvas.ellipse(np.array([10.0, 15]), (4.0, 4.0), BLACK, clip=canvas.mask(square))
    assert covered(canvas) == pytest.approx(np.pi * 16 / 2, rel=0.1)


def test_a_part_of_a_picture_keeps_what_is_not_drawn() -> None:
    picture = np.random.RandomState(0).randint(0, 256, (40, 50, 3)).astype(np.uint8)
    canvas = Canvas(picture, (8, 6, 33, 29))
    assert np.array_equal(canvas.result(), picture[6:29, 8:33])


def test_a_curve_passes_its_points() -> None:
    points = np.array([(0.0, 0), (3, 5), (8, 5), (9, 0)])
    assert np.allclose(curve(points)[::8], points) and len(curve(points)) == 25
    assert np.allclose(curve(points, closed=True)[::8], points)
    assert taper(0.2, 1.0, 0.4, 5) == pytest.approx([0.2, 0.766, 1.0, 0.824, 0.4], abs=0.01)
