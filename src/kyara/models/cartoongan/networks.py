"""Networks of CartoonGAN. They have no global statistics at inference: outputs depend on the receptive field only."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from kyara.models.cartoongan.config import Config, NetworkConfig
from kyara.models.cartoongan.eyes import FIELDS, draw_eyes
from kyara.models.cartoongan.painting import cel, cel_receptive_field, colourless, ink, lines_receptive_field
from kyara.perception import portrait

PLACE, WARPED = 4, 16  # input stride and total stride of LowResNet, in pixels
FARTHEST = 32  # maximum shift of a pixel


class Conv(nn.Sequential):
    """Convolution, batch normalisation, ReLU. (B, in, H, W) -> (B, out, H / stride, W / stride)."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """Two convolutions with a skip connection, (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = Conv(channels, channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.second(self.first(x)))


class Network(nn.Module):
    """Encoder-decoder with residual blocks: pictures (B, 3, H, W) -> (B, 3, H, W), in [-1, 1] unless `filtered`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        network = config.network
        widths = [network.channels * 2**i for i in range(network.downsamplings + 1)]
        kernel = 7 if network.pixel_unshuffle == 1 else 5
        self.stem = Conv((6 if network.filtered else 3) * network.pixel_unshuffle**2, widths[0], kernel)
        self.down = nn.ModuleList(Conv(a, b, stride=2) for a, b in pairwise(widths))
        self.middle = nn.Sequential(*(Residual(widths[-1]) for _ in range(network.blocks)))
        self.up = nn.ModuleList(Conv(b, a) for a, b in pairwise(widths))
        self.out = nn.Conv2d(widths[0], 3, kernel, padding=kernel // 2)
        if network.filtered:
            for parameter in self.out.parameters():
                nn.init.zeros_(parameter)

    def forward(self, pictures: Tensor) -> Tensor:
        network, (height, width), drawn = self.config.network, pictures.shape[2:], None
        step = network.pixel_unshuffle * 2**network.downsamplings
        x = F.pad(pictures, (0, -width % step, 0, -height % step), mode="replicate")
        if network.filtered:
            drawn = cel(x, side=min(self.config.data.width, self.config.data.height))
            x = torch.cat([x, drawn], 1)
        x = F.pixel_unshuffle(x, network.pixel_unshuffle)
        seen = [self.stem(x.contiguous(memory_format=torch.channels_last))]
        for down in self.down:
            seen.append(down(seen[-1]))
        x = self.middle(seen.pop())
        for i in reversed(range(len(self.up))):
            x = self.up[i](F.interpolate(x, scale_factor=2.0))
            if i >= len(self.up) - network.skips:
                x = x + seen[i]
        if network.pixel_unshuffle > 1:  # pixel_shuffle would cause checkerboard artefacts
            x = F.interpolate(x, scale_factor=float(network.pixel_unshuffle), mode="bilinear")
        x = torch.tanh(self.out(x))
        return (x if drawn is None else drawn + 2 * x.float())[:, :, :height, :width]


class LowResNet(nn.Module):
    """Small encoder-decoder at low resolution: pictures (B, 3, H, W) in [-1, 1] -> smooth maps (B, N, H, W)."""

    channels = 24

    def __init__(self, maps: int, limit: float = math.inf) -> None:
        """The maps are limited to [-limit, limit] by a tanh."""
        super().__init__()
        c, self.limit = self.channels, limit
        self.down = nn.ModuleList([Conv(3, c), Conv(c, 2 * c, stride=2), Conv(2 * c, 3 * c, stride=2)])
        self.middle = nn.Sequential(Residual(3 * c), Residual(3 * c))
        self.up = nn.ModuleList([Conv(2 * c, c), Conv(3 * c, 2 * c)])
        self.out = nn.Conv2d(c, maps, 3, padding=1)
        nn.init.zeros_(self.out.weight)

    def forward(self, pictures: Tensor) -> Tensor:
        height, width = pictures.shape[2:]
        x = F.pad(pictures, (0, -width % WARPED, 0, -height % WARPED), mode="replicate")
        padded = x.shape[2:]
        first = self.down[0](F.avg_pool2d(x, PLACE).contiguous(memory_format=torch.channels_last))
        second = self.down[1](first)
        x = self.middle(self.down[2](second))
        x = second + self.up[1](F.interpolate(x, scale_factor=2.0))
        x = first + self.up[0](F.interpolate(x, scale_factor=2.0))
        maps = self.out(x).float()
        maps = maps if math.isinf(self.limit) else self.limit * torch.tanh(maps)
        return F.interpolate(maps, padded, mode="bilinear")[:, :, :height, :width]


class Generator(nn.Module):
    """Pictures (B, 3, H, W) in [-1, 1] -> drawings. Optionally enlarges the eyes first, and draws eyes at the end."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.warp = LowResNet(2, FARTHEST) if config.network.enlarge_eyes else None  # displacement field, x first
        self.gaze = LowResNet(FIELDS) if config.losses.gaze else None
        self.draw = Network(config)

    @property
    def receptive_field(self) -> int:
        """Radius in pixels of all stages together, rounded up to a multiple of the largest stride."""
        network, side = self.config.network, min(self.config.data.width, self.config.data.height)
        pixel = network.pixel_unshuffle
        steps = [pixel * 2**i for i in range(network.downsamplings + 1)]  # stride at each size
        ends = (3 + 3 if pixel == 1 else 2 * pixel + 2) + 2 * pixel
        far = ends + 2 * sum(steps[1:]) + sum(steps[:-1]) + 2 * network.blocks * steps[-1]
        if network.filtered:
            far += cel_receptive_field(side)
        if network.ink:
            far += lines_receptive_field(side)
        glance = PLACE * (5 + 2 * 3 + 4 * 5)  # at strides of 4, 8 and 16
        far = max(far, glance) if self.config.losses.gaze else far
        if network.enlarge_eyes:
            far += glance + FARTHEST
        whole = max(steps[-1], WARPED)
        return -(-far // whole) * whole

    def train(self, mode: bool = True) -> Generator:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d) and self.config.network.freeze_batch_norm:
                module.eval()
        return self

    def forward(self, pictures: Tensor) -> Tensor:
        if self.warp is not None:
            pictures = portrait.remap(pictures, self.warp(pictures))
        return self.finish(self.draw(pictures), None if self.gaze is None else self.gaze(pictures))

    def finish(self, drawn: Tensor, looks: Tensor | None) -> Tensor:
        """Darkens the lines of a drawing (B, 3, H, W), and draws eyes with fields (B, FIELDS, H, W) over it."""
        config = self.config
        if config.network.ink:
            drawn = ink(drawn, config.network.ink, min(config.data.width, config.data.height))
        return drawn if looks is None else draw_eyes(drawn, looks)


class PatchDiscriminator(nn.Module):
    """Pictures (B, 3, H, W) in [-1, 1] -> logits (B, 1, H / 8, W / 8), with spectral normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        c = channels
        widths = (3, c, 2 * c, 4 * c)  # kernel size 4 for stride 2, so that all pixels contribute equally
        self.layers = nn.ModuleList(spectral_norm(nn.Conv2d(a, b, 4, 2, 1)) for a, b in pairwise(widths))
        self.layers.append(spectral_norm(nn.Conv2d(4 * c, 4 * c, 3, 1, 1)))
        self.logits = spectral_norm(nn.Conv2d(4 * c, 1, 3, padding=1))

    def forward(self, pictures: Tensor) -> Tensor:
        x = pictures.contiguous(memory_format=torch.channels_last)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
        return self.logits(x)


class Discriminators(nn.Module):
    """Discriminators at full and half resolution. Pictures (B, 3, H, W) -> logits at 1/8 and 1/16 resolution."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.near, self.far = PatchDiscriminator(config.d_channels), PatchDiscriminator(config.d_channels)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        if not self.config.d_colours:
            pictures = colourless(pictures)
        if self.config.d_relief:
            pictures = portrait.relief(pictures)
        small = F.avg_pool2d(pictures, 2, ceil_mode=True)
        return [self.near(pictures).float(), self.far(small).float()]
