"""Linear classifiers of the attributes of a face in a photo, on what the two frozen networks of `drawing` see in it.

The features are early feature maps of both networks on a grid, the shape of the lips, and the colours of hair, skin and
background. The last two are few numbers: random Fourier features (Rahimi and Recht 2007) of them make the linear
classifiers approximate those with a Gaussian kernel. A few hundred labelled pictures are enough. Faces must be aligned
(`kyara prepare --detect photo`)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kyara.models import base, hog, load_frozen
from kyara.models.drawing import config as drawing
from kyara.models.drawing.layout import ALIGNED, AT, COUNT, REGIONS, crop
from kyara.models.drawing.model import Model as Drawing
from kyara.models.drawing.networks import Regions
from kyara.nn.constants import constant
from kyara.perception.landmarks import Network as Points
from kyara.perception.landmarks import places

TOP = 0.3  # share of the height of the frame, from the top, in which hair is above the face
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)  # of the colours of a region
PLACES = 5  # the regions of `Features.colours`


@dataclass(frozen=True)
class NetworkConfig(drawing.NetworkConfig):
    source: str = "builtin:cartoon"  # checkpoint of `drawing` whose networks are copied; "" leaves them random
    grid: int = 7  # side of the grid on which feature maps are averaged
    fourier: int = 2048  # random Fourier features of the colours, and as many of the lips
    colour_width: float = 1.0  # standard deviation of the Gaussian kernel of the colours, in theirs over people
    lip_width: float = 2.0  # the same for the shape of the lips


LOSSES = hog.LossConfig(label_smoothing=0.1)


@dataclass(frozen=True)
class Config(hog.Config):
    network: NetworkConfig = NetworkConfig()  # type: ignore[assignment]
    losses: hog.LossConfig = LOSSES


PRESETS = {
    "two-core": Config(),
    "tiny": Config(
        base.DataConfig(32, 32),
        NetworkConfig(source="", channels=8, points_size=32, regions_size=32, grid=2, fourier=16),
        optimizer=replace(hog.ADAMW, batch=8),
    ),
}


class Fourier(nn.Module):
    """Random Fourier features (B, count) of vectors (B, N), for a Gaussian kernel (Rahimi and Recht 2007, section 3).
    `width` is its standard deviation, in those of the vectors, of which the mean and variance are tracked."""

    def __init__(self, inputs: int, count: int, width: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(inputs, affine=False)
        generator = torch.Generator().manual_seed(0)
        with torch.device("cpu"):
            frequencies = torch.randn(inputs, count, generator=generator) / (width * math.sqrt(inputs))
            phases = torch.rand(count, generator=generator) * 2 * math.pi
        self.frequencies, self.phases = nn.Buffer(frequencies), nn.Buffer(phases)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return (self.norm(x.float()) @ self.frequencies + self.phases).cos()


class Features(hog.Extractor):
    """What the networks of `drawing` see."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        network = self.config = config.network
        self.points, self.regions = Points(network.channels, COUNT), Regions(network.channels)
        lips = AT["outer lips"], AT["inner lips"]
        self.lips = Fourier(2 * sum(one.stop - one.start for one in lips), network.fourier, network.lip_width)
        self.colours = Fourier(PLACES * (3 * len(QUANTILES) + 1), network.fourier, network.colour_width)
        self.count = 2 * 2 * network.channels * network.grid**2 + 2 * network.fourier
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        """Features (B, F) of pictures (B, 3, H, W) in [-1, 1]; each kind has mean 0 and variance 1."""
        contours, points = self.find_points(pictures)
        texture, shares = self.find_regions(pictures)
        lips, colours = self.lips(shape_of_lips(points)), self.colours(region_colours(pictures, shares))
        grids = [F.adaptive_avg_pool2d(maps.float(), self.config.grid) for maps in (contours, texture)]
        return hog.standardised([*grids, lips, colours])

    def find_points(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """The second feature map of the contours' network, and the contours (B, COUNT, 2), as shares of its sides."""
        levels = self.points.levels(square(pictures, self.config.face_zoom, self.config.points_size))
        return levels[0], places(self.points.top[1](levels[-1]).float())

    def find_regions(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """The second feature map of the regions' network, and the shares (B, 4, h, w), both inside of the frame."""
        maps, logits = self.regions.see(square(pictures, self.config.portrait_zoom, self.config.regions_size))
        return inside(maps, self.config.portrait_zoom), inside(logits.float().softmax(1), self.config.portrait_zoom)


def square(pictures: Tensor, zoom: float, side: int) -> Tensor:
    """The squares (B, 3, side, side) around aligned faces, `zoom` times as large as FFHQ's frame."""
    height, width = pictures.shape[2:]
    scale = zoom / ALIGNED / 2
    place = constant(((width * scale, 0.0, width / 2), (0.0, height * scale, height / 2)), pictures)
    return crop(pictures, place.expand(len(pictures), -1, -1), side, padding="reflection")


def inside(maps: Tensor, zoom: float) -> Tensor:
    """The part of maps (B, C, h, w) of the `square` with this zoom that is inside of the frame of the faces."""
    height, width = maps.shape[2:]
    y, x = (round(side * max(1 - ALIGNED / zoom, 0) / 2) for side in (height, width))
    return maps[..., y : height - y, x : width - x]


def shape_of_lips(points: Tensor) -> Tensor:
    """The points of the lips (B, 80) of contours (B, COUNT, 2), from their middle, in widths of the mouth."""
    outer, inner = points[:, AT["outer lips"]], points[:, AT["inner lips"]]
    width = (outer[:, len(outer[0]) // 2] - outer[:, 0]).norm(dim=1).clamp_min(0.02)
    return ((torch.cat([outer, inner], 1) - outer.mean(1, keepdim=True)) / width[:, None, None]).flatten(1)


def region_colours(pictures: Tensor, shares: Tensor) -> Tensor:
    """Quantiles of the colours and logarithms of the areas of background, skin, all hair, the hair above the face and
    that beside it, (B, 80), for pictures (B, 3, H, W) and shares (B, 4, h, w) of the regions."""
    small = F.interpolate(pictures.float(), shares.shape[2:], mode="bilinear", antialias=True)
    red, green, blue = small.unbind(1)
    colours = torch.stack([(red + green + blue) / 3, red - green, (red + green) / 2 - blue], 1)
    background, skin, hair = (shares[:, REGIONS.index(name)] for name in ("background", "skin", "hair"))
    hair = hair * (hair > 0.5)
    above = torch.arange(hair.shape[1], device=hair.device)[:, None] < TOP * hair.shape[1]
    regions = torch.stack([background, skin, hair, hair * above, hair * ~above], 1).flatten(2)
    areas = 0.3 * (regions.mean(2) + 1e-3).log()
    return torch.cat([quantiles(colours.flatten(2), regions + 1e-5).flatten(1), areas], 1)


def quantiles(values: Tensor, weights: Tensor) -> Tensor:
    """The `QUANTILES` (B, R, C, Q) of values (B, C, N), for each of the weights (B, R, N)."""
    ordered, order = values.sort(2)
    shape = (*weights.shape[:2], *values.shape[1:])
    total = weights[:, :, None].expand(shape).gather(3, order[:, None].expand(shape)).cumsum(3)
    at = torch.searchsorted(total, total[..., -1:] * constant(QUANTILES, total))
    return ordered[:, None].expand(shape).gather(3, at.clamp_max(values.shape[2] - 1))


class Model(hog.Model):
    """Linear classifiers on feature maps and random Fourier features (Rahimi and Recht 2007)."""

    presets = PRESETS
    features: Features

    def __init__(self, config: Config) -> None:
        super().__init__(config, Features(config))
        self.source = config.network.source
        self.copied = nn.Buffer(torch.tensor(False))

    @classmethod
    def least_micro_batch(cls, config: base.Config) -> int:
        return 2

    def losses(self, phase: str, batch: base.Batch) -> dict[str, Tensor]:
        if batch.step == 0 and self.source and not self.copied:
            self._copy_source()
        return super().losses(phase, batch)

    def _copy_source(self) -> None:
        """Copies the frozen networks of `source`, which is not needed afterwards."""
        source = load_frozen(self.source, self.copied.device)
        if not isinstance(source, Drawing):
            raise ValueError(f"--set network.source={self.source}: a {source.checkpoint.model}, not a drawing")
        self.features.points.load_state_dict(source.points_ema.state_dict())
        self.features.regions.load_state_dict(source.regions_ema.state_dict())
        self.copied.fill_(True)
