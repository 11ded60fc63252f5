"""Inverts picture files and writes a Gallery of the reconstructions."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from kyara import __version__, models
from kyara.files import checkpoint
from kyara.files.gallery import GalleryWriter
from kyara.files.pictures import to_float, to_uint8
from kyara.generation.recipe import TUNED
from kyara.generation.sampler import computed, synthesise
from kyara.generation.styles import load_styled, pack
from kyara.inversion.latents import LatentSpace
from kyara.inversion.photos import Photo, Photos
from kyara.inversion.search import SearchResult, SearchSettings, search, tune
from kyara.models.base import StyledGenerator
from kyara.perception.lpips import PerceptualDistance, load_perceptual
from kyara.training.runtime import pick_device


def square_side(generator: StyledGenerator, name: str) -> int:
    """The side of the generator's pictures in pixels. ValueError if they are not square, as aligned faces are."""
    width, height = generator.config.data.width, generator.config.data.height
    if width != height:
        raise ValueError(f"{name}: makes pictures of {height}x{width}; aligned faces are square")
    return width


def recipe_of(model: str, checkpoint_hash: str, device: torch.device) -> dict[str, Any]:
    """What the recipe of a latent says besides the latent, whose picture `synthesise` makes by itself."""
    recipe: dict[str, Any] = {"kyara": __version__, "model": model, "checkpoint": checkpoint_hash}
    return recipe | {"truncation": 1.0, "mirror": False, "labels": {}, "computed": computed(device, batch=1)}


def search_all(
    photos: Photos,
    batches: Iterable[list[Photo]],
    space: LatentSpace,
    perceptual: PerceptualDistance,
    settings: SearchSettings,
) -> Iterator[tuple[list[Photo], Tensor, SearchResult]]:
    """Each of the batches of photos, the same as a tensor (B, 3, H, W), and the latents found for it."""
    device = next(space.generator.parameters()).device
    with tqdm(total=len(photos), unit="picture", disable=None) as bar:
        for group in batches:
            targets = to_float(np.stack([photo.picture for photo in group])).to(device)
            yield group, targets, search(targets, space, perceptual, settings)
            bar.update(len(group))


class Inverter:
    """Inverts pictures in one generator. ValueError if a network is of another kind or missing."""

    def __init__(self, model: str, features: str, device: str, settings: SearchSettings, tune_steps: int) -> None:
        self.model, self.features, self.settings, self.tune_steps = model, features, settings, tune_steps
        self.generator = load_styled(model, pick_device(device))
        self.hash = checkpoint.read(model).hash
        self.perceptual = load_perceptual(features, pick_device(device))

    def open_pictures(self, sources: Sequence[Path], frame: str | None, face: int | None, batch: int) -> Photos:
        """The pictures, to be fitted to the generator's size. ValueError if they are too many to tune to."""
        photos = Photos(sources, frame, face, square_side(self.generator, self.model))
        if self.tune_steps and len(photos) > batch:
            all_of = f"all {len(photos):,} pictures at once"
            raise ValueError(f"--tune-steps: tunes one generator to {all_of}; --batch is {batch}")
        return photos

    def write(self, photos: Photos, out: Path, batch: int, command: str, force: bool) -> tuple[int, float, int, float]:
        """Writes the Gallery. Returns the number of pictures, the median distance, and the steps and seconds taken."""
        batches = photos.batches(batch, out)
        space, generator = LatentSpace(self.generator), self.generator
        recipe = recipe_of(self.model, self.hash, next(generator.parameters()).device)
        distances, steps, seconds = list[float](), 0, 0.0
        columns, sources = ["shows", "distance", "source"], [Path(self.model), *photos.paths]
        with GalleryWriter(out, columns, sources=sources, force=force) as gallery:
            for group, targets, found in search_all(photos, batches, space, self.perceptual, self.settings):
                if self.tune_steps:
                    generator = tune(found, targets, space, self.perceptual, self.tune_steps)
                    recipe |= write_tuned(out / TUNED, generator, self.model)
                    found.pictures = generator.synthesise(found.ws, found.noise).detach().clamp(-1, 1)
                    made, given = (self.perceptual.features(x) for x in (found.pictures, targets))
                    found.distance = self.perceptual.distance(made, given)
                _add(gallery, group, found, generator, recipe)
                distances += found.distance.tolist()
                steps, seconds = max(steps, found.steps), seconds + found.seconds
            about = f"{self.model}, {'noise and ' * self.settings.noise}{self.settings.space}, by {self.features}"
            gallery.finish(command=command, about=about, left_out=photos.failures)
        return len(distances), statistics.median(distances), steps, seconds


def write_tuned(path: Path, generator: StyledGenerator, parent: str) -> dict[str, str]:
    """Writes a fine-tuned copy of the generator `parent` as a Checkpoint. Returns what recipes say about it."""
    source, weights = checkpoint.read(parent), models.stored(generator)
    card = f"# {parent}, fine-tuned to a few pictures\n\nPivotal tuning (Roich et al. 2021) by `kyara invert`. "
    card += f"The terms of {parent} apply to it too, and the copyright of the pictures stays with their owners.\n"
    about = {"init": parent, **{key: value for key, value in source.about.items() if key == "data"}}
    checkpoint.write(path, model=source.model, config=source.config, weights=weights, card=card, about=about)
    return {"model": str(path), "checkpoint": checkpoint.read(path).hash}


def _add(
    gallery: GalleryWriter, photos: list[Photo], found: SearchResult, generator: StyledGenerator, recipe: dict[str, Any]
) -> None:
    """Writes each given picture, followed by the generator's."""
    (gallery.path / "given").mkdir(exist_ok=True)
    # A batch may compute in another order: without noise they are as `generate --like` makes them again.
    pictures = to_uint8(synthesise(generator, found.ws) if found.noise is None else found.pictures)
    for photo, ws, picture, distance in zip(photos, found.ws, pictures, found.distance.tolist(), strict=True):
        gallery.add(f"given/{photo.name}.png", photo.picture, shows="given", source=photo.source)
        latent = {**recipe, "latent": pack(ws)} if found.noise is None else None
        text = f"{distance:.4f}"
        gallery.add(f"{photo.name}.png", picture, latent, shows="found", distance=text, source=photo.source)
