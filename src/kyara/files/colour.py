"""Conversion of decoded pictures of any mode to 8-bit sRGB, by their embedded colour profile (ICC.1:2022)."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageCms, ImageOps

WHITE = (255, 255, 255)
MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # Colour space of a profile -> the Pillow mode that it describes
IDENTICAL = 1
"""A profile that changes no colour by more levels of 255 than this is sRGB under another name. Its pixels are not
touched, so that lossless pictures stay lossless."""

Transform = Callable[[Image.Image], Image.Image]


def to_rgb(picture: Image.Image) -> np.ndarray:
    """A loaded picture as (H, W, 3) uint8 sRGB, upright, on white where it is transparent."""
    colour, alpha = _separated(picture)
    if alpha is not None:
        canvas = Image.new("RGB", colour.size, WHITE)
        canvas.paste(colour, mask=alpha)
        colour = canvas
    return np.array(colour)


def to_rgba(picture: Image.Image) -> np.ndarray:
    """Like `to_rgb`, with its alpha channel: (H, W, 4) uint8, opaque if the picture has none."""
    colour, alpha = _separated(picture)
    opacity = np.full(colour.size[::-1], 255, np.uint8) if alpha is None else np.asarray(alpha)
    return np.dstack([np.asarray(colour), opacity])


def _separated(picture: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours as sRGB (mode RGB), and the alpha channel (mode L) or None."""
    with contextlib.suppress(Exception):  # broken EXIF is ignored; the pixels are fine
        ImageOps.exif_transpose(picture, in_place=True)
    profile, alpha = picture.info.get("icc_profile"), None
    if picture.mode.startswith(("I", "F")):
        values, clear = np.asarray(picture), picture.info.get("transparency")  # the value in a PNG that is transparent
        picture = Image.fromarray(_to_8_bits(values))
        if isinstance(clear, int):
            alpha = Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8))
    elif picture.has_transparency_data:
        rgba = picture if picture.mode == "RGBA" else picture.convert("RGBA")
        alpha = rgba.getchannel("A")
        picture = rgba.getchannel("R") if picture.mode in ("LA", "La") else rgba.convert("RGB")
    elif picture.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB")
        assert converted is not None  # only None in place
        return converted, None
    elif picture.mode not in ("L", "CMYK"):
        picture = picture.convert("RGB")
    return _transformed(picture, profile), alpha


def _transformed(picture: Image.Image, profile: object) -> Image.Image:
    """A picture of mode L, RGB or CMYK in sRGB. A damaged profile, or one for another mode, is ignored."""
    if isinstance(profile, bytes) and profile:
        mode, transform = _transform(profile)
        if transform is not None and picture.mode == "L" and mode == "RGB":
            picture = picture.convert("RGB")
        if transform is not None and picture.mode == mode:
            return transform(picture)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


@functools.lru_cache(maxsize=8)
def _transform(profile: bytes) -> tuple[str, Transform | None]:
    """The mode that a profile describes, and the conversion from it to sRGB; None if it changes nothing or is
    damaged."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = MODES[source.profile.xcolor_space]
        made = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.PERCEPTUAL,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )

        def transform(picture: Image.Image) -> Image.Image:
            converted = ImageCms.applyTransform(picture, made)
            assert converted is not None  # only None in place
            return converted

        return mode, None if _is_identity(transform, mode) else transform
    except Exception:  # LittleCMS raises various exceptions for damaged profiles
        return "", None


def _is_identity(transform: Transform, mode: str) -> bool:
    """Whether a conversion leaves a grid of colours as it is."""
    if mode == "CMYK":
        return False
    levels = np.arange(0, 256, 15 if mode == "RGB" else 1, dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(-1, 1, 3) if mode == "RGB" else levels[:, None]
    colours = Image.fromarray(grid)
    difference = np.asarray(transform(colours), int) - np.asarray(colours.convert("RGB"), int)
    return bool(np.abs(difference).max() <= IDENTICAL)


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """Greyscale of any depth as uint8, scaled and never clipped. 16-bit files use their full range. Wider types do not
    declare a range: the smallest common range that contains the values is used, or else their minimum and maximum."""
    if values.dtype.itemsize == 2:
        return np.round(values.astype(np.float32) / 257).astype(np.uint8)
    values = np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)
    low, high = float(values.min()), float(values.max())
    tops = (1.0, 255.0, 65535.0) if values.dtype.kind == "f" else (255.0, 65535.0)
    top = next((top for top in tops if high <= top), None) if low >= 0 else None
    if top is None:
        values, top = values - low, max(high - low, 1e-12)
    return np.round(values / top * 255).astype(np.uint8)
