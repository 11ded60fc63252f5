"""Inversion by optimisation: the latents of a batch of pictures, starting from an encoder's prediction.

After the projector of StyleGAN2 (Karras et al. 2020, appendix D), with later improvements: it optimises whitened
latents (see `latents`), starts from an encoder instead of the mean, uses one style per layer (W+, Abdal et al. 2019),
and stops early. Pivotal tuning (Roich et al. 2021) then fine-tunes the generator itself."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.inversion.latents import LatentSpace, autocast, styles_of_seeds
from kyara.models.base import StyledGenerator
from kyara.perception.lpips import PerceptualDistance


@dataclasses.dataclass(frozen=True)
class SearchSettings:
    """Settings of the optimisation. Weights are of means over a picture."""

    space: Literal["w+", "w"] = "w+"  # one style per layer, or one for all layers
    start: Literal["encoder", "mean", "random"] = "encoder"
    """Initial latents: the encoder's prediction, zero, or a random one of the generator, the same for all pictures."""
    steps: int = 200  # at most
    lr: float = 0.05  # learning rate of Adam, in standard deviations of latents
    warm_up: float = 0.05  # share of the steps in which the learning rate rises linearly from zero
    decay: float = 0.5  # share of the steps, at the end, in which it falls to zero along a cosine
    pixels: float = 10.0  # weight of the mean squared error of pixels in [-1, 1], beside the perceptual distance
    prior: float = 0.01  # weight of the squared length of latents
    noise: bool = False  # also optimises the noise maps: pictures come nearer, but the latents explain less of them
    noise_weight: float = 1e3  # of `noise_regularisation`
    patience: int = 40  # stops after so many steps that improve the distance by less than `min_gain`
    min_gain: float = 0.01  # as a share of the distance


@dataclasses.dataclass
class SearchResult:
    """Latents of a batch of pictures."""

    u: Tensor  # whitened latents, (B, layers, w_dim)
    ws: Tensor  # the styles, (B, layers, w_dim)
    noise: list[Tensor] | None  # optimised noise maps (B, 1, H, W), the coarsest first; None: the generator's own
    pictures: Tensor  # the generator's, (B, 3, H, W) in [-1, 1]
    distance: Tensor  # perceptual, of each to its target, (B,)
    steps: int
    seconds: float


RANDOM_SEED = 0  # of the random initial latent
CHECK_INTERVAL = 10  # steps between two readings of the distance: each waits for the device


class EarlyStopping:
    """Called with the distance at every check; returns whether to stop."""

    def __init__(self, patience: int, min_gain: float) -> None:
        self.patience, self.min_gain = patience, min_gain
        self.best, self.waited = math.inf, 0

    def __call__(self, distance: float) -> bool:
        if distance < self.best * (1 - self.min_gain):
            self.best, self.waited = distance, 0  # only here, so that small gains add up
        else:
            self.waited += CHECK_INTERVAL
        return self.waited >= self.patience


def search(
    pictures: Tensor, space: LatentSpace, perceptual: PerceptualDistance, settings: SearchSettings | None = None
) -> SearchResult:
    """The latents of pictures (B, 3, H, W) in [-1, 1], of the generator's size. Deterministic; pictures influence each
    other only through the number of steps."""
    settings = settings or SearchSettings()
    start, generator = time.perf_counter(), space.generator
    with torch.inference_mode(False):
        target = pictures.clone()
        with torch.no_grad(), autocast(target):
            features = perceptual.features(target)
        u = _start(settings.start, target, space)
        u = (u if settings.space == "w+" else u.mean(1, keepdim=True)).requires_grad_(True)
        maps = generator.noise_maps() if settings.noise else []
        noise = [m.detach().repeat(len(target), 1, 1, 1).requires_grad_(True) for m in maps]
        adam = torch.optim.Adam([u, *noise], lr=settings.lr, betas=(0.9, 0.99), fused=True)
        stop, step = EarlyStopping(settings.patience, settings.min_gain), 0
        for step in range(settings.steps):
            for group in adam.param_groups:
                group["lr"] = settings.lr * lr_multiplier(step / settings.steps, settings.warm_up, settings.decay)
            tried = u.expand(-1, space.shape[0], -1)
            with autocast(target):
                made = generator.synthesise(space.styles(tried), noise or None).float()
                distance = perceptual.distance(perceptual.features(made), features)
            distance = distance * perceptual.weight + settings.pixels * (made - target).square().mean((1, 2, 3))
            loss = distance + settings.prior * tried.square().mean((1, 2))
            if noise:
                loss = loss + settings.noise_weight * torch.stack([noise_regularisation(m) for m in noise]).sum(0)
            adam.zero_grad()
            loss.sum().backward()
            adam.step()
            _normalise(noise)
            if step % CHECK_INTERVAL == CHECK_INTERVAL - 1 and stop(float(distance.detach().mean())):
                break
        with torch.no_grad():
            u = u.detach().expand(-1, space.shape[0], -1).contiguous()
            ws, found = space.styles(u), [m.detach() for m in noise] or None
            made = generator.synthesise(ws, found).clamp(-1, 1)
            distance = perceptual.distance(perceptual.features(made), perceptual.features(target))
        return SearchResult(u, ws, found, made, distance, step + 1, time.perf_counter() - start)


def _start(kind: str, target: Tensor, space: LatentSpace) -> Tensor:
    """Initial latents (B, layers, w_dim)."""
    if kind == "encoder":
        return space.encode(target)
    if kind == "mean":
        return torch.zeros(len(target), *space.shape, device=target.device)
    with torch.no_grad():
        u = space.whiten(styles_of_seeds(space.generator, [RANDOM_SEED]))
    return u[:, -1:].repeat(len(target), space.shape[0], 1)


def lr_multiplier(progress: float, warm_up: float, decay: float) -> float:
    """Factor on the learning rate at `progress` in [0, 1): a linear warm-up, and a cosine decay at the end."""
    rise = min(1.0, (progress + 1e-3) / warm_up) if warm_up else 1.0
    left = min(1.0, (1 - progress) / decay) if decay else 1.0
    return rise * (0.5 - 0.5 * math.cos(math.pi * left))


def noise_regularisation(noise: Tensor) -> Tensor:
    """Squared autocorrelation of noise maps (B, 1, H, W) at a shift of one pixel each way, summed over resolutions down
    to 8 (Karras et al. 2020, appendix D); about zero for white noise. (B,) As in NVIDIA's code, and unlike the paper,
    averages of 2x2 pixels are not multiplied by 2, so that coarse resolutions count less."""
    total = noise.new_zeros(len(noise))
    while True:
        for axis in (2, 3):
            total = total + (noise * noise.roll(1, axis)).mean((1, 2, 3)).square()
        if min(noise.shape[2:]) <= 8:
            return total
        noise = F.avg_pool2d(noise, 2)


@torch.no_grad()
def _normalise(noise: list[Tensor]) -> None:
    for m in noise:
        m -= m.mean((1, 2, 3), keepdim=True)
        m /= m.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-8)


def tune(
    found: SearchResult, pictures: Tensor, space: LatentSpace, perceptual: PerceptualDistance, steps: int = 200
) -> StyledGenerator:
    """Pivotal tuning (Roich et al. 2021, section 3.2): a copy of the generator, fine-tuned to make the pictures
    (B, 3, H, W) from the latents found for them. Adam with a learning rate of 3e-4; stops early as the search does."""
    generator, defaults = copy.deepcopy(space.generator), SearchSettings()
    with torch.inference_mode(False):
        target, ws = pictures.clone(), found.ws.clone()
        parameters = [*generator.requires_grad_(True).parameters()]
        grads = torch.autograd.grad(generator.synthesise(ws[:1]).sum(), parameters, allow_unused=True)
        generator.requires_grad_(False)
        weights = [p.requires_grad_(True) for p, grad in zip(parameters, grads, strict=True) if grad is not None]
        adam = torch.optim.Adam(weights, lr=3e-4, betas=(0.9, 0.99), fused=True)
        with torch.no_grad():
            features = perceptual.features(target)
        stop = EarlyStopping(defaults.patience, defaults.min_gain)
        for step in range(steps):
            made = generator.synthesise(ws, found.noise).float()
            distance = perceptual.distance(perceptual.features(made), features) * perceptual.weight
            loss = (distance + defaults.pixels * (made - target).square().mean((1, 2, 3))).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
            if step % CHECK_INTERVAL == CHECK_INTERVAL - 1 and stop(float(loss.detach())):
                break
    return generator.requires_grad_(False)
