"""Further discriminators of StyleGAN2: of parts of the picture, and of what fixed networks see in it."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kyara.models.stylegan2.config import Config
from kyara.nn import conditioning
from kyara.nn.layers import ACTIVATION, Conv, Linear, ResidualBlock, leaky_relu
from kyara.nn.scaling import Use, uses
from kyara.perception.features import even, load_features

PART_CHANNELS, PART_CHANNEL_MAX = 32, 128  # at full resolution, doubled with each level; at most
STRIDES = (4, 8, 16)  # of the maps of fixed networks that are judged, in pixels
MIXED = 64  # channels of their maps, and of the networks that judge them
SMALLEST_MAP = 4  # the shorter side of a map, in cells


class Tower(nn.Module):
    """Maps (B, C, H, W) -> features (B, F): residual blocks of the given widths, which halve the size between them, and
    the output layers on the features."""

    def build(self, widths: Sequence[int], shape: tuple[int, int], config: Config, *, classifies: bool) -> None:
        """Adds all layers but the first, whose name is the subclass's."""
        self.blocks = nn.ModuleList(ResidualBlock(a, b) for a, b in itertools.pairwise(widths))
        height, width = shape
        for _ in self.blocks:
            height, width = -(-height // 2), -(-width // 2)
        self.hidden = Linear(widths[-1] * height * width, widths[-1], gain=ACTIVATION)
        self.output = Linear(widths[-1], 1)
        attributes = config.data.attributes
        self.labels = conditioning.Projection(attributes, widths[-1]) if attributes else None
        classified = conditioning.width(attributes) if classifies and config.losses.label_weight else 0
        self.heads = Linear(widths[-1], classified) if classified else None

    def uses(self, dtype: torch.dtype) -> Iterator[Use]:
        """The weights of its layers, for maps of `dtype`."""
        yield from uses(self.blocks, dtype)
        yield from uses((self.hidden, self.output, self.heads), torch.float32)

    def features(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return leaky_relu(self.hidden(x.float().flatten(1)))


class Part(Tower):
    """Features (B, F) of one part of pictures (B, 3, H, W), at full resolution. As the discriminators of facial
    components of GFP-GAN (Wang et al. 2021), but in fixed places."""

    def __init__(self, box: tuple[int, int, int, int], config: Config) -> None:
        left, top, right, bottom = box
        shape = bottom - top, right - left
        levels = max(int(math.log2(min(shape) / 4)), 1)
        widths = [min(PART_CHANNELS << level, PART_CHANNEL_MAX) for level in range(levels + 1)]
        super().__init__()
        self.rows, self.columns = slice(top, bottom), slice(left, right)
        self.from_rgb = Conv(3, widths[0], 1, gain=ACTIVATION, active=True)
        self.build(widths, shape, config, classifies=True)

    def uses(self, dtype: torch.dtype) -> Iterator[Use]:
        yield from uses((self.from_rgb,), dtype)
        yield from super().uses(dtype)

    def forward(self, pictures: Tensor, dtype: torch.dtype) -> Tensor:
        part = pictures[:, :, self.rows, self.columns]
        return self.features(self.from_rgb(part.to(dtype, memory_format=torch.channels_last)))


class Stage(Tower):
    """Features (B, F) of maps (B, MIXED, H, W) that `seen` returns for one stride."""

    def __init__(self, stride: int, config: Config) -> None:
        shape = config.data.height // stride, config.data.width // stride
        levels = max(int(math.log2(min(shape) / SMALLEST_MAP)), 0)
        super().__init__()
        self.from_maps = Conv(MIXED, MIXED, 1, gain=ACTIVATION, active=True)
        self.build([MIXED] * (levels + 1), shape, config, classifies=False)

    def uses(self, dtype: torch.dtype) -> Iterator[Use]:
        yield from uses((self.from_maps,), dtype)
        yield from super().uses(dtype)

    def forward(self, maps: Tensor, dtype: torch.dtype) -> Tensor:
        return self.features(self.from_maps(maps.to(dtype, memory_format=torch.channels_last)))


def strides(config: Config) -> list[int]:
    """Of the maps that `seen` returns."""
    return strides_at(min(config.data.height, config.data.width)) if config.network.features else []


def strides_at(side: int) -> list[int]:
    return [stride for stride in STRIDES if side // stride >= SMALLEST_MAP]


def seen(name: str, pictures: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """What the fixed networks `name`, as of `load_features`, see in pictures (B, 3, H, W): for each stride, maps (B,
    MIXED, H / stride, W / stride) with a mean square of 1 at every position.

    Their channels are mixed at random, as in Projected GANs (Sauer et al. 2021), so that the networks that judge them
    do not depend on the widths of others."""
    if not name:
        return []
    with torch.autocast(pictures.device.type, dtype, enabled=dtype != torch.float32):
        maps = load_features(name, pictures.device)(pictures)
    by_stride: dict[int, list[Tensor]] = {stride: [] for stride in strides_at(min(pictures.shape[2:]))}
    for x in maps:
        by_stride.get(pictures.shape[2] // x.shape[2], []).append(even(x).to(dtype))
    return [even(mixed(torch.cat(same, 1))).to(dtype) for same in by_stride.values()]


def mixed(maps: Tensor) -> Tensor:
    """Random combinations (B, MIXED, H, W), always the same, of maps (B, C, H, W)."""
    return F.conv2d(maps, directions(maps.shape[1], maps.device).to(maps.dtype)[:, :, None, None])


@functools.cache
def directions(channels: int, device: torch.device) -> Tensor:
    """(MIXED, channels)."""
    fixed = torch.Generator().manual_seed(0)
    return (torch.randn(MIXED, channels, generator=fixed, device="cpu") / channels**0.5).to(device)
