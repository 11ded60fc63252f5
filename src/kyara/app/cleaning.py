"""What the app keeps for itself in `.studio` and nobody needs any more is deleted when it starts.

Nothing disappears that a list, a gallery, a report or another file of the project names, and nothing of the last days:
a command that was copied from the page may still be run."""

from __future__ import annotations

import contextlib
import html
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from kyara.app.collection import Collection
from kyara.app.items import number_name
from kyara.app.project import PICTURES, STATE, UPLOADS, Project
from kyara.files.names import normalized

AGE = 7 * 24 * 3600  # seconds
MOST, PER_FILE = 2**30, 2**14  # bytes to read at most: with more, as in a home folder, nothing is deleted
TEXTS = frozenset({".html", ".json", ".jsonl", ".csv", ".md", ".txt", ".sh"})  # files that may name others
NAMED = re.compile(rf"\.studio[/\\]+((?:{UPLOADS}|{PICTURES})/[\w./-]+)")


def clean(project: Project, collection: Collection) -> list[str]:
    """Deletes what is not needed. Returns the paths in `.studio`. OSError, with nothing deleted, if a file that may
    name others cannot be read."""
    state, used = project.folder / STATE, {number_name(item) for item in collection.visible()}
    files = [*_old(state / UPLOADS, "*")]
    for file in _old(state / PICTURES, "*/*"):
        if file.parent.name != collection.id or file.stem not in used:
            files.append(file)
    named = _named(project.folder) if files else set()
    unused = [file for file in files if normalized(file.relative_to(state).as_posix()) not in named]
    for file in unused:
        file.unlink(missing_ok=True)
    for folder in {file.parent for file in unused if file.parent.parent.name == PICTURES}:
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()
    return [file.relative_to(state).as_posix() for file in unused]


def _old(folder: Path, pattern: str) -> Iterator[Path]:
    """What is in a folder and was not changed lately."""
    for path in sorted(folder.glob(pattern)):
        if time.time() - path.lstat().st_mtime > AGE:
            yield path


def _refuse(error: OSError) -> None:
    raise error


def _named(project: Path) -> set[str]:
    """The uploads and pictures that files of the project name, as paths in `.studio`."""
    found = set[str]()
    own = {str(project / name) for name in ("art", *(f"{STATE}/{one}" for one in (UPLOADS, PICTURES)))}
    seen = 0
    for folder, folders, names in os.walk(project, onerror=_refuse):
        folders[:] = [name for name in folders if os.path.join(folder, name) not in own]  # noqa: PTH118
        for path in (Path(folder, name) for name in names if Path(name).suffix.lower() in TEXTS):
            if not path.is_file():  # such as a link to nothing
                continue
            seen += path.stat().st_size + PER_FILE
            if seen > MOST:
                raise OSError(f"{project}: has too many files to look at")
            text = path.read_bytes().decode("utf-8", "replace")
            if STATE in text:
                text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda code: chr(int(code[1], 16)), text)
                found |= {normalized(name.rstrip(".")) for name in NAMED.findall(unquote(html.unescape(text)))}
    return found
