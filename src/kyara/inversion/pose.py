"""Matching the head pose of a drawing to that of a photo.

Parent and child share their latents, and with them roughly the pose. The rest is corrected by optimising the coarse
styles until the landmarks of the drawing (`builtin:landmarks`) agree with those of the photo. Drawn faces have other
proportions, so poses are compared in standard deviations over the samples of each generator."""

from __future__ import annotations

import torch
from torch import Tensor

from kyara.inversion.latents import LatentSpace, styles_of_seeds
from kyara.models.base import StyledGenerator
from kyara.perception import landmarks, portrait
from kyara.perception.landmarks import NAMES

NOSE, MOUTH, CHIN = NAMES.index("nose"), slice(NAMES.index("mouth, left"), NAMES.index("chin")), NAMES.index("chin")
SAMPLES = 256  # seeds from which mean and standard deviation of poses are estimated
MAX_DEVIATION = 2.0  # standard deviations to which a pose is clamped: rarer poses are drawn badly
STEPS, LR = 40, 0.05  # of Adam; the learning rate is in standard deviations of latents
LATENT_WEIGHT = 0.1  # of the squared shift of latents against the squared error of the pose


def pose(points: Tensor) -> Tensor:
    """Poses (B, 4) of landmarks (B, K, 2): x of nose and mouth, tilt of the eyes, y of the chin, in eye distances."""
    eyes, apart = portrait.centres(points)
    middle = eyes.mean(1)
    nose, mouth, chin = points[:, NOSE], points[:, MOUTH].mean(1), points[:, CHIN]
    across = torch.stack([(nose - middle)[:, 0], (mouth - middle)[:, 0]], 1)
    down = torch.stack([(eyes[:, 1] - eyes[:, 0])[:, 1], (chin - middle)[:, 1]], 1)
    return torch.cat([across, down], 1) / apart[:, None]


class PoseMatcher:
    """Pose statistics of two generators, used to match the pose of a drawing by the second to that of a photo."""

    def __init__(self, parent: StyledGenerator, child: StyledGenerator) -> None:
        self.space = LatentSpace(child)
        self.photos, self.drawings = (_statistics(generator) for generator in (parent, child))

    def target(self, photos: Tensor) -> Tensor:
        """The pose (B, 4) that drawings of photos (B, 3, H, W) in [-1, 1] should have."""
        mean, std = self.photos
        deviation = (pose(landmarks.find(photos)) - mean) / std
        return self.drawings[0] + self.drawings[1] * deviation.clamp(-MAX_DEVIATION, MAX_DEVIATION)

    @torch.inference_mode(False)
    def match(self, generator: StyledGenerator, ws: Tensor, layer: int, *, target: Tensor) -> Tensor:
        """The styles (B, layers, w_dim), with those before `layer` shifted so that `generator` draws the pose `target`
        (B, 4). The shift is the same in all of these layers, so that the face stays one."""
        start = self.space.whiten(ws.clone())
        shift = torch.zeros_like(start[:, :1]).requires_grad_()
        coarse = (torch.arange(start.shape[1], device=ws.device) < layer)[:, None]
        optimizer = torch.optim.Adam([shift], LR, betas=(0.9, 0.99))
        target, std = target.clone(), self.drawings[1].clone()
        for _ in range(STEPS):
            pictures = generator.synthesise(self.space.styles(start + shift * coarse))
            error = (pose(landmarks.find(pictures)) - target) / std
            loss = error.square().sum() + LATENT_WEIGHT * shift.square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return self.space.styles(start + shift.detach() * coarse)


@torch.no_grad()
def _statistics(generator: StyledGenerator) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (4,) of the poses of samples."""
    ws = styles_of_seeds(generator, range(SAMPLES))
    poses = torch.cat([pose(landmarks.find(generator.synthesise(part))) for part in ws.split(32)])
    return poses.mean(0), poses.std(0)
