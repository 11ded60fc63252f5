"""The landmarks network: twelve points of a face, in photos and in drawings alike."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kyara.files import checkpoint
from kyara.nn.filters import resize

NAMES = (
    "left eye, left", "left eye, top", "left eye, right", "left eye, bottom",
    "right eye, left", "right eye, top", "right eye, right", "right eye, bottom",
    "nose", "mouth, left", "mouth, right", "chin",
)  # fmt: skip
"""Names of the points, in order. Left is left in the picture."""
MIRRORED = (6, 5, 4, 7, 2, 1, 0, 3, 8, 10, 9, 11)  # index of each point after mirroring
LEFT, RIGHT = slice(0, 4), slice(4, 8)  # the points of each eye


class Block(nn.Module):
    """Two convolutions with a skip connection, at half the size if `down`. (B, in, H, W) -> (B, out, H, W)."""

    def __init__(self, inputs: int, outputs: int, *, down: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride=2 if down else 1, padding=1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.GroupNorm(8, outputs) for _ in range(2))
        self.around = nn.Conv2d(inputs, outputs, 1, stride=2 if down else 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.around(x) + self.norms[1](self.second(y)))


class Network(nn.Module):
    """Down to a sixteenth of the size and up again to a quarter."""

    def __init__(self, channels: int, outputs: int = len(NAMES)) -> None:
        super().__init__()
        c = channels
        self.stem = nn.Conv2d(3, c, 5, stride=2, padding=2)
        self.quarter = Block(c, 2 * c, down=True)
        self.eighth = Block(2 * c, 3 * c, down=True)
        self.bottom = nn.Sequential(Block(3 * c, 3 * c, down=True), Block(3 * c, 3 * c))
        self.up = Block(6 * c, 2 * c)
        self.top = nn.Sequential(Block(4 * c, 2 * c), nn.Conv2d(2 * c, outputs, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """A heatmap for each point, (B, K, H / 4, W / 4), of pictures (B, 3, H, W) in [-1, 1]."""
        return self.top[1](self.levels(pictures)[-1]).float()

    def levels(self, pictures: Tensor) -> list[Tensor]:
        """The feature maps of pictures (B, 3, H, W) in [-1, 1] on the way down and up again, at 1/4, 1/8, 1/8 and 1/4
        of the size. The points are read from the last."""
        return self.all_levels(pictures)[1:]

    def features(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """The first feature map, at 1/2 of the size of pictures (B, 3, H, W) in [-1, 1], and the last, at 1/4."""
        first, *_, last = self.all_levels(pictures)
        return first, last

    def all_levels(self, pictures: Tensor) -> list[Tensor]:
        half = F.relu(self.stem(pictures.contiguous(memory_format=torch.channels_last)))
        quarter = self.quarter(half)
        eighth = self.eighth(quarter)
        bottom = F.interpolate(self.bottom(eighth), eighth.shape[2:], mode="bilinear")
        up = self.up(torch.cat([eighth, bottom], 1))
        enlarged = F.interpolate(up, quarter.shape[2:], mode="bilinear")
        return [half, quarter, eighth, up, self.top[0](torch.cat([quarter, enlarged], 1))]


def places(maps: Tensor) -> Tensor:
    """Soft argmax of heatmaps (B, K, H, W): (B, K, 2), as fractions of the width and height."""
    share = maps.flatten(2).softmax(2).unflatten(2, maps.shape[2:])
    x, y = (cell_centres(n, maps.device) for n in (maps.shape[3], maps.shape[2]))
    return torch.stack([(share.sum(2) * x).sum(2), (share.sum(3) * y).sum(2)], 2)


def cell_centres(n: int, device: torch.device) -> Tensor:
    """Centres of n equal cells of [0, 1]."""
    return (torch.arange(n, device=device) + 0.5) / n


def find_points(network: Network, pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """Points (B, K, 2) of faces in pictures (B, 3, H, W), resized to `size` (height, width). Differentiable."""
    return places(network(resize(pictures, size)))


@functools.cache
def _builtin(device: torch.device) -> tuple[Network, tuple[int, int]]:
    found = checkpoint.read("builtin:landmarks")
    weights = {k.removeprefix("net_ema."): t for k, t in found.weights().items() if k.startswith("net_ema.")}
    # Fresh weights must not move the random numbers of a training run; training needs no inference tensors.
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        network = Network(found.config["network"]["channels"])
        network.load_state_dict(weights)
        network.to(device).eval().requires_grad_(False)
    return network, (found.config["data"]["height"], found.config["data"]["width"])


def find_with_levels(pictures: Tensor) -> tuple[Tensor, list[Tensor]]:
    """`find`, and the feature maps of `Network.levels`."""
    network, size = _builtin(pictures.device)
    levels = network.levels(resize(pictures, size))
    return places(network.top[1](levels[-1]).float()), levels


def find(pictures: Tensor) -> Tensor:
    """`find_points` by `builtin:landmarks`, which is loaded once."""
    network, size = _builtin(pictures.device)
    return find_points(network, pictures, size)


def find_with_evidence(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """`find`, and for each picture (B,) the mean over the points of the maximum of their heatmaps: about 13 for a face,
    lower for anything else."""
    network, size = _builtin(pictures.device)
    maps = network(resize(pictures, size))
    return places(maps), maps.flatten(2).amax(2).mean(1)
