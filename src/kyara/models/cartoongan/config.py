"""Configs and presets of CartoonGAN."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kyara.nn import configs
from kyara.nn.configs import DataConfig


@dataclass(frozen=True)
class NetworkConfig(configs.NetworkConfig):
    pixel_unshuffle: int = 2  # factor of pixel unshuffle at the input; 2 is faster than 1
    channels: int = 32  # channels at full resolution; doubled at each downsampling
    downsamplings: int = 2  # number of downsampling layers
    blocks: int = 4  # residual blocks at the lowest resolution
    skips: int = 2  # number of skip connections, from the second lowest resolution on
    filtered: bool = False  # the filtered photo (painting.cel) is an additional input, and the output a residual to it
    ink: float = 0.0  # strength of darkening the lines of the output, 0 to 1
    enlarge_eyes: float = 0.0  # strength of enlarging eyes by a warping network; 1: to the size in drawings
    freeze_batch_norm: bool = False
    """Batch normalisation uses the running statistics of the initial checkpoint (--init). With the statistics of small
    batches, the tones of a picture depend on the rest of the batch."""
    d_channels: int = 32  # channels of the discriminators at 1/2 resolution; doubled twice
    d_relief: bool = False  # remove low frequencies from discriminator inputs, so that faces do not become pale
    d_colours: bool = True  # discriminator inputs have colours; otherwise the mean of the channels


@dataclass(frozen=True)
class LossConfig(configs.LossConfig):
    """Weights; 0 disables a loss."""

    least_squares: bool = True  # adversarial loss: least squares (Mao et al. 2017), otherwise logistic
    content_kimg: float = 8.0  # length of the initial phase with content losses only, in thousands of pictures
    adversarial: float = 1.0  # GAN loss of the generator
    d_real: float = 1.0  # discriminator loss of drawings, as real
    d_fake: float = 1.0  # ... of generated pictures, as fake
    d_grey: float = 0.0  # ... of grey drawings, as fake, so that results are coloured
    d_smooth: float = 1.0  # ... of drawings with blurred edges, as fake
    content: float = 10.0  # L1 of the features of the photo and the output
    grayscale: float = 0.0  # L1 of the Gram matrices of grey drawings and outputs
    colour: float = 0.0  # L1 of luminance and Huber loss of chrominance, to the photo
    landmark: float = 0.0  # distance of the landmarks of the output and of the photo with enlarged eyes
    chrominance: float = 0.0  # L1 of chrominance to the photo, without luminance
    cel: float = 0.0  # L1 to the filtered photo (painting.cel)
    tv: float = 0.0  # total variation: mean squared difference of neighbouring pixels
    warp: float = 1.0  # L1 loss of the warping network, in per cent of the picture size
    gaze: float = 0.0
    """Loss of the gaze network, which predicts position, opening and colour of the eyes to draw them over the output
    (eyes.py). 0 disables the network; then the generator draws the eyes."""
    features: str = "builtin"  # frozen network of the content and grayscale losses: builtin, or vgg16:PATH
    features_size: int = 128  # maximum shorter side of the input of that network, in pixels


ADAM = configs.OptimizerConfig(batch=8, betas=(0.5, 0.999), ema_kimg=2.0)


@dataclass(frozen=True)
class Config(configs.Config):
    data: DataConfig = DataConfig(256, 256)
    network: NetworkConfig = NetworkConfig()
    losses: LossConfig = LossConfig()
    optimizer: configs.OptimizerConfig = ADAM


PRESETS = {
    "portrait": Config(
        network=NetworkConfig(filtered=True, d_relief=True, d_colours=False, enlarge_eyes=0.7, ink=0.6),
        losses=LossConfig(
            content_kimg=2.0, adversarial=2.5, content=0.5, chrominance=5.0, cel=2.0, landmark=0.3, gaze=1.0
        ),
        optimizer=replace(ADAM, batch=4, lr=1e-3),
    ),
    "cartoongan": Config(
        network=NetworkConfig(pixel_unshuffle=1, channels=64, blocks=8, skips=0),
        losses=LossConfig(least_squares=False, content_kimg=60.0, features_size=256),
    ),
    "animegan": Config(
        network=NetworkConfig(pixel_unshuffle=1, blocks=8, skips=0, d_channels=64),
        losses=LossConfig(  # AnimeGANv2's, except for adversarial, 300 there: content features have unit length here
            content_kimg=60.0, adversarial=1.0, content=1.5, grayscale=2.5, colour=15.0, tv=1.0, d_real=1.2, d_fake=1.2,
            d_grey=1.2, d_smooth=0.8, features_size=256,
        ),
        optimizer=replace(ADAM, batch=12),
    ),
    "tiny": Config(
        DataConfig(32, 32),
        NetworkConfig(channels=4, blocks=1, d_channels=8, enlarge_eyes=0.5, ink=0.5, d_relief=True),
        LossConfig(
            content_kimg=0.0, content=1.0, grayscale=1.0, colour=1.0, landmark=1.0, tv=1.0, gaze=1.0, d_grey=0.5,
            features_size=32,
        ),
        replace(ADAM, batch=8),
    ),
}  # fmt: skip
