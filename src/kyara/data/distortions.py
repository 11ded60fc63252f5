"""The four pseudo-distortions of Sawada et al., section 3.1 and Table 1: random distortions of drawings.

A distortion is a field of backward displacements, (B, H, W, 2) as (dx, dy) in pixels: the result shows at p
what the picture has at p + field[p]. Every picture's field comes from its own random parameters, and `remap`
looks the pixels up. A field is a small lattice of nodes spread over the picture by one matrix for its rows
and one for its columns, because two thin matrix products cost less than the look-up, and full-resolution
noise, meshes or logarithms cost far more.

The parameters mean what they mean in Albumentations 1.3.1, whose names and habits the paper's numbers fit:
strengths in pixels are pixels of the picture as it is given, whatever its size. What lies beyond the border
is mirrored: a black border would reveal the distortion.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 2**16  # pixels that the CPU distorts in one go, so that pictures and fields stay in its second-level cache


class Distortion:
    """One kind of distortion: its random parameters, and the field that they define."""

    def draw(self, count: int, height: int, width: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Random parameters for `count` pictures: tensors (count, ...) on the generator's device."""
        raise NotImplementedError

    def field(self, drawn: Sequence[Tensor], height: int, width: int) -> Tensor:
        """Displacements (B, H, W, 2) in pixels of what `draw` gave, or of some rows of it."""
        raise NotImplementedError

    def __call__(self, pictures: Tensor, generator: torch.Generator) -> Tensor:
        """Random displacements (B, H, W, 2) in pixels for pictures (B, 3, H, W)."""
        count, _, height, width = pictures.shape
        drawn = self.draw(count, height, width, generator)
        return self.field([t.to(pictures.device) for t in drawn], height, width)


@dataclass(frozen=True)
class Grid(Distortion):
    """Grid distortion: columns and rows of the picture are stretched or shrunk, each by its own factor.

    The left and upper border stay and the steps add up to the right and downwards, as in Albumentations with
    `normalized=False`.
    """

    divisions: int = 15  # columns, and rows
    limit: float = 0.6  # a factor is uniform in [1 - limit, 1 + limit]

    def draw(self, count: int, height: int, width: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        steps = _uniform((count, 2, self.divisions), -self.limit, self.limit, generator) / self.divisions
        walk = F.pad(steps.cumsum(-1), (1, 0)) * _sides(height, width, steps.device)[:, None]
        across, down = (_hats(self.divisions + 1, side, steps.device) for side in (width, height))
        return walk[:, 0] @ across.T, walk[:, 1] @ down.T

    def field(self, drawn: Sequence[Tensor], height: int, width: int) -> Tensor:
        x, y = drawn  # (B, W), (B, H)
        return torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), 1).permute(0, 2, 3, 1)


@dataclass(frozen=True)
class Elastic(Distortion):
    """Elastic distortion (Simard et al. 2003): a smooth random field.

    Albumentations 1.3.1 adds by default a random affine map that moves three points by up to 50
    pixels, and the paper does not say whether it did. Here it is off: a turned or sheared drawing is not a
    broken one, and at ten times the size it would hide the local warp that is to be recognised.
    """

    alpha: float = 200.0  # what the smoothed noise, uniform in [-1, 1] before, is multiplied by; pixels
    sigma: float = 10.0  # standard deviation of the smoothing; pixels
    affine: float = 0.0  # how far the affine map's three points move at most; pixels. 0: no map.

    def draw(self, count: int, height: int, width: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        # Smoothed noise holds nothing finer than sigma, so normal noise on so wide a lattice is as good: its
        # variance is even to 1 in 5,000. The deviation is that of uniform noise after the smoothing.
        down, across = (max(1, round(side / self.sigma)) for side in (height, width))
        deviation = self.alpha / (math.sqrt(12 * math.pi) * self.sigma)
        nodes = deviation * torch.randn(count, 2, down, across, generator=generator, device=generator.device)
        if not self.affine:
            return (nodes,)
        return nodes, _affine(count, height, width, self.affine, generator)

    def field(self, drawn: Sequence[Tensor], height: int, width: int) -> Tensor:
        nodes, sigma = drawn[0], self.sigma
        rows = _bells(nodes.shape[-2], height, sigma, nodes.device)
        columns = _bells(nodes.shape[-1], width, sigma, nodes.device)
        field = _spread(rows, nodes, columns).permute(0, 2, 3, 1)
        if not self.affine:
            return field
        matrix, pixels = drawn[1][:, None], _pixels(height, width, nodes.device)
        return (pixels + field) @ matrix[..., :2, :] + matrix[..., 2:, :] - pixels


@dataclass(frozen=True)
class Piecewise(Distortion):
    """Piecewise affine distortion: the points of a mesh are moved, the triangles between them are affine.

    Points do not leave the picture.
    """

    lines: tuple[int, int] = (3, 6)
    """The numbers of rows and of columns of points are uniform between these, both included."""
    scale: tuple[float, float] = (0.03, 0.05)
    """The standard deviation of a picture's moves is uniform between these; shares of the sides."""

    def draw(self, count: int, height: int, width: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        (low, high), device = self.lines, generator.device
        rows, columns = torch.randint(low, high + 1, (2, count), generator=generator, device=device)
        index = torch.arange(high, device=device)
        x, y = ((index / (lines - 1)[:, None]).clamp(max=1) for lines in (columns, rows))  # (B, high)
        points = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), 1)  # (B, 2, high, high)
        noise = torch.randn(points.shape, generator=generator, device=device)
        moved = (points + _uniform((count, 1, 1, 1), *self.scale, generator) * noise).clamp(0, 1)
        return rows - low, columns - low, (moved - points) * _sides(height, width, device)[:, None, None]

    def field(self, drawn: Sequence[Tensor], height: int, width: int) -> Tensor:
        down, across, nodes = drawn  # (B,), (B,), (B, 2, high, high)
        rows, in_row, v = (t[down] for t in _mesh(*self.lines, height, nodes.device))
        columns, in_column, u = (t[across] for t in _mesh(*self.lines, width, nodes.device))
        # Spreading the points makes cells bilinear; a fold along the diagonal makes each two triangles.
        twist = nodes[..., 1:, 1:] + nodes[..., :-1, :-1] - nodes[..., 1:, :-1] - nodes[..., :-1, 1:]
        u, v = u[:, None, None, :], v[:, None, :, None]
        fold = torch.minimum(u, v).addcmul_(u, v, value=-1)  # (B, 1, H, W)
        field = _spread(rows[:, None], nodes, columns[:, None])
        return field.addcmul_(_spread(in_row[:, None], twist, in_column[:, None]), fold).permute(0, 2, 3, 1)


@dataclass(frozen=True)
class Spline(Distortion):
    """Thin-plate spline: points inside the picture are pulled, the rest follows like a bent sheet.

    The spline is fitted at the destinations to source minus destination. The corners and the middles of the
    borders are pinned, so that the frame stays and the inside bends.
    """

    points: int = 2
    """How many points are pulled. The paper does not say; the colourisation code that its first author
    published has two, in these very ranges. Two do what one cannot: pull a face apart, or together."""
    start: tuple[float, float] = (0.3, 0.7)  # where the points are at first, uniform in x and in y; shares of the sides
    move: tuple[float, float] = (-0.25, 0.25)  # how far they are pulled, uniform in x and in y; shares of the sides
    cells: int = 20
    """Cells, each way, of the lattice that the spline is evaluated on; cubics between. Off by 0.01 pixels of
    256 on average, by more where two points nearly meet."""

    def draw(self, count: int, height: int, width: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        source = _uniform((count, self.points, 2), *self.start, generator)
        target = source + _uniform((count, self.points, 2), *self.move, generator)
        # One node beyond each border, which the cubics need.
        line = torch.arange(-1, self.cells + 2, device=source.device) / self.cells
        nodes = _thin_plate(target, source - target, line)
        return (nodes * _sides(height, width, nodes.device)[:, None, None],)

    def field(self, drawn: Sequence[Tensor], height: int, width: int) -> Tensor:
        (nodes,) = drawn
        rows, columns = (_cubics(self.cells, side, nodes.device) for side in (height, width))
        return _spread(rows, nodes, columns).permute(0, 2, 3, 1)


@dataclass(frozen=True)
class Shift(Distortion):
    """No distortion: the whole picture moves by less than a pixel, which is resampled like the distorted
    ones."""

    limit: float = 0.5  # how far it moves at most, uniform in x and in y; pixels

    def draw(self, count: int, height: int, width: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        return (_uniform((count, 2), -self.limit, self.limit, generator),)

    def field(self, drawn: Sequence[Tensor], height: int, width: int) -> Tensor:
        return drawn[0][:, None, None].expand(-1, height, width, -1)


DISTORTIONS: Mapping[str, Distortion] = {
    "grid": Grid(),
    "elastic": Elastic(),
    "piecewise": Piecewise(),
    "spline": Spline(),
}
"""The paper's four by name. A kind is an index into them."""


def remap(pictures: Tensor, field: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) looked up at p + field[p], field (B, H, W, 2): bilinear, mirrored about the
    border pixels."""
    pixels, step = _look_up(*pictures.shape[-2:], field.device)
    where = torch.addcmul(pixels, field, step)
    result = F.grid_sample(pictures.float(), where, "bilinear", "reflection", align_corners=True)
    return result.to(pictures.dtype)


@torch.no_grad()
def apply(
    pictures: Tensor,
    kinds: Tensor,
    generator: torch.Generator,
    distortions: Mapping[str, Distortion] = DISTORTIONS,
    inplace: bool = False,
) -> Tensor:
    """Distorts each of the pictures (B, 3, H, W) in [-1, 1] by its kind (B,): an index into `distortions`, or
    -1, not at all.

    In place saves a copy. From 200 pixels on that is a third of the time, most of it the system clearing
    memory.
    """
    (count, _, height, width), device = pictures.shape, pictures.device
    result = pictures if inplace else pictures.clone()
    chunk = max(1, CHUNK // (height * width)) if device.type == "cpu" else count
    for kind, distortion in enumerate(distortions.values()):
        index = (kinds.cpu() == kind).nonzero().flatten().to(device)
        if not len(index):
            continue
        drawn = distortion.draw(len(index), height, width, generator)
        parts = zip(index.split(chunk), *(t.to(device).split(chunk) for t in drawn), strict=True)
        for part, *rows in parts:
            field = distortion.field(rows, height, width)
            if len(part) == 1:  # large pictures go one by one and need not be gathered
                place = result.narrow(0, int(part), 1)
                place.copy_(remap(place, field))
            else:
                result[part] = remap(result[part], field)
    return result


def distort(
    pictures: Tensor,
    generator: torch.Generator,
    distortions: Mapping[str, Distortion] = DISTORTIONS,
    inplace: bool = False,
) -> Tensor:
    """Distorts every one of the pictures (B, 3, H, W) in [-1, 1], each by one of the kinds chosen
    uniformly."""
    kinds = torch.randint(len(distortions), (len(pictures),), generator=generator, device=generator.device)
    return apply(pictures, kinds, generator, distortions, inplace)


def distort_some(
    pictures: Tensor,
    generator: torch.Generator,
    probability: float = 0.5,
    distortions: Mapping[str, Distortion] = DISTORTIONS,
    inplace: bool = False,
    resampled: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Distorts each of the pictures (B, 3, H, W) in [-1, 1] with `probability`, to train a recogniser on.

    Of the others a share of `resampled` moves by less than a pixel. Looking pixels up softens a picture, and a
    recogniser that sees whole ones untouched learns softness instead of distortion: on faces of 96 pixels the
    finest detail alone tells nine of ten pairs apart. Returns the pictures, labels (B,) int64, 1 where distorted,
    and kinds (B,) int64, -1 where not.
    """
    count, device = len(pictures), generator.device
    picked, moved = (
        torch.rand(count, generator=generator, device=device) < share for share in (probability, resampled)
    )
    kinds = torch.randint(len(distortions), (count,), generator=generator, device=device)
    others = torch.where(moved, len(distortions), -1)
    result = apply(pictures, torch.where(picked, kinds, others), generator, {**distortions, "shift": Shift()}, inplace)
    return result, picked.long().to(pictures.device), torch.where(picked, kinds, -1).to(pictures.device)


def frozen(
    pictures: Tensor, seeds: Sequence[int] | Tensor, distortions: Mapping[str, Distortion] = DISTORTIONS
) -> Tensor:
    """Distorts each of the pictures (B, 3, H, W) in [-1, 1] as its own seed says, kind and parameters.

    For validation and test sets, whose distortions must not change. It goes picture by picture, because only
    then is the result the same to the bit whatever else the batch holds.
    """
    if len(seeds) != len(pictures):
        raise ValueError(f"frozen: {len(pictures)} pictures but {len(seeds)} seeds; give every picture its own seed")
    result = pictures.clone()
    for i, seed in enumerate(seeds):
        distort(result[i : i + 1], torch.Generator().manual_seed(int(seed)), distortions, inplace=True)
    return result


def half(count: int, seed: int) -> Tensor:
    """Which of `count` pictures a frozen set distorts: count // 2 of them at random, (count,) bool."""
    picked = torch.zeros(count, dtype=torch.bool)
    picked[torch.randperm(count, generator=torch.Generator().manual_seed(seed))[: count // 2]] = True
    return picked


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device) * (high - low) + low


def _spread(rows: Tensor, nodes: Tensor, columns: Tensor) -> Tensor:
    """Nodes (B, 2, n, m) spread over a picture by rows (..., H, n) and columns (..., W, m): (B, 2, H, W)."""
    return rows @ (nodes @ columns.mT)


def _affine(count: int, height: int, width: int, reach: float, generator: torch.Generator) -> Tensor:
    """Matrices (count, 3, 2) that undo affine maps which move three points by up to `reach` pixels: a row (x,
    y, 1) times one of them is where the pixel (x, y) comes from."""
    centre = torch.tensor([width // 2, height // 2], device=generator.device)
    corners = torch.tensor([[1, 1], [1, -1], [-1, -1]], device=generator.device)
    points = (centre + min(height, width) // 3 * corners).float()  # (3, 2)
    moved = points + _uniform((count, 3, 2), -reach, reach, generator)
    return torch.linalg.solve_ex(F.pad(moved, (0, 1), value=1.0), points.expand(count, 3, 2)).result


def _thin_plate(centres: Tensor, offsets: Tensor, line: Tensor) -> Tensor:
    """The thin-plate spline through `offsets` (B, P, 2) at `centres` (B, P, 2), and through zero at the
    pinned points, at the lattice line x line: (B, 2, n, n). All in shares of the sides."""
    count, device = len(centres), centres.device
    pins = [(x, y) for x in (0.0, 0.5, 1.0) for y in (0.0, 0.5, 1.0) if (x, y) != (0.5, 0.5)]
    pinned = torch.tensor(pins, device=device).expand(count, -1, 2)
    centres, offsets = torch.cat([pinned, centres], 1), torch.cat([torch.zeros_like(pinned), offsets], 1)
    # [kernel, affine; affine^T, 0] solution = [offsets; 0], in double because two points may be close.
    affine = F.pad(centres, (0, 1), value=1.0)  # (B, K, 3)
    system = torch.cat([torch.cat([_kernel(centres, centres), affine], 2), F.pad(affine.mT, (0, 3))], 1)
    solution = torch.linalg.solve_ex(system.double(), F.pad(offsets, (0, 0, 0, 3)).double()).result.float()
    nodes = torch.cartesian_prod(line, line).flip(-1)  # (n * n, 2), x first
    spline = _kernel(nodes, centres) @ solution[:, :-3] + F.pad(nodes, (0, 1), value=1.0) @ solution[:, -3:]
    return spline.mT.unflatten(-1, (len(line), len(line)))


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    """r^2 log r, times two, between the points a (..., N, 2) and b (B, M, 2): (B, N, M)."""
    x, y = (a[..., :, None, :] - b[:, None]).unbind(-1)
    square = x.square() + y.square()
    return square * (square + 1e-12).log()


@lru_cache(maxsize=32)
def _sides(height: int, width: int, device: torch.device) -> Tensor:
    """Distance in pixels between the centres of the outermost pixels, (2,) as (x, y)."""
    return torch.tensor([width - 1.0, height - 1.0]).to(device)


@lru_cache(maxsize=8)
def _pixels(height: int, width: int, device: torch.device) -> Tensor:
    """Coordinates of the pixels, (H, W, 2) as (x, y), stored plane by plane as fields are."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y]).float().to(device).permute(1, 2, 0)


@lru_cache(maxsize=8)
def _look_up(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The pixels as `grid_sample` counts, from -1 to 1, (H, W, 2), and how far one is from the next, (2,)."""
    step = 2 / _sides(height, width, device).clamp(min=1)
    return _pixels(height, width, device) * step - 1, step


@lru_cache(maxsize=32)
def _hats(nodes: int, size: int, device: torch.device) -> Tensor:
    """Linear interpolation between `nodes` from border to border, (size, nodes)."""
    where = torch.linspace(0, nodes - 1, size)[:, None] - torch.arange(nodes)
    return (1 - where.abs()).clamp(min=0).to(device)


@lru_cache(maxsize=32)
def _cubics(cells: int, size: int, device: torch.device) -> Tensor:
    """Cubic interpolation (Keys 1981) between nodes, the first and last beyond the borders: (size, cells +
    3)."""
    where = (torch.linspace(1, cells + 1, size)[:, None] - torch.arange(cells + 3)).abs()
    near = (1.5 * where - 2.5) * where.square() + 1
    far = ((2.5 - 0.5 * where) * where - 4) * where + 2
    return torch.where(where < 1, near, torch.where(where < 2, far, 0.0)).to(device)


@lru_cache(maxsize=32)
def _bells(nodes: int, size: int, sigma: float, device: torch.device) -> Tensor:
    """Gaussians of `sigma` pixels about `nodes` evenly spaced on a side, mirrored at its ends: (size, nodes).

    Scaled so that independent nodes of unit variance give unit variance away from the ends.
    """
    pixel, centre = torch.arange(size)[:, None], (torch.arange(nodes) + 0.5) * size / nodes - 0.5
    images = torch.stack([centre, -1 - centre, 2 * size - 1 - centre])
    bells = (-((pixel - images[:, None]) / sigma).square() / 2).exp().sum(0)
    return (bells * math.sqrt(size / nodes / (math.sqrt(math.pi) * sigma))).to(device)


@lru_cache(maxsize=32)
def _mesh(low: int, high: int, size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Meshes of `low` to `high` lines across a side, M of them: their `_hats` (M, size, high), one-hot which
    cell a pixel is in (M, size, high - 1), and where in it, in [0, 1] (M, size)."""
    hats, cells, shares = [], [], []
    for lines in range(low, high + 1):
        where = torch.linspace(0, lines - 1, size)
        cell = where.long().clamp(max=lines - 2)
        hats.append(F.pad(_hats(lines, size, where.device), (0, high - lines)))
        cells.append(F.one_hot(cell, high - 1).float())
        shares.append(where - cell)
    return torch.stack(hats).to(device), torch.stack(cells).to(device), torch.stack(shares).to(device)
