"""The one contract: what an architecture offers to the training loop and to the verbs.

A model is its players (what is trained), its phases (in which order) and its losses (what is minimised). Training knows
no architecture by name. A verb asks for a kind: `Generator`, `Translator`, `Inpainter`, `Scorer`, ..."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from kyara.files.checkpoint import Checkpoint
from kyara.nn import conditioning
from kyara.nn.activations import LayerRange, SampleFn
from kyara.nn.configs import Config as Config
from kyara.nn.configs import DataConfig as DataConfig
from kyara.nn.configs import DataSpec as DataSpec

COLUMNS, ROWS = 8, 32  # columns, and maximum rows, of the preview of a conditional generator

Player = TypeVar("Player", bound=nn.Module)
Distance = Callable[[Tensor, Tensor], float]  # between two sets of pictures (N, 3, H, W); lower is better


class Model(nn.Module):
    """One architecture. A file or folder in `kyara/models` that defines a subclass called `Model`, its `Config` and its
    `presets` appears in `kyara train --help` and in the tests."""

    presets: ClassVar[Mapping[str, Config]] = {}  # the first is the default; `tiny` is for tests
    phases: ClassVar[tuple[str, ...]] = ()  # run in this order at every step, e.g. ("d", "d_reg", "g").
    averages: ClassVar[Mapping[str, str]] = {}  # trained submodule -> its moving average, which is stored and used
    data_spec: ClassVar[DataSpec] = DataSpec()

    checkpoint: Checkpoint  # where `models.load` found it; a new model has none

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    @classmethod
    def default_config(cls) -> Config:
        """The Config with the defaults of its dataclasses, which presets and Checkpoints override."""
        return type(next(iter(cls.presets.values())))()

    def players(self) -> Mapping[str, nn.Module]:
        """The module of each phase: `net`, or else `d` of "d" and "d_reg". Phases of one module share its optimiser."""
        single = hasattr(self, "net")
        return {phase: getattr(self, "net" if single else phase.partition("_")[0]) for phase in self.phases}

    def losses(self, phase: str, batch: Batch) -> dict[str, Tensor]:
        """Named scalars of this phase; their sum is minimised. A phase without losses does nothing in this step."""
        raise NotImplementedError

    def reg_interval(self, phase: str) -> int:
        """A lazily regularised phase runs at every n-th step only (Karras et al. 2020, section 3.1); 0: never."""
        return 1

    def optimizer(self, parameters: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """The optimiser of one player, for its groups of parameters."""
        return self.config.optimizer.create(parameters)

    def lr_scale(self, progress: float) -> float:
        """Factor on the learning rate at `progress` in [0, 1] of the run."""
        return self.config.optimizer.lr_scale(progress)

    def preview(self, batch: Batch) -> Tensor | None:
        """Pictures for the sample sheet, (N, 3, H, W) in [-1, 1]; None if the model makes none."""
        return None

    def measure(self, batch: Batch, distance: Distance) -> dict[str, float]:
        """Scores on some hundred pictures, the same over a run. The best snapshot has the lowest first one."""
        return {}

    def layers(self) -> Mapping[str, Sequence[list[nn.Parameter]]]:
        """Parameters to train or freeze layer by layer: of "g" the coarsest first, of "d" the one nearest to the
        picture first, of "mapping" all in one. Empty if there is no choice."""
        return {}

    def freeze(self, parameters: Sequence[nn.Parameter]) -> None:
        """Excludes these from training."""
        for parameter in parameters:
            parameter.requires_grad_(False)

    def memories(self) -> Sequence[LayerRange]:
        """The convolutional layers, in their order in the averaged network, whose rules can be rewritten."""
        return ()

    def sample_fn(self, count: int, pictures: Tensor) -> SampleFn:
        """A function that makes `count` random pictures with the averaged weights, the same ones at every call, from
        `pictures` (count, 3, H, W) if the model translates pictures. Uses torch's random numbers; differentiable."""
        raise NotImplementedError

    @staticmethod
    def describe_source(checkpoint: str, layer: str) -> dict[str, dict[str, Any]]:
        """For `data_spec.of_model`: the parts of the Config, as `Config.replace` takes them, that describe the model
        `checkpoint` and its layer. ValueError names the option that is wrong."""
        raise NotImplementedError

    @staticmethod
    def average(module: Player) -> Player:
        """A copy of `module` for the moving average of its weights: no gradients."""
        return copy.deepcopy(module).eval().requires_grad_(False)


def identity(pictures: Tensor) -> Tensor:
    """The augmentation that changes nothing."""
    return pictures


@dataclasses.dataclass
class Batch:
    """The input of `Model.losses`."""

    real: Tensor  # pictures of the dataset: (B, 3, H, W), RGB in [-1, 1]
    step: int = 0  # how many optimiser steps came before this one
    labels: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)  # (B,) int64; -1 where unknown
    points: Tensor | None = None  # landmarks (B, K, 2) as fractions of width and height; NaN where unknown
    mirrored: Tensor | None = None  # which pictures, with their points, were flipped left to right, (B,) bool
    photos: Tensor | None = None  # unpaired photos (B, 3, H, W) in [-1, 1]. For `data_spec.photos`.
    augment: Callable[[Tensor], Tensor] = identity  # differentiable, for everything that a discriminator gets
    log: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    """Detached scalars that are logged and are no loss. `real_sign` and `fake_sign`, the mean signs of the logits of a
    discriminator, control the adaptive augmentation and the warning of collapse."""

    def log_signs(self, real: Tensor, fake: Tensor, threshold: float = 0.0) -> None:
        """Logs the mean signs of logits, minus the threshold between real and fake."""
        for name, logits in (("real_sign", real), ("fake_sign", fake)):
            self.log[name] = (logits.detach() - threshold).sign().mean()

    def __getitem__(self, part: slice) -> Batch:
        """Some of the pictures, with what is known about them."""
        return self.map(lambda tensor: tensor[part], log={})

    def to(self, device: torch.device) -> Batch:
        """The same on another device; uint8 pictures become floats in [-1, 1] there."""

        def move(tensor: Tensor) -> Tensor:
            tensor = tensor.to(device, non_blocking=True)
            return tensor.float().div_(127.5).sub_(1) if tensor.dtype == torch.uint8 else tensor

        return self.map(move)

    def map(self, function: Callable[[Tensor], Tensor], **others: Any) -> Batch:
        """The same with every tensor replaced by the result of `function`, and `others`."""
        names = ("real", "points", "mirrored", "photos")
        others |= {name: function(tensor) for name in names if (tensor := getattr(self, name)) is not None}
        labels = {name: function(label) for name, label in self.labels.items()}
        return dataclasses.replace(self, labels=labels, **others)


class Generator(Model):
    """Makes pictures from latents, and from labels if it learned attributes. With the averaged weights."""

    z_dim: int

    def sample(self, z: Tensor, *, truncation: float = 1.0, labels: Mapping[str, Tensor] | None = None) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] of latents z (B, z_dim). Deterministic, each independent of the others.
        `truncation` 1 is off, 0 gives the average face. `labels` (B,) by attribute; missing attributes are unknown."""
        raise NotImplementedError

    def draw(self, seeds: Iterable[int]) -> dict[str, Tensor]:
        """The labels (N,) by attribute of seeds without --where: distributed as in the data."""
        data = self.config.data
        drawn = [conditioning.draw(data.attributes, data.label_counts, {}, seed) for seed in seeds]
        return {name: torch.tensor([labels[name] for labels in drawn], dtype=torch.int64) for name in data.attributes}

    def preview(self, batch: Batch) -> Tensor | None:
        """As many as real ones. With attributes, a row for each of `shown_values`; all else is equal down a column."""
        device = batch.real.device
        if not self.config.data.attributes:
            return self.sample(latents(range(len(batch.real)), self.z_dim).to(device))
        rows, others = self.shown_values(), self.draw(range(COLUMNS))
        labels = {name: drawn.repeat(len(rows), 1) for name, drawn in others.items()}  # (rows, COLUMNS) each
        for row, (name, value) in enumerate(rows):
            labels[name][row] = value
        flat = {name: label.flatten().to(device) for name, label in labels.items()}
        return self._sample_seeds([*range(COLUMNS)] * len(rows), flat, device)

    def shown_values(self) -> list[tuple[str, int]]:
        """The attributes and labels of the rows of `preview`, top to bottom."""
        return [(name, i) for name, values in self.config.data.attributes.items() for i in range(len(values))][:ROWS]

    def measure(self, batch: Batch, distance: Distance) -> dict[str, float]:
        """The distance between the real pictures and as many generated ones with the same labels."""
        made = self._sample_seeds(range(len(batch.real)), batch.labels, batch.real.device)
        return {"frechet": distance(made, batch.real)}

    def _sample_seeds(self, seeds: Iterable[int], labels: Mapping[str, Tensor], device: torch.device) -> Tensor:
        """Pictures of many seeds, 32 at a time: (N, 3, H, W)."""
        z = latents(seeds, self.z_dim).to(device)
        parts = [slice(begin, begin + 32) for begin in range(0, len(z), 32)]
        return torch.cat([self.sample(z[p], labels={name: x[p] for name, x in labels.items()}) for p in parts])


class StyledGenerator(Generator):
    """A generator in which every layer has a style of its own, so that a picture can be inverted, edited in part, and
    rendered by another generator of the same shape. With the averaged weights, and differentiable."""

    def styles(self, z: Tensor, labels: Mapping[str, Tensor] | None = None) -> Tensor:
        """The styles ws (B, layers, w_dim) of latents z (B, z_dim) and labels (B,) by attribute."""
        raise NotImplementedError

    def mean_w(self, count: int, labels: Mapping[str, Tensor] | None = None) -> Tensor:
        """The mean styles (count, layers, w_dim) under labels (count,) by attribute: the centre of truncation."""
        raise NotImplementedError

    def synthesise(self, ws: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """Pictures (B, 3, H, W) of styles ws (B, layers, w_dim), with the generator's own constant noise, or with maps
        like those of `noise_maps`, for all pictures (1, 1, H, W) or one each (B, 1, H, W)."""
        raise NotImplementedError

    def noise_maps(self) -> list[Tensor]:
        """The constant noise of each layer that has any, (1, 1, H, W), the coarsest first."""
        raise NotImplementedError

    def sample_fn(self, count: int, pictures: Tensor) -> SampleFn:
        device = pictures.device
        labels = {
            name: label.to(device, non_blocking=True)
            for name, label in self.draw(torch.randint(2**31, (count,)).tolist()).items()
        }
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            ws = self.styles(torch.randn(count, self.z_dim, device=device), labels)
        return functools.partial(self.synthesise, ws)


class Translator(Model):
    """Makes pictures from pictures of any size, with the averaged weights."""

    @property
    def receptive_field(self) -> int | None:
        """Pixels beyond which nothing influences a pixel, so that a large picture can be translated in tiles with
        margins as wide. A multiple of the network's largest stride. None if it is the whole picture."""
        return None

    def translate(self, pictures: Tensor) -> Tensor:
        """Translated pictures (B, 3, H, W) in [-1, 1], of the same shape. Deterministic, each independent."""
        raise NotImplementedError


class StyledTranslator(Translator):
    """A translator that can make several drawings of one picture, each in a style (S,) of its own."""

    style_dim: int  # S

    def translate(self, pictures: Tensor, styles: Tensor | None = None) -> Tensor:
        """As above, in styles (B, S); by default zeros."""
        raise NotImplementedError

    def style_of(self, drawings: Tensor) -> Tensor:
        """The styles (B, S) of drawings (B, 3, H, W) in [-1, 1]. Random styles are drawn from N(0, 1)."""
        raise NotImplementedError

    def sample_fn(self, count: int, pictures: Tensor) -> SampleFn:
        return functools.partial(self.translate, pictures, torch.randn(count, self.style_dim, device=pictures.device))


class Inpainter(Model):
    """Fills holes in pictures of any size, with the averaged weights."""

    def fill(self, pictures: Tensor, holes: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] with their holes (B, 1, H, W) bool filled, and the rest unchanged to the
        bit. What is in the holes makes no difference. Deterministic, and each is independent of the others."""
        raise NotImplementedError


class Scorer(Model):
    """Scores single pictures, with the averaged weights."""

    def scores(self, pictures: Tensor) -> Tensor:
        """Scores (B,) in [0, 1] of pictures (B, 3, H, W) in [-1, 1] of any size: higher is better."""
        raise NotImplementedError

    def embed(self, pictures: Tensor) -> Tensor:
        """Features (B, F) of pictures (B, 3, H, W) in [-1, 1], to compare pictures by."""
        raise NotImplementedError


class Tagger(Model):
    """Classifies the attributes of pictures, with the averaged weights."""

    @property
    def attributes(self) -> Mapping[str, tuple[str, ...]]:
        """Attribute -> values, in the order of `probabilities`."""
        return self.config.data.attributes

    def probabilities(self, pictures: Tensor) -> dict[str, Tensor]:
        """For each attribute the probabilities (B, V) of its values in pictures (B, 3, H, W) in [-1, 1]."""
        raise NotImplementedError

    def embed(self, pictures: Tensor) -> Tensor:
        """Embeddings (B, F) of length 1 of pictures (B, 3, H, W) in [-1, 1]; each is independent of the others."""
        raise NotImplementedError

    def stage_means(self, pictures: Tensor) -> Tensor:
        """The mean features of every stage (B, F1 + F2 + ...), for distances: they contain the quality of a drawing."""
        raise NotImplementedError


class LandmarkDetector(Model):
    """Finds the landmarks of a face, with the averaged weights."""

    def find(self, pictures: Tensor) -> Tensor:
        """Landmarks (B, K, 2) of faces in pictures (B, 3, H, W) in [-1, 1], as fractions of width and height, in the
        order of `perception.landmarks.NAMES`. Differentiable. Without a face they mean nothing."""
        raise NotImplementedError


class Projector(Model):
    """Finds the features with which a layer of a frozen generator shows a picture."""

    def project(self, pictures: Tensor, hosts: Tensor) -> Tensor:
        """Features (B, C, h, w) with which the generator shows pictures (B, 3, H, W), all else being as in `hosts`."""
        raise NotImplementedError


def latents(seeds: Iterable[int], z_dim: int) -> Tensor:
    """Standard normal z (N, z_dim) of the seeds, from NumPy's RandomState: the same in every batch, on any device."""
    rows = [np.random.RandomState(seed).randn(z_dim) for seed in seeds]
    return torch.from_numpy(np.stack(rows)).float() if rows else torch.empty(0, z_dim)
