"""StyleGAN2 (Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN"), from the paper.

Differences from the paper: the constant has the aspect ratio of the pictures, for any width and height; the
discriminator's levels are numbered from coarse to fine, like the generator's, so that --init can add levels. As in the
paper, the learning rate and the decay rates of Adam are those of k / (k + 1) steps where every k-th regularises.

With attributes, the mapping network adds a learned row for each label to its first layer, as a layer on labels that are
concatenated to the normalised z would, but without the layer's gain and its smaller learning rate: rows learn faster
than layers. The discriminator is conditioned by projection. Both are initialised with zeros, so that adding attributes
with --init does not change the initial output.

With `network.encoder`, an encoder of pictures to w is trained with the generator (see `reconstruction`), as in VAE/GAN
(Larsen et al. 2016) and in the space of w as in ALAE (Pidhorskyi et al. 2020)."""

from kyara.models.stylegan2.config import PRESETS, Config
from kyara.models.stylegan2.discriminator import Discriminator
from kyara.models.stylegan2.encoder import Encoder
from kyara.models.stylegan2.generator import MEAN_SAMPLES, GeneratorNet, MappingNet, StyledConv, Synthesis, ToRGB
from kyara.models.stylegan2.model import Model

__all__ = [
    "MEAN_SAMPLES",
    "PRESETS",
    "Config",
    "Discriminator",
    "Encoder",
    "GeneratorNet",
    "MappingNet",
    "Model",
    "StyledConv",
    "Synthesis",
    "ToRGB",
]
