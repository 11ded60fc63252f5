"""Writing files so that nothing is lost: each file is replaced at once, and no folder of the user's is overwritten."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Error numbers of a disk, a quota or a file size limit that is exhausted."""
_FULL_ELSEWHERE = r"os error ([0-9]+)|No space left|File too large|file write failed|unexpected pos"
"""How safetensors and torch say that a file cannot be written."""


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` with a temporary file beside `path`, and then renames that file to `path`: at every moment there is
    the old file or the new one, complete. The new file keeps the old one's permissions. OSError names the file if it
    cannot be written, whatever library writes it."""
    with write_errors(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.", suffix=".tmp")
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


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turns what goes wrong while `path` is written into an OSError that names it and says what to do. Libraries that
    write files themselves (torch, safetensors, FFmpeg) report a full disk as an error of their own."""
    try:
        yield
    except OSError as error:
        elsewhere = error.filename is not None and Path(os.fsdecode(error.filename)).parent != path.parent
        if error.errno is None or (elsewhere and error.errno not in FULL):  # explained already, or about another file
            raise
        kind = type(error) if type(error).__module__ == "builtins" else OSError
        raise kind(_explained(path, error.errno, error.strerror or str(error))) from error
    except Exception as error:
        found = re.search(_FULL_ELSEWHERE, str(error))
        if not found:
            raise
        code = int(found[1] or errno.ENOSPC)
        raise OSError(_explained(path, code, os.strerror(code))) from error


def _explained(path: Path, code: int, reason: str) -> str:
    full = code in FULL
    hint = "free some space, or choose a folder on another disk" if full else "check that you may write there"
    return f"{path}: cannot be written ({reason}); {hint}"


def numbered_folder(base: Path, stem: str) -> Path:
    """`base`/NNNNN-`stem` with the number after the largest one in `base`, such as galleries/00003-generate-anime. The
    folder is not made."""
    names = [path.name for path in base.iterdir()] if base.is_dir() else []
    taken = [int(found[1]) for name in names if (found := re.match(r"([0-9]{5,9})-", name))]
    return base / f"{max(taken, default=-1) + 1:05d}-{stem}"


def check_free(path: Path, marker: str, *, force: bool = False, sources: Iterable[str | os.PathLike[str]] = ()) -> None:
    """FileExistsError unless `path` may become the folder of a result: it is empty or absent, or it holds an earlier
    result of the same kind, recognised by the file `marker`, that `force` allows to replace, and nothing in `sources`
    lies in it. NotADirectoryError if it cannot be a folder. Nothing is changed."""
    parent = next((one for one in path.parents if one.exists()), path)
    if parent.exists() and not parent.is_dir():
        raise NotADirectoryError(f"--out {path}: {parent} is a file, not a folder; choose another folder")
    if not os.access(path if path.exists() else parent, os.W_OK):
        raise PermissionError(f"--out {path}: you may not write there; choose another folder")
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"--out {path}: a file of that name exists; choose another folder")
    for source in sources:
        if Path(source).resolve().is_relative_to(path.resolve()) and Path(source).exists():
            raise FileExistsError(f"--out {path}: holds {source}, which is needed; choose another folder")
    if path.is_dir() and any(path.iterdir()):
        if not (path / marker).is_file():
            raise FileExistsError(f"--out {path}: holds something else; choose an empty or new folder")
        if not force:
            raise FileExistsError(f"--out {path}: exists already; add --force to replace it, or choose another folder")


def result_folder(
    out: Path | None, new: str, marker: str, *, force: bool, sources: Iterable[str | os.PathLike[str]]
) -> Path:
    """`out`, by default a new numbered folder: galleries/00003-rank-faces for `new` galleries/rank-faces. The errors
    are those of `check_free`; nothing is made."""
    folder = numbered_folder(Path(new).parent, Path(new).name) if out is None else out
    check_free(folder, marker, force=force, sources=sources)
    return folder


def free_folder(path: Path, marker: str, *, force: bool = False) -> None:
    """Makes the folder `path` ready to be written: makes it, or empties it after `check_free`."""
    check_free(path, marker, force=force)
    with write_errors(path):
        if path.is_dir() and any(path.iterdir()):
            shutil.rmtree(path)
        path.mkdir(parents=True, exist_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
