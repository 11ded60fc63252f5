"""The verb `kyara generate`: generates a Gallery of pictures from seeds, each with a recipe to reproduce it.

Options are checked and the pictures planned before torch is imported."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from tqdm import tqdm
from tyro.conf import Positional

from kyara import __version__, verbs
from kyara.files.atomic import result_folder
from kyara.files.gallery import PAGE, TABLE, GalleryWriter
from kyara.files.names import counted, printable, short_name
from kyara.files.pictures import decode, write_animation
from kyara.generation.recipe import BUILTIN, Recipe, read_like
from kyara.generation.shots import (
    MOST_TURN,
    Shot,
    cells,
    choose_seeds,
    file_name,
    from_seeds,
    interpolation,
    turned,
)

if TYPE_CHECKING:
    from kyara.generation.pipeline import Made, Pipeline

FILM, FPS = "interpolation.webp", 30.0
LONGEST = 5_000  # Maximum number of frames of an interpolation: the animation is encoded in memory
TRUNCATION, FRAMES, RANK = 0.7, 60, "builtin:distortion"  # the defaults
TRIES = 10  # Maximum number of pictures generated for each requested one with --confirm


@dataclasses.dataclass(frozen=True)
class GenerateResult(verbs.Result):
    """Result of `generate`."""

    out: Path
    model: str
    checkpoint: str
    pictures: int  # Number of requested pictures
    kept: int
    truncation: float
    mirror: bool
    labels: Mapping[str, str]  # The labels given by --where
    confirm: str | None = None
    confirmed: int | None = None  # Number of pictures that show the attributes of --where; None without --confirm
    tried: int | None = None  # Number of pictures generated to find them
    like: Path | None = None
    identical: bool | None = None
    """Whether the picture equals that of --like in every pixel; None without --like, or with options that change it."""
    difference: int | None = None  # The largest difference to it, in levels of 255
    like_device: str | None = None  # The device that made it, if its recipe names another one than was used now
    best: list[dict[str, str]] = dataclasses.field(default_factory=list)  # The first row of the table
    notes: tuple[str, ...] = ()  # What --where asks for that the training data do not show, and labels that follow it
    dry_run: bool = False

    def __str__(self) -> str:
        notes = [f"note: {printable(note)}" for note in self.notes]
        if self.dry_run:
            what = f"{counted(self.pictures, 'picture')} with {printable(self.model)} in {self.out}"
            return "\n".join([f"would generate {what}", *notes])
        lines = [f"{self.out}: {self.kept:,} of {counted(self.pictures, 'picture')} by {printable(self.model)}"]
        if self.confirm is not None and self.confirmed is not None:
            wanted = ", ".join(f"{name}={value}" for name, value in self.labels.items())
            fewer = f", fewer than the {self.pictures:,} wanted" if self.confirmed < self.pictures else ""
            seen = f"{self.confirmed:,} of {counted(self.tried or 0, 'picture')} made{fewer}"
            lines.append(f"{printable(self.confirm)} saw {wanted} in {seen}")
            if fewer:
                lines.append("for more, leave out a value, or add --confirm none")
        if self.identical:
            lines.append(f"identical to {self.like}, pixel for pixel")
        elif self.identical is False:
            elsewhere = f"it was generated on {printable(self.like_device)}" if self.like_device else ""
            why = elsewhere or "it was edited, or generated on different hardware"
            lines.append(f"not identical to {self.like}, but up to {self.difference} of 255 levels apart: {why}")
        return "\n".join([*lines, *notes, f"look at {self.out / PAGE}"])


@dataclasses.dataclass(frozen=True)
class Plan:
    """The pictures to generate, planned without loading the networks."""

    model: str
    shots: Iterable[Shot]
    total: int
    truncation: float
    mirror: bool
    film: bool  # Whether the pictures are the frames of an interpolation
    like: Recipe | None = None
    confirm: str | None = None  # The tagger that confirms attributes


@verbs.checked
def generate(
    model: Positional[str | None] = None,
    *,
    count: Annotated[int | None, verbs.Range(1)] = None,
    seeds: verbs.Seeds = None,
    seed: verbs.Seed | None = None,
    where: verbs.Where = "",
    truncation: Annotated[float, verbs.Range(-2, 2, hint="usually 0.5 to 1")] = TRUNCATION,
    mirror: bool = False,
    turn: Annotated[float | None, verbs.Range(-MOST_TURN, MOST_TURN, hint="in degrees, positive to the right")] = None,
    interpolate: str | None = None,
    frames: Annotated[int, verbs.Range(2, LONGEST)] = FRAMES,
    keep: verbs.Keep = None,
    confirm: str | None = None,
    rank: str = RANK,
    upscale: str | None = None,
    like: verbs.ExistingFile | None = None,
    out: verbs.Out = None,
    batch: Annotated[int | None, verbs.Range(1, 4096)] = None,
    device: verbs.Device = "auto",
    force: verbs.Force = False,
    dry_run: verbs.DryRun = False,
) -> GenerateResult:
    """Generate pictures and write a Gallery of them, best first.

    A seed always gives the same picture, independent of the other pictures. Every PNG contains its recipe, from which
    --like reproduces it. Attributes not set by --where are sampled from their distribution in the training data.

    Args:
        model: The generator: a Checkpoint's folder, builtin:NAME or hf-hub:OWNER/NAME; by default builtin:character,
            with --like that of the recipe.
        count: Number of pictures, with consecutive seeds starting at --seed; by default 16.
        seed: The first seed, by default 0.
        truncation: 1 samples the full distribution, 0 gives the mean face; smaller values give cleaner pictures with
            less variety.
        mirror: Flip every picture horizontally.
        turn: Turn the heads by an angle in degrees, -25 to 25, positive to the right of the picture. Finished pictures
            are deformed for that, so it works with any generator of faces. Scores are of the pictures before.
        interpolate: Interpolate from seed to seed, such as 3-8 or 3-8-12; also writes an animation, interpolation.webp.
        frames: Number of pictures of an interpolation, both ends included.
        confirm: A tagger, such as builtin:tagger: keep only pictures for which it predicts the attributes of --where,
            and generate more until there are enough, at most 10 for each; or none. The default is
            builtin:character-tagger for the generators that it was made for, builtin:character and models rewritten
            from it, unless --seeds, --interpolate or --like say which pictures to make.
        rank: The model that scores and sorts the pictures, or none. An interpolation keeps its own order.
        upscale: Enlarge the pictures to twice their size with this model, and clean lines and areas; or none. Scores
            are of the pictures before. The default is builtin:upscaler for the generators that it was made for,
            builtin:character and models rewritten from it; with --like the model in the recipe.
        like: A PNG generated by Kyara: reproduce it with its model, seed, labels, truncation, mirroring, turn and
            upscaler. --where, --turn and --upscale change what they name and keep everything else. On the same kind of
            device, with the same version of PyTorch, every pixel is the same; on another kind they differ by about 1 of
            255 levels.
        batch: Number of pictures in memory at a time; does not affect the pictures. By default 16, on a GPU up to 64,
            as many as its memory allows.
    """
    wanted = verbs.parse_where(where)
    where = verbs.where_text(wanted)
    command = verbs.command_line(generate, locals())
    plan = _plan(model, count, seeds, seed, wanted, truncation, mirror, interpolate, frames, keep, confirm, rank, like)
    sources: list[str | Path] = [
        plan.model,
        rank,
        *(name for name in (like, confirm, upscale) if name not in (None, "none")),
    ]
    out = result_folder(out, f"galleries/generate-{short_name(plan.model)}", TABLE, force=force, sources=sources)

    enlarger = _find_upscaler(upscale, plan)
    shots, pipeline, made_by, notes = _load(plan, wanted, rank, enlarger, device)
    if turn is not None:
        shots = (turned(shot, turn) for shot in shots)
    result = GenerateResult(
        out, plan.model, made_by["checkpoint"], plan.total, 0, plan.truncation, plan.mirror, wanted, plan.confirm,
        like=like, notes=tuple(notes),
    )  # fmt: skip
    if dry_run:
        return dataclasses.replace(result, dry_run=True)
    columns = ["seed"] + ["position"] * plan.film + [*pipeline.generator.config.data.attributes]
    columns += ["score"] * (pipeline.scorer is not None)
    about = [plan.model, *([where] if where else []), f"truncation {plan.truncation:g}"]
    with GalleryWriter(out, columns, sources=sources, force=force) as gallery:
        tried, kept = _fill(gallery, plan, pipeline.run(shots, batch), made_by)
        made = len(gallery)
        if plan.film:
            write_animation(out / FILM, kept, FPS)
        about += [f"confirmed by {plan.confirm}: {made} of {tried}"] * (plan.confirm is not None)
        about += [f"best first by {rank}"] * (pipeline.scorer is not None) + [f"upscaled by {enlarger}"] * bool(
            enlarger
        )
        first = gallery.finish(command=command, about=", ".join(about), keep=keep, films=[FILM] * plan.film)
    if plan.confirm is not None:
        result = dataclasses.replace(result, confirmed=made, tried=tried)
    if plan.like is not None and not wanted and turn is None and upscale is None:
        result = dataclasses.replace(result, **_compared(plan.like, kept[0], pipeline.about()["device"]))
    return dataclasses.replace(result, kept=made if keep is None else min(keep, made), best=first[:1])


def _plan(
    model: str | None,
    count: int | None,
    seeds: str | None,
    seed: int | None,
    wanted: Mapping[str, str],
    truncation: float,
    mirror: bool,
    interpolate: str | None,
    frames: int,
    keep: int | None,
    confirm: str | None,
    rank: str,
    like: Path | None,
) -> Plan:
    """Plans the pictures. Raises ValueError for conflicting or invalid options."""
    if sum(option is not None for option in (seeds, seed, interpolate, like)) > 1:
        raise ValueError("--seeds, --seed, --interpolate and --like are mutually exclusive; give one of them")
    if count is not None and (interpolate is not None or like is not None):
        raise ValueError("--count: an interpolation has --frames instead, and --like makes one picture")
    if frames != FRAMES and interpolate is None:
        raise ValueError(f"--frames {frames}: needs --interpolate")
    if keep is not None and (rank == "none" or interpolate is not None):
        raise ValueError("--keep: needs a ranking; leave out --rank none and --interpolate")
    if interpolate is not None and rank not in (RANK, "none"):
        raise ValueError(f"--rank {rank}: an interpolation keeps its own order; leave it out")
    if confirm not in (None, "none") and not (wanted and seeds is interpolate is like is None):
        raise ValueError("--confirm: needs --where, and cannot be combined with --seeds, --interpolate or --like")
    if like is not None:
        for name, given in (("--truncation", truncation != TRUNCATION), ("--mirror", mirror)):
            if given:
                raise ValueError(f"{name}: is taken from the recipe of --like {like}; leave it out")
        recipe = read_like(like)
        return Plan(recipe.find(model), [recipe.shot], 1, recipe.truncation, recipe.mirror, False, recipe)
    model = model or BUILTIN
    if interpolate is not None:
        return Plan(model, interpolation(interpolate, frames), frames, truncation, mirror, True)
    ranges = choose_seeds(count, seeds, seed)
    total = sum(map(len, ranges))
    tagger = _find_confirmer(confirm, model, wanted) if wanted and seeds is None else None
    if tagger is not None:
        ranges = [range(ranges[0].start, min(ranges[0].start + total * TRIES, verbs.LAST_SEED + 1))]
    return Plan(model, from_seeds(ranges), total, truncation, mirror, False, confirm=tagger)


def _find_confirmer(given: str | None, model: str, wanted: Mapping[str, str]) -> str | None:
    """The name of the tagger that confirms the attributes, if one does."""
    from kyara.generation.character import confirmer  # imports torch

    return confirmer(given, model, wanted)


def _find_upscaler(given: str | None, plan: Plan) -> str | None:
    """The name of the model that enlarges the pictures, if one does."""
    from kyara.generation.character import enlarger  # imports torch

    if given is None and plan.like is not None:
        return plan.like.find_upscaler()
    return enlarger(given, plan.model)


def _load(
    plan: Plan, wanted: Mapping[str, str], rank: str, upscaler: str | None, device: str
) -> tuple[Iterable[Shot], Pipeline, dict[str, Any], list[str]]:
    """The shots with their labels, the networks, what recipes say of them, and notes on the labels. Raises ValueError
    for an option that the networks do not support."""
    from kyara import models
    from kyara.curation.scoring import load_scorer
    from kyara.files import checkpoint
    from kyara.generation import pipeline
    from kyara.generation.confirm import load_judge
    from kyara.generation.upscaling import Upscaling
    from kyara.nn import conditioning
    from kyara.training.inference import device_name
    from kyara.training.runtime import pick_device

    target = pick_device(device)
    fixed = conditioning.find(wanted, models.read_config(plan.model).data.attributes, printable(plan.model))
    shots = plan.shots
    if plan.like is not None:
        generator, recipe, notes = pipeline.repeated(plan.like, plan.model, wanted, target)
        shots = [recipe.shot]
    else:
        generator = pipeline.load_generator(plan.model, target)
        notes = generator.label_table.doubts(fixed)
        if generator.config.data.attributes:
            shots = pipeline.labelled(shots, generator, fixed, film=plan.film)
    judge = load_judge(plan.confirm, wanted, target) if plan.confirm is not None else None
    scorer = None if rank == "none" or plan.film else load_scorer(rank, target)
    at_once = plan.like.batch_on(device_name(target)) if plan.like is not None and target.type == "cuda" else None
    upscaling = Upscaling(upscaler, target) if upscaler else None
    networks = pipeline.Pipeline(generator, plan.truncation, plan.mirror, scorer, judge, upscaling, at_once)
    made_by = {"checkpoint": checkpoint.read(plan.model).hash, "computed": networks.about()}
    return shots, networks, made_by | (upscaling.recipe if upscaling else {}), notes


def _fill(
    gallery: GalleryWriter, plan: Plan, pictures: Iterable[Made], made_by: Mapping[str, Any]
) -> tuple[int, list[np.ndarray]]:
    """Writes pictures until there are enough. Returns the number generated, and the pictures of a film or of --like."""
    recipe: dict[str, Any] = {"kyara": __version__, "model": plan.model, **made_by}
    recipe |= {"truncation": plan.truncation, "mirror": plan.mirror, "labels": {}}
    if plan.like is not None and plan.like.blend is not None:
        recipe["blend"] = dataclasses.asdict(plan.like.blend)
    tried, kept = 0, list[np.ndarray]()
    with tqdm(total=plan.total, unit="picture", disable=None) as bar:
        for made in pictures:
            tried += 1
            if made.confirmed:
                name, row = file_name(made.shot, len(gallery)), cells(made.shot)
                gallery.add(name, made.picture, recipe | made.shot, score=made.score, **row)
                bar.update()
                if plan.film or plan.like is not None:
                    kept.append(made.picture)
            if len(gallery) == plan.total:
                break
    return tried, kept


def _compared(like: Recipe, picture: np.ndarray, device: str) -> dict[str, Any]:
    """The comparison of a picture with that of --like, for the result."""
    given = decode(like.source)
    same_size = given.shape == picture.shape
    difference = int(np.abs(given.astype(int) - picture).max()) if same_size else 255
    return {"identical": difference == 0, "difference": difference, "like_device": like.other_device(device)}
