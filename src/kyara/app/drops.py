"""Where files that are dropped on My art go."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from kyara.app.project import Project, ProjectError
from kyara.files.dataset import ARCHIVES
from kyara.files.formats import SUFFIXES
from kyara.files.names import slug

LOOSE = "dropped"  # folder of files that were not dropped as one folder
LONGEST = 255  # bytes of the name of a file
TABLES = frozenset({".csv", ".json", ".jsonl"})


def place_files(project: Project, names: Sequence[str]) -> dict[str, Any]:
    """Plans a drop of files with these names, which are paths such as drawings/a.png for files of a dropped folder.

    Returns `source`, the folder or .zip that can be prepared afterwards, which is a new one; `files`, the path below
    art/ for each name, "" for what is left out; and `left_out`, a sentence about those, or "". ProjectError if nothing
    is left."""
    if len(names) == 1 and _suffix(names[0]) == ".zip":
        with project.naming:
            source = project.free("art", PurePosixPath(names[0]).stem, ".zip")
            project.planned.add(source)
        return {"source": source, "files": [source.removeprefix("art/")], "left_out": ""}
    used = [_suffix(name) in SUFFIXES | TABLES for name in names]
    left_out = _left_out([name for name, keep in zip(names, used, strict=True) if not keep])
    if not any(_suffix(name) in SUFFIXES for name in names):
        raise ProjectError(f"there is no picture among the dropped files. {left_out}".strip())
    tops = {name.partition("/")[0] if "/" in name else "" for name in names}
    folder = next(iter(tops)) if len(tops) == 1 else ""
    with project.naming:
        source = project.free("art", folder or LOOSE)
        project.path(source).mkdir(parents=True)  # so that the next drop gets another one
    below = f"{source.removeprefix('art/')}/"
    files = [below + _fitting(name.removeprefix(f"{folder}/" if folder else "")) if keep else ""
             for name, keep in zip(names, used, strict=True)]  # fmt: skip
    return {"source": source, "files": files, "left_out": left_out}


def _fitting(name: str) -> str:
    """A path whose parts can be names of files here: some systems allow longer ones, and a backslash."""
    return "/".join(
        part if "\\" not in part and len(part.encode(errors="replace")) <= LONGEST else _short(part)
        for part in name.split("/")
    )


def _short(part: str) -> str:
    unlike = hashlib.sha256(part.encode(errors="replace")).hexdigest()[:8]
    suffix = _suffix(part) if _suffix(part) in SUFFIXES | TABLES | ARCHIVES else ""
    return f"{slug(PurePosixPath(part).stem)}-{unlike}{suffix}"  # at most 60 characters of up to 3 bytes


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _left_out(names: Sequence[str]) -> str:
    """What was not taken, and what to do about it."""
    archives = [name for name in names if _suffix(name) in ARCHIVES]
    others = Counter(_suffix(name) or "no ending" for name in names if name not in archives)
    sentences = []
    if archives:
        more = f" and {len(archives) - 1:,} more" if len(archives) > 1 else ""
        sentences.append(f"{archives[0]}{more}: not opened. Drop a .zip by itself to use what is in it.")
    if others:
        kinds = ", ".join(suffix for suffix, _ in others.most_common(5))
        sentences.append(f"Left out because they are no pictures: {others.total():,} ({kinds}).")
    return " ".join(sentences)
