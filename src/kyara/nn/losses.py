"""Losses and distances that several architectures share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.nn.precision import full_precision


def weighted(losses: Mapping[str, Callable[[Any], Tensor]], step: Any, weights: object) -> dict[str, Tensor]:
    """The losses of a step that have a weight, an attribute of `weights` of the same name, times their weights."""
    return {name: loss(step) * getattr(weights, name) for name, loss in losses.items() if getattr(weights, name)}


def nonsaturating_d(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss on logits (B, ...): -log sigmoid(real) - log(1 - sigmoid(fake)), averaged."""
    return F.softplus(-real.float()).mean() + F.softplus(fake.float()).mean()


def nonsaturating_g(fake: Tensor) -> Tensor:
    """The generator's loss on logits (B, ...): -log sigmoid(fake), averaged (Goodfellow et al. 2014)."""
    return F.softplus(-fake.float()).mean()


def least_squares(logits: Tensor, target: float) -> Tensor:
    """Least squares GAN loss: mean squared error of logits (B, ...) to 1 for real, 0 for fake (Mao et al. 2017)."""
    return (logits.float() - target).square().mean()


def r1_penalty(logits: Tensor, pictures: Tensor) -> Tensor:
    """Mean squared gradient norm of logits by pictures (B, C, H, W) (Mescheder et al. 2018, eq. 9 times 2 / gamma)."""
    (gradient,) = torch.autograd.grad(logits.sum(), pictures, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


def counted_once(logits: Tensor) -> Tensor:
    """Logits (B, ...) of patches for `r1_penalty`, (N,): those of a picture overlap little, and divided by the root of
    their number, they count as one. The penalty of their mean would nearly vanish."""
    return logits.flatten() * (len(logits) / logits.numel()) ** 0.5


def path_lengths(pictures: Tensor, w: Tensor) -> Tensor:
    """Norm (B,) of J^T y, y noise, of pictures (B, C, H, W) by styles (B, L, D) (Karras et al. 2020, section 3.2)."""
    noise = torch.randn_like(pictures) / (pictures.shape[2] * pictures.shape[3]) ** 0.5
    (gradient,) = torch.autograd.grad((pictures * noise).sum(), w, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt()


def frechet(a: Tensor, b: Tensor) -> float:
    """Fréchet distance between features (N, F) and (M, F) of some hundred pictures: the singular values are those of an
    (N, M) matrix. `evaluation.metrics.frechet` takes any number. Lower is better; infinite if a feature is."""
    if not (a.isfinite().all() and b.isfinite().all()):
        return float("inf")
    moments = ((x.mean(0), (x - x.mean(0)) / max(len(x) - 1, 1) ** 0.5) for x in (a.double(), b.double()))
    (mean_a, root_a), (mean_b, root_b) = moments
    return gaussian_frechet(mean_a, root_a, mean_b, root_b)


def gaussian_frechet(mean_a: Tensor, root_a: Tensor, mean_b: Tensor, root_b: Tensor) -> float:
    """|m_a - m_b|^2 + tr(A + B - 2 (A B)^(1/2)) (Dowson and Landau 1982; Heusel et al. 2017) of two normal
    distributions, given by their means (F,) and roots (N, F) of the covariances root^T root. tr (A B)^(1/2) is the sum
    of the singular values of root_a root_b^T: no matrix square root and no imaginary parts."""
    overlap = torch.linalg.svdvals(root_a @ root_b.T).sum()
    return float((mean_a - mean_b).square().sum() + (root_a.square().sum() + root_b.square().sum()) - 2 * overlap)


def masked_l1(made: Tensor, real: Tensor, where: Tensor) -> Tensor:
    """L1 of pictures (B, 3, H, W) under a mask (B, 1, H, W), divided by all pixels (Li et al. 2020, section 3.4)."""
    return ((made - real).abs() * where).mean()


def roughness(pictures: Tensor, where: Tensor) -> Tensor:
    """Total variation of pictures (B, 3, H, W) where a mask (B, 1, H, W) is true for one or both neighbours."""
    across = (pictures.diff(dim=3).abs() * (where[..., 1:] | where[..., :-1])).mean()
    return across + (pictures.diff(dim=2).abs() * (where[:, :, 1:] | where[:, :, :-1])).mean()


def fidelity(filled: Tensor, real: Tensor, holes: Tensor) -> tuple[Tensor, Tensor]:
    """Of pictures (B, 3, H, W) in [-1, 1] whose holes (B, 1, H, W) were filled: mean absolute difference in the hole,
    and peak signal-to-noise ratio of the whole picture in dB, (B,) each."""
    error = (filled - real).abs().mean(1, keepdim=True) * holes
    squares = (filled - real).square().mean((1, 2, 3))
    return error.sum((1, 2, 3)) / holes.sum((1, 2, 3)).clamp_min(1), 10 * torch.log10(4 / squares.clamp_min(1e-10))


@full_precision
def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity of pictures (B, 3, H, W) in [-1, 1], (B,): a window of 11 pixels, Gaussian, deviation 1.5
    (Wang et al. 2004, equation 13), where it fits; smaller pictures have a smaller window."""
    side = min(11, *a.shape[2:])
    x = torch.arange(side, device=a.device, dtype=torch.float32) - (side - 1) / 2
    row = torch.softmax(-x.square() / (2 * 1.5**2), 0)
    channels = a.shape[1]

    def mean(maps: Tensor) -> Tensor:
        down = row.view(1, 1, -1, 1).expand(channels, -1, -1, -1)
        return F.conv2d(F.conv2d(maps, down, groups=channels), down.mT, groups=channels)

    a, b = (a.float() + 1) / 2, (b.float() + 1) / 2
    mean_a, mean_b = mean(a), mean(b)
    variance_a, variance_b = mean(a * a) - mean_a.square(), mean(b * b) - mean_b.square()
    together = mean(a * b) - mean_a * mean_b
    light = (2 * mean_a * mean_b + 0.01**2) / (mean_a.square() + mean_b.square() + 0.01**2)
    shape = (2 * together + 0.03**2) / (variance_a + variance_b + 0.03**2)
    return (light * shape).mean((1, 2, 3))


def sliced_wasserstein(a: Tensor, b: Tensor, directions: Tensor) -> Tensor:
    """Sliced 1-Wasserstein distance between features (N, F): the mean over directions (D, F) (Rabin et al. 2011). Not
    differentiable."""
    unit = F.normalize(directions, dim=1)
    one, other = (_sorted(unit @ x.float().T) for x in (a, b))
    return (one - other).abs().mean()


def _sorted(rows: Tensor) -> Tensor:
    """Each row (D, N) sorted. On the CPU by NumPy, ten times as fast as PyTorch, which finds the order too."""
    return torch.from_numpy(np.sort(rows.numpy())) if rows.device.type == "cpu" else rows.sort().values
