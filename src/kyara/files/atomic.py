"""Writing files so that nothing is lost: each file is replaced at once, and no folder of the user's is overwritten."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` fill a temporary file beside `path` and puts it in place at once: whoever looks sees the old file
    or the new one, whatever happens in between. The new one keeps the old one's permissions."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def free_folder(path: Path, marker: str, *, force: bool = False) -> None:
    """Makes the folder `path` ready to be written. A folder that is not empty is only taken over if an earlier result
    of the same kind, told by the file `marker`, stands there and `force` allows it to go; anything else is never
    touched."""
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"--out {path}: a file of that name is in the way; choose another folder")
    if path.is_dir() and any(path.iterdir()):
        if not (path / marker).is_file():
            raise FileExistsError(f"--out {path}: holds something else; choose an empty or new folder")
        if not force:
            raise FileExistsError(f"--out {path}: exists already; add --force to replace it, or choose another folder")
        shutil.rmtree(path)
    path.mkdir(parents=True, exist_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
