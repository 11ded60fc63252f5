"""Replacing a few small files of a .zip without touching the others.

Python's zipfile can only append, and re-encodes names that are neither ASCII nor UTF-8, so that they no longer match.
Therefore the other entries are copied as bytes, with their records of the directory, and keep their offsets: a process
that has the old directory in memory still finds them. The format is PKWARE's APPNOTE 6.3, sections 4.3 and 4.4.
"""

from __future__ import annotations

import struct
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from kyara.files.errors import DatasetError

LARGE = 0xFFFFFFFF
"""The value of a 32-bit field whose number is in a 64-bit field elsewhere."""
MANY = 0xFFFF
"""The same for 16 bits."""
CHUNK = 1 << 20


def rewrite(source: Path, target: Path, contents: Mapping[str, bytes]) -> None:
    """Writes to `target` the .zip `source` with these files, new or in place of older ones of the same name.
    DatasetError if the archive's layout is so unusual that something might be lost."""
    with zipfile.ZipFile(source) as archive, source.open("rb") as old, target.open("w+b") as new:
        records = dict(zip(archive.infolist(), _directory(old, archive), strict=True))
        kept = [record for entry, record in records.items() if entry.filename.replace("\\", "/") not in contents]
        # Replaced files at the end are cut off; elsewhere they stay as a gap, or later entries would move.
        end = archive.start_dir
        for entry in sorted(records, key=lambda entry: entry.header_offset, reverse=True):
            if entry.filename.replace("\\", "/") not in contents:
                break
            end = entry.header_offset
        _copy(old, new, end)
        kept += _append(new, contents)
        _finish(new, kept, archive.comment)


def _directory(file: BinaryIO, archive: zipfile.ZipFile) -> Iterator[bytes]:
    """The raw records of the central directory, in the order of `infolist()`."""
    file.seek(archive.start_dir)
    for entry in archive.infolist():
        fixed = file.read(46)
        if len(fixed) < 46 or fixed[:4] != b"PK\1\2":
            raise DatasetError(f"{archive.filename}: its directory is damaged; unpack it and use the folder")
        (offset,) = struct.unpack("<L", fixed[42:46])
        if offset not in (LARGE, entry.header_offset):
            raise DatasetError(f"{archive.filename}: there is data before the .zip; pack it again")
        yield fixed + file.read(sum(struct.unpack("<3H", fixed[28:34])))


def _copy(old: BinaryIO, new: BinaryIO, length: int) -> None:
    """Copies the first `length` bytes."""
    old.seek(0)
    while length > 0 and (piece := old.read(min(CHUNK, length))):
        new.write(piece)
        length -= len(piece)


def _append(file: BinaryIO, contents: Mapping[str, bytes]) -> list[bytes]:
    """Adds files at the end; returns their records of the directory."""
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
    """Writes the central directory and the end of a .zip, with 64-bit fields (Zip64) where needed."""
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
