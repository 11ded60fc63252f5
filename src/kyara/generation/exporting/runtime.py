"""ONNX Runtime Web, which runs ONNX files in browsers, from the archive of its npm package."""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from pathlib import Path
from typing import NamedTuple

VERSION = "1.30.0"
ARCHIVE = f"onnxruntime-web-{VERSION}.tgz"
HINT = f"run: npm pack onnxruntime-web@{VERSION}"
FILES = {
    "script": ("ort.wasm.bundle.min.mjs", "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90"),
    "wasm": ("ort-wasm-simd-threaded.wasm", "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"),
}
"""Name in the package, and SHA-256."""
LIMIT = 32 << 20  # bytes of a file


class Runtime(NamedTuple):
    """The files of ONNX Runtime Web."""

    script: bytes
    wasm: bytes


def read_runtime(archive: Path) -> Runtime:
    """Reads the archive that `npm pack` writes. Raises ValueError if it is missing or not the expected version."""
    if not archive.is_file():
        raise ValueError(f"--runtime {archive}: no such file; {HINT}")
    try:
        with tarfile.open(archive, "r:gz") as opened:
            return Runtime(*(_read(opened, archive, name, sha256) for name, sha256 in FILES.values()))
    except (tarfile.TarError, zlib.error, OSError, EOFError, KeyError) as error:
        raise ValueError(f"--runtime {archive}: not the package onnxruntime-web {VERSION} ({error}); {HINT}") from error


def _read(opened: tarfile.TarFile, archive: Path, name: str, sha256: str) -> bytes:
    file = opened.extractfile(f"package/dist/{name}")
    data = file.read(LIMIT) if file is not None else b""
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"--runtime {archive}: its {name} is not that of onnxruntime-web {VERSION}; {HINT}")
    return data
