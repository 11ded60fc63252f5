"""The pipeline of `kyara generate`: generates pictures from shots, scores them, and checks their attributes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kyara.curation.scoring import Scorer, fitted, score
from kyara.files.names import printable
from kyara.files.pictures import quantise, to_float
from kyara.files.workers import lookahead
from kyara.generation.confirm import Judge
from kyara.generation.recipe import Recipe
from kyara.generation.sampler import (
    batch_size,
    computed,
    load_generator,
    sample,
    shot_labels,
    shot_latents,
    synthesise,
)
from kyara.generation.shots import Shot, angle_of, batched
from kyara.generation.styles import blend, load_styled, pack, relabel, unpack
from kyara.generation.upscaling import Upscaling
from kyara.models.base import Generator, StyledGenerator
from kyara.nn import conditioning
from kyara.perception.turning import turn
from kyara.training.inference import batches_ahead, reproducible, start_copy

IN_MEMORY = 16  # Pictures in memory at a time on a CPU


@dataclasses.dataclass(frozen=True)
class Made:
    """A generated picture."""

    shot: Shot
    picture: np.ndarray  # (H, W, 3) uint8
    score: float | None
    confirmed: bool  # Whether the picture shows the attributes; True without a judge


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """Generates and scores pictures, without writing anything."""

    generator: Generator
    truncation: float
    mirror: bool
    scorer: Scorer | None = None
    judge: Judge | None = None
    upscaling: Upscaling | None = None
    recorded: int | None = None  # The batch size in the recipe of --like, if the picture was made on such a device

    @property
    def device(self) -> torch.device:
        return next(self.generator.parameters()).device

    @property
    def at_once(self) -> int:
        """The number of pictures that the generator computes at once."""
        return self.recorded or batch_size(self.generator)

    def about(self) -> dict[str, Any]:
        """What the last bits of the pictures depend on, for their recipes."""
        return computed(self.device, self.at_once)

    def run(self, shots: Iterable[Shot], batch: int | None = None) -> Iterator[Made]:
        """Yields the pictures of shots in order, with `batch` of them in memory at a time, on a GPU twice as many."""
        batch = batch or max(self.at_once, IN_MEMORY)
        for finish in lookahead(map(self._start, batched(shots, batch)), batches_ahead(self.device)):
            yield from finish()

    def _start(self, group: list[Shot]) -> Callable[[], Iterator[Made]]:
        """Starts to compute the pictures of shots. The returned function waits for them."""
        drawn = self.straight(group)
        pictures = quantise(drawn)  # (B, H, W, 3) uint8, on the device
        scores = [score(to_float(fitted(pictures, self.scorer)), self.scorer)] if self.scorer else []
        confirmed = self.judge(pictures) if self.judge else torch.ones(len(group), dtype=torch.bool)  # (B,)
        if any(map(angle_of, group)):
            pictures = quantise(turn_heads(drawn, group))
        if self.upscaling:
            pictures = self._enlarged(pictures, confirmed)
        wait = start_copy(pictures, confirmed, *scores)

        def finish() -> Iterator[Made]:
            made, shown, *scored = wait()
            return map(Made, group, made.numpy(), scored[0].tolist() if scored else repeat(None), shown.tolist())

        return finish

    def _enlarged(self, pictures: Tensor, confirmed: Tensor) -> Tensor:
        """Enlarged pictures (B, H, W, 3) uint8; those that are not `confirmed` (B,), which nobody sees, are black."""
        assert self.upscaling is not None
        shown = confirmed.cpu()  # waits for the judge, as most of the time is spent on enlarging
        if shown.all() or not shown.any():
            return self.upscaling(pictures) if shown.all() else pictures
        chosen = shown.to(pictures.device)
        large = self.upscaling(pictures[chosen])
        return large.new_zeros(len(pictures), *large.shape[1:]).masked_scatter_(chosen[:, None, None, None], large)

    def pictures(self, shots: list[Shot]) -> Tensor:
        """Pictures (B, 3, H, W) of shots, which must all have the same keys."""
        return turn_heads(self.straight(shots), shots)

    def straight(self, shots: list[Shot]) -> Tensor:
        """The same before heads are turned: what scores are of, as a turned head is a distortion to the scorer."""
        generator = self.generator
        if isinstance(generator, StyledGenerator) and "latent" in shots[0]:
            return synthesise(generator, torch.stack([unpack(shot["latent"], generator) for shot in shots]))
        z = shot_latents(shots, generator.z_dim)  # (B, z_dim)
        labels = shot_labels(shots, generator.config.data.attributes)
        return sample(generator, z, labels, truncation=self.truncation, mirror=self.mirror, batch=self.at_once)


@torch.inference_mode()
def turn_heads(pictures: Tensor, shots: Sequence[Shot]) -> Tensor:
    """Pictures (B, 3, H, W) of shots, with the heads turned."""
    with reproducible(pictures.device):
        return turn(pictures, [*map(angle_of, shots)])


def labelled(shots: Iterable[Shot], generator: Generator, fixed: Mapping[str, int], *, film: bool) -> Iterator[Shot]:
    """Adds labels to the shots: those in `fixed`, and the others sampled by seed from their distribution in the
    training data. All shots of a film have the labels of its first seed, to avoid flicker."""
    names: dict[str, str] | None = None
    for shot in shots:
        if names is None or not film:
            names = _named(generator.label_table.draw(fixed, _seed(shot)), generator)
        yield {**shot, "labels": names}


def repeated(
    recipe: Recipe, model: str, wanted: Mapping[str, str], device: torch.device
) -> tuple[Generator, Recipe, list[str]]:
    """The generator for a recipe, and the recipe with the labels in `wanted` changed and all others kept, with a
    sentence for each other label that had to change (see `LabelTable.change`). Raises ValueError if the generator
    cannot reproduce the picture."""
    generator = load_generator(model, device)
    if recipe.blend is not None:
        parent = load_styled(recipe.find_parent(), device)
        if not isinstance(generator, StyledGenerator):
            raise ValueError(f"--like {recipe.source}: only generators with styles can be blended")
        generator = blend(parent, generator, recipe.blend.position, recipe.blend.width)
    fixed = conditioning.find(wanted, generator.config.data.attributes, printable(model))
    shot, notes = change_labels(recipe.shot, generator, fixed, printable(model), f"--like {recipe.source}")
    return generator, dataclasses.replace(recipe, shot=shot), notes


def change_labels(
    shot: Shot, generator: Generator, fixed: Mapping[str, int], model: str, label: str
) -> tuple[Shot, list[str]]:
    """The shot with the labels in `fixed` changed and everything else kept, and a sentence for each other label that
    had to change (see `LabelTable.change`). ValueError, beginning with `label`, if it does not fit `model`."""
    if "latent" not in shot:
        labels = conditioning.find(shot["labels"], generator.config.data.attributes, model, label)
        return _relabelled(shot, generator, labels, fixed)
    if not isinstance(generator, StyledGenerator):
        raise ValueError(f"{label}: its recipe contains styles, but {model} has none")
    try:
        ws = unpack(shot["latent"], generator)[None]
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from error
    return {**shot, "latent": pack(relabel(generator, ws, fixed)[0]), "labels": {}} if fixed else shot, []


def _relabelled(
    shot: Shot, generator: Generator, labels: Mapping[str, int], fixed: Mapping[str, int]
) -> tuple[Shot, list[str]]:
    """A shot of seeds with `labels`, with those in `fixed` changed, and what else changed by that."""
    table = generator.label_table
    before = {name: labels.get(name, conditioning.UNKNOWN) for name in table.names}
    after = table.change(before, fixed, _seed(shot)) if fixed else before
    named, were, are = _named(after, generator), table.excluded(before), table.excluded(after)
    changed = [name for name in table.names if name not in fixed and before[name] != after[name]]
    notes = [
        f"{name} is now unknown: it is never known where {are[name]} in the training data"
        if name in are
        else f"{name}={named[name]} was chosen by the seed: {name} was unknown because of {were[name]}"
        for name in changed
    ]
    return {**shot, "labels": named}, notes + table.hidden(after, fixed)


def _named(labels: Mapping[str, int], generator: Generator) -> dict[str, str]:
    """Labels as attribute -> value, without those that are unknown."""
    attributes = generator.config.data.attributes
    return {name: attributes[name][label] for name, label in labels.items() if label != conditioning.UNKNOWN}


def _seed(shot: Shot) -> int:
    """The seed that draws the labels of a shot."""
    return int(shot["seed"] if "seed" in shot else shot["seeds"][0])
