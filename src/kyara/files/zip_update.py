"""Replacing a few small files of a .zip without touching the others.

Python's zipfile can only append, and spells names that are neither ASCII nor UTF-8 anew, after which they no longer
match. So entries that stay are copied as bytes, with their lines of the directory, and keep their place: whoever has
the old directory in memory still finds them. The format: PKWARE's APPNOTE 6.3, sections 4.3 and 4.4.
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
"""What stands in a field of 32 bits whose number needs 64 and stands elsewhere."""
MANY = 0xFFFF
CHUNK = 1 << 20


def rewrite(source: Path, target: Path, contents: Mapping[str, bytes]) -> None:
    """Writes to `target` the .zip `source` with these files, new or in place of older ones of the same name.
    DatasetError if the archive is not laid out plainly enough to be sure that nothing is lost."""
    with zipfile.ZipFile(source) as archive, source.open("rb") as old, target.open("w+b") as new:
        lines = dict(zip(archive.infolist(), _directory(old, archive), strict=True))
        kept = [line for entry, line in lines.items() if entry.filename.replace("\\", "/") not in contents]
        # What is replaced at the very end falls away; elsewhere it stays as a gap, or later entries would move.
        end = archive.start_dir
        for entry in sorted(lines, key=lambda entry: entry.header_offset, reverse=True):
            if entry.filename.replace("\\", "/") not in contents:
                break
            end = entry.header_offset
        _copy(old, new, end)
        kept += _append(new, contents)
        _finish(new, kept, archive.comment)


def _directory(file: BinaryIO, archive: zipfile.ZipFile) -> Iterator[bytes]:
    """The lines of the central directory as they stand, in the order of `infolist()`."""
    file.seek(archive.start_dir)
    for entry in archive.infolist():
        fixed = file.read(46)
        if len(fixed) < 46 or fixed[:4] != b"PK\1\2":
            raise DatasetError(f"{archive.filename}: its directory is damaged; unpack it and give the folder")
        (offset,) = struct.unpack("<L", fixed[42:46])
        if offset not in (LARGE, entry.header_offset):
            raise DatasetError(f"{archive.filename}: something stands before the .zip; pack it anew")
        yield fixed + file.read(sum(struct.unpack("<3H", fixed[28:34])))


def _copy(old: BinaryIO, new: BinaryIO, length: int) -> None:
    """The first `length` bytes."""
    old.seek(0)
    while length > 0 and (piece := old.read(min(CHUNK, length))):
        new.write(piece)
        length -= len(piece)


def _append(file: BinaryIO, contents: Mapping[str, bytes]) -> list[bytes]:
    """Adds files at the end; their lines of the directory."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            entry = zipfile.ZipInfo(name, time.localtime()[:6])
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(file) as archive:
        lines = list(_directory(file, archive))
        file.seek(archive.start_dir)
    file.truncate()
    return lines


def _finish(file: BinaryIO, lines: list[bytes], comment: bytes) -> None:
    """The central directory and the records that end a .zip, those with 64 bits where 32 or 16 are too few."""
    begin = file.tell()
    file.writelines(lines)
    end, count = file.tell(), len(lines)
    size = end - begin
    if count >= MANY or begin >= LARGE or size >= LARGE:
        file.write(struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, begin))
        file.write(struct.pack("<4sLQL", b"PK\6\7", 0, end, 1))
    few = min(count, MANY)
    last = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, few, few, min(size, LARGE), min(begin, LARGE), len(comment))
    file.write(last + comment)
