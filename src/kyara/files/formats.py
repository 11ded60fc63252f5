"""Unsupported picture formats, and how to convert them."""

from __future__ import annotations

from pathlib import PurePath

from PIL import features

_DRAWING = "a file of a drawing program; export it as PNG"
_HEIC = "HEIC is not supported; save it as PNG or JPEG"
_SUFFIXES = {
    **dict.fromkeys((".heic", ".heif", ".hif"), _HEIC),
    **dict.fromkeys((".psd", ".psb", ".clip", ".kra", ".xcf", ".sai", ".sai2", ".ora", ".mdp", ".procreate"), _DRAWING),
    **dict.fromkeys((".svg", ".ai", ".eps", ".pdf"), "a vector format; export it as PNG"),
    **dict.fromkeys((".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2"), "a raw photo; save it as PNG or JPEG"),
    ".jxl": "JPEG XL is not supported; save it as PNG",
    **({} if features.check("avif") else {".avif": "AVIF needs another build of Pillow; save it as PNG"}),
}


def by_name(name: str | PurePath) -> str | None:
    """Hint for a file in an unsupported format, by suffix; None for other formats."""
    return _SUFFIXES.get(PurePath(name).suffix.lower())


def by_content(data: bytes) -> str | None:
    """Hint for a file in an unsupported format, by its first bytes (the suffix may be wrong); None for others."""
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"heim", b"hevc", b"mif1", b"msf1"):
        return _HEIC
    return _DRAWING if data.startswith((b"8BPS", b"CSFCHUNK")) else None
