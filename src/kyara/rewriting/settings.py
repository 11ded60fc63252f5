"""Numbers of rewriting that the command line shows, without importing torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Memory = Literal["nonlinear", "linear"]
MAX_STRENGTH = 10.0  # of a rule
EXTRA_IMAGES = 384
"""Random pictures in which the masked place is searched. With a few, these are memorised and all others change."""


@dataclass(frozen=True)
class Settings:
    """How a nonlinear memory is trained."""

    p: float = 1.0  # weight of old values outside the pattern
    q: float = 0.3  # weight of new values inside the pattern
    inside: float = 7.5  # weight of the mean absolute error of pixels in [-1, 1] inside the pattern; 0 disables it
    outside: float = 20.0  # the same outside, averaged over the picture
    steps: int = 600
    """Steps of Muon (Jordan et al. 2024), which moves all directions of a kernel at the same rate, also those with
    small gradients."""
    lr: float = 0.007
    """Step size in standard deviations of the kernels; cosine decay to zero. Half the steps at twice the rate teach as
    much, and change more outside."""
