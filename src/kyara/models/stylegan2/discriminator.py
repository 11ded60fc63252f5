"""The discriminator of StyleGAN2, and its convolutions, which the encoder has too."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from kyara.models.stylegan2.config import Config
from kyara.nn import conditioning
from kyara.nn.filters import pad_even
from kyara.nn.layers import (
    ACTIVATION,
    Conv,
    Linear,
    ResidualBlock,
    compute_dtype,
    leaky_relu,
    minibatch_deviation,
)
from kyara.nn.scaling import Use, shared, uses
from kyara.nn.wavelets import haar

PART_CHANNELS, PART_CHANNEL_MAX = 32, 128  # at full resolution, doubled with each level; at most


class Trunk(nn.Module):
    """The convolutions of the discriminator, and of the encoder, from the picture to the coarsest maps."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        channels = config.channels
        self.wavelets = config.network.wavelets
        kernel = 3 if self.wavelets else 1
        self.from_rgb = Conv(config.bands, channels(config.levels), kernel, gain=ACTIVATION, active=True)
        self.blocks = nn.ModuleList(ResidualBlock(channels(i), channels(i - 1)) for i in range(1, config.levels + 1))
        height, width = config.data.height, config.data.width
        for _ in range(self.wavelets + len(self.blocks)):
            height, width = -(-height // 2), -(-width // 2)
        self.coarsest = channels(0) * height * width  # size of the last maps of a picture

    def maps(self, pictures: Tensor, dtype: torch.dtype) -> list[Tensor]:
        """Maps (B, C, H, W) of `dtype` of pictures (B, 3, H, W): of the first layer, and of each block, from fine to
        coarse."""
        x = haar(pad_even(pictures, self.wavelets), self.wavelets) if self.wavelets else pictures
        found = [self.from_rgb(x.to(dtype, memory_format=torch.channels_last))]
        for block in reversed(self.blocks):
            found.append(block(found[-1]))
        return found


class Discriminator(Trunk):
    """Pictures (B, 3, H, W) -> logits (B,): the sum of those of the picture and of its parts."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        channels = config.channels
        self.group = config.network.mbstd_group_size
        self.conv = Conv(channels(0) + 1, channels(0), 3, gain=ACTIVATION, active=True)
        self.hidden = Linear(self.coarsest, channels(0), gain=ACTIVATION)
        self.output = Linear(channels(0), 1)
        attributes = config.data.attributes
        self.labels = conditioning.Projection(attributes, channels(0)) if attributes else None
        classified = conditioning.width(attributes) if config.losses.label_weight else 0
        self.heads = Linear(channels(0), classified) if classified else None
        # Named by their place: --init copies a part only to the same one.
        self.parts = nn.ModuleDict({"_".join(map(str, box)): Part(box, config) for box in config.boxes})

    def uses(self, dtype: torch.dtype) -> Iterator[Use]:
        """The weights of its layers, for maps of `dtype`."""
        yield from uses((self.from_rgb, *self.blocks, self.conv), dtype)
        yield from uses((self.hidden, self.output, self.heads), torch.float32)
        for part in self.parts.values():
            yield from cast("Part", part).uses(dtype)

    def forward(self, pictures: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.judge(pictures, labels)[0].sum(1)

    def judge(self, pictures: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Logits (B, 1 + parts) of pictures (B, 3, H, W) with labels (B, A): of the picture, and of each part. And
        label logits (B, V) if there is a label loss, the sum of theirs."""
        dtype = compute_dtype(pictures.device)
        with torch.autocast(pictures.device.type, enabled=False), shared(self.uses(dtype)):
            networks: list[Any] = [self, *self.parts.values()]
            features = [self.features(pictures, dtype), *(part(pictures, dtype) for part in networks[1:])]
            seen = list(zip(networks, features, strict=True))
            logits = torch.cat([network.output(x) for network, x in seen], 1)
            if labels is not None and self.labels is not None:
                logits = logits + torch.stack([network.labels(x, labels) for network, x in seen], 1)
            label_logits = [network.heads(x) for network, x in seen if network.heads is not None]
            return logits, sum(label_logits[1:], label_logits[0]) if label_logits else None

    def feature_maps(self, pictures: Tensor) -> list[Tensor]:
        """The `maps` of pictures (B, 3, H, W) in the dtype of the surrounding autocast, to compare pictures by."""
        dtype = compute_dtype(pictures.device)
        with torch.autocast(pictures.device.type, enabled=False), shared(uses((self.from_rgb, *self.blocks), dtype)):
            return self.maps(pictures, dtype)

    def features(self, pictures: Tensor, dtype: torch.dtype) -> Tensor:
        """Features (B, C) of the whole picture."""
        x = self.conv(minibatch_deviation(self.maps(pictures, dtype)[-1], self.group))
        return leaky_relu(self.hidden(x.float().flatten(1)))


class Part(nn.Module):
    """Features (B, C) of one part of pictures (B, 3, H, W), at full resolution, and the output layers on them. As the
    discriminators of facial components of GFP-GAN (Wang et al. 2021), but in fixed places."""

    def __init__(self, box: tuple[int, int, int, int], config: Config) -> None:
        super().__init__()
        left, top, right, bottom = box
        self.rows, self.columns = slice(top, bottom), slice(left, right)
        levels = max(int(math.log2(min(bottom - top, right - left) / 4)), 1)
        widths = [min(PART_CHANNELS << level, PART_CHANNEL_MAX) for level in range(levels + 1)]
        self.from_rgb = Conv(3, widths[0], 1, gain=ACTIVATION, active=True)
        self.blocks = nn.ModuleList(ResidualBlock(a, b) for a, b in itertools.pairwise(widths))
        height, width = bottom - top, right - left
        for _ in self.blocks:
            height, width = -(-height // 2), -(-width // 2)
        self.hidden = Linear(widths[-1] * height * width, widths[-1], gain=ACTIVATION)
        self.output = Linear(widths[-1], 1)
        attributes = config.data.attributes
        self.labels = conditioning.Projection(attributes, widths[-1]) if attributes else None
        classified = conditioning.width(attributes) if config.losses.label_weight else 0
        self.heads = Linear(widths[-1], classified) if classified else None

    def uses(self, dtype: torch.dtype) -> Iterator[Use]:
        """The weights of its layers, for maps of `dtype`."""
        yield from uses((self.from_rgb, *self.blocks), dtype)
        yield from uses((self.hidden, self.output, self.heads), torch.float32)

    def forward(self, pictures: Tensor, dtype: torch.dtype) -> Tensor:
        part = pictures[:, :, self.rows, self.columns]
        x = self.from_rgb(part.to(dtype, memory_format=torch.channels_last))
        for block in self.blocks:
            x = block(x)
        return leaky_relu(self.hidden(x.float().flatten(1)))
