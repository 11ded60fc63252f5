"""The discriminator of StyleGAN2."""

from __future__ import annotations

from collections.abc import Iterator

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


class Discriminator(nn.Module):
    """Pictures (B, 3, H, W) -> logits (B,)."""

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
        self.group = config.network.mbstd_group_size
        self.conv = Conv(channels(0) + 1, channels(0), 3, gain=ACTIVATION, active=True)
        self.hidden = Linear(channels(0) * height * width, channels(0), gain=ACTIVATION)
        self.output = Linear(channels(0), 1)
        attributes = config.data.attributes
        self.labels = conditioning.Projection(attributes, channels(0)) if attributes else None
        classified = conditioning.width(attributes) if config.losses.label_weight else 0
        self.heads = Linear(channels(0), classified) if classified else None

    def uses(self, dtype: torch.dtype) -> Iterator[Use]:
        """The weights of its layers, for maps of `dtype`."""
        yield from uses((self.from_rgb, *self.blocks, self.conv), dtype)
        yield from uses((self.hidden, self.output, self.heads), torch.float32)

    def forward(self, pictures: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.judge(pictures, labels)[0]

    def judge(self, pictures: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Logits (B,) of pictures (B, 3, H, W) with labels (B, A), and label logits (B, V) if there is a label loss."""
        dtype = compute_dtype(pictures.device)
        with torch.autocast(pictures.device.type, enabled=False), shared(self.uses(dtype)):
            x = haar(pad_even(pictures, self.wavelets), self.wavelets) if self.wavelets else pictures
            x = x.to(dtype, memory_format=torch.channels_last)
            x = self.from_rgb(x)
            for block in reversed(self.blocks):
                x = block(x)
            x = self.conv(minibatch_deviation(x, self.group))
            x = leaky_relu(self.hidden(x.float().flatten(1)))  # (B, C)
            logits = self.output(x).squeeze(1)
            if self.labels is not None and labels is not None:
                logits = logits + self.labels(x, labels)
            return logits, None if self.heads is None else self.heads(x)
