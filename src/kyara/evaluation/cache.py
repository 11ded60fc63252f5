"""What is slow to compute and never changes, kept between runs: ~/.cache/kyara, or where KYARA_CACHE says."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kyara.files.atomic import write_atomic
from kyara.files.dataset import Dataset

Arrays = dict[str, np.ndarray]


def folder() -> Path:
    """Where it is kept. Deleting the folder costs only time."""
    return Path(os.environ.get("KYARA_CACHE") or Path.home() / ".cache" / "kyara")


def remember(kind: str, key: Mapping[str, Any], compute: Callable[[], Arrays]) -> Arrays:
    """What `compute` returned when it was last called with this `key`, or returns now. A file that was damaged, or is
    about something else, is computed anew; a folder that cannot be written is done without."""
    text = json.dumps(key, sort_keys=True)
    path = folder() / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:24]}.npz"
    try:
        with np.load(path, allow_pickle=False) as file:  # the archive's checksums are compared on reading
            found = {name: file[name] for name in file.files}
        if str(found.pop("key")) == text:
            return found
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError):
        pass
    found = compute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, lambda temporary: _save(temporary, {**found, "key": np.array(text)}))
    except OSError:
        pass
    return found


def _save(path: Path, arrays: Arrays) -> None:
    with path.open("wb") as file:  # np.savez appends .npz to a path, but not to a file
        np.savez(file, **arrays)  # type: ignore[arg-type]


def identity(dataset: Dataset) -> str:
    """The dataset's fingerprint, and of a folder, which has no checksums, when each file last changed."""
    if dataset.path.is_file():
        return dataset.fingerprint
    changed = [(dataset.path / name).stat().st_mtime_ns for name in dataset.names]
    return f"{dataset.fingerprint}-{hashlib.sha256(json.dumps(changed).encode()).hexdigest()[:16]}"
