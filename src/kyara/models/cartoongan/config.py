"""The numbers of CartoonGAN."""

from __future__ import annotations

import dataclasses

from kyara.models import base


@dataclasses.dataclass(frozen=True)
class Config(base.Config):
    width: int = 256
    """Width of the pictures in pixels."""
    height: int = 256
    """Height of the pictures in pixels."""
    batch: int = 8
    """Photos, and drawings, in one step."""
    lr: float = 2e-4
    """Learning rate of Adam."""
    betas: tuple[float, float] = (0.5, 0.999)
    """Adam's decay rates of the first and second moment."""
    ema_kimg: float = 2.0
    """Half-life of the moving average of the weights, in thousands of pictures."""
    fold: int = 2
    """Pixels on a side of what the network sees as one place: 2 is a good deal faster than 1."""
    channels: int = 32
    """Channels at first; they double at each halving."""
    halvings: int = 2
    """How often the picture is halved on the way in."""
    filtered: bool = False
    """Whether the network sees, beside the photo, what filters make of it (painting.cel), and says what to change
    there: it begins where they end. Else it draws afresh."""
    gamma: float = 1.0
    """The power that a photo's light is raised to before it is drawn: drawings are lighter."""
    saturation: float = 1.0
    """How colourful it then is, as a share: drawn skin is paler."""
    ink: float = 0.0
    """How dark the lines of what was drawn become, 0 as they are to 1."""
    blocks: int = 4
    """Residual blocks at the smallest size."""
    skips: int = 2
    """At how many sizes, from the smallest but one on, what was seen on the way in is added on the way out."""
    d_channels: int = 32
    """Channels of the discriminator at half the size; they double twice."""
    settled: bool = False
    """Whether batch normalisation keeps to the statistics of the checkpoint that training starts from. Those of a few
    pictures change the tones of each with the others', and tones are what is learned here."""
    least_squares: bool = True
    """Least squares (Mao et al. 2017) as adversarial loss; else the logarithms of Goodfellow et al. 2014."""
    content_kimg: float = 8.0
    """Thousands of pictures at the beginning in which the generator learns to keep the content, and nothing else."""
    adversarial: float = 1.0
    """Weight of the discriminator's opinion of the results."""
    relief: bool = False
    """Whether discriminators see pictures without their tone, less what they are like when blurred: lines and surfaces
    shall be as drawn, and nobody becomes pale because drawings are."""
    colours: bool = True
    """Whether discriminators see colours; else the mean of the channels. Of luminance more than half is green, and so
    were the lines that pleased them."""
    d_real: float = 1.0
    """Weight, in the discriminator's loss, of drawings."""
    d_fake: float = 1.0
    """... of results."""
    d_grey: float = 0.0
    """... of drawings without colours, as fakes: results shall have some."""
    d_smooth: float = 1.0
    """... of drawings whose lines are blurred, as fakes."""
    content: float = 10.0
    """Weight of the difference between what the frozen network sees in the photo and in the result."""
    style: float = 0.0
    """Weight of the difference between the Gram matrices of drawings and of results."""
    grayscale: float = 0.0
    """The same of both without their colours."""
    colour: float = 0.0
    """Weight of the difference between the photo's luminance (L1) and chrominance (Huber) and the result's."""
    landmark: float = 0.0
    """Weight of the distance between the points of the result's face and where they belong: where the photo's are, the
    eyes as much larger as drawn ones are."""
    eyes: float = 0.0
    """Weight of the opinion of another discriminator, which sees the eyes alone. They cover a tenth of a face, so a
    tenth of `adversarial` pulls at their pixels as hard as that does."""
    chrominance: float = 0.0
    """Weight of the L1 distance between the photo's chrominance and the result's: no colour comes from nowhere, while
    tones are free to become lines."""
    flat: float = 0.0
    """Weight of the L1 distance to the photo with its surfaces made even."""
    cel: float = 0.0
    """Weight of the L1 distance to the photo as filters would draw it: even surfaces, few tones, dark lines."""
    tv: float = 0.0
    """Weight of the mean squared difference of neighbouring pixels."""
    enlarge: float = 0.0
    """How far the photo's eyes are enlarged before they are drawn: 0 not at all, 1 to what the drawings' are. A second
    small network learns where from."""
    warp: float = 1.0
    """Weight of its error, in hundredths of the side."""
    gaze: float = 0.0
    """Weight of the error of a third one, which says where eyes are, how open and in which colour: then they are drawn
    over the result, with lids, an iris and a light in it (eyes.py). 0 leaves eyes to the network that draws."""
    features: str = "builtin"
    """The frozen network of content and style: builtin, or vgg16:PATH."""
    seen: int = 128
    """Pixels of the shorter side of what it is shown, at most."""


PRESETS = {
    "portrait": Config(
        batch=4, filtered=True, relief=True, colours=False, content_kimg=2.0, adversarial=2.5, content=0.5,
        chrominance=5.0, cel=2.0, landmark=0.3, enlarge=0.7, gaze=1.0, ink=0.6, lr=1e-3,
    ),
    "cartoongan": Config(
        fold=1, channels=64, blocks=8, skips=0, least_squares=False, content_kimg=60.0, seen=256,
    ),
    "animegan": Config(
        fold=1, blocks=8, skips=0, d_channels=64, batch=12, content_kimg=60.0, seen=256,
        adversarial=1.0, content=1.5, grayscale=2.5, colour=15.0, tv=1.0, d_real=1.2, d_fake=1.2, d_grey=1.2,
        d_smooth=0.8,
    ),
    "tiny": Config(
        32, 32, 8, channels=4, blocks=1, d_channels=8, content_kimg=0.0, content=1.0, style=1.0,
        grayscale=1.0, colour=1.0, landmark=1.0, eyes=1.0, flat=1.0, tv=1.0, enlarge=0.5, gaze=1.0, ink=0.5,
        relief=True, d_grey=0.5, seen=32,
    ),
}  # fmt: skip
