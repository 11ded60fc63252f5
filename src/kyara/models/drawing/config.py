"""Config and presets of `drawing`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kyara.nn import configs
from kyara.nn.configs import DataConfig


@dataclass(frozen=True)
class NetworkConfig(configs.NetworkConfig):
    channels: int = 32  # channels of both networks at 1/2 resolution; twice as many at 1/4, three times as many at 1/8
    points_size: int = 112  # side of the square in which contours are found, in pixels
    regions_size: int = 96  # side of the square in which regions are found
    face_zoom: float = 0.8  # size of the square of the contours, relative to FFHQ's frame
    portrait_zoom: float = 1.1  # size of the square of the regions


@dataclass(frozen=True)
class LossConfig(configs.LossConfig):
    points: float = 10.0  # L1 of the contours, in sides of the square
    heatmap: float = 0.1  # cross entropy of the heatmaps
    sigma: float = 0.02  # standard deviation of the target heatmaps, as a fraction of the side
    regions: float = 1.0  # cross entropy of the regions


@dataclass(frozen=True)
class AugmentConfig:
    """Random augmentation in training."""

    translate: float = 0.1  # maximum translation, as a fraction of the side
    scale: float = 0.25  # maximum absolute logarithm of the scale
    degrees: float = 20.0  # maximum rotation
    colour: float = 0.3  # maximum change of brightness and contrast per channel; a third are converted to grey


@dataclass(frozen=True)
class StyleConfig:
    """How pictures are drawn. Lengths are in pixels of FFHQ's frame of 256 pixels around the face."""

    line_width: float = 1.3  # width of a normal line
    lines: float = 1.0  # strength of the lines within hair and clothes, 0 to 1
    eye_size: float = 1.3  # height of the eyes relative to the photo
    brow_width: float = 0.9  # width of the brows relative to the photo
    smooth: float = 5.0  # standard deviation of the blur that smooths the borders of shades
    shade: float = 0.76  # skin darker than this share of its base tone is shaded
    quiet: float = 0.5  # how far the background is reduced to its mean colour, 0 to 1


ADAM = configs.CosineConfig(batch=32, lr=1e-3, betas=(0.9, 0.999), ema_kimg=5.0)


@dataclass(frozen=True)
class Config(configs.Config):
    data: DataConfig = DataConfig(512, 256)
    network: NetworkConfig = NetworkConfig()
    losses: LossConfig = LossConfig()
    optimizer: configs.CosineConfig = ADAM
    augment: AugmentConfig = AugmentConfig()
    style: StyleConfig = StyleConfig()


PRESETS = {
    "two-core": Config(),
    "tiny": Config(
        DataConfig(64, 32), NetworkConfig(channels=8, points_size=32, regions_size=32), optimizer=replace(ADAM, batch=8)
    ),
}
