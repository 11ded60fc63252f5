"""Copy descriptor (SSCD, Pizzi et al. 2022, "A self-supervised descriptor for image copy detection"): a small ResNet
whose descriptors of a picture and of an altered copy of it are close, and those of other pictures far apart.

Colours belong to a character: the same drawing with another hair colour is another picture. Hence the colours of copies
change only a little in training, and drawings of which one colour has changed much are negatives."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kyara.data import alterations
from kyara.data.alterations import some
from kyara.models import base
from kyara.nn import configs
from kyara.nn.configs import DataConfig
from kyara.nn.filters import resize
from kyara.nn.seeding import fixed_seed

SHOWN = 8  # pictures of the preview
FALSE_ALARMS = 0.01  # share of other pictures that `measure` allows to be taken for copies
ANOTHER = 0.08  # share of a picture of which the colour changes, from which it is another picture


@dataclass(frozen=True)
class NetworkConfig(configs.NetworkConfig):
    patch_size: int = 6  # stride of the stem, in pixels; its patches are two pixels larger
    widths: tuple[int, ...] = (32, 64, 128, 256)  # channels of each stage, which is one residual block
    power: float = 3.0  # exponent of the generalised mean (GeM) over the positions
    descriptor: int = 256  # dimension of the descriptor


@dataclass(frozen=True)
class LossConfig(configs.LossConfig):
    temperature: float = 0.05  # temperature of InfoNCE
    entropy: float = 10.0  # weight of the differential entropy, which spreads the descriptors evenly


@dataclass(frozen=True)
class AugmentConfig:
    """Alterations of the copies in training, each with the probability that it is applied."""

    smallest: float = 0.5  # smallest crop, as a share of the area
    degrees: float = 8.0  # maximum rotation
    turn: float = 0.02  # probability of a turn by 90, 180 or 270 degrees
    colour: float = 0.7  # probability of other colours
    strength: float = 0.35  # maximum change of brightness, contrast and saturation
    hue: float = 0.03  # maximum change of the hue, in turns
    grey: float = 0.05  # probability of grey
    blur: float = 0.3  # probability of blur
    sigma: float = 0.02  # maximum standard deviation of the blur, as a share of the width
    jpeg: float = 0.3  # probability of JPEG
    quality: float = 10.0  # lowest quality of JPEG
    cover: float = 0.3  # probability of text or a sticker, at most two
    mixed: float = 0.1  # share of the copies that are mixed with another picture (mixup or cutmix)
    negatives: float = 0.2  # share of the pictures that are also shown with one colour changed, as another picture


ADAMW = configs.AdamWConfig(batch=64, lr=2e-3, betas=(0.9, 0.99), ema_kimg=5.0, warmup=0.05, weight_decay=0.02)


@dataclass(frozen=True)
class Config(configs.Config):
    data: DataConfig = DataConfig(96, 96)
    network: NetworkConfig = NetworkConfig()
    losses: LossConfig = LossConfig()
    optimizer: configs.AdamWConfig = ADAMW
    augment: AugmentConfig = AugmentConfig()


PRESETS = {
    "two-core": Config(),
    "large": Config(
        DataConfig(160, 160),
        NetworkConfig(widths=(64, 128, 256, 512), descriptor=512),
        optimizer=replace(ADAMW, batch=512),
    ),
    "tiny": Config(
        DataConfig(32, 32),
        NetworkConfig(patch_size=2, widths=(8, 16, 32), descriptor=32),
        optimizer=replace(ADAMW, batch=8),
    ),
}


class Block(nn.Module):
    """Residual block (He et al. 2016): two 3 x 3 convolutions with batch normalisation, (B, C, H, W) -> (B, D, H, W) or
    half the size. Starts as the shortcut alone."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        nn.init.zeros_(self.second_norm.weight)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(y)) + self.shortcut(x))


class Network(nn.Module):
    """ResNet, generalised mean (Radenović et al. 2018) and one linear layer: descriptors of unit length (B, F) of
    pictures (B, 3, H, W) in [-1, 1]."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.power, widths = config.power, config.widths
        self.stem = nn.Conv2d(3, widths[0], config.patch_size + 2, config.patch_size, 1)
        pairs = zip((widths[0], *widths), widths, strict=False)
        self.stages = nn.Sequential(*(Block(a, b, 2 if i else 1) for i, (a, b) in enumerate(pairs)))
        self.linear = nn.Linear(widths[-1], config.descriptor)

    def forward(self, pictures: Tensor) -> Tensor:
        maps = self.stages(self.stem(pictures.contiguous(memory_format=torch.channels_last))).float()
        pooled = maps.clamp_min(1e-3).pow(self.power).mean((2, 3)).pow(1 / self.power)
        return F.normalize(self.linear(pooled).float())


def copied(pictures: Tensor, config: AugmentConfig) -> Tensor:
    """Altered copies of pictures (B, 3, H, W) in [-1, 1]."""
    cropped = functools.partial(alterations.crop, smallest=config.smallest, degrees=config.degrees)
    recoloured = functools.partial(alterations.recolour, strength=config.strength, hue=config.hue)
    blurred = functools.partial(alterations.blur, most=max(config.sigma * pictures.shape[3], 0.3))
    compressed = functools.partial(alterations.jpeg, worst=config.quality)
    made = some(cropped(pictures), config.turn, alterations.turn)
    made = some(some(made, config.colour, recoloured), config.grey, alterations.decolour)
    made = some(some(made, config.cover, alterations.cover), config.cover / 4, alterations.cover)
    return some(some(made, config.blur, blurred), config.jpeg, compressed)


def mix(pictures: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Mixes the first `share` of the pictures (B, 3, H, W) with the following ones: half by mixup, half by cutmix, the
    weights from Beta(2, 2). Returns the pictures and which of them each shows, (B, B) bool."""
    shows = torch.eye(len(pictures), dtype=torch.bool, device=pictures.device)
    count = int(len(pictures) * share)
    if not count:
        return pictures, shows
    others = pictures.roll(-1, 0)[:count]
    weight = torch.rand(count, 3, device=pictures.device).median(1).values[:, None, None, None]  # which is Beta(2, 2)
    height, width = pictures.shape[2:]
    y = torch.linspace(-1, 1, height, device=pictures.device)[:, None]
    x = torch.linspace(-1, 1, width, device=pictures.device)
    centre = torch.rand(count, 2, 1, 1, 1, device=pictures.device) * 2 - 1
    side = (1 - weight).sqrt()
    inside = ((y - centre[:, 0]).abs() < side) & ((x - centre[:, 1]).abs() < side)  # (count, 1, H, W)
    cut = torch.arange(count, device=pictures.device)[:, None, None, None] % 2 > 0
    mask = torch.where(cut, (~inside).float(), weight)
    mixed = torch.cat([mask * pictures[:count] + (1 - mask) * others, pictures[count:]])
    return mixed, shows | (shows.roll(1, 1) & (torch.arange(len(shows), device=shows.device) < count)[:, None])


def contrast(descriptors: Tensor, shows: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """InfoNCE and differential entropy of descriptors (V, F) of views, `shows` (V, P) bool the pictures in each.

    Views that share a picture are positives. Each is compared with the negatives only, not with other positives. The
    entropy is minus the mean logarithm of the distance to the nearest negative (Pizzi et al. 2022, eq. 3-5)."""
    with torch.autocast(descriptors.device.type, enabled=False):
        similarity = descriptors.float() @ descriptors.float().T
    shared = (shows.float() @ shows.float().T) > 0
    positive = shared & ~torch.eye(len(shows), dtype=torch.bool, device=shows.device)
    logits = similarity / temperature
    against = logits.masked_fill(shared, -torch.inf).logsumexp(1, keepdim=True)
    loss = F.softplus(against - logits).masked_fill(~positive, 0.0).sum() / positive.sum()
    nearest = similarity.masked_fill(shared, -1.0).amax(1)
    return loss, -(2 - 2 * nearest).clamp_min(1e-4).log().mean() / 2


class Model(base.Descriptor):
    """A ResNet that is trained by contrast of altered copies (Pizzi et al. 2022)."""

    presets = PRESETS
    phases = ("train",)
    augments = False
    averages: ClassVar[Mapping[str, str]] = {"net": "net_ema"}
    data_spec = base.DataSpec(holdout=0.03)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config = config
        self.descriptor_dim = config.network.descriptor
        self.net = Network(config.network)
        self.net_ema = self.average(self.net)

    def losses(self, phase: str, batch: base.Batch) -> dict[str, Tensor]:
        """Of each picture, a copy of it, and copies of some with another colour. Negatives are those of the
        micro-batch."""
        with torch.autocast(batch.real.device.type, enabled=False):  # the alterations are of pictures, in float32
            views, shows = self._views(batch.real)
        descriptors, weights = self.net(views), self.config.losses
        info, entropy = contrast(descriptors, shows, weights.temperature)
        count = len(batch.real)
        batch.log["similarity"] = (descriptors[:count] * descriptors[count : 2 * count]).detach().sum(1).mean()
        return {"contrast": info, "entropy": weights.entropy * entropy}

    @torch.no_grad()
    def _views(self, real: Tensor) -> tuple[Tensor, Tensor]:
        """The pictures, a copy of each and one of some with another colour (V, 3, H, W), and which pictures each shows
        (V, P). An index has the pictures as they are."""
        config, count = self.config.augment, len(real)
        one = torch.eye(count, dtype=torch.bool, device=real.device)
        copies, mixed = mix(copied(real, config), config.mixed)
        views, shows = torch.cat([real, copies]), torch.cat([one, mixed])
        if not (few := int(count * config.negatives)):
            return views, shows
        changed, share = alterations.recolour_part(real[-few:])
        another = (share > ANOTHER)[:, None]
        shows = torch.cat([shows, one[-few:] & ~another])
        own = torch.cat([shows.new_zeros(2 * count, few), one[:few, :few] & another])
        return torch.cat([views, copied(changed, config)]), torch.cat([shows, own], 1)

    def embed(self, pictures: Tensor) -> Tensor:
        """Resizes pictures to the training size."""
        found: Tensor = self.net_ema(resize(pictures, (self.config.data.height, self.config.data.width)))
        return found

    def measure(self, batch: base.Batch, distance: base.Distance) -> dict[str, float]:
        """The share of altered copies of the first half of the pictures that are not recognised, at a threshold that
        one in a hundred pictures of the second half exceeds."""
        known, fresh = batch.real.chunk(2)
        with fixed_seed(0, known.device):
            altered = torch.cat([copied(part, self.config.augment) for part in known.split(64)])
        rows, others, copies = (torch.cat([self.embed(p) for p in x.split(64)]) for x in (known, fresh, altered))
        threshold = (others @ rows.T).amax(1).quantile(1 - FALSE_ALARMS)
        return {"missed": float(((copies * rows).sum(1) <= threshold).float().mean())}

    def preview(self, batch: base.Batch) -> Tensor | None:
        """Pictures, two rows of altered copies, and copies with another colour, which are other pictures."""
        real = batch.real[:SHOWN]
        other, _ = alterations.recolour_part(real)
        return torch.cat([real, *(copied(x, self.config.augment) for x in (real, real, other))])
