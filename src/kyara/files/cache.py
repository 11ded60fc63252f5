"""A cache on disk for arrays that are slow to compute: ~/.cache/kyara, or the folder KYARA_CACHE. When the files exceed
`LIMIT` together, those that have not been used for longest are deleted."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kyara.files.atomic import reserve, write_atomic
from kyara.files.dataset import Dataset

Arrays = dict[str, np.ndarray]

LIMIT = 10 * 2**30  # bytes
FILE = re.compile(r".+-[0-9a-f]{24}\.np[yz]")  # Other files in the folder are not of the cache


def folder() -> Path:
    """The folder of the cache. It can be deleted at any time."""
    return Path(os.environ.get("KYARA_CACHE") or Path.home() / ".cache" / "kyara")


def subfolder(name: str) -> Path | None:
    """A folder in the cache for other files, which their writer removes; None if the cache is not writable."""
    return folder() / name if _is_writable(folder()) else None


def cached(kind: str, key: Mapping[str, Any] | None, compute: Callable[[], Arrays]) -> Arrays:
    """Returns the cached arrays of this `key`, or computes and caches them. Damaged files are recomputed. Nothing is
    cached if `key` is None or the folder is not writable."""
    if key is None:
        return compute()
    text = json.dumps(key, sort_keys=True)
    path = folder() / f"{kind}-{_digest(text)}.npz"
    damaged = OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError
    with contextlib.suppress(*damaged), np.load(path, allow_pickle=False) as file:  # reading checks the checksums
        arrays = {name: file[name] for name in file.files}
        if str(arrays.pop("key")) == text:
            _mark_used(path)
            return arrays
    arrays = compute()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, lambda temporary: _save(temporary, {**arrays, "key": np.array(text)}))
        _trim(path)
    return arrays


def mapped(
    kind: str,
    key: Mapping[str, Any],
    shape: tuple[int, ...],
    compute: Callable[[np.ndarray], None],
    usable: Callable[[np.ndarray], bool] = lambda rows: True,
) -> np.ndarray:
    """The cached float16 array of this `key`, mapped into memory: it may be larger than the memory. If there is none
    that is `usable`, `compute` fills it, which is all zeros before. It is kept in memory if the folder is not writable
    or the disk is full."""
    path = folder() / f"{kind}-{_digest(json.dumps(key, sort_keys=True))}.npy"
    with contextlib.suppress(OSError, ValueError):
        if usable(_mapped(path, shape)):
            return _mapped(path, shape)

    def fill(temporary: Path) -> None:
        rows = np.lib.format.open_memmap(temporary, "w+", np.float16, shape)
        _reserve(temporary)
        compute(rows)
        rows.flush()

    if _is_writable(path.parent):
        with contextlib.suppress(_FullError):
            write_atomic(path, fill)
            _trim(path)
            return _mapped(path, shape)
    kept = np.zeros(shape, np.float16)
    compute(kept)
    return kept


class _FullError(Exception):
    """There is no room for a file on the disk."""


def _reserve(path: Path) -> None:
    """Takes the disk for all of a file with holes."""
    try:
        with path.open("r+b") as file:
            reserve(file.fileno(), path.stat().st_size)
    except OSError as error:
        raise _FullError from error


def _mapped(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Raises OSError or ValueError if there is no such file, or a damaged one."""
    rows: np.ndarray = np.load(path, "r", allow_pickle=False)
    if rows.shape != shape or rows.dtype != np.float16:
        raise ValueError(f"{path}: damaged")
    _mark_used(path)
    return rows


def _mark_used(path: Path) -> None:
    """Sets the time of modification: many systems do not keep that of the last access."""
    with contextlib.suppress(OSError):
        os.utime(path)


def _trim(new: Path) -> None:
    """Deletes the least recently used files while all together exceed `LIMIT`, but not the `new` one."""
    files = {}
    with contextlib.suppress(OSError):
        for path in new.parent.iterdir():
            with contextlib.suppress(OSError):  # another process has deleted it
                if FILE.fullmatch(path.name):
                    files[path] = path.stat()
    total = sum(file.st_size for file in files.values())
    for path, file in sorted(files.items(), key=lambda item: item[1].st_mtime):
        if total > LIMIT and path != new:
            with contextlib.suppress(OSError):  # deleted by another process, or mapped, which Windows forbids to delete
                path.unlink()
                total -= file.st_size


def _is_writable(path: Path) -> bool:
    with contextlib.suppress(OSError):
        path.mkdir(parents=True, exist_ok=True)
        return os.access(path, os.W_OK)
    return False


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _save(path: Path, arrays: Arrays) -> None:
    with path.open("wb") as file:  # np.savez appends .npz to a path, but not to a file
        np.savez(file, **arrays)  # type: ignore[arg-type]


def identity(dataset: Dataset) -> str:
    """A key of what is computed from the pictures of a dataset alone: the fingerprint without attributes, and the
    modification times of files without a checksum, which may be edited at the same size."""
    # Labels that are written to the root of a dataset whose pictures are in a sub-folder change its base.
    fingerprint = dataclasses.replace(dataset, attributes={}, point_cells=[], box_cells=[], base="").fingerprint
    changed = [dataset.files.changed(name) for name in dataset.names]
    if not any(changed):
        return fingerprint
    return f"{fingerprint}-{hashlib.sha256(json.dumps(changed).encode()).hexdigest()[:16]}"
