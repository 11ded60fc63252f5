"""The space in which latents are sought.

The styles of a StyleGAN2 fill a strange region: the last leaky ReLU of the mapping network folds it. With that undone
they are near to a Gaussian (Zhu et al. 2020, "Improved StyleGAN embedding", section 3.2: P, and whitened PN). Here a
latent is `u`, (layers, w_dim): in standard deviations along the principal axes of that Gaussian. So one learning rate
suits all its numbers, and its length says how unusual a face is.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.models.base import StyledGenerator, latents
from kyara.training.runtime import has_bfloat16

SLOPE = 0.2
"""Of the leaky ReLU that ends a mapping network."""
SAMPLES = 2048
"""Seeds from which a space is measured and an encoder is fitted."""
SMALLEST = 1e-2
"""Axes whose spread is less than so much of the largest are taken to have that."""
THUMBNAIL = 16
"""Side of the picture that the encoder looks at."""
RIDGE = 10.0
"""Weight of the encoder's coefficients against its errors."""


class Latents:
    """The styles of one generator, whitened; and a first guess at the latent of any picture.

    The guess is a linear encoder: a ridge regression from thumbnails of the generator's own samples to their latents,
    solved in a second. It needs no training, and what it finds lies among what the generator knows.
    """

    def __init__(self, generator: StyledGenerator, samples: int = SAMPLES) -> None:
        self.generator = generator
        seeds = range(samples)
        device = next(generator.parameters()).device
        with torch.inference_mode(False), torch.no_grad():
            labels = {name: drawn.to(device) for name, drawn in generator.draw(seeds).items()}
            ws = generator.styles(latents(seeds, generator.z_dim).to(device), labels)  # (N, layers, w_dim)
            flat = _unfold(ws[:, -1].double())  # of the finest layer, which labels reach in any case
            self.mean = flat.mean(0)
            values, axes = torch.linalg.eigh((flat - self.mean).T.cov())
            spread = values.clamp_min(values[-1] * SMALLEST**2).sqrt()
            self.root, self.inverse = (axes * spread).T, axes / spread  # both (w_dim, w_dim)
            self.shape = ws.shape[1:]
            self._fit(ws)

    def styles(self, u: Tensor) -> Tensor:
        """ws (B, layers, w_dim) of latents u of the same shape."""
        return F.leaky_relu(u @ self.root.to(u.dtype) + self.mean.to(u.dtype), SLOPE)

    def whiten(self, ws: Tensor) -> Tensor:
        """The inverse of `styles`."""
        return ((_unfold(ws.double()) - self.mean) @ self.inverse).float()

    def guess(self, pictures: Tensor) -> Tensor:
        """Latents (B, layers, w_dim) that the encoder takes pictures (B, 3, H, W) in [-1, 1] to have."""
        seen = _thumbnails(pictures) - self._seen
        return (seen @ self._weights + self._known).float().view(-1, *self.shape)

    def _fit(self, ws: Tensor) -> None:
        """Ridge regression of the latents of the samples on what they look like, in float64."""
        pictures = torch.cat([_thumbnails(_drawn(self.generator, part)) for part in ws.split(64)])
        known = self.whiten(ws).flatten(1).double()
        self._seen, self._known = pictures.mean(0), known.mean(0)
        centred = pictures - self._seen
        ridge = RIDGE * torch.eye(centred.shape[1], dtype=centred.dtype, device=centred.device)
        self._weights = torch.linalg.solve(centred.T @ centred + ridge, centred.T @ (known - self._known))


def _drawn(generator: StyledGenerator, ws: Tensor) -> Tensor:
    with torch.autocast(ws.device.type, torch.bfloat16, enabled=has_bfloat16(ws.device)):
        return generator.synthesise(ws)


def _thumbnails(pictures: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(pictures.float(), THUMBNAIL).flatten(1).double()


def _unfold(w: Tensor) -> Tensor:
    """Undoes the leaky ReLU."""
    return torch.where(w < 0, w / SLOPE, w)
