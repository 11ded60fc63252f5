"""Base classes of all architectures: the interface to the training loop and to the verbs.

A model defines its players (the trained modules), its phases (the order of their updates) and its losses. Training is
independent of the architecture. The verbs use its subclasses: `Generator`, `Translator`, `Inpainter`, `Scorer`, ..."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kyara.files.checkpoint import Checkpoint
from kyara.nn.activations import LayerRange, SampleFn
from kyara.nn.batch import Batch as Batch
from kyara.nn.configs import Config as Config
from kyara.nn.configs import DataConfig as DataConfig
from kyara.nn.configs import DataSpec as DataSpec
from kyara.nn.label_table import LabelTable

COLUMNS, ROWS = 8, 32  # number of columns and maximum number of rows in the preview of a conditional generator

Player = TypeVar("Player", bound=nn.Module)
Distance = Callable[[Tensor, Tensor], float]  # between two sets of pictures (N, 3, H, W); lower is better


class Model(nn.Module):
    """Base class of architectures. Every file or folder in `kyara/models` that defines a subclass called `Model` with
    `presets` is registered: it appears in `kyara train --help` and is tested."""

    presets: ClassVar[Mapping[str, Config]] = {}  # the first is the default; `tiny` is for tests
    phases: ClassVar[tuple[str, ...]] = ()  # updated in this order in every step, e.g. ("d", "d_reg", "g")
    capturable: ClassVar[bool] = False
    """Whether `losses` does the same on the device at every step: no branch on a value or on `Batch.step`, nothing
    computed or drawn on the host. Then a CUDA graph can repeat it."""
    averages: ClassVar[Mapping[str, str]] = {}  # trained submodule -> its moving average, which is stored and used
    data_spec: ClassVar[DataSpec] = DataSpec()
    augments: ClassVar[bool] = True  # whether `losses` calls `Batch.augment`, for the input of a discriminator

    checkpoint: Checkpoint  # set by `models.load`; not defined for new models

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    @classmethod
    def least_micro_batch(cls, config: Config) -> int:
        """Number of pictures that `losses` needs, such as 2 for the statistics of `BatchNorm1d`."""
        return 1

    @classmethod
    def default_config(cls) -> Config:
        """The Config with the defaults of its dataclasses."""
        return type(next(iter(cls.presets.values())))()

    def players(self) -> Mapping[str, nn.Module]:
        """The module that each phase trains: `net`, or the attribute named like the phase up to "_", such as `d` for
        "d_reg". Phases of the same module share an optimiser."""
        single = hasattr(self, "net")
        return {phase: getattr(self, "net" if single else phase.partition("_")[0]) for phase in self.phases}

    def losses(self, phase: str, batch: Batch) -> dict[str, Tensor]:
        """The losses of a phase by name, scalars. Their sum is minimised. If empty, the phase is skipped."""
        raise NotImplementedError

    def reg_interval(self, phase: str) -> int:
        """Interval of a phase in steps, for lazy regularisation (Karras et al. 2020, section 3.1); 0 disables it. The
        optimiser of its player is adapted."""
        return 1

    def optimizer(self, parameters: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """The optimiser of one player, from its parameter groups."""
        return self.config.optimizer.create(parameters)

    def lr_scale(self, progress: float) -> float:
        """Factor of the learning rate at `progress`, the completed fraction of the run."""
        return self.config.optimizer.lr_scale(progress)

    def preview(self, batch: Batch) -> Tensor | None:
        """Pictures for the sample sheet, (N, 3, H, W) in [-1, 1], or None."""
        return None

    def measure(self, batch: Batch, distance: Distance) -> dict[str, float]:
        """Scores on a fixed batch of a few hundred pictures. The first, lower is better, selects the best snapshot."""
        return {}

    def layers(self) -> Mapping[str, Sequence[list[nn.Parameter]]]:
        """Parameters by layer, to freeze some of them: "g" from coarse to fine, "d" from the input on, "mapping" as one
        layer, and "encoder" likewise, to whose latents the mapping network is fitted. Empty if layers cannot be frozen
        separately."""
        return {}

    def copy_from_parent(self, parent: Model) -> set[str]:
        """Copies what has another shape or name in a model of the same architecture, such as one for smaller pictures,
        where this is possible. The tensors of the same name and shape have been copied. Returns the names."""
        return set()

    def freeze(self, parameters: Sequence[nn.Parameter]) -> None:
        """Excludes parameters from training."""
        for parameter in parameters:
            parameter.requires_grad_(False)

    def memories(self) -> Sequence[LayerRange]:
        """The layers of the averaged network that `kyara rewrite` can edit, in order of execution."""
        return ()

    def sample_fn(self, count: int, pictures: Tensor) -> SampleFn:
        """A function that computes `count` random pictures with the averaged weights, the same ones in every call; of
        `pictures` (count, 3, H, W) if the model translates pictures. Uses torch's global generator; differentiable."""
        raise NotImplementedError

    @staticmethod
    def describe_source(checkpoint: str, layer: str) -> dict[str, dict[str, Any]]:
        """For `data_spec.of_model`: arguments of `Config.replace` for the part `generator`, which describe the model
        `checkpoint`, or several with commas between them, and its layer. Raises ValueError for invalid options."""
        raise NotImplementedError

    @staticmethod
    def average(module: Player) -> Player:
        """A copy of `module` for the moving average of its weights, in eval mode and without gradients."""
        return copy.deepcopy(module).eval().requires_grad_(False)


class Generator(Model):
    """Generates pictures from latents, and from labels if it is conditional, with the averaged weights."""

    z_dim: int
    unsampled: ClassVar[tuple[str, ...]] = ()  # submodules of the averaged network that `sample` does not use

    def sampled(self) -> list[nn.Parameter]:
        """The parameters of the averaged network that `sample` uses."""
        networks = [getattr(self, name) for name in self.averages.values()]
        named = (pair for network in networks or [self] for pair in network.named_parameters())
        return [parameter for name, parameter in named if name.split(".")[0] not in self.unsampled]

    def sample(self, z: Tensor, *, truncation: float = 1.0, labels: Mapping[str, Tensor] | None = None) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] of latents z (B, z_dim). Deterministic; each picture is independent of the
        others in the batch. `truncation` 1 is off, 0 gives the mean face. `labels` (B,) by attribute; missing
        attributes are unknown."""
        raise NotImplementedError

    def draw(self, seeds: Iterable[int]) -> dict[str, Tensor]:
        """Labels (N,) by attribute for seeds, sampled from the distribution of the training data."""
        drawn = [self.label_table.draw({}, seed) for seed in seeds]
        names = self.label_table.names
        return {name: torch.tensor([labels[name] for labels in drawn], dtype=torch.int64) for name in names}

    @functools.cached_property
    def label_table(self) -> LabelTable:
        """The distribution of labels in the training data."""
        return LabelTable(self.config.data.attributes, self.config.data.label_counts)

    def preview(self, batch: Batch) -> Tensor | None:
        """As many samples as real pictures; if conditional, a row for each of `shown_values`, with the same latents in
        each row and, except for what the value of the row excludes, the same other labels."""
        device = batch.real.device
        if not self.config.data.attributes:
            return self._sample_seeds(range(len(batch.real)), {}, device)
        table, seeds = self.label_table, range(COLUMNS)
        others = [table.draw({}, seed) for seed in seeds]
        made = [table.change(others[seed], {name: i}, seed) for name, i in self.shown_values() for seed in seeds]
        labels = {name: torch.tensor([one[name] for one in made]).to(device) for name in table.names}
        return self._sample_seeds([*seeds] * (len(made) // COLUMNS), labels, device)

    def shown_values(self) -> list[tuple[str, int]]:
        """The (attribute, label) of each row of `preview`: all of them, or if there are more than ROWS, all values of
        the attributes with few values, and evenly spaced values of the others."""
        sizes = {name: len(values) for name, values in self.config.data.attributes.items()}
        most = max(sizes.values(), default=0)
        while sum(min(size, most) for size in sizes.values()) > ROWS and most > 1:
            most -= 1
        spaced = {name: np.linspace(0, n - 1, min(n, most)).round().astype(int).tolist() for name, n in sizes.items()}
        return [(name, i) for name, chosen in spaced.items() for i in chosen][:ROWS]

    def measure(self, batch: Batch, distance: Distance) -> dict[str, float]:
        """The distance between the real pictures and as many samples with the same labels. Those of attributes that
        the data have no labels of are drawn."""
        seeds, device, unlabelled = range(len(batch.real)), batch.real.device, self.config.data.unlabelled
        drawn = self.draw(seeds) if unlabelled else {}
        labels = {**batch.labels, **{name: drawn[name].to(device) for name in unlabelled}}
        made = self._sample_seeds(seeds, labels, device)
        return {"frechet": distance(made, batch.real)}

    def _sample_seeds(self, seeds: Iterable[int], labels: Mapping[str, Tensor], device: torch.device) -> Tensor:
        """Pictures (N, 3, H, W) of seeds, in batches of 16, to need little memory."""
        z = latents(seeds, self.z_dim).to(device)
        parts = [slice(begin, begin + 16) for begin in range(0, len(z), 16)]
        return torch.cat([self.sample(z[p], labels={name: x[p] for name, x in labels.items()}) for p in parts])


class StyledGenerator(Generator):
    """A generator with a separate style for each layer, for inversion, editing, and rendering by another generator of
    the same shape. With the averaged weights; differentiable."""

    def styles(self, z: Tensor, labels: Mapping[str, Tensor] | None = None) -> Tensor:
        """The styles ws (B, layers, w_dim) of latents z (B, z_dim) and labels (B,) by attribute."""
        raise NotImplementedError

    def mean_w(self, count: int, labels: Mapping[str, Tensor] | None = None) -> Tensor:
        """The mean styles (count, layers, w_dim) given labels (count,) by attribute, towards which truncation
        interpolates."""
        raise NotImplementedError

    def synthesise(self, ws: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """Pictures (B, 3, H, W) of styles ws (B, layers, w_dim), with the constant noise of the generator, or with
        `noise` maps in the format of `noise_maps`, shared (1, 1, H, W) or per picture (B, 1, H, W)."""
        raise NotImplementedError

    def encode(self, pictures: Tensor) -> Tensor | None:
        """Styles (B, layers, w_dim) of pictures (B, 3, H, W) in [-1, 1], by an encoder that the generator was trained
        with; None if it was trained without."""
        return None

    def noise_maps(self) -> list[Tensor]:
        """The constant noise maps (1, 1, H, W) of the layers, from coarse to fine."""
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
    """Translates pictures of any size to pictures, with the averaged weights."""

    traceable: ClassVar[bool] = True  # whether `translate` consists of tensor operations only, which can be exported
    scale: ClassVar[int] = 1  # how many times as large its output is

    @property
    def receptive_field(self) -> int | None:
        """Radius of the receptive field in pixels, a multiple of the largest stride: the margin of tiles in which large
        pictures are translated. None if it is unlimited."""
        return None

    def translate(self, pictures: Tensor) -> Tensor:
        """Translates pictures (B, 3, H, W) in [-1, 1] to pictures (B, 3, H * scale, W * scale). Deterministic; each
        picture is independent of the others in the batch."""
        raise NotImplementedError

    def film_fn(self) -> Callable[[Tensor], Tensor]:
        """A function like `translate` for the consecutive frames of one film, which may smooth them over time."""
        return self.translate


class StyledTranslator(Translator):
    """A translator that is conditioned on a style vector (S,)."""

    style_dim: int  # S

    def translate(self, pictures: Tensor, styles: Tensor | None = None) -> Tensor:
        """As in Translator, with styles (B, S), by default zeros."""
        raise NotImplementedError

    def style_of(self, drawings: Tensor) -> Tensor:
        """Encodes the styles (B, S) of drawings (B, 3, H, W) in [-1, 1]. The prior of styles is N(0, 1)."""
        raise NotImplementedError

    def sample_fn(self, count: int, pictures: Tensor) -> SampleFn:
        return functools.partial(self.translate, pictures, torch.randn(count, self.style_dim, device=pictures.device))

    def preview(self, batch: Batch) -> Tensor | None:
        """A row for each photo: the photo, then drawings in the default style and in random styles, one per column."""
        assert batch.photos is not None
        photos = batch.photos[:COLUMNS]
        drawn = len(photos) - 1
        styles = F.pad(latents(range(drawn - 1), self.style_dim), (0, 0, 1, 0))[:drawn].to(photos.device)
        return torch.cat([torch.cat([p[None], self.translate(p.expand(drawn, -1, -1, -1), styles)]) for p in photos])

    def measure(self, batch: Batch, distance: Distance) -> dict[str, float]:
        """The distance between translations in random styles and real drawings; and the standard deviation over styles
        of the same photo, relative to that of real drawings."""
        assert batch.photos is not None
        styles = latents(range(len(batch.photos)), self.style_dim).to(batch.photos.device)
        made = torch.cat([self.translate(*part) for part in zip(batch.photos.split(32), styles.split(32), strict=True)])
        few = [self.translate(p.expand(COLUMNS, -1, -1, -1), styles[:COLUMNS]) for p in batch.photos[:16]]
        spread = torch.stack([x.std(0).mean() for x in few]).mean()
        return {"frechet": distance(made, batch.real), "diversity": float(spread / batch.real.std(0).mean())}


class Domains(nn.Module):
    """A network for each domain, of a module and its Config."""

    def __init__(self, kind: Callable[[Any], nn.Module], config: Config) -> None:
        super().__init__()
        self.photos: Any = kind(config)
        self.drawings: Any = kind(config)


class Inpainter(Model):
    """Fills holes in pictures of any size, with the averaged weights."""

    def fill(self, pictures: Tensor, holes: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] with their holes (B, 1, H, W) bool filled; all other pixels keep their exact
        values. The pixels in the holes are ignored. Deterministic; each picture is independent of the others in the
        batch."""
        raise NotImplementedError


class Scorer(Model):
    """Scores single pictures, with the averaged weights."""

    def scores(self, pictures: Tensor) -> Tensor:
        """Scores (B,) in [0, 1] of pictures (B, 3, H, W) in [-1, 1] of any size: higher is better."""
        raise NotImplementedError

    def embed(self, pictures: Tensor) -> Tensor:
        """Features (B, F) of pictures (B, 3, H, W) in [-1, 1], for comparisons."""
        raise NotImplementedError


class Descriptor(Model):
    """Describes pictures so that copies of a picture have similar descriptors, with the averaged weights."""

    descriptor_dim: int  # F

    def embed(self, pictures: Tensor) -> Tensor:
        """Unit-length descriptors (B, F) of pictures (B, 3, H, W) in [-1, 1], each independent of the others."""
        raise NotImplementedError


class Tagger(Model):
    """Classifies the attributes of pictures, with the averaged weights."""

    @property
    def attributes(self) -> Mapping[str, tuple[str, ...]]:
        """Attribute -> values, in the order of `probabilities`."""
        return self.config.data.attributes

    def probabilities(self, pictures: Tensor) -> dict[str, Tensor]:
        """The probabilities (B, V) of the values of each attribute, for pictures (B, 3, H, W) in [-1, 1]."""
        raise NotImplementedError

    def embed(self, pictures: Tensor) -> Tensor:
        """Unit-length embeddings (B, F) of pictures (B, 3, H, W) in [-1, 1], each independent of the others."""
        raise NotImplementedError

    def stage_means(self, pictures: Tensor) -> Tensor:
        """Concatenated mean features of all stages (B, F1 + F2 + ...), for distances that depend on image quality."""
        raise NotImplementedError


class LandmarkDetector(Model):
    """Predicts the landmarks of a face, with the averaged weights."""

    def find(self, pictures: Tensor) -> Tensor:
        """Landmarks (B, K, 2) of faces in pictures (B, 3, H, W) in [-1, 1], as fractions of width and height, in the
        order of `perception.landmarks.NAMES`. Differentiable. Undefined for pictures without a face."""
        raise NotImplementedError


class Detector(Model):
    """Finds the faces in pictures of any size, with the averaged weights."""

    def detect(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The predictions of all A cells of pictures (B, 3, H, W) in [-1, 1], not reduced to one per face: boxes (B, A,
        4), x0 y0 x1 y1, scores (B, A) in [0, 1] and points (B, A, 5, 2), in pixels. Of a detector with two stages these
        are the first stage's; `perception.detector.FaceDetector` applies both."""
        raise NotImplementedError


class Projector(Model):
    """Predicts the output of a layer of a frozen generator for a given picture."""

    def project(self, pictures: Tensor, hosts: Tensor) -> Tensor:
        """Features (B, C, h, w) from which the generator renders pictures (B, 3, H, W), with the other inputs of its
        layers from `hosts`."""
        raise NotImplementedError


def latents(seeds: Iterable[int], z_dim: int) -> Tensor:
    """Standard normal latents z (N, z_dim) of seeds, from NumPy's RandomState, independent of batch and device."""
    rows = [np.random.RandomState(seed).randn(z_dim) for seed in seeds]
    return torch.from_numpy(np.stack(rows)).float() if rows else torch.empty(0, z_dim)


def random_styles(count: int, style_dim: int, default_prob: float, device: torch.device) -> Tensor:
    """Standard normal styles (count, S), some of them the default style of translators (zeros), which is rare
    otherwise."""
    styles = torch.randn(count, style_dim, device=device)
    return styles * (torch.rand(count, 1, device=device) >= default_prob)
