"""The verb `kyara import`: a StyleGAN2 that another program trained becomes a Checkpoint."""

from __future__ import annotations

import dataclasses
import hashlib
import json as json_format
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from kyara import __version__
from kyara.files import checkpoint
from kyara.files.atomic import free_folder
from kyara.files.names import printable
from kyara.generation.importing.container import opened
from kyara.generation.importing.convert import convert
from kyara.generation.importing.unpickle import ForeignError
from kyara.models.stylegan2 import Config
from kyara.training.run import STATE


def import_(
    file: Positional[Path],
    out: Positional[Path],
    *,
    license: str = "unknown",
    generator_only: bool = False,
    force: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> Path:
    """Make a Checkpoint of a StyleGAN2 that another program trained.

    Reads .pkl files of NVIDIA's stylegan2-ada-pytorch and of StyleGAN2 in its stylegan3 repository, and .pt files of
    rosinality's stylegan2-pytorch. The same latent gives the same picture. Nothing in the file is run, whatever it
    holds; what is not such a network is refused with the reason.

    Args:
        file: The .pkl or .pt file.
        out: Folder of the new Checkpoint.
        license: What the weights may be used for, as whoever trained them says; it goes into the card.
        generator_only: Leave the discriminator out, where it is not supported: pictures do not need it.
        force: Replace an older Checkpoint at OUT.
        dry_run: Read and check everything, say what would be written, write nothing.
        json: Print the result as JSON.

    Returns:
        The folder of the new Checkpoint.
    """
    file, out = Path(file), Path(out)  # from Python, texts will do
    if not license.isprintable() or not license.strip():
        raise ValueError(f"--license {license!r}: one line of text, such as cc-by-4.0")
    if out.resolve() in file.resolve().parents:
        raise ValueError(f"{out}: {file.name} stands in it; choose another folder")
    try:
        with opened(file) as value:
            found = convert(value, file.stat().st_size, generator_only=generator_only)
    except ForeignError as error:
        hint = (
            ""
            if generator_only or not str(error).startswith(("D.", "D ", "d.", "d "))
            else "; --generator-only leaves it out"
        )
        raise ValueError(f"{file}: {error}{hint}") from error
    source = {"file": file.name, "sha256": fingerprint(file), "program": found.program, "notes": found.notes}
    report = {"out": str(out), "source": source, "license": license, "config": dataclasses.asdict(found.config)}
    if (out / STATE).is_file():
        raise FileExistsError(f"{out}: holds a training run, which --force does not replace; choose another folder")
    if not dry_run:
        free_folder(out, checkpoint.CONFIG, force=force)
        checkpoint.write(
            out,
            model="stylegan2",
            config=dataclasses.asdict(found.config),
            weights=found.weights,
            card=card(found.config, source, license),
            about={"source": source, "license": license},
        )
    print(json_format.dumps(report) if json else _summary(report, found.config, dry_run))
    return out


def fingerprint(file: Path) -> str:
    """The SHA-256 of a file."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def card(config: Config, source: Mapping[str, Any], license: str) -> str:
    """The Checkpoint's README.md."""
    notes = "".join(f"- {note}\n" for note in source["notes"]) or "- nothing\n"
    return f"""---
library_name: kyara
license: {json_format.dumps(license)}
---
# A StyleGAN2 for {config.data.width} x {config.data.height} pixels, imported

| | |
|---|---|
| file | `{printable(source["file"]).replace("|", " ").replace("`", " ")}`, in the layout of {source["program"]} |
| SHA-256 of the file | {source["sha256"]} |
| data, training | not known |
| made with | Kyara {__version__} |

What is not as in the file:

{notes}
To train on:

    kyara train stylegan2 DATA --init THIS_FOLDER

The licence of these weights is {license if license != "unknown" else "unknown: ask whoever published the file"}.
"""


def _summary(report: Mapping[str, Any], config: Config, dry_run: bool) -> str:
    out, source = report["out"], report["source"]
    did = "would write" if dry_run else "wrote"
    lines = [
        f"{did} {out}: a StyleGAN2 for {config.data.width} x {config.data.height} pixels, from {source['program']}"
    ]
    lines += [f"  {note}" for note in source["notes"]]
    lines += [f"  licence: {report['license']}"]
    lines += [f"make faces with: kyara generate {out} --rank none"]
    lines += [f"train on with: kyara train stylegan2 DATA --init {out}"]
    return "\n".join(lines)
