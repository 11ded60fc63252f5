"""Building blocks that several architectures share. All are pure torch, twice differentiable, and follow the input's
dtype and memory layout: a network that is fed bfloat16 in channels_last stays there."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kyara.nn.epilogue import SLOPE, bias_leaky_relu, fuses
from kyara.nn.filters import blur, downsample, pad_even
from kyara.nn.scaling import Use, scaled, uses
from kyara.nn.wavelets import haar

ACTIVATION = math.sqrt(2)  # the gain of a layer that a leaky ReLU follows


def compute_dtype(device: torch.device) -> torch.dtype:
    """The dtype of the surrounding autocast, float32 outside one."""
    kind = device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32


def leaky_relu(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2, in place: no gradient needs its input. StyleGAN2's gain of sqrt(2) is in the weights of
    the layer before (`gain=ACTIVATION`), which saves a pass over the activations."""
    return F.leaky_relu(x, SLOPE, inplace=True)


class Linear(nn.Module):
    """Fully connected layer with equalised learning rate (Karras et al. 2018, section 4.1): weights are stored with
    unit variance and scaled when used. The output is scaled by `gain`. (B, in) -> (B, out)."""

    def __init__(self, inputs: int, outputs: int, *, bias: float = 0.0, lr: float = 1.0, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr)
        self.bias = nn.Parameter(torch.full((outputs,), bias / lr))
        self.weight_gain, self.bias_gain = gain * lr / math.sqrt(inputs), gain * lr

    def uses(self, dtype: torch.dtype) -> Iterator[Use]:
        """Its weights as `scaled` computes them, for an input of `dtype`."""
        yield self.weight, self.weight_gain, dtype
        yield self.bias, self.bias_gain, dtype

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = (scaled(*use) for use in self.uses(x.dtype))
        return F.linear(x, weight, bias)


class Conv(nn.Module):
    """Square convolution with equalised learning rate, the output scaled by `gain`. If `active`, a leaky ReLU follows.
    `down` halves the size after a low-pass filter. (B, in, H, W) -> (B, out, H, W), or half of it; H and W must be even
    then."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        bias: bool = True,
        down: bool = False,
        gain: float = 1.0,
        active: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.weight_gain, self.bias_gain = gain / math.sqrt(inputs * kernel**2), gain
        self.down, self.active = down, active

    def uses(self, dtype: torch.dtype) -> Iterator[Use]:
        yield self.weight, self.weight_gain, dtype
        if self.bias is not None:
            yield self.bias, self.bias_gain, _bias_dtype(self.bias, dtype) if self.active else dtype

    def forward(self, x: Tensor) -> Tensor:
        weight, *biases = (scaled(*use) for use in self.uses(x.dtype))
        bias = biases[0] if biases else None
        if not self.active:
            return self._convolve(x, weight, bias)
        if bias is not None and fuses(x):
            return bias_leaky_relu(self._convolve(x, weight, None), bias)
        return leaky_relu(self._convolve(x, weight, bias))

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        pad = weight.shape[-1] // 2
        if not self.down:
            return F.conv2d(x, weight, bias, padding=pad)
        if pad == 0:  # a pointwise convolution commutes with striding: striding first is cheaper
            return F.conv2d(downsample(x), weight, bias)
        return F.conv2d(blur(x, pad=pad + 1), weight, bias, stride=2)  # (B, out, H / 2, W / 2)


def _bias_dtype(bias: Tensor, dtype: torch.dtype) -> torch.dtype:
    """Of the bias of an active layer for maps of `dtype`: the fused epilogue reads it as it is, which saves casts."""
    return bias.dtype if fuses(bias) else dtype


class FromRGB(nn.Module):
    """First layer of a network that looks at pictures, or at their wavelets. (B, 3, H, W) -> (B, outputs, ceil(H /
    2^wavelets), ceil(W / 2^wavelets)) of `dtype`."""

    def __init__(self, outputs: int, wavelets: int = 0) -> None:
        super().__init__()
        self.wavelets = wavelets
        self.conv = Conv(3 * 4**wavelets, outputs, 3 if wavelets else 1, gain=ACTIVATION, active=True)

    def uses(self, dtype: torch.dtype) -> Iterator[Use]:
        yield from self.conv.uses(dtype)

    def forward(self, pictures: Tensor, dtype: torch.dtype) -> Tensor:
        bands = haar(pad_even(pictures, self.wavelets), self.wavelets)
        return self.conv(bands.to(dtype, memory_format=torch.channels_last))


class ResidualBlock(nn.Module):
    """Residual block with downsampling (Karras et al. 2020, figure 7). (B, in, H, W) -> (B, out, ceil(H / 2), ceil(W /
    2))."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = math.sqrt(0.5)  # gain of each branch, so that the sum preserves the variance
        self.conv0 = Conv(inputs, inputs, 3, gain=ACTIVATION, active=True)
        self.conv1 = Conv(inputs, outputs, 3, down=True, gain=ACTIVATION * half, active=True)
        self.skip = Conv(inputs, outputs, 1, bias=False, down=True, gain=half)

    def uses(self, dtype: torch.dtype) -> Iterator[Use]:
        yield from uses((self.conv0, self.conv1, self.skip), dtype)

    def forward(self, x: Tensor) -> Tensor:
        x = pad_even(x)
        return self.conv1(self.conv0(x)) + self.skip(x)


class ModulatedConv(nn.Module):
    """Modulated convolution (Karras et al. 2020, eq. 1-3), by scaling the input by the style and the output by the
    demodulation, around one ordinary convolution. That is faster than scaling the weights for each picture.

    (B, in, H, W), style (B, in) -> (B, out, H, W), twice the size if `up`. `bias` (out,) is added, with demodulation
    also `noise` (B or 1, 1, H, W) times its `strength` (); the sum is scaled by `gain`, and if `active`, a leaky ReLU
    follows."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        up: bool = False,
        demodulate: bool = True,
        gain: float = 1.0,
        active: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.weight_gain, self.gain = 1 / math.sqrt(inputs * kernel**2), gain
        self.up, self.demodulate, self.active = up, demodulate, active
        self.keys, self.products = nn.Identity(), nn.Identity()  # hook points around the linear part

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """The linear part, with any kernels (out, in, K, K): (B, in, H, W) -> (B, out, H, W), or twice the size."""
        if not self.up:
            return F.conv2d(x, weight.to(x.dtype), padding=weight.shape[-1] // 2)
        x = F.conv_transpose2d(x, weight.to(x.dtype).transpose(0, 1), stride=2)  # (B, out, 2 H + 1, 2 W + 1)
        return blur(x, pad=1, gain=4)  # (B, out, 2 H, 2 W)

    def uses(self, dtype: torch.dtype, bias: Tensor) -> Iterator[Use]:
        yield self.weight, self.weight_gain, dtype
        yield bias, self.gain, _bias_dtype(bias, dtype) if self.active else dtype
        if self.demodulate and dtype != self.weight.dtype:  # its norm is computed in float32
            yield self.weight, self.weight_gain, self.weight.dtype

    def forward(
        self, x: Tensor, style: Tensor, bias: Tensor, noise: Tensor | None = None, strength: Tensor | None = None
    ) -> Tensor:
        weight, bias, *exact = (scaled(*use) for use in self.uses(x.dtype, bias))
        x = self.keys(x * style.to(x.dtype)[:, :, None, None])
        x = self.products(self.convolve(x, weight))
        if not self.demodulate:
            return torch.add(bias[:, None, None], x, alpha=self.gain)
        weight = exact[0] if exact else weight
        power = style.square() @ weight.square().sum((2, 3)).t()  # (B, out)
        scale = torch.rsqrt(power + 1e-8)
        if self.active and fuses(x) and not (noise is not None and noise.requires_grad):
            return bias_leaky_relu(x, bias, scale, noise, strength, self.gain)
        x = torch.addcmul(bias.to(x.dtype)[:, None, None], x, (scale * self.gain).to(x.dtype)[:, :, None, None])
        if noise is not None and strength is not None:
            x = x.add_((noise * strength * self.gain).to(x.dtype))
        return leaky_relu(x) if self.active else x


FOLD = ((1, 1, 0, 0, 0), (0, 0, 1, 1, 0), (0, 0, 0, 0, 1)), ((1, 0, 0, 0, 0), (0, 1, 1, 0, 0), (0, 0, 0, 1, 1))
"""Which of five taps on repeated pixels fall on the pixel before, the same and the next: at even places, and at odd."""


class UpConv(nn.Conv2d):
    """Repeats each pixel twice on both axes, then convolves, 5x5, with the rim repeated. (B, in, H, W) -> (B, out, 2 H,
    2 W). Computed as a 3x3 convolution with summed weights for each of the four places, twice as fast."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 5)
        self.fold = nn.Buffer(torch.tensor(FOLD, dtype=torch.float32), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        assert self.bias is not None
        weight = torch.einsum("yak,xbl,oikl->oyxiab", self.fold, self.fold, self.weight)  # (out, 2, 2, in, 3, 3)
        weight, bias = weight.flatten(0, 2).to(x.dtype), self.bias.repeat_interleave(4).to(x.dtype)
        x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), weight, bias)  # (B, 4 out, H, W)
        return F.pixel_shuffle(x, 2)


def grouped(x: Tensor, group: int) -> Tensor:
    """A batch (B, ...) as groups (group, B / group, ...): every (B / group)-th belongs to the same. If the batch is not
    a multiple, groups are as large as possible."""
    batch = x.shape[0]
    size = next(size for size in range(min(group, batch), 0, -1) if batch % size == 0)
    return x.unflatten(0, (size, -1))


def minibatch_deviation(x: Tensor, group: int) -> Tensor:
    """Appends one map with the mean standard deviation of the features over groups of pictures (Karras et al. 2018,
    section 3): it shows a discriminator a lack of variety. (B, C, H, W) -> (B, C + 1, H, W)."""
    batch, _, height, width = x.shape
    deviation = group_deviation(x, group).mean((1, 2, 3))  # (B / group,)
    rows = deviation.repeat(batch // len(deviation))
    return torch.cat([x, rows[:, None, None, None].expand(-1, 1, height, width).to(x.dtype)], 1)


def group_deviation(x: Tensor, group: int) -> Tensor:
    """Standard deviation of features (B, ...) over groups, in float32: (B / group, ...)."""
    return (grouped(x.float(), group).var(0, correction=0) + 1e-8).sqrt()


class PartialConv(nn.Module):
    """Partial convolution: of known values only, scaled by their share (Liu et al. 2018, equations 1 and 2). Maps (B,
    C, H, W) and a known mask, (B, 1, H, W) or for each channel, 0 or 1 -> maps, and the mask (B, 1, H', W') of those
    with any known input; the others are 0. Beyond the border nothing is known."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.kaiming_normal_(self.conv.weight, 0.2)

    def forward(self, x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        (kernel, _), (stride, _) = self.conv.kernel_size, self.conv.stride
        share = F.avg_pool2d(known.mean(1, keepdim=True), kernel, stride, kernel // 2)  # (B, 1, H', W')
        reached = (share > 0).float()
        x = self.conv(x * known.to(x.dtype))
        scale = reached / share.clamp_min(1e-6)
        return x * scale.to(x.dtype) + (self.bias[:, None, None] * reached).to(x.dtype), reached


def spread(x: Tensor, known: Tensor) -> Tensor:
    """Continues maps (B, C, H, W) smoothly where their mask (B, 1, H, W) is 0: with the mean of known values at half
    the size, a quarter, ..., the first that has any (pull-push, Gortler et al. 1996)."""
    height, width = x.shape[2:]
    if max(height, width) == 1:
        return x * known
    x_even, known_even = (F.pad(m, (0, width % 2, 0, height % 2)) for m in (x * known, known))
    share = F.avg_pool2d(known_even, 2)  # (B, 1, H / 2, W / 2)
    coarse = spread(F.avg_pool2d(x_even, 2) / share.clamp_min(0.25), (share > 0).to(known.dtype))
    return torch.where(known > 0, x, F.interpolate(coarse, scale_factor=2, mode="bilinear")[:, :, :height, :width])


class PatchDiscriminator(nn.Sequential):
    """PatchGAN discriminator: pictures (B, 3, H, W) -> logits (B, 1, h, w). Each of the widths halves the size."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise((3, *widths)):
            layers += [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        super().__init__(*layers, nn.Conv2d(widths[-1], 1, 3, 1, 1))
        for layer in self:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, 0.2)
