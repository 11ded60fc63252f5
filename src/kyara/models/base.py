"""The one contract: what an architecture offers to the training loop and to the verbs.

A model is its players (what is trained), its phases (in which order), and its losses (what is minimised). The
loop in `kyara.training.loop` knows nothing else, and no architecture by name.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, TypeVar

import torch
from torch import Tensor, nn

from kyara.files.gallery import UNTAGGED
from kyara.nn import conditioning
from kyara.nn.activations import LayerRange, SampleFn

COLUMNS = 8
"""Pictures in a row of the sheet that shows what attributes do."""
ROWS = 32
"""Rows that it has at most."""

Player = TypeVar("Player", bound=nn.Module)


Distance = Callable[[Tensor, Tensor], float]
"""How far two sets of pictures (N, 3, H, W) in [-1, 1] are from each other: lower is nearer."""


def identity(pictures: Tensor) -> Tensor:
    """The augmentation that changes nothing."""
    return pictures


@dataclasses.dataclass
class Batch:
    """What one step of the loop hands to `Model.losses`."""

    real: Tensor
    """Pictures of the dataset: (B, 3, H, W), RGB in [-1, 1]."""
    step: int = 0
    """How many optimiser steps came before this one."""
    labels: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    """Attribute -> index of its value, (B,) int64; -1 where unknown. To a model that is `pointed` also `points`: places
    in the picture as shares of its width and height, (B, K, 2) float32; NaN where unknown."""
    photos: Tensor | None = None
    """What a model that learns `from_photos` makes drawings of: as many pictures of the other dataset, in [-1, 1]."""
    augment: Callable[[Tensor], Tensor] = identity
    """What everything a discriminator sees passes through; differentiable, the identity unless asked for."""
    log: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    """A model leaves detached numbers here that are worth a curve but are no loss. `real_sign` and `fake_sign`,
    the mean signs of a discriminator's logits, steer the adaptive augmentation and the watch for collapse."""

    def __getitem__(self, part: slice) -> Batch:
        """Some of the pictures, with what is known about them."""
        labels = {name: label[part] for name, label in self.labels.items()}
        photos = None if self.photos is None else self.photos[part]
        return dataclasses.replace(self, real=self.real[part], labels=labels, photos=photos, log={})

    def to(self, device: torch.device) -> Batch:
        """The same on another device; pictures that are uint8 become floats in [-1, 1] there."""
        labels = {name: label.to(device, non_blocking=True) for name, label in self.labels.items()}
        photos = None if self.photos is None else _to(self.photos, device)
        return dataclasses.replace(self, real=_to(self.real, device), labels=labels, photos=photos)


def _to(pictures: Tensor, device: torch.device) -> Tensor:
    pictures = pictures.to(device, non_blocking=True)
    return pictures.float().div_(127.5).sub_(1) if pictures.dtype == torch.uint8 else pictures


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The pictures, and what is known about them."""

    width: int = 64
    """Width in pixels."""
    height: int = 64
    """Height in pixels."""
    attributes: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Attribute -> its values in the order of their labels. From the dataset."""
    label_counts: tuple[tuple[int, ...], ...] = ()
    """How often each combination of labels occurs: a label for each attribute, in their order, and a count. From the
    dataset."""

    def __post_init__(self) -> None:
        conditioning.check(self.attributes, self.label_counts, reserved=UNTAGGED)


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the networks. Each architecture has its own."""


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights of the losses. Each architecture has its own."""


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Adam, and the moving average of the weights."""

    batch: int = 32
    """Pictures in one step."""
    lr: float = 2e-4
    """Learning rate."""
    betas: tuple[float, float] = (0.0, 0.99)
    """Decay rates of the first and second moment."""
    ema_kimg: float = 10.0
    """Half-life of the moving average of the weights, in thousands of pictures."""
    ema_ramp: float = 0.05
    """The half-life is at most this share of the pictures seen so far, so that early averages forget quickly."""


@dataclasses.dataclass(frozen=True)
class Config:
    """All numbers of an architecture, in parts. Presets are instances that differ in numbers only. Architectures
    override `network`, `losses` and `optimizer`, and may add parts."""

    data: DataConfig = DataConfig()
    network: NetworkConfig = NetworkConfig()
    losses: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()

    def replace(self, **parts: Mapping[str, Any]) -> Self:
        """A copy with some numbers replaced, e.g. `config.replace(losses={"style": 2.0}, data={"width": 32})`.

        Raises:
            ValueError: there is no such part or number.
        """
        known = {field.name for field in dataclasses.fields(self)}
        if unknown := sorted(set(parts) - known):
            raise ValueError(f"config: unknown part {', '.join(unknown)}; the parts are {', '.join(sorted(known))}")
        replaced = {}
        for name, values in parts.items():
            part = getattr(self, name)
            if not isinstance(values, Mapping):
                raise ValueError(f"config: {name} must be a table of numbers, not {values!r}")
            numbers = {field.name for field in dataclasses.fields(part)}
            if unknown := sorted(set(values) - numbers):
                wrong = ", ".join(f"{name}.{key}" for key in unknown)
                raise ValueError(f"config: unknown {wrong}; {name} has {', '.join(sorted(numbers))}")
            replaced[name] = dataclasses.replace(part, **values)
        return dataclasses.replace(self, **replaced)


class Model(nn.Module):
    """One architecture, trainable by the one loop.

    A file in `kyara/models` defines a subclass called `Model`, its `Config` and its `presets`; that is all it
    takes to appear in `kyara train --help` and in the tests.
    """

    config_type: ClassVar[type[Config]] = Config
    presets: ClassVar[Mapping[str, Config]] = {}
    """The first is the default; `tiny` is for tests and for trying things out."""
    phases: ClassVar[tuple[str, ...]] = ()
    """Run in this order at every step, e.g. ("d", "d_reg", "g")."""
    averages: ClassVar[Mapping[str, str]] = {}
    """Trained submodule -> submodule that keeps the moving average of its weights, e.g. {"g": "g_ema"}. The
    average is what a Checkpoint stores and what inference uses."""
    attributed: ClassVar[Literal["never", "may", "must"]] = "never"
    """Whether the model makes use of the data's attributes: those that `train --attributes` names."""
    from_photos: ClassVar[bool] = False
    """Whether it learns from two datasets, `train --photos` and `--drawings`, whose pictures are no pairs."""
    pointed: ClassVar[bool] = False
    """Whether it learns from the column `points` of the data."""
    of_another: ClassVar[bool] = False
    """Whether it learns about another model, `train --of`, from the pictures which that one makes."""
    holdout: ClassVar[float] = 0.0
    """Share of the pictures that is never trained on, for `measure`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    @staticmethod
    def about(of: str, layer: str) -> dict[str, dict[str, Any]]:
        """The parts of the Config, as `Config.replace` takes them, of a model that is `of_another`: what they say about
        that one and its layer. ValueError names the option that is wrong."""
        raise NotImplementedError

    @staticmethod
    def average(module: Player) -> Player:
        """A copy of `module` to keep a moving average in: no gradients."""
        return copy.deepcopy(module).eval().requires_grad_(False)

    def players(self) -> Mapping[str, nn.Module]:
        """What each phase updates. Phases that name the same module share its optimiser."""
        raise NotImplementedError

    def reg_interval(self, phase: str) -> int:
        """A lazily applied phase runs at every n-th step only (Karras et al. 2020, section 3.1)."""
        return 1

    def optimizer(self, parameters: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """The optimiser of one player, of its groups of parameters. Fused, so that a step with a NaN can be skipped
        without a host sync."""
        return torch.optim.Adam(parameters, lr=self.config.optimizer.lr, betas=self.config.optimizer.betas, fused=True)

    def layers(self) -> Mapping[str, Sequence[list[nn.Parameter]]]:
        """What may be tuned or held layer by layer: of "mapping" all in one, of "g" the coarsest first, of "d" the one
        nearest to the picture first. Empty if there is nothing to choose from."""
        return {}

    def freeze(self, parameters: Sequence[nn.Parameter]) -> None:
        """These stay as they are while the rest is trained."""
        for parameter in parameters:
            parameter.requires_grad_(False)

    def memories(self) -> Sequence[LayerRange]:
        """The convolutional layers whose rules can be rewritten, each used once for a picture, in the order in which
        they run: by the averaged weights. Empty if there are none."""
        return ()

    def sample_fn(self, count: int, pictures: Tensor) -> SampleFn:
        """Makes `count` random pictures by the averaged weights, of `pictures` (count, 3, H, W) if the model makes
        pictures from pictures, the same ones every time. Follows torch's random numbers; differentiable."""
        raise NotImplementedError

    def losses(self, phase: str, batch: Batch) -> dict[str, Tensor]:
        """Named scalars of this phase; their sum is minimised. A phase without any rests in this step."""
        raise NotImplementedError

    def lr_scale(self, progress: float) -> float:
        """Factor on the learning rate at `progress` in [0, 1] of the run; constant unless overridden."""
        return 1.0

    def preview(self, batch: Batch) -> Tensor | None:
        """Pictures for the sample sheet, (N, 3, H, W) in [-1, 1]; None if the model makes none."""
        return None

    def measure(self, batch: Batch, distance: Distance) -> dict[str, float]:
        """Scores on some hundred pictures, held fixed over a run. The first is what the best snapshot is chosen by:
        lower is better. `distance` compares sets of
        pictures, as the training loop is told to."""
        return {}


class Generator(Model):
    """A model that makes pictures from latents, and from labels if it learned attributes."""

    z_dim: int

    def sample(self, z: Tensor, *, truncation: float = 1.0, labels: Mapping[str, Tensor] | None = None) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] of latents z (B, z_dim), by the averaged weights. Deterministic, and one
        latent's picture does not depend on the others. `truncation` 1 is off, 0 gives the average face. `labels` (B,)
        by attribute say what to show; an attribute that is not named is unknown."""
        raise NotImplementedError

    def draw(self, seeds: Iterable[int]) -> dict[str, Tensor]:
        """The labels by attribute, (N,) each, that `kyara generate` gives seeds if asked for nothing: they come
        together as often as in the data."""
        attributes, counts = self.config.data.attributes, self.config.data.label_counts
        drawn = [conditioning.draw(attributes, counts, {}, seed) for seed in seeds]
        return {name: torch.tensor([labels[name] for labels in drawn], dtype=torch.int64) for name in attributes}

    def preview(self, batch: Batch) -> Tensor | None:
        """As many as there are real pictures; if the model learned attributes, a row for each of `shown_values`. Down a
        column neither the latent changes nor any other attribute."""
        device = batch.real.device
        if not self.config.data.attributes:
            return self.sample(latents(range(len(batch.real)), self.z_dim).to(device))
        rows, others = self.shown_values(), self.draw(range(COLUMNS))
        labels = {name: drawn.repeat(len(rows), 1) for name, drawn in others.items()}  # (rows, COLUMNS) each
        for row, (name, value) in enumerate(rows):
            labels[name][row] = value
        flat = {name: label.flatten().to(device) for name, label in labels.items()}
        return self._pictures([*range(COLUMNS)] * len(rows), flat, device)

    def shown_values(self) -> list[tuple[str, int]]:
        """The attributes and labels of the rows of `preview`, top to bottom."""
        every = [(name, i) for name, values in self.config.data.attributes.items() for i in range(len(values))]
        return every[:ROWS]

    def measure(self, batch: Batch, distance: Distance) -> dict[str, float]:
        """The distance between the real pictures and as many generated ones that have the same labels."""
        made = self._pictures(range(len(batch.real)), batch.labels, batch.real.device)
        return {"frechet": distance(made, batch.real)}

    def _pictures(self, seeds: Iterable[int], labels: Mapping[str, Tensor], device: torch.device) -> Tensor:
        """Pictures of many seeds, a part at a time: (N, 3, H, W)."""
        z = latents(seeds, self.z_dim).to(device)
        parts = [slice(begin, begin + 32) for begin in range(0, len(z), 32)]
        made = [self.sample(z[part], labels={name: label[part] for name, label in labels.items()}) for part in parts]
        return torch.cat(made)


class StyledGenerator(Generator):
    """A generator in which every layer takes a style of its own, so that a latent can be found for a picture, changed
    in part, and handed to another generator of the same shape. All by the averaged weights, and differentiable."""

    def styles(self, z: Tensor, labels: Mapping[str, Tensor] | None = None) -> Tensor:
        """The styles ws (B, layers, w_dim) of latents z (B, z_dim) and labels (B,) by attribute."""
        raise NotImplementedError

    def mean_w(self, count: int, labels: Mapping[str, Tensor] | None = None) -> Tensor:
        """The mean styles (count, layers, w_dim) of what has these labels (count,) by attribute: where truncation pulls
        to."""
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
        seeds = torch.randint(2**31, (count,)).tolist()
        labels = {name: label.to(device) for name, label in self.draw(seeds).items()}
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            ws = self.styles(torch.randn(count, self.z_dim, device=device), labels)
        return functools.partial(self.synthesise, ws)


class Translator(Model):
    """A model that makes pictures from pictures, of any size. All by the averaged weights."""

    @property
    def receptive_field(self) -> int | None:
        """What is farther away than so many pixels makes no difference to a pixel, so that a large picture can be
        translated in parts with rims as wide. A multiple of the pixels that the network sees as one place at last. None
        if everything makes a difference."""
        return None

    def translate(self, pictures: Tensor) -> Tensor:
        """What becomes of pictures (B, 3, H, W) in [-1, 1]: as many, of the same size. Deterministic, and what becomes
        of one does not depend on the others."""
        raise NotImplementedError


class StyledTranslator(Translator):
    """A translator that can make several drawings of one picture, each in a style (S,) of its own."""

    style_dim: int
    """S."""

    def translate(self, pictures: Tensor, styles: Tensor | None = None) -> Tensor:
        """As above, in styles (B, S); by default in the one of zeros."""
        raise NotImplementedError

    def style_of(self, drawings: Tensor) -> Tensor:
        """The styles (B, S) of drawings (B, 3, H, W) in [-1, 1]. Random styles are drawn from N(0, 1)."""
        raise NotImplementedError

    def sample_fn(self, count: int, pictures: Tensor) -> SampleFn:
        styles = torch.randn(count, self.style_dim, device=pictures.device)
        return functools.partial(self.translate, pictures, styles)


class Inpainter(Model):
    """A model that fills holes in pictures of any size, by the averaged weights."""

    def fill(self, pictures: Tensor, holes: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] with what is in their holes (B, 1, H, W) bool replaced, and the rest as it
        was, to the bit. What is in the holes makes no difference. Deterministic, one does not depend on the others."""
        raise NotImplementedError


def warm_cosine(progress: float, warm_up: float) -> float:
    """Factor on a learning rate that rises over the first `warm_up` of a run, both in [0, 1], and then falls to zero
    along a cosine."""
    if progress < warm_up:
        return (progress + 1e-3) / (warm_up + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * min((progress - warm_up) / (1 - warm_up), 1.0)))


def latents(seeds: Any, z_dim: int) -> Tensor:
    """z of each seed, (N, z_dim), standard normal, from NumPy's RandomState: a seed gives the same face whatever
    stands beside it in the batch, and on every device."""
    import numpy as np

    rows = [np.random.RandomState(seed).randn(z_dim) for seed in seeds]
    return torch.from_numpy(np.stack(rows)).float() if rows else torch.empty(0, z_dim)
