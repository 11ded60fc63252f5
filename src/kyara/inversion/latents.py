"""The latent space of inversion.

The last leaky ReLU of the mapping network folds the space of StyleGAN2's styles. With it inverted, styles are close to
a Gaussian (Zhu et al. 2020, "Improved StyleGAN embedding", section 3.2: P, and whitened PN). A latent here is `u`,
(layers, w_dim), in standard deviations along the principal axes of that Gaussian: one learning rate suits all
coordinates, and the length of u says how unusual a face is."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.models.base import StyledGenerator, latents
from kyara.training.runtime import has_bfloat16

SLOPE = 0.2  # negative slope of the leaky ReLU at the end of the mapping network
SAMPLES = 2048  # seeds from which the Gaussian is estimated and the encoder is fitted
MIN_STD = 1e-2  # standard deviations are clamped to this share of the largest
THUMBNAIL = 16  # side of the encoder's input in pixels
RIDGE = 10.0  # regularisation of the encoder


class LatentSpace:
    """The whitened styles of one generator, and, for generators that were trained without an encoder, a linear one: a
    ridge regression from thumbnails of the generator's own samples to their latents, so that its predictions stay
    within what the generator knows."""

    def __init__(self, generator: StyledGenerator) -> None:
        """Freezes the generator."""
        self.generator = generator.requires_grad_(False)
        with torch.inference_mode(False), torch.no_grad():
            ws = styles_of_seeds(generator, range(SAMPLES))  # (N, layers, w_dim)
            flat = _inverse_leaky_relu(ws[:, -1].double())  # of the finest layer, which labels always reach
            self.mean = flat.mean(0)
            values, axes = torch.linalg.eigh((flat - self.mean).T.cov())
            std = values.clamp_min(values[-1] * MIN_STD**2).sqrt()
            self.root, self.inverse = (axes * std).T, axes / std  # both (w_dim, w_dim)
            self.shape = ws.shape[1:]

    def styles(self, u: Tensor) -> Tensor:
        """ws (B, layers, w_dim) of latents u of the same shape."""
        return F.leaky_relu(u @ self.root.to(u.dtype) + self.mean.to(u.dtype), SLOPE)

    def whiten(self, ws: Tensor) -> Tensor:
        """The inverse of `styles`."""
        return ((_inverse_leaky_relu(ws.double()) - self.mean) @ self.inverse).float()

    def encode(self, pictures: Tensor) -> Tensor:
        """The encoder's latents (B, layers, w_dim) of pictures (B, 3, H, W) in [-1, 1]: by that which the generator was
        trained with, if there is one."""
        if (ws := self.generator.encode(pictures)) is not None:
            return self.whiten(ws)
        weights, thumbnail_mean, latent_mean = self._encoder
        return ((_thumbnails(pictures) - thumbnail_mean) @ weights + latent_mean).float().view(-1, *self.shape)

    @cached_property
    def _encoder(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weights, and the means of thumbnails and latents; fitted at first use, which takes thousands of pictures."""
        with torch.inference_mode(False), torch.no_grad():
            ws = styles_of_seeds(self.generator, range(SAMPLES))
            with autocast(ws):
                thumbnails = torch.cat([_thumbnails(self.generator.synthesise(part)) for part in ws.split(64)])
            target = self.whiten(ws).flatten(1).double()
            thumbnail_mean, latent_mean = thumbnails.mean(0), target.mean(0)
            x = thumbnails - thumbnail_mean
            ridge = RIDGE * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
            weights = torch.linalg.solve(x.T @ x + ridge, x.T @ (target - latent_mean))
        return weights, thumbnail_mean, latent_mean


def styles_of_seeds(generator: StyledGenerator, seeds: Sequence[int]) -> Tensor:
    """The styles (N, layers, w_dim) of seeds, with labels drawn as `kyara generate` does."""
    device = next(generator.parameters()).device
    labels = {name: label.to(device) for name, label in generator.draw(seeds).items()}
    return generator.styles(latents(seeds, generator.z_dim).to(device), labels)


def autocast(like: Tensor) -> torch.autocast:
    """bfloat16 where the device of a tensor computes in it."""
    return torch.autocast(like.device.type, torch.bfloat16, enabled=has_bfloat16(like.device))


def _thumbnails(pictures: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(pictures.float(), THUMBNAIL).flatten(1).double()


def _inverse_leaky_relu(w: Tensor) -> Tensor:
    return torch.where(w < 0, w / SLOPE, w)
