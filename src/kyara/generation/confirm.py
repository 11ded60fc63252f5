"""Confirming: a tagger looks at what was made and says whether it shows what was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch

from kyara.files.pictures import to_float

TRIES = 10
"""Pictures made at most for each one that is asked for."""

Judge = Callable[[np.ndarray], list[bool]]
"""Whether each picture of (B, H, W, 3) uint8 shows what was asked for."""


def load_judge(name: str, asked: Mapping[str, str], device: torch.device) -> Judge:
    """A judge that is satisfied where the tagger `name` finds each asked value the likeliest of its attribute.
    ValueError if the tagger does not know an attribute or value."""
    from kyara.labels.tagger import load_tagger

    tagger = load_tagger(name, device)
    for attribute, value in asked.items():
        if attribute not in tagger.attributes:
            raise ValueError(f"--confirm {name}: cannot tell {attribute}; it tells {', '.join(tagger.attributes)}")
        if value not in tagger.attributes[attribute]:
            known = ", ".join(tagger.attributes[attribute])
            raise ValueError(f"--confirm {name}: cannot tell {attribute}={value}; it tells {attribute} as {known}")
    wanted = {attribute: list(tagger.attributes[attribute]).index(value) for attribute, value in asked.items()}

    @torch.inference_mode()
    def judge(pictures: np.ndarray) -> list[bool]:
        seen = tagger.probabilities(to_float(pictures).to(device))  # attribute -> (B, V)
        shown = [seen[attribute].argmax(1) == label for attribute, label in wanted.items()]
        satisfied: list[bool] = torch.stack(shown).all(0).tolist()
        return satisfied

    return judge
