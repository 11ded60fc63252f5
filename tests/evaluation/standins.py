"""Networks small enough to see through, in place of the built-in ones."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kyara.evaluation import evaluate
from kyara.evaluation.features import Extractor
from kyara.files.pictures import center_crop
from kyara.models.base import Config, DataConfig


class Tone:
    """Stands in for a tagger: it sees brightness and nothing else."""

    attributes: Mapping[str, tuple[str, ...]] = {"tone": ("dark", "bright")}
    size = (16, 16)

    def fit(self, picture: np.ndarray) -> np.ndarray:
        return center_crop(picture, *self.size)

    def probabilities(self, pictures: Tensor) -> dict[str, Tensor]:
        bright = (pictures.mean((1, 2, 3)) * 20).sigmoid()
        return {"tone": torch.stack([1 - bright, bright], 1)}

    def embed(self, pictures: Tensor) -> Tensor:
        return F.normalize(F.adaptive_avg_pool2d(pictures, 3).flatten(1), dim=1)


class Brightness(nn.Module):
    """Stands in for a recogniser: the brighter, the more whole."""

    def __init__(self) -> None:
        super().__init__()
        self.config = Config(DataConfig(16, 16))
        self.checkpoint = SimpleNamespace(hash="0" * 16)
        self.nothing = nn.Parameter(torch.zeros(1))

    def scores(self, pictures: Tensor) -> Tensor:
        return (pictures.mean((1, 2, 3)) + 1) / 2


@pytest.fixture
def small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    tagger = Tone()

    def extractor(name: str, device: torch.device) -> Extractor:
        return Extractor(name, "0" * 16, device, tagger.embed, tagger.size)

    monkeypatch.setattr(evaluate, "load_extractor", extractor)
    monkeypatch.setattr(evaluate, "load_tagger", lambda name, device: tagger)
    monkeypatch.setattr(evaluate, "load_recogniser", lambda name, device: Brightness())
