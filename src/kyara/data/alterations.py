"""What happens to a picture that is copied: it is cropped, turned, recoloured, blurred and compressed, and
text or stickers are put over it (Pizzi et al. 2022, section 4.3). In batches, on the device of the pictures.

All functions take pictures (B, 3, H, W) in [-1, 1] and draw from torch's global generator. Those that change only some
of the pictures choose them on the host, so that a GPU is not waited for."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from kyara.data.variation import uniform, warp
from kyara.nn.constants import cached, constant
from kyara.nn.precision import affine_grid, full_precision

Alteration = Callable[[Tensor], Tensor]
STICKERS, STICKER_SIDE = 64, 48  # of each of the two kinds; pixels
LETTERS = "ABCDEFGHIKLMNOPRSTUWXYZabcdefghijklmnopqrstuvwxyz0123456789!?&#@"
LUMA = (0.299, 0.587, 0.114)
BLOCK = 8  # of JPEG, pixels
LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
CHROMINANCE = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99,
    99, 99, 99, *(99,) * 32,
)  # fmt: skip
"""Quantisation at quality 50, row by row (ITU-T T.81, annex K)."""


def some(pictures: Tensor, probability: float, alteration: Alteration) -> Tensor:
    """Each of the pictures is altered with this probability."""
    chosen = (torch.rand(len(pictures)) < probability).nonzero().flatten()
    if not len(chosen):
        return pictures
    index = chosen.to(pictures.device, non_blocking=True)
    return pictures.index_copy(0, index, alteration(pictures[index]))


def crop(pictures: Tensor, *, smallest: float, degrees: float) -> Tensor:
    """A random part of each picture, enlarged to all of it: a share of the area from `smallest` to 1, an aspect ratio
    from 3/4 to 4/3, turned by up to `degrees`."""
    height, width = pictures.shape[2:]
    side = (1 - (1 - smallest) * _share(pictures)).sqrt()
    ratio = torch.exp(uniform(pictures) * math.log(4 / 3) / 2)
    across, down = (side * ratio).clamp_max(1), (side / ratio).clamp_max(1)
    angle = uniform(pictures) * math.radians(degrees)
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = [cos * across, -sin * across * height / width, sin * down * width / height, cos * down]
    move = uniform(pictures, 2) * (1 - torch.stack([across, down], 1))
    theta = torch.cat([torch.stack(rows, 1).view(-1, 2, 2), move[:, :, None]], 2)  # in [-1, 1]
    return warp(pictures, theta, "reflection")


def turn(pictures: Tensor) -> Tensor:
    """Each picture turned by 90, 180 or 270 degrees, squeezed to its size."""
    quarters = torch.randint(1, 4, (len(pictures),), device=pictures.device)
    table = constant(((0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0)), pictures)
    return warp(pictures, F.pad(table[quarters - 1].view(-1, 2, 2), (0, 1)), "border")


def recolour(pictures: Tensor, *, strength: float, hue: float) -> Tensor:
    """Brightness, contrast and saturation change by up to `strength`, and the hue by up to `hue` turns."""
    grey = constant(LUMA, pictures).expand(3, 3)
    angle = uniform(pictures)[:, None, None] * hue * 2 * math.pi
    k = 1 / math.sqrt(3)
    cross = constant(((0.0, -k, k), (k, 0.0, -k), (-k, k, 0.0)), pictures)
    eye = torch.eye(3, device=pictures.device)
    turned = eye + torch.sin(angle) * cross + (1 - torch.cos(angle)) * (cross @ cross)  # Rodrigues' formula
    saturation = 1 + uniform(pictures)[:, None, None] * strength
    matrix = (grey + saturation * (eye - grey)) @ turned * (1 + uniform(pictures)[:, None, None] * strength)
    changed = torch.einsum("bij,bjhw->bihw", matrix, pictures) + uniform(pictures, 1, 1, 1) * strength
    return changed.clamp(-1, 1)


def decolour(pictures: Tensor) -> Tensor:
    """Grey pictures."""
    return torch.einsum("j,bjhw->bhw", constant(LUMA, pictures), pictures)[:, None].expand_as(pictures)


def blur(pictures: Tensor, *, most: float) -> Tensor:
    """Gaussian blur, as after a reduction: a standard deviation of up to `most` pixels, different for each picture."""
    sigma = (0.3 + (most - 0.3) * _share(pictures))[:, None, None]

    def along(size: int) -> Tensor:
        place = torch.arange(size, device=pictures.device, dtype=torch.float32)
        weight = torch.exp(-((place[:, None] - place) / sigma).square() / 2)  # (B, size, size)
        return (weight / weight.sum(2, keepdim=True))[:, None]

    height, width = pictures.shape[2:]
    return along(height) @ pictures @ along(width).mT


def jpeg(pictures: Tensor, *, worst: float) -> Tensor:
    """JPEG with a quality from `worst` to 95, and chrominance at half the size, but for the entropy coding, which loses
    nothing."""
    height, width = pictures.shape[2:]
    quality = worst + (95 - worst) * _share(pictures)
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50)[:, None, None, None, None, None]
    padding = (0, -width % (2 * BLOCK), 0, -height % (2 * BLOCK))
    luma, *chroma = (F.pad(pictures, padding, "replicate") * 127.5).movedim(1, -1).matmul(_to_ycc(pictures)).unbind(-1)
    small = F.avg_pool2d(torch.stack(chroma, 1), 2)
    coded = (
        _quantised(luma[:, None], LUMINANCE, scale),
        F.interpolate(_quantised(small, CHROMINANCE, scale), scale_factor=2),
    )
    made = torch.cat(coded, 1).movedim(1, -1).matmul(torch.linalg.inv(_to_ycc(pictures))).movedim(-1, 1) / 127.5
    return made[..., :height, :width].clamp(-1, 1)


@full_precision
def cover(pictures: Tensor) -> Tensor:
    """Text or a sticker over a part of each picture, at any place, more or less transparent."""
    bank = _stickers(pictures.device)
    chosen = bank[torch.randint(len(bank), (len(pictures),), device=pictures.device)]  # (B, 4, S, S)
    angle, size = uniform(pictures) * 0.5, 0.15 + 0.3 * _share(pictures)
    cos, sin = torch.cos(angle) / size, torch.sin(angle) / size
    rows = torch.stack([cos, -sin, sin, cos], 1).view(-1, 2, 2)
    theta = torch.cat([rows, -rows @ (uniform(pictures, 2, 1) * 0.8)], 2)  # from the picture to the sticker
    grid = affine_grid(theta, [len(pictures), 4, *pictures.shape[2:]])
    colour, opacity = F.grid_sample(chosen, grid, align_corners=False).split([3, 1], 1)
    share = 0.4 + 0.6 * _share(pictures)[:, None, None, None]
    return pictures * (1 - opacity * share) + (2 * colour - opacity) * share


def recolour_part(pictures: Tensor, *, width: float = 0.4) -> tuple[Tensor, Tensor]:
    """What has about the colour of a random pixel, such as the hair, gets a clearly different one. Returns the pictures
    and the share (B,) of each that has changed. `width` is the standard deviation of the colours that change."""
    flat = pictures.flatten(2)  # (B, 3, H W)
    place = torch.randint(flat.shape[2], (len(flat), 1, 1), device=flat.device).expand(-1, 3, 1)
    old = flat.gather(2, place)  # (B, 3, 1)
    new = torch.rand_like(old) * 2 - 1
    new = torch.where((new - old).norm(dim=1, keepdim=True) < 0.8, -old.sign() * 0.8, new)
    near = torch.exp(-(flat - old).square().sum(1, keepdim=True) / (2 * width**2))  # (B, 1, H W)
    return (flat + near * (new - old)).view_as(pictures).clamp(-1, 1), near.mean((1, 2))


def _share(pictures: Tensor) -> Tensor:
    """Random numbers (B,) in [0, 1)."""
    return torch.rand(len(pictures), device=pictures.device)


def _to_ycc(pictures: Tensor) -> Tensor:
    """The matrix (3, 3) from rows of RGB to luminance and chrominance (ITU-T T.871)."""
    rows = (LUMA, (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
    return constant(rows, pictures).T


def _quantised(planes: Tensor, table: tuple[int, ...], scale: Tensor) -> Tensor:
    """Planes (B, C, H, W) after the quantisation of the cosine transform of their blocks."""
    blocks = planes.unflatten(3, (-1, BLOCK)).unflatten(2, (-1, BLOCK)).transpose(3, 4)  # (B, C, h, w, 8, 8)
    basis = _cosines(planes.device)
    step = (constant(table, planes).view(BLOCK, BLOCK) * scale).clamp_min(1)
    kept = ((basis @ blocks @ basis.T) / step).round() * step
    return (basis.T @ kept @ basis).transpose(3, 4).flatten(4, 5).flatten(2, 3)


@cached
def _cosines(device: torch.device) -> Tensor:
    """The orthonormal cosine transform (8, 8), one frequency a row."""
    frequency, place = torch.arange(BLOCK)[:, None], torch.arange(BLOCK) + 0.5
    basis = torch.cos(math.pi / BLOCK * frequency * place) * math.sqrt(2 / BLOCK)
    basis[0] /= math.sqrt(2)
    return basis.to(device)


@cached
def _stickers(device: torch.device) -> Tensor:
    """Words, faces, hearts and stars (K, 4, S, S), the colours multiplied by the opacity, in [0, 1]."""
    chance = random.Random(0)
    drawn = [draw(chance) for draw in (_word, _sticker) for _ in range(STICKERS)]
    pixels = torch.from_numpy(np.stack([np.asarray(one, np.float32) / 255 for one in drawn])).permute(0, 3, 1, 2)
    return torch.cat([pixels[:, :3] * pixels[:, 3:], pixels[:, 3:]], 1).to(device)


def _word(chance: random.Random) -> Image.Image:
    """A line or two of random letters as wide as the picture."""
    lines = ["".join(chance.choices(LETTERS, k=chance.randint(3, 9))) for _ in range(chance.randint(1, 2))]
    text, font = "\n".join(lines), ImageFont.load_default(24)
    probe = ImageDraw.Draw(Image.new("RGBA", (1, 1)))
    left, top, right, bottom = probe.multiline_textbbox((0, 0), text, font)
    side = int(max(right - left, bottom - top)) + 2
    drawn = Image.new("RGBA", (side, side))
    place = (side - right - left) / 2, (side - bottom - top) / 2
    ImageDraw.Draw(drawn).multiline_text(place, text, _colour(chance), font)
    return drawn.resize((STICKER_SIDE, STICKER_SIDE), Image.Resampling.BOX)


def _sticker(chance: random.Random) -> Image.Image:
    """A smiling face, a heart or a star, at four times the size and reduced, so that its edges are smooth."""
    side = 4 * STICKER_SIDE
    drawn = Image.new("RGBA", (side, side))
    pen, colour, line = ImageDraw.Draw(drawn), _colour(chance), _colour(chance)
    kind = chance.choice(("face", "heart", "star"))
    if kind == "face":
        pen.ellipse((4, 4, side - 4, side - 4), colour, line, 6)
        for x in (0.33, 0.67):
            pen.ellipse((side * (x - 0.07), side * 0.28, side * (x + 0.07), side * 0.48), line)
        pen.arc((side * 0.25, side * 0.35, side * 0.75, side * 0.8), 20, 160, line, 10)
    else:
        pen.polygon([(side * x, side * y) for x, y in (_heart() if kind == "heart" else _star())], colour, line)
    return drawn.resize((STICKER_SIDE, STICKER_SIDE), Image.Resampling.BOX)


def _heart() -> list[tuple[float, float]]:
    turns = [2 * math.pi * i / 64 for i in range(64)]
    across = [0.5 + 0.48 * math.sin(t) ** 3 for t in turns]
    down = [0.47 - (13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 34 for t in turns]
    return list(zip(across, down, strict=True))


def _star() -> list[tuple[float, float]]:
    corners = [(math.pi * i / 5, 0.2 if i % 2 else 0.48) for i in range(10)]
    return [(0.5 + radius * math.sin(angle), 0.5 - radius * math.cos(angle)) for angle, radius in corners]


def _colour(chance: random.Random) -> tuple[int, int, int, int]:
    return chance.randrange(256), chance.randrange(256), chance.randrange(256), 255
