"""Learns a rule from an edit: converts its examples to training batches, trains a memory, and measures the errors on
held-out pictures."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from kyara.files.pictures import to_uint8
from kyara.models.base import Inpainter, Model
from kyara.models.projector import Model as Projector
from kyara.nn.activations import ActivationCache, LayerRange, capture, restored
from kyara.rewriting import lessons
from kyara.rewriting.edit import Edit, Example, crop, overlay
from kyara.rewriting.lessons import PlaceFinder, TrainingBatch, already_shown
from kyara.rewriting.linear import LinearMemory
from kyara.rewriting.nonlinear import WeightDifference, autocast, train_memory
from kyara.rewriting.samples import Part, Samples
from kyara.rewriting.settings import EXTRA_IMAGES, Memory, Settings

LAYERS, USUAL = 3, 32
"""Layers of a nonlinear memory that ends at features of this size in pixels. Larger features get two more for each
doubling, so that the memory begins at 16 pixels: coarser layers change more outside of the pattern, and with fewer the
pattern is blurred. Small networks have fewer."""
BATCH = 8  # random pictures in a training batch
STATISTICS = 16  # random pictures from which a linear memory estimates the statistics of keys
TRAINING_SEED, TEST_SEED = 1000, 2000  # first seeds of the random pictures that are trained on and measured on
TEST_PICTURES = 32
Overlays = Sequence[Tensor | None]  # what each example lays over its target, (4, H, W); None erases


@dataclass(frozen=True)
class RuleTrainer:
    """A network, the layers used as memory, and the training settings."""

    samples: Samples
    projector: Projector
    memory: Memory = "nonlinear"
    layers: int | None = None  # convolutions of a nonlinear memory; None: by the size of the features, see `LAYERS`
    extra_images: int = EXTRA_IMAGES  # random pictures in which the masked place is searched; 0: the examples alone
    rank: int = 1  # of the change of a linear memory
    settings: Settings = field(default_factory=Settings)
    variants: int = 5  # of each example in other colours

    @property
    def model(self) -> Model:
        return self.samples.model

    @property
    def depth(self) -> int:
        """Convolutions of the memory."""
        if self.memory == "linear":
            return 1
        source = self.projector.config.generator
        doublings = max(0, round(math.log2(max(source.shape[1:]) / USUAL)))
        return self.layers or min(LAYERS + 2 * doublings, source.layer + 1)

    @property
    def last_layer(self) -> LayerRange:
        """The last layer alone: the linear memory, also used for erasing."""
        return self.model.memories()[self.projector.config.generator.layer]

    @property
    def layer_range(self) -> LayerRange:
        """The layers of the memory. Raises ValueError if there are too few."""
        last = self.projector.config.generator.layer
        if not 1 <= self.depth <= last + 1:
            raise ValueError(f"--layers {self.depth}: the memory ends at layer {last}; give 1 to {last + 1}")
        return self.model.memories()[last - self.depth + 1].through(self.last_layer)

    def random(self, layers: LayerRange, count: int, seed: int, edit: Edit | None = None) -> list[ActivationCache]:
        """Caches of random pictures; with `TEST_SEED`, of those held out. For an inpainter, every second batch is
        filled at the holes of the edit's pictures: these are where the rule must be learned."""
        holes = None if edit is None else self.samples.holes([example.target for example in edit.examples])
        part: Part = "held out" if seed == TEST_SEED else "training"
        fns = (
            self.samples.random(min(BATCH, count - i), batch_seed(seed, i), holes if i % (2 * BATCH) else None, part)
            for i in range(0, count, BATCH)
        )
        return [capture(self.model, layers, sample_fn) for sample_fn in fns]

    def check(self, edits: Sequence[Edit]) -> None:
        """ValueError if there are too few layers, or if a mask or a picture of an edit does not fit the network."""
        _ = self.layer_range
        for edit in edits:
            overlays_of(edit, self.samples)


@dataclass
class LearnedRule:
    """The result of training on an edit."""

    difference: WeightDifference
    seconds: float
    measured: dict[str, float]
    """`inside_error` and `outside_error`, where `measure` gives them, and `found`, the share of the random pictures in
    which the masked place was found."""


def batch_seed(first: int, start: int) -> int:
    """The seed of the batch that begins at random picture `start`. Training skips the seeds that are measured on."""
    seed = first + start
    return seed + TEST_PICTURES if first < TEST_SEED <= seed else seed


def overlays_of(edit: Edit, samples: Samples) -> list[Tensor | None]:
    """The overlays of an edit. ValueError if a mask or a source does not fit."""
    return [_overlay(example, samples) for example in edit.examples]


def _overlay(example: Example, samples: Samples) -> Tensor | None:
    samples.variants(example.target, 0)
    mask = samples.mask(example.mask, example.target, example.label)
    if example.source is None:
        if isinstance(samples.model, Inpainter):
            hint = "its layers have several convolutions; paste what should be there instead, as a source"
            raise ValueError(f"{example.label}: {samples.name} cannot be taught to erase: {hint}")
        return None
    rgba = example.source.rgba
    if rgba is None:  # a seed
        with torch.inference_mode():
            rgb = to_uint8(samples.variants(example.source, 0)())[0]
        rgba = np.concatenate([rgb, np.full((*rgb.shape[:2], 1), 255, np.uint8)], 2)
    laid = overlay(crop(rgba, example.box, f"{example.label}, source"), mask)
    return torch.from_numpy(laid).to(samples.device).movedim(2, 0)


def learn_rule(trainer: RuleTrainer, edit: Edit) -> LearnedRule:
    """Learns the weight difference that makes the network follow the edit."""
    overlays = overlays_of(edit, trainer.samples)
    start, layers = time.perf_counter(), trainer.layer_range
    with torch.inference_mode(False), autocast(next(trainer.model.parameters())):
        others = trainer.random(layers, max(trainer.extra_images, BATCH), TRAINING_SEED, edit)
        memory = None
        if trainer.memory == "linear" or any(laid is None for laid in overlays):
            memory = LinearMemory(trainer.random(trainer.last_layer, STATISTICS, TRAINING_SEED))
        finder = find_places(trainer, edit, overlays, others)
        examples = example_batches(trainer, edit, overlays, memory)
        extra, found = extra_batches(trainer, others, finder)
        if not any(bool((batch.target != batch.cache.value).any()) for batch in examples):
            nothing = {name: torch.zeros_like(weight) for name, weight in examples[0].cache.kernels().items()}
            measured = {"inside_error": 0.0, "outside_error": 0.0, "found": found}
            return LearnedRule(nothing, time.perf_counter() - start, measured)
        if trainer.memory == "linear":
            assert memory is not None
            difference = memory.solve(examples, memory.directions(examples, trainer.rank))
        else:
            difference = train_memory(examples + extra, trainer.settings)
        seconds = time.perf_counter() - start
        errors = dict[str, float]()
        if trainer.samples.holds_out:
            errors = measure(trainer.model, difference, finder, trainer.random(layers, TEST_PICTURES, TEST_SEED, edit))
        return LearnedRule(difference, seconds, {**errors, "found": found})


def find_places(
    trainer: RuleTrainer, edit: Edit, overlays: Overlays, others: Sequence[ActivationCache]
) -> PlaceFinder | None:
    """A finder of the masked region in other pictures; None if all examples erase or are already shown."""
    examples = []
    for example, laid in zip(edit.examples, overlays, strict=True):
        cache = capture(trainer.model, trainer.layer_range, trainer.samples.variants(example.target, 0))
        if laid is not None and bool((laid[3] > lessons.MIN_ALPHA).any()) and not already_shown(cache, laid):
            examples.append((cache, laid))
    return PlaceFinder(examples, others) if examples else None


def example_batches(
    trainer: RuleTrainer, edit: Edit, overlays: Overlays, memory: LinearMemory | None
) -> list[TrainingBatch]:
    """A batch for each example: the picture and its variants. `memory` is needed for erasing."""
    samples, batches = trainer.samples, list[TrainingBatch]()
    for example, laid in zip(edit.examples, overlays, strict=True):
        sample_fn = samples.variants(example.target, trainer.variants)
        cache = capture(trainer.model, trainer.layer_range, sample_fn)
        if laid is None:
            assert memory is not None
            mask = torch.from_numpy(samples.mask(example.mask, example.target, example.label)).to(cache.pictures)
            masks = mask.expand(len(cache.pictures), 1, -1, -1)
            single = capture(trainer.model, memory.layers, sample_fn)
            batches.append(lessons.batch_from_values(cache, masks, memory.erased_value(single, masks)))
        else:
            new = torch.zeros_like(laid) if already_shown(cache, laid) else laid
            batches.append(
                lessons.batch_from_overlays(cache, new.expand(len(cache.pictures), -1, -1, -1), trainer.projector)
            )
    return batches


def extra_batches(
    trainer: RuleTrainer, others: Sequence[ActivationCache], finder: PlaceFinder | None
) -> tuple[list[TrainingBatch], float]:
    """Batches of random pictures, and the share of them in which the region was found."""
    if not trainer.extra_images or finder is None:
        return [], 0.0
    batches, found = [], []
    for cache in others:
        laid, similarity = finder(cache)
        found.append(similarity >= lessons.MIN_SIMILARITY)
        batches.append(lessons.batch_from_overlays(cache, laid, trainer.projector, found=found[-1]))
    return batches, float(torch.cat(found).float().mean())


def measure(
    model: Model, difference: WeightDifference, finder: PlaceFinder | None, caches: Sequence[ActivationCache]
) -> dict[str, float]:
    """Errors on pictures that were not trained on, of pixels in [-1, 1]. `inside_error`: the distance to the pasted
    pattern as a share of the distance before, 0 if it is shown as pasted and 1 if nothing changed; missing if its place
    is found in no picture. `outside_error`: the mean absolute change everywhere else; missing if the pattern and its
    border cover every pixel."""
    after_inside, before_inside, outside, area, everywhere = 0.0, 0.0, 0.0, 0.0, list[float]()
    for cache in caches:
        with added(model, difference), torch.no_grad():
            after = cache.rerun()[0].float()
        before = cache.pictures.float()
        changed = (after - before).abs().mean(1, keepdim=True)
        everywhere.append(float(changed.mean()))
        if finder is None:
            continue
        laid, similarity = finder(cache)
        found = (similarity >= lessons.MIN_SIMILARITY)[:, None, None, None]
        alpha, pasted = laid[:, 3:] * found, before.lerp(laid[:, :3], laid[:, 3:])
        after_inside += float(((after - pasted).abs() * alpha).sum())
        before_inside += float(((before - pasted).abs() * alpha).sum())
        rest = (1 - lessons.with_border(laid[:, 3:])) * found
        outside, area = outside + float((changed * rest).sum()), area + float(rest.sum())
    if not before_inside:  # erased, or found nowhere: what the inside should be is not known
        return {"outside_error": float(np.mean(everywhere))}
    errors = {"outside_error": outside / area} if area else {}
    return {**errors, "inside_error": after_inside / before_inside}


@contextmanager
def added(model: Model, difference: WeightDifference) -> Iterator[None]:
    """Context manager: applies a weight difference, and afterwards restores the weights exactly."""
    weights = {name: model.get_parameter(name) for name in difference}
    with restored(weights.values()):
        for name, weight in weights.items():
            weight.detach().add_(difference[name])
        yield
