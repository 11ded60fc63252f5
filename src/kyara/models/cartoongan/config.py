"""The numbers of CartoonGAN."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kyara.nn import configs
from kyara.nn.configs import DataConfig


@dataclass(frozen=True)
class NetworkConfig(configs.NetworkConfig):
    pixel_unshuffle: int = 2  # side of the blocks of pixels that become channels first; 2 is faster than 1
    channels: int = 32  # channels at first; they double at each downsampling
    downsamplings: int = 2  # how often the picture is halved on the way in
    blocks: int = 4  # residual blocks at the smallest size
    skips: int = 2  # number of skip connections, from the smallest size but one on
    filtered: bool = False  # the network gets the photo's cel (painting.cel) too and predicts a residual to it
    ink: float = 0.0  # how much the lines of the result are darkened, from 0, as they are, to 1
    enlarge_eyes: float = 0.0  # enlargement of the photo's eyes by a second network; 1: to the size of drawn ones
    freeze_batch_norm: bool = False
    """Batch normalisation uses the statistics of the checkpoint that training starts from. Those of a small batch make
    the tones of a picture depend on the others."""
    d_channels: int = 32  # channels of the discriminators at half the size; they double twice
    d_relief: bool = False  # discriminators see pictures without their tone: faces do not become pale
    d_colours: bool = True  # discriminators see colours, not the mean of the channels


@dataclass(frozen=True)
class LossConfig(configs.LossConfig):
    """Weights; 0 turns a loss off."""

    least_squares: bool = True  # adversarial loss: least squares (Mao et al. 2017), otherwise logistic
    content_kimg: float = 8.0  # thousands of pictures at first that train the content losses alone
    adversarial: float = 1.0  # GAN loss of the results
    d_real: float = 1.0  # in the discriminator's loss, drawings
    d_fake: float = 1.0  # ... results
    d_grey: float = 0.0  # ... drawings without colours, as fakes: results should be coloured
    d_smooth: float = 1.0  # ... drawings whose lines are blurred, as fakes
    content: float = 10.0  # difference between the features of the photo and of the result in the frozen network
    grayscale: float = 0.0  # difference between the Gram matrices of drawings and of results, in grey
    colour: float = 0.0  # difference between the photo's luminance (L1) and chrominance (Huber) and the result's
    landmark: float = 0.0  # distance of the result's landmarks from the photo's, with eyes enlarged
    chrominance: float = 0.0  # L1 distance to the photo's chrominance; tones are free to become lines
    cel: float = 0.0  # L1 distance to the photo's cel by filters: even surfaces, few tones, dark lines
    tv: float = 0.0  # mean squared difference of neighbouring pixels
    warp: float = 1.0  # error of the network that enlarges eyes, in hundredths of the side
    gaze: float = 0.0
    """Error of a third network, which predicts the place, opening and colour of eyes, to draw them over the result
    (eyes.py). At 0 there is no such network, and the generator draws the eyes."""
    features: str = "builtin"  # the frozen network of content and style: builtin, or vgg16:PATH
    features_size: int = 128  # maximum shorter side of its input, in pixels


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
        losses=LossConfig(
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
