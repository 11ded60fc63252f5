"""Names of the entries of a .zip in whatever encoding the program used that made it.

A .zip declares UTF-8 by a flag (APPNOTE 6.3, appendix D). Without the flag, macOS writes UTF-8, and Windows the code
page of its language: in Japan cp932, whose second bytes include the backslash. Python decodes all of these as cp437."""

from __future__ import annotations

import re
import string
import zipfile
from collections.abc import Sequence

UTF8_FLAG = 0x800
_WORD = re.compile(r"[A-Za-z]?[^\x00-\x7f]+[A-Za-z]?")  # Characters beyond ASCII, and the letters beside them


def entry_names(entries: Sequence[zipfile.ZipInfo]) -> list[str]:
    """The names of the entries, with forward slashes."""
    raw = [entry.orig_filename.encode("cp437") for entry in entries if not entry.flag_bits & UTF8_FLAG]
    encoding = _encoding([name for name in raw if not name.isascii()])
    return [_name(entry, encoding) for entry in entries]


def _name(entry: zipfile.ZipInfo, encoding: str) -> str:
    name = entry.orig_filename
    if not entry.flag_bits & UTF8_FLAG and not name.isascii():
        name = name.encode("cp437").decode(encoding)
        if encoding == "cp437":  # of an unknown encoding, a backslash may be the second byte of a character
            name = re.sub(r"(?<=[^\x00-\x7f])\\", "_", name)
    parts = name.partition("\0")[0].replace("\\", "/").split("/")
    return "/".join(part for part in parts if part != ".")


def _encoding(names: Sequence[bytes]) -> str:
    """The common encoding of names that are not ASCII."""
    for encoding in ("utf-8", "cp932"):
        try:
            decoded = [name.decode(encoding) for name in names]
        except UnicodeDecodeError:
            continue
        if encoding == "utf-8" or _is_japanese(decoded):
            return encoding
    return "cp437"


def _is_japanese(names: Sequence[str]) -> bool:
    """Whether names that can be decoded as cp932 are Japanese. Accented letters of Western names decode to
    single characters beside ASCII letters, since they take the next letter as their second byte: "Müller" is
    "M〕ler"."""
    words = [word for name in names for word in _WORD.findall(name)]
    western = 0
    for word in words:
        inner = word.strip(string.ascii_letters)
        encoded = inner.encode("cp932")
        western += len(inner) == 1 < len(word) and (len(encoded) == 1 or encoded[1] < 0x80)
    return 2 * western < len(words) and all(map(str.isprintable, names))  # not private use
