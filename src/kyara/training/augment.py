"""Augmentation of the discriminator's input, against overfitting on small datasets.

`Ada` is adaptive discriminator augmentation (Karras et al. 2020, "Training generative adversarial networks with limited
data"): each transform is chosen with probability p, which is adapted to the discriminator's output on real pictures. As
there, a flip that is chosen flips half of the pictures, and a quarter turn leaves a quarter as they are. Unlike there,
pictures are sampled bilinearly, without the filters that keep a reduction free of aliasing.
`DiffAugment` (Zhao et al. 2020) always applies colour, translation and cutout. Both take whole batches (B, 3, H, W) in
[-1, 1] and are differentiable."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.nn.constants import constant
from kyara.training.options import Policy


class NoAugment:
    """The identity."""

    p = 0.0
    active = False  # whether pictures are changed at all; code that was compiled or captured holds for one of the two

    def __call__(self, pictures: Tensor) -> Tensor:
        return pictures

    def adapt(self, real_sign: float, images: int) -> None:
        """Updates the strength from the mean sign of the discriminator's logits on the last `images` real pictures."""


class Ada(NoAugment):
    """Adaptive augmentation: pixel (flip, quarter turns, whole-pixel shifts), geometry (scale, rotation, stretch,
    shift) and, unless `colour` is off, colour (brightness, contrast, luma flip, hue, saturation).

    p is stored in a tensor, so that torch.compile does not recompile when p changes, except from or to 0."""

    def __init__(
        self, *, colour: bool = True, target: float = 0.6, kimg: float = 500.0, device: str | torch.device = "cpu"
    ) -> None:
        self.colour, self.target, self.kimg = colour, target, kimg
        self._strength = torch.zeros(2, device=device)  # p, and the probability of each of the two rotations
        self.p = 0.0

    @property
    def p(self) -> float:
        """The probability with which each transform is chosen, in [0, 1]."""
        return self._p

    @p.setter
    def p(self, value: float) -> None:
        self._p, self.active = value, value > 0
        # The probability that at least one of the two rotations is applied is p.
        self._strength.copy_(torch.tensor([value, 1 - math.sqrt(1 - value)]))

    def adapt(self, real_sign: float, images: int) -> None:
        """Increases p if `real_sign` is above `target`, else decreases it, by 1 per `kimg` thousand pictures."""
        self.p = min(max(self.p + math.copysign(images / (self.kimg * 1000), real_sign - self.target), 0.0), 1.0)

    def __call__(self, pictures: Tensor) -> Tensor:
        if not self.active:
            return pictures
        dtype = pictures.dtype
        with torch.autocast(pictures.device.type, enabled=False):
            moved = warp(pictures.float(), self._geometry(pictures))
            return (recolour(moved, self._colours(pictures)) if self.colour else moved).to(dtype)

    def _geometry(self, x: Tensor) -> Tensor:
        """Matrices (B, 3, 3) that map output pixels to input pixels, in pixels relative to the centre."""
        batch, _, height, width = x.shape

        def normal(scale: float) -> Tensor:
            return torch.randn(batch, device=x.device) * scale

        one = torch.ones(batch, device=x.device)
        span = constant((width, height), one)
        turns = torch.randint(0, 4, (batch,), device=x.device)
        if height != width:
            turns = turns // 2 * 2
        shift = (symmetric(batch, 2, device=x.device) * 0.125 * span).round()
        p, p_rotation = self._strength
        m = pick(scaling(-one, one), p / 2)  # chosen with p, of both ways one flips: i ~ U{0, 1}
        m = m @ pick(rotation(turns * (math.pi / 2)), p)
        m = m @ pick(translation(shift), p)
        isotropic = torch.exp2(normal(0.2))
        m = m @ pick(scaling(isotropic, isotropic), p)
        m = m @ pick(rotation(symmetric(batch, device=x.device) * math.pi), p_rotation)
        stretch = torch.exp2(normal(0.2))
        m = m @ pick(scaling(stretch, 1 / stretch), p)
        m = m @ pick(rotation(symmetric(batch, device=x.device) * math.pi), p_rotation)
        return m @ pick(translation(torch.stack([normal(0.125), normal(0.125)], 1) * span), p)

    def _colours(self, x: Tensor) -> Tensor:
        """Colour transformation matrices (B, 4, 4) for (R, G, B, 1)."""
        batch, eye = len(x), torch.eye(4, device=x.device)
        rgb = constant((1.0, 1.0, 1.0, 0.0), eye)
        luma = F.normalize(rgb, dim=0)
        axis = torch.outer(luma, luma)

        def draw(scale: float) -> Tensor:
            return (torch.randn(batch, device=x.device) * scale)[:, None, None]

        brightness = eye + draw(0.2) * torch.outer(rgb, eye[3])
        contrast = eye + (torch.exp2(draw(0.5)) - 1) * torch.diag(rgb)
        flip = (eye - 2 * axis).expand(batch, -1, -1)
        hue = rotation_about_grey(symmetric(batch, device=x.device) * math.pi)
        saturation = axis + (eye - axis) @ (eye + (torch.exp2(draw(1.0)) - 1) * torch.diag(rgb))
        p = self._strength[0]
        m = pick(brightness, p)
        for change, chance in ((contrast, p), (flip, p / 2), (hue, p), (saturation, p)):
            m = pick(change, chance) @ m
        return m


class DiffAugment(NoAugment):
    """Random brightness, saturation and contrast (unless `colour` is off), translation by up to an eighth of the size,
    and cutout of half the size, applied to every picture."""

    p, active = 1.0, True

    def __init__(self, *, colour: bool = True) -> None:
        self.colour = colour

    def __call__(self, pictures: Tensor) -> Tensor:
        return self._cutout(self._shift(self._recolour(pictures) if self.colour else pictures))

    def _recolour(self, x: Tensor) -> Tensor:
        brightness, saturation, contrast = torch.rand(3, len(x), 1, 1, 1, device=x.device, dtype=x.dtype)
        x = x + (brightness - 0.5)
        grey = x.mean(1, keepdim=True)
        x = grey + (x - grey) * (saturation * 2)
        mean = x.mean((1, 2, 3), keepdim=True)
        return mean + (x - mean) * (contrast + 0.5)

    def _shift(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        dy = torch.randint(-(height // 8), height // 8 + 1, (len(x), 1, 1), device=x.device)
        dx = torch.randint(-(width // 8), width // 8 + 1, (len(x), 1, 1), device=x.device)
        rows = (torch.arange(height, device=x.device)[None, :, None] + dy + 1).clamp(0, height + 1)
        columns = (torch.arange(width, device=x.device)[None, None, :] + dx + 1).clamp(0, width + 1)
        each = torch.arange(len(x), device=x.device)[:, None, None]
        return F.pad(x, (1, 1, 1, 1)).permute(0, 2, 3, 1)[each, rows, columns].permute(0, 3, 1, 2)

    def _cutout(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        cy = torch.randint(0, height + 1, (len(x), 1, 1, 1), device=x.device)
        cx = torch.randint(0, width + 1, (len(x), 1, 1, 1), device=x.device)
        inside_y = (torch.arange(height, device=x.device)[:, None] - cy + 0.5).abs() < height / 4
        inside_x = (torch.arange(width, device=x.device)[None, :] - cx + 0.5).abs() < width / 4
        return x * ~(inside_y & inside_x)


def make(policy: Policy, *, colour: bool, target: float, device: str | torch.device = "cpu") -> NoAugment:
    """The augmentation `policy` for pictures on `device`. `colour=False` disables the colour transforms."""
    if policy == "ada":
        return Ada(colour=colour, target=target, device=device)
    return DiffAugment(colour=colour) if policy == "diffaugment" else NoAugment()


def warp(x: Tensor, matrix: Tensor) -> Tensor:
    """Warps x (B, C, H, W): each output pixel is sampled at the position to which `matrix` (B, 3, 3) maps it, in pixels
    relative to the centre. Reflection padding."""
    height, width = x.shape[2:]
    half = constant((width / 2, height / 2, 1.0), matrix)
    theta = (matrix * half / half[:, None])[:, :2]  # in normalised coordinates of grid_sample
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def recolour(x: Tensor, matrix: Tensor) -> Tensor:
    """Applies `matrix` (B, 4, 4) to the colours of x (B, 3, H, W)."""
    return torch.einsum("bij,bjhw->bihw", matrix[:, :3, :3], x) + matrix[:, :3, 3, None, None]


def symmetric(*shape: int, device: torch.device) -> Tensor:
    """Uniform random numbers in [-1, 1)."""
    return torch.rand(*shape, device=device) * 2 - 1


def pick(change: Tensor, p: Tensor) -> Tensor:
    """Each matrix of `change` (B, n, n) with probability p, else the identity."""
    chosen = torch.rand(len(change), 1, 1, device=change.device) < p
    return torch.where(chosen, change, torch.eye(change.shape[-1], device=change.device))


def scaling(sx: Tensor, sy: Tensor) -> Tensor:
    """(B,), (B,) -> (B, 3, 3)."""
    return torch.diag_embed(torch.stack([sx, sy, torch.ones_like(sx)], 1))


def rotation(angle: Tensor) -> Tensor:
    """Angles in radians (B,) -> (B, 3, 3)."""
    c, s, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack([c, -s, zero, s, c, zero, zero, zero, one], 1).unflatten(1, (3, 3)).float()


def translation(shift: Tensor) -> Tensor:
    """Shifts (B, 2) as x, y -> (B, 3, 3)."""
    matrix = torch.eye(3, device=shift.device).repeat(len(shift), 1, 1)
    matrix[:, :2, 2] = shift
    return matrix


def rotation_about_grey(angle: Tensor) -> Tensor:
    """Rotations of the hue by angles in radians, (B,) -> (B, 4, 4), about the grey axis (Rodrigues' formula)."""
    k = 1 / math.sqrt(3)
    cross = torch.zeros(4, 4, device=angle.device)
    cross[:3, :3] = constant(((0.0, -k, k), (k, 0.0, -k), (-k, k, 0.0)), cross)
    c, s = angle.cos()[:, None, None], angle.sin()[:, None, None]
    return torch.eye(4, device=angle.device) + s * cross + (1 - c) * (cross @ cross)
