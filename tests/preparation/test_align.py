"""Faces are cut to their frame: to a fraction of a pixel, at every angle and size, and whatever the frame asks for."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from PIL import Image, ImageFilter

from kyara.files import pictures
from kyara.preparation import align

EYES = np.array([[-0.5, 0.0], [0.5, 0.0]])
MOUTH = np.array([[-0.4, 1.1], [0.4, 1.1]])
"""Of an upright face whose eyes are 1 apart."""


def placed(points: np.ndarray, degrees: float, scale: float, middle: tuple[float, float]) -> np.ndarray:
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return points @ np.array([[cos, sin], [-sin, cos]]) * scale + middle


def with_dots(size: tuple[int, int], places: np.ndarray, sigma: float) -> np.ndarray:
    """Black, (height, width, 3), with a soft white dot at each of the places."""
    light = np.zeros(size, np.float32)
    for x, y in places:
        across, down = (
            np.exp(-(((np.arange(n, dtype=np.float32) + 0.5 - at) / sigma) ** 2) / 2)
            for n, at in ((size[1], x), (size[0], y))
        )
        light += np.outer(down, across)
    return np.repeat(np.round(255 * np.minimum(light, 1)).astype(np.uint8)[:, :, None], 3, axis=2)


def dot_near(picture: np.ndarray, place: np.ndarray, reach: int) -> np.ndarray:
    """Centre of gravity of what is around that place."""
    left, top = np.maximum(np.round(place).astype(int) - reach, 0)
    part = picture[top : top + 2 * reach, left : left + 2 * reach, 0].astype(float)
    y, x = np.mgrid[: part.shape[0], : part.shape[1]] + 0.5
    return np.array([left + (part * x).sum() / part.sum(), top + (part * y).sum() / part.sum()])


def expected(points: np.ndarray, zoom: float, size: int) -> np.ndarray:
    """Where points of the upright face belong in its frame, by FFHQ's definition."""
    half = max(2.0, 1.8 * 1.1) * zoom
    return ((points - [0, 0.11]) / half + 1) * size / 2


@pytest.mark.parametrize("zoom", [align.PORTRAIT, align.FFHQ])
@pytest.mark.parametrize("degrees", [0, 7.3, -31, 90, 145, 180])
@pytest.mark.parametrize(
    ("scale", "middle"),
    [
        (41.7, (150.3, 119.8)),
        (60.0, (52.1, 47.6)),  # much of the frame lies outside
        (23.1, (281.4, 205.5)),
    ],
)
def test_eyes_and_mouth_land_where_they_belong(
    zoom: float, degrees: float, scale: float, middle: tuple[float, float]
) -> None:
    eyes, mouth = placed(EYES, degrees, scale, middle), placed(MOUTH, degrees, scale, middle)
    sigma = scale / 20
    inside = [
        (place, point)
        for place, point in zip([*eyes, *mouth], [*EYES, *MOUTH], strict=True)
        if (place > 5 * sigma).all() and (place < np.array([320, 240]) - 5 * sigma).all()
    ]
    picture = with_dots((240, 320), np.array([place for place, _ in inside]), sigma)
    result = align.upright(picture, *align.square(eyes, mouth, zoom))
    assert result.shape == (round(4 * scale * zoom),) * 2 + (3,) and len(inside) >= 2
    for _, point in inside:
        goal = expected(point, zoom, len(result))
        assert np.abs(dot_near(result, goal, round(5 * sigma)) - goal).max() < 0.3


@pytest.mark.parametrize("degrees", [0, 33])
@pytest.mark.parametrize("scale", [340.0, 700.0])
def test_large_faces_are_reduced_in_place(degrees: float, scale: float) -> None:
    eyes, mouth = placed(EYES, degrees, scale, (1100.5, 900.2)), placed(MOUTH, degrees, scale, (1100.5, 900.2))
    picture = with_dots((2000, 2200), eyes, scale / 16)
    result = align.upright(picture, *align.square(eyes, mouth))
    assert len(result) == align.LARGEST
    for point in EYES:
        goal = expected(point, align.PORTRAIT, align.LARGEST)
        assert np.abs(dot_near(result, goal, 80) - goal).max() < 0.3


def test_a_smaller_cut_is_the_same_picture_reduced() -> None:
    y, x = np.mgrid[:600, :800]
    picture = np.stack([128 + 100 * np.sin(x / 40), 128 + 100 * np.sin(y / 30), x * 255 / 800], 2).astype(np.uint8)
    centre, right = np.array([400.0, 300.0]), np.array([240.0, 60.0])
    whole, small = (align.upright(picture, centre, right, largest=size) for size in (align.LARGEST, 96))
    assert small.shape == (96, 96, 3) and len(whole) > 400
    reduced = pictures.resize(whole, 96, 96)
    assert np.abs(reduced.astype(int) - small)[4:-4, 4:-4].max() <= 6


def test_a_turned_or_nodding_head_stays_centred_between_its_eyes() -> None:
    mouth = MOUTH + np.array([0.3, 0])
    centre, right = align.square(EYES * 10, mouth * 10)
    assert np.allclose(centre, [0.3, 1.1])
    assert right[0] > 0 and 0 > np.rad2deg(np.arctan2(right[1], right[0])) > -15


def test_whole_pixels_are_not_touched() -> None:
    picture = np.random.RandomState(0).randint(0, 256, (16, 16, 3), dtype=np.uint8)
    centre = np.array([8.0, 8.0])
    assert np.array_equal(align.upright(picture, centre, np.array([8.0, 0.0])), picture)
    assert np.array_equal(align.upright(picture, centre, np.array([0.0, 8.0])), np.rot90(picture))
    assert np.array_equal(align.upright(picture, centre, np.array([-8.0, 0.0])), picture[::-1, ::-1])
    assert np.array_equal(align.upright(picture, np.array([4.0, 5.0]), np.array([3.0, 0.0])), picture[2:8, 1:7])


def test_fine_patterns_become_grey_not_moire() -> None:
    board = (np.add.outer(np.arange(3000), np.arange(3000)) % 2 * 255).astype(np.uint8)
    picture = np.repeat(board[:, :, None], 3, axis=2)
    result = align.upright(picture, np.array([1500.0, 1500.0]), np.array([1200.0, 300.0]))
    assert result.shape == (1024, 1024, 3) and abs(result.astype(int) - 127).max() <= 4


def test_what_lies_outside_is_mirrored_or_black() -> None:
    assert align._reflected(np.arange(-3, 6), 3).tolist() == [1, 2, 1, 0, 1, 2, 1, 0, 1]
    assert align._reflected(np.arange(-3, 4), 2).tolist() == [1, 0, 1, 0, 1, 0, 1]
    assert align._reflected(np.arange(-3, 4), 1).tolist() == [0] * 7
    picture = np.random.RandomState(0).randint(0, 256, (8, 8, 3), dtype=np.uint8)
    result = align.upright(picture, np.array([4.0, 4.0]), np.array([8.0, 0.0]))
    assert np.array_equal(result[4:12, 4:12], picture)
    assert np.array_equal(result[4:12, :4], picture[:, 4:0:-1])
    black = align.upright(picture, np.array([4.0, 4.0]), np.array([8.0, 0.0]), outside=0)
    assert np.array_equal(black[4:12, 4:12], picture) and not black[:4].any() and not black[:, 12:].any()
    white = align.upright(picture, np.array([4.0, 4.0]), np.array([8.0, 0.0]), aspect=2, outside=255)
    assert white.shape == (8, 16, 3) and np.array_equal(white[:, 4:12], picture) and (white[:, 12:] == 255).all()
    dot = np.full((1, 1, 3), 77, np.uint8)
    assert (align.upright(dot, np.array([0.5, 0.5]), np.array([3.0, 1.0])) == 77).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (300, 200)])
@pytest.mark.parametrize("centre", [(0.0, 0.0), (-1e9, 3e9)])
@pytest.mark.parametrize("right", [(0.0, 0.0), (900.0, -900.0), (1e7, 2e6), (1e12, 0.0)])
def test_no_frame_takes_much_memory(
    shape: tuple[int, int], centre: tuple[float, float], right: tuple[float, float]
) -> None:
    picture = np.full((*shape, 3), 50, np.uint8)
    tracemalloc.start()
    result = align.upright(picture, np.array(centre), np.array(right))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert result.shape[0] == result.shape[1] <= align.LARGEST and (result == 50).all()
    assert peak < 64 * 2**20


def test_points_that_coincide_make_no_frame_but_no_error() -> None:
    centre, right = align.square(np.ones((2, 2)), np.ones((2, 2)))
    assert np.allclose(centre, 1) and np.allclose(right, 0)


def test_sharpness_falls_with_blur_and_keeps_with_size() -> None:
    small = np.random.RandomState(0).randint(0, 256, (32, 32, 3), dtype=np.uint8)
    face = pictures.resize(small, 256, 256, by="bicubic")
    blurred = [
        align.sharpness(np.array(Image.fromarray(face).filter(ImageFilter.GaussianBlur(sigma))))
        for sigma in (0, 1, 2, 4, 8)
    ]
    assert blurred == sorted(blurred, reverse=True) and blurred[0] > 5 * blurred[-1]
    assert align.sharpness(np.full((40, 40, 3), 9, np.uint8)) == align.sharpness(np.full((1, 1, 3), 9, np.uint8)) == 0
    large = pictures.resize(face, 1024, 1024)
    assert align.sharpness(large) == pytest.approx(blurred[0], rel=0.1)
