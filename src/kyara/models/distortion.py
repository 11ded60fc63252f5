"""Distortion recogniser (Sawada et al., "High-quality synthetic character image extraction via distortion
recognition"): a ConvNeXt (Liu et al. 2022) that classifies drawings as undistorted or distorted, for ranking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.data import variation
from kyara.data.distortions import DISTORTIONS, apply, distort, distort_some, frozen, half
from kyara.models import base
from kyara.nn import configs
from kyara.nn.configs import DataConfig
from kyara.nn.convnext import Classifier
from kyara.nn.filters import resize

WHOLE = 0  # the class of undistorted pictures; 1 is the class of distorted ones


@dataclass(frozen=True)
class NetworkConfig(configs.NetworkConfig):
    patch_size: int = 2  # patch size of the stem; ConvNeXt's 4 is coarse for 96 pixels
    depths: tuple[int, ...] = (1, 1, 2, 6, 2)  # ConvNeXt blocks in each stage
    widths: tuple[int, ...] = (16, 32, 64, 128, 256)  # channels in each stage
    drop_path: float = 0.05  # stochastic depth rate of the last block; increases linearly from 0
    layer_scale: float = 1.0
    """Initial value of the layer scale. ConvNeXt's 1e-6 is for long training: after 5,000 steps the blocks contribute
    only a few per cent. 0 disables it, as in the built-in checkpoint, where it is merged into the previous layer."""


@dataclass(frozen=True)
class AugmentConfig:
    """Distortion and augmentation of the training pictures."""

    pairs: bool = True  # train on each picture both undistorted and distorted, so that its content cancels out
    probability: float = 0.5  # probability of distortion without `pairs`
    resampled: float = 0.0  # probability that an undistorted picture is resampled, for a similar sharpness
    jitter: float = 0.25  # maximum colour jitter
    enlarged: float = 0.05  # probability that a batch is downsampled and upsampled; not a distortion


ADAMW = configs.AdamWConfig(lr=1e-3, betas=(0.9, 0.999), warmup=0.01)  # warm-up avoids hundreds of wasted steps


@dataclass(frozen=True)
class Config(configs.Config):
    data: DataConfig = DataConfig(96, 96)
    network: NetworkConfig = NetworkConfig()
    optimizer: configs.AdamWConfig = ADAMW
    augment: AugmentConfig = AugmentConfig()


PRESETS = {
    "atto": Config(),
    "paper": Config(
        DataConfig(224, 224),
        NetworkConfig(patch_size=4, depths=(3, 3, 9, 3), widths=(96, 192, 384, 768), drop_path=0.0, layer_scale=1e-6),
        optimizer=replace(ADAMW, batch=128, lr=1e-3, warmup=0.0, ema_kimg=0.0, weight_decay=0.01),
        augment=AugmentConfig(pairs=False, jitter=0.0, enlarged=0.0),
    ),
    "tiny": Config(
        DataConfig(32, 32), NetworkConfig(depths=(1, 1, 1), widths=(8, 16, 32)), optimizer=replace(ADAMW, batch=8)
    ),
}


def frozen_set(real: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Distorts half of the pictures `real` (N, 3, H, W) with fixed seeds, all kinds equally often, for validation and
    test. Returns the pictures and the indices of their distortions (N,), -1 if undistorted."""
    pictures, kinds = real.clone(), torch.full((len(real),), -1, device=real.device)
    chosen = half(len(real), seed).nonzero().flatten().to(real.device)
    for kind, (name, distortion) in enumerate(DISTORTIONS.items()):
        index = chosen[kind :: len(DISTORTIONS)]
        seeds = [seed * 1_000_003 + int(i) for i in index]
        pictures[index] = frozen(real[index].cpu(), seeds, {name: distortion}).to(real.device)
        kinds[index] = kind
    return pictures, kinds


class Model(base.Scorer):
    """ConvNeXt with two classes, trained on randomly distorted pictures (Sawada et al.)."""

    presets = PRESETS
    phases = ("train",)
    averages: ClassVar[Mapping[str, str]] = {"net": "net_ema"}
    data_spec = base.DataSpec(holdout=0.05)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config = config
        self.net = Classifier(asdict(config.network), classes=2)
        self.net_ema = self.average(self.net)

    def losses(self, phase: str, batch: base.Batch) -> dict[str, Tensor]:
        pictures, labels = self._examples(batch.real)
        logits = self.net(pictures).float()
        batch.log["accuracy"] = (logits.detach().argmax(1) == labels).float().mean()
        return {"cross_entropy": F.cross_entropy(logits, labels)}

    @torch.no_grad()
    def _examples(self, real: Tensor) -> tuple[Tensor, Tensor]:
        """Undistorted and distorted training pictures (B or 2 B, 3, H, W), and their classes."""
        config = self.config.augment
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        real = variation.jitter(real, config.jitter).clamp_(-1, 1)
        if config.pairs:
            whole, _, _ = distort_some(real, generator, 0.0, resampled=config.resampled)
            pictures = torch.cat([whole, distort(real, generator)])
            labels = torch.arange(2, device=real.device).repeat_interleave(len(real))
        else:
            pictures, labels, _ = distort_some(real, generator, config.probability, resampled=config.resampled)
        if torch.rand(()) < config.enlarged:
            factor = 0.5 + 0.5 * float(torch.rand(()))
            small = F.interpolate(pictures, scale_factor=factor, mode="bilinear", antialias=True)
            pictures = F.interpolate(small, pictures.shape[2:], mode="bicubic").clamp_(-1, 1)
        return pictures, labels

    def scores(self, pictures: Tensor) -> Tensor:
        """Probabilities (B,) that pictures (B, 3, H, W) in [-1, 1], of any size, are undistorted."""
        return self.net_ema.classifier(self.embed(pictures)).float().softmax(1)[:, WHOLE]

    def embed(self, pictures: Tensor) -> Tensor:
        """The input (B, F) of the last layer for pictures (B, 3, H, W) in [-1, 1]."""
        pictures = resize(pictures, (self.config.data.height, self.config.data.width))
        features: Tensor = self.net_ema.convnext(pictures)
        return features

    def measure(self, batch: base.Batch, distance: base.Distance) -> dict[str, float]:
        """Error rate on `frozen_set` of the pictures, and the miss rate of each kind of distortion."""
        pictures, kinds = frozen_set(batch.real)
        wrong = (torch.cat([self.scores(part) for part in pictures.split(64)]) >= 0.5) == (kinds >= 0)
        found = {"error": wrong.float().mean()}
        found |= {f"missed/{name}": wrong[kinds == kind].float().mean() for kind, name in enumerate(DISTORTIONS)}
        return {name: float(share) for name, share in found.items()}

    def preview(self, batch: base.Batch) -> Tensor | None:
        """The same pictures with each kind of distortion, one kind per row."""
        count = max(len(batch.real) // len(DISTORTIONS), 1)
        generator = torch.Generator().manual_seed(0)
        kinds = (torch.full((count,), kind) for kind in range(len(DISTORTIONS)))
        return torch.cat([apply(batch.real[:count], kind, generator) for kind in kinds])
