"""Formats of pictures: the suffixes and decoders of those that are read, and how to convert the others."""

from __future__ import annotations

import importlib.util
from pathlib import PurePath

from PIL import Image, features

from kyara.files.errors import PictureError
from kyara.files.extras import install_hint

_HEIC_SUFFIXES = frozenset({".heic", ".heif", ".hif", ".heics", ".heifs"})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
HAS_HEIC = importlib.util.find_spec("pillow_heif") is not None

SUFFIXES = frozenset(
    {".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".psd"}
    | {".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".pjpeg", ".pjp", ".mpo"}
    | ({".avif", ".avifs"} if features.check("avif") else set())
    | (_HEIC_SUFFIXES if HAS_HEIC else set())
)
"""Suffixes of pictures, in lower case. The content, not the suffix, decides how a file is decoded."""
DECODERS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "PSD")  # Pillow's names

_DRAWING = "a file of a drawing program; export it as PNG"
_HEIC = f"HEIC needs the package pillow-heif; {install_hint('formats')}, or save it as PNG"
_REASONS = {
    **dict.fromkeys(_HEIC_SUFFIXES, _HEIC),
    **dict.fromkeys((".clip", ".lip"), "a file of Clip Studio Paint; export it as PNG"),
    **dict.fromkeys((".psb", ".kra", ".xcf", ".sai", ".sai2", ".ora", ".mdp", ".procreate", ".afphoto"), _DRAWING),
    **dict.fromkeys((".svg", ".svgz", ".ai", ".eps", ".pdf"), "a vector format; export it as PNG"),
    **dict.fromkeys((".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2"), "a raw photo; save it as PNG or JPEG"),
    **dict.fromkeys((".tga", ".pcx", ".dds", ".exr", ".hdr", ".jp2", ".j2k"), "an unsupported format; save it as PNG"),
    **dict.fromkeys((".avif", ".avifs"), "AVIF needs another build of Pillow; save it as PNG"),
    ".jxl": "JPEG XL is not supported; save it as PNG",
}
_COMPOSITE = 1057  # The image resource of a PSD, "version info", whose fifth byte tells whether it has a composite


def by_name(name: str | PurePath) -> str | None:
    """Hint for a file in an unsupported format, by suffix; None for other formats."""
    suffix = PurePath(name).suffix.lower()
    return None if suffix in SUFFIXES else _REASONS.get(suffix)


def by_content(data: bytes) -> str | None:
    """Hint for a file in an unsupported format, by its first bytes (the suffix may be wrong); None for others."""
    if _is_heic(data):
        return "damaged HEIC file" if HAS_HEIC else _HEIC
    if data.startswith(b"8BPS"):
        return "a PSD or PSB file that is damaged or not supported, such as one of 16 bits; export it as PNG"
    return _REASONS[".clip"] if data.startswith(b"CSFCHUNK") else None


def decoders(data: bytes) -> tuple[str, ...]:
    """Pillow's names of the decoders that may open these bytes."""
    if not (HAS_HEIC and _is_heic(data)):
        return DECODERS
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False)
    return (*DECODERS, "HEIF")


def _is_heic(data: bytes) -> bool:
    """Whether the file type box (ISO 14496-12, 4.3) names HEIC among its brands."""
    end = min(int.from_bytes(data[:4], "big"), 256)
    brands = {data[8:12], *(data[i : i + 4] for i in range(16, end, 4))}
    return data[4:8] == b"ftyp" and bool(brands & _HEIC_BRANDS) and not brands & {b"avif", b"avis"}


def check_composite(picture: Image.Image) -> None:
    """Raises PictureError for an opened PSD without a composite of its layers, which would be a white picture."""
    for identifier, _, data in getattr(picture, "resources", ()):
        if identifier == _COMPOSITE and len(data) > 4 and not data[4]:
            hint = 'save it with "Maximize compatibility", or export it as PNG'
            raise PictureError(f"a PSD without a composite of its layers; {hint}")
