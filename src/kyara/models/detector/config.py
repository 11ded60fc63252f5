"""All numbers of the face detector."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kyara.nn import configs
from kyara.nn.configs import DataConfig


@dataclass(frozen=True)
class NetworkConfig(configs.NetworkConfig):
    widths: tuple[int, ...] = (32, 64, 128, 152)  # channels at strides 4, 8, 16 and 32
    depths: tuple[int, ...] = (1, 2, 4, 2)  # blocks at each of these strides
    neck: int = 64  # channels of the feature pyramid and of the head
    head: int = 1  # blocks of the head
    refiner: tuple[int, ...] = ()
    """Channels of the second stage at 1/2, 1/4 and so on of its crops of 64 px: 2 to 6 multiples of 8; () for none."""

    def __post_init__(self) -> None:
        if self.refiner and not (2 <= len(self.refiner) <= 6 and all(n > 0 and n % 8 == 0 for n in self.refiner)):
            raise ValueError(f"network.refiner: {self.refiner}; give 2 to 6 multiples of 8, or none")


@dataclass(frozen=True)
class LossConfig(configs.LossConfig):
    first: float = 1.0  # weight of all losses of the first stage; 0 trains only the second
    second: float = 1.0  # weight of all losses of the second stage
    box: float = 2.0  # weight of 1 - GIoU
    points: float = 1.0  # weight of the error of the points, relative to the size of the face ...
    points_scale: float = 10.0  # ... times this factor, which makes that error about as large as that of the boxes
    focus: float = 2.0  # exponent of the quality focal loss (Li et al. 2020)


@dataclass(frozen=True)
class AugmentConfig:
    """Random augmentation of the pictures in training."""

    crop: float = 0.6  # side of the crops that the network is trained on, relative to the pictures
    smallest: float = 0.45  # minimum scale of a crop
    largest: float = 1.6  # maximum scale
    degrees: float = 45.0  # maximum rotation of half of the crops; of the others a fifth of that
    upside: float = 0.04  # share of crops with any rotation
    mosaic: float = 0.2  # share of crops that are joined from four pictures
    restyle: float = 0.6  # share of crops in another style
    smallest_face: float = 9.0  # faces with a longer side of fewer pixels are ignored
    faintest: float = 0.1  # faces in which the luminance, in [-1, 1], deviates less are ignored: styles may hide them
    visible: float = 0.5  # faces of which a smaller share of the box is inside the crop are ignored


ADAMW = configs.AdamWConfig(batch=32, lr=2e-3, betas=(0.9, 0.99), ema_kimg=5.0, warmup=0.03)


@dataclass(frozen=True)
class Config(configs.Config):
    data: DataConfig = DataConfig(320, 320)
    network: NetworkConfig = NetworkConfig()
    losses: LossConfig = LossConfig()
    optimizer: configs.AdamWConfig = ADAMW
    augment: AugmentConfig = AugmentConfig()


PRESETS = {
    "two-core": Config(network=NetworkConfig(refiner=(32, 48, 96, 128))),
    "tiny": Config(
        DataConfig(64, 64),
        NetworkConfig(widths=(8, 8, 16, 16), depths=(1, 1, 1, 1), neck=8, refiner=(8, 8, 8, 16)),
        optimizer=replace(ADAMW, batch=8),
    ),
}
