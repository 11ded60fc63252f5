"""ConvNeXt (Liu et al. 2022, "A ConvNet for the 2020s"), with the names of its tensors in transformers. Written out
here because importing transformers' takes longer than scoring a thousand pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STD = 0.02  # Standard deviation of the initial weights


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): in training, skips a residual block for a random share of the pictures."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and self.probability):
            return x
        keep = 1 - self.probability
        kept = torch.floor(torch.rand(len(x), 1, 1, 1, dtype=x.dtype, device=x.device) + keep)
        return x.div(keep) * kept


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of maps (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """Residual block: depthwise 7 x 7 convolution, normalisation, two pointwise layers. (B, C, H, W) -> the same."""

    def __init__(self, channels: int, drop_path: float, layer_scale: float) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.layernorm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.pwconv2 = nn.Linear(4 * channels, channels)
        self.layer_scale_parameter = nn.Parameter(layer_scale * torch.ones(channels)) if layer_scale > 0 else None
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layernorm(self.dwconv(x).permute(0, 2, 3, 1))  # (B, H, W, C)
        y = self.pwconv2(F.gelu(self.pwconv1(y)))
        if self.layer_scale_parameter is not None:
            y = self.layer_scale_parameter * y
        return x + self.drop_path(y.permute(0, 3, 1, 2))


class Stage(nn.Module):
    """Blocks, after a convolution that halves the size unless it is the first stage."""

    def __init__(self, inputs: int, outputs: int, drop_paths: list[float], layer_scale: float, first: bool) -> None:
        super().__init__()
        halving = [] if first else [ChannelNorm(inputs, eps=1e-6), nn.Conv2d(inputs, outputs, 2, 2)]
        self.downsampling_layer = nn.Sequential(*halving)
        self.layers = nn.Sequential(*(Block(outputs, rate, layer_scale) for rate in drop_paths))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layers(self.downsampling_layer(x))
        return found


class ConvNeXt(nn.Module):
    """The network without a head, of the numbers of a NetworkConfig: `patch_size`, `depths`, `widths`, `layer_scale`
    and perhaps `drop_path`. Pictures (B, 3, H, W) -> features (B, F)."""

    def __init__(self, network: Mapping[str, Any]) -> None:
        super().__init__()
        widths, depths, patch = network["widths"], network["depths"], network["patch_size"]
        embed, norm = nn.Conv2d(3, widths[0], patch, patch), ChannelNorm(widths[0], eps=1e-6)
        self.embeddings = nn.Sequential()
        self.embeddings.add_module("patch_embeddings", embed)
        self.embeddings.add_module("layernorm", norm)
        rates = torch.linspace(0, network.get("drop_path", 0.0), sum(depths), device="cpu").split(list(depths))
        self.encoder = nn.Module()
        self.encoder.stages = nn.ModuleList(
            Stage(widths[max(i - 1, 0)], width, rates[i].tolist(), network["layer_scale"], first=i == 0)
            for i, width in enumerate(widths)
        )
        self.encoder.apply(initialise)
        self.layernorm = nn.LayerNorm(widths[-1], eps=1e-12)
        self.embeddings.apply(initialise)

    def stages(self, pictures: Tensor, count: int | None = None) -> list[Tensor]:
        """The output of each stage, or of the first `count`, (B, C, H / n, W / n), the finest first, of pictures (B, 3,
        H, W) in [-1, 1]."""
        x, maps = self.embeddings(pictures.contiguous(memory_format=torch.channels_last)), []
        for stage in self.encoder.stages[:count]:  # type: ignore[index]
            x = stage(x)
            maps.append(x)
        return maps

    def forward(self, pictures: Tensor) -> Tensor:
        features: Tensor = self.layernorm(self.stages(pictures)[-1].mean([-2, -1]))
        return features


class Classifier(nn.Module):
    """A ConvNeXt and one linear layer. Pictures (B, 3, H, W) -> logits (B, classes)."""

    def __init__(self, network: Mapping[str, Any], classes: int) -> None:
        super().__init__()
        self.convnext = ConvNeXt(network)
        self.classifier = nn.Linear(network["widths"][-1], classes)
        initialise(self.classifier)

    def forward(self, pictures: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.convnext(pictures))
        return logits


def initialise(module: nn.Module) -> None:
    """The initial weights of linear layers and convolutions."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.normal_(module.weight, std=STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
