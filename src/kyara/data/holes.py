"""Random holes for inpainting, in batches, drawn on `device`, which must be that of `generator` if one is given."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from kyara.nn.constants import constant

CPU = torch.device("cpu")


@dataclasses.dataclass(frozen=True)
class HoleConfig:
    """A distribution of holes: relative frequencies of five kinds, and their sizes."""

    free_form: float = 0.35  # frequency of a few broad strokes
    rectangles: float = 0.15  # frequency of a rectangle anywhere, a fifth to three fifths of each side
    centre: float = 0.2  # frequency of the square in the middle: a quarter of the area
    eyes: float = 0.15  # frequency of a hole over the eyes, both or one; for aligned faces
    mouth: float = 0.15  # frequency of a hole over the mouth; for aligned faces
    strokes: int = 4  # maximum number of strokes of a free form, of four segments each
    stroke_width: tuple[float, float] = (0.06, 0.2)  # their minimum and maximum width, as a share of the shorter side
    eyes_at: tuple[float, float, float, float] = (0.31, 0.5, 0.13, 0.11)  # left eye: centre x, y and half extents
    mouth_at: tuple[float, float, float, float] = (0.5, 0.77, 0.14, 0.09)  # the same of the mouth
    jitter: float = 0.05  # maximum shift, as a share of the side; scaled by up to six times as much


def rectangles(centre: Tensor, half: Tensor, height: int, width: int) -> Tensor:
    """Rectangles of centres and half extents (B, 2), x and y as fractions of the sides: (B, H, W) bool."""
    x, y = _offsets(centre, height, width)
    return (x.abs() < half[:, 0, None, None]) & (y.abs() < half[:, 1, None, None])


def ellipses(centre: Tensor, half: Tensor, height: int, width: int) -> Tensor:
    """Ellipses, likewise."""
    x, y = _offsets(centre, height, width)
    return (x / half[:, 0, None, None]).square() + (y / half[:, 1, None, None]).square() < 1


def middle(count: int, height: int, width: int, device: torch.device = CPU) -> Tensor:
    """The rectangle in the middle, a quarter of the area: (B, H, W) bool."""
    half = torch.full((count, 2), 0.5, device=device)
    return rectangles(half, half / 2, height, width)


def somewhere(
    count: int,
    height: int,
    width: int,
    sides: tuple[float, float],
    generator: torch.Generator | None = None,
    device: torch.device = CPU,
) -> Tensor:
    """Rectangles at random positions, with sides in this range of fractions of the picture's: (B, H, W) bool."""
    length, at = torch.rand(2, count, 2, generator=generator, device=device)
    half = (sides[0] + (sides[1] - sides[0]) * length) / 2
    return rectangles(half + at * (1 - 2 * half), half, height, width)


def around(
    place: Sequence[float],
    count: int,
    height: int,
    width: int,
    jitter: float,
    generator: torch.Generator | None = None,
    device: torch.device = CPU,
) -> Tensor:
    """Ellipses around `place` (x, y, half extents), shifted by up to `jitter`, scaled by up to 6 x: (B, H, W) bool."""
    shift, grow = (2 * torch.rand(2, count, 2, generator=generator, device=device) - 1) * jitter
    at, half = constant(place[:2], shift), constant(place[2:], shift)
    return ellipses(at + shift, half * (1 + 6 * grow), height, width)


def _offsets(centre: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Offsets of pixels from each centre (B, 2): x (B, 1, W) and y (B, H, 1), as fractions of the sides."""
    x, y = ((torch.arange(n, device=centre.device) + 0.5) / n for n in (width, height))
    return x - centre[:, 0, None, None], y[:, None] - centre[:, 1, None, None]


def strokes(corners: Tensor, widths: Tensor, height: int, width: int) -> Tensor:
    """Polylines through corners (B, S, V, 2), x and y in pixels, of widths (B, S) in pixels: (B, H, W) bool."""
    begin, end = corners[:, :, :-1].flatten(1, 2), corners[:, :, 1:].flatten(1, 2)  # (B, N, 2)
    path = (end - begin)[..., None, None]  # (B, N, 2, 1, 1)
    columns, rows = (torch.arange(n, device=corners.device) for n in (width, height))
    x = columns + 0.5 - begin[:, :, 0, None, None]  # (B, N, 1, W)
    y = rows[:, None] + 0.5 - begin[:, :, 1, None, None]  # (B, N, H, 1)
    along = (x * path[:, :, 0] + y * path[:, :, 1]) / path.square().sum(2).clamp_min(1e-9)
    along = along.clamp_(0, 1)  # (B, N, H, W): the nearest point, as a fraction of the segment
    apart = (x - along * path[:, :, 0]).square() + (y - along * path[:, :, 1]).square()
    return (apart < (widths.repeat_interleave(corners.shape[2] - 1, 1)[:, :, None, None] / 2).square()).any(1)


def free_form(
    count: int,
    height: int,
    width: int,
    most: int = 4,
    broad: tuple[float, float] = (0.06, 0.2),
    generator: torch.Generator | None = None,
    device: torch.device = CPU,
) -> Tensor:
    """One to `most` crooked strokes of four segments, `broad` as fractions of the shorter side: (B, H, W) bool."""

    def some(*shape: int) -> Tensor:
        return torch.rand(count, most, *shape, generator=generator, device=device)

    short = min(height, width)
    angle = (torch.cat([some(1) * 2, some(3) - 0.5], 2) * math.pi).cumsum(2)
    step = torch.stack([angle.cos(), angle.sin()], 3) * (0.05 + 0.15 * some(4, 1)) * short
    begin = some(1, 2) * constant((width, height), angle)
    corners = torch.cat([begin, begin + step.cumsum(2)], 2)  # (B, S, 5, 2)
    widths = (broad[0] + (broad[1] - broad[0]) * some()) * short
    drawn = some() * most < torch.arange(most, 0, -1, device=device)  # the first always, each further one less often
    return strokes(corners, widths * drawn, height, width)


def windows(hole: Tensor, context: float, least: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Windows, rows and columns, around the pieces of a hole (H, W) bool: `context` times as long as the piece, and of
    the size `least` at least, within the picture. Pieces are separated by half of `least`."""
    found = []
    for rows, columns in _pieces(hole, min(least) // 2):
        long = math.ceil(context * max(rows.stop - rows.start, columns.stop - columns.start))
        spans = zip((rows, columns), least, hole.shape, strict=True)
        y, x = (_around(span, min(max(long, short), side), side) for span, short, side in spans)
        found.append((y, x))
    return found


def _pieces(hole: Tensor, gap: int) -> list[tuple[slice, slice]]:
    """Bounding boxes of the pieces of a hole: split where more than `gap` rows or columns are empty."""
    found = [(rows, slice(0, hole.shape[1])) for rows in _spans(hole.any(1), gap)]
    found = [(rows, columns) for rows, _ in found for columns in _spans(hole[rows].any(0), gap)]
    return [
        (slice(rows.start + part.start, rows.start + part.stop), columns)
        for rows, columns in found
        for part in _spans(hole[rows, columns].any(1), gap)
    ]


def _spans(line: Tensor, gap: int) -> list[slice]:
    """Spans where a line (N,) bool is true, merged over gaps of at most `gap`."""
    places = line.nonzero().flatten().cpu()
    cuts = (places.diff() > gap + 1).nonzero().flatten() + 1
    return [slice(int(part[0]), int(part[-1]) + 1) for part in places.tensor_split(cuts) if len(part)]


def _around(span: slice, length: int, side: int) -> slice:
    """A part of the side of this length, centred on the span if possible."""
    begin = min(max((span.start + span.stop - length) // 2, 0), side - length)
    return slice(begin, begin + length)


KINDS = ("free_form", "rectangles", "centre", "eyes", "mouth")


def draw_holes(
    config: HoleConfig,
    count: int,
    height: int,
    width: int,
    generator: torch.Generator | None = None,
    device: torch.device = CPU,
) -> Tensor:
    """Random holes from a distribution: (B, 1, H, W) bool."""
    drawn = (draw_kind(name, config, count, height, width, generator, device) for name in KINDS)
    return one_of([getattr(config, kind) for kind in KINDS], drawn, count, generator, device)[:, None]


def one_of(
    shares: Sequence[float],
    drawn: Iterable[Tensor],
    count: int,
    generator: torch.Generator | None = None,
    device: torch.device = CPU,
) -> Tensor:
    """For each of `count` pictures a mask of one of the kinds in `drawn` (B, H, W), by their relative frequencies."""
    frequencies = constant(shares, torch.empty(0, device=device))
    kind = torch.multinomial(frequencies, count, replacement=True, generator=generator)
    return torch.stack(list(drawn))[kind, torch.arange(count, device=device)]


def draw_kind(
    kind: str,
    config: HoleConfig,
    count: int,
    height: int,
    width: int,
    generator: torch.Generator | None = None,
    device: torch.device = CPU,
) -> Tensor:
    """Holes of one kind: (B, H, W) bool."""
    size = count, height, width
    if kind == "free_form":
        return free_form(*size, config.strokes, config.stroke_width, generator, device)
    if kind == "rectangles":
        return somewhere(*size, (0.2, 0.6), generator, device)
    if kind == "centre":
        return middle(*size, device)
    if kind == "mouth":
        return around(config.mouth_at, *size, config.jitter, generator, device)
    x, *rest = config.eyes_at
    left, right = (around((side, *rest), *size, config.jitter, generator, device) for side in (x, 1 - x))
    # A fifth hides only the left eye, a fifth only the right one
    shown = torch.rand(count, 1, 1, generator=generator, device=device)
    return (left & (shown >= 0.2)) | (right & (shown < 0.8))
