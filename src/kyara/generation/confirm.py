"""Confirmation: a tagger checks whether a picture shows the attributes of --where."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from kyara.files.pictures import to_float
from kyara.labels.tagger import load_tagger
from kyara.nn.conditioning import find

Judge = Callable[[Tensor], Tensor]  # Pictures (B, H, W, 3) uint8 -> whether each one shows the attributes, (B,) bool


def load_judge(name: str, wanted: Mapping[str, str], device: torch.device) -> Judge:
    """A judge that accepts a picture if every wanted value is the tagger's most likely value of its attribute. Raises
    ValueError if the tagger `name` does not know an attribute or value."""
    tagger = load_tagger(name, device)
    labels = find(wanted, tagger.attributes, name, f"--confirm {name}")

    @torch.inference_mode()
    def judge(pictures: Tensor) -> Tensor:
        seen = tagger.probabilities(to_float(pictures))  # attribute -> (B, V)
        return torch.stack([seen[name].argmax(1) == label for name, label in labels.items()]).all(0)

    return judge
