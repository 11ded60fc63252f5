"""The network of the face detector: single shot, anchor-free, fully convolutional.

Blocks are those of ConvNeXt (Liu et al. 2022) at strides 4 to 32, joined by a feature pyramid (Lin et al. 2017); one
head predicts a score, a box and five points in every cell at strides 8, 16 and 32 (YOLOX, Ge et al. 2021; YuNet, Wu et
al. 2023). Normalisation is over the channels of a pixel, so predictions do not depend on the rest of the picture."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kyara.nn.filters import pad_even
from kyara.perception.face_refiner import Refiner

STRIDES = (8, 16, 32)
POINTS = ("left eye", "right eye", "nose", "left mouth corner", "right mouth corner")
"""The points of a face, in order. Left is left in the picture, for a face that is upright."""
OUTPUTS = 5 + 2 * len(POINTS)  # of a cell: score, box, points
INITIAL_SIZE = 4.0  # side of the box that a cell predicts before training, in strides
LARGEST = 5.0  # maximum absolute logarithm of a side relative to that


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """Depthwise convolution, normalisation, and two pointwise convolutions, with a skip connection. Keeps the shape."""

    def __init__(self, channels: int, kernel: int = 3) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.norm = ChannelNorm(channels)
        self.expand = nn.Conv2d(channels, 2 * channels, 1)
        self.reduce = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.reduce(F.relu(self.expand(self.norm(self.depthwise(x))), inplace=True)).add_(x)


class Network(nn.Module):
    """Predictions of all cells of a picture, and the second stage `refiner`."""

    def __init__(
        self, widths: Sequence[int], depths: Sequence[int], neck: int, head: int, refiner: Sequence[int] = ()
    ) -> None:
        """Channels and blocks at strides 4, 8, 16 and 32; channels of the pyramid; blocks of the head; channels of the
        second stage, () without one."""
        super().__init__()
        self.stem = nn.Conv2d(48, widths[0], 3, padding=1)
        kernels = (3, 3, 5, 5)  # at the fine levels larger kernels take long on CPUs
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(width, kernel) for _ in range(depth)), ChannelNorm(width))
            for width, depth, kernel in zip(widths, depths, kernels, strict=True)
        )
        self.downs = nn.ModuleList(nn.Conv2d(i, o, 2, stride=2) for i, o in itertools.pairwise(widths))
        self.laterals = nn.ModuleList(nn.Conv2d(width, neck, 1) for width in widths[1:])
        self.smooth = nn.ModuleList(Block(neck) for _ in STRIDES)
        self.head = nn.Sequential(*(Block(neck) for _ in range(head)), ChannelNorm(neck))
        self.out = nn.Conv2d(neck, OUTPUTS, 1)
        nn.init.normal_(self.out.weight, std=0.01)
        bias = torch.zeros(OUTPUTS)
        bias[0] = -4.6  # a score of 0.01 before training (Lin et al. 2017, "Focal loss")
        self.out.bias = nn.Parameter(bias)
        self.refiner = Refiner(refiner) if refiner else None

    def forward(self, pictures: Tensor) -> Tensor:
        """Raw predictions (B, A, 15) of all cells for pictures (B, 3, H, W) in [-1, 1]: see `decode`."""
        x = self.stages[0](self.stem(_unshuffled(pad_even(pictures, 5))))
        levels = []
        for down, stage, lateral in zip(self.downs, self.stages[1:], self.laterals, strict=True):
            x = stage(down(x))
            levels.append(lateral(x))
        for i in (1, 0):
            levels[i] = levels[i] + F.interpolate(levels[i + 1], scale_factor=2.0, mode="nearest")
        found = [self.out(self.head(smooth(x))) for smooth, x in zip(self.smooth, levels, strict=True)]
        return torch.cat([x.flatten(2) for x in found], 2).transpose(1, 2).float()


def _unshuffled(x: Tensor) -> Tensor:
    """`F.pixel_unshuffle(x, 4)` of (B, 3, H, W), but in channels last, which that does not keep."""
    return x.unflatten(3, (-1, 4)).unflatten(2, (-1, 4)).permute(0, 2, 4, 1, 3, 5).flatten(3).permute(0, 3, 1, 2)


def cells(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Centres (A, 2), x and y in pixels, and strides (A, 1) of the cells of a picture of this size, in the order of
    the network's predictions."""
    centres, strides = [], []
    for stride in STRIDES:
        rows, columns = (-(-side // 32) * 32 // stride for side in (height, width))
        y, x = torch.meshgrid(
            *((torch.arange(n, device=device) + 0.5) * stride for n in (rows, columns)), indexing="ij"
        )
        centres.append(torch.stack([x, y], 2).flatten(0, 1))
        strides.append(torch.full((rows * columns, 1), float(stride), device=device))
    return torch.cat(centres), torch.cat(strides)


def decode(raw: Tensor, centres: Tensor, strides: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (B, A, 4), x0 y0 x1 y1, and points (B, A, 5, 2), in pixels, of raw predictions (B, A, 15). The score is
    the sigmoid of the first. Points are relative to the box, and no gradient flows from them to it."""
    middle = centres + raw[..., 1:3] * strides
    half = raw[..., 3:5].clamp(-LARGEST, LARGEST).exp() * strides * (INITIAL_SIZE / 2)
    offsets = raw[..., 5:].unflatten(2, (-1, 2))
    points = middle.detach()[..., None, :] + offsets * 2 * half.detach()[..., None, :]
    return torch.cat([middle - half, middle + half], 2), points
