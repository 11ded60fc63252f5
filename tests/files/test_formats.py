"""Formats that are not read: the message says what to do instead."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from kyara.files import formats
from kyara.files.dataset import open_dataset
from kyara.files.errors import PictureError
from kyara.files.extras import install_hint
from kyara.files.pictures import decode, write_png


@pytest.mark.skipif(formats.HAS_HEIC, reason="tests the error without pillow-heif, which is installed here")
@pytest.mark.parametrize("name", ["a.HEIC", "wrong.jpg"])
def test_heic_names_the_extra(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\0\0\0\x18ftypmif1\0\0\0\0heicmif1" + b"\0" * 9)
    with pytest.raises(PictureError, match=rf"{name}: HEIC needs the package pillow-heif; .*\[formats\].*as PNG"):
        decode(tmp_path / name)


@pytest.mark.skipif(not formats.HAS_HEIC, reason=f"needs the module pillow_heif; {install_hint('formats')}")
def test_heic_is_decoded(tmp_path: Path) -> None:
    import pillow_heif
    from PIL import Image

    pillow_heif.register_heif_opener()
    Image.new("RGB", (32, 16), (200, 30, 40)).save(tmp_path / "a.heic", quality=95)
    for name in ("a.heic", "wrong.jpg"):
        (tmp_path / name).write_bytes((tmp_path / "a.heic").read_bytes())
        picture = decode(tmp_path / name)
        assert picture.shape == (16, 32, 3) and abs(picture.astype(int) - [200, 30, 40]).max() < 6
    (tmp_path / "cut.heic").write_bytes((tmp_path / "a.heic").read_bytes()[:200])
    with pytest.raises(PictureError, match=r"cut\.heic: .*damaged"):
        decode(tmp_path / "cut.heic")


def psd(mode: int = 3, bits: int = 8, version: bytes = b"\1") -> bytes:
    """A PSD of 4x2 red pixels; `version` is the byte of the version info that tells whether there is a composite."""
    info = b"\0\0\0\1" + version + bytes(8)
    resource = b"8BIM" + struct.pack(">HBBL", 1057, 0, 0, len(info)) + info + bytes(len(info) % 2)
    header = b"8BPS" + struct.pack(">H6xHLLHH", 1, 3, 2, 4, bits, mode)
    pixels = b"".join(bytes([level]) * 8 for level in (255, 0, 0))
    return header + bytes(4) + struct.pack(">L", len(resource)) + resource + bytes(4) + bytes(2) + pixels


def test_a_psd_is_its_composite(tmp_path: Path) -> None:
    (tmp_path / "a.psd").write_bytes(psd())
    assert (decode(tmp_path / "a.psd") == [255, 0, 0]).all() and decode(psd()).shape == (2, 4, 3)
    assert open_dataset(tmp_path).names == ["a.psd"]
    with pytest.raises(PictureError, match="without a composite of its layers; save it with"):
        decode(psd(version=b"\0"))
    with pytest.raises(PictureError, match="16 bits; export it as PNG"):
        decode(psd(bits=16))
    for length in range(4, len(psd()), 5):
        with pytest.raises(PictureError):
            decode(psd()[:length])


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JFI", ".pjpeg", ".apng", ".dib", ".mpo"])
def test_other_suffixes_of_known_formats(tmp_path: Path, suffix: str) -> None:
    write_png(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "a.png").rename(tmp_path / f"a{suffix}")
    assert open_dataset(tmp_path).names == [f"a{suffix}"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.psd", b"8BPS\0\1"),
        ("wrong.png", b"8BPS\0\2"),
        ("a.clip", b"CSFCHUNK"),
        ("a.svg", b"<svg>"),
        ("a.CR2", b"II*\0"),
        ("a.jxl", b"\xff\n"),
    ],
)
def test_decoding_says_what_to_do(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PictureError, match=rf"{name}: .*as PNG"):
        decode(tmp_path / name)


def test_a_folder_says_what_to_do(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    for name in ("b.jxl", "c.clip", "d.txt"):
        (tmp_path / name).write_bytes(b"x")
    reasons = dict(open_dataset(tmp_path).ignored)
    assert "save it as PNG" in reasons["b.jxl"] and "export it as PNG" in reasons["c.clip"]
    assert "not a picture" in reasons["d.txt"]


def test_formats_that_are_read_have_no_hint() -> None:
    assert not [suffix for suffix in formats.SUFFIXES if formats.by_name(f"a{suffix}")]
