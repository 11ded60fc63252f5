"""Configuration and presets of StyleGAN2."""

from __future__ import annotations

import itertools
import math
import operator
from dataclasses import dataclass, replace

from kyara.nn import configs
from kyara.nn.configs import DataConfig

MOST_PARTS, SMALLEST_PART = 16, 8  # number of parts; pixels of their sides
SHARES = (  # must be from 0 to 1
    "network.w_avg_beta",
    "losses.path_decay",
    "losses.style_mixing_prob",
    "losses.label_mixing_prob",
    "losses.label_drop_prob",
)


@dataclass(frozen=True)
class NetworkConfig(configs.NetworkConfig):
    z_dim: int = 512  # size of a latent
    w_dim: int = 512  # size of a style
    mapping_layers: int = 8  # number of layers of the mapping network
    mapping_lr_multiplier: float = 0.01  # learning rate of the mapping network, relative to the rest
    channel_base: int = 16384  # a level at resolution r has channel_base / r channels ...
    channel_max: int = 512  # ... but at most channel_max
    mbstd_group_size: int = 4  # group size of the minibatch standard deviation
    w_avg_beta: float = 0.995  # decay of the moving average of w, which is used for truncation
    wavelets: int = 0
    """Levels of the Haar wavelet transform of pictures (SWAGAN). At 1, generator and discriminator work at half the
    resolution on 4 bands of each colour; at 2, at a quarter on 16. Their cost is that of the lower resolution."""
    parts: tuple[float, ...] = ()
    """Boxes of parts of the picture, such as the mouth, each with a discriminator of its own, whose loss is added:
    left, top, right and bottom of each, as fractions of the sides. For data in which they keep their place."""
    labels_from: int = 0
    """First style layer that is conditioned on the labels; a resolution has two. At 4, colour attributes keep
    the pose and the shape of a face. Shape attributes need 0."""
    encoder: int = 0
    """At 1, an encoder of pictures to w is trained with the generator, which learns from reconstructions too. The
    mapping network learns the encoder's distribution of w given the labels."""


@dataclass(frozen=True)
class LossConfig(configs.LossConfig):
    r1_gamma: float = 1.0  # weight of the R1 penalty on real pictures
    r1_interval: int = 16  # interval of the R1 penalty, in steps
    path_weight: float = 2.0  # weight of the path length penalty; 0 disables it
    path_interval: int = 4  # interval of the path length penalty, in steps
    path_decay: float = 0.01  # rate of the moving average of path lengths
    style_mixing_prob: float = 0.9  # probability of style mixing with a second latent
    label_weight: float = 0.1
    """Weight of the auxiliary classification loss of the attributes, in addition to the projection: for the
    discriminator on real pictures, and for the generator. At 0 it is disabled, and conditioning is learned more
    slowly; at 1, a generator trained from scratch collapses to one face per value."""
    label_mixing_prob: float = 0.0  # probability that the labels of a fake are sampled independently
    label_drop_prob: float = 0.0
    """Share of pictures, real and fake, that hide a random number of their labels from the networks, so that a
    generator can be conditioned on some of its attributes only, even if every picture of the data has them all."""
    adversarial: float = 1.0
    """Weight of the generator's adversarial loss. At 0, which needs an encoder, the discriminator is not trained: its
    feature maps are a fixed distance between pictures, so it must be a trained one, from --init. There is no label loss
    then."""
    encoded: float = 0.5
    """With an encoder, share of the fakes of a batch that are reconstructions of real pictures; at least one is."""
    matching: float = 10.0
    """With an encoder, weight of the distance between the discriminator's feature maps of a picture and of its
    reconstruction: L1 relative to the mean absolute value, averaged over the maps of all sizes."""
    colour: float = 80.0  # with an encoder, weight of the L1 distance of chroma (BT.601) of every pixel
    brightness: float = 15.0  # with an encoder, weight of the L1 distance of luma, averaged over 4 x 4 pixels
    inverse: float = 0.1
    """With an encoder, weight of its squared error on pictures of random latents, relative to the variance of w."""
    prior: float = 1.0
    """With an encoder, weight of the energy score of the mapping network: how well 8 random w given the labels of a
    picture predict the w that the encoder finds."""


ADAM = configs.OptimizerConfig(lr=2.5e-3)


@dataclass(frozen=True)
class Config(configs.Config):
    network: NetworkConfig = NetworkConfig()
    losses: LossConfig = LossConfig()
    optimizer: configs.OptimizerConfig = ADAM

    def __post_init__(self) -> None:
        network = self.network
        if not network.mapping_layers and network.z_dim != network.w_dim:
            raise ValueError("network.mapping_layers=0: without layers, network.z_dim must be network.w_dim")
        if self.data.attributes and network.labels_from >= self.layers:
            raise ValueError(
                f"network.labels_from={network.labels_from}: must be below {self.layers}, the number of style layers"
            )
        for name in SHARES:
            if not 0 <= (share := operator.attrgetter(name)(self)) <= 1:
                raise ValueError(f"{name}={share}: must be from 0 to 1")
        if network.mbstd_group_size < 1:
            raise ValueError(f"network.mbstd_group_size={network.mbstd_group_size}: must be 1 or more")
        if network.parts:
            _ = self.boxes  # raises if they are none
        self._check_encoder()

    def _check_encoder(self) -> None:
        encoder, losses = self.network.encoder, self.losses
        if encoder not in (0, 1):
            raise ValueError(f"network.encoder={encoder}: must be 0 or 1")
        for name in ("adversarial", "matching", "colour", "brightness", "inverse", "prior"):
            if not 0 <= (weight := getattr(losses, name)) < math.inf:
                raise ValueError(f"losses.{name}={weight}: must be 0 or more")
        if not encoder and not losses.adversarial:
            raise ValueError("losses.adversarial=0: needs network.encoder=1, as the generator learns from nothing else")
        if encoder and not 0 < losses.encoded <= 1:
            raise ValueError(f"losses.encoded={losses.encoded}: must be above 0, and at most 1, with network.encoder=1")
        if encoder and not (losses.matching or losses.colour or losses.brightness):
            raise ValueError(
                "losses.matching, losses.colour, losses.brightness: with network.encoder=1, one must be above 0"
            )

    @property
    def layers(self) -> int:
        """Number of style layers."""
        return 2 * self.levels + 2

    @property
    def levels(self) -> int:
        """Number of upsampling levels, from a shorter side of 4 to 7 pixels to that of the wavelet bands."""
        shorter = min(self.data.width, self.data.height) >> self.network.wavelets
        return max(int(math.log2(shorter / 4)), 0) if shorter else 0

    @property
    def bands(self) -> int:
        """Channels of a picture's wavelet bands."""
        return 3 * 4**self.network.wavelets

    @property
    def boxes(self) -> list[tuple[int, int, int, int]]:
        """The parts in pixels: left, top, right, bottom. ValueError if they are not boxes in the picture."""
        parts, sides = self.network.parts, (self.data.width, self.data.height) * 2
        numbers = isinstance(parts, tuple | list) and all(isinstance(x, int | float) and 0 <= x <= 1 for x in parts)
        if not numbers or len(parts) % 4 or len(parts) > 4 * MOST_PARTS:
            raise ValueError(
                f"network.parts: must be four fractions of the sides for each of at most {MOST_PARTS} parts"
            )
        pixels = [round(x * side) for x, side in zip(parts, itertools.cycle(sides), strict=False)]
        found = list(zip(pixels[::4], pixels[1::4], pixels[2::4], pixels[3::4], strict=True))
        if any(right - left < SMALLEST_PART or bottom - top < SMALLEST_PART for left, top, right, bottom in found):
            raise ValueError(
                f"network.parts: a part of less than {SMALLEST_PART} pixels; the order is left/top/right/bottom"
            )
        return found

    def channels(self, level: int) -> int:
        return min(self.network.channel_base // (4 << level), self.network.channel_max)


LARGE = replace(ADAM, batch=64, ema_kimg=20)
PRESETS = {
    "two-core": Config(
        DataConfig(64, 64),
        NetworkConfig(z_dim=128, w_dim=128, mapping_layers=4, channel_base=2048, channel_max=64),
        LossConfig(r1_gamma=0.3, path_weight=0.0, style_mixing_prob=0.5),
    ),
    "small": Config(
        DataConfig(64, 64),
        NetworkConfig(z_dim=256, w_dim=256, mapping_layers=4, channel_base=4096, channel_max=256),
        LossConfig(r1_gamma=0.3, path_weight=0.0),
    ),
    "gpu-96": Config(
        DataConfig(96, 96),
        NetworkConfig(mapping_layers=4, channel_base=8192, channel_max=256),
        LossConfig(r1_gamma=0.5),
        LARGE,
    ),
    "paper256": Config(DataConfig(256, 256), NetworkConfig(mbstd_group_size=8), LossConfig(), LARGE),
    "paper1024": Config(
        DataConfig(1024, 1024), NetworkConfig(channel_base=32768), LossConfig(r1_gamma=2.0), replace(ADAM, lr=2e-3)
    ),
    "tiny": Config(
        DataConfig(32, 32),
        NetworkConfig(z_dim=16, w_dim=16, mapping_layers=2, channel_base=256, channel_max=16),
        LossConfig(r1_interval=4, path_interval=2),
        replace(ADAM, batch=8),
    ),
}
