"""Formats that are not read: the message says what to do instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from kyara.files import formats
from kyara.files.dataset import open_dataset
from kyara.files.errors import PictureError
from kyara.files.pictures import SUFFIXES, decode, write_png


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.HEIC", b"anything"),
        ("wrong.jpg", b"\0\0\0\x18ftypheic" + b"\0" * 9),
        ("a.psd", b"anything"),
        ("wrong.png", b"8BPS\0\1"),
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
    import numpy as np

    write_png(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    for name in ("b.heic", "c.psd", "d.txt"):
        (tmp_path / name).write_bytes(b"x")
    reasons = dict(open_dataset(tmp_path).ignored)
    assert "save it as PNG" in reasons["b.heic"] and "export it as PNG" in reasons["c.psd"]
    assert "not a picture" in reasons["d.txt"]


def test_formats_that_are_read_have_no_hint() -> None:
    assert not [suffix for suffix in SUFFIXES if formats.by_name(f"a{suffix}")]
