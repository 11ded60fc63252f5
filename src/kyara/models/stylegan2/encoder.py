"""An encoder of pictures to w, which StyleGAN2's generator can be trained with."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from kyara.models.stylegan2.config import Config
from kyara.models.stylegan2.discriminator import Trunk
from kyara.nn.layers import ACTIVATION, Linear, compute_dtype, leaky_relu
from kyara.nn.scaling import Use, shared, uses

HIDDEN = 512  # width of the hidden layer
FLOOR = 0.01  # least variance of an element of w, relative to their mean


class Encoder(Trunk):
    """Pictures (B, 3, H, W) in [-1, 1] -> w - mean w (B, w_dim), float32. The convolutions of the discriminator without
    its minibatch deviation, as the encoder of ALAE (Pidhorskyi et al. 2020) is in the space of w."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.decay = config.network.w_avg_beta
        self.hidden = Linear(self.coarsest, HIDDEN, gain=ACTIVATION)
        self.output = Linear(HIDDEN, config.network.w_dim)
        self.variance = nn.Buffer(torch.ones(config.network.w_dim))

    def uses(self, dtype: torch.dtype) -> Iterator[Use]:
        """The weights of its layers, for maps of `dtype`."""
        yield from uses((self.from_rgb, *self.blocks), dtype)
        yield from uses((self.hidden, self.output), torch.float32)

    def forward(self, pictures: Tensor) -> Tensor:
        dtype = compute_dtype(pictures.device)
        with torch.autocast(pictures.device.type, enabled=False), shared(self.uses(dtype)):
            x = self.maps(pictures, dtype)[-1]
            return self.output(leaky_relu(self.hidden(x.float().flatten(1))))

    @torch.no_grad()
    def track(self, offsets: Tensor) -> None:
        """Updates the moving average of the variance from a batch of outputs (B, w_dim), also of a single one."""
        self.variance.lerp_(offsets.square().mean(0), 1 - self.decay)

    @property
    def deviation(self) -> Tensor:
        """Standard deviation (w_dim,) of the elements of w, positive: a moving average, as batches are small."""
        return self.variance.clamp_min(FLOOR * self.variance.mean()).sqrt()
