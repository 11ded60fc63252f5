"""Replaces a few small files in a .zip and leaves the others unchanged.

Python's zipfile can only append, and re-encodes names that are neither ASCII nor UTF-8, so that they no longer match.
Therefore the other entries and their central directory records are copied as bytes and keep their offsets: they stay
valid for processes that have read the old directory. Format: PKWARE's APPNOTE 6.3, sections 4.3 and 4.4."""

from __future__ import annotations

import struct
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from kyara.files.errors import DatasetError
from kyara.files.zip_names import entry_names

LARGE = 0xFFFFFFFF  # Value of a 32-bit field that marks a 64-bit (Zip64) value
MANY = 0xFFFF  # Value of a 16-bit field that marks a Zip64 value
CHUNK = 1 << 20


def rewrite(source: Path, target: Path, contents: Mapping[str, bytes]) -> None:
    """Writes a copy of the .zip `source` to `target` with these files added or replaced. Raises DatasetError if the
    archive's layout is not supported, so that no data is lost."""
    with zipfile.ZipFile(source) as archive, source.open("rb") as old, target.open("w+b") as new:
        entries = archive.infolist()
        names, records = entry_names(entries), _directory(old, archive)
        kept = [record for name, record in zip(names, records, strict=True) if name not in contents]
        # Replaced files at the end are truncated; others stay as unused bytes, so later entries keep their offsets.
        end = archive.start_dir
        for offset, name in sorted(((e.header_offset, n) for e, n in zip(entries, names, strict=True)), reverse=True):
            if name not in contents:
                break
            end = offset
        old.seek(0)
        while end > 0 and (piece := old.read(min(CHUNK, end))):
            new.write(piece)
            end -= len(piece)
        kept += _append(new, contents)
        _finish(new, kept, archive.comment)


def check(source: Path) -> None:
    """Raises DatasetError if `rewrite` does not support the archive's layout."""
    with zipfile.ZipFile(source) as archive, source.open("rb") as file:
        for _ in _directory(file, archive):
            pass


def _directory(file: BinaryIO, archive: zipfile.ZipFile) -> Iterator[bytes]:
    """Raw central directory records, in the order of `infolist()`."""
    file.seek(archive.start_dir)
    for entry in archive.infolist():
        fixed = file.read(46)
        if len(fixed) < 46 or fixed[:4] != b"PK\1\2":
            raise DatasetError(f"{archive.filename}: its directory is damaged; unpack it and use the folder")
        (offset,) = struct.unpack("<L", fixed[42:46])
        if offset not in (LARGE, entry.header_offset):
            raise DatasetError(f"{archive.filename}: there is data before the .zip; pack it again")
        yield fixed + file.read(sum(struct.unpack("<3H", fixed[28:34])))


def _append(file: BinaryIO, contents: Mapping[str, bytes]) -> list[bytes]:
    """Appends files; returns their central directory records."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            entry = zipfile.ZipInfo(name, time.localtime()[:6])
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(file) as archive:
        records = list(_directory(file, archive))
        file.seek(archive.start_dir)
    file.truncate()
    return records


def _finish(file: BinaryIO, records: list[bytes], comment: bytes) -> None:
    """Writes the central directory and the end records, as Zip64 if needed."""
    begin = file.tell()
    file.writelines(records)
    end, count = file.tell(), len(records)
    size = end - begin
    if count >= MANY or begin >= LARGE or size >= LARGE:
        file.write(struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, begin))
        file.write(struct.pack("<4sLQL", b"PK\6\7", 0, end, 1))
    few = min(count, MANY)
    last = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, few, few, min(size, LARGE), min(begin, LARGE), len(comment))
    file.write(last + comment)
