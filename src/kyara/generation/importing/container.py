"""Container formats of networks: pickles, and PyTorch files before and since version 1.6."""

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

LARGEST = 2 << 30  # Maximum file size in bytes. For 1024 pixels, both networks have 0.4 GB, with optimisers 0.9 GB
LARGEST_INDEX = 16 << 20  # Maximum size in bytes of the directory of a .zip, and of the pickle in it
CHUNK = 1 << 20


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The value in a pickle or a PyTorch file: plain values, `ForeignObject`s, and `LazyTensor`s, which can be loaded
    while the file is open. No code in the file is executed. Raises ForeignError if it is damaged or malicious."""
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
    """A file whose reads never allocate more than the file's size or `most` bytes, whatever its content declares."""

    def __init__(self, path: Path, most: int) -> None:
        super().__init__(io.FileIO(path))
        self.size, self.most = path.stat().st_size, most

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= CHUNK:
            rest = max(self.size - self.tell(), 0)
            size = rest if size is None or size < 0 else min(size, rest)
        if size > self.most:
            raise ForeignError(f"damaged: a read of {size:,} bytes; the maximum must not be larger than {self.most:,}")
        return super().read(size)


def _zip(file: _Measured) -> zipfile.ZipFile:
    """The archive. The size of its directory is limited: Python reads all of it into memory."""
    file.most = LARGEST_INDEX
    try:
        return zipfile.ZipFile(file)
    except ForeignError:
        raise
    except Exception as error:  # zipfile raises various exceptions for a damaged directory
        raise ForeignError(f"damaged .zip ({printable(str(error)[:200])})") from error


def _read_zip(archive: zipfile.ZipFile) -> Any:
    """The value in PyTorch's format since 1.6: a .zip with data.pkl and one file per storage."""
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
    """Reads a file of the archive. It must be uncompressed, as written by PyTorch, to exclude decompression bombs."""
    try:
        entry = archive.getinfo(name)
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise ForeignError(f"{name[:100]!r} is compressed, unlike in PyTorch files")
        if entry.file_size > most:
            raise ForeignError(f"{name[:100]!r} has {entry.file_size:,} bytes; the maximum is {most:,}")
        with archive.open(entry) as file:
            return b"".join(iter(lambda: file.read(CHUNK), b""))
    except ForeignError:
        raise
    except KeyError as error:
        raise ForeignError(f"incomplete: {name[:100]!r} is missing") from error
    except Exception as error:  # zipfile and its decompressors raise various exceptions
        raise ForeignError(f"damaged .zip ({printable(str(error)[:200])})") from error
