"""The project: a folder with the Datasets, Checkpoints, Galleries and edits that the verbs made in it.

They are recognised by their files. Nothing outside the folder is read or written: every path from the browser is
resolved, symbolic links included, and refused if it leaves the folder."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

from kyara.files import checkpoint
from kyara.files.gallery_page import TABLE
from kyara.files.names import counted, slug
from kyara.preparation.report import encodable

STATE = ".studio"  # folder of what the browser app itself keeps
DEEPEST = 4  # levels of folders that are searched
MOST = 2000  # folders that are searched
FIRST = ("runs", "galleries", "comparisons", "edits")  # whatever else is in the project
MAX_UPLOAD = 64 * 2**20  # bytes of one uploaded file, which is kept in memory
MAX_STREAM = 2 * 2**30  # bytes of one film or file in art/, which is not
QUOTA = 4 * 2**30  # bytes of all uploads; what is in art/ and edits/ belongs to the user
EDITABLE = ("stylegan2",)
UPLOADS, PICTURES = "uploads", "pictures"  # folders in STATE


class ProjectError(ValueError):
    """A path that is not part of the project, or a file that may not be uploaded."""


@dataclass(frozen=True)
class Found:
    """Something that a verb made, or can read."""

    kind: str  # dataset, checkpoint, gallery, edit, art
    path: str  # relative to the project, with forward slashes
    detail: str = ""
    changed: float = 0.0  # seconds since 1970
    root: str = ""  # of a rewritten checkpoint, the hash of the one that the rules belong to


class Project:
    """A folder on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.promised: Callable[[], AbstractSet[str]] = frozenset  # paths that jobs will make
        self.unsearched = ""  # the first folder that was not searched for contents
        self.unusable = set[str]()  # names that are no text, escaped, which were left out of the contents
        self._making: set[str] = set()  # galleries that this process writes
        self._used: int | None = None  # bytes of uploads, at least
        self._lock = threading.Lock()
        self.naming = threading.Lock()  # while a new name is chosen and its file written
        self.planned: set[str] = set()  # paths of uploads that are still to come

    def path(self, text: str) -> Path:
        """The absolute path of something in the project. ProjectError if it is outside."""
        if not text or "\0" in text or "\\" in text or PurePosixPath(text).is_absolute():
            raise ProjectError(f"{text!r}: not a path inside the project")
        found = (self.folder / text).resolve()
        if not found.is_relative_to(self.folder) or found == self.folder:
            raise ProjectError(f"{text!r}: is outside the project")
        return found

    def existing(self, text: str) -> Path:
        """The same for something that must exist."""
        found = self.path(text)
        if not found.exists():
            raise ProjectError(f"{text}: no such file or folder in the project")
        return found

    def model(self, name: str) -> str:
        """The name of a Checkpoint as the verbs take it: builtin:NAME or a path inside the project."""
        if name.startswith("builtin:"):
            checkpoint.find(name)
            return name
        return self.relative(self.existing(name))

    def absolute(self, model: str) -> str:
        """The same as an absolute path, for calls in this process, whose working folder is another one."""
        return model if model.startswith("builtin:") else str(self.existing(model))

    def relative(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def state(self, *names: str) -> Path:
        """A path in the folder of the app's own files, whose parent exists afterwards."""
        path = self.folder.joinpath(STATE, *names)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def free(self, parent: str, name: str, suffix: str = "", *, beside: Sequence[str] = ()) -> str:
        """A path that neither exists nor is promised by a job or another upload: PARENT/NAME, or with a number
        appended. With `beside`, neither do the paths that have these endings instead of the suffix. Whoever writes it
        at once does both under the lock `naming`."""
        stem, taken = slug(name), self.promised() | self.planned
        bases = (f"{parent}/{stem}{f'-{number}' if number > 1 else ''}" for number in count(1))
        return next(
            base + suffix
            for base in bases
            if not any(
                path.removeprefix("./") in taken or (self.folder / path).exists()
                for path in (base + ending for ending in (suffix, *beside))
            )
        )

    def save_new(self, parent: str, name: str, suffix: str, data: bytes) -> str:
        """Writes an uploaded file to a path that is `free`. Two of the same name may come at the same time: all pasted
        pictures have the same. Returns the path; errors as `save_upload`."""
        with self.naming:
            return self.save_upload(self.free(parent, name, suffix), data)

    def save_upload(self, name: str, data: bytes) -> str:
        """Writes an uploaded file. Returns its path. ProjectError if there is no room or the name is not usable."""
        from kyara.files.atomic import write_atomic

        if len(data) > MAX_UPLOAD:
            raise ProjectError(f"{name}: larger than {MAX_UPLOAD >> 20} MiB")
        target = self.path(name)
        if target.is_relative_to(self._uploads):
            self.take(len(data))
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(target, lambda temporary: temporary.write_bytes(data))
        return self.relative(target)

    @property
    def _uploads(self) -> Path:
        return self.folder / STATE / UPLOADS

    def take(self, size: int) -> None:
        """Counts an upload of `size` bytes. ProjectError if there is no room. The files are looked through at first,
        and again when there seems to be no room: some may have been deleted."""
        with self._lock:
            if self._used is None or self._used + size > QUOTA:
                self._used = self.uploaded()
            if self._used + size > QUOTA:
                raise ProjectError(f"uploads already take {QUOTA >> 30} GiB; delete some in {self._uploads}")
            self._used += size

    def uploaded(self) -> int:
        """Bytes of all uploads."""
        return sum(file.lstat().st_size for file in self._uploads.rglob("*") if file.is_file())

    @contextlib.contextmanager
    def making(self, path: str) -> Iterator[None]:
        """While the gallery at `path` is written."""
        self._making.add(path)
        try:
            yield
        finally:
            self._making.discard(path)

    def contents(self) -> list[Found]:
        """Everything in the project, newest first, without the galleries that are still being written: ranking one
        would miss pictures. `unusable` has the names that are left out."""
        unusable, written = set[str](), self._making | self.promised()
        found = [one for one in self._search(unusable) if one.kind != "gallery" or one.path not in written]
        self.unusable = unusable
        return sorted(found, key=lambda one: -one.changed)

    def problem(self) -> str:
        """What the user must know about the contents, or ""."""
        sentences = []
        if self.unusable:
            names = f"{', '.join(sorted(self.unusable)[:5])}{' and others' if len(self.unusable) > 5 else ''}"
            sentences.append(f"Left out, because their names are not valid UTF-8: {names}. Rename them to use them.")
        if self.unsearched:
            sentences.append(
                f"The project has more than {MOST:,} folders, so {self.unsearched} and the rest were not searched for "
                "models and galleries. Move folders of pictures into the folder art of the project, or out of it."
            )
        return " ".join(sentences)

    def _search(self, unusable: set[str]) -> Iterator[Found]:
        seen, waiting = 0, [(self.folder, 0)]
        while waiting and seen < MOST:
            folder, depth = waiting.pop(0)
            seen += 1
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError:
                continue
            names = {entry.name for entry in entries}
            found = self._kind(folder, names) if depth else None
            if found:
                yield found
            if not depth:
                entries.sort(key=lambda entry: entry.name not in FIRST)
            for entry in entries:
                path = Path(entry.path)
                if entry.name.startswith(".") or entry.is_symlink():
                    continue
                listed = entry.is_dir() or entry.name.endswith((".zip", ".json"))
                if listed and not usable(entry.name):
                    unusable.add(encodable(self.relative(path)))
                    continue
                if entry.is_dir():
                    if depth < DEEPEST and not (found and found.kind in ("checkpoint", "gallery", "dataset", "art")):
                        waiting.append((path, depth + 1))
                elif entry.name.endswith(".zip") and f"{entry.name}.report.json" in names:
                    yield Found(
                        "dataset", self.relative(path), _kept(folder / f"{entry.name}.report.json"), _time(path)
                    )
                elif entry.name.endswith(".json") and folder.name == "edits":
                    yield Found("edit", self.relative(path), path.stem, _time(path))
        self.unsearched = encodable(self.relative(waiting[0][0])) if waiting else ""

    def _kind(self, folder: Path, names: set[str]) -> Found | None:
        name = self.relative(folder)
        if TABLE in names:
            return Found("gallery", name, _rows(folder / TABLE), _time(folder / TABLE))
        if checkpoint.CONFIG in names and (checkpoint.WEIGHTS in names or "stats.jsonl" in names):
            config = folder / checkpoint.CONFIG
            return Found("checkpoint", name, _model(config), _time(config), _root(config))
        if "metadata.csv" in names and "report.json" in names:
            return Found("dataset", name, _kept(folder / "report.json"), _time(folder / "metadata.csv"))
        if folder.parent.name == "art" and folder.parent.parent == self.folder:
            return Found("art", name, "", _time(folder))
        return None


def word(path: str) -> str:
    """A path, or the name of a model, as a word of a command: with a "-" at its beginning it would be an option."""
    return f"./{path}" if path.startswith("-") else path


def usable(name: str) -> bool:
    """Whether a name can be sent, and be a word of a command. Those of an archive that was unpacked with the wrong
    encoding are bytes that are no text."""
    return encodable(name) == name


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _kept(report: Path) -> str:
    kept = _json(report).get("kept")
    return counted(kept, "picture") if isinstance(kept, int) else ""


def _model(config: Path) -> str:
    model = _json(config).get("model")
    return encodable(model) if isinstance(model, str) else ""


def _root(config: Path) -> str:
    rewritten = _json(config).get(checkpoint.REWRITTEN)
    root = rewritten.get("root") if isinstance(rewritten, dict) else None
    return encodable(root) if isinstance(root, str) else ""


def _rows(table: Path) -> str:
    try:
        with table.open("rb") as file:
            rows = max(sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b"")) - 1, 0)
    except OSError:
        return ""
    return counted(rows, "picture")
