"""The files of a Dataset, in a folder or a .zip, and how they are changed."""

from __future__ import annotations

import os
import re
import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from kyara.files.atomic import write_atomic
from kyara.files.errors import DatasetError, PictureError
from kyara.files.pictures import MAX_BYTES
from kyara.files.zip_update import rewrite


class Files(Protocol):
    """Where the files of a Dataset lie. Goes to worker processes, each of which opens it afresh."""

    sizes: dict[str, int]
    """Name, with forward slashes -> bytes."""
    checksums: dict[str, int]
    ignored: list[tuple[str, str]]

    def read(self, name: str) -> bytes:
        """The bytes of a file; PictureError if they cannot be had."""

    def write(self, contents: Mapping[str, bytes]) -> None:
        """Puts these files in place, new or instead of older ones. A folder gets one after the other, each at once; a
        .zip all of them at once. Pictures stay as they are, to the byte."""


class Folder:
    """The files of a folder and of its sub-folders. Links to folders are not followed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sizes: dict[str, int] = {}
        self.checksums: dict[str, int] = {}  # reading every file would make opening slow: sizes must do
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
        try:
            with (self.root / name).open("rb") as file:
                return file.read(MAX_BYTES + 1)
        except OSError as error:
            raise PictureError(f"{name}: cannot be read ({error.strerror})") from error

    def write(self, contents: Mapping[str, bytes]) -> None:
        for name, content in contents.items():
            path = (self.root / name).resolve()  # a link stays one
            write_atomic(path, lambda temporary, content=content: temporary.write_bytes(content))  # type: ignore[misc]
            self.sizes[name] = len(content)


class Zip:
    """The entries of a .zip that are safe to read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: tuple[int, zipfile.ZipFile] | None = None
        self._look()

    def _look(self) -> None:
        """Reads the directory."""
        self.sizes: dict[str, int] = {}
        self.checksums: dict[str, int] = {}
        self.ignored: list[tuple[str, str]] = []
        self._entries: dict[str, zipfile.ZipInfo] = {}
        try:
            entries = self._zip().infolist()
        except Exception as error:  # zipfile raises half a dozen kinds for a damaged directory
            raise DatasetError(f"{self.path}: not a readable .zip ({error}); give a folder or a .zip") from error
        for entry in entries:
            name = entry.filename.replace("\\", "/")
            if reason := _unsafe(entry, name):
                self.ignored.append((name, reason))
                continue
            if entry.is_dir() or any(map(_hidden, name.split("/"))):
                continue
            self._entries[name] = entry
            self.sizes[name], self.checksums[name] = entry.file_size, entry.CRC

    def _zip(self) -> zipfile.ZipFile:
        """This process' own handle: one that a fork has copied shares its position with the parent's."""
        if self._handle is None or self._handle[0] != os.getpid():
            self._handle = os.getpid(), zipfile.ZipFile(self.path)
        return self._handle[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}

    def read(self, name: str) -> bytes:
        try:
            return self._zip().read(self._entries[name])
        except Exception as error:
            raise PictureError(f"{name}: cannot be read from {self.path.name} ({error})") from error

    def write(self, contents: Mapping[str, bytes]) -> None:
        def fill(temporary: Path) -> None:
            rewrite(self.path, temporary, contents)
            made = Zip(temporary)  # looked at before it takes the old one's place
            expected = {**self.checksums, **{name: zlib.crc32(content) for name, content in contents.items()}}
            whole = made.checksums == expected and all(made.read(name) == data for name, data in contents.items())
            made.close()
            if not whole:
                raise DatasetError(f"{self.path}: cannot be rewritten safely; unpack it and give the folder")

        self.close()  # some systems replace no file that is open
        write_atomic(self.path.resolve(), fill)
        self._look()

    def close(self) -> None:
        """Lets go of the file until it is next read."""
        if self._handle is not None and self._handle[0] == os.getpid():
            self._handle[1].close()
        self._handle = None


def _hidden(name: str) -> bool:
    """What systems leave behind and nobody means: .DS_Store, ._cat.png, __MACOSX, Thumbs.db."""
    return name.startswith((".", "__MACOSX")) or name.lower() in ("thumbs.db", "desktop.ini")


def _unsafe(entry: zipfile.ZipInfo, name: str) -> str | None:
    """Why an entry of a .zip is left out."""
    if name.startswith("/") or re.match("[A-Za-z]:", name) or ".." in name.split("/"):
        return "its name leads outside the archive"
    if entry.flag_bits & 1:
        return "encrypted"
    if entry.file_size > MAX_BYTES:
        return f"larger than {MAX_BYTES >> 20} MiB"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "compressed in a way that is not read; use an ordinary .zip"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "a link"
    return None
