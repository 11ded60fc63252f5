"""StyleGAN2 as the paper writes it down, in the slow and plain form, and the files that other programs make of it.

Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN": section 2.2 (modulation, demodulation by
grouped convolution), section 4.1 (skip generator, residual discriminator); equalised learning rates and the minibatch
deviation from Karras et al. 2018, section 4.1 and 3. Names of modules and attributes are those the files force.
"""

from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Z, W, LAYERS, SIZES, CHANNELS = 12, 10, 2, (4, 8, 16), {4: 16, 8: 16, 16: 8}
SOURCE = "raise SystemExit('source code out of a file was run')"


def lrelu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2) * 2**0.5


def fir(x: Tensor, before: int, after: int, gain: float = 1.0) -> Tensor:
    """The low-pass filter [1, 3, 3, 1] along both sides."""
    row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    kernel = (torch.outer(row, row) * gain).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(F.pad(x, (before, after, before, after)), kernel, groups=x.shape[1])


def stuff(x: Tensor) -> Tensor:
    """Zeros between the pixels."""
    wide = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    wide[:, :, ::2, ::2] = x
    return wide


def modulated(x: Tensor, weight: Tensor, style: Tensor, *, up: bool = False, demodulate: bool = True) -> Tensor:
    """Equations 1 and 3: a kernel for each picture."""
    scaled = weight[None] * style[:, None, :, None, None]  # (B, out, in, k, k)
    if demodulate:
        scaled = scaled / (scaled.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
    pad = weight.shape[-1] // 2
    if up:  # a transposed convolution of stride 2 is one of the stuffed signal with the kernel turned around
        x, scaled, pad = F.pad(stuff(x), (2, 1, 2, 1)), scaled.flip(3, 4), 0
    batch, outputs, inputs, k, _ = scaled.shape
    y = F.conv2d(x.reshape(1, -1, *x.shape[2:]), scaled.reshape(-1, inputs, k, k), padding=pad, groups=batch)
    y = y.reshape(batch, outputs, *y.shape[2:])
    return fir(y, 1, 1, gain=4) if up else y


class Part(nn.Module):
    """A module that pickles as a persistent class does: its state beside the source code of its program."""

    def __reduce__(self) -> tuple[Any, ...]:
        make = sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj
        about = {"type": "class", "version": 6, "module_src": SOURCE, "class_name": type(self).__name__}
        return make, ({**about, "state": self.__dict__},), None

    def filter(self) -> None:
        row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("resample_filter", torch.outer(row, row))


class FullyConnectedLayer(Part):
    def __init__(self, inputs: int, outputs: int, activation: str = "linear", lr: float = 1, bias: float = 0) -> None:
        super().__init__()
        self.activation, self.weight_gain, self.bias_gain = activation, lr / np.sqrt(inputs), lr
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr)
        self.bias = nn.Parameter(bias + torch.randn(outputs) * 0.3 / lr)

    def forward(self, x: Tensor) -> Tensor:
        y = x @ (self.weight * self.weight_gain).t() + self.bias * self.bias_gain
        return lrelu(y) if self.activation == "lrelu" else y


class MappingNetwork(Part):
    def __init__(self) -> None:
        super().__init__()
        self.c_dim, self.w_avg_beta = 0, 0.998
        for i in range(LAYERS):
            setattr(self, f"fc{i}", FullyConnectedLayer(W if i else Z, W, "lrelu", 0.01))
        self.register_buffer("w_avg", torch.randn(W))

    def forward(self, z: Tensor) -> Tensor:
        x = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
        for i in range(LAYERS):
            x = getattr(self, f"fc{i}")(x)
        return x


class SynthesisLayer(Part):
    def __init__(self, inputs: int, outputs: int, size: int, up: int = 1) -> None:
        super().__init__()
        self.activation, self.act_gain, self.use_noise = "lrelu", np.sqrt(2), True
        self.up, self.padding, self.conv_clamp = up, 1, 256
        self.filter()
        self.affine = FullyConnectedLayer(W, inputs, bias=1)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3).contiguous(memory_format=torch.channels_last))
        self.bias = nn.Parameter(torch.randn(outputs))
        self.noise_strength = nn.Parameter(torch.randn(()))
        self.register_buffer("noise_const", torch.randn(size, size))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        y = modulated(x, self.weight, self.affine(w), up=self.up == 2)
        return lrelu(y + self.noise_const * self.noise_strength + self.bias[:, None, None])


class ToRGBLayer(Part):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv_clamp, self.weight_gain = 256, 1 / np.sqrt(inputs)
        self.affine = FullyConnectedLayer(W, inputs, bias=1)
        self.weight = nn.Parameter(torch.randn(3, inputs, 1, 1))
        self.bias = nn.Parameter(torch.randn(3))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        y = modulated(x, self.weight * self.weight_gain, self.affine(w), demodulate=False)
        return y + self.bias[:, None, None]


class SynthesisBlock(Part):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.architecture = "skip"
        self.filter()
        if size == 4:
            self.const = nn.Parameter(torch.randn(CHANNELS[4], 4, 4))
        else:
            self.conv0 = SynthesisLayer(CHANNELS[size // 2], CHANNELS[size], size, up=2)
        self.conv1 = SynthesisLayer(CHANNELS[size], CHANNELS[size], size)
        self.torgb = ToRGBLayer(CHANNELS[size])


class SynthesisNetwork(Part):
    def __init__(self) -> None:
        super().__init__()
        self.img_channels = 3
        for size in SIZES:
            setattr(self, f"b{size}", SynthesisBlock(size))

    def forward(self, w: Tensor) -> Tensor:
        x = self.b4.conv1(self.b4.const.expand(len(w), -1, -1, -1), w)
        picture = self.b4.torgb(x, w)
        for size in SIZES[1:]:
            block = getattr(self, f"b{size}")
            x = block.conv1(block.conv0(x, w), w)
            picture = fir(stuff(picture), 2, 1, gain=4) + block.torgb(x, w)
        return picture


class Generator(Part):
    def __init__(self) -> None:
        super().__init__()
        self.c_dim, self.img_channels = 0, 3
        self.synthesis, self.mapping = SynthesisNetwork(), MappingNetwork()

    def forward(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        return self.synthesis(self.mapping.w_avg.lerp(self.mapping(z), truncation))


class Conv2dLayer(Part):
    def __init__(self, inputs: int, outputs: int, kernel: int, down: int = 1, linear: bool = False) -> None:
        super().__init__()
        self.activation, self.act_gain = ("linear", 1) if linear else ("lrelu", np.sqrt(2))
        self.up, self.down, self.padding, self.conv_clamp = 1, down, kernel // 2, None if linear else 256
        self.weight_gain = 1 / np.sqrt(inputs * kernel**2)
        self.filter()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        if linear:
            self.bias = None
        else:
            self.register_buffer("bias", torch.randn(outputs))  # a buffer, as in a layer that training leaves alone

    def forward(self, x: Tensor) -> Tensor:
        weight, pad = self.weight * self.weight_gain, self.padding
        if self.down == 2:
            x = fir(x, pad + 1, pad + 1)
            y = F.conv2d(x, weight, stride=2)
        else:
            y = F.conv2d(x, weight, padding=pad)
        return y if self.bias is None else lrelu(y + self.bias[:, None, None])


class DiscriminatorBlock(Part):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.architecture = "resnet"
        self.filter()
        inputs, outputs = CHANNELS[size], CHANNELS[size // 2]
        if size == SIZES[-1]:
            self.fromrgb = Conv2dLayer(3, inputs, 1)
        self.conv0, self.conv1 = Conv2dLayer(inputs, inputs, 3), Conv2dLayer(inputs, outputs, 3, down=2)
        self.skip = Conv2dLayer(inputs, outputs, 1, down=2, linear=True)

    def forward(self, x: Tensor) -> Tensor:
        return (self.conv1(self.conv0(x)) + self.skip(x)) / 2**0.5


class MinibatchStdLayer(Part):
    def __init__(self) -> None:
        super().__init__()
        self.group_size, self.num_channels = 4, 1

    def forward(self, x: Tensor) -> Tensor:
        groups = x.reshape(4, -1, *x.shape[1:])
        deviation = (groups.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))
        return torch.cat([x, deviation.repeat(4)[:, None, None, None].expand(-1, 1, *x.shape[2:])], 1)


class DiscriminatorEpilogue(Part):
    def __init__(self) -> None:
        super().__init__()
        self.architecture, self.cmap_dim, channels = "resnet", 0, CHANNELS[4]
        self.mbstd, self.conv = MinibatchStdLayer(), Conv2dLayer(channels + 1, channels, 3)
        self.fc, self.out = FullyConnectedLayer(channels * 16, channels, "lrelu"), FullyConnectedLayer(channels, 1)


class Discriminator(Part):
    def __init__(self) -> None:
        super().__init__()
        self.c_dim, self.img_channels = 0, 3
        for size in SIZES[:0:-1]:
            setattr(self, f"b{size}", DiscriminatorBlock(size))
        self.b4 = DiscriminatorEpilogue()

    def forward(self, pictures: Tensor) -> Tensor:
        x = getattr(self, f"b{SIZES[-1]}").fromrgb(pictures)
        for size in SIZES[:0:-1]:
            x = getattr(self, f"b{size}")(x)
        x = self.b4.fc(self.b4.conv(self.b4.mbstd(x)).flatten(1))
        return self.b4.out(x).squeeze(1)


def networks() -> tuple[Generator, Discriminator]:
    torch.manual_seed(0)
    return Generator().requires_grad_(False), Discriminator().requires_grad_(False)


# The files.


class EasyDict(dict):  # type: ignore[type-arg]
    """The table that NVIDIA's files keep settings in."""


def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets pickles name what is only there when NVIDIA's programs are."""
    persistence, util = types.ModuleType("torch_utils.persistence"), types.ModuleType("dnnlib.util")

    def _reconstruct_persistent_obj(meta: Any) -> None: ...

    for module, thing in ((persistence, _reconstruct_persistent_obj), (util, EasyDict)):
        thing.__module__, thing.__qualname__ = module.__name__, thing.__name__
        setattr(module, thing.__name__, thing)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(sys.modules, module.__name__.split(".")[0], types.ModuleType("package"))


def nvidia_file(path: Path, generator: nn.Module, critic: nn.Module | None, protocol: int = 4) -> Path:
    """A snapshot as NVIDIA's programs write it."""
    about = EasyDict(class_name="training.dataset.ImageFolderDataset", path="faces.zip")
    snapshot = {"training_set_kwargs": about, "G": generator, "D": critic, "G_ema": generator, "augment_pipe": None}
    path.write_bytes(pickle.dumps(snapshot, protocol))
    return path


def rosinality_tables(generator: Generator, critic: Discriminator) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The same networks as rosinality's tables of tensors."""
    row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    blur = torch.outer(row, row)
    g: dict[str, Tensor] = {"input.input": generator.synthesis.b4.const[None]}
    d: dict[str, Tensor] = {}
    for i in range(LAYERS):
        layer = getattr(generator.mapping, f"fc{i}")
        g |= {f"style.{i + 1}.weight": layer.weight, f"style.{i + 1}.bias": layer.bias}

    def modulation(name: str, layer: Any) -> None:
        g[f"{name}.conv.weight"] = layer.weight[None]
        g[f"{name}.conv.modulation.weight"], g[f"{name}.conv.modulation.bias"] = layer.affine.weight, layer.affine.bias

    def styled(name: str, layer: SynthesisLayer, number: int) -> None:
        modulation(name, layer)
        g[f"{name}.noise.weight"], g[f"{name}.activate.bias"] = layer.noise_strength[None], layer.bias
        g[f"noises.noise_{number}"] = layer.noise_const[None, None]
        if layer.up == 2:
            g[f"{name}.conv.blur.kernel"] = blur * 4

    def rgb(name: str, layer: ToRGBLayer) -> None:
        modulation(name, layer)
        g[f"{name}.bias"] = layer.bias[None, :, None, None]

    def conv(name: str, layer: Conv2dLayer) -> None:
        first = 1 if layer.down == 2 else 0
        if first:
            d[f"{name}.0.kernel"] = blur
        d[f"{name}.{first}.weight"] = layer.weight
        if layer.bias is not None:
            d[f"{name}.{first + 1}.bias"] = layer.bias

    styled("conv1", generator.synthesis.b4.conv1, 0)
    rgb("to_rgb1", generator.synthesis.b4.torgb)
    for i, size in enumerate(SIZES[1:]):
        block = getattr(generator.synthesis, f"b{size}")
        styled(f"convs.{2 * i}", block.conv0, 2 * i + 1)
        styled(f"convs.{2 * i + 1}", block.conv1, 2 * i + 2)
        rgb(f"to_rgbs.{i}", block.torgb)
        g[f"to_rgbs.{i}.upsample.kernel"] = blur * 4
    conv("convs.0", getattr(critic, f"b{SIZES[-1]}").fromrgb)
    for i, size in enumerate(SIZES[:0:-1], 1):
        block = getattr(critic, f"b{size}")
        for theirs, layer in (("conv1", block.conv0), ("conv2", block.conv1), ("skip", block.skip)):
            conv(f"convs.{i}.{theirs}", layer)
    conv("final_conv", critic.b4.conv)
    for i, layer in enumerate((critic.b4.fc, critic.b4.out)):
        d |= {f"final_linear.{i}.weight": layer.weight, f"final_linear.{i}.bias": layer.bias}
    return {k: v.detach().clone() for k, v in g.items()}, {k: v.detach().clone() for k, v in d.items()}
