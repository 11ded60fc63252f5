"""Safe writing: files are replaced atomically, and folders with other contents are never overwritten."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from kyara.files import ownership
from kyara.files.names import printable

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # Full disk, exhausted quota, exceeded file size limit
NOT_OF_THE_FILE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}  # Too many open files, no memory
_FULL_ELSEWHERE = r"os error ([0-9]+)|No space left|File too large|file write failed|unexpected pos"
"""Messages of safetensors and torch for a failed write."""
UMASK = os.umask(0o077)  # The system tells it only by setting another, for all threads: so it is read once
os.umask(UMASK)


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` with a temporary file in the same folder and renames it to `path`, so that `path` is always either
    the complete old file or the complete new one. Keeps the permissions of the old file. Raises OSError with the file's
    name if it cannot be written, whichever library writes it."""
    with write_errors(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".kyara.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            with temporary.open("r+b") as file:  # Windows flushes only files that are open for writing
                os.fsync(file.fileno())
            temporary.chmod(stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o666 & ~UMASK)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def reserve(descriptor: int, size: int) -> None:
    """Sets the size of an open file in bytes, and takes the disk for it where the system can (not macOS). Raises
    OSError if there is no room: without this, writing to a mapped file on a full disk kills the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.truncate(descriptor, size)


def write_text(path: Path, text: str) -> None:
    """Writes a text atomically, as UTF-8. Names of files may not be valid text: what is not is replaced by ?."""
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="replace"))


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Re-raises errors from writing `path` as an OSError with the path and a hint. Libraries that write files
    themselves (torch, safetensors, FFmpeg) report a full disk with their own exceptions."""
    try:
        yield
    except OSError as error:
        elsewhere = error.filename is not None and Path(os.fsdecode(error.filename)).parent != path.parent
        if error.errno is None or error.errno in NOT_OF_THE_FILE or (elsewhere and error.errno not in FULL):
            raise  # already converted, or about something else
        kind = type(error) if type(error).__module__ == "builtins" else OSError
        raise kind(_explained(path, error.errno, error.strerror or str(error))) from error
    except Exception as error:
        if not (found := re.search(_FULL_ELSEWHERE, str(error))):
            raise
        code = int(found[1] or errno.ENOSPC)
        raise OSError(_explained(path, code, os.strerror(code))) from error


def _explained(path: Path, code: int, reason: str) -> str:
    hint = "free some space, or choose a folder on another disk" if code in FULL else "check the permissions"
    return f"{path}: cannot be written ({reason}); {hint}"


def numbered_folder(base: Path, stem: str) -> Path:
    """`base`/NNNNN-`stem`, one more than the largest number in `base`, such as galleries/00003-generate-anime. The
    folder is not created."""
    names = [path.name for path in base.iterdir()] if base.is_dir() else []
    taken = [int(found[1]) for name in names if (found := re.match(r"([0-9]{5,9})-", name))]
    return base / f"{max(taken, default=-1) + 1:05d}-{stem}"


def check_free(path: Path, marker: str, *, force: bool = False, sources: Iterable[str | os.PathLike[str]] = ()) -> None:
    """Checks that `path` can be used as an output folder, without changing anything. Raises FileExistsError unless it
    is missing, empty, or (with `force`) holds an earlier result of the same kind, which contains the file `marker`, and
    nothing else: neither files of the user nor one of the `sources`. NotADirectoryError or PermissionError if the
    folder cannot be created."""
    parent = next((one for one in path.parents if one.exists()), path)
    if parent.exists() and not parent.is_dir():
        raise NotADirectoryError(f"--out {path}: {parent} is a file, not a folder; choose another folder")
    if not os.access(path if path.exists() else parent, os.W_OK):
        raise PermissionError(f"--out {path}: not writable; choose another folder")
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"--out {path}: a file of that name exists; choose another folder")
    for source in sources:
        if Path(source).resolve().is_relative_to(path.resolve()) and Path(source).exists():
            raise FileExistsError(f"--out {path}: contains the input {source}; choose another folder")
    if path.is_dir() and any(path.iterdir()):
        if not (path / marker).is_file():
            raise FileExistsError(f"--out {path}: contains other files; choose an empty or new folder")
        if not force:
            unfinished = (path / ownership.JOURNAL).exists()
            what = "holds the unfinished result of an interrupted command" if unfinished else "already exists"
            raise FileExistsError(f"--out {path}: {what}; add --force to replace it, or choose another folder")
        if marker in ownership.KINDS:
            _check_ours(path, marker)


def _check_ours(path: Path, marker: str) -> None:
    """FileExistsError if the folder has anything that the earlier result did not."""
    name = ownership.foreign(path, marker)
    if name is not None and marker == ownership.CONFIG and ownership.is_run(path):
        why = "contains a training run, which --force does not replace"
        raise FileExistsError(f"--out {path}: {why}; choose another folder")
    if name == marker:
        why = f"its {marker} is not of an earlier result, so it is not replaced"
        raise FileExistsError(f"--out {path}: {why}; choose another folder")
    if name is not None:
        shown = printable(name)
        why = f"contains {shown}, no part of the earlier result, so --force does not replace it"
        raise FileExistsError(f"--out {path}: {why}; move {shown} to another place, or choose another folder")


def result_folder(
    out: Path | None, new: str, marker: str, *, force: bool, sources: Iterable[str | os.PathLike[str]]
) -> Path:
    """`out`, by default a new numbered folder: galleries/00003-rank-faces for `new` galleries/rank-faces. Raises the
    errors of `check_free`. The folder is not created."""
    folder = numbered_folder(Path(new).parent, Path(new).name) if out is None else out
    check_free(folder, marker, force=force, sources=sources)
    return folder


def still_free(path: Path, marker: str, *, force: bool = False) -> Path:
    """`path`, or a new numbered folder beside it if another command has written there since it was checked, so that the
    result of hours is not lost. The folder is not created."""
    try:
        check_free(path, marker, force=force)
        return path
    except FileExistsError:
        folder = path if path.name not in ("", "..") else path.resolve()
        return numbered_folder(folder.parent, re.sub(r"^[0-9]{5,9}-", "", folder.name))


def free_folder(path: Path, marker: str, *, force: bool = False) -> Path | None:
    """Creates the output folder `path`, or empties it after `check_free`. The folder itself stays: it may be the
    working folder, or `path` a link to it. What it had is moved to a hidden folder inside, which is returned, to be
    deleted or to be given to `put_back`; None if it had nothing."""
    check_free(path, marker, force=force)
    folder = path.resolve()  # the target of a link, also of one to a folder that does not exist yet
    with write_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
        earlier = sorted(folder.iterdir(), key=lambda one: one.name == marker)  # a killed run still finds the marker
        if not earlier:
            return None
        hidden = Path(tempfile.mkdtemp(dir=folder, prefix=".kyara.", suffix=".tmp"))
        for one in earlier:
            one.rename(hidden / one.name)
        return hidden


def missing_folders(path: Path) -> list[Path]:
    """The folders that do not exist yet of a path, the innermost first."""
    folder = path.resolve()
    return [one for one in (folder, *folder.parents) if not one.exists()]


def remove_empty(folders: Iterable[Path]) -> None:
    """Removes those of the folders that are empty."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def put_back(path: Path, hidden: Path | None, marker: str) -> None:
    """Undoes `free_folder`, which returned `hidden`: deletes what the verb wrote since, and moves the earlier files
    back. Where a file of the user is in the way, that stays, and the earlier file in the hidden folder too."""
    folder = path.resolve()
    owns = ownership.KINDS[marker](folder)
    for name in [*ownership.entries(folder)]:
        if (hidden is None or Path(name).parts[0] != hidden.name) and owns and owns(name):
            (folder / name).unlink()
    remove_empty([one for one in folder.iterdir() if one.is_dir() and not one.is_symlink() and one != hidden])
    if hidden is None:
        return
    for one in [*hidden.iterdir()]:
        if not os.path.lexists(folder / one.name):
            one.rename(folder / one.name)
    remove_empty([hidden])


@contextlib.contextmanager
def replaced_folder(path: Path, marker: str, *, force: bool = False) -> Iterator[Path]:
    """A temporary folder for the files of a result. At the end they move into `path`, which is emptied as by
    `free_folder`; after an error it keeps what it had, and a new folder is removed."""
    check_free(path, marker, force=force)
    folder, missing = path.resolve(), missing_folders(path)
    try:
        with write_errors(path):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder, prefix=".kyara.", suffix=".tmp") as name:
                temporary = Path(name)  # inside, since the folder around may be read-only or another disk
                yield temporary
                _empty(folder, but=temporary.name)
                for one in sorted(temporary.iterdir(), key=lambda one: one.name == marker):
                    one.rename(folder / one.name)
    finally:
        remove_empty(missing)


def _empty(folder: Path, but: str = "") -> None:
    """Deletes everything in a folder except what is named `but`."""
    for name in [*ownership.entries(folder)]:
        if Path(name).parts[0] != but:
            (folder / name).unlink()
    for inside, *_ in [*os.walk(folder, topdown=False)][:-1]:
        if Path(inside).relative_to(folder).parts[0] != but:
            Path(inside).rmdir()
