"""Edge smoothing: drawings without clear lines, fakes for CartoonGAN's discriminator (Chen et al. 2018, section 3.2.1).
Edges are found (Canny) and dilated, and the picture is blurred there only. The same results as OpenCV 4, with its 3 x 3
Sobel, the sum of absolute gradients, and thresholds 100 and 200."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.nn.constants import constant

LOW, HIGH = 100, 200  # low and high threshold of the gradients of grey levels
BLUR = (1.0, 4.0, 6.0, 4.0, 1.0)  # size of the blur and of the dilation
STEPS = 64  # pixels that hysteresis follows a weak edge on a GPU


def grey_levels(pictures: Tensor) -> Tensor:
    """Grey levels 0 to 255, rounded, (B, 1, H, W), of RGB pictures in [-1, 1]."""
    red, green, blue = ((pictures.float() + 1) * 127.5).round().clamp(0, 255).unbind(1)
    return ((9798 * red + 19235 * green + 3735 * blue + 2**14) / 2**15).floor()[:, None]  # OpenCV's fixed-point weights


def canny(grey: Tensor, low: float = LOW, high: float = HIGH) -> Tensor:
    """Edges (B, 1, H, W) bool of grey levels (B, 1, H, W) (Canny 1986)."""
    smooth = constant((1.0, 2.0, 1.0), grey)
    slope = constant((-1.0, 0.0, 1.0), grey)
    kernels = torch.stack([torch.outer(smooth, slope), torch.outer(slope, smooth)])[:, None]
    dx, dy = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), kernels).split(1, dim=1)
    strength = dx.abs() + dy.abs()
    edges = (strength > low) & _ridge(strength, dx, dy)
    return _connected(edges & (strength > high), edges)


def _ridge(strength: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    """Non-maximum suppression along the gradient; of two equal neighbours the second is kept."""
    around = F.pad(strength, (1, 1, 1, 1))
    height, width = strength.shape[2:]

    def at(down: int, right: int) -> Tensor:
        return around[:, :, 1 + down : 1 + down + height, 1 + right : 1 + right + width]

    flat, steep = 0.4142135623730951, 2.414213562373095  # tan 22.5 and 67.5 degrees
    ax, ay = dx.abs(), dy.abs()
    across = (strength > at(0, -1)) & (strength >= at(0, 1))
    along = (strength > at(-1, 0)) & (strength >= at(1, 0))
    falling = (strength > at(-1, -1)) & (strength > at(1, 1))
    rising = (strength > at(-1, 1)) & (strength > at(1, -1))
    diagonal = torch.where((dx < 0) == (dy < 0), falling, rising)
    return torch.where(ay < flat * ax, across, torch.where(ay > steep * ax, along, diagonal))


def _connected(begun: Tensor, edges: Tensor) -> Tensor:
    """Hysteresis: weak edges that are connected to strong ones, also diagonally. A GPU would wait at every step for the
    question whether anything changed; it makes STEPS of them, which is farther than a weak part of an edge is long."""
    if begun.device.type != "cpu":
        return _grown(begun, edges, STEPS)
    while True:
        grown = _wider(begun, 1) & edges
        if torch.equal(grown, begun):
            return begun
        begun = grown


def _grown(begun: Tensor, edges: Tensor, steps: int) -> Tensor:
    """The edges within `steps` pixels of `begun`, along edges."""
    found, within = begun.half(), edges.half()
    for _ in range(steps):
        found = F.max_pool2d(found, 3, 1, 1) * within
    return found > 0


def _wider(marked: Tensor, by: int) -> Tensor:
    """Dilates a mask (B, 1, H, W) bool by `by` pixels, also diagonally."""
    for dim in (2, 3):
        size, wider = marked.shape[dim], marked.clone()
        for step in range(1, min(by, size - 1) + 1):
            wider.narrow(dim, step, size - step).logical_or_(marked.narrow(dim, 0, size - step))
            wider.narrow(dim, 0, size - step).logical_or_(marked.narrow(dim, step, size - step))
        marked = wider
    return marked


def smooth_edges(pictures: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1] blurred around their edges, unchanged elsewhere."""
    reach = len(BLUR) // 2
    if min(pictures.shape[2:]) <= reach:
        return pictures  # too small to mirror
    near = _wider(canny(grey_levels(pictures)), reach)
    padded = F.pad(pictures.float(), (reach,) * 4, mode="reflect")
    row = constant(BLUR, padded)
    kernel = torch.outer(row, row).expand(3, 1, -1, -1) / row.sum() ** 2
    return torch.where(near, F.conv2d(padded, kernel, groups=3), pictures)
