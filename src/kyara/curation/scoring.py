"""Scores of pictures by a network: the probability that a picture is undistorted (Sawada et al.)."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kyara.files.dataset import Dataset
from kyara.files.pictures import center_crop, decode, to_float
from kyara.files.workers import batches
from kyara.models import load
from kyara.models.base import Scorer
from kyara.training.runtime import has_bfloat16

MEMORY = 2**30  # Maximum bytes of picture files that `score_all` caches


def load_scorer(name: str, device: torch.device) -> Scorer:
    """The Scorer of a Checkpoint. Raises ValueError if its model is not a Scorer."""
    model = load(name, device)
    if not isinstance(model, Scorer):
        raise ValueError(f"{name}: a {model.checkpoint.model}, but a scorer is needed, such as builtin:distortion")
    return model


def crop(picture: np.ndarray, scorer: Scorer) -> np.ndarray:
    """Crops and resizes a picture (H, W, 3) uint8 to the scorer's training size. Every verb uses this function, so that
    scores agree."""
    return center_crop(picture, scorer.config.data.width, scorer.config.data.height)


@torch.inference_mode()
def score(pictures: Tensor, scorer: Scorer) -> Tensor:
    """The scores of pictures (B, 3, H, W) in [-1, 1]: (B,) float32 on the CPU. Computed in bfloat16 where the device
    supports it: two to three times as fast, and within 0.02 of float32 (on faces)."""
    device = next(scorer.parameters()).device
    with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
        return scorer.scores(pictures.to(device)).float().cpu()


def score_pictures(pictures: Tensor | Sequence[np.ndarray], scorer: Scorer) -> list[float]:
    """The scores of pictures of any size, each (H, W, 3) uint8; those in a tensor of the scorer's size stay on their
    device."""
    data = scorer.config.data
    if not isinstance(pictures, Tensor) or pictures.shape[1:3] != (data.height, data.width):
        arrays = pictures.cpu().numpy() if isinstance(pictures, Tensor) else pictures
        cropped = np.stack([crop(picture, scorer) for picture in arrays])
        pictures = torch.from_numpy(cropped).to(next(scorer.parameters()).device)
    scores: list[float] = score(to_float(pictures), scorer).tolist()
    return scores


def score_all(
    dataset: Dataset,
    scorer: Scorer,
    *,
    batch: int,
    workers: int,
    failed: dict[int, Exception],
    contents: dict[int, bytes] | None = None,
) -> array[float]:
    """The score of every picture; NaN for unreadable ones, which are added to `failed`. If `contents` is given, file
    contents are cached there, up to `MEMORY` bytes in total."""
    scores = array("d", [float("nan")]) * len(dataset)
    data = scorer.config.data
    enough = 2 * max(data.width, data.height)  # decode large JPEGs at a reduced size
    free = MEMORY

    def load(i: int) -> tuple[bytes, np.ndarray]:
        content = dataset.read(i)
        return content, crop(decode(content, f"{dataset.location(i)}", at_least=enough), scorer)

    for indices, loaded in batches(load, range(len(dataset)), batch=batch, workers=workers, failed=failed):
        values = score_pictures([picture for _, picture in loaded], scorer)
        for i, value, (content, _) in zip(indices, values, loaded, strict=True):
            scores[i] = value
            if contents is not None and len(content) <= free:
                contents[i] = content
                free -= len(content)
    return scores
