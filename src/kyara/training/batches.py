"""Batches for training, and the fixed pictures for evaluation during training."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from kyara.files import face_boxes
from kyara.files.dataset import Dataset
from kyara.files.pictures import to_float
from kyara.files.stream import Sharing, Stream
from kyara.models.base import Batch, Model
from kyara.training.distributed import neighbours
from kyara.training.trainer import Options

MEASURED = 512  # number of pictures for evaluation


class Batches:
    """Batches of one dataset, of two unpaired ones, or, without a dataset, of black pictures."""

    def __init__(self, model: Model, dataset: Dataset | None, photos: Dataset | None, *, workers: int = 2) -> None:
        self.model, self.photos, self.workers = model, photos, workers
        holdout = model.data_spec.holdout
        self.training, self.measured = dataset.split(holdout) if dataset and holdout else (dataset, dataset)

    def stream(self, options: Options, fabric: Fabric, start: int) -> Iterator[Batch]:
        """An infinite iterator over this rank's part of every batch, starting after `start` pictures."""
        config, share = self.model.config, options.batch // fabric.world_size
        if self.training is None:
            black = torch.zeros(share, 3, config.data.height, config.data.width, device=fabric.device)
            return itertools.repeat(Batch(black))
        stream = functools.partial(
            Stream, width=config.data.width, height=config.data.height, batch=options.batch, mirror=options.mirror,
            rank=fabric.global_rank, world=fabric.world_size, workers=self.workers, start=start,
            sharing=Sharing(fabric.local_rank, *neighbours(fabric)),
        )  # fmt: skip
        spec = self.model.data_spec
        reals = stream(
            self.training, seed=options.seed, values=config.data.attributes, points=spec.points > 0, boxes=spec.boxes
        )
        if self.photos is None:
            alone = (
                Batch(r.pictures, labels=r.labels, points=r.points, faces=r.faces, mirrored=r.mirrored) for r in reals
            )
            return copied(alone, fabric.device)
        photos = stream(self.photos, seed=options.seed + 1, values={})  # a different order: unpaired
        both = zip(reals, photos, strict=True)
        return copied((Batch(r.pictures, labels=r.labels, photos=p.pictures) for r, p in both), fabric.device)

    def fixed(self) -> Batch:
        """A fixed batch for evaluation: up to MEASURED evenly spaced pictures, and as many photos."""
        config = self.model.config
        if self.measured is None:
            return Batch(torch.zeros(MEASURED, 3, config.data.height, config.data.width))
        count = min(MEASURED, len(self.measured), len(self.photos or self.measured))
        chosen = np.linspace(0, len(self.measured) - 1, count).astype(int)
        known = {name: self.measured.labels(name, values)[chosen] for name, values in config.data.attributes.items()}
        labels = {name: torch.from_numpy(label) for name, label in known.items()}
        points = torch.from_numpy(self.measured.points[chosen]) if self.model.data_spec.points else None
        faces = None
        if self.model.data_spec.boxes:
            faces = torch.from_numpy(face_boxes.read(self.measured, config.data.width, config.data.height)[chosen])
        real = self._decode(self.measured, chosen)
        if self.photos is None:
            return Batch(real, labels=labels, points=points, faces=faces)
        others = np.linspace(0, len(self.photos) - 1, count).astype(int)
        return Batch(real, labels=labels, photos=self._decode(self.photos, others))

    def _decode(self, dataset: Dataset, chosen: np.ndarray) -> Tensor:
        size = self.model.config.data.width, self.model.config.data.height
        return to_float(np.stack(list(dataset.decode(chosen.tolist(), *size, self.workers))))


def copied(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches on a GPU, copied by a stream of their own from pinned memory, while the step before is computed."""
    if device.type != "cuda":
        yield from batches
        return
    side = torch.cuda.Stream(device)

    def copy(tensor: Tensor) -> Tensor:
        with torch.cuda.stream(side):
            there = tensor.pin_memory().to(device, non_blocking=True)
        there.record_stream(torch.cuda.current_stream(device))  # keeps its memory until the step has read it
        return there

    for batch in batches:
        there = batch.map(copy)
        torch.cuda.current_stream(device).wait_stream(side)
        yield there
