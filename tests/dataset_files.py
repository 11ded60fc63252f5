"""Small pictures, and datasets of given files, as folders and as .zip files."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kyara.files import pictures


def png(value: int = 0, height: int = 8, width: int = 8) -> bytes:
    """A grey picture."""
    return pictures.encode_png(np.full((height, width, 3), value, np.uint8))


def fill(folder: Path, files: Mapping[str, bytes | str]) -> Path:
    """Writes files, by name, to a folder."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return folder


def zipped(path: Path, files: Mapping[str, bytes | str]) -> Path:
    """Writes files, by name, to the .zip `path`."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path
