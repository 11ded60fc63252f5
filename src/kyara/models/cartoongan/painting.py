"""Filters that render photos as cels: smooth surfaces, few tones, dark lines. For batches (B, 3, H, W) in [-1, 1] of
any size; lengths are fractions of the shorter side."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.nn.constants import constant

LUMINANCE = (0.299, 0.587, 0.114)  # weights of red, green and blue (BT.601)
YUV = (LUMINANCE, (-0.14713, -0.28886, 0.436), (0.615, -0.51499, -0.10001))  # rows: Y, U, V
RADIUS, EVEN = 1 / 64, 0.02  # guided filter: radius, and square root of the regularisation
STROKE, FINE_STROKE = 6 / 256, 2 / 256  # radius of the Kuwahara filter, and with more detail
TONES, STEEP = 6, 20.0  # number of tones, and the steepness of the steps between them
DEPTH, NEARBY = 1.0, 20 / 256  # gain and radius of local contrast enhancement in detailed regions
LINE, WIDER = 1.2 / 256, 1.6  # difference of Gaussians: standard deviation, and ratio of the second to the first
FAINT, HARD, BLACK = 0.015, 100.0, 0.1  # lines: minimum contrast, slope of the threshold, minimum brightness


def luminance(pictures: Tensor) -> Tensor:
    """Luminance (B, 1, H, W) of pictures (B, 3, H, W)."""
    return (pictures * constant(LUMINANCE, pictures)[:, None, None]).sum(1, keepdim=True)


def grey(pictures: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) with the luminance in all channels."""
    return luminance(pictures).expand(-1, 3, -1, -1)


def colourless(pictures: Tensor) -> Tensor:
    """Pictures with the mean of the channels in all channels. Unlike for luminance, the gradients of the channels are
    equal."""
    return pictures.mean(1, keepdim=True).expand(-1, 3, -1, -1)


def means(pictures: Tensor, side: int) -> Tensor:
    """Mean filter without padding, (B, C, H - side + 1, W - side + 1); five times as fast as pooling."""
    for dim in (2, 3):
        count = pictures.shape[dim] - side + 1
        total = pictures.narrow(dim, 0, count).clone()
        for shift in range(1, side):
            total += pictures.narrow(dim, shift, count)
        pictures = total / side
    return pictures


def box(pictures: Tensor, reach: int) -> Tensor:
    """Box filter of radius `reach`."""
    return means(F.pad(pictures, (reach,) * 4, mode="replicate"), 2 * reach + 1)


def flatten(pictures: Tensor, side: int | None = None) -> Tensor:
    """Smooths surfaces and keeps edges: guided filter (He et al. 2010, equations 5 to 8), each channel is its own
    guide, applied twice, computed at half resolution (He and Sun 2015). Lengths are fractions of `side`, by default the
    shorter side."""
    size = pictures.shape[2:]
    reach = max(1, round(RADIUS * (side or min(size)) / 2))
    x = (pictures.float() + 1) / 2
    for _ in range(2):
        small = F.avg_pool2d(x, 2, ceil_mode=True)
        mean = box(small, reach)
        variance = (box(small * small, reach) - mean * mean).clamp_min(0)
        slope = variance / (variance + EVEN**2)
        fits = F.interpolate(box(torch.cat([slope, mean - slope * mean], 1), reach), size, mode="bilinear")
        x = fits[:, :3] * x + fits[:, 3:]
    return x * 2 - 1


def kuwahara(pictures: Tensor, radius: int) -> Tensor:
    """Kuwahara filter of pictures (B, 3, H, W) in [0, 1] (Kuwahara et al. 1976): the means of the four squares with the
    pixel at a corner, weighted by a high power of the inverse variance."""
    height, width = pictures.shape[2:]
    light = luminance(pictures)
    x = F.pad(torch.cat([pictures, light, light.square()], 1), (radius,) * 4, mode="replicate")
    squares = means(x, radius + 1)  # (B, 5, H + radius, W + radius)
    total, weights = torch.zeros_like(pictures), torch.zeros_like(light)
    for down in (0, radius):
        for right in (0, radius):
            square = squares[:, :, down : down + height, right : right + width]
            weight = ((square[:, 4:] - square[:, 3:4].square()).clamp_min(0) + 1e-4).square().square().reciprocal()
            total, weights = total + weight * square[:, :3], weights + weight
    return total / weights


def few_tones(pictures: Tensor) -> Tensor:
    """Soft quantisation of the luminance of pictures (B, 3, H, W) in [0, 1] to TONES values; preserves the hue."""
    light = luminance(pictures)
    step = (light * TONES).floor()
    tone = (step + torch.sigmoid((light * TONES - step - 0.5) * STEEP)) / TONES
    return (pictures * (tone + 0.02) / (light + 0.02)).clamp(0, 1)


def blur(pictures: Tensor, deviation: float) -> Tensor:
    """Gaussian blur of pictures (B, C, H, W); `deviation` in pixels."""
    reach = max(1, round(3 * deviation))
    row = torch.exp(-torch.arange(-reach, reach + 1, device=pictures.device).square() / (2 * deviation**2))
    row = (row / row.sum()).expand(pictures.shape[1], 1, 1, -1)
    x = F.pad(pictures, (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(x, row, groups=len(row)), row.mT, groups=len(row))


def lines(pictures: Tensor, side: int | None = None) -> Tensor:
    """Brightness (B, 1, H, W) of the lines of pictures (B, 3, H, W) in [0, 1], 1 without lines: difference of Gaussians
    with a soft threshold (Winnemöller et al. 2012, equation 6)."""
    deviation = max(LINE * (side or min(pictures.shape[2:])), 0.5)
    light = luminance(pictures)
    darker = blur(light, deviation) - blur(light, WIDER * deviation) + FAINT
    return 1 + (1 - BLACK) * torch.tanh(HARD * darker.clamp_max(0))


def ink(pictures: Tensor, strength: float, side: int | None = None) -> Tensor:
    """Darkens the lines of pictures (B, 3, H, W) in [-1, 1]; `strength` from 0 (unchanged) to 1."""
    with torch.autocast(pictures.device.type, enabled=False):  # bfloat16 is too coarse for faint lines
        x = (pictures.float() + 1) / 2
        return x * (1 + strength * (lines(x, side) - 1)) * 2 - 1


def lines_receptive_field(side: int) -> int:
    """Receptive field of `lines`: radius in pixels."""
    return max(1, round(3 * WIDER * max(LINE * side, 0.5)))


@torch.no_grad()
def cel(pictures: Tensor, detail: Tensor | None = None, side: int | None = None) -> Tensor:
    """Renders pictures as cels: smooth surfaces, few tones, dark lines; with more detail where `detail` (B, 1, H, W) is
    1."""
    with torch.autocast(pictures.device.type, enabled=False):  # bfloat16 is too coarse for faint lines
        x = (pictures.float() + 1) / 2
        side = side or min(pictures.shape[2:])
        flat = (flatten(pictures, side) + 1) / 2
        stroke = max(1, round(STROKE * side))
        painted = few_tones(kuwahara(kuwahara(flat, stroke), stroke))
        if detail is not None:
            fine = kuwahara(x, max(1, round(FINE_STROKE * side)))
            fine = (fine + DEPTH * (fine - box(x, round(NEARBY * side)))).clamp(0, 1)
            painted = torch.lerp(painted, fine, detail)
        return painted * lines(flat, side) * 2 - 1


def cel_receptive_field(side: int) -> int:
    """Receptive field of `cel` without `detail`: radius in pixels."""
    flat = 2 * (2 * max(1, round(RADIUS * side / 2)) + 1) * 2
    return flat + max(2 * max(1, round(STROKE * side)), lines_receptive_field(side))


def yuv(pictures: Tensor) -> Tensor:
    """Luminance and chrominance of pictures (B, 3, H, W) in [-1, 1], after scaling to [0, 1]: (3, B, H, W)."""
    return torch.einsum("kc,bchw->kbhw", constant(YUV, pictures), (pictures.float() + 1) / 2)
