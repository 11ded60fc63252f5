"""A drawing that holds its head as the photo does.

Parent and child share their latents, and with them roughly the pose; what is lost on the way is found again by moving
the coarse styles until the drawing's points (`builtin:landmarks`) lie as the photo's do. A drawn face has other
proportions, so both are compared in standard deviations of what their generators make.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kyara.inversion.latents import Latents
from kyara.models.base import StyledGenerator, latents
from kyara.perception import landmarks, portrait
from kyara.perception.landmarks import NAMES

NOSE, MOUTH, CHIN = NAMES.index("nose"), slice(NAMES.index("mouth, left"), NAMES.index("chin")), NAMES.index("chin")
SAMPLES = 256
"""Seeds from which it is measured how heads are held."""
UNUSUAL = 2.0
"""Standard deviations beyond which a pose is not followed: what few drawings show comes out badly."""
STEPS, RATE = 40, 0.05
"""Of Adam, and how far a step goes, in standard deviations of latents."""
STAY = 0.1
"""Weight of the squared way that latents go against the squared deviation of the pose."""


def pose(points: Tensor) -> Tensor:
    """How heads are held, (B, 4), of their points (B, K, 2): nose and mouth to the side, eyes tilted, and the way to
    the chin, in distances between the eyes."""
    eyes, apart = portrait.centres(points)
    middle = eyes.mean(1)
    nose, mouth, chin = points[:, NOSE], points[:, MOUTH].mean(1), points[:, CHIN]
    across = torch.stack([(nose - middle)[:, 0], (mouth - middle)[:, 0]], 1)
    down = torch.stack([(eyes[:, 1] - eyes[:, 0])[:, 1], (chin - middle)[:, 1]], 1)
    return torch.cat([across, down], 1) / apart[:, None]


class Poses:
    """How the heads are held that two generators make, and how to get from one to the other."""

    def __init__(self, parent: StyledGenerator, child: StyledGenerator) -> None:
        self.space = Latents(child)
        self.photo, self.drawn = (_spread(generator) for generator in (parent, child))

    def wanted(self, photos: Tensor) -> Tensor:
        """The pose (B, 4) of drawings of photos (B, 3, H, W) in [-1, 1]."""
        mean, deviation = self.photo
        unusual = (pose(landmarks.find(photos)) - mean) / deviation
        return self.drawn[0] + self.drawn[1] * unusual.clamp(-UNUSUAL, UNUSUAL)

    @torch.inference_mode(False)
    def follow(self, artist: StyledGenerator, ws: Tensor, position: int, *, wanted: Tensor) -> Tensor:
        """The styles (B, layers, w_dim) with those before layer `position` moved so that `artist` draws the pose that
        is `wanted` (B, 4)."""
        start = self.space.whiten(ws.clone())
        way = torch.zeros_like(start[:, :1]).requires_grad_()  # the same in all layers: so it stays a face
        coarse = (torch.arange(start.shape[1], device=ws.device) < position)[:, None]
        optimizer = torch.optim.Adam([way], RATE, betas=(0.9, 0.99))
        wanted, deviation = wanted.clone(), self.drawn[1].clone()
        for _ in range(STEPS):
            made = artist.synthesise(self.space.styles(start + way * coarse))
            off = (pose(landmarks.find(made)) - wanted) / deviation
            loss = off.square().sum() + STAY * way.square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return self.space.styles(start + way.detach() * coarse)


@torch.no_grad()
def _spread(generator: StyledGenerator) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (4,) of the poses of samples."""
    device = next(generator.parameters()).device
    seeds = range(SAMPLES)
    drawn = {name: labels.to(device) for name, labels in generator.draw(seeds).items()}
    ws = generator.styles(latents(seeds, generator.z_dim).to(device), drawn)
    found = torch.cat([pose(landmarks.find(generator.synthesise(part))) for part in ws.split(32)])
    return found.mean(0), found.std(0)
