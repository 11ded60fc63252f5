"""The network of the regions. That of the contours is `perception.landmarks.Network`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kyara.models.drawing.layout import REGIONS
from kyara.perception.landmarks import Block, Network


class Regions(nn.Module):
    """The hourglass of the landmarks, with outputs at half the resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.trunk = Network(channels, 2 * channels)
        self.fine = Block(3 * channels, channels)
        self.out = nn.Conv2d(channels, len(REGIONS), 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits of the regions (B, 4, H / 2, W / 2) of pictures (B, 3, H, W) in [-1, 1]."""
        half, quarter = self.trunk.features(pictures)
        coarse = F.interpolate(self.trunk.top[1](quarter), half.shape[2:], mode="bilinear")
        return self.out(self.fine(torch.cat([half, coarse], 1))).float()
