"""Distortion recogniser (Sawada et al., "High-quality synthetic character image extraction via distortion
recognition"): a ConvNeXt (Liu et al. 2022) that classifies drawings as undistorted or distorted, for ranking."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.data import variation
from kyara.data.distortions import DISTORTIONS, apply, distort, distort_some, frozen, half
from kyara.files.checkpoint import read
from kyara.models import base, load, load_frozen
from kyara.nn import configs
from kyara.nn.configs import DataConfig
from kyara.nn.convnext import Classifier
from kyara.nn.corruption import break_pictures
from kyara.nn.filters import resize
from kyara.nn.seeding import fixed_seed

WHOLE, BROKEN, UNCLEAR = 0, 1, -100  # the classes, and what the loss ignores
EXTRAPOLATED = 0.2  # share of batches whose broken pictures are of latents far out (truncation above 1)
MEASURED = 256  # generated pictures for `measure`
CELLS = 12  # cells along the shorter side in which a change must be visible


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
class GeneratorConfig:
    """The generators whose broken pictures it learns as well; set by `--of`."""

    checkpoints: tuple[str, ...] = ()  # Checkpoints
    hashes: tuple[str, ...] = ()  # their hashes


@dataclass(frozen=True)
class AugmentConfig:
    """Distortion and augmentation of the training pictures."""

    pairs: bool = True  # train on each picture both undistorted and distorted, so that its content cancels out
    probability: float = 0.5  # probability of distortion without `pairs`
    resampled: float = 0.0  # probability that an undistorted picture is resampled, for a similar sharpness
    jitter: float = 0.25  # maximum colour jitter
    enlarged: float = 0.05  # probability that a batch is downsampled and upsampled; not a distortion
    generated: float = 0.5  # with `--of`, pairs of whole and broken generated pictures, as a share of the batch
    visible: float = 0.2  # minimum change, somewhere in the picture, of a broken one, in the range of [-1, 1]


ADAMW = configs.AdamWConfig(lr=1e-3, betas=(0.9, 0.999), warmup=0.01)  # warm-up avoids hundreds of wasted steps


@dataclass(frozen=True)
class Config(configs.Config):
    data: DataConfig = DataConfig(96, 96)
    network: NetworkConfig = NetworkConfig()
    optimizer: configs.AdamWConfig = ADAMW
    augment: AugmentConfig = AugmentConfig()
    generator: GeneratorConfig = GeneratorConfig()


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
    augments = False
    averages: ClassVar[Mapping[str, str]] = {"net": "net_ema"}
    data_spec = base.DataSpec(holdout=0.05, of_model="may")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config = config
        self.net = Classifier(asdict(config.network), classes=2)
        self.net_ema = self.average(self.net)

    @staticmethod
    def describe_source(checkpoint: str, layer: str) -> dict[str, dict[str, Any]]:
        if layer != "auto":
            raise ValueError(f"--layer {layer}: distortion learns from all layers; leave the option out")
        names = tuple(filter(None, map(str.strip, checkpoint.split(","))))
        for name in names:
            if not isinstance(model := load(name), base.Generator):
                raise ValueError(f"--of {name}: a {model.checkpoint.model}, not a generator")
        return {"generator": {"checkpoints": names, "hashes": tuple(read(name).hash for name in names)}}

    def losses(self, phase: str, batch: base.Batch) -> dict[str, Tensor]:
        pictures, labels = self._examples(batch.real)
        if self.config.generator.checkpoints and (share := self.config.augment.generated):
            made, classes = self.generated_pairs(max(round(len(batch.real) * share), 2), batch.real)
            pictures, labels = torch.cat([pictures, made]), torch.cat([labels, classes])
        logits = self.net(pictures).float()
        clear = labels != UNCLEAR
        batch.log["accuracy"] = ((logits.detach().argmax(1) == labels) & clear).sum() / clear.sum()
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

    @torch.no_grad()
    def generated_pairs(self, count: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (2 count, 3, H, W) of one of the generators, at the size of `like`, whole and then broken from
        inside, and their classes. With the same latents, so that neither content nor the manner of the generator tells
        them apart; whole ones are truncated. A change that can hardly be seen is UNCLEAR."""
        names = self.config.generator.checkpoints
        source = load_frozen(names[int(torch.randint(len(names), ()))], like.device)
        assert isinstance(source, base.Generator)
        seeds = torch.randint(2**31, (count,)).tolist()
        z = base.latents(seeds, source.z_dim).to(like.device)
        labels = {name: label.to(like.device) for name, label in source.draw(seeds).items()}
        near, far, extrapolated = (float(x) for x in torch.rand(3))

        def sample(truncation: float) -> Tensor:
            return source.sample(z, truncation=truncation, labels=labels).float()

        if extrapolated < EXTRAPOLATED:
            whole, broken = sample(0.4 + 0.5 * near), sample(1.4 + 1.2 * far)
        else:
            whole, broken = break_pictures(source, functools.partial(sample, 0.4 + 0.5 * near))
        height, width = like.shape[2:]
        both = resize(torch.cat([whole, broken]).clamp(-1, 1), (height, width))
        apart = (both[:count] - both[count:]).abs().mean(1, keepdim=True)
        change = F.avg_pool2d(apart, max(min(height, width) // CELLS, 1)).amax((1, 2, 3))
        classes = torch.where(change < self.config.augment.visible, UNCLEAR, BROKEN)
        both = variation.jitter(both, self.config.augment.jitter).clamp_(-1, 1)
        return both, torch.cat([torch.full_like(classes, WHOLE), classes])

    def scores(self, pictures: Tensor) -> Tensor:
        """Probabilities (B,) that pictures (B, 3, H, W) in [-1, 1], of any size, are undistorted."""
        return self.net_ema.classifier(self.embed(pictures)).float().softmax(1)[:, WHOLE]

    def embed(self, pictures: Tensor) -> Tensor:
        """The input (B, F) of the last layer for pictures (B, 3, H, W) in [-1, 1]."""
        pictures = resize(pictures, (self.config.data.height, self.config.data.width))
        features: Tensor = self.net_ema.convnext(pictures)
        return features

    def measure(self, batch: base.Batch, distance: base.Distance) -> dict[str, float]:
        """Error rate on `frozen_set` of the pictures, and the miss rate of each kind of distortion. With `--of`, also
        the error rate on generated pictures, and as the first score the mean of both."""
        pictures, kinds = frozen_set(batch.real)
        wrong = (torch.cat([self.scores(part) for part in pictures.split(64)]) >= 0.5) == (kinds >= 0)
        found = {"error": wrong.float().mean()}
        found |= {f"missed/{name}": wrong[kinds == kind].float().mean() for kind, name in enumerate(DISTORTIONS)}
        if self.config.generator.checkpoints:
            found |= {"error/distorted": found["error"], "error/generated": self._generated_error(batch.real)}
            found["error"] = (found["error/distorted"] + found["error/generated"]) / 2
        return {name: float(share) for name, share in found.items()}

    def _generated_error(self, like: Tensor) -> Tensor:
        """Error rate on fixed whole and broken pictures of the generators."""
        with fixed_seed(0, like.device):
            drawn = [self.generated_pairs(8, like[:1]) for _ in range(MEASURED // 16)]
        pictures, classes = (torch.cat(part) for part in zip(*drawn, strict=True))
        wrong = (self.scores(pictures) < 0.5) != (classes == BROKEN)
        return wrong[classes != UNCLEAR].float().mean()

    def preview(self, batch: base.Batch) -> Tensor | None:
        """The same pictures with each kind of distortion, one kind per row; with `--of`, then pictures of the
        generators, whole in one row and broken in the next."""
        count = max(len(batch.real) // len(DISTORTIONS), 1)
        generator = torch.Generator().manual_seed(0)
        kinds = (torch.full((count,), kind) for kind in range(len(DISTORTIONS)))
        rows = [apply(batch.real[:count], kind, generator) for kind in kinds]
        if self.config.generator.checkpoints:
            with fixed_seed(1, batch.real.device):
                rows += [self.generated_pairs(count, batch.real)[0] for _ in range(2)]
        return torch.cat(rows)
