"""Distortion recogniser (Sawada et al., "High-quality synthetic character image extraction via distortion
recognition"): a ConvNeXt that tells whole drawings from ones bent by a pseudo-distortion, chosen afresh every time.

Its confidence that a picture is whole ranks what a generator made: what is broken looks bent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ConvNextForImageClassification

from kyara.data.distortions import DISTORTIONS, apply, distort, distort_some, frozen, half
from kyara.models import base
from kyara.nn.convnext import convnext

WHOLE = 0
"""The class of undistorted pictures; 1 is the class of distorted ones."""


@dataclasses.dataclass(frozen=True)
class Config(base.Config):
    width: int = 96
    """Width that pictures are brought to."""
    height: int = 96
    """Height that pictures are brought to."""
    batch: int = 32
    """Pictures in one step; of `pairs`, the network sees twice as many."""
    lr: float = 1e-3
    """Learning rate of AdamW after the warm-up; it falls to zero along a cosine."""
    warm_up: float = 0.01
    """Share of the run over which the learning rate rises. Without any, the first hundreds of steps learn nothing."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's decay rates of the first and second moment."""
    weight_decay: float = 0.05
    """AdamW's weight decay."""
    patch: int = 2
    """Pixels, each way, that the stem puts together. ConvNeXt's 4 are coarse for pictures of 96: a finer and
    narrower stage stands before the others."""
    depths: tuple[int, ...] = (1, 1, 2, 6, 2)
    """ConvNeXt blocks in each stage."""
    widths: tuple[int, ...] = (16, 32, 64, 128, 256)
    """Channels in each stage."""
    drop_path: float = 0.05
    """How often the last block is skipped while training; earlier ones less, in proportion."""
    layer_scale: float = 1.0
    """What a block's output is multiplied by at first. ConvNeXt's own 1e-6 suits hundreds of epochs: after 5,000
    steps the blocks still contribute a few per cent, and elastic distortions that anyone sees are missed. 0: there is
    no such factor, as in the built-in, where it has become part of the layer before it."""
    pairs: bool = True
    """Show every picture both ways in the same step. What the drawing shows then cancels in the gradient, and what
    was done to it remains."""
    probability: float = 0.5
    """How often a picture is distorted, unless shown both ways."""
    resampled: float = 0.0
    """How often a whole picture moves by less than a pixel, which softens it as a distortion does. In the paper
    never: on sharp drawings softness is then a hint of its own, as it is in what many generators make."""
    jitter: float = 0.25
    """How much a picture's colours vary, whole or distorted: 20,000 faces are soon known by heart."""
    enlarged: float = 0.05
    """How often a batch is seen as if enlarged, from half the size or more: small pictures are not broken ones."""


PRESETS = {
    "atto": Config(),
    "paper": Config(
        224, 224, 128, lr=1e-3, warm_up=0.0, ema_kimg=0.0, weight_decay=0.01, patch=4, depths=(3, 3, 9, 3),
        widths=(96, 192, 384, 768), drop_path=0.0, layer_scale=1e-6, pairs=False, jitter=0.0, enlarged=0.0,
    ),
    "tiny": Config(32, 32, 8, depths=(1, 1, 1), widths=(8, 16, 32)),
}  # fmt: skip


def vary(pictures: Tensor, strength: float) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1] with each channel brighter or darker, stronger or weaker by up to `strength`."""
    gain, offset = ((torch.rand(2, len(pictures), 3, 1, 1, device=pictures.device) * 2 - 1) * strength).unbind()
    return (pictures * (1 + gain) + offset).clamp_(-1, 1)


def frozen_set(real: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Distorts half of the pictures `real` (N, 3, H, W), the kinds in equal parts, each by its own stored seed: always
    the same set for validation and test. Returns the pictures and their kinds (N,), -1 where whole."""
    pictures, kinds = real.clone(), torch.full((len(real),), -1, device=real.device)
    chosen = half(len(real), seed).nonzero().flatten().to(real.device)
    for kind, (name, distortion) in enumerate(DISTORTIONS.items()):
        index = chosen[kind :: len(DISTORTIONS)]
        seeds = [seed * 1_000_003 + int(i) for i in index]
        pictures[index] = frozen(real[index].cpu(), seeds, {name: distortion}).to(real.device)
        kinds[index] = kind
    return pictures, kinds


class Model(base.Model):
    """ConvNeXt with two classes, trained on pictures distorted on the fly."""

    config_type = Config
    presets = PRESETS
    phases = ("recognise",)
    averages: ClassVar[Mapping[str, str]] = {"net": "net_ema"}
    holdout = 0.05

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config = config
        self.net = ConvNextForImageClassification(
            convnext(config.patch, config.depths, config.widths, config.layer_scale, config.drop_path)
        )
        self.net_ema = self.average(self.net)

    def players(self) -> Mapping[str, nn.Module]:
        return {"recognise": self.net}

    def optimizer(self, parameters: list[dict[str, Any]]) -> torch.optim.Optimizer:
        config = self.config
        return torch.optim.AdamW(
            parameters, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=True
        )

    def lr_scale(self, progress: float) -> float:
        return base.warm_cosine(progress, self.config.warm_up)

    def losses(self, phase: str, batch: base.Batch) -> dict[str, Tensor]:
        pictures, labels = self._examples(batch.real)
        logits = self.net(pictures.contiguous(memory_format=torch.channels_last)).logits.float()
        batch.log["accuracy"] = (logits.detach().argmax(1) == labels).float().mean()
        return {"cross_entropy": F.cross_entropy(logits, labels)}

    @torch.no_grad()
    def _examples(self, real: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures to learn from, whole and distorted, (B or 2 B, 3, H, W), and which is which."""
        config = self.config
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        real = vary(real, config.jitter)
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
        """Probability (B,) that each of the pictures (B, 3, H, W) in [-1, 1] is whole. They are brought to the
        size that the network was trained at."""
        logits: Tensor = self.net_ema.classifier(self.embed(pictures))
        return logits.float().softmax(1)[:, WHOLE]

    def embed(self, pictures: Tensor) -> Tensor:
        """What the last layer sees (B, F) of pictures (B, 3, H, W) in [-1, 1]: features to compare pictures by."""
        size = (self.config.height, self.config.width)
        if pictures.shape[2:] != size:
            pictures = F.interpolate(pictures, size, mode="bilinear", antialias=True)
        features: Tensor = self.net_ema.convnext(pictures.contiguous(memory_format=torch.channels_last)).pooler_output
        return features

    def measure(self, batch: base.Batch, distance: base.Distance) -> dict[str, float]:
        """Shares of wrong answers on the frozen set that the pictures become (see `frozen_set`)."""
        pictures, kinds = frozen_set(batch.real)
        wrong = (torch.cat([self.scores(part) for part in pictures.split(64)]) >= 0.5) == (kinds >= 0)
        found = {"error": wrong.float().mean()}
        found |= {f"missed/{name}": wrong[kinds == kind].float().mean() for kind, name in enumerate(DISTORTIONS)}
        return {name: float(share) for name, share in found.items()}

    def preview(self, batch: base.Batch) -> Tensor | None:
        """Each kind of distortion on the same pictures, one kind a row."""
        count = max(len(batch.real) // len(DISTORTIONS), 1)
        generator = torch.Generator().manual_seed(0)
        kinds = range(len(DISTORTIONS))
        rows = [apply(batch.real[:count], torch.full((count,), kind), generator) for kind in kinds]
        return torch.cat(rows)
