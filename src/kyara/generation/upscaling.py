"""Enlarges generated pictures with a model such as builtin:upscaler."""

from __future__ import annotations

import torch
from torch import Tensor

from kyara import models
from kyara.files import checkpoint
from kyara.files.names import printable
from kyara.files.pictures import quantise, to_float
from kyara.generation.character import UPSCALER, is_character
from kyara.models.base import Translator
from kyara.training.inference import reproducible
from kyara.training.runtime import has_bfloat16


def option(large: bool, generator: str) -> str | None:
    """The value of --upscale with which pictures of a generator are enlarged by `UPSCALER`, or not; None by default."""
    return None if large == is_character(generator) else UPSCALER if large else "none"


class Upscaling:
    """Enlarges pictures (B, H, W, 3) uint8."""

    def __init__(self, name: str, device: torch.device) -> None:
        """Raises ValueError if the model `name` does not enlarge pictures."""
        found, network = checkpoint.read(name), models.load(name, device).requires_grad_(False)
        if not isinstance(network, Translator) or network.scale == 1:
            hint = f"{UPSCALER} does"
            raise ValueError(f"--upscale {printable(name)}: {found.model} does not enlarge pictures; {hint}")
        self.network, self.device = network, device
        self.recipe = {"upscaled_by": {"model": name, "checkpoint": found.hash}}  # added to those of the pictures

    @torch.inference_mode()
    def __call__(self, pictures: Tensor) -> Tensor:
        bfloat16 = torch.autocast(self.device.type, torch.bfloat16, enabled=has_bfloat16(self.device))  # as `translate`
        with reproducible(self.device), bfloat16:  # one by one, so that a picture does not depend on the others
            return torch.cat([quantise(self.network.translate(to_float(one))) for one in pictures.split(1)])
