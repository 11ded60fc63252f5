"""The verb `kyara import`: converts a StyleGAN2 trained by another program to a Checkpoint."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from kyara import __version__
from kyara.files.atomic import check_free, replaced_folder
from kyara.files.names import printable
from kyara.verbs import DryRun, ExistingFile, Force, Result, checked

if TYPE_CHECKING:
    from kyara.generation.importing.convert import Converted
    from kyara.models.stylegan2 import Config


@dataclasses.dataclass(frozen=True)
class ImportResult(Result):
    """The Checkpoint that `import_` wrote."""

    out: Path
    source: Mapping[str, Any]  # The file's name and SHA-256, the program that wrote it, and notes on what differs
    license: str
    config: Mapping[str, Any]
    size: str  # Size of the pictures, such as 256 x 256
    dry_run: bool = False

    def __str__(self) -> str:
        did = "would write" if self.dry_run else "wrote"
        lines = [f"{did} {self.out}: a StyleGAN2 for {self.size} pixels, from {self.source['program']}"]
        lines += [*(f"  {note}" for note in self.source["notes"]), f"  license: {self.license}"]
        lines += [f"generate faces with: kyara generate {self.out} --rank none"]
        return "\n".join([*lines, f"fine-tune with: kyara train stylegan2 DATA --init {self.out}"])


@checked
def import_(
    file: Positional[ExistingFile],
    out: Positional[Path],
    *,
    license: str = "unknown",
    generator_only: bool = False,
    force: Force = False,
    dry_run: DryRun = False,
) -> ImportResult:
    """Convert a StyleGAN2 trained by another program to a Checkpoint.

    Reads .pkl files of NVIDIA's stylegan2-ada-pytorch and of StyleGAN2 in its stylegan3 repository, and .pt files of
    rosinality's stylegan2-pytorch. The same latent gives the same picture. No code in the file is executed. Other
    networks are rejected with the reason.

    Args:
        file: The .pkl or .pt file.
        out: Folder of the new Checkpoint.
        license: The license of the weights, as stated by their author; it is written to the model card.
        generator_only: Omit an unsupported discriminator, which is not needed to generate pictures.
    """
    if not license.isprintable():
        raise ValueError(f"--license {license!r}: must be one line of text, such as cc-by-4.0")
    if out.resolve() in file.resolve().parents:
        raise ValueError(f"{out}: contains the input {file.name}; choose another folder")
    from kyara.files import checkpoint  # imports torch
    from kyara.training.run import check_no_run

    check_no_run(out)
    check_free(out, checkpoint.CONFIG, force=force)

    found = _convert(file, generator_only)
    config = dataclasses.asdict(found.config)
    source = {"file": file.name, "sha256": fingerprint(file), "program": found.program, "notes": found.notes}
    size = f"{found.config.data.width} x {found.config.data.height}"
    result = ImportResult(out, source, license, config, size, dry_run)
    if not dry_run:
        text, about = card(found.config, source, license), {"source": source, "license": license}
        with replaced_folder(out, checkpoint.CONFIG, force=force) as new:
            checkpoint.write(new, model="stylegan2", config=config, weights=found.weights, card=text, about=about)
    return result


def _convert(file: Path, generator_only: bool) -> Converted:
    """Converts the file. Raises ValueError with the file's name, and a hint if an option helps."""
    from kyara.generation.importing.container import opened
    from kyara.generation.importing.convert import convert
    from kyara.generation.importing.values import ForeignError

    try:
        with opened(file) as value:
            return convert(value, file.stat().st_size, generator_only=generator_only)
    except ForeignError as error:
        of_discriminator = str(error).startswith(("D.", "D ", "d.", "d "))
        hint = "; --generator-only leaves it out" if of_discriminator and not generator_only else ""
        raise ValueError(f"{file}: {error}{hint}") from error


def fingerprint(file: Path) -> str:
    """The SHA-256 of a file."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def card(config: Config, source: Mapping[str, Any], license: str) -> str:
    """The Checkpoint's README.md."""
    notes = "".join(f"- {note}\n" for note in source["notes"]) or "- nothing\n"
    return f"""---
library_name: kyara
license: {json.dumps(license)}
---
# A StyleGAN2 for {config.data.width} x {config.data.height} pixels, imported

| | |
|---|---|
| file | `{printable(source["file"]).replace("|", " ").replace("`", " ")}`, in the layout of {source["program"]} |
| SHA-256 of the file | {source["sha256"]} |
| data, training | unknown |
| made with | Kyara {__version__} |

What differs from the file:

{notes}
To fine-tune it:

    kyara train stylegan2 DATA --init THIS_FOLDER

The license of these weights is {license if license != "unknown" else "unknown: ask the publisher of the file"}.
"""
