"""Edges against a slow reference, and against OpenCV where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import drawn_picture

from kyara.data import edges
from kyara.files.pictures import to_float


def slow_canny(grey: np.ndarray, low: float, high: float) -> np.ndarray:
    """Pixel by pixel, from the definition."""
    height, width = grey.shape
    rim = np.pad(grey.astype(int), 1, mode="edge")
    dx, dy = np.zeros((2, height, width), int)
    for y in range(height):
        for x in range(width):
            around = rim[y : y + 3, x : x + 3]
            dx[y, x] = (around[:, 2] - around[:, 0]) @ [1, 2, 1]
            dy[y, x] = (around[2] - around[0]) @ [1, 2, 1]
    strength = np.abs(dx) + np.abs(dy)
    around = np.pad(strength, 1)
    kept = np.zeros_like(strength, bool)
    for y in range(height):
        for x in range(width):
            angle = np.degrees(np.arctan2(abs(dy[y, x]), abs(dx[y, x])))
            if angle < 22.5:
                before, after, strict = around[y + 1, x], around[y + 1, x + 2], False
            elif angle > 67.5:
                before, after, strict = around[y, x + 1], around[y + 2, x + 1], False
            elif (dx[y, x] < 0) == (dy[y, x] < 0):
                before, after, strict = around[y, x], around[y + 2, x + 2], True
            else:
                before, after, strict = around[y, x + 2], around[y + 2, x], True
            here = strength[y, x]
            kept[y, x] = here > low and here > before and (here > after if strict else here >= after)
    found, queue = np.zeros_like(kept), [tuple(p) for p in np.argwhere(kept & (strength > high))]
    while queue:
        y, x = queue.pop()
        if 0 <= y < height and 0 <= x < width and kept[y, x] and not found[y, x]:
            found[y, x] = True
            queue += [(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    return found


def pictures() -> np.ndarray:
    return np.stack([drawn_picture(seed, 40)[:, :33] for seed in range(4)])


def test_edges_are_those_of_the_definition() -> None:
    grey = edges.grey_levels(to_float(pictures()))
    found = edges.canny(grey, 60, 250)
    for one, levels in zip(found, grey, strict=True):
        assert np.array_equal(one[0].numpy(), slow_canny(levels[0].numpy(), 60, 250))
    assert 0.01 < found.float().mean() < 0.5


def test_only_edges_are_blurred() -> None:
    given = to_float(pictures())
    smooth = edges.smooth_edges(given)
    found = edges.canny(edges.grey_levels(given))[:, 0].numpy()
    near = np.zeros_like(found)
    for n, y, x in np.argwhere(found):
        near[n, max(0, y - 2) : y + 3, max(0, x - 2) : x + 3] = True
    changed = (smooth != given).any(1).numpy()
    assert changed.any() and not (changed & ~near).any()
    row = np.array([1, 4, 6, 4, 1]) / 16
    rim = np.pad(given[0, 1].numpy(), 2, mode="reflect")
    for y, x in np.argwhere(near[0])[::7]:
        assert float(smooth[0, 1, y, x]) == pytest.approx(float(row @ rim[y : y + 5, x : x + 5] @ row), abs=1e-5)


def test_flat_or_minute_pictures_stay() -> None:
    for shape in [(2, 3, 9, 9), (1, 3, 1, 1), (1, 3, 2, 40)]:
        flat = torch.full(shape, 0.3)
        assert torch.equal(edges.smooth_edges(flat), flat)


def test_opencv_finds_the_same() -> None:
    cv2 = pytest.importorskip("cv2", reason="needs OpenCV for comparison; run: pip install opencv-python-headless")
    given = np.stack([drawn_picture(seed, 96) for seed in range(8)])
    grey = edges.grey_levels(to_float(given))
    smooth = edges.smooth_edges(to_float(given))
    for picture, levels, ours in zip(given, grey, smooth, strict=True):
        theirs = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        assert np.array_equal(levels[0].numpy(), theirs)
        found = cv2.Canny(theirs, edges.LOW, edges.HIGH)
        assert np.array_equal(edges.canny(levels[None])[0, 0].numpy(), found > 0)
        near = cv2.dilate(found, np.ones((5, 5), np.uint8)) > 0
        blurred = cv2.GaussianBlur(picture, (5, 5), 0, borderType=cv2.BORDER_REFLECT_101)
        expected = np.where(near[..., None], blurred, picture)
        assert np.abs((ours.permute(1, 2, 0).numpy() + 1) * 127.5 - expected).max() < 0.51  # they round


def test_a_gpu_finds_the_same_edges() -> None:
    """It follows weak edges for a fixed number of steps, on its own device."""
    grey = edges.grey_levels(to_float(pictures()))
    weak, strong = edges.canny(grey, 20, 20), edges.canny(grey, 400, 400)
    found = edges._grown(strong & weak, weak, edges.STEPS)
    assert torch.equal(found, edges._connected(strong & weak, weak)) and found.sum() > (strong & weak).sum()
    assert edges.smooth_edges(torch.empty(2, 3, 16, 24, device="meta")).shape == (2, 3, 16, 24)
