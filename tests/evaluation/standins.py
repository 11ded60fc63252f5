"""Small networks in place of the built-in ones."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kyara.evaluation import scores
from kyara.evaluation.features import FeatureExtractor
from kyara.files.pictures import center_crop
from kyara.models.base import Config, DataConfig


class Tone:
    """A tagger that measures brightness alone."""

    attributes: Mapping[str, tuple[str, ...]] = {"tone": ("dark", "bright")}
    size = (16, 16)
    device = torch.device("cpu")

    def fit(self, picture: np.ndarray) -> np.ndarray:
        return center_crop(picture, *self.size)

    def probabilities(self, pictures: Tensor) -> dict[str, Tensor]:
        bright = (pictures.mean((1, 2, 3)) * 20).sigmoid()
        return {"tone": torch.stack([1 - bright, bright], 1)}

    def embed(self, pictures: Tensor) -> Tensor:
        return F.normalize(F.adaptive_avg_pool2d(pictures, 3).flatten(1), dim=1)


class Brightness(nn.Module):
    """A recogniser: the brighter, the higher the score."""

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

    def extractor(name: str, device: torch.device) -> FeatureExtractor:
        return FeatureExtractor(name, "0" * 16, device, tagger.embed, tagger.size)

    monkeypatch.setattr(scores, "load_extractor", extractor)
    monkeypatch.setattr(scores, "load_tagger", lambda name, device: tagger)
    monkeypatch.setattr(scores, "load_scorer", lambda name, device: Brightness())
