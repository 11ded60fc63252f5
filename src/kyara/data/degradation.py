"""What the pictures of a small generator lack beside drawings: half the size, with soft and broken lines, fringes of
colour, blotches where areas should be even, and grids. In batches, on the device of the pictures.

A network that is trained to undo such changes restores generated pictures too, as in blind super-resolution of real
ones (Wang et al. 2021, "Real-ESRGAN"). All functions take pictures (B, 3, H, W) in [-1, 1] and draw from torch's global
generator."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.data.restyle import between, gaussian

WOBBLE = ((4, 0.7), (8, 0.6))  # cells of the noise that moves lines, in pixels, and their shares
REACH = 1.0  # largest standard deviation of how far lines are moved, in pixels
BLOTCHES = ((1, 0.06), (2, 0.12), (4, 0.2), (8, 0.25), (20, 0.3))  # cells in pixels, largest standard deviations
EDGE = 0.08  # mean difference from the blurred picture that counts as an edge


def degrade(pictures: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) of half the size of clean ones (B, 3, 2 H, 2 W), as a small generator would draw them."""
    x = wobbled(F.avg_pool2d(pictures, 2))
    x = fringed(softened(x))
    edges = gaussian((x - gaussian(x, _sigma(x, 1.5))).abs().mean(1, keepdim=True), _sigma(x, 2.0)) / EDGE
    edges = edges.clamp_max(1.5)
    x = x + (x - gaussian(x, _sigma(x, 1.0))) * between(x, 0, 0.8)  # halos beside lines
    x = x + blotches(x) * (between(x, 0.1, 0.8) + edges * between(x, 0, 0.8))
    x = x + grids(x) * (between(x, 0, 0.03) + edges * between(x, 0, 0.1))
    return framed(x).clamp(-1, 1)


def wobbled(x: Tensor) -> Tensor:
    """Lines are no longer smooth: every place is moved a little."""
    height, width = x.shape[2:]
    far = sum((noise(x, 2, cell) * share for cell, share in WOBBLE), torch.zeros((), device=x.device))
    size = torch.stack([x.new_full((), 2 / width), x.new_full((), 2 / height)])[:, None, None]
    straight = F.affine_grid(_identity(x), list(x.shape), align_corners=False)
    moved = straight + (far * between(x, 0, REACH) * size).permute(0, 2, 3, 1)
    return F.grid_sample(x, moved, padding_mode="border", align_corners=False)


def softened(x: Tensor) -> Tensor:
    """Blurred, and in some places more, so that lines and details fade."""
    x = torch.lerp(x, gaussian(x, between(x, 0.6, 2.2)), somewhere(x, between(x, -3, 1)))
    return torch.lerp(x, gaussian(x, between(x, 0.3, 0.9)), between(x, 0, 1))


def fringed(x: Tensor) -> Tensor:
    """One colour is moved by a pixel against the others, in some places."""
    moved = torch.roll(x, torch.randint(-1, 2, (2,), device="cpu").tolist(), (2, 3))
    colour = torch.randint(3, (len(x), 1, 1, 1), device=x.device) == torch.arange(3, device=x.device)[:, None, None]
    return torch.lerp(x, moved, somewhere(x) * between(x, 0, 0.5) * colour)


def blotches(x: Tensor) -> Tensor:
    """Noise (B, 3, H, W) of several sizes, more or less coloured."""
    return sum(
        (
            (noise(x, 1, cell) + 0.8 * noise(x, 3, cell)) * between(x, 0, most) * between(x, 0, 1)
            for cell, most in BLOTCHES
        ),
        torch.zeros_like(x),
    )


def grids(x: Tensor) -> Tensor:
    """Patterns (B, 3, H, W) with a period of two or four pixels, in some places: those of upsampling and wavelets."""
    row, column = (torch.arange(side, device=x.device, dtype=x.dtype) * torch.pi for side in x.shape[2:])
    two = [torch.cos(row)[:, None], torch.cos(column)[None], torch.cos(row)[:, None] * torch.cos(column)]
    start = between(x, 0, 6.0)
    four = torch.cos(row[:, None] / 2 + start) * torch.cos(column / 2 + start)  # (B, 1, H, W)
    patterns = [*(one.expand(1, 1, *x.shape[2:]) for one in two), four]
    shown = ((between(x, 0, 1) < 0.6) * _tint(x) * somewhere(x) * one for one in patterns)
    return sum(shown, torch.zeros_like(x))


def framed(x: Tensor) -> Tensor:
    """In some of the pictures, a frame of one pixel that is darker or lighter."""
    inside = F.pad(x.new_zeros(1, 1, x.shape[2] - 2, x.shape[3] - 2), (1, 1, 1, 1), value=1.0)
    return x + inside * between(x, -0.3, 0.5) * (between(x, 0, 1) < 0.4)


def noise(x: Tensor, channels: int, cell: int) -> Tensor:
    """Smooth noise (B, channels, H, W) whose correlation is about `cell` pixels long, like a picture's blotches."""
    height, width = x.shape[2:]
    if cell == 1:
        return torch.randn(len(x), channels, height, width, device=x.device)
    coarse = torch.randn(len(x), channels, height // cell + 3, width // cell + 3, device=x.device)
    return F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)


def somewhere(x: Tensor, level: Tensor | float = 0.0) -> Tensor:
    """A soft mask (B, 1, H, W) in [0, 1] of random places, more of them with a higher `level`."""
    return torch.sigmoid(noise(x, 1, 16) * 2 + level)


def _tint(x: Tensor) -> Tensor:
    """A factor (B, 3, 1, 1) of the colours, about alike."""
    return 0.8 + 0.3 * torch.randn(len(x), 3, 1, 1, device=x.device)


def _sigma(x: Tensor, value: float) -> Tensor:
    return x.new_full((len(x), 1, 1, 1), value)


def _identity(x: Tensor) -> Tensor:
    """Affine maps (B, 2, 3) that change nothing."""
    return torch.eye(2, 3, device=x.device).expand(len(x), -1, -1)
