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
        return self.see(pictures)[1]

    def see(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """The feature map at a quarter of the size on the way down, (B, 2 * channels, H / 4, W / 4), and the logits."""
        half, down, *_, quarter = self.trunk.all_levels(pictures)
        coarse = F.interpolate(self.trunk.top[1](quarter), half.shape[2:], mode="bilinear")
        return down, self.out(self.fine(torch.cat([half, coarse], 1))).float()
