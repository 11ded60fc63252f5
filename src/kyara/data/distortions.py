"""The four pseudo-distortions of Sawada et al., section 3.1 and Table 1: random distortions of drawings.

A distortion is a field of backward displacements, (B, H, W, 2) as (dx, dy) in pixels: the result at p is the picture at
p + field[p]. A field is a small lattice of nodes, interpolated by one matrix for its rows and one for its columns: two
thin matrix products cost less than sampling, and far less than noise or logarithms at full resolution.

Parameters have the meaning of Albumentations 1.3.1, which fits the paper's numbers; strengths in pixels do not depend
on the picture's size. Beyond the border the picture is reflected: a black border would reveal the distortion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.nn.constants import constant

CHUNK = 2**16  # pixels that the CPU distorts at once, so that pictures and fields stay in its second-level cache


class Distortion:
    """One kind of distortion: its random parameters, and the field that they define."""

    def draw(self, count: int, height: int, width: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Random parameters of `count` pictures: tensors (count, ...) on the generator's device."""
        raise NotImplementedError

    def field(self, drawn: Sequence[Tensor], height: int, width: int) -> Tensor:
        """Displacements (B, H, W, 2) in pixels, of what `draw` returned or of some rows of it."""
        raise NotImplementedError


@dataclass(frozen=True)
class Grid(Distortion):
    """Grid distortion: columns and rows of the picture are scaled, each by its own factor. The left and upper border
    stay and the steps accumulate, as in Albumentations with `normalized=False`."""

    divisions: int = 15  # number of columns, and of rows
    limit: float = 0.6  # factors are uniform in [1 - limit, 1 + limit]

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
    """Elastic distortion (Simard et al. 2003): a smooth random field. The random affine map that Albumentations adds by
    default is off: a rotated drawing is not distorted, and it would hide the local warp, which is a tenth."""

    alpha: float = 200.0  # factor on the smoothed noise, which is uniform in [-1, 1] before; pixels
    sigma: float = 10.0  # standard deviation of the smoothing; pixels
    affine: float = 0.0  # maximum shift of the three points of an affine map; pixels. 0: no map

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
    """Piecewise affine distortion: vertices of a mesh move, within the picture; its triangles are mapped affinely."""

    lines: tuple[int, int] = (3, 6)  # minimum and maximum number of rows and of columns of points
    scale: tuple[float, float] = (0.03, 0.05)  # range of the standard deviation of the moves; fractions of the sides

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
    """Thin-plate spline through a few displaced points. It is fitted at the destinations to source minus destination.
    The corners and the middles of the borders are fixed, so that the frame stays."""

    points: int = 2  # displaced points; two can pull a face apart, or together
    start: tuple[float, float] = (0.3, 0.7)  # the points, uniform in x and in y; fractions of the sides
    move: tuple[float, float] = (-0.25, 0.25)  # their displacement, likewise
    cells: int = 20  # cells a side of the lattice that is evaluated, with cubics between: 0.01 of 256 pixels off

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
    """No distortion: the whole picture moves by less than a pixel, and is resampled like a distorted one."""

    limit: float = 0.5  # maximum shift, uniform in x and in y; pixels

    def draw(self, count: int, height: int, width: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        return (_uniform((count, 2), -self.limit, self.limit, generator),)

    def field(self, drawn: Sequence[Tensor], height: int, width: int) -> Tensor:
        return drawn[0][:, None, None].expand(-1, height, width, -1)


Kinds = Mapping[str, Distortion]
DISTORTIONS: Kinds = {"grid": Grid(), "elastic": Elastic(), "piecewise": Piecewise(), "spline": Spline()}
"""The paper's four by name. A kind is an index into them."""


def remap(pictures: Tensor, field: Tensor) -> Tensor:
    """Samples pictures (B, 3, H, W) at p + field[p], field (B, H, W, 2): bilinear, mirrored at the border pixels."""
    pixels, step = _look_up(*pictures.shape[-2:], field.device)
    where = torch.addcmul(pixels, field, step)
    return F.grid_sample(pictures.float(), where, "bilinear", "reflection", align_corners=True).to(pictures.dtype)


@torch.no_grad()
def apply(
    pictures: Tensor, kinds: Tensor, generator: torch.Generator, distortions: Kinds = DISTORTIONS, inplace: bool = False
) -> Tensor:
    """Distorts pictures (B, 3, H, W) in [-1, 1] by their kinds (B,): indices into `distortions`, -1 for none. In place
    saves a copy, a third of the time from 200 pixels on."""
    (count, _, height, width), device = pictures.shape, pictures.device
    result, kinds = pictures if inplace else pictures.clone(), kinds.cpu()
    chunk = max(1, CHUNK // (height * width)) if device.type == "cpu" else count
    for kind, distortion in enumerate(distortions.values()):
        index = (kinds == kind).nonzero().flatten()  # on the host, which decides on shapes
        if not len(index):
            continue
        drawn = [t.to(device, non_blocking=True) for t in distortion.draw(len(index), height, width, generator)]
        for part, *rows in zip(index.split(chunk), *(t.split(chunk) for t in drawn), strict=True):
            field = distortion.field(rows, height, width)
            if len(part) == 1:  # large pictures go one by one and need not be gathered
                place = result.narrow(0, int(part), 1)
                place.copy_(remap(place, field))
            else:
                where = part.to(device, non_blocking=True)
                result[where] = remap(result[where], field)
    return result


def distort(
    pictures: Tensor, generator: torch.Generator, distortions: Kinds = DISTORTIONS, inplace: bool = False
) -> Tensor:
    """Distorts all pictures (B, 3, H, W) in [-1, 1], each by a kind that is drawn uniformly."""
    kinds = torch.randint(len(distortions), (len(pictures),), generator=generator, device=generator.device)
    return apply(pictures, kinds, generator, distortions, inplace)


def distort_some(
    pictures: Tensor,
    generator: torch.Generator,
    probability: float = 0.5,
    distortions: Kinds = DISTORTIONS,
    resampled: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Distorts each of the pictures (B, 3, H, W) in [-1, 1] with `probability`, to train a recogniser. A share
    `resampled` of the others moves by less than a pixel: resampling softens a picture, which otherwise reveals a
    distortion. Returns the pictures, labels (B,) int64, 1 where distorted, and kinds (B,) int64, -1 where not."""
    count, device = len(pictures), generator.device
    picked, moved = (torch.rand(count, generator=generator, device=device) < p for p in (probability, resampled))
    kinds = torch.randint(len(distortions), (count,), generator=generator, device=device)
    others = torch.where(moved, len(distortions), -1)
    result = apply(pictures, torch.where(picked, kinds, others), generator, {**distortions, "shift": Shift()})
    known = picked.long(), torch.where(picked, kinds, -1)
    labels, distorted = (t.to(pictures.device, non_blocking=True) for t in known)
    return result, labels, distorted


def frozen(pictures: Tensor, seeds: Sequence[int] | Tensor, distortions: Kinds = DISTORTIONS) -> Tensor:
    """Distorts each of the pictures (B, 3, H, W) in [-1, 1], kind and parameters, by its own seed: for validation and
    test. One by one, so that the result does not depend on the rest of the batch, to the bit."""
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
    """Interpolates nodes (B, 2, n, m) with rows (..., H, n) and columns (..., W, m): (B, 2, H, W)."""
    return rows @ (nodes @ columns.mT)


def _affine(count: int, height: int, width: int, reach: float, generator: torch.Generator) -> Tensor:
    """Inverses (count, 3, 2) of affine maps that move three points by up to `reach` pixels, for rows (x, y, 1)."""
    moves = _uniform((count, 3, 2), -reach, reach, generator)
    corners = constant(((1, 1), (1, -1), (-1, -1)), moves)
    points = constant((width // 2, height // 2), moves) + min(height, width) // 3 * corners  # (3, 2)
    moved = points + moves
    return torch.linalg.solve_ex(F.pad(moved, (0, 1), value=1.0), points.expand(count, 3, 2)).result


def _thin_plate(centres: Tensor, offsets: Tensor, line: Tensor) -> Tensor:
    """The thin-plate spline through `offsets` (B, P, 2) at `centres` (B, P, 2), and zero at the fixed points, on the
    lattice line x line: (B, 2, n, n). All in fractions of the sides."""
    count = len(centres)
    pins = [(x, y) for x in (0.0, 0.5, 1.0) for y in (0.0, 0.5, 1.0) if (x, y) != (0.5, 0.5)]
    pinned = constant(pins, centres).expand(count, -1, 2)
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
    """Pixel coordinates for `grid_sample`, in [-1, 1], (H, W, 2), and the step between pixels, (2,)."""
    step = 2 / _sides(height, width, device).clamp(min=1)
    return _pixels(height, width, device) * step - 1, step


@lru_cache(maxsize=32)
def _hats(nodes: int, size: int, device: torch.device) -> Tensor:
    """Linear interpolation between `nodes` from border to border, (size, nodes)."""
    return (1 - (torch.linspace(0, nodes - 1, size)[:, None] - torch.arange(nodes)).abs()).clamp(min=0).to(device)


@lru_cache(maxsize=32)
def _cubics(cells: int, size: int, device: torch.device) -> Tensor:
    """Cubic interpolation (Keys 1981) between nodes, one beyond each border: (size, cells + 3)."""
    where = (torch.linspace(1, cells + 1, size)[:, None] - torch.arange(cells + 3)).abs()
    near = (1.5 * where - 2.5) * where.square() + 1
    far = ((2.5 - 0.5 * where) * where - 4) * where + 2
    return torch.where(where < 1, near, torch.where(where < 2, far, 0.0)).to(device)


@lru_cache(maxsize=32)
def _bells(nodes: int, size: int, sigma: float, device: torch.device) -> Tensor:
    """Gaussians of `sigma` pixels around `nodes` evenly spaced on a side, mirrored at its ends: (size, nodes). Scaled
    so that independent nodes of unit variance give unit variance away from the ends."""
    pixel, centre = torch.arange(size)[:, None], (torch.arange(nodes) + 0.5) * size / nodes - 0.5
    images = torch.stack([centre, -1 - centre, 2 * size - 1 - centre])
    bells = (-((pixel - images[:, None]) / sigma).square() / 2).exp().sum(0)
    return (bells * math.sqrt(size / nodes / (math.sqrt(math.pi) * sigma))).to(device)


@lru_cache(maxsize=32)
def _mesh(low: int, high: int, size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Meshes of `low` to `high` lines across a side, M of them: their `_hats` (M, size, high), the one-hot cell of each
    pixel (M, size, high - 1), and its position in the cell, in [0, 1] (M, size)."""
    hats, cells, shares = [], [], []
    for lines in range(low, high + 1):
        where = torch.linspace(0, lines - 1, size)
        cell = where.long().clamp(max=lines - 2)
        hats.append(F.pad(_hats(lines, size, where.device), (0, high - lines)))
        cells.append(F.one_hot(cell, high - 1).float())
        shares.append(where - cell)
    return torch.stack(hats).to(device), torch.stack(cells).to(device), torch.stack(shares).to(device)
