"""Drawing characters from the latents of photos (`--method reverse`): from photos to the files of a Gallery."""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kyara.curation.scoring import load_scorer, score_pictures
from kyara.files import checkpoint
from kyara.files.gallery import GalleryWriter
from kyara.files.names import counted, printable
from kyara.files.pictures import encode_png, to_uint8
from kyara.generation import styles
from kyara.generation.recipe import Blend
from kyara.generation.sampler import synthesise
from kyara.inversion import reverse, traits
from kyara.inversion.chain import Chain, write_page
from kyara.inversion.inverter import recipe_of, search_all, square_side
from kyara.inversion.latents import LatentSpace
from kyara.inversion.photos import Photo, Photos
from kyara.inversion.pose import PoseMatcher
from kyara.inversion.search import SearchResult, SearchSettings
from kyara.inversion.sheet_rows import SheetRows
from kyara.models.base import StyledGenerator
from kyara.nn import conditioning
from kyara.perception.lpips import load_perceptual
from kyara.training.runtime import pick_device

SWEEP = tuple((position, width) for width in (0.0, 1.0) for position in (2, 3, 4, 5, 6))  # layer and width of blends
MAX_SCORE = 0.8
"""Scores of drawings are clamped to this. Otherwise those nearest to the average face would always be chosen, and all
characters would look alike."""


@dataclass
class Generators:
    """Parent and child, which share their latents, and their blends."""

    parent_name: str
    child_name: str
    parent: StyledGenerator
    child: StyledGenerator
    position: float
    width: float
    blend: StyledGenerator  # draws the characters
    sweep: list[StyledGenerator]

    @classmethod
    def load(cls, parent: str, child: str, device: str, position: float, width: float, sweep: bool) -> Generators:
        """ValueError if the two have different shapes."""
        old, new = (styles.load_styled(name, pick_device(device)) for name in (parent, child))
        shapes = [(g.config.data.width, g.config.data.height, *g.mean_w(1).shape[1:]) for g in (old, new)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"--parent {parent}, --child {child}: of different shapes, so they share no latents")
        blend, *swept = (styles.blend(old, new, *place) for place in ((position, width), *SWEEP * sweep))
        return cls(parent, child, old, new, position, width, blend, swept)

    def open_photos(self, sources: Sequence[Path], frame: str | None, face: int | None) -> Photos:
        """The photos, to be cropped to the parent's size."""
        return Photos(sources, frame, face, square_side(self.parent, self.parent_name))

    def recipes(self) -> list[dict[str, Any]]:
        """What the recipes of all characters say: those of `blend`, and of each of `sweep`."""
        device = next(self.child.parameters()).device
        recipe = recipe_of(self.child_name, checkpoint.read(self.child_name).hash, device)
        hash_ = checkpoint.read(self.parent_name).hash
        places = [(self.position, self.width), *SWEEP[: len(self.sweep)]]
        return [
            recipe | ({"blend": dataclasses.asdict(Blend(self.parent_name, hash_, *place))} if any(place) else {})
            for place in places  # the child makes a character without the parent if both are 0
        ]


@dataclass
class Drawing:
    """The result for one photo."""

    found: np.ndarray  # the parent's picture, (H, W, 3) uint8
    distance: float  # perceptual, of that picture to the photo
    variants: np.ndarray  # all of them, best first, (V, H, W, 3) uint8
    styles: Tensor  # of all of them, (V, layers, w_dim)
    score: float  # probability that the best is undistorted
    kept: float  # how much of the photo the best keeps, as `traits.kept` measures it
    labels: dict[str, str]
    sweep: list[np.ndarray]  # the best, drawn by blends of parent and child, (H, W, 3) uint8 each


class Characters:
    """Draws photos. ValueError if the child lacks what is wanted, or a network is of another kind."""

    def __init__(
        self,
        generators: Generators,
        colours: reverse.Colours | None,
        where: Mapping[str, str],
        pose: bool,
        settings: SearchSettings,
        features: str,
        rank: str,
    ) -> None:
        self.generators, child = generators, generators.child
        self.attributes = child.config.data.attributes
        self.fixed = conditioning.find(where, self.attributes, printable(generators.child_name))
        self.colours: reverse.Colours = colours or ("labels" if where else "photo")
        if self.colours == "labels" and not self.attributes:
            name = printable(generators.child_name)
            raise ValueError(f"--colours labels: {name} has no attributes; mean and photo need none")
        device = next(child.parameters()).device
        self.scorer, self.perceptual = load_scorer(rank, device), load_perceptual(features, device)
        self.settings, self.pose = settings, pose

    def write(
        self, photos: Photos, out: Path, batch: int, keep_photos: bool, command: str, force: bool
    ) -> tuple[int, float, list[str]]:
        """Writes the Gallery. Returns the number of characters, the seconds of the search, and warnings."""
        generators, chains, seconds = self.generators, list[Chain](), 0.0
        batches = photos.batches(batch, out)
        tried = reverse.variants(generators.child, self.colours, reverse.colour_layer(generators.child))
        poses = PoseMatcher(generators.parent, generators.child) if self.pose else None
        recipes, rows = generators.recipes(), SheetRows()
        columns = [*self.attributes, "score", "kept", "distance", "source"]
        sources: list[str | Path] = [generators.parent_name, generators.child_name, *photos.paths]
        with GalleryWriter(out, columns, sources=sources, force=force) as gallery:
            space = LatentSpace(generators.parent)
            for group, targets, found in search_all(photos, batches, space, self.perceptual, self.settings):
                seconds += found.seconds
                for photo, drawing in zip(group, self.draw(group, targets, found, tried, poses), strict=True):
                    chains.append(_write_chain(gallery, photo, drawing, recipes, keep_photos))
                    pictures = [photo.picture] * keep_photos + [drawing.found, drawing.variants[0]]
                    rows.add(chains[-1].character, drawing.score, pictures)
            gallery.finish(command=command, sheet=rows.png)
        about = f"{counted(len(chains), 'photo')} by {generators.parent_name}, drawn by {generators.child_name}"
        write_page(out, chains, photos.failures, command=command, about=about)
        return len(chains), seconds, [warning for chain in chains for warning in chain.warnings]

    def draw(
        self,
        photos: list[Photo],
        targets: Tensor,
        found: SearchResult,
        tried: list[reverse.Variant],
        poses: PoseMatcher | None,
    ) -> list[Drawing]:
        """Draws a batch of photos; `targets` are the same as a tensor (B, 3, H, W)."""
        generators, device = self.generators, found.ws.device
        labels: list[dict[str, int]] = [{} for _ in photos]
        if self.colours == "labels":
            labels = [reverse.labels_of_photo(photo.picture, self.attributes, self.fixed) for photo in photos]
        columns = {name: torch.tensor([one.get(name, -1) for one in labels], device=device) for name in self.attributes}
        seeds = [zlib.crc32(photo.picture.tobytes()) for photo in photos]  # the same photo, the same character
        blend, match_pose = generators.blend, None
        if poses:
            match_pose = functools.partial(poses.match, blend, target=poses.target(targets))
        ws_of, variants = reverse.draw(blend, generators.child, found.ws, columns, tried, seeds, match_pose)
        pictures = variants.cpu().numpy().copy()  # (B, V, H, W, 3)
        drawings = []
        for i, (photo, picture) in enumerate(zip(photos, to_uint8(found.pictures), strict=True)):
            scores = score_pictures(variants[i], self.scorer)
            kept = [traits.kept(photo.picture, variant) for variant in pictures[i]]
            order = sorted(range(len(tried)), key=lambda v: -min(scores[v], MAX_SCORE) * kept[v] ** 2)
            best = order[0]
            ws = ws_of[i, [best]]
            swept = [to_uint8(synthesise(one, ws))[0] for one in generators.sweep]
            names = {name: self.attributes[name][label] for name, label in labels[i].items()}
            # A batch may compute in another order: the drawings are as `generate --like` makes them again.
            redrawn = to_uint8(synthesise(blend, ws_of[i, order]))
            result = float(found.distance[i]), redrawn, ws_of[i, order], scores[best], kept[best]
            drawings.append(Drawing(picture, *result, names, swept))
        return drawings


def _write_chain(
    gallery: GalleryWriter, photo: Photo, drawing: Drawing, recipes: Sequence[Mapping[str, Any]], keep_photo: bool
) -> Chain:
    """Writes the character as a picture of the Gallery, and everything else into its folder `steps`. `recipes` are
    those of `Generators`."""
    (gallery.path / "steps").mkdir(exist_ok=True)
    recipe, *sweep_recipes = recipes
    best, *others = ({**recipe, "latent": styles.pack(ws)} for ws in drawing.styles)

    def write(kind: str, picture: np.ndarray, recipe: Mapping[str, Any] | None = None) -> str:
        name = f"steps/{photo.name}-{kind}.png"
        (gallery.path / name).write_bytes(encode_png(picture, recipe))
        return name

    character = f"{photo.name}.png"
    cells: dict[str, object] = {**drawing.labels, "kept": f"{drawing.kept:.4f}", "distance": f"{drawing.distance:.4f}"}
    png = encode_png(drawing.variants[0], best)
    gallery.add(character, png, score=drawing.score, source=photo.source, **cells)
    about = [f"{key} {value}" for key, value in drawing.labels.items()]
    return Chain(
        name=photo.name,
        about=", ".join([*about, f"undistorted {drawing.score:.2f}", f"kept {drawing.kept:.2f}"]),
        photo=write("photo", photo.picture) if keep_photo else None,
        found=write("found", drawing.found),
        character=character,
        others=[
            write(f"other{i}", picture, recipe)
            for i, (picture, recipe) in enumerate(zip(drawing.variants[1:], others, strict=True), 1)
        ],
        sweep=[
            (
                write(f"blend{p}{'-wide' * bool(w)}", picture, {**recipe, "latent": best["latent"]}),
                f"from layer {p}" + ", gradually" * bool(w),
            )
            for (p, w), picture, recipe in zip(SWEEP, drawing.sweep, sweep_recipes, strict=False)
        ],
        warnings=photo.warnings,
    )
