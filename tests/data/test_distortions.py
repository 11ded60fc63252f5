"""The four pseudo-distortions: their statistics against plain NumPy, and what a recogniser relies on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from kyara.data import distortions as distort

SIZE = 64
"""The plain versions are slow; every strength is a share of the side or scales with it."""


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(count: int, height: int = 24, width: int = 24) -> Tensor:
    return torch.rand(count, 3, height, width, generator=seeded(99)) * 2 - 1


def field(distortion: distort.Distortion, pictures: Tensor, seed: int = 0) -> Tensor:
    """Random displacements (B, H, W, 2) for pictures."""
    count, _, height, width = pictures.shape
    return distortion.field(distortion.draw(count, height, width, seeded(seed)), height, width)


# The same distortions for one picture, written down plainly: displacements (H, W, 2) in pixels.


def plain_grid(size: int, random: np.random.RandomState) -> np.ndarray:
    factors = 1 + random.uniform(-0.6, 0.6, (2, 15))
    knots = np.concatenate([np.zeros((2, 1)), np.cumsum(factors, 1)], 1) / 15 * (size - 1)
    even = np.linspace(0, size - 1, 16)
    x, y = (np.interp(np.arange(size), even, knots[axis]) - np.arange(size) for axis in (0, 1))
    return np.stack(np.broadcast_arrays(x[None, :], y[:, None]), -1)


def plain_elastic(size: int, random: np.random.RandomState) -> np.ndarray:
    reach = np.arange(-40, 41)
    bell = np.exp(-(reach**2) / 200)
    bell /= bell.sum()
    field = np.pad(random.uniform(-1, 1, (2, size, size)), ((0, 0), (40, 40), (40, 40)), mode="symmetric")
    for axis in (1, 2):
        field = np.apply_along_axis(np.convolve, axis, field, bell, mode="valid")
    return 200 * field.transpose(1, 2, 0)


def plain_piecewise(size: int, random: np.random.RandomState) -> np.ndarray:
    rows, columns = random.randint(3, 7, 2)
    y, x = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    points = np.stack([x, y], -1)
    moves = np.clip(points + random.randn(*points.shape) * random.uniform(0.03, 0.05), 0, 1) - points
    field = np.empty((size, size, 2))
    for i in range(size):
        for j in range(size):
            v, u = i / (size - 1) * (rows - 1), j / (size - 1) * (columns - 1)
            r, c = min(int(v), rows - 2), min(int(u), columns - 2)
            v, u = v - r, u - c
            middle, along = (moves[r, c + 1], u - v) if u > v else (moves[r + 1, c], v - u)
            field[i, j] = (1 - max(u, v)) * moves[r, c] + along * middle + min(u, v) * moves[r + 1, c + 1]
    return field * (size - 1)


def plain_spline(size: int, random: np.random.RandomState) -> np.ndarray:
    source = random.uniform(0.3, 0.7, (2, 2))
    target = source + random.uniform(-0.25, 0.25, (2, 2))
    rim = [(0, 0), (0.5, 0), (1, 0), (0, 0.5), (1, 0.5), (0, 1), (0.5, 1), (1, 1)]
    centres = np.concatenate([np.array(rim), target])

    def basis(points: np.ndarray) -> np.ndarray:
        r = np.linalg.norm(points[:, None] - centres, axis=-1)
        return np.hstack([r**2 * np.log(r + 1e-6), np.ones((len(points), 1)), points])

    system = np.zeros((13, 13))
    system[:10] = basis(centres)
    system[10:, :10] = system[:10, 10:].T
    values = np.zeros((13, 2))
    values[8:10] = source - target
    x, y = np.meshgrid(np.linspace(0, 1, size), np.linspace(0, 1, size))
    field = basis(np.stack([x.ravel(), y.ravel()], 1)) @ np.linalg.solve(system, values)
    return field.reshape(size, size, 2) * (size - 1)


PLAIN: dict[str, Callable[[int, np.random.RandomState], np.ndarray]] = {
    "grid": plain_grid,
    "elastic": plain_elastic,
    "piecewise": plain_piecewise,
    "spline": plain_spline,
}


@pytest.mark.parametrize("name", distort.DISTORTIONS)
def test_displacements_are_those_of_a_plain_version(name: str) -> None:
    random, count = np.random.RandomState(0), {"piecewise": 40}.get(name, 300)
    plain = np.linalg.norm([PLAIN[name](SIZE, random) for _ in range(count)], axis=-1)
    moves = field(distort.DISTORTIONS[name], torch.empty(600, 3, SIZE, SIZE))
    ours = moves.norm(dim=-1).numpy()
    assert moves.shape == (600, SIZE, SIZE, 2)
    assert ours.mean() == pytest.approx(plain.mean(), rel=0.12)
    assert np.percentile(ours, 99) == pytest.approx(np.percentile(plain, 99), rel=0.12)


def test_spline_passes_through_its_points() -> None:
    drawn = distort._thin_plate(torch.tensor([[[0.4, 0.6]]]), torch.tensor([[[0.1, -0.2]]]), torch.arange(6) / 5)
    assert torch.allclose(drawn[0, :, 3, 2], torch.tensor([0.1, -0.2]), atol=1e-5)  # row y = 0.6, column x = 0.4
    assert drawn[0, :, [0, 0, -1, -1], [0, -1, 0, -1]].abs().max() < 1e-5  # the corners


def test_spline_between_nodes_is_the_spline() -> None:
    pictures = torch.empty(50, 3, SIZE, SIZE)
    coarse, fine = (field(distort.Spline(cells=cells), pictures) for cells in (20, 100))
    assert (coarse - fine).norm(dim=-1).mean() < 0.02


def test_elastic_is_smooth_over_sigma() -> None:
    moves = field(distort.Elastic(), torch.empty(200, 3, 128, 128))[:, 30:-30, 30:-30]
    near, far = ((moves[:, :, d:] * moves[:, :, :-d]).mean() / moves.square().mean() for d in (10, 20))
    assert near.item() == pytest.approx(np.exp(-(10**2) / (4 * 10**2)), abs=0.06)  # sigma is 10 pixels
    assert far.item() == pytest.approx(np.exp(-(20**2) / (4 * 10**2)), abs=0.06)


def test_elastic_with_the_old_affine_moves_further() -> None:
    pictures = torch.empty(60, 3, 256, 256)
    reach = [field(distort.Elastic(affine=a), pictures).norm(dim=-1).mean() for a in (0, 50)]
    assert 3.6 < reach[0] < 5  # 4.3 for Albumentations 1.3.1
    assert reach[1] > 30


@pytest.mark.parametrize("name", ["grid", "piecewise", "spline"])
def test_strength_is_a_share_of_the_picture(name: str) -> None:
    small, large = (
        field(distort.DISTORTIONS[name], torch.empty(200, 3, s, s), 1).norm(dim=-1).mean() / (s - 1) for s in (40, 120)
    )
    assert small.item() == pytest.approx(large.item(), rel=0.05)


def test_zero_strength_is_the_identity() -> None:
    pictures = noise(6, 23, 31)
    still: list[distort.Distortion] = [
        distort.Grid(limit=0),
        distort.Elastic(alpha=0),
        distort.Elastic(alpha=0, affine=1e-4),
        distort.Piecewise(scale=(0, 0)),
        distort.Spline(move=(0, 0)),
        distort.Shift(limit=0),
    ]
    for distortion in still:
        moved = distort.remap(pictures, field(distortion, pictures))
        assert torch.allclose(moved, pictures, atol=1e-3), distortion


def test_remap_shows_what_lies_at_the_displaced_place_and_mirrors_at_the_border() -> None:
    ramp = torch.arange(5.0).expand(1, 3, 4, 5)
    field = torch.zeros(1, 4, 5, 2)
    field[..., 0] = 1.5
    assert torch.allclose(distort.remap(ramp, field)[0, 0, 0], torch.tensor([1.5, 2.5, 3.5, 3.5, 2.5]))
    field[..., 0] = -2
    assert torch.allclose(distort.remap(ramp, field)[0, 0, 0], torch.tensor([2.0, 1.0, 0.0, 1.0, 2.0]))
    field = torch.zeros(1, 4, 5, 2)
    field[..., 1] = 1
    rows = torch.arange(4.0)[:, None].expand(1, 3, 4, 5)
    assert distort.remap(rows, field)[0, 0, :, 0].tolist() == [1, 2, 3, 2]


@pytest.mark.parametrize("name", [*distort.DISTORTIONS, "affine"])
def test_no_colour_comes_from_outside(name: str) -> None:
    pictures = torch.full((40, 3, 33, 40), 0.75)
    every = {**distort.DISTORTIONS, "affine": distort.Elastic(affine=50)}
    moved = distort.distort(pictures, seeded(), {name: every[name]})
    assert torch.allclose(moved, pictures, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 3), (17, 33), (96, 48)])
def test_any_size(shape: tuple[int, int]) -> None:
    pictures = noise(12, *shape)
    moved = distort.distort(pictures, seeded())
    assert moved.shape == pictures.shape
    assert moved.isfinite().all() and moved.abs().max() <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_dtype_and_memory_format_are_kept(dtype: torch.dtype) -> None:
    pictures = noise(5).to(dtype).to(memory_format=torch.channels_last)
    moved = distort.distort(pictures, seeded())
    assert moved.dtype == dtype and moved.device == pictures.device
    assert torch.allclose(moved.float(), distort.distort(pictures.float(), seeded()), atol=0.02)


def test_no_pictures() -> None:
    nothing = noise(0)
    assert distort.distort(nothing, seeded()).shape == nothing.shape
    assert distort.frozen(nothing, []).shape == nothing.shape


def test_same_seed_same_result_and_the_pictures_are_left_alone() -> None:
    pictures = noise(20)
    before = pictures.clone()
    assert distort.distort(pictures, seeded(4)).equal(distort.distort(pictures, seeded(4)))
    assert not distort.distort(pictures, seeded(4)).equal(distort.distort(pictures, seeded(5)))
    assert pictures.equal(before)
    assert distort.distort(pictures, seeded(4), inplace=True) is pictures
    assert pictures.equal(distort.distort(before, seeded(4)))


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = noise(30)
    whole = distort.distort(pictures, seeded())
    monkeypatch.setattr(distort, "CHUNK", 1)
    assert torch.allclose(distort.distort(pictures, seeded()), whole, atol=1e-4)


def test_frozen_does_not_depend_on_the_batch() -> None:
    pictures, seeds = noise(16, 40, 32), list(range(100, 116))
    whole = distort.frozen(pictures, seeds)
    order = torch.randperm(16, generator=seeded())
    assert distort.frozen(pictures[order], torch.tensor(seeds)[order]).equal(whole[order])
    for i in (0, 7, 15):
        assert distort.frozen(pictures[i : i + 1], [seeds[i]])[0].equal(whole[i])
    assert all(not a.equal(b) for a, b in zip(whole, pictures, strict=True))
    with pytest.raises(ValueError, match="16 pictures but 1 seeds"):
        distort.frozen(pictures, [1])


def test_half_is_exactly_half() -> None:
    assert [distort.half(n, seed=3).sum().item() for n in (0, 1, 10, 11)] == [0, 0, 5, 5]
    assert distort.half(100, 3).equal(distort.half(100, 3))
    assert not distort.half(100, 3).equal(distort.half(100, 4))


def test_some_are_distorted_and_labelled() -> None:
    pictures = noise(400, 12, 12)
    moved, labels, kinds = distort.distort_some(pictures, seeded())
    changed = (moved != pictures).flatten(1).any(1)
    assert labels.dtype == kinds.dtype == torch.int64
    assert changed.equal(labels.bool()) and changed.equal(kinds >= 0)
    assert 160 < labels.sum() < 240
    assert all(25 < n < 75 for n in torch.bincount(kinds[kinds >= 0], minlength=4))
    assert distort.distort_some(pictures, seeded(), probability=0)[0].equal(pictures)
    assert distort.distort_some(pictures, seeded(), probability=1)[1].all()


def test_kinds_are_what_was_applied() -> None:
    pictures = noise(40, 12, 12)
    only = {name: distort.Shift(0.0) for name in distort.DISTORTIONS}
    moved, _, kinds = distort.distort_some(pictures, seeded(), 1.0, {**only, "spline": distort.Spline()})
    still = (moved - pictures).flatten(1).abs().amax(1) < 1e-4
    assert still.equal(kinds != list(distort.DISTORTIONS).index("spline"))


def test_undistorted_pictures_can_be_resampled_alike() -> None:
    pictures = noise(60, 12, 12)
    moved, labels, kinds = distort.distort_some(pictures, seeded(), resampled=1.0)
    assert (moved != pictures).flatten(1).any(1).all()
    half = distort.distort_some(pictures, seeded(), resampled=0.5)[0]
    assert 3 <= (half == pictures).flatten(1).all(1).sum() <= 27
    assert kinds.max() < 4 and (kinds >= 0).equal(labels.bool()) and 0 < labels.sum() < 60


def test_mix_is_uniform() -> None:
    counted = torch.zeros(4)
    spies = {str(i): Counting(counted, i) for i in range(4)}
    distort.distort(noise(2000, 2, 2), seeded(), spies)
    assert counted.sum() == 2000 and (counted - 500).abs().max() < 80


class Counting(distort.Shift):
    """Counts how many pictures it is asked for."""

    def __init__(self, counted: Tensor, kind: int) -> None:
        super().__init__()
        object.__setattr__(self, "note", lambda count: counted[kind].add_(count))

    def draw(self, count: int, height: int, width: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        self.note(count)  # type: ignore[attr-defined]
        return super().draw(count, height, width, generator)
