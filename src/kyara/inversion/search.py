"""Finding the latent of a picture: optimisation from a first guess, many pictures in one batch.

After the projector of StyleGAN2 (Karras et al. 2020, appendix D), with what has been learned since: it searches among
whitened latents (see `latents`), begins with an encoder's guess instead of the mean, gives every layer a style of its
own (W+, Abdal et al. 2019), and stops when it no longer gains. Pivotal tuning (Roich et al. 2021) then bends the
generator itself.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import time
from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.inversion.latents import Latents
from kyara.models.base import StyledGenerator
from kyara.perception.lpips import Maps, Perceptual
from kyara.training.runtime import has_bfloat16


@dataclasses.dataclass(frozen=True)
class Search:
    """How latents are searched for. All weights are on means over a picture."""

    space: Literal["w+", "w"] = "w+"
    """A style of its own for every layer, or one for all."""
    start: Literal["encoder", "mean"] = "encoder"
    """What the search begins with: the linear encoder's guess, or the mean."""
    steps: int = 200
    """At most so many."""
    lr: float = 0.05
    """Of Adam, in standard deviations of a latent."""
    rise: float = 0.05
    """Share of the steps in which the learning rate rises from zero."""
    fall: float = 0.5
    """Share of the steps at the end in which it falls to zero along a cosine."""
    pixels: float = 10.0
    """Weight of the squared difference of pixels in [-1, 1], beside the perceptual distance."""
    prior: float = 0.01
    """Weight of the squared length of latents: a face that the generator would make by itself is preferred."""
    jitter: float = 0.0
    """Noise on the latents at first, in standard deviations; it is gone after three quarters of the steps. StyleGAN2's
    projector needs it to leave the mean; a good guess does not."""
    noise: bool = False
    """The noise of each layer is fitted too. It takes what no latent can say, so pictures come nearer, and latents
    mean less."""
    noise_weight: float = 1e3
    """Weight of what keeps fitted noise from being a picture: its correlation with itself, shifted by a pixel, at every
    size down to 8."""
    patience: int = 40
    """Ends once so many steps have gained less than `gain`."""
    gain: float = 0.01
    """As a share of the distance."""


@dataclasses.dataclass
class Found:
    """Latents of a batch of pictures."""

    u: Tensor
    """Whitened, (B, layers, w_dim)."""
    ws: Tensor
    """The styles, (B, layers, w_dim)."""
    noise: list[Tensor] | None
    """Fitted maps (B, 1, H, W) of each layer, the coarsest first; None: the generator's own."""
    pictures: Tensor
    """What the generator makes of them, (B, 3, H, W) in [-1, 1]."""
    distance: Tensor
    """Perceptual distance of each to its picture, (B,)."""
    steps: int
    seconds: float


LOOK = 10
"""Steps between two looks at how far off the pictures are: each is a wait for the device."""


class Stall:
    """Notices that so many steps have gained less than a share of the distance. Called with the distance at every look,
    it says whether to end."""

    def __init__(self, patience: int, gain: float) -> None:
        self.patience, self.gain = patience, gain
        self.best, self.waited = math.inf, 0

    def __call__(self, now: float) -> bool:
        self.waited = 0 if now < self.best * (1 - self.gain) else self.waited + LOOK
        self.best = min(self.best, now)
        return self.waited >= self.patience


def search(pictures: Tensor, space: Latents, perceptual: Perceptual, settings: Search | None = None) -> Found:
    """The latents of pictures (B, 3, H, W) in [-1, 1], of the generator's size. Deterministic; what is found for one
    picture does not depend on the others, but for when the search ends."""
    settings = settings or Search()
    began = time.perf_counter()
    generator = space.generator
    with torch.inference_mode(False), _still(generator):
        target = pictures.clone()
        with torch.no_grad(), _fast(target):
            seen = perceptual.see(target)
        u = _begin(target, space, settings).requires_grad_(True)
        noise = _fresh_noise(generator, len(target)) if settings.noise else None
        adam = torch.optim.Adam([u, *(noise or [])], lr=settings.lr, betas=(0.9, 0.99), fused=True)
        jitter = torch.Generator(target.device).manual_seed(0)
        stall, step = Stall(settings.patience, settings.gain), 0
        for step in range(settings.steps):
            progress = step / settings.steps
            for group in adam.param_groups:
                group["lr"] = settings.lr * pace(progress, settings.rise, settings.fall)
            tried = u if settings.space == "w+" else u.expand(-1, space.shape[0], -1)
            if settings.jitter:
                strength = settings.jitter * max(0.0, 1 - progress / 0.75) ** 2
                tried = tried + strength * torch.randn(u.shape, generator=jitter, device=u.device)
            far, loss = _losses(space, tried, noise, target, seen, perceptual, settings)
            adam.zero_grad()
            loss.sum().backward()
            adam.step()
            if noise:
                _renormalise(noise)
            if step % LOOK == LOOK - 1 and stall(float(far.detach().mean())):
                break
        u = u.detach().expand(-1, space.shape[0], -1).contiguous()
        noise = [m.detach() for m in noise] if noise else None
        return _finish(space, u, noise, target, perceptual, step + 1, time.perf_counter() - began)


def _begin(target: Tensor, space: Latents, settings: Search) -> Tensor:
    if settings.start == "encoder":
        u = space.guess(target)
    else:
        u = torch.zeros(len(target), *space.shape, device=target.device)
    return u if settings.space == "w+" else u.mean(1, keepdim=True)


def _losses(
    space: Latents,
    u: Tensor,
    noise: list[Tensor] | None,
    target: Tensor,
    seen: Maps,
    perceptual: Perceptual,
    settings: Search,
) -> tuple[Tensor, Tensor]:
    """How far off each picture is, and what is minimised, (B,) each."""
    with _fast(target):
        made = space.generator.synthesise(space.styles(u), noise).float()
        far = perceptual.distance(perceptual.see(made), seen)
    far = far * perceptual.weight + settings.pixels * (made - target).square().mean((1, 2, 3))
    loss = far + settings.prior * u.square().mean((1, 2))
    if noise:
        loss = loss + settings.noise_weight * torch.stack([roughness(m) for m in noise]).sum(0)
    return far, loss


@torch.no_grad()
def _finish(
    space: Latents,
    u: Tensor,
    noise: list[Tensor] | None,
    target: Tensor,
    perceptual: Perceptual,
    steps: int,
    seconds: float,
) -> Found:
    ws = space.styles(u)
    made = space.generator.synthesise(ws, noise).clamp(-1, 1)
    distance = perceptual.distance(perceptual.see(made), perceptual.see(target))
    return Found(u, ws, noise, made, distance, steps, seconds)


def pace(progress: float, rise: float, fall: float) -> float:
    """Factor on the learning rate at `progress` in [0, 1): up along a line, and down along a cosine at the end."""
    up = min(1.0, (progress + 1e-3) / rise) if rise else 1.0
    left = min(1.0, (1 - progress) / fall) if fall else 1.0
    return up * (0.5 - 0.5 * math.cos(math.pi * left))


def roughness(noise: Tensor) -> Tensor:
    """Squared correlation of noise maps (B, 1, H, W) with themselves, shifted by one pixel each way, summed over sizes
    down to 8 (Karras et al. 2020, appendix D): zero for noise that is noise. (B,)"""
    total = noise.new_zeros(len(noise))
    while True:
        for axis in (2, 3):
            total = total + (noise * noise.roll(1, axis)).mean((1, 2, 3)).square()
        if min(noise.shape[2:]) <= 8:
            return total
        noise = F.avg_pool2d(noise, 2)


def _fresh_noise(generator: StyledGenerator, count: int) -> list[Tensor]:
    return [m.detach().repeat(count, 1, 1, 1).requires_grad_(True) for m in generator.noise_maps()]


@torch.no_grad()
def _renormalise(noise: list[Tensor]) -> None:
    for m in noise:
        m -= m.mean((1, 2, 3), keepdim=True)
        m /= m.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-8)


def tune(found: Found, pictures: Tensor, space: Latents, perceptual: Perceptual, steps: int = 200) -> StyledGenerator:
    """Pivotal tuning (Roich et al. 2021, section 3.2): a copy of the generator, trained until it makes the pictures
    (B, 3, H, W) from the latents found for them. Adam 3e-4; it stops at a hundredth of a gain, as the search does."""
    generator = copy.deepcopy(space.generator)
    defaults = Search()
    with torch.inference_mode(False):
        target, ws = pictures.clone(), found.ws.clone()
        weights = _of_pictures(generator, ws)
        adam = torch.optim.Adam([w.requires_grad_(True) for w in weights], lr=3e-4, betas=(0.9, 0.99), fused=True)
        with torch.no_grad():
            seen = perceptual.see(target)
        stall = Stall(defaults.patience, defaults.gain)
        for step in range(steps):
            made = generator.synthesise(ws, found.noise).float()
            far = perceptual.distance(perceptual.see(made), seen)
            loss = (far * perceptual.weight + defaults.pixels * (made - target).square().mean((1, 2, 3))).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
            if step % LOOK == LOOK - 1 and stall(float(loss.detach())):
                break
    return generator.requires_grad_(False)


def _of_pictures(generator: StyledGenerator, ws: Tensor) -> list[torch.nn.Parameter]:
    """The parameters that pictures depend on, given their styles."""
    generator.requires_grad_(True)
    every = list(generator.parameters())
    grads = torch.autograd.grad(generator.synthesise(ws[:1]).sum(), every, allow_unused=True)
    generator.requires_grad_(False)
    return [parameter for parameter, grad in zip(every, grads, strict=True) if grad is not None]


@contextlib.contextmanager
def _still(generator: StyledGenerator) -> Iterator[None]:
    """The weights need no gradients while latents are searched for."""
    learning = [parameter.requires_grad_(False) for parameter in generator.parameters() if parameter.requires_grad]
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def _fast(like: Tensor) -> torch.autocast:
    return torch.autocast(like.device.type, torch.bfloat16, enabled=has_bfloat16(like.device))
