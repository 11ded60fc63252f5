"""Generating: seeds become pictures, each carrying the recipe that makes it again."""

from __future__ import annotations

import dataclasses
import json as json_format
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from tyro.conf import Positional

from kyara import __version__
from kyara.curation.scoring import Scorer as Recogniser
from kyara.curation.scoring import crop as fit
from kyara.curation.scoring import load_scorer as load_recogniser
from kyara.curation.scoring import score
from kyara.files import checkpoint
from kyara.files.contact_sheet import contact_sheet
from kyara.files.gallery import PAGE, GalleryWriter, command_line
from kyara.files.names import printable
from kyara.files.pictures import decode, encode_png, to_float, to_uint8, write_animation
from kyara.generation.confirm import TRIES, load_judge
from kyara.generation.recipe import BUILTIN, LAST_SEED, Recipe, Shot, read_like
from kyara.generation.styles import blend, load_styled, pack, relabel, render_styles, unpack
from kyara.models import load
from kyara.models.base import Generator, StyledGenerator, latents
from kyara.nn import conditioning
from kyara.training.runtime import pick_device

COUNT = 16
TOGETHER = 8
"""Latents the network always works on at once, the last ones repeated if there are fewer: a convolution may
compute in another order for another number, and a seed's picture would change in its last bits."""
FILM, FPS = "interpolation.webp", 30.0

if TYPE_CHECKING:
    Where = str | Mapping[str, str]
else:
    Where = str  # what the command line can say


def generate(
    model: Positional[str] = BUILTIN,
    *,
    count: int | None = None,
    seeds: str | None = None,
    seed: int | None = None,
    where: Where = "",
    truncation: float = 0.7,
    mirror: bool = False,
    interpolate: str | None = None,
    frames: int = 60,
    keep: int | None = None,
    confirm: str | None = None,
    rank: str = "builtin:distortion",
    like: Path | None = None,
    out: Path = Path("avatars"),
    batch: int = 16,
    device: str = "auto",
    force: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> Path:
    """Make new pictures and write a Gallery of them, best first.

    A seed gives the same picture whatever is made beside it. Every PNG carries its recipe, from which --like
    makes it again.

    Args:
        model: The generator: a Checkpoint's folder, builtin:NAME or hf-hub:OWNER/NAME.
        count: How many pictures, from --seed on; by default 16.
        seeds: Exactly these seeds: numbers and ranges, such as 0-35,77.
        seed: The first seed, by default 0; another one gives other faces.
        where: What the pictures shall show, as hair=silver,eyes=red, of a model that learned attributes. What is not
            named comes as often as in the data it learned from.
        truncation: 1 draws from everything the model knows, 0 gives its average face; less is tidier and
            more alike.
        mirror: Flip every picture left to right.
        interpolate: Morph from seed to seed, such as 3-8 or 3-8-12; also writes an animation,
            interpolation.webp.
        frames: Pictures of an interpolation, both ends included.
        keep: Keep the best N of the pictures made.
        confirm: A tagger, as builtin:tagger: only pictures in which it sees what --where asks for count, and more are
            made until there are enough, at most 10 for each.
        rank: The recogniser that orders the pictures, or none. An interpolation stays in its own order.
        like: Make exactly this picture again: a PNG that Kyara made. Its recipe says the model, the seed, the
            attributes, the truncation and the mirroring. One that kyara invert found may be changed by --where.
        out: Folder of the new Gallery.
        batch: Pictures in memory at a time; it changes neither the pictures nor, much, the speed.
        device: auto, cpu, cuda or cuda:N.
        force: Replace an older Gallery at --out.
        dry_run: Say what would be done, write nothing.
        json: Print the result as JSON.

    Returns:
        The folder of the new Gallery.
    """
    out = Path(out)  # from Python, a text will do
    asked = conditioning.parse(where)
    where = ",".join(f"{name}={value}" for name, value in asked.items())
    command = command_line(generate, locals())
    if sum(option is not None for option in (seeds, seed, interpolate, like)) > 1:
        raise ValueError("--seeds, --seed, --interpolate and --like: each says what to make; give one of them")
    if count is not None and (interpolate is not None or like is not None):
        raise ValueError("--count: an interpolation has --frames instead, and --like makes one picture")
    for option, number, least in (("--keep", keep, 1), ("--batch", batch, 1), ("--frames", frames, 2)):
        if number is not None and number < least:
            raise ValueError(f"{option} {number}: must be {least} or more")
    if keep is not None and (rank == "none" or interpolate is not None):
        raise ValueError("--keep: needs a ranking; leave out --rank none and --interpolate")
    if confirm is not None and (not asked or seeds is not None or interpolate is not None):
        raise ValueError(
            "--confirm: needs --where, and makes as many pictures as it takes: no --seeds, no --interpolate"
        )
    if not abs(truncation) <= 2:
        raise ValueError(f"--truncation {truncation}: give a number from -2 to 2, usually 0.5 to 1")

    # What to make: shots are drawn from an iterator, so that a million of them cost no memory.
    shots: Iterable[Shot]
    if like is not None:
        repeated = read_like(like)
        model = repeated.find(model)
        truncation, mirror, shots, total = repeated.truncation, repeated.mirror, [repeated.shot], 1
        if asked and "latent" not in repeated.shot:
            raise ValueError("--where: the recipe of --like says what the picture shows; leave one of the two out")
    elif interpolate is not None:
        shots, total = morph(interpolate, frames), frames
    else:
        ranges = choose_seeds(count, seeds, seed)
        total = sum(map(len, ranges))
        if confirm is not None:
            ranges = [range(ranges[0].start, min(ranges[0].start + total * TRIES, LAST_SEED + 1))]
        shots = ({"seed": number} for number in chain(*ranges))

    # With which networks, and where to.
    device_found = pick_device(device)
    generator = load_generator(model, device_found)
    blended: dict[str, Any] = {}
    if like is not None and repeated.blend is not None:
        generator = blend_again(repeated, generator, device_found)
        blended = {"blend": dataclasses.asdict(repeated.blend)}
    if like is not None and "latent" in repeated.shot:
        shots = [edited(repeated, generator, asked, printable(model))]
    elif like is not None:
        conditioning.find(repeated.shot["labels"], generator.config.data.attributes, printable(model), f"--like {like}")
    elif generator.config.data.attributes or asked:
        fixed = conditioning.find(asked, generator.config.data.attributes, printable(model))
        shots = labelled(shots, generator, fixed, film=interpolate is not None)
    judge = load_judge(confirm, asked, device_found) if confirm is not None else None
    recogniser = None if rank == "none" or interpolate is not None else load_recogniser(rank, device_found)
    recipe: dict[str, Any] = {"kyara": __version__, "model": model, "checkpoint": checkpoint.read(model).hash}
    recipe |= {"truncation": truncation, "mirror": mirror, "labels": {}, **blended}
    report = {"out": str(out), "pictures": total, **recipe, "labels": asked}
    if dry_run:
        print(json_format.dumps(report) if json else f"would make {total:,} pictures with {model} in {out}")
        return out

    # Make, score and write them, a batch at a time.
    columns = ["seed"] + ["position"] * (interpolate is not None) + [*generator.config.data.attributes]
    columns += ["score"] * (recogniser is not None)
    sources: list[str | Path] = [model, rank, *([like] if like else []), *([confirm] if confirm else [])]
    tried = 0
    with (
        GalleryWriter(out, columns, sources=sources, force=force) as made,
        tqdm(total=total, unit="picture", disable=None) as bar,
    ):
        for group in _groups(shots, batch):
            if isinstance(generator, StyledGenerator) and "latent" in group[0]:
                pictures = render_styles(generator, torch.stack([unpack(shot["latent"], generator) for shot in group]))
            else:
                z = torch.cat([latent(shot, generator.z_dim) for shot in group])  # (B, z_dim)
                labels = as_labels(group, generator.config.data.attributes)
                pictures = render(generator, z, labels, truncation=truncation, mirror=mirror)
            shown = judge(pictures) if judge else [True] * len(group)
            scores = appraise(pictures, recogniser) if recogniser else [None] * len(group)
            before = len(made)
            for shot, picture, value, fits in zip(group, pictures, scores, shown, strict=True):
                if len(made) == total:
                    break
                tried += 1
                if fits:
                    png = encode_png(picture, {**recipe, **shot})
                    made.add(_file_name(shot, len(made)), png, score=value, **_cells(shot))
            bar.update(len(made) - before)
            if len(made) == total:
                break
        if interpolate is not None:
            files = (out / f"frame{i:04d}.png" for i in range(total))
            write_animation(out / FILM, (decode(file) for file in files), FPS)
        first = made.finish(
            command=command,
            sheet=contact_sheet,
            about=", ".join(
                [model, *([where] if where else []), f"truncation {truncation:g}"]
                + [f"confirmed by {confirm}: {len(made)} of {tried}"] * (judge is not None)
                + [f"best first by {rank}"] * (recogniser is not None)
            ),
            keep=keep,
            film=FILM if interpolate is not None else None,
        )

        found = len(made)
    report["kept"] = found if keep is None else min(keep, found)
    if judge is not None:
        report |= {"confirm": confirm, "confirmed": found, "tried": tried}
    if like is not None and not asked:
        report["identical"] = bool(np.array_equal(decode(like), decode(out / first[0]["file_name"])))
    print(json_format.dumps(report | {"best": first[:1]}) if json else _summary(report, like))
    return out


@torch.inference_mode()
def render(
    generator: Generator,
    z: Tensor,
    labels: Mapping[str, Tensor] | None = None,
    *,
    truncation: float = 1.0,
    mirror: bool = False,
) -> np.ndarray:
    """The pictures of latents z (B, z_dim) and labels (B,) by attribute: (B, H, W, 3) uint8. A picture does not
    depend on those beside it, nor on how many there are."""
    device = next(generator.parameters()).device
    made = []
    for begin in range(0, len(z), TOGETHER):
        index = torch.arange(begin, begin + TOGETHER).clamp_max(len(z) - 1)  # (TOGETHER,)
        asked = {name: label[index].to(device) for name, label in (labels or {}).items()}
        pictures = generator.sample(z[index].to(device), truncation=truncation, labels=asked)
        made.append(pictures[: len(z) - begin])
    pictures = torch.cat(made)  # (B, 3, H, W)
    return to_uint8(pictures.flip(3) if mirror else pictures)


def appraise(pictures: np.ndarray, recogniser: Recogniser) -> list[float]:
    """The score of each picture of (B, H, W, 3) uint8, as `kyara rank` would give it."""
    fitted = np.stack([fit(picture, recogniser) for picture in pictures])
    values: list[float] = score(to_float(fitted), recogniser).tolist()
    return values


def labelled(shots: Iterable[Shot], generator: Generator, fixed: Mapping[str, int], *, film: bool) -> Iterator[Shot]:
    """The shots with the labels they are made with: those in `fixed`, the others drawn for the seed from the data's
    joint distribution. A film keeps what its first seed drew: it shall move, not flicker."""
    attributes, counts = generator.config.data.attributes, generator.config.data.label_counts
    names: dict[str, str] | None = None
    for shot in shots:
        if names is None or not film:
            seed = shot["seed"] if "seed" in shot else shot["seeds"][0]
            drawn = conditioning.draw(attributes, counts, fixed, seed)
            names = {name: attributes[name][label] for name, label in drawn.items() if label >= 0}
        yield {**shot, "labels": names}


def blend_again(repeated: Recipe, child: Generator, device: torch.device) -> StyledGenerator:
    """The blend of two generators that made a picture. ValueError if one of them cannot be found, or they do not
    fit."""
    assert repeated.blend is not None
    parent = load_styled(repeated.find_parent(), device)
    if not isinstance(child, StyledGenerator):
        raise ValueError(f"--like {repeated.source}: only generators with styles can be blended")
    return blend(parent, child, repeated.blend.position, repeated.blend.width)


def edited(repeated: Recipe, generator: Generator, asked: Mapping[str, str], model: str) -> Shot:
    """The shot of a latent that `kyara invert` found, changed to show what --where asks for."""
    if not isinstance(generator, StyledGenerator):
        raise ValueError(f"--like {repeated.source}: its recipe holds styles, and {model} has none")
    try:
        ws = unpack(repeated.shot["latent"], generator)[None]
    except ValueError as error:
        raise ValueError(f"--like {repeated.source}: {error}") from error
    if not asked:
        return repeated.shot
    fixed = conditioning.find(asked, generator.config.data.attributes, model)
    return {"latent": pack(relabel(generator, ws, fixed)[0]), "labels": {}}


def as_labels(shots: Sequence[Shot], attributes: Mapping[str, Sequence[str]]) -> dict[str, Tensor]:
    """The labels of shots by attribute, (B,) each; unknown where a shot says nothing."""
    return {
        name: torch.tensor([[*values].index(v) if (v := shot["labels"].get(name)) else -1 for shot in shots])
        for name, values in attributes.items()
    }


def latent(shot: Shot, z_dim: int) -> Tensor:
    """z of one picture, (1, z_dim)."""
    if "seed" in shot:
        return latents([shot["seed"]], z_dim)
    a, b = latents(shot["seeds"], z_dim)
    return slerp(a, b, shot["position"])[None]


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Spherical interpolation (Shoemake 1985) from a to b, each (z_dim,), at t in [0, 1]. A straight line
    would pass through latents shorter than any that the model was trained on."""
    a64, b64 = a.double(), b.double()
    cosine = torch.dot(a64, b64) / (a64.norm() * b64.norm())
    angle = torch.arccos(cosine.clamp(-1, 1))
    return (((1 - t) * angle).sin() * a64 + (t * angle).sin() * b64).div(angle.sin()).to(a.dtype)


def choose_seeds(count: int | None, seeds: str | None, seed: int | None) -> list[range]:
    """The seeds that --count, --seeds and --seed ask for; ValueError if they contradict each other."""
    if seeds is None:
        first, many = 0 if seed is None else seed, COUNT if count is None else count
        if many < 1:
            raise ValueError(f"--count {many}: must be 1 or more")
        if first < 0 or first + many - 1 > LAST_SEED:
            raise ValueError(f"--seed {first}: seeds go from 0 to {LAST_SEED}, and {many} are asked for")
        return [range(first, first + many)]
    ranges = parse_seeds(seeds)
    if count is not None and count != (total := sum(map(len, ranges))):
        raise ValueError(f"--count {count}: but --seeds {seeds} names {total}; leave one of the two out")
    return ranges


def parse_seeds(text: str) -> list[range]:
    """The seeds in numbers and ranges such as "0-35,77", ends included. ValueError names what is wrong."""
    ranges = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,10})\s*(?:-\s*([0-9]{1,10})\s*)?", part)
        if not match:
            raise ValueError(f"--seeds {text}: {part!r} is neither a number nor a range; write 0-35,77")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last <= LAST_SEED:
            raise ValueError(f"--seeds {text}: {part!r} must count upwards and end at {LAST_SEED} or before")
        ranges.append(range(first, last + 1))
    for before, after in pairwise(sorted(ranges, key=lambda r: r.start)):
        if after.start < before.stop:
            raise ValueError(f"--seeds {text}: seed {after.start} is named twice; name each once")
    return ranges


def morph(text: str, frames: int) -> list[Shot]:
    """The shots from seed to seed of "3-8-12", evenly spaced, first and last included."""
    if not re.fullmatch(r"[0-9]{1,10}(-[0-9]{1,10})+", text) or max(keys := [*map(int, text.split("-"))]) > LAST_SEED:
        raise ValueError(f"--interpolate {text}: name two seeds or more, such as 3-8 or 3-8-12")
    if any(a == b for a, b in pairwise(keys)):
        raise ValueError(f"--interpolate {text}: two seeds in a row are the same; nothing would move")
    shots: list[Shot] = []
    for i in range(frames):
        leg, position = divmod(i * (len(keys) - 1), frames - 1)
        if leg == len(keys) - 1:  # the end of the last leg, not the beginning of one more
            leg, position = leg - 1, frames - 1
        shots.append({"seeds": keys[leg : leg + 2], "position": position / (frames - 1)})
    return shots


def load_generator(name: str, device: torch.device) -> Generator:
    """The generator of a Checkpoint. ValueError if the model there does not make pictures from seeds."""
    model = load(name, device)
    if not isinstance(model, Generator):
        raise ValueError(f"{name}: this model does not make pictures from seeds; {BUILTIN} does")
    return model


def _groups(shots: Iterable[Shot], size: int) -> Iterator[list[Shot]]:
    remaining = iter(shots)
    while group := list(islice(remaining, size)):
        yield group


def _file_name(shot: Shot, i: int) -> str:
    if "latent" in shot:
        return "latent.png"
    return f"seed{shot['seed']:04d}.png" if "seed" in shot else f"frame{i:04d}.png"


def _cells(shot: Shot) -> dict[str, object]:
    """What the table says of a picture."""
    labels = shot.get("labels", {})
    if "latent" in shot:
        return labels
    if "seed" in shot:
        return {"seed": shot["seed"], **labels}
    return {"seed": "-".join(map(str, shot["seeds"])), "position": f"{shot['position']:.4f}", **labels}


def _summary(report: Mapping[str, Any], like: Path | None) -> str:
    out = Path(report["out"])
    lines = [f"{out}: {report['kept']:,} of {report['pictures']:,} pictures by {printable(report['model'])}"]
    if "tried" in report:
        asked = ", ".join(f"{name} {value}" for name, value in report["labels"].items())
        less = f", fewer than the {report['pictures']:,} asked for" if report["confirmed"] < report["pictures"] else ""
        seen = f"{report['confirmed']:,} of {report['tried']:,} pictures made{less}"
        lines.append(f"{printable(report['confirm'])} saw {asked} in {seen}")
    if report.get("identical"):
        lines.append(f"identical to {like}, pixel for pixel")
    elif "identical" in report:
        lines.append(f"not identical to {like}: that one was edited, or made on another kind of processor")
    return "\n".join([*lines, f"look at {out / PAGE}"])
