"""Changes of style that keep the shapes: line art, greys, screentones, paper, compression.

A detector that learns from restyled pictures finds faces in drawings of other styles (domain randomisation, Tobin et
al. 2017). Every effect takes pictures (B, 3, H, W) in [-1, 1] and draws its parameters for each of them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.data.variation import uniform
from kyara.nn.constants import constant

Effect = Callable[[Tensor], Tensor]


def restyle(pictures: Tensor, share: float) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1], of which about `share` have one of `STYLES`, and then each of `DAMAGES` with
    its probability times `share`. The host draws which: that decides how many pictures each effect has."""
    pictures = pictures.clone()
    names = [*STYLES]
    drawn = torch.rand(len(pictures)).tolist()
    for i, name in enumerate(names):
        chosen = [k for k, u in enumerate(drawn) if u < share and int(u / share * len(names)) == i]
        _apply(STYLES[name], pictures, chosen)
    for effect, probability in DAMAGES.items():
        drawn = torch.rand(len(pictures)).tolist()
        _apply(effect, pictures, [k for k, u in enumerate(drawn) if u < probability * share])
    return pictures.clamp_(-1, 1)


def _apply(effect: Effect, pictures: Tensor, chosen: list[int]) -> None:
    if chosen:
        index = torch.tensor(chosen).to(pictures.device, non_blocking=True)
        pictures[index] = effect(pictures[index]).clamp(-1, 1)


def between(pictures: Tensor, low: float, high: float) -> Tensor:
    """A number (B, 1, 1, 1) in [low, high) for each picture."""
    return (uniform(pictures, 1, 1, 1) + 1) / 2 * (high - low) + low


def grey(pictures: Tensor) -> Tensor:
    """Luminance, as three equal channels."""
    weights = constant((0.299, 0.587, 0.114), pictures)[:, None, None]
    return (pictures * weights).sum(1, keepdim=True).expand(-1, 3, -1, -1)


def gaussian(x: Tensor, sigma: Tensor) -> Tensor:
    """Pictures (B, C, H, W) blurred by `sigma` pixels (B, 1, 1, 1), up to 2.5 times a radius of 7."""
    batch, channels, height, width = x.shape
    at = torch.arange(-7, 8, device=x.device)
    kernel = torch.exp(-at.square() / (2 * sigma.view(-1, 1).square()))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)[:, None]  # (B C, 1, 15)
    x = F.pad(x.reshape(1, -1, height, width), (7, 7, 7, 7), mode="replicate")
    x = F.conv2d(F.conv2d(x, kernel[..., None], groups=len(kernel)), kernel[:, :, None], groups=len(kernel))
    return x.view(batch, channels, height, width)


def line_drawing(pictures: Tensor) -> Tensor:
    """Extended difference of Gaussians (Winnemoeller et al. 2012), with a soft threshold: ink lines, black areas."""
    light = (grey(pictures)[:, :1] + 1) / 2
    sigma = between(pictures, 0.3, 0.9)
    fine, coarse = gaussian(light, sigma), gaussian(light, sigma * 1.6)
    sharp = between(pictures, 4, 20)
    dog = (1 + sharp) * fine - sharp * coarse
    steep = between(pictures, 3, 15)
    ink = torch.tanh(steep * (dog - between(pictures, 0.3, 0.85))).clamp_max(0)  # (B, 1, H, W), in [-1, 0]
    return (1 + 2 * ink).expand_as(pictures)


def pencil(pictures: Tensor) -> Tensor:
    """The difference from the dilated picture: thin lines in grey, without areas."""
    light = grey(pictures)[:, :1]
    dilated = F.max_pool2d(F.pad(light, (1, 2, 1, 2), mode="replicate"), 4, stride=1)
    lines = (dilated - light) * between(pictures, 0.8, 2.5)
    shade = between(pictures, -0.3, 0.25).clamp_min(0) * (1 - light) / 2
    return (1 - lines - shade).expand_as(pictures)


def washed(pictures: Tensor) -> Tensor:
    """Lines over faint colours."""
    faint = 1 - (1 - pictures) * between(pictures, 0.05, 0.5)
    return torch.minimum(line_drawing(pictures), faint)


def desaturated(pictures: Tensor) -> Tensor:
    mixed = between(pictures, -0.5, 0.7).clamp_min(0)
    return grey(pictures) * (1 - mixed) + pictures * mixed


def tinted(pictures: Tensor) -> Tensor:
    """Grey levels mapped to the colours between a dark and a light one, as in sepia."""
    dark, light = between(pictures, -1, -0.2), between(pictures, 0.4, 1)
    dark, light = (c + 0.35 * uniform(pictures, 3, 1, 1) for c in (dark, light))
    return dark + (light - dark) * (grey(pictures) + 1) / 2


def screentone(pictures: Tensor) -> Tensor:
    """Manga: bands of luminance as dots on a rotated grid of 3 to 8 pixels, black, and white."""
    light = (grey(pictures)[:, :1] + 1) / 2
    height, width = light.shape[2:]
    y, x = (torch.arange(n, device=light.device, dtype=light.dtype) for n in (height, width))
    pitch, angle = between(pictures, 3, 8), between(pictures, 0, math.pi / 2)
    u = (x * torch.cos(angle) + y[:, None] * torch.sin(angle)) * (2 * math.pi / pitch)
    v = (y[:, None] * torch.cos(angle) - x * torch.sin(angle)) * (2 * math.pi / pitch)
    wave = (torch.cos(u) + torch.cos(v) + 2) / 4  # (B, 1, H, W), in [0, 1]
    dark, pale = between(pictures, 0.1, 0.35), between(pictures, 0.6, 0.9)
    level = ((light - dark) / (pale - dark)).clamp(0, 1)
    level = torch.where(between(pictures, 0, 1) < 0.5, (level * 3).round() / 3, level)
    toned = ((level - wave) * 6 + 0.5).clamp(0, 1)
    lines = (line_drawing(pictures)[:, :1] + 1) / 2
    return (2 * torch.minimum(toned, lines.maximum(between(pictures, 0, 1))) - 1).expand_as(pictures)


def posterised(pictures: Tensor) -> Tensor:
    """Few levels per channel, as of cel shading or of a small palette."""
    levels = between(pictures, 2, 6).round()
    return ((gaussian(pictures, between(pictures, 0.5, 2)) + 1) / 2 * levels).round() / levels * 2 - 1


def recoloured(pictures: Tensor) -> Tensor:
    """Odd colours: a random mixture of the channels, and a curve for each."""
    mixing = torch.eye(3, device=pictures.device) + 0.6 * uniform(pictures, 3, 3)
    mixing = mixing / mixing.sum(2, keepdim=True).abs().clamp_min(0.5)
    mixed = torch.einsum("bij,bjhw->bihw", mixing, pictures)
    gamma = torch.exp(0.7 * uniform(pictures, 3, 1, 1))
    return ((mixed.clamp(-1, 1) + 1) / 2).clamp_min(1e-4) ** gamma * 2 - 1


def lit(pictures: Tensor) -> Tensor:
    """Under coloured light, mostly dim, that changes from one side to the other: as at dusk or beside a neon sign; half
    of the pictures with haze."""
    height, width = pictures.shape[2:]
    x, y = (torch.linspace(-0.5, 0.5, n, device=pictures.device, dtype=pictures.dtype) for n in (width, height))
    angle = between(pictures, 0, 2 * math.pi)
    along = x * torch.cos(angle) + y[:, None] * torch.sin(angle)  # (B, 1, H, W)
    side = torch.sigmoid(along * between(pictures, 0, 12))
    left, right = ((uniform(pictures, 3, 1, 1) + 1) / 2 for _ in range(2))
    light = (left + (right - left) * side) * between(pictures, 0.3, 1.1) + between(pictures, 0, 0.25)
    haze = (uniform(pictures, 3, 1, 1) + 1) / 2 * between(pictures, -0.3, 0.3).clamp_min(0)
    return ((pictures + 1) / 2 * light * (1 - haze) + haze) * 2 - 1


def inverted(pictures: Tensor) -> Tensor:
    """White on black, mostly without colour."""
    return -torch.where(between(pictures, 0, 1) < 0.6, grey(pictures), pictures)


def painted(pictures: Tensor) -> Tensor:
    """Without dark lines, as of a soft painting: dilated by 3 x 3 pixels and eroded again."""
    wide = F.max_pool2d(pictures, 3, stride=1, padding=1)
    return -F.max_pool2d(-wide, 3, stride=1, padding=1)


def paper(pictures: Tensor) -> Tensor:
    """Grain, stains and the colour of paper, under uneven light."""
    batch, _, height, width = pictures.shape
    grain = torch.randn(batch, 1, height, width, device=pictures.device) * between(pictures, 0, 0.12)
    uneven = F.interpolate(uniform(pictures, 1, 4, 4), (height, width), mode="bicubic") * between(pictures, 0, 0.25)
    tone = 1 - between(pictures, 0, 0.25) * (uniform(pictures, 3, 1, 1) + 1) / 2
    return ((pictures + 1) / 2 * tone * (1 + uneven) + grain) * 2 - 1


def contrast(pictures: Tensor) -> Tensor:
    """Low contrast, brighter or darker."""
    scale = between(pictures, 0.25, 1.0)
    return pictures * scale + between(pictures, -1, 1) * (1 - scale)


def blurred(pictures: Tensor) -> Tensor:
    return gaussian(pictures, between(pictures, 0.4, 2.0))


def noisy(pictures: Tensor) -> Tensor:
    return pictures + torch.randn_like(pictures) * between(pictures, 0.02, 0.2)


def ruled(pictures: Tensor) -> Tensor:
    """A grid or stripes over the picture, as of notebook paper."""
    height, width = pictures.shape[2:]
    pitch, phase = between(pictures, 8, 40), between(pictures, 0, 40)
    rows = torch.arange(height, device=pictures.device)[:, None] + phase
    columns = torch.arange(width, device=pictures.device) + phase
    both = between(pictures, 0, 1) < 0.5
    lines = (rows % pitch < 1.2) | ((columns % pitch < 1.2) & both)
    colour = uniform(pictures, 3, 1, 1)
    mixed = between(pictures, 0.2, 0.8) * lines
    return pictures * (1 - mixed) + colour * mixed


@functools.cache
def _cosines() -> tuple[tuple[float, ...], ...]:
    """The discrete cosine transform of eight values, as a matrix."""
    rows = ([math.cos(math.pi * (2 * x + 1) * u / 16) for x in range(8)] for u in range(8))
    return tuple(tuple(c * (math.sqrt(1 / 8) if u == 0 else 0.5) for c in row) for u, row in enumerate(rows))


def compressed(pictures: Tensor) -> Tensor:
    """Blocks of 8 x 8 pixels whose cosine coefficients are rounded, finer steps for lower frequencies: as of JPEG."""
    height, width = pictures.shape[2:]
    padded = F.pad(pictures, (0, -width % 8, 0, -height % 8), mode="replicate")
    blocks = padded.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)  # (B, 3, h, w, 8, 8)
    matrix = torch.stack([constant(row, pictures) for row in _cosines()])
    frequency = torch.arange(8, device=pictures.device)
    steps = (1 + frequency + frequency[:, None]) * between(pictures, 0.02, 0.12)[..., None, None]
    rounded = ((matrix @ blocks @ matrix.T) / steps).round() * steps
    back = (matrix.T @ rounded @ matrix).transpose(3, 4).flatten(4, 5).flatten(2, 3)
    return back[..., :height, :width]


STYLES: Mapping[str, Effect] = {
    "lines": line_drawing,
    "lines on white": lambda pictures: line_drawing(contrast(pictures)),
    "pencil": pencil,
    "sketch": lambda pictures: pencil(blurred(pictures)),
    "washed": washed,
    "grey": desaturated,
    "grey only": grey,
    "tinted": tinted,
    "screentone": screentone,
    "posterised": posterised,
    "odd colours": recoloured,
    "odder colours": lambda pictures: recoloured(posterised(pictures)),
    "lit": lit,
    "inverted": inverted,
    "painted": painted,
}
DAMAGES: Mapping[Effect, float] = {
    contrast: 0.2,
    blurred: 0.25,
    paper: 0.2,
    ruled: 0.04,
    noisy: 0.12,
    compressed: 0.25,
}
