"""Decoding and encoding of pictures. No other module opens or encodes picture files.

A picture in memory is (H, W, 3) uint8 RGB. Files are untrusted: the declared size is checked before memory is
allocated, only the decoders in `formats.DECODERS` are used, and every failure becomes a `PictureError`."""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
import stat
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import ExifTags, Image, ImageDraw, ImageFont, PngImagePlugin, UnidentifiedImageError

from kyara.files import formats
from kyara.files.atomic import write_atomic
from kyara.files.colour import WHITE, to_rgb, to_rgba
from kyara.files.errors import PictureError

if TYPE_CHECKING:
    from torch import Tensor

MAX_PIXELS = 100_000_000  # Maximum number of pixels; checked before decoding
MAX_BYTES = 256 * 2**20  # Maximum file size in bytes; checked before reading
MAX_SIDE = 8192  # Maximum width and height in pixels, for `parse_size`
MAX_RECIPE = 2**20  # Maximum size of a recipe in bytes, for `read_recipe`

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
RECIPE = "kyara"


def decode(source: Path | bytes, name: str | None = None, *, at_least: int | None = None) -> np.ndarray:
    """Decodes a file, given by path or contents, to (H, W, 3) uint8 RGB.

    Applies the EXIF rotation, converts colours to sRGB by the embedded profile, composites transparency on white,
    converts palettes, grey and CMYK, scales 16 bits to 8, and takes the first frame of an animation and the composite
    of a PSD. With `at_least`, a large JPEG is decoded at 1/2, 1/4 or 1/8 of its size as long as each side keeps that
    many pixels, which is several times as fast. Raises only PictureError, whose message starts with `name`."""
    with _open(source, name) as picture:
        if at_least is not None:
            picture.draft(None, (at_least, at_least))
        picture.load()
        return to_rgb(picture)


def decode_rgba(source: Path | bytes, name: str | None = None) -> np.ndarray:
    """Like `decode`, with alpha channel: (H, W, 4) uint8; opaque if the file has none."""
    with _open(source, name) as picture:
        picture.load()
        return to_rgba(picture)


def measure(source: Path | bytes, name: str | None = None) -> tuple[int, int]:
    """(width, height) from the header, before EXIF rotation. Raises PictureError as in `decode`."""
    with _open(source, name) as picture:
        return picture.size


def upright_size(source: Path | bytes, name: str | None = None) -> tuple[int, int]:
    """(width, height) from the header, after EXIF rotation. Raises PictureError as in `decode`."""
    with _open(source, name) as picture:
        turned = picture.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
        return picture.size[::-1] if turned else picture.size


@contextlib.contextmanager
def _open(source: Path | bytes, name: str | None) -> Iterator[Image.Image]:
    """Opens a picture without decoding it. Every exception inside the context becomes a PictureError."""
    name = name or (str(source) if isinstance(source, Path) else "picture")
    data = b""
    try:
        data = _read_file(source) if isinstance(source, Path) else source
        if not data:
            raise PictureError("empty file (0 bytes)")
        if len(data) > MAX_BYTES:
            raise PictureError(f"larger than {MAX_BYTES >> 20} MiB")
        # Pillow warns about damage that is harmless or raises an error later.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            with Image.open(io.BytesIO(data), formats=formats.decoders(data)) as picture:
                _check_size(*picture.size)
                formats.check_composite(picture)
                yield picture
    except Exception as error:  # decoders raise arbitrary exceptions on malformed data
        raise PictureError(f"{name}: {_reason(error, data, name)}") from error


def _read_file(path: Path) -> bytes:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise PictureError("not a regular file")
    if status.st_size > MAX_BYTES:
        raise PictureError(f"larger than {MAX_BYTES >> 20} MiB")
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise PictureError(f"declares {width}x{height} pixels; the limit is {MAX_PIXELS // 10**6} million")
    if width < 1 or height < 1:
        raise PictureError("has no pixels")


def _reason(error: Exception, data: bytes, name: str) -> str:
    """The cause of a decoding error, as text for the user."""
    text = str(error)
    if isinstance(error, PictureError):
        return text
    if isinstance(error, Image.DecompressionBombError):
        return f"declares too many pixels; the limit is {MAX_PIXELS // 10**6} million"
    if isinstance(error, UnidentifiedImageError):
        if hint := formats.by_name(name) or formats.by_content(data):
            return hint
        return (
            "not a picture in a supported format (png, jpeg, webp, bmp, gif, tiff, avif, psd), or its header is damaged"
        )
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    if isinstance(error, PermissionError | FileNotFoundError | IsADirectoryError):
        return f"cannot be read ({error.strerror})"
    short_webp = data[:4] == b"RIFF" and int.from_bytes(data[4:8], "little") > len(data)
    if short_webp or isinstance(error, EOFError) or re.search("truncated|too short|not enough", text, re.I):
        return "truncated: the file ends too early"
    return f"damaged ({text or type(error).__name__})"


def encode_png(picture: np.ndarray, recipe: Mapping[str, Any] | None = None) -> bytes:
    """Encodes a picture (H, W, 3) uint8 as PNG, with `recipe` as JSON in the text chunk "kyara".

    Run-length matching after PNG's filters takes a quarter to a half of the time of zlib's default, level 6. Files of
    drawn faces are 1 to 4 % larger, those of flat shapes up to a quarter."""
    info = None
    if recipe is not None:
        info = PngImagePlugin.PngInfo()
        info.add_text(RECIPE, json.dumps(recipe, separators=(",", ":")))  # ASCII: \u escapes the rest
    return _encode(picture, "PNG", pnginfo=info, compress_type=zlib.Z_RLE)


def encode_rgba_png(picture: np.ndarray) -> bytes:
    """Encodes a picture with transparency (H, W, 4) uint8 as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture), "RGBA").save(buffer, "PNG")
    return buffer.getvalue()


def encode_webp(picture: np.ndarray) -> bytes:
    """Encodes a picture (H, W, 3) uint8 as lossless WebP."""
    # For lossless WebP, quality means effort: this is 4 % larger than the smallest file and ten times as fast.
    return _encode(picture, "WEBP", lossless=True, quality=20, method=2)


def encode_jpeg(picture: np.ndarray, quality: int) -> bytes:
    """Encodes a picture (H, W, 3) uint8 as JPEG with a `quality` from 0 to 100 and colours at full resolution."""
    return _encode(picture, "JPEG", quality=quality, subsampling=0, optimize=True)  # Huffman tables of its own


def _encode(picture: np.ndarray, encoding: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    _image(picture).save(buffer, encoding, **options)
    return buffer.getvalue()


def _image(picture: np.ndarray) -> Image.Image:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"a picture is (H, W, 3) uint8, not {picture.shape} {picture.dtype}")
    return Image.fromarray(np.ascontiguousarray(picture))


def write_png(path: Path, picture: np.ndarray, recipe: Mapping[str, Any] | None = None) -> None:
    """Writes `encode_png` to `path`, atomically."""
    data = encode_png(picture, recipe)
    write_atomic(path, lambda temporary: temporary.write_bytes(data))


def read_recipe(path: Path) -> dict[str, Any] | None:
    """The recipe in the PNG at `path`; None if there is no readable one."""
    try:
        with path.open("rb") as file:
            if file.read(8) != PNG_SIGNATURE:
                return None
            for _ in range(1000):  # the recipe precedes the pixels; Kyara never writes this many chunks before them
                length, kind = struct.unpack(">I4s", file.read(8))
                if kind in (b"IDAT", b"IEND"):
                    return None
                if kind != b"tEXt" or length > MAX_RECIPE:
                    file.seek(length + 4, io.SEEK_CUR)
                    continue
                key, _, text = file.read(length + 4)[:-4].partition(b"\0")
                if key == RECIPE.encode():
                    recipe = json.loads(text.decode("latin-1"))
                    return recipe if isinstance(recipe, dict) else None
    except (OSError, ValueError, struct.error, RecursionError):
        return None
    return None


def write_animation(path: Path, pictures: Iterable[np.ndarray], fps: float) -> None:
    """Atomically writes pictures of equal size, each (H, W, 3) uint8, as a looping animated WebP with `fps` frames per
    second."""
    frames = [_image(picture) for picture in pictures]
    if not frames or not fps > 0:
        raise ValueError(f"an animation needs pictures and a positive frame rate, not {fps}")
    if len({frame.size for frame in frames}) > 1:
        raise ValueError("the pictures of an animation must all have the same size")
    moving = {"save_all": True, "append_images": frames[1:], "duration": max(1, round(1000 / fps)), "loop": 0}
    write_atomic(path, lambda temporary: frames[0].save(temporary, "WEBP", quality=90, **moving))


def parse_size(text: str) -> tuple[int, int]:
    """Parses "96" (a square) or HEIGHTxWIDTH, such as "512x256", to (width, height) in pixels."""
    match = re.fullmatch(r"\s*([0-9]{1,5})\s*(?:[x×]\s*([0-9]{1,5})\s*)?", str(text), re.I)
    if match:
        height, width = int(match[1]), int(match[2] or match[1])
        if 0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE:
            return width, height
    hint = f"give one number for a square (96) or HEIGHTxWIDTH (512x256), each from 1 to {MAX_SIDE}"
    raise ValueError(f"--size {text}: not a size; {hint}")


Filter = Literal["lanczos", "bicubic", "bilinear", "box"]


def resize(picture: np.ndarray, width: int, height: int, by: Filter = "lanczos") -> np.ndarray:
    """Resizes a picture (H, W, 3) uint8; returns the same array if it already has that size."""
    if picture.shape[:2] == (height, width):
        return picture
    return np.array(_image(picture).resize((width, height), Image.Resampling[by.upper()]))


def centre_region(w: int, h: int, width: int, height: int) -> tuple[int, int]:
    """Width and height of the largest region of a picture of w x h with the aspect ratio width / height."""
    return min(w, max(1, round(h * width / height))), min(h, max(1, round(w * height / width)))


def center_crop(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """Crops the largest centred region with the aspect ratio width / height, and resizes it. The crop is aligned to
    whole pixels, so a picture that needs no resizing stays sharp."""
    h, w = picture.shape[:2]
    cut_w, cut_h = centre_region(w, h, width, height)
    x, y = (w - cut_w) // 2, (h - cut_h) // 2
    return resize(picture[y : y + cut_h, x : x + cut_w], width, height)


def pad_to(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resizes the whole picture to fit into (width, height), centred on white."""
    h, w = picture.shape[:2]
    scale = min(width / w, height / h)
    fit_w, fit_h = min(width, max(1, round(w * scale))), min(height, max(1, round(h * scale)))
    canvas = np.full((height, width, 3), 255, dtype=np.uint8)
    x, y = (width - fit_w) // 2, (height - fit_h) // 2
    canvas[y : y + fit_h, x : x + fit_w] = resize(picture, fit_w, fit_h)
    return canvas


def sheet(pictures: Sequence[np.ndarray] | np.ndarray, columns: int | None = None, margin: int = 2) -> np.ndarray:
    """A grid of pictures on white with `columns` columns, by default approximately square."""
    if not len(pictures):
        raise ValueError("a sheet needs at least one picture")
    columns = min(columns or math.ceil(math.sqrt(len(pictures))), len(pictures))
    rows = math.ceil(len(pictures) / columns)
    height, width = (max(p.shape[side] for p in pictures) + margin for side in (0, 1))
    canvas = np.full((rows * height + margin, columns * width + margin, 3), 255, dtype=np.uint8)
    for i, picture in enumerate(pictures):
        y, x = margin + i // columns * height, margin + i % columns * width
        canvas[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return canvas


def numbered(picture: np.ndarray, number: int) -> np.ndarray:
    """The picture (H, W, 3) with a number printed on a strip below it: (H + 14, W, 3)."""
    strip = Image.new("RGB", (picture.shape[1], 14), WHITE)
    ImageDraw.Draw(strip).text((2, 1), str(number), fill=(0, 0, 0), font=ImageFont.load_default_imagefont())
    return np.concatenate([picture, np.array(strip)])


def to_float(pictures: np.ndarray | Tensor) -> Tensor:
    """Converts uint8 pictures (B, H, W, 3) or (H, W, 3) to model input: (B, 3, H, W) or (3, H, W) in [-1, 1], in
    channels_last memory format."""
    import torch

    tensor = pictures if isinstance(pictures, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(pictures))
    return tensor.movedim(-1, -3).float().div_(127.5).sub_(1)  # (B, 3, H, W)


def quantise(pictures: Tensor) -> Tensor:
    """Converts pictures (B, 3, H, W) or (3, H, W) to uint8 (B, H, W, 3) or (H, W, 3) on the same device. Rounds, and
    clamps values outside [-1, 1]."""
    import torch

    values = ((pictures.detach().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return values.movedim(-3, -1).contiguous()  # (B, H, W, 3)


def to_uint8(pictures: Tensor) -> np.ndarray:
    """`quantise` as an array: the inverse of `to_float`."""
    return quantise(pictures).cpu().numpy()
