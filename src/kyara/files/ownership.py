"""What --force may delete: the files that a verb wrote into a result folder. Everything else there is the user's.

Each kind of result is recognised by its marker, a file that it always has. Results are untrusted: a table may list what
it likes, but only files inside the folder are ever looked at."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from kyara.files.gallery_page import PAGE, SHEET, TABLE
from kyara.files.names import counted, normalized

FILES = CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"  # of a Checkpoint
JOURNAL = ".unfinished"  # in a Gallery that is not finished: the names of its files, also of those not in the table yet
COMPARISON = "comparison.json"

GALLERY = frozenset(
    {TABLE, PAGE, SHEET, JOURNAL, "report.json", "nearest.csv", "interpolation.webp", "walk.webp"}
    | {f"tuned/{name}" for name in FILES}
)
REWRITTEN = frozenset({*FILES, "original.safetensors", "preview.html"})
OF_RUN = "training.pt", "snapshots", ".lock", "command.txt", "stats.jsonl"
"""Each of these marks the folder of a training run, see `kyara.training.run`."""
STEPS = re.compile(r"steps/[^/]+-(photo|found|other\d+|blend\d+(-wide)?)\.png")  # of `avatar`
LINK = re.compile(r'(?:src|href)="([^":#]+)"')  # of a page to a file beside it, not to a picture within the page
OF_SYSTEM = re.compile(r"(.*/)?(\.DS_Store|Thumbs\.db|desktop\.ini|\._[^/]+)", re.IGNORECASE)
TEMPORARY = re.compile(r"(.*/)?\..+\.[a-z0-9_]{8}\.tmp(/.*)?")  # of a killed `atomic.write_atomic` or `replaced_folder`
LARGEST = 2**28  # bytes of a table or a page that is read
RECIPE, START = b"tEXtkyara\0", 256  # the beginning of a recipe, among these bytes of a PNG: see `pictures.encode_png`


def foreign(folder: Path, marker: str) -> str | None:
    """The files in a result folder that the verb did not write, as in `unknown`. The marker itself is foreign if it is
    not what its kind of result has."""
    owns = KINDS[marker](folder)
    return marker if owns is None else unknown(entries(folder), owns)


def unknown(names: Iterable[str], owns: Callable[[str], bool]) -> str | None:
    """The files of a result that do not belong to it by `owns`, as text: the name of the first, and the number of the
    others if there are any. None if all belong to it."""
    others = (name for name in names if not owns(normalized(name)))
    first = next(others, None)
    more = sum(1 for _ in others)
    return f"{first} and {counted(more, 'other file')}" if more else first


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a training run, of whose files none should be replaced or moved."""
    return any((folder / name).exists() for name in OF_RUN)


def entries(folder: Path) -> Iterator[str]:
    """The names of all files in a folder, relative to it; a link is a file, also one to a folder."""
    for here, folders, files in os.walk(folder, onerror=_raise):
        links = [name for name in folders if (Path(here) / name).is_symlink()]
        folders.sort()
        for name in sorted([*files, *links]):
            yield (Path(here) / name).relative_to(folder).as_posix()


def _raise(error: OSError) -> None:
    raise error


def _of_gallery(folder: Path) -> Callable[[str], bool] | None:
    try:
        rows = [*csv.reader(io.StringIO(_text(folder / TABLE), newline=""))]
        at = rows[0].index("file_name") if rows else 0
    except (ValueError, csv.Error):
        return None
    listed = {row[at] for row in rows[1:] if len(row) > at}
    listed |= {*_text(folder / JOURNAL).split("\n")}
    listed |= {unquote(link, errors="surrogateescape") for link in LINK.findall(_text(folder / PAGE))}
    if not (folder / PAGE).exists() and not (folder / JOURNAL).exists():
        listed |= _unlisted_pictures(folder)
    return among(GALLERY | listed, STEPS)


def _unlisted_pictures(folder: Path) -> set[str]:
    """Pictures that Kyara made, by their recipe: earlier versions had no journal, so that the last pictures of a killed
    run are in no table."""
    found = [path for path in folder.iterdir() if path.suffix == ".png" and path.is_file() and not path.is_symlink()]
    return {path.name for path in found if RECIPE in _start(path)}


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(START)
    except OSError:
        return b""


def _of_checkpoint(folder: Path) -> Callable[[str], bool] | None:
    about = _json(folder / CONFIG)
    if not isinstance(about.get("model"), str) or not isinstance(about.get("config"), dict):
        return None
    try:
        rules = {f"edits/{rule['file']}" for rule in about.get("rewritten", {}).get("rules", ())}
    except (AttributeError, LookupError, TypeError):
        rules = set()
    return among(REWRITTEN | rules) if (folder / WEIGHTS).is_file() else None


def _of_comparison(folder: Path) -> Callable[[str], bool] | None:
    return among(frozenset({COMPARISON, PAGE})) if "models" in _json(folder / COMPARISON) else None


def among(names: frozenset[str], *patterns: re.Pattern[str]) -> Callable[[str], bool]:
    """Whether a file has one of these names or matches a pattern, or is one that systems and killed writes leave."""
    known, also = {normalized(name) for name in names}, (OF_SYSTEM, TEMPORARY, *patterns)
    return lambda name: name in known or any(pattern.fullmatch(name) for pattern in also)


def _text(path: Path) -> str:
    """A table or a page; empty if it cannot be read, so that it owns nothing."""
    try:
        if path.stat().st_size > LARGEST:
            return ""
        # File names may not be valid UTF-8; surrogateescape restores their bytes.
        return path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    except OSError:
        return ""


def _json(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(_text(path))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


KINDS: Mapping[str, Callable[[Path], Callable[[str], bool] | None]] = {
    TABLE: _of_gallery,
    CONFIG: _of_checkpoint,
    COMPARISON: _of_comparison,
}
"""Marker -> a function of the folder, which returns whether a name in it belongs to the result; None if the marker is
not of that kind of result."""
