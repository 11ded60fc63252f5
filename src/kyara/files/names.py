"""File names as printable text, and text as file names."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path


def printable(text: str) -> str:
    """`text` with control characters replaced, for one line of terminal output: file names are untrusted."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number of things: "1 picture", "2,000 pictures"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def listed(entries: Iterable[tuple[str, str]], most: int = 10) -> list[str]:
    """A line `NAME: REASON` for each of the first `most` entries, and a line with the number of further entries."""
    lines = [printable(f"    {name}: {reason}") for name, reason in entries]
    return lines[:most] + [f"    and {len(lines) - most:,} more"] * (len(lines) > most)


def did_you_mean(word: str, names: Iterable[str], prefix: str = "") -> str:
    """Suggestion for a misspelled name, such as "did you mean dcgan? "; empty if none of `names` is similar."""
    similar = difflib.get_close_matches(word, list(names), 1)
    return f"did you mean {prefix}{similar[0]}? " if similar else ""


def slug(text: str) -> str:
    """`text` without characters that are unsafe in file names, shells or URLs; at most 60 characters, "pictures" if
    nothing is left."""
    return re.sub(r"[^\w-]+", "-", text)[:60].strip("-") or "pictures"


def short_name(source: str | os.PathLike[str]) -> str:
    """Short name of a Checkpoint, a Dataset or a file for use in folder names: "anime" for builtin:anime, "name" for
    hf-hub:owner/name, "faces" for data/faces.zip."""
    text = os.fspath(source)
    if text.startswith(("builtin:", "hf-hub:")):
        return slug(text.rpartition(":")[2].rpartition("/")[2])
    path = Path(text)
    path = path if path.name not in ("", "..") else path.resolve()
    return slug(path.name if path.is_dir() else path.stem)
