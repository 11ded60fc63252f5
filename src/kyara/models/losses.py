"""Losses and distances that several architectures share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def nonsaturating_d(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss on its logits (B, ...): -log sigmoid(real) - log(1 - sigmoid(fake)), averaged
    (Goodfellow et al. 2014)."""
    return F.softplus(-real.float()).mean() + F.softplus(fake.float()).mean()


def nonsaturating_g(fake: Tensor) -> Tensor:
    """The generator's non-saturating loss on logits (B, ...): -log sigmoid(fake), averaged."""
    return F.softplus(-fake.float()).mean()


def r1_penalty(logits: Tensor, pictures: Tensor) -> Tensor:
    """Mean squared gradient norm of the logits by the real pictures (B, C, H, W) they came from (Mescheder et al.
    2018, equation 9, without gamma / 2)."""
    (gradient,) = torch.autograd.grad(logits.sum(), pictures, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


def path_lengths(pictures: Tensor, w: Tensor) -> Tensor:
    """Norm of J^T y of the pictures (B, C, H, W) by their styles w (B, L, D), y being noise: (B,) (Karras et al.
    2020, section 3.2)."""
    noise = torch.randn_like(pictures) / (pictures.shape[2] * pictures.shape[3]) ** 0.5
    (gradient,) = torch.autograd.grad((pictures * noise).sum(), w, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt()


def sliced_wasserstein(real: Tensor, fake: Tensor, *, patches: int = 64, projections: int = 256) -> float:
    """Distance between the patches of two sets of pictures (N, 3, H, W) in [-1, 1], averaged over the levels of a
    Laplacian pyramid, times 1000 (Karras et al. 2018, section 5). Needs no network; the patches and projections
    are the same at every call, so that numbers of one run compare. Lower is better."""
    generator = torch.Generator().manual_seed(0)
    distances = []
    while True:
        *_, height, width = real.shape
        last = min(height, width) < 32
        distances.append(_patch_distance(_band(real, last), _band(fake, last), patches, projections, generator))
        if last:
            return 1000 * sum(distances) / len(distances)
        real, fake = F.avg_pool2d(real, 2), F.avg_pool2d(fake, 2)


def _band(pictures: Tensor, last: bool) -> Tensor:
    """One level of the pyramid: what is lost by halving the size; the last level keeps everything."""
    if last:
        return pictures
    coarse = F.interpolate(F.avg_pool2d(pictures, 2), size=pictures.shape[2:], mode="bilinear")
    return pictures - coarse


def _patch_distance(a: Tensor, b: Tensor, patches: int, projections: int, generator: torch.Generator) -> float:
    size = 7
    ys = torch.randint(a.shape[2] - size + 1, (patches,), generator=generator).tolist()
    xs = torch.randint(a.shape[3] - size + 1, (patches,), generator=generator).tolist()
    directions = F.normalize(torch.randn(3 * size**2, projections, generator=generator), dim=0).to(a.device)

    def projected(x: Tensor) -> Tensor:
        cut = torch.stack([x[:, :, i : i + size, j : j + size] for i, j in zip(ys, xs, strict=True)], 1)
        flat = (cut - cut.mean((0, 1, 3, 4), keepdim=True)) / cut.std((0, 1, 3, 4), keepdim=True)
        return (flat.flatten(0, 1).flatten(1) @ directions).sort(0).values  # (N * patches, projections)

    return float((projected(a) - projected(b)).abs().mean())
