"""The file formats of other programs' networks: pickles, and PyTorch's files before and since version 1.6."""

from __future__ import annotations

import functools
import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kyara.files.names import printable
from kyara.generation.importing.unpickle import LEGACY, read_legacy, read_pickle
from kyara.generation.importing.values import ForeignError, Storage, storage_of

LARGEST = 2 << 30
"""Bytes of a file. A network for 1024 x 1024 pixels with its discriminator and the state of its optimisers has 0.9
billion, without that state 0.4."""
LARGEST_INDEX = 16 << 20
"""Bytes of a .zip's directory, and of the pickle in it."""
CHUNK = 1 << 20


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The value in a pickle or a PyTorch file: plain values, `ForeignObject`s, and `LazyTensor`s, which can be loaded
    while the file is open. ForeignError if the file is damaged or malicious; nothing of it is ever run."""
    if not path.is_file():
        raise ForeignError("no such file")
    if path.stat().st_size > LARGEST:
        raise ForeignError(f"{path.stat().st_size:,} bytes; no StyleGAN2 needs more than {LARGEST:,}")
    with _Measured(path, LARGEST) as file:
        begin = file.read(len(LEGACY))
        file.seek(0)
        if begin.startswith(b"PK\3\4"):
            with _zip(file) as archive:
                yield _read_zip(archive)
        else:
            yield read_legacy(file) if begin == LEGACY else read_pickle(file)


class _Measured(io.BufferedReader):
    """A file that never allocates more than its own size, whatever its content claims, nor more than `most`."""

    def __init__(self, path: Path, most: int) -> None:
        super().__init__(io.FileIO(path))
        self.size, self.most = path.stat().st_size, most

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= CHUNK:
            rest = max(self.size - self.tell(), 0)
            size = rest if size is None or size < 0 else min(size, rest)
        if size > self.most:
            raise ForeignError(f"damaged: a piece of {size:,} bytes where none is larger than {self.most:,}")
        return super().read(size)


def _zip(file: _Measured) -> zipfile.ZipFile:
    """The archive. The size of its directory is limited: Python reads all of it into memory."""
    file.most = LARGEST_INDEX
    try:
        return zipfile.ZipFile(file)
    except ForeignError:
        raise
    except Exception as error:  # whatever a damaged directory can lead to
        raise ForeignError(f"damaged .zip ({printable(str(error)[:200])})") from error


def _read_zip(archive: zipfile.ZipFile) -> Any:
    """The value in PyTorch's format since 1.6: a .zip with data.pkl and a file for each storage."""
    entries = {entry.filename: entry for entry in archive.infolist()}
    roots = [name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl")]
    if len(roots) != 1 or len(entries) < len(archive.infolist()):
        raise ForeignError("a .zip, but not a PyTorch file")
    root = roots[0]
    if f"{root}byteorder" in entries and _entry(archive, f"{root}byteorder", 16) != b"little":
        raise ForeignError("big-endian numbers are not supported")

    def persistent(identifier: Any) -> Storage:
        storage, key = storage_of(identifier)
        size = storage.count * storage.dtype.itemsize
        storage.read = functools.partial(_entry, archive, f"{root}data/{key}", size)
        return storage

    return read_pickle(io.BytesIO(_entry(archive, f"{root}data.pkl", LARGEST_INDEX)), persistent)


def _entry(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """A file of the archive. It must not be compressed (PyTorch never does that): nothing may grow when it is read."""
    try:
        entry = archive.getinfo(name)
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise ForeignError(f"{name[:100]!r} is compressed, as PyTorch never does")
        if entry.file_size > most:
            raise ForeignError(f"{name[:100]!r} has {entry.file_size:,} bytes where at most {most:,} can be")
        with archive.open(entry) as file:
            return b"".join(iter(lambda: file.read(CHUNK), b""))
    except ForeignError:
        raise
    except KeyError as error:
        raise ForeignError(f"incomplete: it has no {name[:100]!r}") from error
    except Exception as error:
        raise ForeignError(f"damaged .zip ({printable(str(error)[:200])})") from error
