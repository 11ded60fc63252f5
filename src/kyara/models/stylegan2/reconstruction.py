"""What StyleGAN2's generator and its encoder learn from reconstructions of real pictures.

The distance of a reconstruction is that of the discriminator's feature maps (VAE/GAN, Larsen et al. 2016, section 3),
and of colours and brightness, to which these maps are less sensitive. The mapping network is fitted to the encoder's
distribution of w given the labels by a proper score, so that random latents give pictures like the reconstructions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.models.stylegan2.config import LossConfig
from kyara.models.stylegan2.discriminator import Discriminator
from kyara.models.stylegan2.encoder import Encoder
from kyara.models.stylegan2.generator import GeneratorNet, MappingNet
from kyara.nn import conditioning
from kyara.nn.constants import constant
from kyara.nn.losses import weighted

SAMPLES = 8  # random latents for each encoded picture in the energy score
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue (BT.601)
CB, CR = 1.772, 1.402  # ranges of blue - luma and red - luma, relative to that of the picture (BT.601)
POOLED = 4  # pixels whose mean brightness is compared


@dataclass(frozen=True)
class Step:
    """What the losses are computed from, in a phase that trains the generator."""

    g: GeneratorNet
    d: Discriminator
    encoder: Encoder  # that of g
    real: Tensor  # the encoded pictures (n, 3, H, W)
    labels: Tensor  # their labels (n, A)
    fake: Tensor  # (B, 3, H, W): their reconstructions, and then B - n pictures of random latents
    ws: Tensor  # the styles of `fake` (B, layers, w_dim)

    @property
    def made(self) -> Tensor:
        """The reconstructions (n, 3, H, W)."""
        return self.fake[: len(self.real)]

    @property
    def encoded(self) -> Tensor:
        """w (n, w_dim) of the encoded pictures, without gradient."""
        return self.ws[: len(self.real), 0].detach()


def losses(step: Step, weights: LossConfig) -> dict[str, Tensor]:
    """The losses that have a weight, by name, scalars. Without pictures of random latents there is no `inverse`."""
    step.encoder.track(step.encoded - step.g.mapping.w_average)
    named = {"matching": matching, "colour": colour, "brightness": brightness, "prior": prior}
    if len(step.fake) > len(step.real):
        named["inverse"] = inverse
    return weighted(named, step, weights)


def matching(step: Step) -> Tensor:
    """Distance of the discriminator's feature maps of reconstructions and of real pictures."""
    with torch.no_grad():
        real = step.d.feature_maps(step.real)
    return relative_distance(step.d.feature_maps(step.made), real)


def relative_distance(made: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """L1 between maps (n, C, H, W), divided by the mean absolute value of the real ones; the mean over the maps."""
    pairs = [(a.float(), b.float()) for a, b in zip(made, real, strict=True)]
    return torch.stack([(a - b).abs().mean() / b.abs().mean().clamp_min(1e-8) for a, b in pairs]).mean()


def colour(step: Step) -> Tensor:
    """L1 of both chroma channels, in [-1, 1], of every pixel."""
    difference = step.made - step.real
    red, _, blue = difference.unbind(1)
    grey = luma(difference)
    return (((blue - grey) / CB).abs().mean() + ((red - grey) / CR).abs().mean()) / 2


def brightness(step: Step) -> Tensor:
    """L1 of luma, in [-1, 1], averaged over squares of POOLED pixels: lines are left to the feature maps."""
    pooled = F.avg_pool2d(luma(step.made - step.real)[:, None], POOLED, ceil_mode=True)
    return pooled.abs().mean()


def luma(pictures: Tensor) -> Tensor:
    """Luma (B, H, W) of pictures (B, 3, H, W), or of differences between pictures."""
    return (pictures * constant(LUMA, pictures)[:, None, None]).sum(1)


def inverse(step: Step) -> Tensor:
    """Squared error of the encoder on pictures of random latents, relative to the variance of w. After style mixing,
    w is the mean over the layers. Trains the encoder only."""
    count = len(step.real)
    w = step.ws[count:].mean(1).detach()
    found = step.g.mapping.w_average + step.encoder(step.fake[count:].detach())
    return ((found - w) / step.encoder.deviation).square().mean()


def prior(step: Step) -> Tensor:
    """Energy score of random w given the labels of each encoded picture, against its w; both relative to the deviation
    of w. If the first layers are not conditioned, also that of random w without labels. Trains the mapping network
    only."""
    scale, w = step.encoder.deviation, step.encoded
    conditions = [step.labels]
    if step.labels.shape[1] and not step.g.all_conditioned:
        conditions = [torch.full_like(step.labels, conditioning.UNKNOWN), step.labels]
    samples = [random_w(step.g.mapping, labels) for labels in conditions]
    step.g.mapping.track(samples[-1].flatten(0, 1))
    return torch.stack([energy_score(some / scale, w / scale) for some in samples]).mean()


def random_w(mapping: MappingNet, labels: Tensor) -> Tensor:
    """w (n, SAMPLES, w_dim) of random latents given labels (n, A)."""
    each = labels[:, None].expand(-1, SAMPLES, -1).flatten(0, 1)  # (n * SAMPLES, A)
    z = torch.randn(len(each), mapping.z_dim, device=labels.device)
    with torch.autocast(z.device.type, enabled=False):
        return mapping(z, each).unflatten(0, (-1, SAMPLES))


def energy_score(samples: Tensor, truth: Tensor) -> Tensor:
    """Energy score of n distributions, K samples of each (n, K, D), at their true values (n, D), averaged over n:
    E|X - x| - E|X - X'| / 2 (Gneiting and Raftery 2007, eq. 21 with beta = 1, negated), unbiased for any K above 1.
    Lower is better. It is a proper score: its expectation is lowest for the distribution of the true values."""
    count = samples.shape[1]
    error = torch.linalg.vector_norm(samples - truth[:, None], dim=2).mean()
    apart = torch.linalg.vector_norm(samples[:, :, None] - samples[:, None], dim=3)  # (n, K, K), 0 on the diagonal
    return error - apart.mean() * (count / (count - 1) / 2)
