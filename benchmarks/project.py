"""StyleGAN2's projector with its authors' settings, to compare `kyara invert` with.

Karras et al. 2020, appendix D: one w for all layers, initialised with the mean; noise maps are optimised, too; 1,000
steps of Adam with a learning rate of 0.1, warm-up over the first 5% and decay over the last 25%; noise on w over the
first 75%; LPIPS with VGG16; a penalty on the autocorrelation of noise maps.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.models.base import StyledGenerator, latents
from kyara.perception.vgg16 import VGG16
from kyara.training.runtime import has_bfloat16

STEPS, SAMPLES = 1000, 10_000


def project(
    generator: StyledGenerator, targets: Tensor, network: VGG16, steps: int = STEPS
) -> tuple[Tensor, list[Tensor]]:
    """ws (B, layers, w_dim) and noise maps for pictures (B, 3, H, W) in [-1, 1]."""
    with torch.no_grad():
        seeds = range(SAMPLES)
        known = generator.styles(latents(seeds, generator.z_dim), generator.draw(seeds))[:, -1]
        mean, spread = known.mean(0), (known - known.mean(0)).square().sum(1).mean().sqrt()
        seen = [_unit(maps) for maps in network(_small(targets))]
    layers = generator.mean_w(1).shape[1]
    w = mean.repeat(len(targets), 1, 1).clone().requires_grad_(True)
    noise = [m.detach().repeat(len(targets), 1, 1, 1).requires_grad_(True) for m in generator.noise_maps()]
    adam = torch.optim.Adam([w, *noise], lr=0.1, betas=(0.9, 0.999))
    draws = torch.Generator().manual_seed(0)
    for step in range(steps):
        t = step / steps
        adam.param_groups[0]["lr"] = 0.1 * min(1, t / 0.05) * (0.5 - 0.5 * math.cos(math.pi * min(1, (1 - t) / 0.25)))
        jitter = torch.randn(w.shape, generator=draws) * spread * 0.05 * max(0, 1 - t / 0.75) ** 2
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16(w.device)):  # as in `kyara invert`
            made = generator.synthesise((w + jitter).expand(-1, layers, -1), noise).float()
            maps = network(_small(made))
        pairs = zip(network.heads, (m.float() for m in maps), seen, strict=True)
        far = torch.stack([head((_unit(a) - b).square()).mean((1, 2, 3)) for head, a, b in pairs]).sum(0)
        loss = far + 1e5 * torch.stack([_correlation(m) for m in noise]).sum(0)
        adam.zero_grad()
        loss.sum().backward()
        adam.step()
        with torch.no_grad():
            for m in noise:
                m.sub_(m.mean((1, 2, 3), keepdim=True)).div_(m.square().mean((1, 2, 3), keepdim=True).sqrt())
    return w.detach().expand(-1, layers, -1), [m.detach() for m in noise]


def _small(pictures: Tensor) -> Tensor:
    return F.interpolate(pictures, (256, 256), mode="area") if pictures.shape[2] > 256 else pictures


def _unit(maps: Tensor) -> Tensor:
    return maps / (maps.square().sum(1, keepdim=True).sqrt() + 1e-10)


def _correlation(noise: Tensor) -> Tensor:
    """Autocorrelation of maps (B, 1, H, W) at a shift of one pixel, at all sizes down to 8: (B,)."""
    total = torch.zeros(len(noise))
    while True:
        total = total + sum((noise * noise.roll(1, axis)).mean((1, 2, 3)).square() for axis in (2, 3))
        if noise.shape[2] <= 8:
            return total
        noise = F.avg_pool2d(noise, 2)
