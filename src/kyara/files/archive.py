"""File storage of a Dataset: reading and writing in a folder or a .zip."""

from __future__ import annotations

import os
import re
import stat
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from kyara.files.atomic import write_atomic
from kyara.files.errors import DatasetError, PictureError
from kyara.files.formats import SUFFIXES
from kyara.files.pictures import MAX_BYTES
from kyara.files.zip_names import entry_names
from kyara.files.zip_update import check, rewrite

THUMBNAILS = "report.thumbnails"  # The folder beside a report.html, also as NAME.zip.report.thumbnails
UNFINISHED = ".unfinished"  # Suffix of the folder of an interrupted `kyara prepare`
HIDDEN = "hidden, as its name begins with a dot; rename it to use it"
SYSTEM = frozenset({"thumbs.db", "desktop.ini"})


class Files(Protocol):
    """Storage of the files of a Dataset. It is pickled to worker processes, each of which reopens it."""

    sizes: dict[str, int]  # Name, with forward slashes -> bytes
    checksums: dict[str, int]  # Name -> CRC-32, if known without reading the file

    def read(self, name: str) -> bytes:
        """The bytes of a file. Raises PictureError if it cannot be read."""

    def changed(self, name: str) -> int:
        """When a file was modified, in nanoseconds; 0 if its checksum is known, or if it is not there."""


class Folder:
    """The files of a folder and its sub-folders. Links to folders are not followed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sizes: dict[str, int] = {}
        self.checksums: dict[str, int] = {}  # empty: would require reading every file
        self.ignored: list[tuple[str, str]] = []
        for folder, folders, files in os.walk(root, onerror=self._unreadable):
            here = Path(folder)
            for name in folders:
                if (here / name).is_symlink():
                    self.ignored.append((self._name(here / name), "a link to a folder: not followed"))
            folders[:] = sorted(name for name in folders if not _hidden(name))
            for name in files:
                if not _hidden(name):
                    self._add(here / name)
                elif _is_hidden_picture(name):
                    self.ignored.append((self._name(here / name), HIDDEN))

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _unreadable(self, error: OSError) -> None:
        self.ignored.append((self._name(Path(error.filename)), f"cannot be read ({error.strerror})"))

    def _add(self, path: Path) -> None:
        try:
            status = path.stat()
        except OSError as error:
            self.ignored.append((self._name(path), f"cannot be read ({error.strerror})"))
            return
        if stat.S_ISREG(status.st_mode):
            self.sizes[self._name(path)] = status.st_size
        else:
            self.ignored.append((self._name(path), "not a regular file"))

    def read(self, name: str) -> bytes:
        return _read(self.root / name, name)

    def changed(self, name: str) -> int:
        return changed(self.root / name)

    def check_writable(self) -> None:
        """Raises PermissionError if no file can be written."""
        _check_writable(self.root)

    def write(self, contents: Mapping[str, bytes]) -> None:
        """Writes files one by one, each atomically; existing ones are replaced."""
        for name, content in contents.items():
            path = (self.root / name).resolve()  # write through symbolic links
            write_atomic(path, lambda temporary, content=content: temporary.write_bytes(content))  # type: ignore[misc]
            self.sizes[name] = len(content)


class Zip:
    """The entries of a .zip that are safe to read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: tuple[int, zipfile.ZipFile] | None = None
        self._read_directory()

    def _read_directory(self) -> None:
        self.sizes: dict[str, int] = {}
        self.checksums: dict[str, int] = {}
        self.ignored: list[tuple[str, str]] = []
        self._entries: dict[str, zipfile.ZipInfo] = {}
        try:
            entries = self._zip().infolist()
        except Exception as error:  # zipfile raises various exceptions for a damaged directory
            raise DatasetError(f"{self.path}: not a readable .zip ({error}); give a folder or a .zip") from error
        for entry, name in zip(entries, entry_names(entries), strict=True):
            if reason := _unsafe(entry, name):
                self.ignored.append((name, reason))
                continue
            *folders, file = name.split("/")
            if entry.is_dir() or any(map(_hidden, folders)):
                continue
            if _hidden(file):
                self.ignored += [(name, HIDDEN)] if _is_hidden_picture(file) else []
                continue
            if name in self._entries:
                self.ignored.append((name, "replaced by a later file of the same name in the .zip"))
            self._entries[name] = entry
            self.sizes[name], self.checksums[name] = entry.file_size, entry.CRC

    def _zip(self) -> zipfile.ZipFile:
        """A handle opened by this process: a forked handle shares its file position with the parent."""
        if self._handle is None or self._handle[0] != os.getpid():
            self._handle = os.getpid(), zipfile.ZipFile(self.path)
        return self._handle[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}

    def read(self, name: str) -> bytes:
        try:
            return self._zip().read(self._entries[name])
        except Exception as error:  # zipfile and its decompressors raise various exceptions
            raise PictureError(f"{name}: cannot be read from {self.path.name} ({error})") from error

    def changed(self, name: str) -> int:
        return 0

    def check_writable(self) -> None:
        """Raises PermissionError or DatasetError if no file can be added."""
        _check_writable(self.path.resolve().parent)
        check(self.path)

    def write(self, contents: Mapping[str, bytes]) -> None:
        """Adds or replaces files in one atomic step. All other entries keep their exact bytes."""

        def fill(temporary: Path) -> None:
            rewrite(self.path, temporary, contents)
            made = Zip(temporary)  # verified before it replaces the old archive
            expected = {**self.checksums, **{name: zlib.crc32(content) for name, content in contents.items()}}
            intact = made.checksums == expected and all(made.read(name) == data for name, data in contents.items())
            made.close()
            if not intact:
                raise DatasetError(f"{self.path}: cannot be rewritten safely; unpack it and give the folder")

        self.close()  # Windows cannot replace an open file
        write_atomic(self.path.resolve(), fill)
        self._read_directory()

    def close(self) -> None:
        """Closes the file; the next read reopens it."""
        if self._handle is not None and self._handle[0] == os.getpid():
            self._handle[1].close()
        self._handle = None


class SingleFiles:
    """Individual files, each identified by its path."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.sizes = {path.as_posix(): path.stat().st_size for path in paths}
        self.checksums: dict[str, int] = {}

    def read(self, name: str) -> bytes:
        return _read(Path(name), name)

    def changed(self, name: str) -> int:
        return changed(Path(name))


class Several:
    """Files of several sources merged into one; entries are (name, source, name in that source)."""

    def __init__(self, entries: Sequence[tuple[str, Files, str]]) -> None:
        self._entries = {name: (files, inner) for name, files, inner in entries}
        self.sizes = {name: files.sizes.get(inner, 0) for name, files, inner in entries}
        self.checksums = {name: files.checksums[inner] for name, files, inner in entries if inner in files.checksums}

    def read(self, name: str) -> bytes:
        files, inner = self._entries[name]
        try:
            return files.read(inner)
        except PictureError as error:
            raise PictureError(f"{name}: {str(error).removeprefix(f'{inner}: ')}") from error

    def changed(self, name: str) -> int:
        files, inner = self._entries[name]
        return files.changed(inner)


def changed(path: Path) -> int:
    """When a file was modified, in nanoseconds; 0 if it is not there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _check_writable(folder: Path) -> None:
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder}: not writable; check the permissions, or copy the dataset to another place")


def _read(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PictureError(f"{name}: cannot be read ({error.strerror})") from error


def _hidden(name: str) -> bool:
    """Whether it is a hidden or system file (.DS_Store, ._cat.png, __MACOSX, Thumbs.db), or the thumbnails of a report
    or an interrupted run, which are no pictures of a Dataset."""
    system = name == "__MACOSX" or name.lower() in SYSTEM
    return name.startswith(".") or system or name.endswith((THUMBNAILS, UNFINISHED))


def _is_hidden_picture(name: str) -> bool:
    """Whether it is a picture by its suffix. Those of ._cat.png are no pixels but what macOS knows of cat.png."""
    return not name.startswith("._") and PurePosixPath(name).suffix.lower() in SUFFIXES


def _unsafe(entry: zipfile.ZipInfo, name: str) -> str | None:
    """Why an entry of a .zip is unsafe to read; None if it is safe."""
    if name.startswith("/") or re.match("[A-Za-z]:", name) or ".." in name.split("/"):
        return "its name leads outside the archive"
    if entry.flag_bits & 1:
        return "encrypted"
    if entry.file_size > MAX_BYTES:
        return f"larger than {MAX_BYTES >> 20} MiB"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "compressed by a method that is not supported; use an ordinary .zip"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "a link"
    return None
