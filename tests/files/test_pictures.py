"""Reading pictures that the world throws at us, and writing our own."""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import drawn_picture
from PIL import Image, ImageCms

from kyara.files import colour, formats, pictures
from kyara.files.errors import PictureError
from kyara.files.pictures import decode, encode_png

RANDOM = np.random.RandomState(0).randint(0, 256, (20, 30, 3), dtype=np.uint8)  # H 20, W 30


def save(image: Image.Image, encoding: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, encoding, **options)
    return buffer.getvalue()


def smooth(height: int = 20, width: int = 30) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // (width - 1), y * 255 // (height - 1), np.full_like(x, 90)], 2).astype(np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def huge_png(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return pictures.PNG_SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100))


@pytest.mark.parametrize("encoding", ["PNG", "BMP", "GIF", "TIFF", "WEBP"])
def test_lossless_formats_come_back_exactly(encoding: str) -> None:
    image = Image.fromarray(RANDOM)
    if encoding == "GIF":
        image = image.quantize(64)
    data = save(image, encoding, **({"lossless": True} if encoding == "WEBP" else {}))
    assert np.array_equal(decode(data), np.array(image.convert("RGB")))


@pytest.mark.parametrize("encoding", ["JPEG", "WEBP", "AVIF"])
def test_lossy_formats_come_back_nearly(encoding: str) -> None:
    if encoding == "AVIF" and ".avif" not in formats.SUFFIXES:
        pytest.skip("needs Pillow with AVIF support; run: pip install --upgrade pillow")
    difference = decode(save(Image.fromarray(smooth()), encoding, quality=95)).astype(int) - smooth()
    assert abs(difference).mean() < 4


@pytest.mark.parametrize("mode", ["1", "L", "P", "YCbCr", "HSV", "RGB"])
def test_opaque_modes(mode: str) -> None:
    image = Image.fromarray(smooth()).convert(mode)
    encoding = "JPEG" if mode == "YCbCr" else "PNG"
    if mode == "HSV":  # no file holds it; whatever does not decode to a mode we know is converted alike
        assert np.array_equal(colour.to_rgb(image), np.array(image.convert("RGB")))
        return
    expected = np.array(image.convert("RGB")).astype(int)
    assert abs(decode(save(image, encoding)).astype(int) - expected).mean() < (4 if mode == "YCbCr" else 0.01)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa"])
def test_transparency_is_laid_over_white(mode: str) -> None:
    rgba = np.dstack([np.full((4, 4, 3), 100, np.uint8), np.tile(np.uint8([0, 128, 255, 255]), (4, 1))])
    image = Image.fromarray(rgba)
    if mode == "PA":  # Pillow converts nothing to it
        image = Image.merge("PA", [Image.new("L", (4, 4), 100), image.getchannel("A")])
        image.putpalette([v for v in range(256) for _ in range(3)])
    else:
        image = image.convert(mode)
    result = colour.to_rgb(image) if mode in ("PA", "RGBa") else decode(save(image))
    assert (result[:, 0] == 255).all() and (abs(result[:, 2].astype(int) - 100) <= 1).all()
    assert (abs(result[:, 1].astype(int) - 177) <= 2).all()


def test_transparent_colour_of_a_palette_and_of_rgb() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([255, 0, 0, 0, 0, 255] + [0] * 762)
    image.putpixel((0, 0), 0)
    result = decode(save(image, transparency=0))
    assert tuple(result[0, 0]) == (255, 255, 255) and tuple(result[1, 1]) == (0, 0, 255)
    rgb = Image.new("RGB", (2, 2), (9, 9, 9))
    rgb.putpixel((0, 0), (1, 2, 3))
    result = decode(save(rgb, transparency=(1, 2, 3)))
    assert tuple(result[0, 0]) == (255, 255, 255) and tuple(result[1, 1]) == (9, 9, 9)


def test_cmyk_and_lab() -> None:
    cmyk = decode(save(Image.fromarray(smooth()).convert("CMYK"), "JPEG", quality=95))
    assert abs(cmyk.astype(int) - smooth()).mean() < 6
    lab = decode(save(Image.new("LAB", (3, 3), (255, 128, 128)), "TIFF"))
    assert lab.shape == (3, 3, 3) and lab.min() > 240


def test_transparent_value_of_16_bit_grey() -> None:
    """It is compared before 16 bits become 8: 1001 is the same grey as 1000."""
    data = save(Image.fromarray(np.uint16([[0, 1000, 1001, 65535]])), transparency=1000)
    assert decode(data)[0].tolist() == [[0] * 3, [255] * 3, [4] * 3, [255] * 3]
    assert pictures.decode_rgba(data)[0, :, 3].tolist() == [255, 0, 255, 255]
    opaque = save(Image.fromarray(np.uint16([[0, 1000]])))
    assert pictures.decode_rgba(opaque)[0, :, 3].tolist() == [255, 255]


@pytest.mark.parametrize("kind", ["I;16 PNG", "I;16 TIFF", "I;16B TIFF", "I TIFF", "F TIFF", "F unit TIFF"])
def test_deep_grey_is_scaled_not_clipped(kind: str) -> None:
    ramp = np.tile(np.linspace(0, 65535, 64), (4, 1))
    arrays = {
        "I;16 PNG": ramp.astype("<u2"),
        "I;16 TIFF": ramp.astype("<u2"),
        "I;16B TIFF": ramp.astype(">u2"),
        "I TIFF": ramp.astype("<i4"),
        "F TIFF": ramp.astype("<f4"),
        "F unit TIFF": (ramp / 65535).astype("<f4"),
    }
    result = decode(save(Image.fromarray(arrays[kind]), kind.split()[-1]))
    expected = np.round(ramp / 257).astype(int)
    assert (abs(result[:, :, 0].astype(int) - expected) <= 1).all()


def test_deep_grey_with_values_that_are_none() -> None:
    values = np.array([[np.nan, np.inf, -5.0, 1e9]], dtype=np.float32)
    assert decode(save(Image.fromarray(values), "TIFF")).shape == (1, 4, 3)


def test_16_bit_colour_is_scaled() -> None:
    rows = b"".join(b"\0" + b"\xff\xff\x80\x00\x00\x00" * 3 for _ in range(2))
    header = struct.pack(">IIBBBBB", 3, 2, 16, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert tuple(decode(pictures.PNG_SIGNATURE + data)[0, 0]) == (255, 128, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turns = [
        lambda p: p,
        np.fliplr,
        lambda p: np.rot90(p, 2),
        np.flipud,
        lambda p: p.transpose(1, 0, 2),
        lambda p: np.rot90(p, -1),
        lambda p: np.rot90(p.transpose(1, 0, 2), 2),
        lambda p: np.rot90(p, 1),
    ]
    assert np.array_equal(decode(save(Image.fromarray(RANDOM), exif=exif)), turns[orientation - 1](RANDOM))


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
def test_broken_exif_does_no_harm(exif: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(save(Image.fromarray(smooth()), "JPEG", exif=exif)).shape == (20, 30, 3)


@pytest.mark.parametrize("encoding", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_an_animation(encoding: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    data = save(frames[0], encoding, save_all=True, append_images=frames[1:])
    assert abs(decode(data).astype(int) - [255, 0, 0]).max() <= 2


def test_contents_decide_not_names(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(save(Image.fromarray(smooth()), "JPEG"))
    assert decode(path).shape == (20, 30, 3)
    assert pictures.measure(path) == (30, 20)


@pytest.mark.parametrize("encoding", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_files_are_said_to_be(encoding: str, share: float) -> None:
    data = save(Image.fromarray(np.tile(RANDOM, (8, 8, 1))), encoding)
    with pytest.raises(PictureError, match=r"cat: (truncated|damaged|.*header is damaged)"):
        decode(data[: int(len(data) * share)], "cat")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"just some text, renamed", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
        (huge_png(60_000, 60_000), "limit is 100 million"),
        (huge_png(12_000, 12_000), "12000x12000"),
        (huge_png(9_000, 9_000), "truncated"),
        (b"\x89PNG\r\n\x1a\n" + b"\xff" * 100, "x: "),
        (b"GIF89a" + b"\xff" * 40, "x: "),
        (b"RIFF\xff\xff\xff\xffWEBPVP8 " + b"\0" * 40, "x: "),
        (b"II*\0" + b"\xff" * 200, "x: "),
    ],
)
def test_bad_files_are_named(data: bytes, message: str) -> None:
    with pytest.raises(PictureError, match=message) as caught:
        decode(data, "x")
    assert str(caught.value).startswith("x: ")


def test_nothing_but_picture_errors_from_damaged_bytes() -> None:
    random = np.random.RandomState(1)
    for encoding in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"):
        good = np.frombuffer(save(Image.fromarray(smooth()), encoding), np.uint8)
        for _ in range(60):
            bad = good.copy()
            bad[random.randint(0, len(bad), 6)] = random.randint(0, 256, 6)
            with contextlib.suppress(PictureError):
                assert decode(bad.tobytes()).dtype == np.uint8


def test_text_that_expands_is_refused_cheaply() -> None:
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 50_000_000))
    data = pictures.encode_png(smooth())
    with pytest.raises(PictureError):
        decode(data[:33] + bomb + data[33:])


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PictureError, match="cannot be read"):
        decode(tmp_path / "missing.png")
    with pytest.raises(PictureError, match="not a regular file"):
        decode(tmp_path)
    monkeypatch.setattr(pictures, "MAX_BYTES", 1000)
    (tmp_path / "big.png").write_bytes(pictures.encode_png(RANDOM))
    with pytest.raises(PictureError, match="larger than"):
        decode(tmp_path / "big.png")


def test_png_carries_its_recipe(tmp_path: Path) -> None:
    recipe = {"checkpoint": "0123", "seed": 7, "where": {"hair": "青"}, "text": "new\nline"}
    pictures.write_png(tmp_path / "a.png", RANDOM, recipe)
    assert np.array_equal(decode(tmp_path / "a.png"), RANDOM)
    assert pictures.read_recipe(tmp_path / "a.png") == recipe
    pictures.write_png(tmp_path / "b.png", RANDOM)
    assert pictures.read_recipe(tmp_path / "b.png") is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]


@pytest.mark.parametrize(
    "text",
    [b"kyara\0[1, 2]", b"kyara\0not json", b"kyara\0" + b"[" * 100_000, b"kyara", b"kyara\0" + b" " * 2**21],
)
def test_hostile_recipes_are_none(tmp_path: Path, text: bytes) -> None:
    data = pictures.encode_png(RANDOM)
    (tmp_path / "a.png").write_bytes(data[:33] + chunk(b"tEXt", text) + data[33:])
    assert pictures.read_recipe(tmp_path / "a.png") is None


def test_recipes_of_what_is_no_png(tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(pictures.encode_png(RANDOM, {"a": "b" * 500})[:200])
    (tmp_path / "text.png").write_text("kyara")
    for name in ("cut.png", "text.png", "missing.png"):
        assert pictures.read_recipe(tmp_path / name) is None


def test_lossless_webp_is_exact() -> None:
    assert np.array_equal(decode(pictures.encode_webp(RANDOM)), RANDOM)


def test_animation(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    pictures.write_animation(path, [np.full((8, 10, 3), v, np.uint8) for v in (0, 128, 255)], fps=20)
    with Image.open(path) as image:
        assert image.n_frames == 3 and image.info["loop"] == 0 and image.size == (10, 8)
    with pytest.raises(ValueError, match="animation"):
        pictures.write_animation(path, [], 10)
    with pytest.raises(ValueError, match="size"):
        pictures.write_animation(path, [RANDOM, RANDOM[:5]], 10)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("96", (96, 96)), ("512x256", (256, 512)), (" 64 X 32 ", (32, 64)), ("8×16", (16, 8))],
)
def test_parse_size_is_height_first(text: str, expected: tuple[int, int]) -> None:
    assert pictures.parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "0", "96x", "x96", "-5", "9.5", "99999", "1x2x3", "big", "٣٢"])
def test_parse_size_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="--size"):
        pictures.parse_size(text)


def test_center_crop_cuts_whole_pixels() -> None:
    picture = np.arange(10 * 14 * 3, dtype=np.uint8).reshape(10, 14, 3)
    assert np.shares_memory(pictures.center_crop(picture, 14, 10), picture)
    assert np.array_equal(pictures.center_crop(picture, 10, 10), picture[:, 2:12])
    assert pictures.center_crop(picture, 7, 5).shape == (5, 7, 3)
    assert pictures.center_crop(picture, 4, 64).shape == (64, 4, 3)
    assert pictures.center_crop(picture[:1, :1], 8, 16).shape == (16, 8, 3)


def test_pad_to_keeps_all_and_fills_with_white() -> None:
    padded = pictures.pad_to(np.zeros((10, 20, 3), np.uint8), 16, 16)
    assert padded.shape == (16, 16, 3)
    assert (padded[:4] == 255).all() and (padded[4:12] == 0).all() and (padded[12:] == 255).all()


def test_sheet() -> None:
    page = pictures.sheet([RANDOM] * 5, columns=3, margin=1)
    assert page.shape == (2 * 21 + 1, 3 * 31 + 1, 3)
    assert np.array_equal(page[22:42, 32:62], RANDOM) and (page[22:, 63:] == 255).all()
    assert pictures.sheet(np.stack([RANDOM] * 4)).shape[0] == 2 * 22 + 2


def test_float_and_back() -> None:
    every = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    tensor = pictures.to_float(every)
    assert tensor.shape == (1, 3, 16, 16) and tensor.min() == -1 and tensor.max() == 1
    assert np.array_equal(pictures.to_uint8(tensor), every)
    assert np.array_equal(pictures.to_uint8(pictures.to_float(torch.from_numpy(every[0]))), every[0])
    assert pictures.to_uint8(torch.tensor([[[9.0]], [[-9.0]], [[0.0]]])).tolist() == [[[255, 0, 128]]]


def test_only_pictures_are_encoded() -> None:
    with pytest.raises(ValueError, match="uint8"):
        pictures.encode_png(RANDOM.astype(np.float32))


def test_a_large_jpeg_can_come_smaller() -> None:
    smooth = pictures.resize(np.random.RandomState(0).randint(0, 256, (5, 7, 3), dtype=np.uint8), 700, 500)
    buffer = io.BytesIO()
    Image.fromarray(smooth).save(buffer, "JPEG", quality=95)
    whole, part = (pictures.decode(buffer.getvalue(), at_least=side) for side in (None, 100))
    assert whole.shape == (500, 700, 3) and part.shape == (125, 175, 3)
    difference = pictures.resize(whole, 35, 25).astype(int) - pictures.resize(part, 35, 25)
    assert np.abs(difference).mean() < 2
    assert pictures.decode(pictures.encode_png(smooth), at_least=100).shape == (500, 700, 3)


def test_what_is_transparent_stays_so() -> None:
    rgba = np.zeros((3, 4, 4), np.uint8)
    rgba[:, :2] = (200, 100, 50, 255)
    rgba[:, 2:] = (1, 2, 3, 0)
    buffer = io.BytesIO()
    Image.fromarray(rgba).save(buffer, "PNG")
    assert np.array_equal(pictures.decode_rgba(buffer.getvalue()), rgba)
    buffer = io.BytesIO()
    Image.fromarray(rgba[:, :, :3]).save(buffer, "PNG")
    opaque = pictures.decode_rgba(buffer.getvalue())
    assert (opaque[:, :, 3] == 255).all() and np.array_equal(opaque[:, :, :3], rgba[:, :, :3])
    with pytest.raises(pictures.PictureError, match="picture: empty"):
        pictures.decode_rgba(b"")


def test_png_files_are_not_much_larger_than_those_of_zlib() -> None:
    made, smallest = 0, 0
    for seed in range(4):
        picture = np.array(Image.fromarray(drawn_picture(seed)).resize((96, 96), Image.Resampling.BICUBIC))
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        made, smallest = made + len(encode_png(picture)), smallest + len(buffer.getvalue())
        assert np.array_equal(decode(encode_png(picture)), picture)
    assert made < 1.3 * smallest  # the worst case: flat colours and shapes that repeat


# Colour profiles


def profile(space: bytes, gamma: float, red: tuple[float, float, float] = (0.60974, 0.31111, 0.01947)) -> bytes:
    """A display profile (ICC.1:2022, 8.3) with one gamma: with Adobe RGB's primaries by default, or grey."""

    def xyz(values: tuple[float, ...]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(v * 65536)) for v in values)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = [(b"desc", b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78)), (b"cprt", b"text\0\0\0\0cc0\0")]
    tags.append((b"wtpt", xyz((0.9642, 1, 0.8249))))
    if space == b"GRAY":
        tags.append((b"kTRC", curve))
    else:
        colours = red, (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)
        tags += [(name, xyz(colour)) for name, colour in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colours, strict=True)]
        tags += [(name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")]
    start, table, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, value in tags:
        value += bytes(-len(value) % 4)
        table += name + struct.pack(">II", start + len(body), len(value))
        body += value
    head = bytearray(128)
    struct.pack_into(">I", head, 0, start + len(body))
    head[8:12], head[12:24] = b"\2\x10\0\0", b"mntr" + space + b"XYZ "
    head[24:40] = struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp"
    head[68:80] = xyz((0.9642, 1, 0.8249))[8:]
    return bytes(head) + table + body


ADOBE, LINEAR = profile(b"RGB ", 2.2), profile(b"GRAY", 1.0)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def stored_as(colour_: tuple[int, int, int], icc: bytes) -> tuple[int, int, int]:
    """The numbers in a picture with this profile that shows a colour of sRGB."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    image = ImageCms.profileToProfile(Image.new("RGB", (1, 1), colour_), ImageCms.createProfile("sRGB"), source)
    return image.getpixel((0, 0))  # type: ignore[union-attr, return-value]


@pytest.mark.parametrize("encoding", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_pictures_show_the_colours_of_their_profile(encoding: str, mode: str) -> None:
    if (encoding == "JPEG" and mode != "RGB") or (encoding == "WEBP" and mode == "P"):
        pytest.skip(f"{encoding} does not support the mode {mode}")
    image = Image.new("RGB", (8, 8), stored_as((60, 200, 80), ADOBE))
    image = image.quantize(2) if mode == "P" else image.convert(mode)
    options = {"lossless": True} if encoding == "WEBP" else {"quality": 100} if encoding == "JPEG" else {}
    data = save(image, encoding, icc_profile=ADOBE, **options)
    assert abs(decode(data).astype(int) - [60, 200, 80]).max() <= 4
    assert abs(pictures.decode_rgba(data).astype(int) - [60, 200, 80, 255]).max() <= 4


def test_transparency_beside_a_profile() -> None:
    numbers = stored_as((60, 200, 80), ADOBE)
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([*numbers, *numbers] + [0] * 762)
    palette.putpixel((0, 0), 0)
    result = decode(save(palette, transparency=0, icc_profile=ADOBE))
    assert tuple(result[0, 0]) == (255, 255, 255) and abs(result[1, 1].astype(int) - [60, 200, 80]).max() <= 4
    grey = Image.merge("LA", [Image.new("L", (2, 1), 55), Image.fromarray(np.array([[0, 255]], np.uint8))])
    result = decode(save(grey, icc_profile=LINEAR))
    assert tuple(result[0, 0]) == (255, 255, 255) and abs(int(result[0, 1, 0]) - 127) <= 2  # 55 of 255, linear light


@pytest.mark.parametrize("depth", [8, 16])
def test_grey_profiles(depth: int) -> None:
    value = np.full((4, 4), 55 * 257 if depth == 16 else 55, np.uint16 if depth == 16 else np.uint8)
    result = decode(save(Image.fromarray(value), icc_profile=LINEAR))
    assert abs(result.astype(int) - 127).max() <= 2
    assert tuple(decode(save(Image.fromarray(value), icc_profile=ADOBE))[0, 0]) != (127, 127, 127)


def test_pictures_in_srgb_are_not_touched() -> None:
    assert np.array_equal(decode(save(Image.fromarray(RANDOM), icc_profile=SRGB)), RANDOM)
    grey = RANDOM[:, :, 0]
    assert np.array_equal(decode(save(Image.fromarray(grey), icc_profile=SRGB))[:, :, 1], grey)


@pytest.mark.parametrize("icc", [b"garbage" * 40, ADOBE[:200], SRGB[:-300], LINEAR])
def test_profiles_that_are_damaged_or_of_another_mode_are_ignored(icc: bytes) -> None:
    assert np.array_equal(decode(save(Image.fromarray(RANDOM), icc_profile=icc)), RANDOM)
    cmyk = Image.fromarray(RANDOM).convert("CMYK")
    assert np.array_equal(decode(save(cmyk, "TIFF", icc_profile=ADOBE)), np.array(cmyk.convert("RGB")))
