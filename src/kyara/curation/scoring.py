"""Scores of pictures by a network: the probability that a picture is undistorted (Sawada et al.)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from kyara.files.dataset import Dataset
from kyara.files.pictures import center_crop, decode, to_float
from kyara.files.workers import batches, lookahead, processors
from kyara.models import load
from kyara.models.base import Model, Scorer
from kyara.training.inference import batches_ahead, fit_batch, move, start_copy
from kyara.training.runtime import has_bfloat16

BATCH, GPU_BATCH = 64, 256  # Batch size on a CPU, and the largest one on a GPU
MEMORY = 2**30  # Maximum bytes of picture files that `measure_batches` caches

Loaded = tuple[bytes, np.ndarray]  # A picture's file, and the picture at the scorer's size


def load_scorer(name: str, device: torch.device) -> Scorer:
    """The Scorer of a Checkpoint. Raises ValueError if its model is not a Scorer."""
    model = load(name, device)
    if not isinstance(model, Scorer):
        raise ValueError(f"{name}: a {model.checkpoint.model}, but a scorer is needed, such as builtin:distortion")
    return model


def crop(picture: np.ndarray, model: Model) -> np.ndarray:
    """Crops and resizes a picture (H, W, 3) uint8 to the model's training size. Every verb uses this function, so that
    scores agree."""
    return center_crop(picture, model.config.data.width, model.config.data.height)


@torch.inference_mode()
def score(pictures: Tensor, scorer: Scorer) -> Tensor:
    """The scores of pictures (B, 3, H, W) in [-1, 1]: (B,) float32 on the scorer's device. Computed in bfloat16 where
    the device supports it: two to three times as fast, and within 0.02 of float32 (on faces)."""
    device = _device(scorer)
    with half_precision(device):
        return scorer.scores(pictures.to(device)).float()


def half_precision(device: torch.device) -> torch.autocast:
    """Computes in bfloat16 where the device supports it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device))


def _device(model: Model) -> torch.device:
    return next(model.parameters()).device


def batch_size(scorer: Scorer) -> int:
    """The number of pictures to score at once: 64 on a CPU, on a GPU up to 256, as its memory allows."""
    data, device = scorer.config.data, _device(scorer)

    def run(count: int) -> Tensor:
        return score(torch.zeros(count, 3, data.height, data.width, device=device), scorer)

    return fit_batch(run, device, cpu=BATCH, most=GPU_BATCH)


def fitted(pictures: Tensor | Sequence[np.ndarray], model: Model) -> Tensor:
    """Pictures of any size, each (H, W, 3) uint8, at the model's size on its device; those in a tensor that have this
    size stay where they are."""
    data = model.config.data
    if isinstance(pictures, Tensor) and pictures.shape[1:3] == (data.height, data.width):
        return pictures
    arrays = pictures.cpu().numpy() if isinstance(pictures, Tensor) else pictures
    with ThreadPoolExecutor(processors()) as pool:  # it resizes in C
        cropped = np.stack([*pool.map(lambda picture: crop(picture, model), arrays)])
    return move(torch.from_numpy(cropped), _device(model))


def score_pictures(pictures: Tensor | Sequence[np.ndarray], scorer: Scorer) -> list[float]:
    """The scores of pictures of any size, each (H, W, 3) uint8."""
    scores: list[float] = score(to_float(fitted(pictures, scorer)), scorer).tolist()
    return scores


Measure = Callable[[Tensor], Tensor]
"""Numbers (B, C) of pictures (B, 3, H, W) in [-1, 1] at the model's size, on its device."""


def measure_all(
    dataset: Dataset,
    scorer: Scorer,
    measure: Measure,
    *,
    batch: int | None,
    workers: int,
    failed: dict[int, Exception],
    contents: dict[int, bytes] | None = None,
    indices: range | None = None,
) -> np.ndarray:
    """A row (C) of `measure` for every picture, or for those of `indices`, float32; NaN for unreadable ones. By default
    `batch` is `batch_size`; the other options are those of `measure_batches`."""
    wanted = range(len(dataset)) if indices is None else indices
    table = np.full((len(wanted), 1), np.nan, np.float32)
    batch = batch or batch_size(scorer)
    groups = measure_batches(
        dataset, scorer, measure, batch=batch, workers=workers, failed=failed, contents=contents, indices=wanted
    )
    for numbers, rows in groups:
        if table.shape[1] != rows.shape[1]:  # the first batch
            table = np.full((len(wanted), rows.shape[1]), np.nan, np.float32)
        table[np.array(numbers) - wanted.start] = rows
    return table


def measure_batches(
    dataset: Dataset,
    model: Model,
    measure: Measure,
    *,
    batch: int,
    workers: int,
    failed: dict[int, Exception],
    contents: dict[int, bytes] | None = None,
    indices: range | None = None,
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yields indices (B) and rows (B, C) of `measure`, float32, of the readable pictures in order, or of those of
    `indices`; the others are added to `failed`. If `contents` is given, file contents are cached there, up to `MEMORY`
    bytes in total."""
    data = model.config.data
    enough = 2 * max(data.width, data.height)  # decode large JPEGs at a reduced size
    free = MEMORY - sum(map(len, (contents or {}).values()))  # earlier calls may have filled it

    def load(i: int) -> Loaded:
        content = dataset.read(i)
        return content, crop(decode(content, f"{dataset.location(i)}", at_least=enough), model)

    def start(group: tuple[list[int], list[Loaded]]) -> tuple[list[int], list[bytes], Callable[[], list[Tensor]]]:
        numbers, found = group
        pictures = fitted([picture for _, picture in found], model)
        return numbers, [content for content, _ in found], start_copy(measure(to_float(pictures)))

    wanted = range(len(dataset)) if indices is None else indices
    groups = batches(load, wanted, batch=batch, workers=workers, failed=failed)
    for numbers, files, wait in lookahead(map(start, groups), batches_ahead(_device(model))):
        for i, content in zip(numbers, files, strict=True):
            if contents is not None and len(content) <= free:
                contents[i] = content
                free -= len(content)
        yield numbers, wait()[0].numpy()
